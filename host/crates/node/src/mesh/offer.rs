//! Procedures that this node offers, and the calls that come for them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use macula_wire::{
    CallError, Channel, Fault, HandlerError, Metadata, Request, Topic,
    frame::{Extras, Header},
    limits::PAYLOAD_BYTES_MAX,
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, watch};

use super::handle::Shared;

/// How a procedure is offered.
#[derive(Debug, Clone)]
pub struct Advertise {
    /// Calls waiting or running here at most, 1 to 65,536; relays send further ones elsewhere.
    pub in_flight_max: u32,
    /// Shown to those who look for providers.
    pub metadata: Metadata,
}

impl Default for Advertise {
    fn default() -> Self {
        Self { in_flight_max: 1024, metadata: Metadata::default() }
    }
}

/// What the link's tasks and the [`Offer`] share.
#[derive(Debug)]
pub(super) struct OfferState {
    number: AtomicU32,
    pub(super) procedure: Topic,
    pub(super) options: Advertise,
    /// Gone when the offer has ended.
    queue: Mutex<Option<mpsc::Sender<IncomingCall>>>,
}

impl OfferState {
    pub(super) fn new(number: u32, procedure: Topic, options: Advertise) -> (Self, mpsc::Receiver<IncomingCall>) {
        let (queue, calls) = mpsc::channel(options.in_flight_max.clamp(1, 65_536) as usize);
        (Self { number: AtomicU32::new(number), procedure, options, queue: Mutex::new(Some(queue)) }, calls)
    }

    /// Its number at the relay. It changes under the registry's lock only.
    pub(super) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// It is made again under another number.
    pub(super) fn renumber(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// Queues a call; one too many, or one after the end, is answered instead.
    pub(super) fn deliver(&self, call: IncomingCall) {
        let queue = self.queue.lock().clone();
        let refused = match queue {
            Some(queue) => queue.try_send(call).err().map(mpsc::error::TrySendError::into_inner),
            None => Some(call),
        };
        if let Some(call) = refused {
            call.responder.fail(CallError::NotRun(Fault::Unavailable("the provider is busy".into())));
        }
    }

    /// Nothing more comes; what has come is still given out.
    pub(super) fn close(&self) {
        self.queue.lock().take();
    }
}

/// A procedure on offer: gives out the calls that come for it. Dropping it withdraws; calls already taken can still be
/// answered. Like a subscription it outlives links, and rights that expire.
#[derive(Debug)]
pub struct Offer {
    shared: Arc<Shared>,
    state: Arc<OfferState>,
    calls: mpsc::Receiver<IncomingCall>,
}

impl Offer {
    pub(super) fn new(shared: Arc<Shared>, state: Arc<OfferState>, calls: mpsc::Receiver<IncomingCall>) -> Self {
        Self { shared, state, calls }
    }

    /// The procedure as given.
    pub fn procedure(&self) -> &Topic {
        &self.state.procedure
    }

    /// The next call; `None` when the handle was closed, or the right to offer the procedure was revoked. Dropping the future
    /// loses nothing.
    pub async fn next(&mut self) -> Option<IncomingCall> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Offer::next`], for hand-written futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<IncomingCall>> {
        self.calls.poll_recv(cx).map(|call| {
            let mut call = call?;
            // What it has waited here is gone.
            call.request.time_left = call.request.time_left.saturating_sub(call.received.elapsed());
            Some(call)
        })
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.shared.registry.withdraw(&self.state);
    }
}

/// A call to answer.
#[derive(Debug)]
pub struct IncomingCall {
    /// What is asked.
    pub request: Request,
    /// How to answer.
    pub responder: Responder,
    received: Instant,
}

/// Takes the one answer to a call. Dropped without an answer, the caller gets `maybe-run(cancelled)`.
#[derive(Debug)]
pub struct Responder {
    shared: Arc<Shared>,
    link: u64,
    call: u64,
    cancelled: watch::Receiver<bool>,
    answered: bool,
}

impl Responder {
    /// Answers. An answer above 1 MiB reaches the caller as `maybe-run(too-large)`, an error outside its bounds as
    /// `maybe-run(other)`.
    pub fn answer(self, outcome: Result<Bytes, HandlerError>) {
        let outcome = match outcome {
            Ok(answer) if answer.len() > PAYLOAD_BYTES_MAX => {
                Err(CallError::MaybeRun(Fault::TooLarge(PAYLOAD_BYTES_MAX as u32)))
            }
            Ok(answer) => Ok(answer),
            Err(error) => Err(match error.check() {
                Ok(()) => CallError::Handler(error),
                Err(invalid) => {
                    CallError::MaybeRun(Fault::Other(format!("the handler's error was refused: {invalid}")))
                }
            }),
        };
        self.send(&outcome);
    }

    /// Ends the call without an answer of the handler's.
    pub fn fail(self, error: CallError) {
        self.send(&Err(error));
    }

    /// Waits until the caller has given up; an answer after that goes nowhere.
    pub async fn cancelled(&mut self) {
        // An error means that the call is out of the table: answered, or its link gone.
        let _ = self.cancelled.wait_for(|cancelled| *cancelled).await;
    }

    fn send(mut self, outcome: &Result<Bytes, CallError>) {
        self.answered = true;
        self.shared.incoming.remove(self.link, self.call);
        self.shared.outbox.reply(self.link, self.call, outcome);
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.incoming.remove(self.link, self.call);
            self.shared.outbox.reply(self.link, self.call, &Err(CallError::MaybeRun(Fault::Cancelled)));
        }
    }
}

/// Calls that have come and are not answered yet, to be told of a cancellation.
#[derive(Debug, Default)]
pub(super) struct Incoming(Mutex<FxHashMap<(u64, u64), watch::Sender<bool>>>);

impl Incoming {
    fn insert(&self, link: u64, call: u64) -> watch::Receiver<bool> {
        let (cancel, cancelled) = watch::channel(false);
        self.0.lock().insert((link, call), cancel);
        cancelled
    }

    fn remove(&self, link: u64, call: u64) {
        self.0.lock().remove(&(link, call));
    }

    pub(super) fn cancel(&self, link: u64, call: u64) {
        if let Some(cancel) = self.0.lock().remove(&(link, call)) {
            let _ = cancel.send(true);
        }
    }

    /// Nobody waits for answers on a link that is gone.
    pub(super) fn link_down(&self) {
        for (_, cancel) in self.0.lock().drain() {
            let _ = cancel.send(true);
        }
    }
}

/// Makes a call out of its frame; malformed extras give none.
pub(super) fn incoming(
    shared: &Arc<Shared>,
    link: u64,
    channel: &Channel,
    header: Header,
    extras: &[u8],
    payload: Bytes,
) -> Option<IncomingCall> {
    let extras = Extras::from_bytes(extras).ok()?;
    let request = Request {
        procedure: channel.name.clone(),
        payload,
        content_type: channel.content_type.clone(),
        caller: channel.sender,
        plugin: channel.plugin.clone(),
        time_left: Duration::from_millis(header.time & 0xffff_ffff),
        cause_depth: header.cause_depth,
        idempotency_key: extras.idempotency_key.unwrap_or_default(),
        metadata: extras.metadata,
        traceparent: extras.traceparent,
        tracestate: extras.tracestate,
    };
    let cancelled = shared.incoming.insert(link, header.id);
    let responder = Responder { shared: Arc::clone(shared), link, call: header.id, cancelled, answered: false };
    Some(IncomingCall { request, responder, received: Instant::now() })
}
