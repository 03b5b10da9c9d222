//! A bounded queue of message frames, shared bytes with a count.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use macula_wire::frame::{Frame, Frames};
use rustc_hash::FxHashSet;

/// Whole message frames one after another.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) frames: Bytes,
    pub(crate) count: u32,
}

/// First in, first out, of at most `messages_max` messages.
#[derive(Debug)]
pub(crate) struct FrameQueue {
    chunks: VecDeque<Chunk>,
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

impl FrameQueue {
    pub(crate) fn new(messages_max: usize) -> Self {
        Self { chunks: VecDeque::new(), messages: 0, bytes: 0, messages_max }
    }

    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Messages above the bound.
    pub(crate) fn excess(&self) -> usize {
        self.messages.saturating_sub(self.messages_max)
    }

    /// Appends, beyond the bound if need be: the caller then makes room by its policy.
    #[inline]
    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.messages += chunk.count as usize;
        self.bytes += chunk.frames.len();
        self.chunks.push_back(chunk);
    }

    /// Takes at most `messages` messages and about `bytes` bytes (at least one message) from one chunk.
    #[inline]
    pub(crate) fn pop(&mut self, messages: u64) -> Option<Chunk> {
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

    /// Forgets the `count` oldest messages.
    pub(crate) fn drop_oldest(&mut self, mut count: usize) -> u64 {
        let mut dropped = 0;
        while count > 0 {
            let Some(chunk) = self.pop(count as u64) else { break };
            count -= chunk.count as usize;
            dropped += u64::from(chunk.count);
        }
        dropped
    }

    /// Keeps the newest message of each topic, in their order; `topic_of` tells topics apart by channel number.
    pub(crate) fn keep_newest(&mut self, topic_of: impl Fn(u64) -> u64) -> u64 {
        let mut seen = FxHashSet::default();
        let mut kept: Vec<&[u8]> = Vec::new();
        for chunk in self.chunks.iter().rev() {
            let frames: Vec<&[u8]> = Frames::new(&chunk.frames).flatten().collect();
            for frame in frames.into_iter().rev() {
                let Ok(Frame::Message { header, .. }) = Frame::parse(frame) else { continue };
                if seen.insert(topic_of(header.channel)) {
                    kept.push(frame);
                }
            }
        }
        let mut frames = BytesMut::with_capacity(kept.iter().map(|frame| frame.len()).sum());
        for frame in kept.iter().rev() {
            frames.extend_from_slice(frame);
        }
        let count = kept.len();
        let dropped = (self.messages - count) as u64;
        self.chunks.clear();
        (self.messages, self.bytes) = (0, 0);
        if count > 0 {
            self.push(Chunk { frames: frames.freeze(), count: count as u32 });
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use macula_wire::frame::{Header, put_message};

    use super::*;

    fn chunk(ids: std::ops::Range<u64>, channel: impl Fn(u64) -> u64) -> Chunk {
        let mut frames = BytesMut::new();
        for id in ids.clone() {
            put_message(Header { id, channel: channel(id), ..Header::default() }, &[], &[0; 7], &mut frames);
        }
        Chunk { frames: frames.freeze(), count: (ids.end - ids.start) as u32 }
    }

    fn ids(queue: &mut FrameQueue) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some(chunk) = queue.pop(u64::MAX) {
            for frame in Frames::new(&chunk.frames) {
                let Ok(Frame::Message { header, .. }) = Frame::parse(frame.unwrap()) else { panic!("a message") };
                ids.push(header.id);
            }
        }
        assert_eq!((queue.messages(), queue.bytes()), (0, 0));
        ids
    }

    #[test]
    fn drops_exactly_the_oldest() {
        let mut queue = FrameQueue::new(10);
        queue.push(chunk(0..8, |_| 0));
        queue.push(chunk(8..15, |_| 0));
        assert_eq!(queue.excess(), 5);
        assert_eq!(queue.drop_oldest(queue.excess()), 5);
        assert_eq!(queue.messages(), 10);
        assert_eq!(ids(&mut queue), (5..15).collect::<Vec<_>>());
    }

    #[test]
    fn pops_by_credit() {
        let mut queue = FrameQueue::new(100);
        queue.push(chunk(0..5, |_| 0));
        assert!(queue.pop(0).is_none());
        assert_eq!(queue.pop(2).unwrap().count, 2);
        assert_eq!(ids(&mut queue), [2, 3, 4]);
    }

    #[test]
    fn keeps_the_newest_of_each_topic_in_order() {
        let mut queue = FrameQueue::new(4);
        queue.push(chunk(0..6, |id| id % 3));
        queue.push(chunk(6..8, |_| 9));
        assert_eq!(queue.keep_newest(|channel| channel), 4);
        assert_eq!(ids(&mut queue), [3, 4, 5, 7]);
    }
}
