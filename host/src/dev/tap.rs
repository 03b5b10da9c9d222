//! The mesh as a plugin sees it, with somebody watching: what comes, what it gives, what it calls.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use macula_node::wire::{
    CallError, Fault, HandlerError, Message, NodeId, Operation, Pattern, PluginName, RealmName, Topic,
};
use macula_runtime::mesh::{
    Answer, Call, Content, Inbox, IncomingCall, Mesh, MeshProvider, Offer, Pending, Publication, Publishing,
    SubscribeOptions,
};
use tokio::sync::mpsc;

use crate::output::readable;

/// Events that may wait to be shown; of more, some are not.
pub(crate) const EVENTS_MAX: usize = 256;

/// Bytes of a payload that are shown.
const SHOWN_MAX: usize = 200;

/// Something that happened at a plugin.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message came.
    Received(Topic, Bytes),
    /// It published.
    Published(Topic, Bytes),
    /// Somebody called it.
    Asked(Topic, Bytes),
    /// It answered, or it did not.
    Answered(Topic, Result<Bytes, String>),
    /// It called somebody.
    Called(Topic, Bytes),
    /// It was answered.
    Told(Topic, Result<Bytes, String>),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, name, shown) = match self {
            Self::Received(topic, payload) => ("message", topic, shown(payload)),
            Self::Published(topic, payload) => ("publish", topic, shown(payload)),
            Self::Asked(procedure, payload) => ("call", procedure, shown(payload)),
            Self::Answered(procedure, outcome) => ("answer", procedure, of(outcome)),
            Self::Called(procedure, payload) => ("calls", procedure, shown(payload)),
            Self::Told(procedure, outcome) => ("is told", procedure, of(outcome)),
        };
        write!(f, "{sign:<7} {name} {shown}")
    }
}

fn of(outcome: &Result<Bytes, String>) -> String {
    match outcome {
        Ok(bytes) => shown(bytes),
        Err(error) => format!("failed: {}", readable(error)),
    }
}

fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= SHOWN_MAX => readable(text).into_owned(),
        Ok(text) => {
            let cut: String = text.chars().take(SHOWN_MAX).collect();
            format!("{}… ({} bytes)", readable(&cut), bytes.len())
        }
        Err(_) => format!("({} bytes)", bytes.len()),
    }
}

/// Gives out meshes that are watched.
pub(crate) struct Tap {
    provider: Arc<dyn MeshProvider>,
    events: mpsc::Sender<Event>,
}

impl Tap {
    pub(crate) fn new(provider: Arc<dyn MeshProvider>) -> (Self, mpsc::Receiver<Event>) {
        let (events, taken) = mpsc::channel(EVENTS_MAX);
        (Self { provider, events }, taken)
    }
}

impl MeshProvider for Tap {
    fn for_plugin(&self, name: &PluginName) -> Arc<dyn Mesh> {
        Arc::new(Watched { mesh: self.provider.for_plugin(name), events: self.events.clone() })
    }
}

struct Watched {
    mesh: Arc<dyn Mesh>,
    events: mpsc::Sender<Event>,
}

/// Showing holds nobody up.
fn tell(events: &mpsc::Sender<Event>, event: Event) {
    let _ = events.try_send(event);
}

impl Mesh for Watched {
    fn publish(&self, publication: Publication<'_>) -> Publishing {
        tell(&self.events, Event::Published(publication.topic.clone(), Bytes::copy_from_slice(publication.payload)));
        self.mesh.publish(publication)
    }

    fn subscribe(&self, pattern: &Pattern, options: SubscribeOptions) -> Pending<Result<Box<dyn Inbox>, Fault>> {
        let (subscribing, events) = (self.mesh.subscribe(pattern, options), self.events.clone());
        Box::pin(async move { Ok(Box::new(WatchedInbox { inbox: subscribing.await?, events }) as Box<dyn Inbox>) })
    }

    fn advertise(&self, procedure: &Topic, in_flight_max: u32) -> Pending<Result<Box<dyn Offer>, Fault>> {
        let (advertising, events) = (self.mesh.advertise(procedure, in_flight_max), self.events.clone());
        Box::pin(async move { Ok(Box::new(WatchedOffer { offer: advertising.await?, events }) as Box<dyn Offer>) })
    }

    fn call(&self, call: Call) -> Pending<Result<Bytes, CallError>> {
        let (procedure, events) = (call.procedure.clone(), self.events.clone());
        tell(&events, Event::Called(procedure.clone(), call.payload.clone()));
        let calling = self.mesh.call(call);
        Box::pin(async move {
            let outcome = calling.await;
            tell(&events, Event::Told(procedure, outcome.clone().map_err(|error| error.to_string())));
            outcome
        })
    }

    fn retained(&self, topic: &Topic) -> Pending<Result<Option<Message>, Fault>> {
        self.mesh.retained(topic)
    }

    fn denied(&self, operation: Operation, target: &str) {
        self.mesh.denied(operation, target);
    }

    fn content(&self) -> Option<Arc<dyn Content>> {
        self.mesh.content()
    }

    fn node(&self) -> NodeId {
        self.mesh.node()
    }

    fn realm(&self) -> &RealmName {
        self.mesh.realm()
    }
}

struct WatchedInbox {
    inbox: Box<dyn Inbox>,
    events: mpsc::Sender<Event>,
}

impl Inbox for WatchedInbox {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = self.inbox.poll_next(cx);
        if let Poll::Ready(Some(message)) = &next {
            tell(&self.events, Event::Received(message.topic.clone(), message.payload.clone()));
        }
        next
    }

    fn dropped(&self) -> u64 {
        self.inbox.dropped()
    }

    fn queued(&self) -> u32 {
        self.inbox.queued()
    }
}

struct WatchedOffer {
    offer: Box<dyn Offer>,
    events: mpsc::Sender<Event>,
}

impl Offer for WatchedOffer {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<IncomingCall>> {
        self.offer.poll_next(cx).map(|call| {
            call.map(|IncomingCall { request, answer }| {
                let (procedure, events) = (request.procedure.clone(), self.events.clone());
                tell(&events, Event::Asked(procedure.clone(), request.payload.clone()));
                IncomingCall { request, answer: Box::new(WatchedAnswer { answer, procedure, events }) }
            })
        })
    }
}

struct WatchedAnswer {
    answer: Box<dyn Answer>,
    procedure: Topic,
    events: mpsc::Sender<Event>,
}

impl Answer for WatchedAnswer {
    fn answer(self: Box<Self>, outcome: Result<Bytes, HandlerError>) {
        tell(&self.events, Event::Answered(self.procedure, outcome.clone().map_err(|error| error.to_string())));
        self.answer.answer(outcome);
    }

    fn fail(self: Box<Self>, error: CallError) {
        tell(&self.events, Event::Answered(self.procedure, Err(error.to_string())));
        self.answer.fail(error);
    }
}
