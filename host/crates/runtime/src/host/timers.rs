//! `timers`: be woken later.

use std::time::Duration;

use tokio::time::Instant;

use super::{HostError, InstanceState, candidate::StagedTimers};
use crate::{
    bindings::{timers, types},
    mailbox::{TimerError, Timers},
};

impl InstanceState {
    fn set_timer(&self, set: impl FnOnce(&mut Timers, Instant) -> Result<(), TimerError>) -> Result<(), HostError> {
        self.require_timer_handler()?;
        let mut mailbox = self.plugin.mailbox.lock();
        Ok(set(mailbox.timers(self.shard as usize), Instant::now())?)
    }

    fn stage_timer(
        &mut self,
        set: impl FnOnce(&mut StagedTimers, Instant) -> Result<(), TimerError>,
    ) -> Result<(), HostError> {
        self.require_timer_handler()?;
        Ok(set(&mut self.staged.timers, Instant::now())?)
    }
}

impl From<TimerError> for HostError {
    fn from(error: TimerError) -> Self {
        Self::Guest(match error {
            TimerError::TooMany(_) => types::Error::QuotaExceeded(error.to_string()),
            TimerError::Name | TimerError::Period => types::Error::Invalid(error.to_string()),
        })
    }
}

impl timers::Host for InstanceState {
    fn after(&mut self, name: String, delay_ms: u32) -> Result<(), HostError> {
        let delay = Duration::from_millis(delay_ms.into());
        if self.plugin.is_candidate() {
            return self.stage_timer(|timers, now| timers.after(&name, delay, now));
        }
        self.set_timer(|timers, now| timers.after(&name, delay, now))
    }

    fn every(&mut self, name: String, period_ms: u32) -> Result<(), HostError> {
        let period = Duration::from_millis(period_ms.into());
        if self.plugin.is_candidate() {
            return self.stage_timer(|timers, now| timers.every(&name, period, now));
        }
        self.set_timer(|timers, now| timers.every(&name, period, now))
    }

    fn cancel(&mut self, name: String) -> wasmtime::Result<bool> {
        let mut mailbox = self.plugin.mailbox.lock();
        let timers = mailbox.timers(self.shard as usize);
        if self.plugin.is_candidate() {
            return Ok(self.staged.timers.cancel(&name, timers));
        }
        Ok(timers.cancel(&name))
    }
}
