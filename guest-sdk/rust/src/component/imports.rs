//! The imported interfaces, in this crate's types.

use super::wit::platform::macula::plugin as wit;
use crate::content::{FetchState, Progress};
use crate::identity::Shard;
use crate::kv::{Entry, Page, Version};
use crate::log::Level;
use crate::pubsub::{Delivery, PublishOptions, Receipt, ReceiptLevel, SubscribeOptions, SubscriptionStats, WhenFull};
use crate::rpc::{AdvertiseOptions, CallError, CallOptions};
use crate::trace::Context;
use crate::{Error, HandlerError, Message};

impl From<wit::types::Error> for Error {
    fn from(error: wit::types::Error) -> Self {
        use wit::types::Error as Wit;
        match error {
            Wit::Denied(text) => Error::Denied(text),
            Wit::Invalid(text) => Error::Invalid(text),
            Wit::NotFound(text) => Error::NotFound(text),
            Wit::Timeout => Error::Timeout,
            Wit::Unavailable(text) => Error::Unavailable(text),
            Wit::TooLarge(limit) => Error::TooLarge(limit),
            Wit::QuotaExceeded(text) => Error::QuotaExceeded(text),
            Wit::Conflict(text) => Error::Conflict(text),
            Wit::Cancelled => Error::Cancelled,
            Wit::Other(text) => Error::Other(text),
        }
    }
}

impl From<Error> for wit::types::Error {
    fn from(error: Error) -> Self {
        use wit::types::Error as Wit;
        match error {
            Error::Denied(text) => Wit::Denied(text),
            Error::Invalid(text) => Wit::Invalid(text),
            Error::NotFound(text) => Wit::NotFound(text),
            Error::Timeout => Wit::Timeout,
            Error::Unavailable(text) => Wit::Unavailable(text),
            Error::TooLarge(limit) => Wit::TooLarge(limit),
            Error::QuotaExceeded(text) => Wit::QuotaExceeded(text),
            Error::Conflict(text) => Wit::Conflict(text),
            Error::Cancelled => Wit::Cancelled,
            Error::Other(text) => Wit::Other(text),
        }
    }
}

// pubsub

pub(crate) fn publish(topic: &str, payload: &[u8], options: Option<PublishOptions<'_>>) -> Result<Receipt, Error> {
    let options = options.map(|options| wit::pubsub::PublishOptions {
        delivery: match options.delivery {
            Delivery::Ordered => wit::pubsub::Delivery::Ordered,
            Delivery::Latest => wit::pubsub::Delivery::Latest,
            Delivery::Acked => wit::pubsub::Delivery::Acked,
        },
        retain: options.retain,
        content_type: options.content_type,
        metadata: options.metadata,
    });
    let receipt = wit::pubsub::publish(topic, payload, options)?;
    Ok(Receipt {
        epoch: receipt.epoch,
        seq: receipt.seq,
        level: match receipt.level {
            wit::pubsub::ReceiptLevel::Host => ReceiptLevel::Host,
            wit::pubsub::ReceiptLevel::RelayMemory => ReceiptLevel::RelayMemory,
            wit::pubsub::ReceiptLevel::RelayDisk => ReceiptLevel::RelayDisk,
        },
    })
}

pub(crate) fn subscribe(pattern: &str, options: Option<SubscribeOptions>) -> Result<Subscription, Error> {
    let options = options.map(|options| wit::pubsub::SubscribeOptions {
        when_full: match options.when_full {
            WhenFull::DropOldest => wit::pubsub::WhenFull::DropOldest,
            WhenFull::LatestOnly => wit::pubsub::WhenFull::LatestOnly,
            WhenFull::Block => wit::pubsub::WhenFull::Block,
        },
        queue_messages: options.queue_messages,
        retained: options.retained,
    });
    Ok(Subscription(wit::pubsub::subscribe(pattern, options)?))
}

pub(crate) fn retained(topic: &str) -> Result<Option<Message>, Error> {
    Ok(wit::pubsub::retained(topic)?.map(Into::into))
}

#[derive(Debug)]
pub(crate) struct Subscription(wit::pubsub::Subscription);

impl Subscription {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn pattern(&self) -> String {
        self.0.pattern()
    }

    pub(crate) fn stats(&self) -> SubscriptionStats {
        let stats = self.0.stats();
        SubscriptionStats { delivered: stats.delivered, dropped: stats.dropped, queued: stats.queued }
    }

    pub(crate) fn unsubscribe(&self) {
        self.0.unsubscribe();
    }
}

// rpc

pub(crate) fn call(procedure: &str, payload: &[u8], options: Option<CallOptions<'_>>) -> Result<Vec<u8>, CallError> {
    let options = options.map(|options| wit::rpc::CallOptions {
        timeout_ms: options.timeout_ms,
        content_type: options.content_type,
        idempotency_key: options.idempotency_key,
        metadata: options.metadata,
    });
    wit::rpc::call(procedure, payload, options).map_err(|error| match error {
        wit::rpc::CallError::Handler(error) => {
            CallError::Handler(HandlerError { code: error.code, message: error.message, data: error.data })
        }
        wit::rpc::CallError::NotRun(error) => CallError::NotRun(error.into()),
        wit::rpc::CallError::MaybeRun(error) => CallError::MaybeRun(error.into()),
    })
}

pub(crate) fn advertise(procedure: &str, options: Option<AdvertiseOptions<'_>>) -> Result<Advertisement, Error> {
    let options = options
        .map(|options| wit::rpc::AdvertiseOptions { in_flight_max: options.in_flight_max, metadata: options.metadata });
    Ok(Advertisement(wit::rpc::advertise(procedure, options)?))
}

#[derive(Debug)]
pub(crate) struct Advertisement(wit::rpc::Advertisement);

impl Advertisement {
    pub(crate) fn procedure(&self) -> String {
        self.0.procedure()
    }

    pub(crate) fn withdraw(&self) {
        self.0.withdraw();
    }
}

// timers

pub(crate) fn timer_after(name: &str, delay_ms: u32) -> Result<(), Error> {
    Ok(wit::timers::after(name, delay_ms)?)
}

pub(crate) fn timer_every(name: &str, period_ms: u32) -> Result<(), Error> {
    Ok(wit::timers::every(name, period_ms)?)
}

pub(crate) fn timer_cancel(name: &str) -> bool {
    wit::timers::cancel(name)
}

// config

pub(crate) fn config_get(key: &str) -> Option<String> {
    wit::config::get(key)
}

pub(crate) fn config_all() -> Vec<(String, String)> {
    wit::config::all()
}

// identity

pub(crate) fn plugin_name() -> String {
    wit::identity::plugin_name()
}

pub(crate) fn plugin_version() -> String {
    wit::identity::plugin_version()
}

pub(crate) fn component() -> String {
    wit::identity::component()
}

pub(crate) fn principal() -> String {
    wit::identity::principal()
}

pub(crate) fn node() -> String {
    wit::identity::node()
}

pub(crate) fn realm() -> String {
    wit::identity::realm()
}

pub(crate) fn instance() -> Shard {
    let shard = wit::identity::instance();
    Shard { index: shard.index, count: shard.count }
}

pub(crate) fn can(command: &str, target: &str) -> bool {
    wit::identity::can(command, target)
}

// trace

pub(crate) fn trace_current() -> Option<Context> {
    wit::trace::current().map(|context| Context { traceparent: context.traceparent, tracestate: context.tracestate })
}

// log

fn wit_level(level: Level) -> wit::log::Level {
    match level {
        Level::Trace => wit::log::Level::Trace,
        Level::Debug => wit::log::Level::Debug,
        Level::Info => wit::log::Level::Info,
        Level::Warn => wit::log::Level::Warn,
        Level::Error => wit::log::Level::Error,
    }
}

pub(crate) fn log_enabled(level: Level) -> bool {
    wit::log::enabled(wit_level(level))
}

pub(crate) fn log_write(level: Level, target: &str, message: &str, fields: &[(&str, &str)]) {
    wit::log::write(wit_level(level), target, message, fields);
}

// kv

pub(crate) fn bucket_open(name: &str) -> Result<Bucket, Error> {
    Ok(Bucket(wit::kv::open(name)?))
}

#[derive(Debug)]
pub(crate) struct Bucket(wit::kv::Bucket);

impl Bucket {
    pub(crate) fn replicated(&self) -> bool {
        self.0.replicated()
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let entry = self.0.get(key)?;
        Ok(entry.map(|entry| Entry { value: entry.value, version: Version(entry.version) }))
    }

    pub(crate) fn set(&self, key: &str, value: &[u8], lifetime_ms: Option<u32>) -> Result<(), Error> {
        Ok(self.0.set(key, value, lifetime_ms)?)
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.0.delete(key)?)
    }

    pub(crate) fn swap(&self, key: &str, expected: Option<Version>, value: &[u8]) -> Result<Version, Error> {
        Ok(Version(self.0.swap(key, expected.map(|version| version.0), value)?))
    }

    pub(crate) fn increment(&self, key: &str, delta: i32) -> Result<i64, Error> {
        Ok(self.0.increment(key, delta)?)
    }

    pub(crate) fn keys(&self, prefix: &str, cursor: Option<&str>, limit: u32) -> Result<Page, Error> {
        let page = self.0.keys(prefix, cursor, limit)?;
        Ok(Page { keys: page.keys, next: page.next })
    }
}

// content

pub(crate) fn content_put(data: &[u8]) -> Result<String, Error> {
    Ok(wit::content::put(data)?)
}

pub(crate) fn content_create() -> Result<Writer, Error> {
    Ok(Writer(wit::content::create()?))
}

pub(crate) fn content_open(mcid: &str) -> Result<Blob, Error> {
    Ok(Blob(wit::content::open(mcid)?))
}

pub(crate) fn content_fetch_all(mcid: &str) -> Result<Fetch, Error> {
    Ok(Fetch(wit::content::fetch_all(mcid)?))
}

pub(crate) fn content_has(mcid: &str) -> Result<bool, Error> {
    Ok(wit::content::has(mcid)?)
}

pub(crate) fn content_pin(mcid: &str) -> Result<(), Error> {
    Ok(wit::content::pin(mcid)?)
}

pub(crate) fn content_unpin(mcid: &str) -> Result<(), Error> {
    Ok(wit::content::unpin(mcid)?)
}

#[derive(Debug)]
pub(crate) struct Blob(wit::content::Blob);

impl Blob {
    pub(crate) fn size(&self) -> u64 {
        self.0.size()
    }

    pub(crate) fn read(&self, offset: u64, len: u32) -> Result<Vec<u8>, Error> {
        Ok(self.0.read(offset, len)?)
    }
}

#[derive(Debug)]
pub(crate) struct Writer(wit::content::Writer);

impl Writer {
    pub(crate) fn write(&self, piece: &[u8]) -> Result<(), Error> {
        Ok(self.0.write(piece)?)
    }

    pub(crate) fn finish(self) -> Result<String, Error> {
        Ok(wit::content::Writer::finish(self.0)?)
    }
}

#[derive(Debug)]
pub(crate) struct Fetch(wit::content::Fetch);

impl Fetch {
    pub(crate) fn state(&self) -> FetchState {
        match self.0.state() {
            wit::content::FetchState::Running(progress) => FetchState::Running(Progress {
                stored_bytes: progress.stored_bytes,
                total_bytes: progress.total_bytes,
                providers: progress.providers,
            }),
            wit::content::FetchState::Done => FetchState::Done,
            wit::content::FetchState::Failed(error) => FetchState::Failed(error.into()),
        }
    }

    pub(crate) fn cancel(&self) {
        self.0.cancel();
    }
}
