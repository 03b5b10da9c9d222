//! The first seconds: messages are kept for subscriptions that are still on their way back (see [`crate::recent`]).

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use macula_wire::{
    Channel, Pattern,
    frame::{self, Lane},
};
use rustc_hash::FxHashMap;

use super::{Declared, Relay, topic_key};
use crate::{
    link::{LinkKey, Outlet, Violation},
    queue::Chunk,
    recent::{Kept, Recent, Window},
    subscription::SubKey,
};

impl Relay {
    /// The first request of the first peer opens the window.
    pub(crate) fn open_window(&mut self, now: Instant) {
        if self.window == Window::NotYet {
            self.window = Window::Open(now + self.config.resume_window);
        }
    }

    /// Keeps a message for subscriptions that have not found the relay yet.
    #[cold]
    pub(super) fn keep_recent(&mut self, key: LinkKey, lane: Lane, number: u64, bytes: &[u8]) -> Result<(), Violation> {
        let inlet = self.links[key.index()].lane(lane).inlet(number)?;
        let realm = &mut self.realms[inlet.realm];
        let others = self.recent_bytes - realm.recent.bytes();
        let frame = Bytes::copy_from_slice(bytes);
        realm.recent.push(Kept { channel: inlet.channel.clone(), lane, frame });
        while realm.recent.bytes() > self.config.resume_bytes_per_realm_max
            || others + realm.recent.bytes() > self.config.resume_bytes_max
        {
            if realm.recent.drop_oldest().is_none() {
                break;
            }
        }
        self.recent_bytes = others + realm.recent.bytes();
        Ok(())
    }

    /// Gives a subscription what was published before it found its way back.
    pub(super) fn send_recent(&mut self, now: Instant, key: SubKey, pattern: &Pattern) {
        let subscription = &self.subscriptions[key as usize];
        let (link, realm) = (subscription.link, subscription.realm);
        let mut outlets: FxHashMap<(Channel, Lane), Outlet> = FxHashMap::default();
        for Kept { channel, lane, frame } in self.realms[realm].recent.matching(pattern) {
            let name = (channel, lane);
            if !outlets.contains_key(&name) {
                let mut outlet = self.new_outlet();
                if self.declare(link, lane, outlet.number, &name.0, realm) == Declared::NoRoom {
                    self.count_dropped(now, key, None, 1);
                    continue;
                }
                outlet.note_told(link, lane, &self.links);
                outlets.insert(name.clone(), outlet);
            }
            let mut copy = BytesMut::with_capacity(frame.len());
            frame::put_forwarded(&frame, outlets[&name].number, None, &mut copy);
            let (bytes, topic_key) = (copy.len(), topic_key(&name.0.name));
            self.subscriptions[key as usize].queue(lane).push(Chunk::single(copy.freeze()), |_| topic_key);
            self.grow(key, bytes);
            self.make_room(now, key, None, lane);
        }
        for lane in Lane::ALL.into_iter().filter(|lane| lane.carries_messages()) {
            if self.subscriptions[key as usize].has_waiting(lane) {
                self.give_turn(key, lane);
            }
        }
        // Taken back once these messages are out.
        for outlet in outlets.into_values() {
            self.retire_outlet(outlet);
        }
    }

    /// Once the window has passed nothing is kept any more, and realms of which only that was left are gone.
    pub(super) fn close_window(&mut self, now: Instant) {
        if !matches!(self.window, Window::Open(until) if until <= now) {
            return;
        }
        self.window = Window::Closed;
        self.recent_bytes = 0;
        for (_, realm) in &mut self.realms {
            realm.recent = Recent::default();
        }
        let Self { realms, realms_by_id, .. } = self;
        realms.retain(|_, realm| {
            if realm.is_unused() {
                realms_by_id.remove(&realm.id);
            }
            !realm.is_unused()
        });
    }
}
