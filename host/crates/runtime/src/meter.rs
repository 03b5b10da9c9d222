//! Guest time: how long a plugin's own code has run, without the time it waited in the host.
//!
//! The clock is read when a handler begins, waits, goes on and ends, and each time the epoch advances in between. What
//! lies between two readings is charged, but never more than [`SEGMENT_MAX`]: running code is looked at each tick, so a
//! longer gap means that the operating system ran something else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::engine::TICK;

/// Longest stretch that one look at the clock charges.
const SEGMENT_MAX: Duration = Duration::from_millis(2 * TICK.as_millis() as u64);

/// Counts guest time of one instance.
#[derive(Debug)]
pub(crate) struct Meter {
    origin: Instant,
    budget: Duration,
    spent: Duration,
    begun: Instant,
    /// Since when the guest has been running; `None` while the host does.
    since: Option<Instant>,
    resumed: Arc<AtomicU64>,
}

/// Says when a guest that had yielded goes on, from where the meter itself is out of reach.
#[derive(Debug, Clone)]
pub(crate) struct Resumption {
    origin: Instant,
    resumed: Arc<AtomicU64>,
}

impl Resumption {
    pub(crate) fn now(&self) {
        self.resumed.store(nanoseconds(self.origin.elapsed()), Ordering::Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Meter {
    pub(crate) fn new() -> Self {
        let resumed = Arc::new(AtomicU64::new(0));
        let now = Instant::now();
        Self { origin: now, budget: Duration::ZERO, spent: Duration::ZERO, begun: now, since: None, resumed }
    }

    /// Begins a handler with `budget` of guest time.
    pub(crate) fn begin(&mut self, budget: Duration, now: Instant) {
        self.budget = budget;
        self.spent = Duration::ZERO;
        self.begun = now;
        self.since = Some(now);
    }

    /// When the handler began.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Charges what has run since the last look and gives the handler's sum.
    pub(crate) fn charge(&mut self, now: Instant) -> Duration {
        if let Some(since) = self.since {
            let resumed = self.origin + Duration::from_nanos(self.resumed.load(Ordering::Relaxed));
            self.spent += now.saturating_duration_since(since.max(resumed)).min(SEGMENT_MAX);
            self.since = Some(now);
        }
        self.spent
    }

    /// The guest waits in the host from now on.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.charge(now);
        self.since = None;
    }

    /// The guest runs again.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// Ends the handler and gives its guest time.
    pub(crate) fn end(&mut self, now: Instant) -> Duration {
        self.pause(now);
        self.spent
    }

    /// Whether the handler has used up its budget.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.spent >= self.budget
    }

    /// What the handler was given.
    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    /// Guest time that the handler has left; waits last no longer.
    pub(crate) fn left(&self) -> Duration {
        self.budget.saturating_sub(self.spent)
    }

    pub(crate) fn resumption(&self) -> Resumption {
        Resumption { origin: self.origin, resumed: Arc::clone(&self.resumed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waiting_costs_nothing() {
        let mut meter = Meter::new();
        let start = Instant::now();
        meter.begin(100 * MS, start);
        meter.pause(start + 3 * MS);
        meter.resume(start + 5000 * MS);
        assert_eq!(meter.end(start + 5002 * MS), 5 * MS);
        assert!(!meter.is_exhausted());
    }

    #[test]
    fn running_costs_tick_by_tick() {
        let mut meter = Meter::new();
        let start = Instant::now();
        meter.begin(100 * MS, start);
        for tick in 1..=20 {
            assert!(!meter.is_exhausted());
            meter.charge(start + tick * TICK);
        }
        assert!(meter.is_exhausted());
        assert_eq!(meter.left(), Duration::ZERO);
    }

    #[test]
    fn a_gap_is_the_operating_systems_doing() {
        let mut meter = Meter::new();
        let start = Instant::now();
        meter.begin(100 * MS, start);
        assert_eq!(meter.charge(start + 3000 * MS), SEGMENT_MAX);
    }

    #[test]
    fn what_was_yielded_is_not_charged() {
        let mut meter = Meter::new();
        let start = Instant::now() - 4 * MS;
        meter.begin(100 * MS, start);
        meter.resumption().now();
        assert!(meter.charge(Instant::now()) < 4 * MS);
    }
}
