//! The imported interfaces, answered in process: what a component's imports are elsewhere.
//!
//! The functions act on the [`State`] of the host whose handler runs in this thread; without one they panic, except
//! those of the log and the clock, so that what only logs can be tested on its own.

use super::buckets;
use super::content_store::ContentStore;
use super::incoming::{message, request};
use super::manifest::Manifest;
use super::outgoing::{Logged, Published};
use super::pattern::{covers, is_pattern, is_topic};
use super::rights::Rights;
use super::timer_table::TimerTable;
use crate::content::FetchState;
use crate::identity::Shard;
use crate::kv::{Entry, Page, Version};
use crate::log::Level;
use crate::pubsub::{Delivery, PublishOptions, Receipt, ReceiptLevel, SubscribeOptions, SubscriptionStats};
use crate::rpc::{AdvertiseOptions, CallError, CallOptions, TIMEOUT_DEFAULT};
use crate::trace::Context;
use crate::{Error, Message, Request};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// When every test begins: 2026-01-01, 00:00 UTC.
pub(super) const BEGIN_MS: u64 = 1_767_225_600_000;

pub(super) const PAYLOAD_BYTES_MAX: u32 = 1 << 20;

/// Everything the fake host knows.
pub(super) struct State {
    pub(super) now_ms: u64,
    pub(super) manifest: Manifest,
    pub(super) abilities: Abilities,
    pub(super) rights: Rights,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) subscriptions: Vec<Subscribed>,
    pub(super) offers: Vec<Offer>,
    pub(super) retained: BTreeMap<String, Message>,
    pub(super) published: Vec<Published>,
    pub(super) published_count: u64,
    pub(super) answers: BTreeMap<String, Answer>,
    pub(super) called: Vec<Request>,
    pub(super) timers: TimerTable,
    pub(super) buckets: BTreeMap<String, buckets::Bucket>,
    pub(super) content: ContentStore,
    pub(super) logged: Vec<Logged>,
    pub(super) log_level: Level,
    pub(super) trace: Option<Context>,
}

/// Which handlers the plugin has: what leads to no handler is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    pub(super) message: bool,
    pub(super) call: bool,
    pub(super) timer: bool,
}

/// A subscription of the plugin; number 0 for those of the manifest.
#[derive(Debug)]
pub(super) struct Subscribed {
    pub(super) id: u32,
    pub(super) pattern: String,
    pub(super) stats: SubscriptionStats,
    pub(super) claimed: bool,
}

/// A procedure on offer.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) procedure: String,
    pub(super) from_manifest: bool,
    pub(super) claimed: bool,
}

pub(super) type Answer = Rc<RefCell<dyn FnMut(&Request) -> Result<Vec<u8>, CallError>>>;

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("plugin", &self.manifest.name).finish_non_exhaustive()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<RefCell<State>>>> = const { RefCell::new(None) };
}

/// While this lives, the functions of this module act on that state.
pub(super) struct Entered(Option<Rc<RefCell<State>>>);

pub(super) fn enter(state: &Rc<RefCell<State>>) -> Entered {
    Entered(CURRENT.replace(Some(Rc::clone(state))))
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

fn current() -> Option<Rc<RefCell<State>>> {
    CURRENT.with_borrow(Clone::clone)
}

fn with<R>(act: impl FnOnce(&mut State) -> R) -> R {
    let state = current().expect("no host: run the plugin by macula_plugin::testing::Host");
    let mut state = state.borrow_mut();
    act(&mut state)
}

// pubsub

pub(crate) fn publish(topic: &str, payload: &[u8], options: Option<PublishOptions<'_>>) -> Result<Receipt, Error> {
    let options = options.unwrap_or(PublishOptions {
        delivery: Delivery::Ordered,
        retain: false,
        content_type: "",
        metadata: &[],
    });
    check_topic(topic)?;
    check_payload(payload)?;
    check_content_type(options.content_type)?;
    check_metadata(options.metadata)?;
    with(|state| {
        state.rights.check("/mesh/publish", topic)?;
        let published = Published {
            topic: topic.to_owned(),
            payload: payload.to_vec(),
            content_type: options.content_type.to_owned(),
            delivery: options.delivery,
            retain: options.retain,
            metadata: owned(options.metadata),
        };
        if options.retain {
            state.retain(&published);
        }
        state.published.push(published);
        state.published_count += 1;
        let level = if options.delivery == Delivery::Acked { ReceiptLevel::RelayMemory } else { ReceiptLevel::Host };
        Ok(Receipt { epoch: 1, seq: state.published_count, level })
    })
}

impl State {
    fn retain(&mut self, published: &Published) {
        if published.payload.is_empty() {
            self.retained.remove(&published.topic);
            return;
        }
        let mut message = message(&published.topic, &*published.payload);
        message.content_type.clone_from(&published.content_type);
        message.metadata.clone_from(&published.metadata);
        message.timestamp_ms = self.now_ms;
        message.retained = true;
        self.retained.insert(published.topic.clone(), message);
    }
}

pub(crate) fn subscribe(pattern: &str, options: Option<SubscribeOptions>) -> Result<Subscription, Error> {
    if !is_pattern(pattern) {
        return Err(Error::Invalid(format!("{pattern:?} is not a pattern such as sensors.*.temperature")));
    }
    if let Some(messages @ (0 | 65_537..)) = options.and_then(|options| options.queue_messages) {
        return Err(Error::Invalid(format!("a queue of {messages} messages: 1 to 65,536")));
    }
    with(|state| {
        if !state.abilities.message {
            return Err(Error::Invalid("a subscription needs a message handler".to_owned()));
        }
        state.rights.check("/mesh/subscribe", pattern)?;
        let id = state.claim_subscription(pattern)?;
        Ok(Subscription { id, pattern: pattern.to_owned() })
    })
}

impl State {
    /// The subscriptions that a message matches, after counting it.
    pub(super) fn count_delivery(&mut self, message: &Message) -> Vec<u32> {
        let matching = |subscribed: &&mut Subscribed| covers(&subscribed.pattern, &message.topic);
        let count = |subscribed: &mut Subscribed| {
            subscribed.stats.delivered += u64::from(message.attempt == 1);
            subscribed.id
        };
        self.subscriptions.iter_mut().filter(matching).map(count).collect()
    }

    /// Takes over the subscription of the instance before, or begins one.
    fn claim_subscription(&mut self, pattern: &str) -> Result<u32, Error> {
        if let Some(known) = self.subscriptions.iter_mut().find(|known| known.id != 0 && known.pattern == pattern) {
            if known.claimed {
                return Err(Error::Conflict(format!("already subscribed to {pattern}")));
            }
            known.claimed = true;
            return Ok(known.id);
        }
        let limit = self.manifest.limits.subscriptions;
        if self.subscriptions.len() >= limit {
            return Err(Error::QuotaExceeded(format!("{limit} subscriptions")));
        }
        let id = self.subscriptions.iter().map(|known| known.id).max().unwrap_or(0) + 1;
        let stats = SubscriptionStats::default();
        self.subscriptions.push(Subscribed { id, pattern: pattern.to_owned(), stats, claimed: true });
        Ok(id)
    }
}

pub(crate) fn retained(topic: &str) -> Result<Option<Message>, Error> {
    check_topic(topic)?;
    with(|state| {
        state.rights.check("/mesh/subscribe", topic)?;
        Ok(state.retained.get(topic).cloned())
    })
}

#[derive(Debug)]
pub(crate) struct Subscription {
    id: u32,
    pattern: String,
}

impl Subscription {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn pattern(&self) -> String {
        self.pattern.clone()
    }

    pub(crate) fn stats(&self) -> SubscriptionStats {
        with(|state| state.subscriptions.iter().find(|known| known.id == self.id).map(|known| known.stats))
            .unwrap_or_default()
    }

    pub(crate) fn unsubscribe(&self) {
        with(|state| state.subscriptions.retain(|known| known.id != self.id));
    }
}

// rpc

pub(crate) fn call(procedure: &str, payload: &[u8], options: Option<CallOptions<'_>>) -> Result<Vec<u8>, CallError> {
    let request = outgoing_request(procedure, payload, options).map_err(CallError::NotRun)?;
    let answer = with(|state| {
        state.rights.check("/mesh/call", procedure)?;
        state.called.push(request.clone());
        let nobody = || Error::NotFound(format!("nobody offers {procedure}"));
        state.answers.get(procedure).cloned().ok_or_else(nobody)
    })
    .map_err(CallError::NotRun)?;
    let mut answer = answer.borrow_mut();
    answer(&request)
}

fn outgoing_request(procedure: &str, payload: &[u8], options: Option<CallOptions<'_>>) -> Result<Request, Error> {
    check_topic(procedure)?;
    check_payload(payload)?;
    let mut request = request(procedure, payload);
    request.time_left = TIMEOUT_DEFAULT;
    let Some(options) = options else { return Ok(request) };
    if !(1..=600_000).contains(&options.timeout_ms) {
        return Err(Error::Invalid(format!("timeout of {} ms: 1 ms to 10 min", options.timeout_ms)));
    }
    check_content_type(options.content_type)?;
    check_metadata(options.metadata)?;
    if options.idempotency_key.len() > 64 {
        return Err(Error::Invalid("idempotency key: at most 64 bytes".to_owned()));
    }
    request.time_left = Duration::from_millis(options.timeout_ms.into());
    request.content_type = options.content_type.to_owned();
    request.idempotency_key = options.idempotency_key.to_owned();
    request.metadata = owned(options.metadata);
    Ok(request)
}

pub(crate) fn advertise(procedure: &str, options: Option<AdvertiseOptions<'_>>) -> Result<Advertisement, Error> {
    check_topic(procedure)?;
    if let Some(options) = options {
        check_metadata(options.metadata)?;
        if let Some(calls @ (0 | 65_537..)) = options.in_flight_max {
            return Err(Error::Invalid(format!("{calls} calls in flight: 1 to 65,536")));
        }
    }
    with(|state| {
        if !state.abilities.call {
            return Err(Error::Invalid("an offer needs a call handler".to_owned()));
        }
        state.rights.check("/mesh/advertise", procedure)?;
        let own = |offer: &&mut Offer| !offer.from_manifest && offer.procedure == procedure;
        match state.offers.iter_mut().find(own) {
            Some(known) if known.claimed => return Err(Error::Conflict(format!("already offers {procedure}"))),
            Some(known) => known.claimed = true,
            None => {
                state.offers.push(Offer { procedure: procedure.to_owned(), from_manifest: false, claimed: true });
            }
        }
        Ok(Advertisement { procedure: procedure.to_owned() })
    })
}

#[derive(Debug)]
pub(crate) struct Advertisement {
    procedure: String,
}

impl Advertisement {
    pub(crate) fn procedure(&self) -> String {
        self.procedure.clone()
    }

    pub(crate) fn withdraw(&self) {
        with(|state| state.offers.retain(|offer| offer.from_manifest || offer.procedure != self.procedure));
    }
}

// timers

pub(crate) fn timer_after(name: &str, delay_ms: u32) -> Result<(), Error> {
    with(|state| {
        state.check_timer_handler()?;
        state.timers.after(name, state.now_ms, delay_ms, state.manifest.limits.timers)
    })
}

pub(crate) fn timer_every(name: &str, period_ms: u32) -> Result<(), Error> {
    with(|state| {
        state.check_timer_handler()?;
        state.timers.every(name, state.now_ms, period_ms, state.manifest.limits.timers)
    })
}

pub(crate) fn timer_cancel(name: &str) -> bool {
    with(|state| state.timers.cancel(name))
}

impl State {
    fn check_timer_handler(&self) -> Result<(), Error> {
        if self.abilities.timer {
            return Ok(());
        }
        Err(Error::Invalid("a timer needs a timer handler".to_owned()))
    }
}

// config

pub(crate) fn config_get(key: &str) -> Option<String> {
    with(|state| state.settings.get(key).cloned())
}

pub(crate) fn config_all() -> Vec<(String, String)> {
    with(|state| state.settings.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

// identity

pub(crate) fn plugin_name() -> String {
    with(|state| state.manifest.name.clone())
}

pub(crate) fn plugin_version() -> String {
    with(|state| state.manifest.version.clone())
}

pub(crate) fn component() -> String {
    with(|state| ContentStore::default().put(state.manifest.name.as_bytes()))
}

pub(crate) fn principal() -> String {
    "did:key:z6MkfakePrincipal".to_owned()
}

pub(crate) fn node() -> String {
    "did:key:z6MkfakeNode".to_owned()
}

pub(crate) fn realm() -> String {
    "local.dev".to_owned()
}

pub(crate) fn instance() -> Shard {
    Shard { index: 0, count: 1 }
}

pub(crate) fn can(command: &str, target: &str) -> bool {
    with(|state| state.rights.allow(command, target))
}

// trace, log, clock

pub(crate) fn trace_current() -> Option<Context> {
    with(|state| state.trace.clone())
}

pub(crate) fn log_enabled(level: Level) -> bool {
    current().is_some_and(|state| level >= state.borrow().log_level)
}

pub(crate) fn log_write(level: Level, target: &str, message: &str, fields: &[(&str, &str)]) {
    let Some(state) = current() else { return };
    let mut state = state.borrow_mut();
    if level >= state.log_level {
        let fields = owned(fields);
        state.logged.push(Logged { level, target: target.to_owned(), message: message.to_owned(), fields });
    }
}

/// Outside a host it is the beginning of a test.
pub(crate) fn now_ms() -> u64 {
    current().map_or(BEGIN_MS, |state| state.borrow().now_ms)
}

// kv

pub(crate) fn bucket_open(name: &str) -> Result<Bucket, Error> {
    with(|state| {
        state.buckets.entry(name.to_owned()).or_default();
    });
    Ok(Bucket { name: name.to_owned() })
}

#[derive(Debug)]
pub(crate) struct Bucket {
    name: String,
}

impl Bucket {
    fn with<R>(&self, act: impl FnOnce(&mut buckets::Bucket, u64) -> R) -> R {
        with(|state| {
            let now_ms = state.now_ms;
            act(state.buckets.entry(self.name.clone()).or_default(), now_ms)
        })
    }

    pub(crate) fn replicated(&self) -> bool {
        false
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.with(|bucket, now_ms| bucket.get(key, now_ms)))
    }

    pub(crate) fn set(&self, key: &str, value: &[u8], lifetime_ms: Option<u32>) -> Result<(), Error> {
        self.with(|bucket, now_ms| {
            let expires_ms = lifetime_ms.map(|lifetime_ms| now_ms + u64::from(lifetime_ms));
            bucket.set(key, value, expires_ms).map(|_| ())
        })
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Error> {
        self.with(|bucket, _| bucket.delete(key));
        Ok(())
    }

    pub(crate) fn swap(&self, key: &str, expected: Option<Version>, value: &[u8]) -> Result<Version, Error> {
        self.with(|bucket, now_ms| bucket.swap(key, expected, value, now_ms))
    }

    pub(crate) fn increment(&self, key: &str, delta: i32) -> Result<i64, Error> {
        self.with(|bucket, _| bucket.increment(key, delta))
    }

    pub(crate) fn keys(&self, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        self.with(|bucket, now_ms| bucket.keys(prefix, cursor, limit, now_ms))
    }
}

// content

pub(crate) fn content_put(data: &[u8]) -> Result<String, Error> {
    check_payload(data)?;
    Ok(with(|state| put(state, data)))
}

fn put(state: &mut State, data: &[u8]) -> String {
    let mcid = state.content.put(data);
    state.content.own(&mcid);
    mcid
}

pub(crate) fn content_create() -> Result<Writer, Error> {
    Ok(Writer { pieces: RefCell::default() })
}

pub(crate) fn content_open(mcid: &str) -> Result<Blob, Error> {
    let found = with(|state| fetch(state, mcid))?;
    found.map(|data| Blob { data }).ok_or_else(|| Error::NotFound(mcid.to_owned()))
}

/// What a plugin gets: its own, and everything else by right; then it is its own as well.
fn fetch(state: &mut State, mcid: &str) -> Result<Option<Rc<[u8]>>, Error> {
    let found = state.content.get(mcid)?;
    if !state.content.is_own(mcid) {
        state.rights.check("/mesh/fetch", mcid)?;
        if found.is_some() {
            state.content.own(mcid);
        }
    }
    Ok(found)
}

pub(crate) fn content_fetch_all(mcid: &str) -> Result<Fetch, Error> {
    let stored = with(|state| fetch(state, mcid))?.is_some();
    Ok(Fetch { state: if stored { FetchState::Done } else { FetchState::Failed(Error::NotFound(mcid.to_owned())) } })
}

pub(crate) fn content_has(mcid: &str) -> Result<bool, Error> {
    with(|state| {
        let is_visible = state.content.is_own(mcid) || state.rights.allow("/mesh/fetch", mcid);
        Ok(state.content.get(mcid)?.is_some() && is_visible)
    })
}

pub(crate) fn content_pin(mcid: &str) -> Result<(), Error> {
    with(|state| state.content.pin(mcid))
}

pub(crate) fn content_unpin(mcid: &str) -> Result<(), Error> {
    with(|state| state.content.unpin(mcid))
}

#[derive(Debug)]
pub(crate) struct Blob {
    data: Rc<[u8]>,
}

impl Blob {
    pub(crate) fn size(&self) -> u64 {
        self.data.len() as u64
    }

    pub(crate) fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, Error> {
        if len > PAYLOAD_BYTES_MAX {
            return Err(Error::TooLarge(PAYLOAD_BYTES_MAX));
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.data.len());
        let to = from.saturating_add(len as usize).min(self.data.len());
        Ok(self.data[from..to].to_vec())
    }
}

#[derive(Debug)]
pub(crate) struct Writer {
    pieces: RefCell<Vec<u8>>,
}

impl Writer {
    pub(crate) fn write(&self, piece: &[u8]) -> Result<(), Error> {
        check_payload(piece)?;
        self.pieces.borrow_mut().extend_from_slice(piece);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<String, Error> {
        Ok(with(|state| put(state, &self.pieces.borrow())))
    }
}

#[derive(Debug)]
pub(crate) struct Fetch {
    state: FetchState,
}

impl Fetch {
    pub(crate) fn state(&self) -> FetchState {
        self.state.clone()
    }

    /// A fetch here is over when it begins.
    pub(crate) fn cancel(&self) {}
}

// What the contract says of arguments.

fn check_topic(topic: &str) -> Result<(), Error> {
    if is_topic(topic) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{topic:?} is not a topic: 1 to 16 segments of [A-Za-z0-9_-]{{1,63}} joined by dots")))
}

fn check_payload(payload: &[u8]) -> Result<(), Error> {
    if payload.len() <= PAYLOAD_BYTES_MAX as usize { Ok(()) } else { Err(Error::TooLarge(PAYLOAD_BYTES_MAX)) }
}

fn check_content_type(content_type: &str) -> Result<(), Error> {
    if content_type.len() <= 127 { Ok(()) } else { Err(Error::Invalid("content type: at most 127 bytes".to_owned())) }
}

fn check_metadata(metadata: &[(&str, &str)]) -> Result<(), Error> {
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if metadata.len() > 16 || bytes > 4_096 {
        return Err(Error::Invalid("metadata: at most 16 pairs, 4,096 bytes together".to_owned()));
    }
    for (at, (name, _)) in metadata.iter().enumerate() {
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_part) {
            return Err(Error::Invalid(format!("metadata name {name:?}: 1 to 64 characters of [a-z0-9-]")));
        }
        if name.starts_with("macula-") {
            return Err(Error::Invalid(format!("metadata name {name:?} belongs to the platform")));
        }
        if metadata[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(Error::Invalid(format!("metadata name {name:?} comes twice")));
        }
    }
    Ok(())
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
