//! Bounded queues of message frames, by what they do when full.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use macula_wire::{
    WhenFull,
    frame::{Frame, Frames},
    limits::BATCH_BYTES_GOAL,
};
use rustc_hash::{FxHashMap, FxHashSet};

/// Whole message frames one after another.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) frames: Bytes,
    pub(crate) count: u32,
}

/// First in, first out, of at most `messages_max` messages.
#[derive(Debug)]
pub(crate) enum Queue {
    /// Forgets its oldest messages.
    Oldest(FrameQueue),
    /// Forgets messages that have a newer one of the same topic, and then its oldest.
    Superseded(NewestQueue),
}

/// Keeps chunks as they come.
#[derive(Debug)]
pub(crate) struct FrameQueue {
    chunks: VecDeque<Chunk>,
    messages: usize,
    bytes: usize,
    messages_max: usize,
}

/// Keeps messages apart, to take single ones out of the middle. All acts take constant time, spread over many.
#[derive(Debug)]
pub(crate) struct NewestQueue {
    /// In order; `None` where a message was taken out.
    slots: VecDeque<Option<(u64, Bytes)>>,
    /// Slots that have left at the front, so that a place is `taken` + index.
    taken: u64,
    /// Place of each topic's newest message.
    newest: FxHashMap<u64, u64>,
    /// Places of messages that have a newer one of their topic; some may have left since.
    superseded: VecDeque<u64>,
    messages: usize,
    bytes: usize,
    messages_max: usize,
}

impl Chunk {
    pub(crate) fn single(frame: Bytes) -> Self {
        Self { frames: frame, count: 1 }
    }

    /// Splits off the first `count` frames.
    fn split_front(&mut self, count: u32) -> Self {
        let len = Frames::new(&self.frames).take(count as usize).flatten().map(<[u8]>::len).sum();
        self.count -= count;
        Self { frames: self.frames.split_to(len), count }
    }
}

impl Queue {
    pub(crate) fn new(when_full: WhenFull, messages_max: usize) -> Self {
        match when_full {
            WhenFull::LatestOnly => Self::Superseded(NewestQueue::new(messages_max)),
            WhenFull::DropOldest | WhenFull::Block => Self::Oldest(FrameQueue::new(messages_max)),
        }
    }

    #[inline]
    pub(crate) fn messages(&self) -> usize {
        match self {
            Self::Oldest(queue) => queue.messages,
            Self::Superseded(queue) => queue.messages,
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Oldest(queue) => queue.bytes,
            Self::Superseded(queue) => queue.bytes,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.messages() == 0
    }

    /// Messages above the bound.
    #[inline]
    pub(crate) fn excess(&self) -> usize {
        match self {
            Self::Oldest(queue) => queue.messages.saturating_sub(queue.messages_max),
            Self::Superseded(queue) => queue.messages.saturating_sub(queue.messages_max),
        }
    }

    /// Appends, beyond the bound if need be: the caller then makes room. `topic_of` tells topics apart by channel number.
    #[inline]
    pub(crate) fn push(&mut self, chunk: Chunk, topic_of: impl Fn(u64) -> u64) {
        match self {
            Self::Oldest(queue) => queue.push(chunk),
            Self::Superseded(queue) => queue.push(&chunk, topic_of),
        }
    }

    /// Takes at most `messages` messages, a batch's worth, from the front.
    #[inline]
    pub(crate) fn pop(&mut self, messages: u64) -> Option<Chunk> {
        match self {
            Self::Oldest(queue) => queue.pop(messages),
            Self::Superseded(queue) => queue.pop(messages),
        }
    }

    /// Forgets what is above the bound; how many messages that were.
    pub(crate) fn drop_excess(&mut self) -> u64 {
        let excess = self.excess();
        match self {
            Self::Oldest(queue) => queue.drop_oldest(excess),
            Self::Superseded(queue) => queue.drop_superseded(excess),
        }
    }

    /// Adds the channel numbers of all messages to `used`.
    pub(crate) fn collect_channels(&self, used: &mut FxHashSet<u64>) {
        match self {
            Self::Oldest(queue) => {
                for chunk in &queue.chunks {
                    collect_channels(&chunk.frames, used);
                }
            }
            Self::Superseded(queue) => {
                for (_, frame) in queue.slots.iter().flatten() {
                    collect_channels(frame, used);
                }
            }
        }
    }
}

/// Adds the channel numbers of message frames to `used`.
pub(crate) fn collect_channels(frames: &[u8], used: &mut FxHashSet<u64>) {
    for bytes in Frames::new(frames).flatten() {
        if let Ok(Frame::Message { header, .. }) = Frame::parse(bytes) {
            used.insert(header.channel);
        }
    }
}

impl FrameQueue {
    fn new(messages_max: usize) -> Self {
        Self { chunks: VecDeque::new(), messages: 0, bytes: 0, messages_max }
    }

    #[inline]
    fn push(&mut self, chunk: Chunk) {
        self.messages += chunk.count as usize;
        self.bytes += chunk.frames.len();
        self.chunks.push_back(chunk);
    }

    /// Takes from one chunk only.
    #[inline]
    fn pop(&mut self, messages: u64) -> Option<Chunk> {
        let front = self.chunks.front_mut()?;
        let chunk = if u64::from(front.count) <= messages {
            self.chunks.pop_front()?
        } else if messages == 0 {
            return None;
        } else {
            front.split_front(messages as u32)
        };
        self.messages -= chunk.count as usize;
        self.bytes -= chunk.frames.len();
        Some(chunk)
    }

    fn drop_oldest(&mut self, mut count: usize) -> u64 {
        let mut dropped = 0;
        while count > 0 {
            let Some(chunk) = self.pop(count as u64) else { break };
            count -= chunk.count as usize;
            dropped += u64::from(chunk.count);
        }
        dropped
    }
}

impl NewestQueue {
    fn new(messages_max: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            taken: 0,
            newest: FxHashMap::default(),
            superseded: VecDeque::new(),
            messages: 0,
            bytes: 0,
            messages_max,
        }
    }

    fn push(&mut self, chunk: &Chunk, topic_of: impl Fn(u64) -> u64) {
        for bytes in Frames::new(&chunk.frames).flatten() {
            let Ok(Frame::Message { header, .. }) = Frame::parse(bytes) else { continue };
            let topic = topic_of(header.channel);
            let place = self.taken + self.slots.len() as u64;
            self.messages += 1;
            self.bytes += bytes.len();
            self.slots.push_back(Some((topic, chunk.frames.slice_ref(bytes))));
            if let Some(before) = self.newest.insert(topic, place) {
                self.superseded.push_back(before);
            }
        }
        // Of those that were sent the list is cleaned now and then.
        if self.superseded.len() > 2 * self.slots.len() + 16 {
            self.superseded.retain(|place| *place >= self.taken);
        }
    }

    /// Takes the oldest message.
    fn pop_one(&mut self) -> Option<Bytes> {
        loop {
            let slot = self.slots.pop_front()?;
            let place = self.taken;
            self.taken += 1;
            let Some((topic, frame)) = slot else { continue };
            self.messages -= 1;
            self.bytes -= frame.len();
            if self.newest.get(&topic) == Some(&place) {
                self.newest.remove(&topic);
            }
            if self.messages == 0 {
                self.slots.clear();
                self.superseded.clear();
            }
            return Some(frame);
        }
    }

    fn pop(&mut self, messages: u64) -> Option<Chunk> {
        if messages == 0 {
            return None;
        }
        let first = self.pop_one()?;
        if messages == 1 || self.messages == 0 {
            return Some(Chunk::single(first));
        }
        let mut frames = BytesMut::from(&first[..]);
        let mut count = 1;
        while u64::from(count) < messages && frames.len() < BATCH_BYTES_GOAL {
            let Some(next) = self.pop_one() else { break };
            frames.extend_from_slice(&next);
            count += 1;
        }
        Some(Chunk { frames: frames.freeze(), count })
    }

    fn drop_superseded(&mut self, count: usize) -> u64 {
        let mut dropped = 0;
        while dropped < count {
            let superseded = self.superseded.pop_front();
            let gone = match superseded {
                // It may have been sent since.
                Some(place) if place < self.taken => continue,
                Some(place) => {
                    self.slots.get_mut((place - self.taken) as usize).and_then(Option::take).map(|(_, frame)| {
                        self.messages -= 1;
                        self.bytes -= frame.len();
                    })
                }
                None => self.pop_one().map(|_| ()),
            };
            if gone.is_none() {
                break;
            }
            dropped += 1;
        }
        self.compact();
        dropped as u64
    }

    /// Closes the gaps when there are more of them than messages.
    fn compact(&mut self) {
        if self.slots.len() <= 2 * self.messages + 16 {
            return;
        }
        // New places follow those that were, so that none is mistaken for another.
        let first = self.taken + self.slots.len() as u64;
        let mut moved = FxHashMap::default();
        let mut slots = VecDeque::with_capacity(self.messages + 1);
        for (index, slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            if slot.is_some() {
                moved.insert(self.taken + index as u64, first + slots.len() as u64);
                slots.push_back(slot);
            }
        }
        self.newest.values_mut().for_each(|place| *place = moved.get(place).copied().unwrap_or(*place));
        self.superseded = self.superseded.iter().filter_map(|place| moved.get(place).copied()).collect();
        (self.slots, self.taken) = (slots, first);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use macula_wire::frame::{Header, put_message};
    use proptest::prelude::*;

    use super::*;

    fn chunk(ids: std::ops::Range<u64>, channel: impl Fn(u64) -> u64) -> Chunk {
        let mut frames = BytesMut::new();
        for id in ids.clone() {
            put_message(Header { id, channel: channel(id), ..Header::default() }, &[], &[0; 7], &mut frames);
        }
        Chunk { frames: frames.freeze(), count: (ids.end - ids.start) as u32 }
    }

    fn ids_of(chunk: &Chunk) -> Vec<u64> {
        let ids = Frames::new(&chunk.frames).map(|frame| match Frame::parse(frame.unwrap()) {
            Ok(Frame::Message { header, .. }) => header.id,
            other => panic!("a message: {other:?}"),
        });
        let ids: Vec<u64> = ids.collect();
        assert_eq!(ids.len(), chunk.count as usize);
        ids
    }

    fn ids(queue: &mut Queue) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some(chunk) = queue.pop(u64::MAX) {
            ids.extend(ids_of(&chunk));
        }
        assert_eq!((queue.messages(), queue.bytes()), (0, 0));
        ids
    }

    fn push(queue: &mut Queue, chunk: Chunk) {
        queue.push(chunk, |channel| channel);
    }

    #[test]
    fn drops_exactly_the_oldest() {
        let mut queue = Queue::new(WhenFull::DropOldest, 10);
        push(&mut queue, chunk(0..8, |_| 0));
        push(&mut queue, chunk(8..15, |_| 0));
        assert_eq!(queue.excess(), 5);
        assert_eq!(queue.drop_excess(), 5);
        assert_eq!(queue.messages(), 10);
        assert_eq!(ids(&mut queue), (5..15).collect::<Vec<_>>());
    }

    #[test]
    fn pops_by_credit() {
        for when_full in [WhenFull::DropOldest, WhenFull::LatestOnly] {
            let mut queue = Queue::new(when_full, 100);
            push(&mut queue, chunk(0..5, |_| 0));
            assert!(queue.pop(0).is_none());
            assert_eq!(queue.pop(2).unwrap().count, 2);
            assert_eq!(ids(&mut queue), [2, 3, 4]);
        }
    }

    #[test]
    fn keeps_the_newest_of_each_topic_in_order() {
        let mut queue = Queue::new(WhenFull::LatestOnly, 4);
        push(&mut queue, chunk(0..6, |id| id % 3));
        push(&mut queue, chunk(6..8, |_| 9));
        assert_eq!(queue.drop_excess(), 4);
        assert_eq!(ids(&mut queue), [3, 4, 5, 7]);
    }

    proptest! {
        /// Goal: whatever is pushed, dropped and popped: order is kept, books are right, never more wait than may, and
        /// as long as there are no more topics than places, the newest message of each topic is there or was popped.
        #[test]
        fn newest_survive_any_history(acts in prop::collection::vec((0u64..12, 0u64..5), 1..300), max in 4usize..12) {
            let mut queue = Queue::new(WhenFull::LatestOnly, max);
            let (mut next, mut last_popped) = (0, None);
            let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
            for (topic, pops) in acts {
                let topic = topic % max as u64;
                push(&mut queue, chunk(next..next + 1, |_| topic));
                newest.insert(topic, next);
                next += 1;
                queue.drop_excess();
                prop_assert!(queue.messages() <= max);
                if pops > 2 {
                    let popped = queue.pop(pops - 2).map(|chunk| ids_of(&chunk)).unwrap_or_default();
                    for id in popped {
                        prop_assert!(last_popped < Some(id));
                        last_popped = Some(id);
                        newest.retain(|_, newest| *newest != id);
                    }
                }
            }
            let left = ids(&mut queue);
            prop_assert!(left.is_sorted());
            for newest in newest.values() { prop_assert!(left.contains(newest)); }
        }
    }
}
