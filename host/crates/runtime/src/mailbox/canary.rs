//! A share of a plugin's work for a version that is being tried out beside the running one.
//!
//! Which messages the canary gets is decided by publisher and topic, so that the order of one publisher on one topic holds: all
//! of them go to the same version for as long as the canary lives. What the running version has already, with what follows it,
//! stays with it. Of calls every so many goes to the canary.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault},
};

use macula_wire::{Message, NodeId, Topic};
use rustc_hash::{FxBuildHasher, FxHasher};
use tokio::time::Instant;

use super::{Mailbox, Shard, Timers, lanes::Lanes};
use crate::mesh::IncomingCall;

/// Messages that may wait for the canary; then nothing is taken until it has caught up. Many, since all others wait then.
pub(super) const READY_MAX: usize = 4096;
/// Calls that may wait for it; more are the running version's.
const CALLS_MAX: usize = 64;

pub(super) struct Canary {
    /// Of a hundred.
    percent: u32,
    /// What stays with the running version.
    sticky: HashSet<(NodeId, Topic), FxBuildHasher>,
    /// Calls since the last one for the canary, weighted.
    owed: u32,
    calls: VecDeque<(IncomingCall, Instant)>,
}

impl Canary {
    fn takes(&self, message: &Message) -> bool {
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one((&message.publisher, message.topic.as_str()));
        // The upper half: FxHash mixes upwards.
        ((hash >> 32) as u32) % 100 < self.percent
            && (self.sticky.is_empty() || !self.sticky.contains(&(message.publisher, message.topic.clone())))
    }
}

impl Mailbox {
    /// Where the canary's work is kept: behind the instances of the running version.
    pub(crate) fn canary_shard(&self) -> usize {
        self.instances
    }

    /// Gives a share of the work to a canary from now on. The instances of the running version stand still meanwhile.
    pub(crate) fn begin_canary(&mut self, percent: u32) {
        let mut sticky = HashSet::default();
        for shard in &self.shards {
            sticky.extend(shard.lanes.keys().cloned());
            sticky.extend(shard.ready.iter().map(|one| (one.message.publisher, one.message.topic.clone())));
        }
        sticky.extend(self.stalled.iter().map(|(_, one)| (one.message.publisher, one.message.topic.clone())));
        self.canary = Some(Canary { percent, sticky, owed: 0, calls: VecDeque::new() });
        self.shards.push(Shard {
            ready: VecDeque::new(),
            lanes: Lanes::default(),
            timers: Timers::new(0),
            claimed: None,
            calls_in_a_row: 0,
        });
    }

    /// The running version has all of the work again, with what the canary has not handled. The canary has ended.
    pub(crate) fn end_canary(&mut self) {
        let Some(canary) = self.canary.take() else { return };
        let Some(shard) = self.shards.pop() else { return };
        if let Some((owner, delivery)) = self.stalled.take() {
            // Taken after all that waits for the canary.
            let owner = if owner == self.instances { self.shard_of(&delivery.message.topic) } else { owner };
            self.stalled = Some((owner, delivery));
        }
        for delivery in shard.ready.into_iter().rev() {
            let owner = self.shard_of(&delivery.message.topic);
            self.shards[owner].ready.push_front(delivery);
        }
        for lane in shard.lanes.into_lanes() {
            let owner = self.shard_of(lane.topic());
            self.shards[owner].lanes.adopt(lane);
        }
        self.returned_calls.extend(canary.calls);
        self.bell.ring_all();
    }

    /// Whether a message is the canary's.
    pub(super) fn is_canarys(&self, message: &Message) -> bool {
        self.canary.as_ref().is_some_and(|canary| canary.takes(message))
    }

    /// The next call for the canary.
    pub(super) fn next_canary_call(&mut self) -> Option<(IncomingCall, Instant)> {
        self.canary.as_mut()?.calls.pop_front()
    }

    /// Puts a call aside for the canary, if it is its turn; gives it back otherwise.
    pub(super) fn offer_to_canary(&mut self, call: IncomingCall, taken: Instant) -> Option<(IncomingCall, Instant)> {
        let shard = self.instances;
        let Some(canary) = &mut self.canary else { return Some((call, taken)) };
        canary.owed += canary.percent;
        if canary.owed < 100 || canary.calls.len() >= CALLS_MAX {
            return Some((call, taken));
        }
        canary.owed -= 100;
        canary.calls.push_back((call, taken));
        self.bell.ring(shard);
        None
    }
}
