//! Metrics as values, and their text in the OpenMetrics format.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
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
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    name: &'static str,
    help: &'static str,
    labels: Vec<(&'static str, String)>,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(MetricKind, u64),
    Histogram { sum: f64, buckets: Vec<(f64, u64)> },
}

impl Metric {
    /// A value without labels. `name` without `_total`.
    pub fn new(kind: MetricKind, name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, labels: Vec::new(), value: Value::Number(kind, value) }
    }

    /// How many were how large, without labels: the sum of all, and for each upper bound those above the bound before; the
    /// last bound is [`f64::INFINITY`].
    pub fn histogram(name: &'static str, help: &'static str, sum: f64, buckets: Vec<(f64, u64)>) -> Self {
        Self { name, help, labels: Vec::new(), value: Value::Histogram { sum, buckets } }
    }

    /// With one label more.
    #[must_use]
    pub fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}

impl Metric {
    fn metric_type(&self) -> MetricType {
        match self.value {
            Value::Number(MetricKind::Gauge, _) => MetricType::Gauge,
            Value::Number(MetricKind::Counter, _) => MetricType::Counter,
            Value::Histogram { .. } => MetricType::Histogram,
        }
    }

    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match &self.value {
            Value::Number(MetricKind::Gauge, value) => {
                ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX)).encode(encoder)
            }
            Value::Number(MetricKind::Counter, value) => ConstCounter::new(*value).encode(encoder),
            Value::Histogram { sum, buckets } => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
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
            let mut descriptor = encoder.encode_descriptor(name, first.help, None, first.metric_type())?;
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

    #[test]
    fn a_histogram_adds_up() {
        let buckets = vec![(0.5, 2), (1.0, 0), (f64::INFINITY, 1)];
        let metric = Metric::histogram("c_seconds", "Waits", 2.5, buckets).label("plugin", "x");
        let expected = "# HELP c_seconds Waits\n# TYPE c_seconds histogram\nc_seconds_sum{plugin=\"x\"} 2.5\n\
                        c_seconds_count{plugin=\"x\"} 3\nc_seconds_bucket{le=\"0.5\",plugin=\"x\"} 2\n\
                        c_seconds_bucket{le=\"1.0\",plugin=\"x\"} 2\nc_seconds_bucket{le=\"+Inf\",plugin=\"x\"} 3\n# EOF\n";
        assert_eq!(text(vec![metric]).unwrap(), expected);
    }
}
