//! The relay: composes realms, links, subscriptions and calls, and moves frames between them.

use std::time::Instant;

use macula_wire::{
    Channel, ChannelKind, Fault, Pattern, RealmId, Topic,
    control::{Advertise, Beat, Control, Done, Dropped, Goodbye, Join, Retained, StoredValue, Subscribe, Undelivered},
    frame::{self, Frame, Lane, Outgoing, Pushed},
    hello::Role,
    limits::{BATCH_BYTES_GOAL, CHANNELS_PER_LINK_MAX, HOPS_MAX, QUEUE_MESSAGES_MAX},
};
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;
use smallvec::SmallVec;

use crate::{
    calls::Calls,
    config::RelayConfig,
    link::{Inlet, Link, LinkKey, Outlet, Peer, Violation},
    procedures::Offer,
    publishers::Publishers,
    queue::Chunk,
    realm::Realm,
    retained::Stored,
    run::Run,
    stats::Stats,
    subscription::{SubKey, Subscription},
};

/// One relay.
///
/// Methods come in four groups. *Links*: [`link_opened`](Self::link_opened), [`link_closed`](Self::link_closed).
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
    realms_by_id: FxHashMap<RealmId, usize>,
    pub(crate) subscriptions: Slab<Subscription>,
    pub(crate) offers: Slab<Offer>,
    publishers: Publishers,
    pub(crate) calls: Calls,
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
    drop_report_due: Option<Instant>,
    /// Subscriptions that hold receipts back, and links whose receipts they hold.
    blocking: Vec<SubKey>,
    holding: Vec<LinkKey>,
    pub(crate) stats: Stats,
}

impl Relay {
    /// A relay without links.
    pub fn new(config: RelayConfig) -> Self {
        Self {
            config,
            links: Slab::new(),
            realms: Slab::new(),
            realms_by_id: FxHashMap::default(),
            subscriptions: Slab::new(),
            offers: Slab::new(),
            publishers: Publishers::default(),
            calls: Calls::default(),
            run: Run::default(),
            topic_keys: FxHashMap::default(),
            next_outlet: 1,
            ready: Vec::new(),
            queued_bytes: 0,
            retained_bytes: 0,
            retained_topics: 0,
            desertions: 0,
            drop_report_due: None,
            blocking: Vec::new(),
            holding: Vec::new(),
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
            ..self.stats
        }
    }

    /// A peer's link is closed for breaking the protocol.
    pub fn count_violation(&mut self) {
        self.stats.violations += 1;
    }

    // --- links ---------------------------------------------------------------------------------------------------

    /// A peer's Hello has verified.
    pub fn link_opened(&mut self, peer: Peer) -> LinkKey {
        LinkKey(self.links.insert(Link::new(peer)) as u32)
    }

    /// The link is gone: its subscriptions and offers end, its callers and providers are told.
    pub fn link_closed(&mut self, now: Instant, key: LinkKey) {
        self.flush(now);
        let Some(link) = self.links.get_mut(key.index()) else { return };
        let subscriptions: Vec<SubKey> = link.subscriptions.drain().map(|(_, subscription)| subscription).collect();
        let offers: Vec<usize> = link.offers.drain().map(|(_, offer)| offer).collect();
        let lanes = std::mem::take(&mut link.lanes);
        let realms: Vec<usize> = link.realms.drain().map(|(_, realm)| realm).collect();
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

    // --- control -------------------------------------------------------------------------------------------------

    /// Takes a control message of a peer.
    ///
    /// # Errors
    /// The peer broke the protocol: close the link. A request that is merely refused is answered instead.
    pub fn handle_control(&mut self, now: Instant, key: LinkKey, message: Control) -> Result<(), Violation> {
        // What was published before the request is ahead of it.
        self.flush(now);
        let (id, outcome) = match message {
            Control::Join(join) => (join.id, self.join(key, &join)),
            Control::Subscribe(request) => (request.id, self.subscribe(now, key, &request)?),
            Control::Unsubscribe(request) => {
                if let Some(subscription) = self.links[key.index()].subscriptions.remove(&request.subscription) {
                    self.end_subscription(now, subscription);
                }
                (request.id, Ok(()))
            }
            Control::Advertise(request) => (request.id, self.advertise(key, request)?),
            Control::Withdraw(request) => {
                if let Some(offer) = self.links[key.index()].offers.remove(&request.offer) {
                    self.end_offer(offer);
                }
                (request.id, Ok(()))
            }
            Control::Retained(request) => {
                let done = self.retained_value(key, &request);
                return self.send_control(key, Control::Done(done));
            }
            Control::Ping(beat) => return self.send_control(key, Control::Pong(Beat { token: beat.token })),
            Control::Unknown { kind, id: Some(id) } => {
                (id, Err(Fault::Unavailable(format!("this relay does not know requests of kind {kind}"))))
            }
            Control::Pong(_) | Control::Goodbye(_) | Control::Unknown { .. } | Control::Done(_) => return Ok(()),
            _ => return Err(Violation::Unexpected),
        };
        let done = match outcome {
            Ok(()) => Done::ok(id),
            Err(fault) => Done::failed(id, fault),
        };
        self.send_control(key, Control::Done(done))
    }

    fn join(&mut self, key: LinkKey, join: &Join) -> Result<(), Fault> {
        let link = &self.links[key.index()];
        if !join.proof.verifies(&link.peer.exporter, &link.peer.node, &join.root, &join.name) {
            return Err(Fault::Denied(format!("the proof for realm {} does not verify", join.name)));
        }
        if link.realms.contains_key(&join.slot) {
            return Err(Fault::Conflict(format!("slot {} is in use", join.slot)));
        }
        if link.realms.len() >= self.config.realms_per_link_max {
            return Err(Fault::QuotaExceeded("realms per link".into()));
        }
        let id = RealmId::new(&join.root, &join.name);
        let realm = match self.realms_by_id.get(&id).copied() {
            Some(realm) => realm,
            None if self.realms.len() >= self.config.realms_max && !self.forget_deserted_realm() => {
                return Err(Fault::QuotaExceeded("realms on this relay".into()));
            }
            None => {
                let realm = self.realms.insert(Realm::new(id));
                self.realms_by_id.insert(id, realm);
                realm
            }
        };
        self.realms[realm].members += 1;
        self.links[key.index()].realms.insert(join.slot, realm);
        Ok(())
    }

    /// Gives up the realm that has been without members for longest, of which only stored values are left.
    fn forget_deserted_realm(&mut self) -> bool {
        let deserted = self.realms.iter().filter(|(_, realm)| realm.members == 0);
        let Some((key, _)) = deserted.min_by_key(|(_, realm)| realm.deserted) else { return false };
        let realm = self.realms.remove(key);
        self.realms_by_id.remove(&realm.id);
        self.retained_bytes -= realm.retained.bytes();
        self.retained_topics -= realm.retained.len();
        for stored in realm.retained.into_values() {
            self.retire_outlet(stored.outlet);
        }
        true
    }

    fn realm_of(&self, key: LinkKey, slot: u32) -> Result<usize, Fault> {
        let realm = self.links[key.index()].realms.get(&slot).copied();
        realm.ok_or_else(|| Fault::Denied("the realm was not joined on this link".into()))
    }

    fn subscribe(&mut self, now: Instant, key: LinkKey, request: &Subscribe) -> Result<Result<(), Fault>, Violation> {
        let link = &self.links[key.index()];
        if link.subscriptions.contains_key(&request.subscription) {
            return Err(Violation::Number { what: "subscription", number: request.subscription.into() });
        }
        if !(1..=QUEUE_MESSAGES_MAX).contains(&request.queue_messages) {
            return Ok(Err(Fault::Invalid(format!("a queue of {} messages", request.queue_messages))));
        }
        let realm = match self.realm_of(key, request.slot) {
            Ok(realm) => realm,
            Err(fault) => return Ok(Err(fault)),
        };
        for (count, max, whose) in [
            (link.subscriptions.len(), self.config.subscriptions_per_link_max, "link"),
            (self.realms[realm].interest.len(), self.config.subscriptions_per_realm_max, "realm"),
            (self.subscriptions.len(), self.config.subscriptions_max, "relay"),
        ] {
            if count >= max {
                return Ok(Err(Fault::QuotaExceeded(format!("subscriptions of this {whose}"))));
            }
        }
        let subscription = self.subscriptions.insert(Subscription::new(key, realm, request)) as SubKey;
        self.links[key.index()].subscriptions.insert(request.subscription, subscription);
        self.realms[realm].interest.insert(&request.pattern, subscription);
        if request.retained {
            self.send_retained(now, subscription, &request.pattern);
        }
        Ok(Ok(()))
    }

    fn end_subscription(&mut self, now: Instant, key: SubKey) {
        let subscription = self.subscriptions.remove(key as usize);
        let (bytes, _) = subscription.waiting();
        let realm = &mut self.realms[subscription.realm];
        realm.interest.remove(&subscription.pattern, key);
        realm.queued_bytes -= bytes;
        self.queued_bytes -= bytes;
        let link = &mut self.links[subscription.link.index()];
        link.queued_bytes -= bytes;
        for lane in &mut link.lanes {
            lane.turns.retain(|turn| *turn != key);
        }
        self.blocking.retain(|blocking| *blocking != key);
        self.release_receipts(now);
    }

    fn advertise(&mut self, key: LinkKey, request: Advertise) -> Result<Result<(), Fault>, Violation> {
        let link = &self.links[key.index()];
        if link.offers.contains_key(&request.offer) {
            return Err(Violation::Number { what: "offer", number: request.offer.into() });
        }
        let realm = match self.realm_of(key, request.slot) {
            Ok(realm) => realm,
            Err(fault) => return Ok(Err(fault)),
        };
        if request.procedure.is_reserved() && link.peer.role == Role::Client {
            return Ok(Err(Fault::Denied(format!("{} is a system name; only nodes may offer it", request.procedure))));
        }
        if link.offers.len() >= self.config.offers_per_link_max {
            return Ok(Err(Fault::QuotaExceeded("offers of this link".into())));
        }
        if self.realms[realm].offers >= self.config.offers_per_realm_max {
            return Ok(Err(Fault::QuotaExceeded("offers of this realm".into())));
        }
        if self.offers.len() >= self.config.offers_max {
            return Ok(Err(Fault::QuotaExceeded("offers of this relay".into())));
        }
        let offer = self.offers.insert(Offer {
            link: key,
            realm,
            procedure: request.procedure.clone(),
            in_flight: 0,
            in_flight_max: request.in_flight_max.max(1),
            latency_us: 0,
            metadata: request.metadata,
        });
        self.realms[realm].offers += 1;
        self.realms[realm].procedures.insert(&request.procedure, offer);
        self.links[key.index()].offers.insert(request.offer, offer);
        Ok(Ok(()))
    }

    fn end_offer(&mut self, key: usize) {
        let offer = self.offers.remove(key);
        let realm = &mut self.realms[offer.realm];
        realm.offers -= 1;
        realm.procedures.remove(&offer.procedure, key);
        self.calls.offer_ended(key);
    }

    fn retained_value(&mut self, key: LinkKey, request: &Retained) -> Done {
        match self.realm_of(key, request.slot) {
            Err(fault) => Done::failed(request.id, fault),
            Ok(realm) => {
                let value = self.realms[realm].retained.value(&request.topic).map(|stored| StoredValue {
                    channel: Channel { realm_slot: request.slot, ..stored.channel.clone() }.to_bytes(),
                    frame: stored.frame.to_vec(),
                });
                Done { id: request.id, fault: None, value }
            }
        }
    }

    pub(crate) fn send_control(&mut self, key: LinkKey, message: Control) -> Result<(), Violation> {
        self.links[key.index()].send_control(message)?;
        self.mark_ready(key);
        Ok(())
    }

    /// Tells every peer that this relay is going away.
    pub fn say_goodbye(&mut self, reason: &str) {
        let keys: Vec<LinkKey> = self.links.iter().map(|(key, _)| LinkKey(key as u32)).collect();
        for key in keys {
            // A peer with a full backlog learns of it by the closed link.
            let _ = self.send_control(key, Control::Goodbye(Goodbye { reason: reason.to_owned() }));
        }
    }

    // --- frames --------------------------------------------------------------------------------------------------

    /// Takes one whole frame of a peer's lane.
    ///
    /// # Errors
    /// The peer broke the protocol: close the link.
    #[inline]
    pub fn handle_frame(&mut self, now: Instant, key: LinkKey, lane: Lane, bytes: &[u8]) -> Result<(), Violation> {
        let frame = Frame::parse(bytes)?;
        if let Frame::Message { header, .. } = frame {
            return self.handle_message(now, key, lane, header, bytes);
        }
        self.flush(now);
        match frame {
            Frame::Channel { number, body } => self.handle_channel(key, lane, number, body),
            Frame::Forget { number } => {
                self.take_inlet(key, lane, number);
                Ok(())
            }
            Frame::Call { header, .. } if !lane.carries_messages() => self.handle_call(now, key, lane, header, bytes),
            Frame::Reply { call, outcome } if !lane.carries_messages() => {
                self.handle_reply(now, key, call, outcome);
                Ok(())
            }
            Frame::Cancel { call } => {
                self.handle_cancel(key, call);
                Ok(())
            }
            Frame::Sync { token } => self.handle_sync(key, lane, token),
            Frame::Credit { subscription, total } => {
                self.handle_credit(key, subscription, total);
                Ok(())
            }
            Frame::Unknown { .. } => Ok(()),
            Frame::Batch { .. } => Err(Violation::WrongLane { frame: "batch", lane }),
            Frame::Call { .. } => Err(Violation::WrongLane { frame: "call", lane }),
            Frame::Reply { .. } => Err(Violation::WrongLane { frame: "reply", lane }),
            _ => Err(Violation::WrongLane { frame: "receipt", lane }),
        }
    }

    #[inline]
    fn handle_message(
        &mut self,
        now: Instant,
        key: LinkKey,
        lane: Lane,
        header: frame::Header,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let inlet = self.links[key.index()].lane(lane).inlet(header.channel)?;
        if inlet.channel.kind != ChannelKind::Topic || !lane.carries_messages() {
            return Err(Violation::WrongLane { frame: "message", lane });
        }
        if header.hops >= HOPS_MAX {
            self.stats.messages_looping += 1;
            return Ok(());
        }
        if !self.publishers.accept(inlet.publisher, lane, header.id) {
            self.stats.messages_duplicate += 1;
            return Ok(());
        }
        self.stats.messages_in += 1;
        if inlet.route_version != self.realms[inlet.realm].interest.version() {
            self.refresh_route(now, key, lane, header.channel)?;
        }
        if header.flags & frame::FLAG_RETAIN != 0 {
            self.retain(now, key, lane, header.channel, bytes)?;
        }
        let inlet = self.links[key.index()].lane(lane).inlet(header.channel)?;
        if inlet.route.is_empty() {
            return Ok(());
        }
        let (outlet, topic_key) = (inlet.outlet.number, inlet.topic_key);
        if lane == Lane::Latest {
            let route = inlet.route.clone();
            self.flush(now);
            let copy = self.run.single(bytes, outlet);
            for subscription in &*route {
                self.enqueue_latest(now, *subscription, key, topic_key, &copy);
            }
            return Ok(());
        }
        if !self.run.takes(key, lane, &inlet.route) {
            let route = inlet.route.clone();
            self.flush(now);
            self.run.begin(key, lane, route);
        }
        self.run.push(bytes, outlet);
        Ok(())
    }

    /// Hands the current run over to the queues of those who get it. To be called when no input is at hand.
    #[inline]
    pub fn flush(&mut self, now: Instant) {
        if let Some((run, chunk)) = self.run.end() {
            for subscription in &*run.route {
                self.enqueue(now, *subscription, run.from, run.lane, chunk.clone());
            }
        }
    }

    fn handle_channel(&mut self, key: LinkKey, lane: Lane, number: u64, body: &[u8]) -> Result<(), Violation> {
        let refused = |reason: String| Violation::Channel { number, reason };
        let channel = Channel::from_bytes(body).map_err(|error| refused(error.to_string()))?;
        let index = usize::try_from(number).ok().filter(|index| *index < CHANNELS_PER_LINK_MAX);
        let Some(index) = index else { return Err(Violation::Number { what: "channel", number }) };
        let link = &self.links[key.index()];
        if channel.sender != link.peer.node || channel.epoch != link.peer.epoch {
            return Err(refused("it names another sender than this link's".into()));
        }
        // A host answers for its plugins: it lets none publish here, and names one when it puts a message of it aside.
        if channel.name.is_reserved() && channel.kind == ChannelKind::Topic && link.peer.role == Role::Client {
            return Err(refused(format!("{} is a system name; only nodes may publish to it", channel.name)));
        }
        let realm = self.realm_of(key, channel.realm_slot).map_err(|fault| refused(fault.to_string()))?;
        self.take_inlet(key, lane, number);
        let outlet = self.new_outlet();
        let topic_key = topic_key(&channel.name);
        self.topic_keys.insert(outlet.number, topic_key);
        let publisher = self.publishers.hold(channel.sender, channel.epoch);
        let route = Vec::new().into();
        let inlet = Inlet { channel, realm, publisher, outlet, topic_key, route, route_version: 0 };
        let inlets = &mut self.links[key.index()].lane(lane).inlets;
        if inlets.len() <= index {
            inlets.resize_with(index + 1, || None);
        }
        inlets[index] = Some(Box::new(inlet));
        Ok(())
    }

    fn take_inlet(&mut self, key: LinkKey, lane: Lane, number: u64) {
        let inlets = &mut self.links[key.index()].lane(lane).inlets;
        let inlet = usize::try_from(number).ok().and_then(|index| inlets.get_mut(index)).and_then(Option::take);
        if let Some(inlet) = inlet {
            self.retire(*inlet);
        }
    }

    fn retire(&mut self, inlet: Inlet) {
        self.publishers.release(inlet.publisher, self.config.publishers_remembered_max);
        self.retire_outlet(inlet.outlet);
    }

    fn new_outlet(&mut self) -> Outlet {
        let number = self.next_outlet;
        self.next_outlet += 1;
        Outlet::new(number)
    }

    fn retire_outlet(&mut self, outlet: Outlet) {
        let number = outlet.number;
        self.topic_keys.remove(&number);
        for (key, lane) in outlet.told() {
            let Some(link) = self.links.get_mut(key.index()) else { continue };
            let state = link.lane(lane);
            if state.declared.remove(&number) {
                state.forgets.push(number);
                if lane.carries_messages() && state.wants_tidying() {
                    self.tidy(key, lane);
                }
            }
        }
    }

    /// Takes back what nothing that waits on a lane uses, although the lane has not been drained for long.
    fn tidy(&mut self, key: LinkKey, lane: Lane) {
        let link = &mut self.links[key.index()];
        let mut used = FxHashSet::default();
        for subscription in link.subscriptions.values() {
            self.subscriptions[*subscription as usize].collect_channels(lane, &mut used);
        }
        link.lane(lane).tidy(&used);
        self.mark_ready(key);
    }

    /// Computes where an inlet's messages go, and tells the links on the way what the channel stands for.
    fn refresh_route(&mut self, now: Instant, key: LinkKey, lane: Lane, number: u64) -> Result<(), Violation> {
        self.flush(now);
        let inlet = self.links[key.index()].lane(lane).inlet(number)?;
        let realm = &mut self.realms[inlet.realm];
        inlet.route = realm.route(&inlet.channel.name);
        inlet.route_version = realm.interest.version();
        let (route, channel, outlet) = (inlet.route.clone(), inlet.channel.clone(), inlet.outlet.number);
        let realm = inlet.realm;
        let mut unreached: SmallVec<[SubKey; 4]> = SmallVec::new();
        for subscription in &*route {
            let target = self.subscriptions[*subscription as usize].link;
            match self.declare(target, lane, outlet, &channel, realm) {
                Declared::Now => self.note_told((key, lane, number), target)?,
                Declared::Before => {}
                Declared::NoRoom => unreached.push(*subscription),
            }
        }
        if !unreached.is_empty() {
            self.leave_out(now, (key, lane, number), &route, &unreached)?;
        }
        Ok(())
    }

    /// Notes that a link knows the outlet of an inlet.
    pub(crate) fn note_told(&mut self, inlet: (LinkKey, Lane, u64), target: LinkKey) -> Result<(), Violation> {
        let (key, lane, number) = inlet;
        // Taken out meanwhile, so that the links can be looked at.
        let inlet = self.links[key.index()].lane(lane).inlet(number)?;
        let mut outlet = std::mem::take(&mut inlet.outlet);
        outlet.note_told(target, lane, &self.links);
        self.links[key.index()].lane(lane).inlet(number)?.outlet = outlet;
        Ok(())
    }

    /// Sends an inlet's next message to all but those whose link has no room for its declaration; for them it is
    /// dropped. They are looked at again with each message.
    fn leave_out(
        &mut self,
        now: Instant,
        inlet: (LinkKey, Lane, u64),
        route: &[SubKey],
        unreached: &[SubKey],
    ) -> Result<(), Violation> {
        let (key, lane, number) = inlet;
        for subscription in unreached {
            self.count_dropped(now, *subscription, Some(key), 1);
        }
        let reached = route.iter().copied().filter(|subscription| !unreached.contains(subscription)).collect();
        let inlet = self.links[key.index()].lane(lane).inlet(number)?;
        (inlet.route, inlet.route_version) = (reached, 0);
        Ok(())
    }

    /// Tells a link what a channel number of this relay's stands for, unless it knows.
    pub(crate) fn declare(
        &mut self,
        target: LinkKey,
        lane: Lane,
        outlet: u64,
        channel: &Channel,
        realm: usize,
    ) -> Declared {
        let link = &mut self.links[target.index()];
        if link.lane(lane).declared.contains(&outlet) {
            return Declared::Before;
        }
        // Who receives in a realm has joined it; the number it gave the realm is the one it understands.
        let slot = link.realms.iter().find(|(_, joined)| **joined == realm).map(|(slot, _)| *slot);
        let (Some(realm_slot), true) = (slot, link.lane(lane).takes_declarations()) else { return Declared::NoRoom };
        let channel = Channel { realm_slot, ..channel.clone() };
        let state = link.lane(lane);
        state.declared.insert(outlet);
        frame::put_channel(outlet, &channel.to_bytes(), &mut state.outbox);
        Declared::Now
    }

    // --- queues --------------------------------------------------------------------------------------------------

    #[inline]
    fn enqueue(&mut self, now: Instant, key: SubKey, from: LinkKey, lane: Lane, chunk: Chunk) {
        let bytes = chunk.frames.len();
        let Some(subscription) = self.subscriptions.get_mut(key as usize) else { return };
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

    fn enqueue_latest(&mut self, now: Instant, key: SubKey, from: LinkKey, topic: u64, copy: &bytes::Bytes) {
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
    fn grow(&mut self, key: SubKey, bytes: usize) {
        let subscription = &self.subscriptions[key as usize];
        self.links[subscription.link.index()].queued_bytes += bytes;
        self.realms[subscription.realm].queued_bytes += bytes;
        self.queued_bytes += bytes;
    }

    #[inline]
    fn shrink(&mut self, key: SubKey, bytes: usize) {
        let subscription = &self.subscriptions[key as usize];
        self.links[subscription.link.index()].queued_bytes -= bytes;
        self.realms[subscription.realm].queued_bytes -= bytes;
        self.queued_bytes -= bytes;
    }

    /// Whether some bound in bytes is used up, and this subscription is one of those that have to make room.
    #[inline]
    fn is_over_bounds(&self, subscription: &Subscription) -> bool {
        (self.queued_bytes > self.config.queued_bytes_max
            || self.links[subscription.link.index()].queued_bytes > self.config.queued_bytes_per_link_max
            || self.realms[subscription.realm].queued_bytes > self.config.queued_bytes_per_realm_max)
            && self.is_over_its_share(subscription)
    }

    /// Bounds are shared out equally among those who use them, so that who stalls does not starve the others: a link's
    /// and a realm's among their subscriptions, the total among realms. Who is below its share does not make room.
    #[cold]
    fn is_over_its_share(&self, subscription: &Subscription) -> bool {
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
    fn make_room(&mut self, now: Instant, key: SubKey, from: Option<LinkKey>, lane: Lane) {
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

    fn count_dropped(&mut self, now: Instant, key: SubKey, from: Option<LinkKey>, dropped: u64) {
        self.subscriptions[key as usize].dropped += dropped;
        if let Some(from) = from {
            self.links[from.index()].undelivered += dropped;
        }
        self.stats.messages_dropped += dropped;
        self.drop_report_due.get_or_insert(now + self.config.drop_report_interval);
    }

    #[inline]
    fn give_turn(&mut self, key: SubKey, lane: Lane) {
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

    fn handle_credit(&mut self, key: LinkKey, number: u32, total: u64) {
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

    // --- receipts ------------------------------------------------------------------------------------------------

    fn handle_sync(&mut self, key: LinkKey, lane: Lane, token: u64) -> Result<(), Violation> {
        let link = &mut self.links[key.index()];
        link.check_answer_backlog(self.config.call_bytes_per_link_max)?;
        if link.held_by.is_empty() {
            frame::put_receipt(lane, token, &mut link.lane(Lane::Calls).outbox);
            self.mark_ready(key);
        } else {
            link.held.push_back((lane, token));
        }
        Ok(())
    }

    /// A full `block` subscription makes the publisher wait for its receipts.
    fn hold_back(&mut self, now: Instant, key: SubKey, from: LinkKey) {
        let held_by = &mut self.links[from.index()].held_by;
        if held_by.is_empty() {
            self.holding.push(from);
        }
        if !held_by.contains(&key) {
            held_by.push(key);
        }
        let subscription = &mut self.subscriptions[key as usize];
        if subscription.blocking_since.is_none() {
            subscription.blocking_since = Some(now);
            self.blocking.push(key);
        }
    }

    /// Looks again which subscriptions hold receipts back, and lets go of what nobody holds.
    fn release_receipts(&mut self, now: Instant) {
        let Self { subscriptions, blocking, config, .. } = self;
        blocking.retain(|key| {
            let Some(subscription) = subscriptions.get_mut(*key as usize) else { return false };
            let since = subscription.blocking_since.unwrap_or(now);
            if now.duration_since(since) >= config.block_max {
                subscription.blocked_out = true;
            }
            let holds = subscription.wants_pause();
            if !holds {
                subscription.blocking_since = None;
            }
            holds
        });
        for key in std::mem::take(&mut self.holding) {
            let Some(link) = self.links.get_mut(key.index()) else { continue };
            link.held_by.retain(|subscription| self.blocking.contains(subscription));
            if !link.held_by.is_empty() {
                self.holding.push(key);
                continue;
            }
            while let Some((lane, token)) = link.held.pop_front() {
                frame::put_receipt(lane, token, &mut link.lane(Lane::Calls).outbox);
            }
            self.mark_ready(key);
        }
    }

    // --- retained values -----------------------------------------------------------------------------------------

    fn retain(&mut self, now: Instant, key: LinkKey, lane: Lane, number: u64, bytes: &[u8]) -> Result<(), Violation> {
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

    fn forget_retained(&mut self, realm: usize, topic: &Topic) {
        if let Some(forgotten) = self.realms[realm].retained.forget(topic) {
            self.retained_bytes -= forgotten.frame.len();
            self.retained_topics -= 1;
            self.retire_outlet(forgotten.outlet);
        }
    }

    /// Whether one more value of this size may be stored, after deserted realms have given up theirs if need be.
    fn make_room_for_retained(&mut self, bytes: usize) -> bool {
        loop {
            let fits = self.retained_bytes + bytes <= self.config.retained_bytes_max
                && self.retained_topics < self.config.retained_topics_max;
            if fits || !self.forget_deserted_realm() {
                return fits;
            }
        }
    }

    fn send_retained(&mut self, now: Instant, key: SubKey, pattern: &Pattern) {
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

    // --- output --------------------------------------------------------------------------------------------------

    /// A link with something to send; each is named once until it is drained.
    #[inline]
    pub fn poll_ready(&mut self) -> Option<LinkKey> {
        let key = self.ready.pop()?;
        self.links[key.index()].ready = false;
        Some(key)
    }

    /// The next control message for a link.
    pub fn poll_control(&mut self, key: LinkKey) -> Option<Control> {
        self.links.get_mut(key.index())?.control.pop_front()
    }

    /// Whether a lane of a link has something to send.
    #[inline]
    pub fn has_output(&self, key: LinkKey, lane: Lane) -> bool {
        self.links.get(key.index()).is_some_and(|link| {
            let state = &link.lanes[lane.index()];
            !state.outbox.is_empty() || !state.turns.is_empty()
        })
    }

    /// Adds what a lane has to send, about 64 KiB at a time, to `out`; nothing is added when nothing waits.
    pub fn poll_transmit(&mut self, now: Instant, key: LinkKey, lane: Lane, out: &mut Outgoing) {
        let Some(link) = self.links.get_mut(key.index()) else { return };
        let state = link.lane(lane);
        if !state.outbox.is_empty() {
            out.push(state.outbox.split().freeze());
            state.unsent.clear();
        }
        let mut drained_blocker = false;
        while out.len() < BATCH_BYTES_GOAL {
            let Some(subscription) = self.links[key.index()].lane(lane).turns.pop_front() else { break };
            drained_blocker |= self.serve(subscription, lane, out);
        }
        let state = self.links[key.index()].lane(lane);
        if state.turns.is_empty() && !state.forgets.is_empty() && !self.waits_on(key, lane) {
            for number in std::mem::take(&mut self.links[key.index()].lane(lane).forgets) {
                out.put(|out| frame::put_forget(number, out));
            }
        }
        if drained_blocker {
            self.release_receipts(now);
        }
    }

    /// Whether messages wait that lack credit only.
    fn waits_on(&self, key: LinkKey, lane: Lane) -> bool {
        lane.carries_messages()
            && self.links[key.index()]
                .subscriptions
                .values()
                .any(|sub| self.subscriptions[*sub as usize].has_waiting(lane))
    }

    /// Sends one chunk of a subscription and puts it back in line; whether it held receipts back and may not any more.
    #[inline]
    fn serve(&mut self, key: SubKey, lane: Lane, out: &mut Outgoing) -> bool {
        let subscription = &mut self.subscriptions[key as usize];
        subscription.in_turn[lane.index()] = false;
        let credit = subscription.credit_left();
        if credit == 0 {
            return false;
        }
        let Some(chunk) = subscription.pop(lane, credit) else { return false };
        let number = subscription.number;
        subscription.sent += u64::from(chunk.count);
        let again = subscription.has_waiting(lane);
        let eased = subscription.blocking_since.is_some() && !subscription.wants_pause();
        if subscription.blocked_out && subscription.waiting().1 == 0 {
            subscription.blocked_out = false;
        }
        self.stats.messages_out += u64::from(chunk.count);
        self.shrink(key, chunk.frames.len());
        out.put(|out| frame::put_batch_header(number, chunk.count, chunk.frames.len(), out));
        out.push(chunk.frames);
        if again {
            self.give_turn(key, lane);
        }
        eased
    }

    /// When [`Relay::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let block = self.blocking.iter().filter_map(|key| {
            let since = self.subscriptions.get(*key as usize)?.blocking_since?;
            Some(since + self.config.block_max)
        });
        block.chain(self.drop_report_due).chain(self.calls.sweep_due()).min()
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.drop_report_due.is_some_and(|due| due <= now) {
            self.drop_report_due = None;
            self.report_drops();
        }
        if !self.blocking.is_empty() {
            self.release_receipts(now);
        }
        self.sweep_calls(now);
    }

    fn report_drops(&mut self) {
        let mut reports = Vec::new();
        for (_, subscription) in &mut self.subscriptions {
            if subscription.dropped != subscription.dropped_reported {
                subscription.dropped_reported = subscription.dropped;
                let report = Dropped { subscription: subscription.number, total: subscription.dropped };
                reports.push((subscription.link, Control::Dropped(report)));
            }
        }
        for (key, link) in &mut self.links {
            if link.undelivered != link.undelivered_reported {
                link.undelivered_reported = link.undelivered;
                reports.push((LinkKey(key as u32), Control::Undelivered(Undelivered { total: link.undelivered })));
            }
        }
        for (key, report) in reports {
            // Who does not read control messages is not helped by one more.
            let _ = self.send_control(key, report);
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
            let inlets = link.lanes.iter().flat_map(|lane| lane.inlets.iter().flatten()).count();
            (outlets, held) = (outlets + inlets, held + inlets);
            assert_eq!(link.held_by.is_empty(), link.held.is_empty() && link.held_by.is_empty());
            assert!(link.held_by.iter().all(|subscription| self.blocking.contains(subscription)));
        }
        for (key, realm) in &self.realms {
            assert_eq!(realm.queued_bytes, by_realm[key]);
            assert_eq!(
                realm.members,
                self.links.iter().flat_map(|(_, l)| l.realms.values()).filter(|r| **r == key).count()
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
