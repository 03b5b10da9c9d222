//! Metrics as values, and their text in the OpenMetrics format.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only grows; its name gets `_total`.
    Counter,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    kind: MetricKind,
    name: &'static str,
    help: &'static str,
    labels: Vec<(&'static str, String)>,
    value: u64,
}

impl Metric {
    /// A value without labels. `name` without `_total`.
    pub fn new(kind: MetricKind, name: &'static str, help: &'static str, value: u64) -> Self {
        Self { kind, name, help, labels: Vec::new(), value }
    }

    /// With one label more.
    #[must_use]
    pub fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}

impl Metric {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self.kind {
            MetricKind::Gauge => ConstGauge::new(i64::try_from(self.value).unwrap_or(i64::MAX)).encode(encoder),
            MetricKind::Counter => ConstCounter::new(self.value).encode(encoder),
        }
    }
}

/// Writes metrics in the text format that Prometheus reads.
pub(crate) fn text(metrics: Vec<Metric>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Values(metrics)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Values(Vec<Metric>);

impl Collector for Values {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // Values of one name belong together, however they came.
        let mut families: BTreeMap<&str, Vec<&Metric>> = BTreeMap::new();
        for metric in &self.0 {
            families.entry(metric.name).or_default().push(metric);
        }
        for (name, family) in families {
            let first = family[0];
            let metric_type = match first.kind {
                MetricKind::Gauge => ConstGauge::new(0_i64).metric_type(),
                MetricKind::Counter => ConstCounter::new(0_u64).metric_type(),
            };
            let mut descriptor = encoder.encode_descriptor(name, first.help, None, metric_type)?;
            if first.labels.is_empty() {
                first.encode(descriptor)?;
                continue;
            }
            for metric in family {
                metric.encode(descriptor.encode_family(&metric.labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together() {
        let metrics = vec![
            Metric::new(MetricKind::Counter, "a_messages", "Messages", 3).label("plugin", "x"),
            Metric::new(MetricKind::Gauge, "b_links", "Links", 7),
            Metric::new(MetricKind::Counter, "a_messages", "Messages", 4).label("plugin", "y"),
        ];
        let expected = "# HELP a_messages Messages\n# TYPE a_messages counter\na_messages_total{plugin=\"x\"} 3\n\
                        a_messages_total{plugin=\"y\"} 4\n# HELP b_links Links\n# TYPE b_links gauge\nb_links 7\n# EOF\n";
        assert_eq!(text(metrics).unwrap(), expected);
    }
}
