//! The plugin's timers, in virtual time.

use crate::{Error, Tick};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct TimerTable(BTreeMap<String, Timer>);

#[derive(Debug)]
struct Timer {
    due_ms: u64,
    period_ms: Option<u64>,
}

/// The shortest period the contract allows.
const PERIOD_MS_MIN: u32 = 10;

impl TimerTable {
    pub(super) fn after(&mut self, name: &str, now_ms: u64, delay_ms: u32, timers_max: usize) -> Result<(), Error> {
        self.check(name, timers_max)?;
        self.0.insert(name.to_owned(), Timer { due_ms: now_ms + u64::from(delay_ms), period_ms: None });
        Ok(())
    }

    pub(super) fn every(&mut self, name: &str, now_ms: u64, period_ms: u32, timers_max: usize) -> Result<(), Error> {
        self.check(name, timers_max)?;
        if period_ms < PERIOD_MS_MIN {
            return Err(Error::Invalid(format!("period of {period_ms} ms: at least {PERIOD_MS_MIN} ms")));
        }
        let period_ms = u64::from(period_ms);
        if self.0.get(name).is_some_and(|timer| timer.period_ms == Some(period_ms)) {
            return Ok(());
        }
        self.0.insert(name.to_owned(), Timer { due_ms: now_ms + period_ms, period_ms: Some(period_ms) });
        Ok(())
    }

    pub(super) fn cancel(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Takes the next tick due until then: the earliest, among equals the first by name.
    pub(super) fn take_due(&mut self, until_ms: u64) -> Option<Tick> {
        let due = self.0.iter().filter(|(_, timer)| timer.due_ms <= until_ms);
        let name = due.min_by_key(|(_, timer)| timer.due_ms)?.0.clone();
        let timer = self.0.get_mut(&name)?;
        let due_ms = timer.due_ms;
        match timer.period_ms {
            Some(period_ms) => timer.due_ms += period_ms,
            None => {
                self.0.remove(&name);
            }
        }
        Some(Tick { name, due_ms, missed: 0 })
    }

    fn check(&self, name: &str, timers_max: usize) -> Result<(), Error> {
        if !(1..=64).contains(&name.len()) {
            return Err(Error::Invalid(format!("timer name {name:?}: 1 to 64 bytes")));
        }
        if self.0.len() >= timers_max && !self.0.contains_key(name) {
            return Err(Error::QuotaExceeded(format!("{timers_max} timers")));
        }
        Ok(())
    }
}
