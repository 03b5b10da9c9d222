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

/// What became of a message, and of another one because of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Added,
    /// It waits in place of an older one of its topic.
    Replaced,
    /// It waits, and the newest message of another topic was lost, because too many topics wait.
    Forgot,
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

    /// Whether the message of one more topic would make another be forgotten.
    pub fn is_full(&self) -> bool {
        self.slots.len() >= TOPICS_MAX
    }

    /// Whether a message of the topic waits.
    pub fn holds(&self, topic: u64) -> bool {
        self.places.contains_key(&topic)
    }

    /// Replaces what waits for the topic.
    pub fn push(&mut self, topic: u64, frame: Bytes) -> Pushed {
        self.bytes += frame.len();
        if let Some(place) = self.places.get(&topic) {
            let waiting = &mut self.slots[(place - self.taken) as usize].1;
            self.bytes -= waiting.len();
            *waiting = frame;
            return Pushed::Replaced;
        }
        self.places.insert(topic, self.taken + self.slots.len() as u64);
        self.slots.push_back((topic, frame));
        if self.slots.len() > TOPICS_MAX {
            self.pop();
            return Pushed::Forgot;
        }
        Pushed::Added
    }

    /// The messages that wait.
    pub fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.slots.iter().map(|(_, frame)| frame)
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
        assert_eq!(slots.push(1, frame("one")), Pushed::Added);
        assert_eq!(slots.push(2, frame("two")), Pushed::Added);
        assert_eq!(slots.push(1, frame("newer")), Pushed::Replaced);
        assert_eq!((slots.messages(), slots.bytes()), (2, 8));
        assert_eq!(slots.pop(), Some(frame("newer")));
        assert_eq!(slots.push(1, frame("next")), Pushed::Added);
        assert_eq!(slots.pop(), Some(frame("two")));
        assert_eq!(slots.pop(), Some(frame("next")));
        assert!(slots.is_empty() && slots.bytes() == 0);
    }

    #[test]
    fn is_bounded() {
        let mut slots = LatestSlots::default();
        let pushed = (0..TOPICS_MAX as u64 + 5).map(|topic| slots.push(topic, Bytes::from_static(b"x")));
        assert_eq!(pushed.filter(|pushed| *pushed == Pushed::Forgot).count(), 5);
        assert_eq!(slots.messages(), TOPICS_MAX);
        assert!(slots.is_full() && slots.holds(5) && !slots.holds(4));
        slots.pop();
        assert!(!slots.is_full());
    }
}
