//! Recognises what a publisher sends twice: by publisher, epoch, lane and sequence number.
//!
//! Within a lane a publisher's numbers only grow, on every path through relays, because each hop keeps the order. So the
//! last number is enough, and a message that comes around a loop or is sent again after a reconnect is dropped.

use std::collections::VecDeque;

use macula_wire::{NodeId, frame::Lane};
use rustc_hash::FxHashMap;
use slab::Slab;

#[derive(Debug)]
struct Publisher {
    name: (NodeId, u64),
    last_seq: [u64; Lane::COUNT],
    /// Channels that refer to it.
    channels: usize,
}

/// Publishers with channels, and the most recent of those without.
#[derive(Debug, Default)]
pub(crate) struct Publishers {
    publishers: Slab<Publisher>,
    by_name: FxHashMap<(NodeId, u64), usize>,
    /// Without channels, longest gone first.
    gone: VecDeque<usize>,
}

impl Publishers {
    /// The entry for a publisher, held until [`Publishers::release`].
    pub(crate) fn hold(&mut self, node: NodeId, epoch: u64) -> usize {
        let name = (node, epoch);
        let key = *self
            .by_name
            .entry(name)
            .or_insert_with(|| self.publishers.insert(Publisher { name, last_seq: [0; Lane::COUNT], channels: 0 }));
        let publisher = &mut self.publishers[key];
        if publisher.channels == 0 {
            self.gone.retain(|gone| *gone != key);
        }
        publisher.channels += 1;
        key
    }

    /// Gives the entry up; `remembered_max` of those given up by all are kept.
    pub(crate) fn release(&mut self, key: usize, remembered_max: usize) {
        let publisher = &mut self.publishers[key];
        publisher.channels -= 1;
        if publisher.channels > 0 {
            return;
        }
        self.gone.push_back(key);
        while self.gone.len() > remembered_max {
            let Some(oldest) = self.gone.pop_front() else { break };
            let forgotten = self.publishers.remove(oldest);
            self.by_name.remove(&forgotten.name);
        }
    }

    /// How often entries are held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.publishers.iter().map(|(_, publisher)| publisher.channels).sum()
    }

    /// Whether the message is new; then it is the last one from now on.
    #[inline]
    pub(crate) fn accept(&mut self, key: usize, lane: Lane, seq: u64) -> bool {
        let last = &mut self.publishers[key].last_seq[lane.index()];
        let new = seq > *last;
        if new {
            *last = seq;
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(seed: u8) -> NodeId {
        // Any valid public key does; these are base point multiples published with RFC 8032's test vectors.
        let keys = [
            "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
            "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
        ];
        keys[usize::from(seed)].parse().unwrap()
    }

    #[test]
    fn remembers_across_links_but_not_for_ever() {
        let mut publishers = Publishers::default();
        let key = publishers.hold(node(0), 1);
        assert!(publishers.accept(key, Lane::Normal, 1));
        assert!(!publishers.accept(key, Lane::Normal, 1));
        assert!(publishers.accept(key, Lane::High, 1), "lanes are apart");
        publishers.release(key, 1);
        let key = publishers.hold(node(0), 1);
        assert!(!publishers.accept(key, Lane::Normal, 1), "sent again after a reconnect");
        publishers.release(key, 1);
        let other = publishers.hold(node(1), 1);
        publishers.release(other, 1);
        assert_eq!(publishers.by_name.len(), 1, "the longest gone is forgotten");
    }
}
