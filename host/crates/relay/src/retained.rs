//! Last values: one message a topic, kept for subscribers to come.

use bytes::Bytes;
use macula_wire::{Channel, Pattern, Topic};
use rustc_hash::FxHashMap;

use crate::link::Outlet;

/// A stored message.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The frame, with the retained flag set and this outlet's channel number.
    pub(crate) frame: Bytes,
    pub(crate) channel: Channel,
    pub(crate) outlet: Outlet,
}

/// The last values of one realm.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    by_topic: FxHashMap<Topic, Stored>,
    bytes: usize,
}

impl Retained {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    pub(crate) fn value(&self, topic: &Topic) -> Option<&Stored> {
        self.by_topic.get(topic)
    }

    pub(crate) fn value_mut(&mut self, topic: &Topic) -> Option<&mut Stored> {
        self.by_topic.get_mut(topic)
    }

    /// Stores the value of a topic that has none.
    pub(crate) fn store(&mut self, topic: Topic, stored: Stored) {
        self.bytes += stored.frame.len();
        let before = self.by_topic.insert(topic, stored);
        debug_assert!(before.is_none(), "forgotten first");
    }

    #[cfg(test)]
    pub(crate) fn told_entries(&self) -> usize {
        self.by_topic.values().map(|stored| stored.outlet.told_entries()).sum()
    }

    /// Takes all values out.
    pub(crate) fn into_values(self) -> impl Iterator<Item = Stored> {
        self.by_topic.into_values()
    }

    /// Forgets a topic's value.
    pub(crate) fn forget(&mut self, topic: &Topic) -> Option<Stored> {
        let forgotten = self.by_topic.remove(topic)?;
        self.bytes -= forgotten.frame.len();
        Some(forgotten)
    }

    /// The topics with a value that `pattern` matches.
    pub(crate) fn matching(&self, pattern: &Pattern) -> Vec<Topic> {
        let mut topics: Vec<Topic> = if pattern.is_literal() {
            self.by_topic.get_key_value(pattern.as_str()).map(|(topic, _)| topic.clone()).into_iter().collect()
        } else {
            self.by_topic.keys().filter(|topic| pattern.matches(topic)).cloned().collect()
        };
        topics.sort_unstable();
        topics
    }
}
