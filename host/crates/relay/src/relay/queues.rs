//! What waits for subscriptions: bounds, policies, credit, and whose turn it is.

use std::time::Instant;

use macula_wire::frame::{Lane, Pushed};

use super::Relay;
use crate::{
    link::LinkKey,
    queue::Chunk,
    subscription::{SubKey, Subscription},
};

impl Relay {
    #[inline]
    pub(super) fn enqueue(&mut self, now: Instant, key: SubKey, from: LinkKey, lane: Lane, chunk: Chunk) {
        let bytes = chunk.frames.len();
        let Some(subscription) = self.subscriptions.get_mut(key as usize) else { return };
        if subscription.replay.is_some() {
            // It comes to this one in its order, after what was missed.
            return;
        }
        let topic_keys = &self.topic_keys;
        let queue = subscription.queue(lane);
        queue.push(chunk, |channel| topic_keys.get(&channel).copied().unwrap_or(channel));
        let has_excess = queue.excess() > 0;
        self.grow(key, bytes);
        if has_excess || self.is_over_bounds(&self.subscriptions[key as usize]) {
            self.make_room(now, key, Some(from), lane);
        }
        if self.subscriptions[key as usize].wants_pause() {
            self.hold_back(now, key, from);
        }
        self.give_turn(key, lane);
    }

    pub(super) fn enqueue_latest(&mut self, now: Instant, key: SubKey, from: LinkKey, topic: u64, copy: &bytes::Bytes) {
        let Some(subscription) = self.subscriptions.get_mut(key as usize) else { return };
        let before = subscription.latest.bytes();
        // Replacing an older value is what the publisher asked for, not a loss.
        let pushed = subscription.latest.push(topic, copy.clone());
        let after = subscription.latest.bytes();
        self.grow(key, after);
        self.shrink(key, before);
        if pushed == Pushed::Forgot {
            self.count_dropped(now, key, Some(from), 1);
        }
        if self.is_over_bounds(&self.subscriptions[key as usize]) {
            self.make_room(now, key, Some(from), Lane::Latest);
        }
        self.give_turn(key, Lane::Latest);
    }

    #[inline]
    pub(super) fn grow(&mut self, key: SubKey, bytes: usize) {
        let subscription = &self.subscriptions[key as usize];
        self.links[subscription.link.index()].queued_bytes += bytes;
        self.realms[subscription.realm].queued_bytes += bytes;
        self.queued_bytes += bytes;
    }

    #[inline]
    pub(super) fn shrink(&mut self, key: SubKey, bytes: usize) {
        let subscription = &self.subscriptions[key as usize];
        self.links[subscription.link.index()].queued_bytes -= bytes;
        self.realms[subscription.realm].queued_bytes -= bytes;
        self.queued_bytes -= bytes;
    }

    /// Whether some bound in bytes is used up, and this subscription is one of those that have to make room.
    #[inline]
    pub(super) fn is_over_bounds(&self, subscription: &Subscription) -> bool {
        (self.queued_bytes > self.config.queued_bytes_max
            || self.links[subscription.link.index()].queued_bytes > self.config.queued_bytes_per_link_max
            || self.realms[subscription.realm].queued_bytes > self.config.queued_bytes_per_realm_max)
            && self.is_over_its_share(subscription)
    }

    /// Bounds are shared out equally among those who use them, so that who stalls does not starve the others: a link's
    /// and a realm's among their subscriptions, the total among realms. Who is below its share does not make room.
    #[cold]
    pub(super) fn is_over_its_share(&self, subscription: &Subscription) -> bool {
        let (link, realm) = (&self.links[subscription.link.index()], &self.realms[subscription.realm]);
        let (waiting, _) = subscription.waiting();
        let link_max = self.config.queued_bytes_per_link_max;
        let mut realm_max = self.config.queued_bytes_per_realm_max;
        if self.queued_bytes > self.config.queued_bytes_max {
            realm_max = realm_max.min(self.config.queued_bytes_max / self.realms.len());
        }
        let over = |queued: usize, max: usize, sharers: usize| queued > max && waiting > max / sharers.max(1);
        over(link.queued_bytes, link_max, link.subscriptions.len())
            || over(realm.queued_bytes, realm_max, realm.interest.len())
    }

    /// Makes room by the subscription's policy, and then, for the bounds in bytes, by dropping its oldest, the least
    /// important first.
    pub(super) fn make_room(&mut self, now: Instant, key: SubKey, from: Option<LinkKey>, lane: Lane) {
        let mut dropped = 0;
        if lane != Lane::Latest {
            let queue = self.subscriptions[key as usize].queue(lane);
            let before = queue.bytes();
            dropped += queue.drop_excess();
            let freed = before - queue.bytes();
            self.shrink(key, freed);
        }
        while self.is_over_bounds(&self.subscriptions[key as usize]) {
            let subscription = &mut self.subscriptions[key as usize];
            let mut lanes = Lane::ALL.into_iter().rev().filter(|lane| lane.carries_messages());
            let Some(chunk) = lanes.find_map(|lane| subscription.pop(lane, u64::MAX)) else { break };
            dropped += u64::from(chunk.count);
            self.shrink(key, chunk.frames.len());
        }
        if dropped > 0 {
            self.count_dropped(now, key, from, dropped);
        }
    }

    pub(super) fn count_dropped(&mut self, now: Instant, key: SubKey, from: Option<LinkKey>, dropped: u64) {
        self.subscriptions[key as usize].dropped += dropped;
        if let Some(from) = from {
            self.links[from.index()].undelivered += dropped;
        }
        self.stats.messages_dropped += dropped;
        self.drop_report_due.get_or_insert(now + self.config.drop_report_interval);
    }

    #[inline]
    pub(super) fn give_turn(&mut self, key: SubKey, lane: Lane) {
        let subscription = &mut self.subscriptions[key as usize];
        let turn = &mut subscription.in_turn[lane.index()];
        if *turn || subscription.credit <= subscription.sent {
            return;
        }
        *turn = true;
        let link = subscription.link;
        self.links[link.index()].lane(lane).turns.push_back(key);
        self.mark_ready(link);
    }

    #[inline]
    pub(crate) fn mark_ready(&mut self, key: LinkKey) {
        let link = &mut self.links[key.index()];
        if !link.ready {
            link.ready = true;
            self.ready.push(key);
        }
    }

    pub(super) fn handle_credit(&mut self, key: LinkKey, number: u32, total: u64) {
        // A subscription that has just ended may still be given credit.
        let Some(subscription_key) = self.links[key.index()].subscriptions.get(&number).copied() else { return };
        let subscription = &mut self.subscriptions[subscription_key as usize];
        subscription.credit = subscription.credit.max(total);
        for lane in Lane::ALL.into_iter().filter(|lane| lane.carries_messages()) {
            if self.subscriptions[subscription_key as usize].has_waiting(lane) {
                self.give_turn(subscription_key, lane);
            }
        }
    }
}
