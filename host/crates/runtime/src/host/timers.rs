//! `timers`: be woken later.

use std::time::Duration;

use tokio::time::Instant;

use super::{HostError, InstanceState};
use crate::{
    bindings::{timers, types},
    mailbox::{TimerError, Timers},
};

impl InstanceState {
    fn set_timer(&self, set: impl FnOnce(&mut Timers, Instant) -> Result<(), TimerError>) -> Result<(), HostError> {
        self.require_timer_handler()?;
        let mut mailbox = self.plugin.mailbox.lock();
        set(mailbox.timers(self.shard as usize), Instant::now()).map_err(|error| {
            HostError::Guest(match error {
                TimerError::TooMany(_) => types::Error::QuotaExceeded(error.to_string()),
                TimerError::Name | TimerError::Period => types::Error::Invalid(error.to_string()),
            })
        })
    }
}

impl timers::Host for InstanceState {
    fn after(&mut self, name: String, delay_ms: u32) -> Result<(), HostError> {
        self.set_timer(|timers, now| timers.after(&name, Duration::from_millis(delay_ms.into()), now))
    }

    fn every(&mut self, name: String, period_ms: u32) -> Result<(), HostError> {
        self.set_timer(|timers, now| timers.every(&name, Duration::from_millis(period_ms.into()), now))
    }

    fn cancel(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.plugin.mailbox.lock().timers(self.shard as usize).cancel(&name))
    }
}
