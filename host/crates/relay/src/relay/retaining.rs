//! Last values: stored when published, given to subscriptions that begin.

use std::time::Instant;

use macula_wire::{
    Pattern, Topic,
    frame::{self, Frame, Lane},
};

use super::{Declared, Relay, topic_key};
use crate::{
    link::{LinkKey, Violation},
    queue::Chunk,
    retained::Stored,
    subscription::SubKey,
};

impl Relay {
    pub(super) fn retain(
        &mut self,
        now: Instant,
        key: LinkKey,
        lane: Lane,
        number: u64,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        self.flush(now);
        let inlet = self.links[key.index()].lane(lane).inlet(number)?;
        let (realm_key, channel) = (inlet.realm, inlet.channel.clone());
        let Frame::Message { payload, .. } = Frame::parse(bytes)? else { return Ok(()) };
        let topic = channel.name.clone();
        // Whatever becomes of the new value, the one before is not the last any more.
        self.forget_retained(realm_key, &topic);
        if payload.is_empty() {
            return Ok(());
        }
        let retained = &self.realms[realm_key].retained;
        let fits = retained.bytes() + bytes.len() <= self.config.retained_bytes_per_realm_max
            && retained.len() < self.config.retained_topics_per_realm_max;
        if !fits || !self.make_room_for_retained(bytes.len()) {
            self.stats.retained_refused += 1;
            return Ok(());
        }
        let outlet = self.new_outlet();
        self.topic_keys.insert(outlet.number, topic_key(&topic));
        let mut frame = bytes::BytesMut::with_capacity(bytes.len());
        frame::put_forwarded(bytes, outlet.number, None, &mut frame);
        frame::set_flags(&mut frame, frame::FLAG_RETAINED);
        let stored = Stored { frame: frame.freeze(), channel, outlet };
        self.realms[realm_key].retained.store(topic, stored);
        self.retained_bytes += bytes.len();
        self.retained_topics += 1;
        Ok(())
    }

    pub(super) fn forget_retained(&mut self, realm: usize, topic: &Topic) {
        if let Some(forgotten) = self.realms[realm].retained.forget(topic) {
            self.retained_bytes -= forgotten.frame.len();
            self.retained_topics -= 1;
            self.retire_outlet(forgotten.outlet);
        }
    }

    /// Whether one more value of this size may be stored, after deserted realms have given up theirs if need be.
    pub(super) fn make_room_for_retained(&mut self, bytes: usize) -> bool {
        loop {
            let fits = self.retained_bytes + bytes <= self.config.retained_bytes_max
                && self.retained_topics < self.config.retained_topics_max;
            if fits || !self.forget_deserted_realm() {
                return fits;
            }
        }
    }

    pub(super) fn send_retained(&mut self, now: Instant, key: SubKey, pattern: &Pattern) {
        let subscription = &self.subscriptions[key as usize];
        let (link, realm) = (subscription.link, subscription.realm);
        for topic in self.realms[realm].retained.matching(pattern) {
            let Some(stored) = self.realms[realm].retained.value(&topic) else { continue };
            let (frame, channel, outlet) = (stored.frame.clone(), stored.channel.clone(), stored.outlet.number);
            match self.declare(link, Lane::Normal, outlet, &channel, realm) {
                Declared::Before => {}
                Declared::Now => {
                    if let Some(stored) = self.realms[realm].retained.value_mut(&topic) {
                        stored.outlet.note_told(link, Lane::Normal, &self.links);
                    }
                }
                Declared::NoRoom => {
                    self.count_dropped(now, key, None, 1);
                    continue;
                }
            }
            let (bytes, topic_key) = (frame.len(), topic_key(&topic));
            self.subscriptions[key as usize].queue(Lane::Normal).push(Chunk::single(frame), |_| topic_key);
            self.grow(key, bytes);
            self.make_room(now, key, None, Lane::Normal);
        }
        if self.subscriptions[key as usize].has_waiting(Lane::Normal) {
            self.give_turn(key, Lane::Normal);
        }
    }
}
