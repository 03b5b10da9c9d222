//! Timers of one shard, known by name. Pure: time comes in as an argument.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

/// Bytes of a timer's name.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// Shortest period.
pub(crate) const PERIOD_MIN: Duration = Duration::from_millis(10);

/// Why a timer was not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimerError {
    /// Empty or too long.
    #[error("a timer's name has 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    /// Too short.
    #[error("a timer's period is at least {} ms", PERIOD_MIN.as_millis())]
    Period,
    /// The quota is used up.
    #[error("timers: {0} are set already")]
    TooMany(usize),
}

/// A tick to hand to the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueTick {
    pub(crate) name: Arc<str>,
    pub(crate) due: Instant,
    pub(crate) missed: u32,
}

#[derive(Debug)]
struct Timer {
    due: Instant,
    period: Option<Duration>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Timers {
    max: usize,
    timers: HashMap<Arc<str>, Timer>,
    due: BTreeSet<(Instant, Arc<str>)>,
}

impl Timers {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, timers: HashMap::new(), due: BTreeSet::new() }
    }

    /// From now on at most so many; those that are set stay.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Whether there is one of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.timers.contains_key(name)
    }

    /// One tick, `delay` from now.
    pub(crate) fn after(&mut self, name: &str, delay: Duration, now: Instant) -> Result<(), TimerError> {
        self.set(name, Timer { due: now + delay, period: None })
    }

    /// A tick each `period`; the same again keeps its rhythm.
    pub(crate) fn every(&mut self, name: &str, period: Duration, now: Instant) -> Result<(), TimerError> {
        if period < PERIOD_MIN {
            return Err(TimerError::Period);
        }
        if self.timers.get(name).is_some_and(|timer| timer.period == Some(period)) {
            return Ok(());
        }
        self.set(name, Timer { due: now + period, period: Some(period) })
    }

    /// Whether there was one.
    pub(crate) fn cancel(&mut self, name: &str) -> bool {
        match self.timers.remove_entry(name) {
            Some((name, timer)) => self.due.remove(&(timer.due, name)),
            None => false,
        }
    }

    fn set(&mut self, name: &str, timer: Timer) -> Result<(), TimerError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(TimerError::Name);
        }
        if !self.cancel(name) && self.timers.len() >= self.max {
            return Err(TimerError::TooMany(self.max));
        }
        let name: Arc<str> = name.into();
        self.due.insert((timer.due, Arc::clone(&name)));
        self.timers.insert(name, timer);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.timers.len()
    }

    pub(super) fn clear(&mut self) {
        self.timers.clear();
        self.due.clear();
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next tick whose time has come. Of a period, the newest; those left out are counted.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<DueTick> {
        if self.next_due()? > now {
            return None;
        }
        let (due, name) = self.due.pop_first()?;
        let period = self.timers.get(&name)?.period;
        let (newest, missed) = match period {
            None => {
                self.timers.remove(&name);
                (due, 0)
            }
            Some(period) => {
                let missed = (now - due).as_nanos() / period.as_nanos();
                let missed = u32::try_from(missed).unwrap_or(u32::MAX);
                let newest = due + period * missed;
                self.due.insert((newest + period, Arc::clone(&name)));
                self.timers.insert(Arc::clone(&name), Timer { due: newest + period, period: Some(period) });
                (newest, missed)
            }
        };
        Some(DueTick { name, due: newest, missed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ticks(timers: &mut Timers, now: Instant) -> Vec<(String, u32)> {
        std::iter::from_fn(|| timers.pop_due(now)).map(|tick| (tick.name.to_string(), tick.missed)).collect()
    }

    #[test]
    fn once_and_again() {
        let (mut timers, start) = (Timers::new(9), Instant::now());
        timers.after("once", 15 * MS, start).unwrap();
        timers.every("again", 10 * MS, start).unwrap();
        assert_eq!(timers.next_due(), Some(start + 10 * MS));
        assert_eq!(ticks(&mut timers, start + 9 * MS), []);
        assert_eq!(ticks(&mut timers, start + 15 * MS), [("again".into(), 0), ("once".into(), 0)]);
        assert_eq!(ticks(&mut timers, start + 55 * MS), [("again".into(), 3)], "20, 30 and 40 were left out");
        assert_eq!(timers.next_due(), Some(start + 60 * MS));
        assert!(timers.cancel("again"));
        assert!(!timers.cancel("again"));
        assert!(timers.is_empty() && timers.next_due().is_none());
    }

    #[test]
    fn setting_again() {
        let (mut timers, start) = (Timers::new(1), Instant::now());
        timers.every("a", 20 * MS, start).unwrap();
        timers.every("a", 20 * MS, start + 5 * MS).unwrap();
        assert_eq!(timers.next_due(), Some(start + 20 * MS), "the same keeps its rhythm");
        timers.every("a", 30 * MS, start + 5 * MS).unwrap();
        assert_eq!(timers.next_due(), Some(start + 35 * MS));
        timers.after("a", Duration::ZERO, start).unwrap();
        assert_eq!(ticks(&mut timers, start), [("a".into(), 0)]);
    }

    #[test]
    fn refusals() {
        let (mut timers, now) = (Timers::new(1), Instant::now());
        assert_eq!(timers.after("", MS, now), Err(TimerError::Name));
        assert_eq!(timers.after(&"x".repeat(65), MS, now), Err(TimerError::Name));
        assert_eq!(timers.every("a", 9 * MS, now), Err(TimerError::Period));
        timers.after("a", MS, now).unwrap();
        assert_eq!(timers.after("b", MS, now), Err(TimerError::TooMany(1)));
        timers.after("a", MS, now).unwrap();
    }
}
