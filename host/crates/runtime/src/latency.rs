//! How long handlers take, waits included: counts by powers of four, from a microsecond to a quarter of a minute.

use std::{array, time::Duration};

use serde::{Deserialize, Serialize};

use crate::status::Counter;

/// Bounds; what takes longer than the last is counted as well.
const BOUNDS: usize = 13;

/// Upper bounds of a [`Histogram`]'s counts, in microseconds: 1, 4, 16 and so on up to 16,777,216.
pub fn latency_bounds_us() -> [u64; BOUNDS] {
    array::from_fn(|power| 4_u64.pow(power as u32))
}

/// How many handlers took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Those that took at most as long as the bound of the same place in [`latency_bounds_us`] and longer than the one
    /// before; the last are those above all bounds. Empty when there were none.
    pub counts: Vec<u64>,
    /// All together, in nanoseconds.
    pub sum_ns: u64,
}

impl Histogram {
    /// Whether nothing has been counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The bound, in microseconds, that `share` (0 to 1) of them did not exceed; `None` when there are none, or when it was
    /// more than the last bound.
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut below = 0;
        self.counts.iter().zip(latency_bounds_us()).find_map(|(count, bound)| {
            below += count;
            (total > 0 && below >= wanted).then_some(bound)
        })
    }
}

/// What is told of each kind of handler.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// Of messages.
    #[serde(default, skip_serializing_if = "Histogram::is_empty")]
    pub messages: Histogram,
    /// Of calls.
    #[serde(default, skip_serializing_if = "Histogram::is_empty")]
    pub calls: Histogram,
    /// Of timers' ticks.
    #[serde(default, skip_serializing_if = "Histogram::is_empty")]
    pub ticks: Histogram,
}

/// A histogram while counting.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    counts: [Counter; BOUNDS + 1],
    sum_ns: Counter,
}

impl Latency {
    pub(crate) fn record(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[place(ns.div_ceil(1000))].one();
        self.sum_ns.add(ns);
    }

    pub(crate) fn histogram(&self) -> Histogram {
        let counts: Vec<u64> = self.counts.iter().map(Counter::value).collect();
        if counts.iter().all(|count| *count == 0) {
            return Histogram::default();
        }
        Histogram { counts, sum_ns: self.sum_ns.value() }
    }
}

/// Of the smallest bound that is not below.
fn place(us: u64) -> usize {
    if us <= 1 { 0 } else { ((us - 1).ilog2() as usize / 2 + 1).min(BOUNDS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_below_its_bound_and_above_the_one_before() {
        let bounds = latency_bounds_us();
        for us in (0..5000).chain([16_777_215, 16_777_216]) {
            let place = place(us);
            assert!(us <= bounds[place], "{us} in {place}");
            assert!(place == 0 || us > bounds[place - 1], "{us} in {place}");
        }
        assert_eq!(place(16_777_217), BOUNDS);
        assert_eq!(place(u64::MAX), BOUNDS);
    }

    #[test]
    fn a_share_is_below_a_bound() {
        let latency = Latency::default();
        assert!(latency.histogram().is_empty());
        assert_eq!(latency.histogram().quantile_us(0.5), None);
        for _ in 0..98 {
            latency.record(Duration::from_nanos(900));
        }
        latency.record(Duration::from_micros(1) + Duration::from_nanos(1));
        latency.record(Duration::from_secs(60));
        let histogram = latency.histogram();
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[BOUNDS]), (98, 1, 1));
        assert_eq!(histogram.sum_ns, 98 * 900 + 1001 + 60_000_000_000);
        let quantiles = [0.5, 0.98, 0.99, 1.0].map(|share| histogram.quantile_us(share));
        assert_eq!(quantiles, [Some(1), Some(1), Some(4), None]);
    }
}
