//! The mesh as the runtime sees it. The runtime owns these traits; the binary implements them with a node's handle.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use macula_wire::{
    CallError, ContentType, Delivery, Fault, HandlerError, Mcid, Message, NodeId, Operation, Pattern, PluginName,
    Priority, RealmName, Receipt, Request, Topic, WhenFull, frame::Extras,
};

/// A future that somebody else owns the type of.
pub type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One message on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// Where to.
    pub topic: &'a Topic,
    /// At most 1 MiB, checked by the caller.
    pub payload: &'a [u8],
    /// Media type.
    pub content_type: &'a ContentType,
    /// How hard the mesh tries.
    pub delivery: Delivery,
    /// Which queue it takes.
    pub priority: Priority,
    /// Keep it as the topic's last value.
    pub retain: bool,
    /// One more than that of what is being handled.
    pub cause_depth: u8,
    /// Metadata and trace, when there are any.
    pub extras: Option<&'a Extras>,
}

/// What came of handing a message over.
pub enum Publishing {
    /// The common case: known at once, and nothing was allocated.
    Now(Result<Receipt, Fault>),
    /// The node's queue is full, or the publisher wanted to wait for a relay.
    Later(Pending<Result<Receipt, Fault>>),
}

impl Publishing {
    /// What came of it, waited for at most so long.
    pub(crate) async fn within(self, patience: Duration) -> Result<Receipt, Fault> {
        match self {
            Self::Now(outcome) => outcome,
            Self::Later(pending) => tokio::time::timeout(patience, pending).await.unwrap_or(Err(Fault::Timeout)),
        }
    }
}

/// One call on its way out.
#[derive(Debug, Clone)]
pub struct Call {
    /// What to call.
    pub procedure: Topic,
    /// At most 1 MiB, checked by the caller.
    pub payload: Bytes,
    /// Media type.
    pub content_type: ContentType,
    /// How long an answer is wanted.
    pub timeout: Duration,
    /// One more than that of what is being handled.
    pub cause_depth: u8,
    /// Metadata, trace and idempotency key.
    pub extras: Extras,
}

/// How to subscribe.
#[derive(Debug, Clone, Copy)]
pub struct SubscribeOptions {
    /// What happens when the queue is full.
    pub when_full: WhenFull,
    /// Messages that may wait.
    pub queue_messages: u32,
    /// Begin with stored last values.
    pub retained: bool,
}

/// The mesh, as one plugin may use it: everything sent carries that plugin's name.
///
/// Rights are checked by the runtime before it gets here.
pub trait Mesh: Send + Sync + 'static {
    /// Publishes, in the order of the calls.
    fn publish(&self, publication: Publication<'_>) -> Publishing;

    /// Asks for messages. Across lost links the subscription is made anew without the caller's doing.
    fn subscribe(&self, pattern: &Pattern, options: SubscribeOptions) -> Pending<Result<Box<dyn Inbox>, Fault>>;

    /// Offers a procedure, likewise across lost links.
    fn advertise(&self, procedure: &Topic, in_flight_max: u32) -> Pending<Result<Box<dyn Offer>, Fault>>;

    /// Calls a procedure. Dropping the future cancels.
    fn call(&self, call: Call) -> Pending<Result<Bytes, CallError>>;

    /// The stored last value of a topic.
    fn retained(&self, topic: &Topic) -> Pending<Result<Option<Message>, Fault>>;

    /// The runtime has denied the plugin something: for the node's audit, which is bounded by itself.
    fn denied(&self, operation: Operation, target: &str);

    /// The plugin's content; `None` on a node that keeps none.
    fn content(&self) -> Option<Arc<dyn Content>>;

    /// The node this runs on.
    fn node(&self) -> NodeId;

    /// The realm everything happens in.
    fn realm(&self) -> &RealmName;
}

/// Gives out [`Mesh`]es: one for each plugin, by its name.
pub trait MeshProvider: Send + Sync + 'static {
    /// The mesh for the plugin of this name.
    fn for_plugin(&self, name: &PluginName) -> std::sync::Arc<dyn Mesh>;
}

/// Content as one plugin has it: it sees what it stored or fetched, and that counts against its quota. Rights are checked
/// before.
pub trait Content: Send + Sync + 'static {
    /// Whether all of it is here, and this plugin's.
    fn holds(&self, mcid: &Mcid) -> bool;

    /// Whether all of it is here, whoever's it is.
    fn is_here(&self, mcid: &Mcid) -> bool;

    /// Stores bytes; the same again is free.
    fn put(&self, bytes: Vec<u8>) -> Pending<Result<Mcid, Fault>>;

    /// Begins content that is written in pieces.
    fn create(&self) -> Pending<Result<Box<dyn ContentWriter>, Fault>>;

    /// Opens content for reading. What is not here is fetched from now on.
    fn open(&self, mcid: &Mcid) -> Pending<Result<Arc<dyn ContentBlob>, Fault>>;

    /// Begins to fetch all of it. Dropping what this gives ends the fetch.
    fn fetch(&self, mcid: &Mcid) -> Box<dyn ContentFetch>;

    /// Keeps what is complete here from being evicted, on behalf of this plugin, or lets it go.
    fn set_pinned(&self, mcid: &Mcid, is_pinned: bool) -> Pending<Result<(), Fault>>;
}

/// Content that is being written. Dropping it forgets what was written.
pub trait ContentWriter: Send + Sync {
    /// Adds a piece; one at a time.
    fn write(&self, piece: Vec<u8>) -> Pending<Result<(), Fault>>;
    /// Stores what was written; nothing more can be added.
    fn finish(&self) -> Pending<Result<Mcid, Fault>>;
}

/// Content that is open for reading.
pub trait ContentBlob: Send + Sync {
    /// In bytes.
    fn size(&self) -> u64;
    /// Reads; fewer bytes only at the end. Waits for what is being fetched.
    fn read(self: Arc<Self>, offset: u64, len: usize) -> Pending<Result<Vec<u8>, Fault>>;
}

/// A fetch that runs.
pub trait ContentFetch: Send + Sync {
    /// How it is getting on.
    fn state(&self) -> FetchState;
}

/// How a fetch is getting on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchState {
    /// It goes on.
    Running {
        /// Bytes that are verified and stored.
        bytes: u64,
        /// Of so many, once that is proved.
        bytes_total: Option<u64>,
        /// Who is sending.
        providers: u32,
    },
    /// All of it is here.
    Done,
    /// What was stored stays.
    Failed(Fault),
}

/// The receiving end of a subscription. Dropping it unsubscribes.
pub trait Inbox: Send {
    /// The next message, in order; `None` when the node has shut down.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>>;
    /// Messages dropped so far because the queue was full, here or at a relay.
    fn dropped(&self) -> u64;
    /// Messages waiting on this node.
    fn queued(&self) -> u32;
}

/// The receiving end of an advertisement. Dropping it withdraws; calls already taken can still be answered.
pub trait Offer: Send {
    /// The next call; `None` when the node has shut down.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<IncomingCall>>;
}

/// A call to answer.
pub struct IncomingCall {
    /// What is asked.
    pub request: Request,
    /// How to answer. Dropping it unanswered tells the caller `maybe-run(cancelled)`.
    pub answer: Box<dyn Answer>,
}

/// Takes the one answer to a call.
pub trait Answer: Send {
    /// Answers; an answer above 1 MiB becomes `maybe-run(too-large)` for the caller.
    fn answer(self: Box<Self>, outcome: Result<Bytes, HandlerError>);
    /// Ends the call without an answer: not run, or perhaps run.
    fn fail(self: Box<Self>, error: CallError);
}
