//! What a fetch knows of one provider.

use std::time::{Duration, Instant};

use macula_wire::NodeId;

use super::rate::Rate;
use crate::groups::GroupSet;

#[derive(Debug)]
pub(super) struct Provider {
    pub(super) id: NodeId,
    pub(super) rate: Rate,
    /// From a request to its first byte, when nothing else was in the way.
    pub(super) latency: Option<Duration>,
    /// When it last sent anything.
    pub(super) last_byte: Instant,
    /// When it was last asked for anything; orders those of whom nothing else is known.
    pub(super) last_request: Option<Instant>,
    /// Not asked before that.
    pub(super) rest_until: Instant,
    /// What it has, as it said; `None`: all, as far as is known.
    pub(super) has: Option<GroupSet>,
    /// Whether it had not the last group when it was asked for the size.
    pub(super) lacks_last: bool,
    /// When it last said that it has not all.
    pub(super) lacks_since: Option<Instant>,
    /// Whether something was taken from it since it last sent anything. Until it does, it takes nothing from others, or two
    /// of whom little is known could pass the same groups to and fro.
    pub(super) was_robbed: bool,
    /// How often it has stalled or was lost since its last group.
    pub(super) strikes: u32,
}

impl Provider {
    pub(super) fn new(id: NodeId, now: Instant) -> Self {
        Self {
            id,
            rate: Rate::new(now),
            latency: None,
            last_byte: now,
            last_request: None,
            rest_until: now,
            has: None,
            lacks_last: false,
            lacks_since: None,
            was_robbed: false,
            strikes: 0,
        }
    }

    pub(super) fn requested(&mut self, now: Instant) {
        self.last_request = Some(now);
    }

    /// What of `groups` it has.
    pub(super) fn has_of(&self, groups: &GroupSet) -> GroupSet {
        self.has.as_ref().map_or_else(|| groups.clone(), |has| has.intersection(groups))
    }

    /// When it may have grown; `None` when it has all.
    pub(super) fn ask_again_at(&self, after: Duration) -> Option<Instant> {
        self.lacks_since.map(|since| since + after)
    }
}
