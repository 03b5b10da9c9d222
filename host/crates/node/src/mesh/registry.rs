//! Everything that has to be said again on a new link: subscriptions and offers; and requests that wait for an answer.
//!
//! A subscription or an offer *stands* from when its owner makes it until its owner ends it, or the right to it is revoked. In
//! between it may be out of force: its right has lapsed, or a relay has ended or refused it. Then it waits, is counted
//! ([`Registry::out_of_force`]), and is asked for again when the right is renewed, now and then, and on each new link. Each
//! time it gets another number, so that what is still said of the one before means nothing.

use std::{collections::BTreeSet, sync::Arc};

use macula_wire::{
    Fault, Mcid, NodeId, Pattern, RealmId, Topic,
    control::{
        self, CONTENTS_PER_MESSAGE_MAX, Control, Done, Ended, EndedWhat, Find, Join, Proof, Provide, StoredValue,
        Unprovide, Unsubscribe, Withdraw, portions,
    },
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::{
    offer::{Advertise, IncomingCall, OfferState},
    outbox::REALM_SLOT,
    subscription::{SubscriptionOptions, SubscriptionState},
};

/// Where control messages are queued while a link is up.
pub(super) type ControlSender = mpsc::Sender<Control>;

/// Control messages that may wait for a relay: everything that is said again on a new link by a node that has as much as a
/// relay takes, several times over. Who takes back subscriptions and offers without waiting for an answer can fill it when
/// the relay does not read; then the link is given up, and the next one is told what is still wanted.
pub(super) const CONTROL_QUEUE_MAX: usize = 16_384;

type Waiting<T> = oneshot::Receiver<Result<T, Fault>>;

/// A new offer: its state, the calls that come for it, and how the relay took it.
type NewOffer = (Arc<OfferState>, mpsc::Receiver<IncomingCall>, Waiting<()>);

#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    link: Option<ControlSender>,
    subscriptions: FxHashMap<u32, Entry<SubscriptionState>>,
    offers: FxHashMap<u32, Entry<OfferState>>,
    procedures: FxHashMap<Topic, u32>,
    /// What this node provides.
    contents: BTreeSet<Mcid>,
    requests: FxHashMap<u64, Request>,
    next_number: u32,
    next_request: u64,
    /// The last request of those said again on a new link, and who waits for its answer.
    saying: Option<(u64, oneshot::Sender<()>)>,
}

#[derive(Debug)]
struct Entry<T> {
    state: Arc<T>,
    /// Told how the first try ended; gone afterwards.
    first: Option<oneshot::Sender<Result<(), Fault>>>,
    force: Force,
}

/// Whether the relay has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Force {
    /// It does, or has been asked, or will be on the next link.
    Asked,
    /// It has ended or refused it.
    Refused,
    /// Nobody may ask: the right has lapsed.
    Lapsed,
}

/// What this node's rights say of something that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It is allowed.
    Allowed,
    /// It was, until the right expired; that may be renewed.
    Lapsed,
    /// It is not.
    Lost,
}

/// What stands and is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutOfForce {
    /// Subscriptions.
    pub subscriptions: usize,
    /// Offers.
    pub offers: usize,
}

impl<T> Entry<T> {
    fn new(state: &Arc<T>, first: oneshot::Sender<Result<(), Fault>>) -> Self {
        Self { state: Arc::clone(state), first: Some(first), force: Force::Asked }
    }

    /// The relay has answered; who waits for the first answer.
    fn answered(&mut self, outcome: &Result<(), Fault>) -> Option<oneshot::Sender<Result<(), Fault>>> {
        if outcome.is_err() {
            self.refused();
        }
        self.first.take()
    }

    /// The relay does not have it. What has lapsed meanwhile stays so: it is not asked for.
    fn refused(&mut self) {
        if self.force == Force::Asked {
            self.force = Force::Refused;
        }
    }
}

/// What a subscription was on the link before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// In force: a relay that has just started gives it what it has missed.
    InForce,
    /// Not there, or not in force.
    New,
}

/// Subscriptions and offers of one handle: half of what its queue for the relay takes, which they share with proofs, contents and
/// requests.
pub(super) const ENTRIES_MAX: usize = CONTROL_QUEUE_MAX / 2;

#[derive(Debug)]
enum Request {
    Subscription(u32),
    Offer(u32),
    Join(oneshot::Sender<Result<(), Fault>>),
    Retained(oneshot::Sender<Result<Option<StoredValue>, Fault>>),
    Show(oneshot::Sender<Result<Option<Proof>, Fault>>),
    Revoke(oneshot::Sender<Result<(), Fault>>),
    Find(oneshot::Sender<Result<Vec<NodeId>, Fault>>),
    Provide,
    Present,
    Ended,
}

impl State {
    fn request(&mut self, request: Request) -> u64 {
        self.next_request += 1;
        self.requests.insert(self.next_request, request);
        self.next_request
    }

    fn send(&mut self, message: Control) {
        let Some(link) = &self.link else { return };
        // The link may be gone at this moment; everything is said again on the next.
        if let Err(TrySendError::Full(_)) = link.try_send(message) {
            // Its writer ends with the queue, and the link with it.
            self.link = None;
        }
    }

    fn send_subscribe(&mut self, state: &SubscriptionState, before: Before) {
        let id = self.request(Request::Subscription(state.number()));
        let options = &state.options;
        self.send(Control::Subscribe(control::Subscribe {
            id,
            slot: REALM_SLOT,
            subscription: state.number(),
            pattern: options.pattern.clone(),
            when_full: options.when_full,
            queue_messages: options.queue_messages,
            credit: state.window(),
            retained: options.retained,
            resumed: before == Before::InForce,
        }));
    }

    fn send_presents(&mut self, proofs: Vec<Proof>) {
        for proofs in portions(proofs, Proof::bytes) {
            let id = self.request(Request::Present);
            self.send(Control::Present(control::Present { id, slot: REALM_SLOT, proofs }));
        }
    }

    fn send_provides(&mut self, contents: &[Mcid]) {
        for contents in contents.chunks(CONTENTS_PER_MESSAGE_MAX) {
            let id = self.request(Request::Provide);
            self.send(Control::Provide(Provide { id, slot: REALM_SLOT, contents: contents.to_vec() }));
        }
    }

    fn send_advertise(&mut self, state: &OfferState) {
        let id = self.request(Request::Offer(state.number()));
        self.send(Control::Advertise(control::Advertise {
            id,
            slot: REALM_SLOT,
            offer: state.number(),
            procedure: state.procedure.clone(),
            in_flight_max: state.options.in_flight_max,
            metadata: state.options.metadata.clone(),
        }));
    }
}

impl State {
    fn hold_subscription(&mut self, number: u32, hold: Hold) {
        let Some(entry) = self.subscriptions.get_mut(&number) else { return };
        let pattern = &entry.state.options.pattern;
        match (hold, entry.force) {
            (Hold::Lost, _) => {
                tracing::warn!(%pattern, "a subscription has ended: the right to it was taken back");
                entry.state.close();
                self.subscriptions.remove(&number);
                self.tell_ended(|id| Control::Unsubscribe(Unsubscribe { id, subscription: number }));
            }
            (Hold::Lapsed, Force::Asked | Force::Refused) => {
                tracing::warn!(%pattern, "a subscription waits: the right to it has expired");
                entry.force = Force::Lapsed;
                self.tell_ended(|id| Control::Unsubscribe(Unsubscribe { id, subscription: number }));
            }
            (Hold::Allowed, Force::Lapsed | Force::Refused) => self.subscribe_again(number),
            (Hold::Lapsed, Force::Lapsed) | (Hold::Allowed, Force::Asked) => {}
        }
    }

    fn hold_offer(&mut self, number: u32, hold: Hold) {
        let Some(entry) = self.offers.get_mut(&number) else { return };
        let procedure = &entry.state.procedure;
        match (hold, entry.force) {
            (Hold::Lost, _) => {
                tracing::warn!(%procedure, "an offer has ended: the right to it was taken back");
                entry.state.close();
                self.procedures.remove(procedure);
                self.offers.remove(&number);
                self.tell_ended(|id| Control::Withdraw(Withdraw { id, offer: number }));
            }
            (Hold::Lapsed, Force::Asked | Force::Refused) => {
                tracing::warn!(%procedure, "an offer waits: the right to it has expired");
                entry.force = Force::Lapsed;
                self.tell_ended(|id| Control::Withdraw(Withdraw { id, offer: number }));
            }
            (Hold::Allowed, Force::Lapsed | Force::Refused) => self.advertise_again(number),
            (Hold::Lapsed, Force::Lapsed) | (Hold::Allowed, Force::Asked) => {}
        }
    }

    /// Without a link nothing is said now. The next link asks for it as for something that was not in force.
    fn force_of_what_is_said(&self) -> Force {
        if self.link.is_some() { Force::Asked } else { Force::Refused }
    }

    /// Under another number. What came while there was no right to it is not asked for.
    fn subscribe_again(&mut self, number: u32) {
        let Some(mut entry) = self.subscriptions.remove(&number) else { return };
        self.next_number += 1;
        entry.force = self.force_of_what_is_said();
        entry.state.renumber(self.next_number);
        let state = Arc::clone(&entry.state);
        self.subscriptions.insert(self.next_number, entry);
        if self.link.is_some() {
            tracing::info!(pattern = %state.options.pattern, "a subscription is asked for again");
            self.send_subscribe(&state, Before::New);
        }
    }

    fn advertise_again(&mut self, number: u32) {
        let Some(mut entry) = self.offers.remove(&number) else { return };
        self.next_number += 1;
        entry.force = self.force_of_what_is_said();
        entry.state.renumber(self.next_number);
        let state = Arc::clone(&entry.state);
        self.procedures.insert(state.procedure.clone(), self.next_number);
        self.offers.insert(self.next_number, entry);
        if self.link.is_some() {
            tracing::info!(procedure = %state.procedure, "an offer is made again");
            self.send_advertise(&state);
        }
    }

    /// In case the relay does not know yet.
    fn tell_ended(&mut self, message: impl FnOnce(u64) -> Control) {
        if self.link.is_some() {
            let id = self.request(Request::Ended);
            self.send(message(id));
        }
    }
}

impl Registry {
    /// Whether one more subscription or offer may stand: a new link is told of all at once.
    pub(super) fn check_room(&self) -> Result<(), Fault> {
        let registry = self.0.lock();
        if registry.subscriptions.len() + registry.offers.len() < ENTRIES_MAX {
            return Ok(());
        }
        Err(Fault::QuotaExceeded(format!("{ENTRIES_MAX} subscriptions and offers of one handle")))
    }

    /// Adds a subscription; the receiver learns how the relay took it.
    pub(super) fn subscribe(&self, options: SubscriptionOptions) -> (Arc<SubscriptionState>, Waiting<()>) {
        let mut registry = self.0.lock();
        registry.next_number += 1;
        let state = Arc::new(SubscriptionState::new(registry.next_number, options));
        let (first, waiting) = oneshot::channel();
        registry.subscriptions.insert(state.number(), Entry::new(&state, first));
        if registry.link.is_some() {
            registry.send_subscribe(&state, Before::New);
        }
        (state, waiting)
    }

    pub(super) fn unsubscribe(&self, subscription: &SubscriptionState) {
        let mut registry = self.0.lock();
        let number = subscription.number();
        if registry.subscriptions.remove(&number).is_some() && registry.link.is_some() {
            let id = registry.request(Request::Ended);
            registry.send(Control::Unsubscribe(Unsubscribe { id, subscription: number }));
        }
    }

    pub(super) fn subscription(&self, number: u32) -> Option<Arc<SubscriptionState>> {
        self.0.lock().subscriptions.get(&number).map(|entry| Arc::clone(&entry.state))
    }

    /// Adds an offer; a procedure can be offered once by a node.
    pub(super) fn advertise(&self, procedure: Topic, options: Advertise) -> Result<NewOffer, Fault> {
        let mut registry = self.0.lock();
        if registry.procedures.contains_key(&procedure) {
            return Err(Fault::Conflict(format!("this node already offers {procedure}")));
        }
        registry.next_number += 1;
        let (state, calls) = OfferState::new(registry.next_number, procedure.clone(), options);
        let state = Arc::new(state);
        let (first, waiting) = oneshot::channel();
        registry.procedures.insert(procedure, state.number());
        registry.offers.insert(state.number(), Entry::new(&state, first));
        if registry.link.is_some() {
            registry.send_advertise(&state);
        }
        Ok((state, calls, waiting))
    }

    pub(super) fn withdraw(&self, offer: &OfferState) {
        let mut registry = self.0.lock();
        let number = offer.number();
        let Some(entry) = registry.offers.remove(&number) else { return };
        registry.procedures.remove(&entry.state.procedure);
        if registry.link.is_some() {
            let id = registry.request(Request::Ended);
            registry.send(Control::Withdraw(Withdraw { id, offer: number }));
        }
    }

    /// The offer of a procedure.
    pub(super) fn offer(&self, procedure: &Topic) -> Option<Arc<OfferState>> {
        let registry = self.0.lock();
        let number = registry.procedures.get(procedure)?;
        registry.offers.get(number).map(|entry| Arc::clone(&entry.state))
    }

    /// Asks for a topic's last value.
    pub(super) fn retained(&self, topic: Topic) -> Result<Waiting<Option<StoredValue>>, Fault> {
        let mut registry = self.0.lock();
        if registry.link.is_none() {
            return Err(Fault::Unavailable("there is no link to a relay".into()));
        }
        let (answer, waiting) = oneshot::channel();
        let id = registry.request(Request::Retained(answer));
        registry.send(Control::Retained(control::Retained { id, slot: REALM_SLOT, topic }));
        Ok(waiting)
    }

    /// Says that this node has contents, now and on each link to come.
    pub(super) fn provide(&self, contents: &[Mcid]) {
        let mut registry = self.0.lock();
        let mut new: Vec<Mcid> = contents.to_vec();
        new.retain(|content| registry.contents.insert(content.clone()));
        if registry.link.is_some() {
            registry.send_provides(&new);
        }
    }

    /// Says that it has them no longer.
    pub(super) fn unprovide(&self, contents: &[Mcid]) {
        let mut registry = self.0.lock();
        let mut old: Vec<Mcid> = contents.to_vec();
        old.retain(|content| registry.contents.remove(content));
        for contents in old.chunks(CONTENTS_PER_MESSAGE_MAX) {
            registry.send(Control::Unprovide(Unprovide { slot: REALM_SLOT, contents: contents.to_vec() }));
        }
    }

    /// Asks who has content.
    pub(super) fn find(&self, content: Mcid) -> Result<Waiting<Vec<NodeId>>, Fault> {
        let mut registry = self.0.lock();
        if registry.link.is_none() {
            return Err(Fault::Unavailable("there is no link to a relay".into()));
        }
        let (answer, waiting) = oneshot::channel();
        let id = registry.request(Request::Find(answer));
        registry.send(Control::Find(Find { id, slot: REALM_SLOT, content }));
        Ok(waiting)
    }

    /// Asks the relay to show again that it may serve the realm; nothing without a link.
    pub(super) fn show(&self, realm: RealmId) -> Option<Waiting<Option<Proof>>> {
        let mut registry = self.0.lock();
        registry.link.as_ref()?;
        let (answer, waiting) = oneshot::channel();
        let id = registry.request(Request::Show(answer));
        registry.send(Control::Show(control::Show { id, realm }));
        Some(waiting)
    }

    /// Presents further proofs, if there is a link.
    pub(super) fn present(&self, proofs: Vec<Proof>) {
        let mut registry = self.0.lock();
        if registry.link.is_some() {
            registry.send_presents(proofs);
        }
    }

    /// Tells the relay of revocations, in as many requests as they need; none without a link.
    pub(super) fn revoke(&self, revocations: Vec<Vec<u8>>) -> Vec<Waiting<()>> {
        let mut registry = self.0.lock();
        if registry.link.is_none() {
            return Vec::new();
        }
        let mut answers = Vec::new();
        for revocations in portions(revocations, Vec::len) {
            let (answer, waiting) = oneshot::channel();
            let id = registry.request(Request::Revoke(answer));
            let revocations = revocations.into_iter().map(Into::into).collect();
            registry.send(Control::Revoke(control::Revoke { id, slot: REALM_SLOT, revocations }));
            answers.push(waiting);
        }
        answers
    }

    /// The relay has ended something, because it knows of no right to it. Whether there is none, this node's own rights say
    /// ([`Registry::hold`]); until then it waits. Whether it was anything that stands.
    pub(super) fn ended(&self, ended: &Ended) -> bool {
        let mut registry = self.0.lock();
        match ended.what {
            EndedWhat::Subscription(number) => {
                let Some(entry) = registry.subscriptions.get_mut(&number) else { return false };
                tracing::warn!(pattern = %entry.state.options.pattern, fault = %ended.fault, "the relay has ended a subscription; it goes on when the right is renewed");
                entry.refused();
            }
            EndedWhat::Offer(number) => {
                let Some(entry) = registry.offers.get_mut(&number) else { return false };
                tracing::warn!(procedure = %entry.state.procedure, fault = %ended.fault, "the relay has ended an offer; it goes on when the right is renewed");
                entry.refused();
            }
        }
        true
    }

    /// Holds what stands to changed rights: what is lost ends, what has lapsed waits, and what is allowed is asked for, if the
    /// relay does not have it.
    pub(super) fn hold(&self, subscription: impl Fn(&Pattern) -> Hold, offer: impl Fn(&Topic) -> Hold) {
        let mut registry = self.0.lock();
        let subscriptions: Vec<(u32, Hold)> = registry
            .subscriptions
            .iter()
            .map(|(number, entry)| (*number, subscription(&entry.state.options.pattern)))
            .collect();
        for (number, hold) in subscriptions {
            registry.hold_subscription(number, hold);
        }
        let offers: Vec<(u32, Hold)> =
            registry.offers.iter().map(|(number, entry)| (*number, offer(&entry.state.procedure))).collect();
        for (number, hold) in offers {
            registry.hold_offer(number, hold);
        }
    }

    /// Asks again for what the relay has refused: it may have room or rights by now.
    pub(super) fn ask_again(&self) {
        let mut registry = self.0.lock();
        let refused = |force: Force| force == Force::Refused;
        let subscriptions: Vec<u32> = registry
            .subscriptions
            .iter()
            .filter(|(_, entry)| refused(entry.force))
            .map(|(number, _)| *number)
            .collect();
        let offers: Vec<u32> =
            registry.offers.iter().filter(|(_, entry)| refused(entry.force)).map(|(number, _)| *number).collect();
        subscriptions.into_iter().for_each(|number| registry.subscribe_again(number));
        offers.into_iter().for_each(|number| registry.advertise_again(number));
    }

    /// How much stands that no relay has, though there may be a link.
    pub(super) fn out_of_force(&self) -> OutOfForce {
        let registry = self.0.lock();
        OutOfForce {
            subscriptions: registry.subscriptions.values().filter(|entry| entry.force != Force::Asked).count(),
            offers: registry.offers.values().filter(|entry| entry.force != Force::Asked).count(),
        }
    }

    /// Answers a sign of life.
    pub(super) fn pong(&self, beat: control::Beat) {
        self.0.lock().send(Control::Pong(beat));
    }

    /// A new link: joins the realm first, presenting what one message holds and then the rest, then says everything again.
    /// Nothing of the old one is waited for any more.
    /// The first receiver learns how the join ended, the second that the last of the rest has been answered, and so, as
    /// requests are answered in order, all of it.
    pub(super) fn link_up(
        &self,
        link: ControlSender,
        proofs: Vec<Proof>,
        join: impl FnOnce(u64, Vec<Proof>) -> Join,
    ) -> (Waiting<()>, oneshot::Receiver<()>) {
        let mut registry = self.0.lock();
        registry.link = Some(link);
        let (answer, waiting) = oneshot::channel();
        let id = registry.request(Request::Join(answer));
        let mut portions = portions(proofs, Proof::bytes).into_iter();
        registry.send(Control::Join(join(id, portions.next().unwrap_or_default())));
        registry.send_presents(portions.flatten().collect());
        let may_ask = |force: Force| force != Force::Lapsed;
        let subscriptions: Vec<_> = registry
            .subscriptions
            .values_mut()
            .filter(|entry| may_ask(entry.force))
            .map(|entry| {
                let was_in_force = entry.first.is_none() && entry.force == Force::Asked;
                entry.force = Force::Asked;
                (Arc::clone(&entry.state), if was_in_force { Before::InForce } else { Before::New })
            })
            .collect();
        for (state, before) in subscriptions {
            state.link_up();
            registry.send_subscribe(&state, before);
        }
        let offers: Vec<_> = registry
            .offers
            .values_mut()
            .filter(|entry| may_ask(entry.force))
            .map(|entry| {
                entry.force = Force::Asked;
                Arc::clone(&entry.state)
            })
            .collect();
        for state in offers {
            registry.send_advertise(&state);
        }
        let contents: Vec<Mcid> = registry.contents.iter().cloned().collect();
        registry.send_provides(&contents);
        let (said, all_said) = oneshot::channel();
        registry.saying = Some((registry.next_request, said));
        (waiting, all_said)
    }

    /// The link is gone: requests that only it could answer end, subscriptions and offers wait for the next.
    pub(super) fn link_down(&self) {
        let mut registry = self.0.lock();
        registry.link = None;
        registry.requests.clear();
        registry.saying = None;
    }

    /// The handle is closed: nothing more will come.
    pub(super) fn close(&self) {
        let mut registry = self.0.lock();
        registry.link = None;
        registry.requests.clear();
        for entry in registry.subscriptions.values_mut() {
            entry.first = None;
            entry.state.close();
        }
        registry.offers.clear();
        registry.procedures.clear();
    }

    /// A request has ended. A subscription or offer that is refused when it is asked for again waits: its owner was told of its
    /// success long ago, and the relay or a later one may take it.
    pub(super) fn done(&self, done: Done) {
        let mut registry = self.0.lock();
        if let Some((_, said)) = registry.saying.take_if(|(last, _)| *last == done.id) {
            // Whoever waited may have given the link up.
            let _ = said.send(());
        }
        let outcome = match &done.fault {
            None => Ok(()),
            Some(fault) => Err(fault.clone()),
        };
        let (what, first) = match registry.requests.remove(&done.id) {
            Some(Request::Subscription(number)) => {
                ("subscription", registry.subscriptions.get_mut(&number).map(|entry| entry.answered(&outcome)))
            }
            Some(Request::Offer(number)) => {
                ("offer", registry.offers.get_mut(&number).map(|entry| entry.answered(&outcome)))
            }
            Some(Request::Join(answer) | Request::Revoke(answer)) => return drop(answer.send(outcome)),
            Some(Request::Show(answer)) => return drop(answer.send(outcome.map(|()| done.proof))),
            Some(Request::Present) => {
                if let Err(fault) = outcome {
                    tracing::warn!(%fault, "the relay refuses further proofs");
                }
                return;
            }
            Some(Request::Retained(answer)) => return drop(answer.send(outcome.map(|()| done.value))),
            Some(Request::Find(answer)) => return drop(answer.send(outcome.map(|()| done.providers))),
            Some(Request::Provide) => {
                if let Err(fault) = outcome {
                    tracing::warn!(%fault, "the relay does not tell others of all that this node provides");
                }
                return;
            }
            Some(Request::Ended) | None => return,
        };
        match (first, outcome) {
            (Some(Some(first)), outcome) => drop(first.send(outcome)),
            (Some(None), Err(fault)) => tracing::warn!(%fault, "the relay refuses a {what} that was in force before"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
