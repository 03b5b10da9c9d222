//! The relay: composes realms, links, subscriptions and calls, and moves frames between them.

mod forwarding;
mod output;
mod queues;
mod receipts;
mod requests;
mod resuming;
mod retaining;

use std::{collections::VecDeque, time::Instant};

pub(crate) use resuming::Unreceipted;

use macula_wire::RealmId;
#[cfg(test)]
use macula_wire::frame::Lane;
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::{
    calls::Calls,
    config::RelayConfig,
    contents::Passages,
    link::{Link, LinkKey, Peer},
    procedures::Offer,
    publishers::Publishers,
    realm::Realm,
    recent::Window,
    rights::Denial,
    run::Run,
    stats::Stats,
    subscription::{SubKey, Subscription},
};

/// One relay.
///
/// Methods come in five groups. *Links*: [`link_opened`](Self::link_opened), [`link_closed`](Self::link_closed).
/// *Rights*: [`admit`](Self::admit), [`set_permissions`](Self::set_permissions), [`suspend`](Self::suspend).
/// *Input*: [`handle_control`](Self::handle_control), [`handle_frame`](Self::handle_frame) and, when no input is at
/// hand, [`flush`](Self::flush); [`handle_timeout`](Self::handle_timeout). *Output*, to be drained after every input:
/// [`poll_ready`](Self::poll_ready) names links with something to send, [`poll_control`](Self::poll_control) and
/// [`poll_transmit`](Self::poll_transmit) give it out, [`poll_timeout`](Self::poll_timeout) says when to come back.
/// *Getters*: [`stats`](Self::stats).
#[derive(Debug)]
pub struct Relay {
    pub(crate) config: RelayConfig,
    pub(crate) links: Slab<Link>,
    pub(crate) realms: Slab<Realm>,
    pub(crate) realms_by_id: FxHashMap<RealmId, usize>,
    pub(crate) subscriptions: Slab<Subscription>,
    pub(crate) offers: Slab<Offer>,
    publishers: Publishers,
    pub(crate) calls: Calls,
    pub(crate) passages: Passages,
    pub(crate) contents_provided: usize,
    run: Run,
    /// Topic of each channel number of this relay's, for subscriptions that keep the newest message of each.
    topic_keys: FxHashMap<u64, u64>,
    next_outlet: u64,
    ready: Vec<LinkKey>,
    queued_bytes: usize,
    retained_bytes: usize,
    retained_topics: usize,
    /// Counts how often a realm lost its last member.
    desertions: u64,
    /// Whether messages are kept for subscriptions that come back, and bytes of those in all.
    window: Window,
    /// Until then receipts wait for which there is no room; only in the window.
    promises_until: Option<Instant>,
    recent_bytes: usize,
    /// Subscriptions that are still being given what they have missed.
    replaying: Vec<SubKey>,
    drop_report_due: Option<Instant>,
    /// Subscriptions that hold receipts back, and links whose receipts they hold.
    blocking: Vec<SubKey>,
    holding: Vec<LinkKey>,
    pub(crate) denials: VecDeque<Denial>,
    pub(crate) stats: Stats,
}

impl Relay {
    /// A relay without links.
    pub fn new(config: RelayConfig) -> Self {
        Self {
            links: Slab::new(),
            realms: Slab::new(),
            realms_by_id: FxHashMap::default(),
            subscriptions: Slab::new(),
            offers: Slab::new(),
            publishers: Publishers::default(),
            calls: Calls::default(),
            passages: Passages::default(),
            contents_provided: 0,
            run: Run::default(),
            topic_keys: FxHashMap::default(),
            next_outlet: 1,
            ready: Vec::new(),
            queued_bytes: 0,
            retained_bytes: 0,
            retained_topics: 0,
            desertions: 0,
            window: if config.resume_window.is_zero() { Window::Closed } else { Window::NotYet },
            promises_until: None,
            recent_bytes: 0,
            replaying: Vec::new(),
            config,
            drop_report_due: None,
            blocking: Vec::new(),
            holding: Vec::new(),
            denials: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Counters and gauges as they are now.
    pub fn stats(&self) -> Stats {
        Stats {
            links: self.links.len() as u64,
            subscriptions: self.subscriptions.len() as u64,
            offers: self.offers.len() as u64,
            realms: self.realms.len() as u64,
            queued_bytes: self.queued_bytes as u64,
            calls_pending: self.calls.len() as u64,
            contents: self.contents_provided as u64,
            ..self.stats
        }
    }

    /// A peer's link is closed for breaking the protocol.
    pub fn count_violation(&mut self) {
        self.stats.violations += 1;
    }

    /// A peer's Hello has verified.
    pub fn link_opened(&mut self, peer: Peer) -> LinkKey {
        LinkKey(self.links.insert(Link::new(peer)) as u32)
    }

    /// The link is gone: its subscriptions and offers end, its callers and providers are told.
    pub fn link_closed(&mut self, now: Instant, key: LinkKey) {
        self.flush(now);
        if self.links.contains(key.index()) {
            self.end_contents_of(key);
        }
        let Some(link) = self.links.get_mut(key.index()) else { return };
        let subscriptions: Vec<SubKey> = link.subscriptions.drain().map(|(_, subscription)| subscription).collect();
        let offers: Vec<usize> = link.offers.drain().map(|(_, offer)| offer).collect();
        let lanes = std::mem::take(&mut link.lanes);
        let realms: Vec<usize> = link.realms.drain().map(|(_, joined)| joined.realm).collect();
        for subscription in subscriptions {
            self.end_subscription(now, subscription);
        }
        for offer in offers {
            self.end_offer(offer);
        }
        self.end_calls_of(now, key, &lanes);
        for lane in lanes {
            for inlet in lane.inlets.into_iter().flatten() {
                self.retire(*inlet);
            }
        }
        self.links.remove(key.index());
        self.ready.retain(|ready| *ready != key);
        self.holding.retain(|holding| *holding != key);
        for realm in realms {
            self.leave(realm);
        }
    }

    fn leave(&mut self, key: usize) {
        let realm = &mut self.realms[key];
        realm.members -= 1;
        if realm.members == 0 {
            self.desertions += 1;
            realm.deserted = self.desertions;
        }
        if realm.is_unused() {
            let realm = self.realms.remove(key);
            self.realms_by_id.remove(&realm.id);
        }
    }
}

/// Whether a link knows a channel number of this relay's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declared {
    /// It was told just now.
    Now,
    /// It knew.
    Before,
    /// Too much waits for it that it does not read.
    NoRoom,
}

/// Tells topics apart by 64 bits; two that share them would replace one another for `latest` subscribers only.
fn topic_key(topic: &str) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
    let mut hasher = BuildHasherDefault::<std::hash::DefaultHasher>::default().build_hasher();
    hasher.write(topic.as_bytes());
    hasher.finish()
}

#[cfg(test)]
impl Relay {
    /// Checks every book against what it is about.
    pub(crate) fn assert_consistent(&self) {
        assert!(self.run.is_empty(), "nothing is left half done");
        self.assert_contents_consistent();
        let mut by_link = vec![0; self.links.capacity().max(1)];
        let mut by_realm = vec![0; self.realms.capacity().max(1)];
        for (key, subscription) in &self.subscriptions {
            let (bytes, _) = subscription.waiting();
            by_link[subscription.link.index()] += bytes;
            by_realm[subscription.realm] += bytes;
            let link = &self.links[subscription.link.index()];
            assert_eq!(link.subscriptions[&subscription.number] as usize, key);
            for lane in Lane::ALL.into_iter().filter(|lane| lane.carries_messages()) {
                let waits = subscription.has_waiting(lane) && subscription.credit_left() > 0;
                let in_turn = link.lanes[lane.index()].turns.contains(&(key as SubKey));
                assert_eq!(in_turn, subscription.in_turn[lane.index()]);
                assert!(in_turn || !waits, "what may be sent stands in line");
            }
        }
        let mut outlets = 0;
        let mut held = 0;
        for (key, link) in &self.links {
            assert_eq!(link.queued_bytes, by_link[key]);
            assert_eq!(link.suspended, link.realms.values().filter(|joined| joined.is_suspended).count());
            let inlets = link.lanes.iter().flat_map(|lane| lane.inlets.iter().flatten()).count();
            (outlets, held) = (outlets + inlets, held + inlets);
            assert!(link.held.is_empty() || !link.held_by.is_empty() || link.is_held_by_window);
            assert!(link.held_by.iter().all(|subscription| self.blocking.contains(subscription)));
        }
        for (key, realm) in &self.realms {
            assert_eq!(realm.queued_bytes, by_realm[key]);
            assert_eq!(
                realm.members,
                self.links.iter().flat_map(|(_, l)| l.realms.values()).filter(|joined| joined.realm == key).count()
            );
            assert!(!realm.is_unused());
            assert_eq!(realm.offers, self.offers.iter().filter(|(_, offer)| offer.realm == key).count());
            outlets += realm.retained.len();
        }
        let retained = |of: fn(&Realm) -> usize| self.realms.iter().map(|(_, realm)| of(realm)).sum::<usize>();
        assert_eq!(self.retained_bytes, retained(|realm| realm.retained.bytes()));
        assert_eq!(self.retained_topics, retained(|realm| realm.retained.len()));
        assert_eq!(self.topic_keys.len(), outlets);
        assert_eq!(self.publishers.held(), held);
        assert_eq!(self.recent_bytes, retained(|realm| realm.recent.bytes()));
        let replaying = self.subscriptions.iter().filter(|(_, subscription)| subscription.replay.is_some()).count();
        assert_eq!(self.replaying.len(), replaying);
        assert_eq!(self.realms.len(), self.realms_by_id.len());
        assert_eq!(self.queued_bytes, by_link.iter().sum::<usize>());
        assert!(self.blocking.iter().all(|key| self.subscriptions.contains(*key as usize)));
        self.assert_calls_consistent();
        for (_, realm) in self.realms.iter().filter(|(_, realm)| realm.members == 0) {
            assert_eq!((realm.interest.len(), realm.offers, realm.calls), (0, 0, 0));
        }
    }

    /// Bytes that a link costs beside the messages that wait for it.
    pub(crate) fn overhead_bytes(&self, key: LinkKey) -> usize {
        let lanes = self.links[key.index()].lanes.iter();
        lanes.map(|lane| lane.outbox.len() + 8 * (lane.forgets.len() + lane.declared.len())).sum()
    }

    /// How many notes of “this link was told” there are.
    pub(crate) fn told_entries(&self) -> usize {
        let lanes = self.links.iter().flat_map(|(_, link)| link.lanes.iter());
        let inlets = lanes.flat_map(|lane| lane.inlets.iter().flatten()).map(|inlet| inlet.outlet.told_entries());
        let stored = self.realms.iter().map(|(_, realm)| realm.retained.told_entries());
        inlets.chain(stored).sum()
    }
}
