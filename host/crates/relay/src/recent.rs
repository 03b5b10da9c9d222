//! What a relay that has just started has forwarded, for subscribers that are still on their way back to it.
//!
//! After a restart publishers and subscribers find the relay in any order. So that nothing is lost that a publisher was
//! given a receipt for, messages of the first seconds are kept, within bounds, and a subscription that says that it was
//! in force before gets what matches of them. It may get a message a second time when its link is lost again within
//! those seconds. Later the relay keeps nothing, and all of this costs one branch a message.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;
use macula_wire::{Channel, Pattern, frame::Lane};

/// Whether messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    /// From the first peer's first request on.
    NotYet,
    /// Until then.
    Open(Instant),
    /// For good.
    Closed,
}

/// One message as it came.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) channel: Channel,
    pub(crate) lane: Lane,
    pub(crate) frame: Bytes,
}

/// The messages of one realm, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    kept: VecDeque<Kept>,
    bytes: usize,
}

/// What a kept message costs beside its bytes, about.
const OVERHEAD_BYTES: usize = 256;

impl Kept {
    fn bytes(&self) -> usize {
        self.frame.len() + OVERHEAD_BYTES
    }
}

impl Recent {
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// With what they cost beside their bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, kept: Kept) {
        self.bytes += kept.bytes();
        self.kept.push_back(kept);
    }

    pub(crate) fn drop_oldest(&mut self) -> Option<Kept> {
        let kept = self.kept.pop_front()?;
        self.bytes -= kept.bytes();
        Some(kept)
    }

    /// What a subscription to `pattern` has missed.
    pub(crate) fn matching(&self, pattern: &Pattern) -> Vec<Kept> {
        self.kept.iter().filter(|kept| pattern.matches(&kept.channel.name)).cloned().collect()
    }
}
