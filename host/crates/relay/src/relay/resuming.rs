//! The first seconds: messages are kept for subscriptions that are still on their way back (see [`crate::recent`]).

use std::time::Instant;

use bytes::BytesMut;
use macula_wire::{
    Channel,
    frame::{self, Lane, Taken},
    limits::BATCH_BYTES_GOAL,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::{Declared, Relay, topic_key};
use crate::{
    link::{LinkKey, Outlet, Violation},
    queue::Chunk,
    recent::{Kept, Recent, Window},
    subscription::SubKey,
};

/// Messages of a link's lane that are kept, since the last sync there.
#[derive(Debug, Default)]
pub(crate) struct Unreceipted {
    /// Realm and position.
    kept: Vec<(usize, u64)>,
    /// Not all that came is kept still.
    has_gaps: bool,
}

impl Relay {
    /// The first request of the first peer opens the window.
    pub(crate) fn open_window(&mut self, now: Instant) {
        if self.window == Window::NotYet {
            self.window = Window::Open(now + self.config.resume_window);
            self.promises_until = Some(now + self.config.resume_promise.min(self.config.resume_window));
        }
    }

    /// Keeps a message for subscriptions that have not found the relay yet.
    #[cold]
    pub(super) fn keep_recent(
        &mut self,
        now: Instant,
        key: LinkKey,
        lane: Lane,
        number: u64,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let inlet = self.links[key.index()].lane(lane).inlet(number)?;
        let realm = inlet.realm;
        let recent = &mut self.realms[realm].recent;
        let before = recent.bytes();
        let position = recent.push(inlet.outlet.number, &inlet.channel, lane, bytes);
        self.recent_bytes += recent.bytes() - before;
        self.note_unreceipted(key, lane, (realm, position));
        loop {
            let Self { realms, subscriptions, replaying, config, .. } = self;
            let recent = &mut realms[realm].recent;
            let before = recent.bytes();
            if before <= config.resume_bytes_per_realm_max && self.recent_bytes <= config.resume_bytes_max {
                break;
            }
            let mut missing: SmallVec<[SubKey; 4]> = SmallVec::new();
            let is_given_up = recent.give_up_oldest(|position, topic| {
                let misses = |key: &&SubKey| {
                    let subscription = &subscriptions[**key as usize];
                    subscription.realm == realm
                        && subscription.replay.is_some_and(|at| at <= position)
                        && subscription.pattern.matches(topic)
                };
                missing.extend(replaying.iter().filter(misses).copied());
            });
            if !is_given_up {
                break;
            }
            self.recent_bytes -= before - recent.bytes();
            for subscription in missing {
                self.count_dropped(now, subscription, None, 1);
            }
        }
        Ok(())
    }

    fn note_unreceipted(&mut self, key: LinkKey, lane: Lane, kept: (usize, u64)) {
        let Self { links, realms, .. } = self;
        let unreceipted = &mut links[key.index()].lane(lane).unreceipted;
        if unreceipted.kept.len() == unreceipted.kept.capacity() {
            // As often as the list doubles, so that who never asks for a receipt does not make it grow for ever.
            let before = unreceipted.kept.len();
            unreceipted.kept.retain(|(realm, position)| realms[*realm].recent.has(*position));
            unreceipted.has_gaps |= unreceipted.kept.len() < before;
            unreceipted.kept.reserve(unreceipted.kept.len().max(16));
        }
        unreceipted.kept.push(kept);
    }

    /// Whether a receipt may be given for what has come on a lane: when all of it is kept, or nothing has to be. Then it is
    /// kept to the end of the window.
    #[cold]
    pub(super) fn promise(&mut self, key: LinkKey, lane: Lane) -> bool {
        let unreceipted = std::mem::take(&mut self.links[key.index()].lane(lane).unreceipted);
        let has = |(realm, position): &(usize, u64)| self.realms[*realm].recent.has(*position);
        if unreceipted.has_gaps || !unreceipted.kept.iter().all(has) {
            return false;
        }
        for (realm, position) in unreceipted.kept {
            self.realms[realm].recent.promise(position);
        }
        true
    }

    /// Holds a receipt back: not everything that it would speak of could be kept for those who are not back, and those who are
    /// alive may still be on their way.
    pub(super) fn hold_for_window(&mut self, key: LinkKey, receipt: (Lane, Taken, u64)) {
        let link = &mut self.links[key.index()];
        link.held.push_back(receipt);
        link.is_held_by_window = true;
        if !self.holding.contains(&key) {
            self.holding.push(key);
        }
    }

    /// Begins to give a subscription what was published before it found its way back. Until it has all of that, it gets
    /// what is published from what is kept, too.
    pub(super) fn begin_replay(&mut self, now: Instant, key: SubKey) {
        if self.window == Window::Closed {
            return;
        }
        let subscription = &mut self.subscriptions[key as usize];
        let recent = &self.realms[subscription.realm].recent;
        subscription.replay = Some(recent.first());
        let lost = recent.lost(&subscription.pattern);
        self.replaying.push(key);
        if lost > 0 {
            self.count_dropped(now, key, None, lost);
        }
        self.replay(now, key);
    }

    /// Fills a subscription's queue with what it has missed, as far as there is room.
    fn replay(&mut self, now: Instant, key: SubKey) {
        // What is being collected is kept already, and must not come a second time.
        self.flush(now);
        let room = self.subscriptions[key as usize].room();
        self.copy_recent(now, key, room);
        for lane in Lane::ALL.into_iter().filter(|lane| lane.carries_messages()) {
            if self.subscriptions[key as usize].has_waiting(lane) {
                self.give_turn(key, lane);
            }
        }
    }

    /// Goes on with the subscriptions of a link whose queues have been read. To be called when nothing is half sent: new
    /// messages need declarations before them.
    #[cold]
    pub(super) fn replay_more(&mut self, now: Instant, link: LinkKey) {
        let wants = |key: &SubKey| {
            let subscription = &self.subscriptions[*key as usize];
            subscription.link == link && subscription.wants_replay()
        };
        let more: Vec<SubKey> = self.replaying.iter().copied().filter(wants).collect();
        for key in more {
            self.replay(now, key);
        }
    }

    /// Copies at most `messages` of what a subscription has missed into its queues, fewer when a bound in bytes is reached.
    fn copy_recent(&mut self, now: Instant, key: SubKey, messages: usize) {
        let subscription = &self.subscriptions[key as usize];
        let realm = subscription.realm;
        let Some(mut position) = subscription.replay else { return };
        let pattern = subscription.pattern.clone();
        let mut matches: FxHashMap<u64, bool> = FxHashMap::default();
        let mut outlets: FxHashMap<(u64, Lane), Outlet> = FxHashMap::default();
        let mut batch = Batch::default();
        let mut copied = 0;
        let is_at_end = loop {
            if copied >= messages || self.is_over_bounds(&self.subscriptions[key as usize]) {
                break false;
            }
            let wants =
                |outlet, channel: &Channel| *matches.entry(outlet).or_insert_with(|| pattern.matches(&channel.name));
            let recent = &self.realms[realm].recent;
            let Some((at, Kept { outlet, lane, frame, .. })) = recent.next(position, wants) else { break true };
            position = at + 1;
            let (source, lane, frame) = (*outlet, *lane, frame.clone());
            let number = match outlets.get(&(source, lane)) {
                Some(outlet) => outlet.number,
                None => {
                    let Some(outlet) = self.declare_recent(key, source, lane) else {
                        self.count_dropped(now, key, None, 1);
                        continue;
                    };
                    outlets.entry((source, lane)).or_insert(outlet).number
                }
            };
            if batch.lane != Some(lane) || batch.frames.len() >= BATCH_BYTES_GOAL {
                self.queue_batch(key, &mut batch);
                batch.lane = Some(lane);
            }
            frame::put_forwarded(&frame, number, None, &mut batch.frames);
            batch.count += 1;
            copied += 1;
        };
        self.queue_batch(key, &mut batch);
        // Taken back once these messages are out.
        for outlet in outlets.into_values() {
            self.retire_outlet(outlet);
        }
        self.subscriptions[key as usize].replay = (!is_at_end).then_some(position);
        if is_at_end {
            self.replaying.retain(|replaying| *replaying != key);
        }
    }

    /// Tells a subscriber what a channel of kept messages stood for, under a number of its own; `None` without room.
    fn declare_recent(&mut self, key: SubKey, source: u64, lane: Lane) -> Option<Outlet> {
        let subscription = &self.subscriptions[key as usize];
        let (link, realm) = (subscription.link, subscription.realm);
        let channel = self.realms[realm].recent.channel(source)?.clone();
        let mut outlet = self.new_outlet();
        if self.declare(link, lane, outlet.number, &channel, realm) == Declared::NoRoom {
            return None;
        }
        self.topic_keys.insert(outlet.number, topic_key(&channel.name));
        outlet.note_told(link, lane, &self.links);
        Some(outlet)
    }

    fn queue_batch(&mut self, key: SubKey, batch: &mut Batch) {
        let (Some(lane), true) = (batch.lane, batch.count > 0) else { return };
        let chunk = Chunk { frames: batch.frames.split().freeze(), count: std::mem::take(&mut batch.count) };
        let bytes = chunk.frames.len();
        let topic_keys = &self.topic_keys;
        let queue = self.subscriptions[key as usize].queue(lane);
        queue.push(chunk, |channel| topic_keys.get(&channel).copied().unwrap_or(channel));
        self.grow(key, bytes);
    }

    /// Whoever is alive is back: receipts that were held for others are given.
    pub(super) fn end_promises(&mut self, now: Instant) {
        if self.promises_until.is_none_or(|until| until > now) {
            return;
        }
        self.promises_until = None;
        for (_, link) in &mut self.links {
            link.is_held_by_window = false;
        }
        self.release_receipts(now);
    }

    /// Once the window has passed nothing is kept any more, and realms of which only that was left are gone. Who is still
    /// reading gets the rest as if it came now.
    pub(super) fn close_window(&mut self, now: Instant) {
        if !matches!(self.window, Window::Open(until) if until <= now) {
            return;
        }
        self.flush(now);
        while let Some(key) = self.replaying.last().copied() {
            self.copy_recent(now, key, REST_MESSAGES);
            for lane in [Lane::High, Lane::Normal, Lane::Low] {
                self.make_room(now, key, None, lane);
                if self.subscriptions[key as usize].has_waiting(lane) {
                    self.give_turn(key, lane);
                }
            }
        }
        self.window = Window::Closed;
        self.recent_bytes = 0;
        for (_, realm) in &mut self.realms {
            realm.recent = Recent::default();
        }
        for (_, link) in &mut self.links {
            link.lanes.iter_mut().for_each(|lane| lane.unreceipted = Unreceipted::default());
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

/// Messages that are being copied for one lane of a subscription.
#[derive(Default)]
struct Batch {
    lane: Option<Lane>,
    frames: BytesMut,
    count: u32,
}

/// Messages copied at a time when the window closes, so that bounds are looked at between.
const REST_MESSAGES: usize = 1024;
