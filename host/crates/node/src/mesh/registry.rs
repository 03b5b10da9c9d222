//! Everything that has to be said again on a new link: subscriptions and offers; and requests that wait for an answer.

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
use tokio::sync::{mpsc, oneshot};

use super::{
    offer::{Advertise, IncomingCall, OfferState},
    outbox::REALM_SLOT,
    subscription::{SubscriptionOptions, SubscriptionState},
};

/// Where control messages are queued while a link is up. Bounded by what programs ask for: each request waits for its
/// answer.
pub(super) type ControlSender = mpsc::UnboundedSender<Control>;

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
}

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

    fn send(&self, message: Control) {
        if let Some(link) = &self.link {
            // The link may be gone at this moment; everything is said again on the next.
            let _ = link.send(message);
        }
    }

    fn send_subscribe(&mut self, state: &SubscriptionState, resumed: bool) {
        let id = self.request(Request::Subscription(state.number));
        let options = &state.options;
        self.send(Control::Subscribe(control::Subscribe {
            id,
            slot: REALM_SLOT,
            subscription: state.number,
            pattern: options.pattern.clone(),
            when_full: options.when_full,
            queue_messages: options.queue_messages,
            credit: state.window(),
            retained: options.retained,
            resumed,
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
        let id = self.request(Request::Offer(state.number));
        self.send(Control::Advertise(control::Advertise {
            id,
            slot: REALM_SLOT,
            offer: state.number,
            procedure: state.procedure.clone(),
            in_flight_max: state.options.in_flight_max,
            metadata: state.options.metadata.clone(),
        }));
    }
}

impl Registry {
    /// Adds a subscription; the receiver learns how the relay took it.
    pub(super) fn subscribe(&self, options: SubscriptionOptions) -> (Arc<SubscriptionState>, Waiting<()>) {
        let mut registry = self.0.lock();
        registry.next_number += 1;
        let state = Arc::new(SubscriptionState::new(registry.next_number, options));
        let (first, waiting) = oneshot::channel();
        registry.subscriptions.insert(state.number, Entry { state: Arc::clone(&state), first: Some(first) });
        if registry.link.is_some() {
            registry.send_subscribe(&state, false);
        }
        (state, waiting)
    }

    pub(super) fn unsubscribe(&self, number: u32) {
        let mut registry = self.0.lock();
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
        registry.procedures.insert(procedure, state.number);
        registry.offers.insert(state.number, Entry { state: Arc::clone(&state), first: Some(first) });
        if registry.link.is_some() {
            registry.send_advertise(&state);
        }
        Ok((state, calls, waiting))
    }

    pub(super) fn withdraw(&self, number: u32) {
        let mut registry = self.0.lock();
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

    /// The relay has ended something, because the right to it has ended.
    pub(super) fn ended(&self, ended: &Ended) {
        let mut registry = self.0.lock();
        match ended.what {
            EndedWhat::Subscription(number) => {
                let Some(entry) = registry.subscriptions.remove(&number) else { return };
                tracing::warn!(pattern = %entry.state.options.pattern, fault = %ended.fault, "a subscription has ended");
                entry.state.close();
            }
            EndedWhat::Offer(number) => {
                let Some(entry) = registry.offers.remove(&number) else { return };
                registry.procedures.remove(&entry.state.procedure);
                tracing::warn!(procedure = %entry.state.procedure, fault = %ended.fault, "an offer has ended");
                entry.state.close();
            }
        }
    }

    /// Ends what this node has no right to any more.
    pub(super) fn end_where(&self, lost: impl Fn(&Pattern) -> bool, lost_offer: impl Fn(&Topic) -> bool) {
        let (subscriptions, offers): (Vec<u32>, Vec<u32>) = {
            let registry = self.0.lock();
            let subscriptions = registry.subscriptions.values().map(|entry| &entry.state);
            let offers = registry.offers.values().map(|entry| &entry.state);
            (
                subscriptions.filter(|state| lost(&state.options.pattern)).map(|state| state.number).collect(),
                offers.filter(|state| lost_offer(&state.procedure)).map(|state| state.number).collect(),
            )
        };
        let fault = || Fault::Denied("the right has ended".into());
        for number in subscriptions {
            self.ended(&Ended { what: EndedWhat::Subscription(number), fault: fault() });
            self.tell_ended(|id| Control::Unsubscribe(Unsubscribe { id, subscription: number }));
        }
        for number in offers {
            self.ended(&Ended { what: EndedWhat::Offer(number), fault: fault() });
            self.tell_ended(|id| Control::Withdraw(Withdraw { id, offer: number }));
        }
    }

    /// In case the relay does not know yet.
    fn tell_ended(&self, message: impl FnOnce(u64) -> Control) {
        let mut registry = self.0.lock();
        if registry.link.is_some() {
            let id = registry.request(Request::Ended);
            registry.send(message(id));
        }
    }

    /// Answers a sign of life.
    pub(super) fn pong(&self, beat: control::Beat) {
        self.0.lock().send(Control::Pong(beat));
    }

    /// A new link: joins the realm first, presenting what one message holds and then the rest, then says everything again. Nothing of the old one is waited for any more.
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
        let subscriptions: Vec<_> =
            registry.subscriptions.values().map(|entry| (Arc::clone(&entry.state), entry.first.is_none())).collect();
        for (state, was_in_force) in subscriptions {
            state.link_up();
            registry.send_subscribe(&state, was_in_force);
        }
        let offers: Vec<_> = registry.offers.values().map(|entry| Arc::clone(&entry.state)).collect();
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

    /// A request has ended. A subscription or offer that is refused again on a later link is only logged: its owner
    /// was told of its success long ago, and a later relay may take it.
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
                ("subscription", registry.subscriptions.get_mut(&number).map(|entry| entry.first.take()))
            }
            Some(Request::Offer(number)) => ("offer", registry.offers.get_mut(&number).map(|entry| entry.first.take())),
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
