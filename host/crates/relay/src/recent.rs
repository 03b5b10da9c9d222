//! What a relay that has just started has forwarded, for subscribers that are still on their way back to it.
//!
//! After a restart publishers and subscribers find the relay in any order. So that nothing is lost that a publisher was
//! given a receipt for, messages of the first seconds are kept, within bounds, and a subscription that says that it was
//! in force before reads what matches of them, at its own pace. It may get a message a second time when its link is lost
//! again within those seconds. Later the relay keeps nothing, and all of this costs one branch a message.
//!
//! When there is no room, a message goes for which no receipt was given, the oldest first. What a receipt speaks of is kept
//! to the end (*promised*). As long as peers that are alive may be on their way, a receipt is given only when everything that
//! it speaks of is kept: none is worth less because a subscriber is late. Later it is given also without room, so that a
//! relay under load does not stand still for those who may never come. What goes is counted, by topic, and told to
//! who comes for it.

use std::{collections::VecDeque, time::Instant};

use bytes::{Bytes, BytesMut};
use macula_wire::{Channel, Pattern, Topic, frame::Lane};
use rustc_hash::FxHashMap;

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
    /// The relay's number for the channel on which it came.
    pub(crate) outlet: u64,
    pub(crate) lane: Lane,
    pub(crate) frame: Bytes,
    /// A receipt speaks of it.
    is_promised: bool,
}

/// A channel on which messages came that are kept.
#[derive(Debug)]
struct Source {
    channel: Channel,
    /// How many of them.
    kept: usize,
}

/// The messages of one realm. Each has a position, counted from the first that ever was.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// `None` where one was given up.
    kept: VecDeque<Option<Kept>>,
    /// Position of the front.
    first: u64,
    /// What is before this position is promised or gone.
    hand: u64,
    bytes: usize,
    /// By the number of the relay's for the channel.
    sources: FxHashMap<u64, Source>,
    /// How many were given up, by topic; the first [`LOST_TOPICS_MAX`] topics.
    lost: FxHashMap<Topic, u64>,
    block: BytesMut,
}

/// What a kept message costs beside its bytes, about: its place here, and its position where its receipt is waited for.
const OVERHEAD_BYTES: usize = 96;
/// What a channel costs, about.
const SOURCE_BYTES: usize = 512;
/// Size of the blocks that messages are copied into.
const BLOCK_BYTES: usize = 64 << 10;
/// Topics of which it is known how many of their messages were given up.
const LOST_TOPICS_MAX: usize = 4096;

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

    /// Where reading begins.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Keeps a message; its position.
    pub(crate) fn push(&mut self, outlet: u64, channel: &Channel, lane: Lane, bytes: &[u8]) -> u64 {
        if self.block.capacity() - self.block.len() < bytes.len() {
            self.block.reserve(bytes.len().max(BLOCK_BYTES));
        }
        self.block.extend_from_slice(bytes);
        let kept = Kept { outlet, lane, frame: self.block.split().freeze(), is_promised: false };
        self.bytes += kept.bytes();
        let source = self.sources.entry(outlet).or_insert_with(|| {
            self.bytes += SOURCE_BYTES;
            Source { channel: channel.clone(), kept: 0 }
        });
        source.kept += 1;
        self.kept.push_back(Some(kept));
        self.first + self.kept.len() as u64 - 1
    }

    /// Gives up the oldest message that no receipt speaks of, and tells its position and topic; whether there was one.
    pub(crate) fn give_up_oldest(&mut self, tell: impl FnOnce(u64, &Topic)) -> bool {
        loop {
            let position = self.hand.max(self.first);
            let Some(slot) = self.kept.get_mut((position - self.first) as usize) else { return false };
            self.hand = position + 1;
            let Some(kept) = slot.take_if(|kept| !kept.is_promised) else { continue };
            while self.kept.front().is_some_and(Option::is_none) {
                self.kept.pop_front();
                self.first += 1;
            }
            self.bytes -= kept.bytes();
            let Some(source) = self.sources.get_mut(&kept.outlet) else { return true };
            let topic = &source.channel.name;
            tell(position, topic);
            let topics = self.lost.len();
            match self.lost.get_mut(topic) {
                Some(lost) => *lost += 1,
                None if topics < LOST_TOPICS_MAX => drop(self.lost.insert(topic.clone(), 1)),
                None => {}
            }
            source.kept -= 1;
            if source.kept == 0 {
                self.sources.remove(&kept.outlet);
                self.bytes -= SOURCE_BYTES;
            }
            return true;
        }
    }

    /// Whether a message is kept still.
    pub(crate) fn has(&self, position: u64) -> bool {
        self.slot(position).is_some_and(|slot| self.kept[slot].is_some())
    }

    /// A receipt speaks of this message from now on: it is kept to the end.
    pub(crate) fn promise(&mut self, position: u64) {
        let Some(slot) = self.slot(position) else { return };
        if let Some(kept) = &mut self.kept[slot] {
            kept.is_promised = true;
            // Apart from its block, which goes with the messages around it.
            kept.frame = Bytes::copy_from_slice(&kept.frame);
        }
    }

    fn slot(&self, position: u64) -> Option<usize> {
        let slot = usize::try_from(position.checked_sub(self.first)?).ok()?;
        (slot < self.kept.len()).then_some(slot)
    }

    /// The next message from `position` on that a channel brought for which `wants` holds, and its position; `None` at the
    /// end.
    pub(crate) fn next(&self, position: u64, mut wants: impl FnMut(u64, &Channel) -> bool) -> Option<(u64, &Kept)> {
        let from = position.max(self.first);
        let slots = (from..).zip(self.kept.iter().skip((from - self.first) as usize));
        let mut kept = slots.filter_map(|(position, slot)| Some((position, slot.as_ref()?)));
        kept.find(|(_, kept)| self.sources.get(&kept.outlet).is_some_and(|source| wants(kept.outlet, &source.channel)))
    }

    /// The channel on which a kept message came.
    pub(crate) fn channel(&self, outlet: u64) -> Option<&Channel> {
        self.sources.get(&outlet).map(|source| &source.channel)
    }

    /// How many messages that `pattern` matches were given up.
    pub(crate) fn lost(&self, pattern: &Pattern) -> u64 {
        self.lost.iter().filter(|(topic, _)| pattern.matches(topic)).map(|(_, lost)| lost).sum()
    }
}
