//! What an instance of a version that may take over can do before it does.
//!
//! It reads, publishes and calls like any other. What it changes of its plugin (subscriptions, offers, timers) waits until
//! the new version takes over, and is forgotten when it does not: the running version must not notice.

use std::{sync::Arc, time::Duration};

use macula_wire::{Operation, Pattern, Topic};
use tokio::time::Instant;

use super::InstanceState;
use crate::{
    bindings::types,
    mailbox::{Mailbox, TimerError, Timers},
    mesh::SubscribeOptions,
    plugin::PluginCore,
};

/// A change of timers that waits.
pub(super) enum TimerChange {
    After(String, Duration),
    Every(String, Duration),
    Cancel(String),
}

/// Timers as the instance believes they are.
pub(super) struct StagedTimers {
    changes: Vec<TimerChange>,
    /// Checks names, periods and number as the real ones would.
    checked: Timers,
}

impl StagedTimers {
    pub(super) fn new(max: u32) -> Self {
        Self { changes: Vec::new(), checked: Timers::new(max as usize) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn after(&mut self, name: &str, delay: Duration, now: Instant) -> Result<(), TimerError> {
        self.checked.after(name, delay, now)?;
        self.changes.push(TimerChange::After(name.to_owned(), delay));
        Ok(())
    }

    pub(super) fn every(&mut self, name: &str, period: Duration, now: Instant) -> Result<(), TimerError> {
        self.checked.every(name, period, now)?;
        self.changes.push(TimerChange::Every(name.to_owned(), period));
        Ok(())
    }

    pub(super) fn cancel(&mut self, name: &str, running: &Timers) -> bool {
        let was_cancelled =
            matches!(self.changes.iter().rfind(|change| change.name() == name), Some(TimerChange::Cancel(_)));
        let was_set = self.checked.cancel(name) || running.contains(name) && !was_cancelled;
        self.changes.push(TimerChange::Cancel(name.to_owned()));
        was_set
    }

    /// Makes the changes; gives those that were refused. Delays count from now on.
    fn apply(&mut self, timers: &mut Timers, now: Instant) -> Vec<(String, TimerError)> {
        let mut refused = Vec::new();
        for change in self.changes.drain(..) {
            let outcome = match &change {
                TimerChange::After(name, delay) => timers.after(name, *delay, now),
                TimerChange::Every(name, period) => timers.every(name, *period, now),
                TimerChange::Cancel(name) => {
                    timers.cancel(name);
                    Ok(())
                }
            };
            refused.extend(outcome.err().map(|error| (change.name().to_owned(), error)));
        }
        refused
    }
}

impl TimerChange {
    fn name(&self) -> &str {
        match self {
            Self::After(name, _) | Self::Every(name, _) | Self::Cancel(name) => name,
        }
    }
}

/// What is left to do for an instance once its version has taken over.
pub(crate) struct Unfinished {
    pub(crate) shard: u32,
    /// To offer, with the number of calls in flight.
    pub(crate) offers: Vec<(Topic, u32)>,
    pub(crate) refused_timers: Vec<(String, TimerError)>,
}

impl InstanceState {
    /// Notes a subscription for later: it begins now, so that nothing is missed, and is handled once this version runs.
    pub(super) async fn stage_subscription(
        &mut self,
        pattern: &Pattern,
        options: SubscribeOptions,
    ) -> Result<u32, types::Error> {
        let plugin = Arc::clone(&self.plugin);
        if plugin.manifest.subscriptions.iter().any(|one| one.pattern == *pattern) {
            return Err(types::Error::Conflict(format!("{pattern} is subscribed to by the manifest already")));
        }
        if self.wanted.patterns.contains_key(pattern) {
            return Err(types::Error::Conflict(format!("{pattern} is subscribed to already")));
        }
        let max = plugin.manifest.limits.subscriptions as usize;
        if self.wanted.patterns.len() >= max {
            return Err(types::Error::QuotaExceeded(format!("subscriptions: {max} are open")));
        }
        let (id, is_open) = {
            let mut mailbox = plugin.mailbox.lock();
            let reserved = mailbox.reserve_subscription(pattern);
            let id = match reserved {
                Some(id) if id > 0 => id,
                _ => plugin.candidate_id(pattern, &mut mailbox),
            };
            (id, reserved.is_some())
        };
        if !is_open {
            let subscribing = plugin.mesh.subscribe(pattern, options);
            let patience = self.patience();
            let inbox = self.wait(patience, subscribing).await.ok_or(types::Error::Timeout)??;
            self.staged.inboxes.push((id, pattern.clone(), inbox));
        }
        Ok(id)
    }

    /// Notes an offer for later: calls would come at once, and the running version answers them meanwhile.
    pub(super) fn stage_offer(&mut self, procedure: &Topic, in_flight_max: u32) -> Result<(), types::Error> {
        if self.plugin.manifest.procedures.contains(procedure) {
            return Err(types::Error::Conflict(format!("{procedure} is offered by the manifest already")));
        }
        if self.wanted.procedures.contains(procedure) {
            return Err(types::Error::Conflict(format!("{procedure} is offered already")));
        }
        let max = self.plugin.manifest.limits.subscriptions as usize;
        if self.wanted.procedures.len() >= max {
            return Err(types::Error::QuotaExceeded(format!("offers: {max} are open")));
        }
        if !self.plugin.mailbox.lock().reserve_offer(procedure) {
            self.staged.later_offers.push((procedure.clone(), in_flight_max));
        }
        Ok(())
    }

    /// The version takes over: what waited happens.
    pub(crate) fn take_over(&mut self, mailbox: &mut Mailbox) -> Unfinished {
        let shard = self.shard as usize;
        mailbox.claim(shard, self.wanted.patterns.iter(), self.wanted.procedures.iter());
        self.open_staged_into(mailbox);
        let refused_timers = self.staged.timers.apply(mailbox.timers(shard), Instant::now());
        let mut offers = std::mem::take(&mut self.staged.later_offers);
        let rights = self.plugin.rights.current();
        offers.retain(|(procedure, _)| rights.allows(Operation::Advertise, procedure));
        Unfinished { shard: self.shard, offers, refused_timers }
    }
}

impl PluginCore {
    /// Opens what [`Unfinished`] names. What cannot be opened is logged: whoever asked for it was told otherwise before.
    pub(crate) async fn finish_take_over(&self, unfinished: Unfinished) {
        for (name, error) in unfinished.refused_timers {
            self.note(crate::log::LogLevel::Warn, format!("timer {name:?} could not be set: {error}"));
        }
        for (procedure, in_flight_max) in unfinished.offers {
            match self.mesh.advertise(&procedure, in_flight_max).await {
                Ok(offer) if self.rights.current().allows(Operation::Advertise, &procedure) => {
                    self.mailbox.lock().add_offer(unfinished.shard as usize, procedure, offer);
                }
                Ok(_) => self.note_denial(Operation::Advertise, &procedure),
                Err(fault) => {
                    self.note(crate::log::LogLevel::Error, format!("{procedure} could not be offered: {fault}"));
                }
            }
        }
    }
}
