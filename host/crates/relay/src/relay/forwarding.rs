//! A frame's way in: messages into runs, channels into inlets, routes computed when interest has changed.

use std::time::Instant;

use macula_wire::{
    Channel, ChannelKind,
    frame::{self, Frame, Lane, Taken},
    hello::Role,
    limits::{CHANNELS_PER_LINK_MAX, HOPS_MAX},
};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::{Declared, Relay, topic_key};
use crate::{
    link::{Inlet, LinkKey, Outlet, Violation},
    recent::Window,
    subscription::SubKey,
};

impl Relay {
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
                self.handle_cancel(now, key, call);
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
    pub(super) fn handle_message(
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
        if !inlet.is_allowed {
            self.stats.messages_denied += 1;
            self.links[key.index()].lane(lane).taken = Taken::NotDenied;
            return Ok(());
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
        if self.window != Window::Closed && lane != Lane::Latest {
            self.keep_recent(now, key, lane, header.channel, bytes)?;
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

    pub(super) fn handle_channel(
        &mut self,
        key: LinkKey,
        lane: Lane,
        number: u64,
        body: &[u8],
    ) -> Result<(), Violation> {
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
        let is_allowed = self.check_channel(key, &channel);
        let inlet = Inlet { channel, realm, publisher, outlet, is_allowed, topic_key, route, route_version: 0 };
        let inlets = &mut self.links[key.index()].lane(lane).inlets;
        if inlets.len() <= index {
            inlets.resize_with(index + 1, || None);
        }
        inlets[index] = Some(Box::new(inlet));
        Ok(())
    }

    pub(super) fn take_inlet(&mut self, key: LinkKey, lane: Lane, number: u64) {
        let inlets = &mut self.links[key.index()].lane(lane).inlets;
        let inlet = usize::try_from(number).ok().and_then(|index| inlets.get_mut(index)).and_then(Option::take);
        if let Some(inlet) = inlet {
            self.retire(*inlet);
        }
    }

    pub(super) fn retire(&mut self, inlet: Inlet) {
        self.publishers.release(inlet.publisher, self.config.publishers_remembered_max);
        self.retire_outlet(inlet.outlet);
    }

    pub(super) fn new_outlet(&mut self) -> Outlet {
        let number = self.next_outlet;
        self.next_outlet += 1;
        Outlet::new(number)
    }

    pub(super) fn retire_outlet(&mut self, outlet: Outlet) {
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
    pub(super) fn tidy(&mut self, key: LinkKey, lane: Lane) {
        let link = &mut self.links[key.index()];
        let mut used = FxHashSet::default();
        for subscription in link.subscriptions.values() {
            self.subscriptions[*subscription as usize].collect_channels(lane, &mut used);
        }
        link.lane(lane).tidy(&used);
        self.mark_ready(key);
    }

    /// Computes where an inlet's messages go, and tells the links on the way what the channel stands for.
    pub(super) fn refresh_route(
        &mut self,
        now: Instant,
        key: LinkKey,
        lane: Lane,
        number: u64,
    ) -> Result<(), Violation> {
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
    pub(super) fn leave_out(
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
        let slot = link.slot_of(realm);
        let (Some(realm_slot), true) = (slot, link.lane(lane).takes_declarations()) else { return Declared::NoRoom };
        let channel = Channel { realm_slot, ..channel.clone() };
        let state = link.lane(lane);
        state.declared.insert(outlet);
        frame::put_channel(outlet, &channel.to_bytes(), &mut state.outbox);
        Declared::Now
    }
}
