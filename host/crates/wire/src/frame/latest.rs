//! Conflation: of each topic, only the newest message waits.

use std::collections::VecDeque;

use bytes::Bytes;
use rustc_hash::FxHashMap;

/// The newest message of each topic, waiting to be sent; in the order in which topics first waited.
#[derive(Debug, Default)]
pub struct LatestSlots {
    slots: VecDeque<(u64, Bytes)>,
    /// Where a topic waits, counted from the first slot there ever was.
    places: FxHashMap<u64, u64>,
    /// Slots taken out so far.
    taken: u64,
    bytes: usize,
}

/// Topics that may wait for one subscription. Beyond it the topic that waited longest is forgotten.
const TOPICS_MAX: usize = 4096;

impl LatestSlots {
    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages waiting.
    pub fn messages(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Replaces what waits for the topic; says how many messages were forgotten.
    pub fn push(&mut self, topic: u64, frame: Bytes) -> u64 {
        self.bytes += frame.len();
        if let Some(place) = self.places.get(&topic) {
            let waiting = &mut self.slots[(place - self.taken) as usize].1;
            self.bytes -= waiting.len();
            *waiting = frame;
            return 1;
        }
        self.places.insert(topic, self.taken + self.slots.len() as u64);
        self.slots.push_back((topic, frame));
        if self.slots.len() > TOPICS_MAX {
            self.pop();
            return 1;
        }
        0
    }

    /// Takes the message of the topic that has waited longest.
    pub fn pop(&mut self) -> Option<Bytes> {
        let (topic, frame) = self.slots.pop_front()?;
        self.places.remove(&topic);
        self.taken += 1;
        self.bytes -= frame.len();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_in_place() {
        let mut slots = LatestSlots::default();
        let frame = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(slots.push(1, frame("one")), 0);
        assert_eq!(slots.push(2, frame("two")), 0);
        assert_eq!(slots.push(1, frame("newer")), 1);
        assert_eq!((slots.messages(), slots.bytes()), (2, 8));
        assert_eq!(slots.pop(), Some(frame("newer")));
        assert_eq!(slots.push(1, frame("next")), 0);
        assert_eq!(slots.pop(), Some(frame("two")));
        assert_eq!(slots.pop(), Some(frame("next")));
        assert!(slots.is_empty() && slots.bytes() == 0);
    }

    #[test]
    fn is_bounded() {
        let mut slots = LatestSlots::default();
        let forgotten: u64 = (0..TOPICS_MAX as u64 + 5).map(|topic| slots.push(topic, Bytes::from_static(b"x"))).sum();
        assert_eq!((forgotten, slots.messages()), (5, TOPICS_MAX));
    }
}
