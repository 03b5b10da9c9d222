//! What peers may do: tables of permissions held against what they ask, and what ends when a table changes.
//!
//! A channel is looked up in the table when it is declared and when the table changes, never for a message.

use std::{sync::Arc, time::Instant};

use macula_auth::{Permissions, may_speak_for};
use macula_wire::{
    Channel, ChannelKind, Fault, NodeId, Operation, Pattern, RealmId, Topic,
    control::{Control, Ended, EndedWhat, NamedOperation, Refused},
};

use crate::{
    Relay,
    link::{LinkKey, Membership},
    realm::Realm,
};

/// Denials that wait to be taken; when there are more, the oldest are dropped (and have been counted).
const DENIALS_MAX: usize = 256;

/// Something that a peer had no right to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The peer.
    pub node: NodeId,
    /// Where.
    pub realm: RealmId,
    /// What.
    pub operation: Operation,
    /// On which name or pattern.
    pub name: String,
}

impl Relay {
    /// Lets a peer into a realm, under its number for it, with these permissions.
    ///
    /// # Errors
    /// What the peer is told: the number is in use, or a bound is reached. Nothing has changed then.
    pub fn admit(
        &mut self,
        now: Instant,
        key: LinkKey,
        slot: u32,
        id: RealmId,
        permissions: Arc<Permissions>,
    ) -> Result<(), Fault> {
        self.flush(now);
        self.open_window(now);
        let link = &self.links[key.index()];
        if link.realms.contains_key(&slot) {
            return Err(Fault::Conflict(format!("slot {slot} is in use")));
        }
        if link.realms.len() >= self.config.realms_per_link_max {
            return Err(Fault::QuotaExceeded("realms per link".into()));
        }
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
        self.links[key.index()].realms.insert(slot, Membership { realm, permissions, is_suspended: false });
        Ok(())
    }

    /// Puts new permissions of a peer in force: its channels open or close, and of its subscriptions and offers those
    /// end that are not allowed any more. The peer is told which.
    pub fn set_permissions(&mut self, now: Instant, key: LinkKey, slot: u32, permissions: Arc<Permissions>) {
        self.flush(now);
        let Some(link) = self.links.get_mut(key.index()) else { return };
        let Some(joined) = link.realms.get_mut(&slot) else { return };
        joined.permissions = permissions;
        let permissions = Arc::clone(&joined.permissions);
        let node = link.peer.node;
        let mut closed = Vec::new();
        for inlet in link.lanes.iter_mut().flat_map(|lane| lane.inlets.iter_mut().flatten()) {
            if inlet.channel.realm_slot == slot {
                let is_allowed = match operation_of(inlet.channel.kind) {
                    Operation::Publish => may_publish(&permissions, &node, &inlet.channel.name),
                    operation => permissions.allows(operation, &inlet.channel.name),
                };
                let was_allowed = std::mem::replace(&mut inlet.is_allowed, is_allowed);
                if was_allowed && !is_allowed {
                    closed.push(inlet.channel.clone());
                }
            }
        }
        for channel in closed {
            // Denied by the new table: counted, and the peer is told.
            self.check_channel(key, &channel);
        }
        self.end_subscriptions(now, key, slot, &permissions);
        self.end_offers(now, key, slot, &permissions);
        self.take_back_denied_calls(key);
        self.end_passages(key, slot, &permissions);
    }

    fn end_subscriptions(&mut self, now: Instant, key: LinkKey, slot: u32, permissions: &Permissions) {
        let lost: Vec<(u32, Pattern)> = self.links[key.index()]
            .subscriptions
            .iter()
            .map(|(number, subscription)| (number, &self.subscriptions[*subscription as usize]))
            .filter(|(_, own)| own.slot == slot && !permissions.covers(Operation::Subscribe, &own.pattern))
            .map(|(number, subscription)| (*number, subscription.pattern.clone()))
            .collect();
        for (number, pattern) in lost {
            if let Some(subscription) = self.links[key.index()].subscriptions.remove(&number) {
                self.end_subscription(now, subscription);
            }
            self.tell_end(key, EndedWhat::Subscription(number), Operation::Subscribe, &pattern);
        }
    }

    fn end_offers(&mut self, now: Instant, key: LinkKey, slot: u32, permissions: &Permissions) {
        let node = self.links[key.index()].peer.node;
        let lost: Vec<(u32, Topic)> = self.links[key.index()]
            .offers
            .iter()
            .map(|(number, offer)| (number, &self.offers[*offer]))
            .filter(|(_, own)| own.slot == slot && !may_offer(permissions, &node, &own.procedure))
            .map(|(number, offer)| (*number, offer.procedure.clone()))
            .collect();
        for (number, procedure) in lost {
            if let Some(offer) = self.links[key.index()].offers.remove(&number) {
                self.take_back_offer(now, offer);
            }
            self.tell_end(key, EndedWhat::Offer(number), Operation::Advertise, &procedure);
        }
    }

    fn tell_end(&mut self, key: LinkKey, what: EndedWhat, operation: Operation, name: &str) {
        let fault = Fault::Denied(format!("{operation} {name}"));
        // Who does not read control messages finds out when it asks.
        let _ = self.send_control(key, Control::Ended(Ended { what, fault }));
    }

    /// A peer's rights in a realm have expired, and it gets a moment to renew them: nothing is given to it meanwhile, and
    /// nothing should be taken from it ([`Relay::is_suspended`]). Nothing is lost.
    pub fn suspend(&mut self, key: LinkKey, slot: u32) {
        let Some(link) = self.links.get_mut(key.index()) else { return };
        if let Some(joined) = link.realms.get_mut(&slot).filter(|joined| !joined.is_suspended) {
            joined.is_suspended = true;
            link.suspended += 1;
        }
    }

    /// The moment is over: the peer has renewed its rights, or lost them.
    pub fn resume(&mut self, key: LinkKey, slot: u32) {
        let Some(link) = self.links.get_mut(key.index()) else { return };
        if let Some(joined) = link.realms.get_mut(&slot).filter(|joined| joined.is_suspended) {
            joined.is_suspended = false;
            link.suspended -= 1;
            self.mark_ready(key);
        }
    }

    /// Whether frames of this peer should stay where they are, unread, for the moment.
    #[inline]
    pub fn is_suspended(&self, key: LinkKey) -> bool {
        self.links.get(key.index()).is_some_and(|link| link.is_suspended())
    }

    /// The realm of a peer's number for it.
    pub fn realm_id(&self, key: LinkKey, slot: u32) -> Option<RealmId> {
        let joined = self.links.get(key.index())?.realms.get(&slot)?;
        Some(self.realms[joined.realm].id)
    }

    /// The next denial, for the audit.
    pub fn poll_denial(&mut self) -> Option<Denial> {
        self.denials.pop_front()
    }

    /// Whether the right to every name of a pattern is there; a pattern is never narrowed to what is.
    pub(crate) fn check_pattern(
        &mut self,
        key: LinkKey,
        slot: u32,
        operation: Operation,
        pattern: &Pattern,
    ) -> Result<(), Fault> {
        let is_allowed = self.permissions(key, slot).is_some_and(|own| own.covers(operation, pattern));
        if is_allowed { Ok(()) } else { Err(self.deny(key, slot, operation, pattern)) }
    }

    /// Whether the right to a name is there.
    pub(crate) fn check_name(
        &mut self,
        key: LinkKey,
        slot: u32,
        operation: Operation,
        name: &Topic,
    ) -> Result<(), Fault> {
        let node = self.links[key.index()].peer.node;
        let is_allowed = self.permissions(key, slot).is_some_and(|own| match operation {
            Operation::Advertise => may_offer(own, &node, name),
            Operation::Publish => may_publish(own, &node, name),
            operation => own.allows(operation, name),
        });
        if is_allowed { Ok(()) } else { Err(self.deny(key, slot, operation, name)) }
    }

    /// Whether a channel that a peer declares may be used; of a topic, the peer is told when not.
    pub(crate) fn check_channel(&mut self, key: LinkKey, channel: &Channel) -> bool {
        let (slot, operation) = (channel.realm_slot, operation_of(channel.kind));
        let is_allowed = self.check_name(key, slot, operation, &channel.name).is_ok();
        if !is_allowed && operation == Operation::Publish {
            let refused = Refused { slot, operation: NamedOperation(operation), name: channel.name.clone() };
            // Who does not read control messages is not helped by one more.
            let _ = self.send_control(key, Control::Refused(refused));
        }
        is_allowed
    }

    fn permissions(&self, key: LinkKey, slot: u32) -> Option<&Permissions> {
        self.links[key.index()].realms.get(&slot).map(|joined| &*joined.permissions)
    }

    /// Counts and notes a denial; the fault says what was missing and nothing of what is there.
    fn deny(&mut self, key: LinkKey, slot: u32, operation: Operation, name: &str) -> Fault {
        self.stats.denied += 1;
        if let Some(realm) = self.realm_id(key, slot) {
            if self.denials.len() >= DENIALS_MAX {
                self.denials.pop_front();
            }
            let node = self.links[key.index()].peer.node;
            self.denials.push_back(Denial { node, realm, operation, name: name.to_owned() });
        }
        Fault::Denied(format!("{operation} {name}"))
    }
}

fn operation_of(kind: ChannelKind) -> Operation {
    match kind {
        ChannelKind::Procedure => Operation::Call,
        _ => Operation::Publish,
    }
}

/// What nodes answer for themselves begins with this and the node's id.
const ADMIN_PREFIX: &str = "_mesh.admin.";

fn may_publish(permissions: &Permissions, node: &NodeId, topic: &Topic) -> bool {
    permissions.allows(Operation::Publish, topic) && may_speak_for(node, topic)
}

/// A node answers for itself under its own id, whatever else it may do, and under nobody else's.
fn may_offer(permissions: &Permissions, node: &NodeId, procedure: &Topic) -> bool {
    let admin = procedure.as_str().strip_prefix(ADMIN_PREFIX).and_then(|rest| rest.split('.').next());
    match admin.and_then(|name| name.parse::<NodeId>().ok()) {
        Some(named) => named == *node,
        None => permissions.allows(Operation::Advertise, procedure),
    }
}
