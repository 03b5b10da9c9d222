//! Calls that this node makes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use macula_wire::{
    CallError, ChannelKind, ContentType, Fault, PluginName, Topic,
    frame::{Extras, Lane},
    limits::{CALL_TIMEOUT_MAX, CAUSE_DEPTH_MAX, PAYLOAD_BYTES_MAX},
};
use parking_lot::Mutex;
use slab::Slab;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    handle::Shared,
    outbox::{ChannelName, NoRoom},
};

/// How to call.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// How long an answer is wanted, at most 10 minutes.
    pub timeout: Duration,
    /// Media type of the payload.
    pub content_type: ContentType,
    /// Handlers that acted because of one another before this call.
    pub cause_depth: u8,
    /// Metadata, trace and idempotency key.
    pub extras: Extras,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            content_type: ContentType::EMPTY,
            cause_depth: 0,
            extras: Extras::default(),
        }
    }
}

type Outcome = Result<Bytes, CallError>;

/// Calls that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<CallTable>);

#[derive(Debug, Default)]
struct CallTable {
    pending: Slab<(u32, oneshot::Sender<Outcome>)>,
    generation: u32,
}

impl Calls {
    fn insert(&self, answer: oneshot::Sender<Outcome>) -> u64 {
        let mut table = self.0.lock();
        table.generation = table.generation.wrapping_add(1);
        let generation = table.generation;
        u64::from(generation) << 32 | table.pending.insert((generation, answer)) as u64
    }

    fn remove(&self, number: u64) -> Option<oneshot::Sender<Outcome>> {
        let mut table = self.0.lock();
        let place = number as u32 as usize;
        let (generation, _) = table.pending.get(place)?;
        (u64::from(*generation) == number >> 32).then(|| table.pending.remove(place).1)
    }

    /// An answer has come; late ones are nobody's.
    pub(super) fn answer(&self, number: u64, outcome: Outcome) {
        if let Some(answer) = self.remove(number) {
            // The caller may have given up at this moment.
            let _ = answer.send(outcome);
        }
    }

    /// The link is gone: all but the `unsent` may have run.
    pub(super) fn link_down(&self, unsent: &[u64]) {
        let mut table = self.0.lock();
        let unsent: rustc_hash::FxHashSet<u64> = unsent.iter().copied().collect();
        let lost: Vec<usize> = table
            .pending
            .iter()
            .filter(|(place, (generation, _))| !unsent.contains(&(u64::from(*generation) << 32 | *place as u64)))
            .map(|(place, _)| place)
            .collect();
        for place in lost {
            let (_, answer) = table.pending.remove(place);
            let _ = answer.send(Err(CallError::MaybeRun(Fault::Unavailable("the link to the relay was lost".into()))));
        }
    }
}

/// Takes a call out of the table and tells the relay, when its caller goes away before the answer.
struct Abandon<'a> {
    shared: &'a Shared,
    number: u64,
    link: u64,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if self.shared.calls.remove(self.number).is_some() {
            self.shared.outbox.cancel(self.link, self.number);
        }
    }
}

impl Shared {
    /// Calls a procedure. Dropping the future cancels.
    pub(super) async fn call(
        self: &Arc<Self>,
        plugin: &PluginName,
        procedure: &Topic,
        payload: &[u8],
        options: &CallOptions,
    ) -> Outcome {
        let not_run = |fault| Err(CallError::NotRun(fault));
        if payload.len() > PAYLOAD_BYTES_MAX {
            return not_run(Fault::TooLarge(PAYLOAD_BYTES_MAX as u32));
        }
        if options.cause_depth > CAUSE_DEPTH_MAX {
            return not_run(Fault::Invalid(format!("{CAUSE_DEPTH_MAX} handlers have acted because of one another")));
        }
        let deadline = Instant::now() + options.timeout.min(CALL_TIMEOUT_MAX);
        if self.link_number() == 0 && timeout_at(deadline, self.until_up()).await.is_err() {
            return not_run(Fault::Unavailable("there is no link to a relay".into()));
        }
        let name = ChannelName {
            kind: ChannelKind::Procedure,
            name: procedure.clone(),
            plugin: plugin.clone(),
            content_type: options.content_type.clone(),
        };
        let (answer, mut answered) = oneshot::channel();
        let number = self.calls.insert(answer);
        let abandon = Abandon { shared: self, number, link: self.link_number() };
        let extras = options.extras.to_bytes();
        let lane = Lane::for_call(payload.len());
        let queue = || {
            let time_left = deadline.saturating_duration_since(Instant::now());
            self.outbox.call(self.outbox.channel(&name), number, time_left, options.cause_depth, &extras, payload)
        };
        let until_queued = async {
            loop {
                match queue() {
                    Err(NoRoom::Full | NoRoom::Stale) => self.outbox.room(lane).await,
                    outcome => return outcome,
                }
            }
        };
        match timeout_at(deadline, until_queued).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return not_run(self.refused(&name, reason)),
            Err(_) => return not_run(Fault::Timeout),
        }
        let outcome = match timeout_at(deadline, &mut answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(CallError::MaybeRun(Fault::Cancelled)),
            Err(_) => Err(CallError::MaybeRun(Fault::Timeout)),
        };
        drop(abandon);
        outcome
    }
}
