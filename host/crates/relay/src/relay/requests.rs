//! What peers ask for on the control stream: realms, subscriptions, offers, last values.

use std::time::Instant;

use macula_wire::{
    Channel, Fault, Operation,
    control::{Advertise, Beat, Control, Done, Goodbye, Retained, StoredValue, Subscribe},
    hello::Role,
    limits::QUEUE_MESSAGES_MAX,
};

use super::Relay;
use crate::{
    link::{LinkKey, Violation},
    procedures::Offer,
    subscription::{SubKey, Subscription},
};

impl Relay {
    /// Takes a control message of a peer. Those about rights are not for this core: they are answered by whoever keeps
    /// the proofs, with [`Relay::admit`] and [`Relay::answer`].
    ///
    /// # Errors
    /// The peer broke the protocol: close the link. A request that is merely refused is answered instead.
    pub fn handle_control(&mut self, now: Instant, key: LinkKey, message: Control) -> Result<(), Violation> {
        // What was published before the request is ahead of it.
        self.flush(now);
        self.open_window(now);
        let (id, outcome) = match message {
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
                    self.take_back_offer(now, offer);
                }
                (request.id, Ok(()))
            }
            Control::Retained(request) => {
                let done = self.retained_value(key, &request);
                return self.send_control(key, Control::Done(done));
            }
            Control::Provide(request) => (request.id, self.provide(key, &request)),
            Control::Unprovide(request) => {
                self.unprovide(key, request);
                return Ok(());
            }
            Control::Find(request) => {
                let done = self.find(key, &request);
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

    /// Gives up the realm that has been without members for longest, of which only stored values are left.
    pub(crate) fn forget_deserted_realm(&mut self) -> bool {
        let deserted = self.realms.iter().filter(|(_, realm)| realm.members == 0);
        let Some((key, _)) = deserted.min_by_key(|(_, realm)| realm.deserted) else { return false };
        let realm = self.realms.remove(key);
        self.realms_by_id.remove(&realm.id);
        self.retained_bytes -= realm.retained.bytes();
        self.retained_topics -= realm.retained.len();
        self.recent_bytes -= realm.recent.bytes();
        for stored in realm.retained.into_values() {
            self.retire_outlet(stored.outlet);
        }
        true
    }

    /// The realm in which a peer asks for something.
    pub(crate) fn realm_of(&self, key: LinkKey, slot: u32) -> Result<usize, Fault> {
        match self.links[key.index()].realms.get(&slot) {
            None => Err(Fault::Denied("the realm was not joined on this link".into())),
            // Whether it may is known when its rights have been renewed, or not.
            Some(joined) if joined.is_suspended => {
                Err(Fault::Unavailable("this node's rights in the realm have expired a moment ago".into()))
            }
            Some(joined) => Ok(joined.realm),
        }
    }

    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        key: LinkKey,
        request: &Subscribe,
    ) -> Result<Result<(), Fault>, Violation> {
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
        if let Err(fault) = self.check_pattern(key, request.slot, Operation::Subscribe, &request.pattern) {
            return Ok(Err(fault));
        }
        let link = &self.links[key.index()];
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
        if request.resumed {
            self.begin_replay(now, subscription);
        }
        Ok(Ok(()))
    }

    pub(crate) fn end_subscription(&mut self, now: Instant, key: SubKey) {
        let subscription = self.subscriptions.remove(key as usize);
        let (bytes, messages) = subscription.waiting();
        self.stats.messages_abandoned += messages as u64;
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
        self.replaying.retain(|replaying| *replaying != key);
        self.release_receipts(now);
    }

    pub(super) fn advertise(&mut self, key: LinkKey, request: Advertise) -> Result<Result<(), Fault>, Violation> {
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
        if let Err(fault) = self.check_name(key, request.slot, Operation::Advertise, &request.procedure) {
            return Ok(Err(fault));
        }
        let link = &self.links[key.index()];
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
            slot: request.slot,
            procedure: request.procedure.clone(),
            in_flight: 0,
            in_flight_max: request.in_flight_max.max(1),
            latency_us: 0,
            unanswered: None,
            metadata: request.metadata,
        });
        self.realms[realm].offers += 1;
        self.realms[realm].procedures.insert(&request.procedure, offer);
        self.links[key.index()].offers.insert(request.offer, offer);
        Ok(Ok(()))
    }

    pub(crate) fn end_offer(&mut self, key: usize) {
        self.set_unanswered(key, None);
        let offer = self.offers.remove(key);
        let realm = &mut self.realms[offer.realm];
        realm.offers -= 1;
        realm.procedures.remove(&offer.procedure, key);
        self.calls.offer_ended(key);
    }

    pub(super) fn retained_value(&mut self, key: LinkKey, request: &Retained) -> Done {
        let readable = self.realm_of(key, request.slot).and_then(|realm| {
            self.check_name(key, request.slot, Operation::Subscribe, &request.topic)?;
            Ok(realm)
        });
        match readable {
            Err(fault) => Done::failed(request.id, fault),
            Ok(realm) => {
                let value = self.realms[realm].retained.value(&request.topic).map(|stored| StoredValue {
                    channel: Channel { realm_slot: request.slot, ..stored.channel.clone() }.to_bytes(),
                    frame: stored.frame.to_vec(),
                });
                Done { value, ..Done::ok(request.id) }
            }
        }
    }

    /// Answers a request that was not for this core.
    ///
    /// # Errors
    /// The peer does not read its answers: close the link.
    pub fn answer(&mut self, key: LinkKey, done: Done) -> Result<(), Violation> {
        self.send_control(key, Control::Done(done))
    }

    /// Queues a control message for a peer.
    ///
    /// # Errors
    /// The peer does not read: close the link.
    pub fn send_control(&mut self, key: LinkKey, message: Control) -> Result<(), Violation> {
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
}
