//! Publish messages and subscribe to topics.
//!
//! Topics are 1 to 16 segments of `[A-Za-z0-9_-]{1,63}` joined by `.`; in patterns `*` stands for one segment and a final
//! `**` for one or more. The manifest says which topics the plugin asks for, the host's operator grants them.

use crate::{Error, Message, host};
use serde::Serialize;
use std::borrow::Cow;

/// How hard the mesh tries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// In order for each publisher, kept while subscribers' queues have room: the default.
    #[default]
    Ordered,
    /// Only the newest value counts; older ones may be overtaken or dropped.
    Latest,
    /// Ordered, and `send` waits until a relay has taken it. The receipt says how safely.
    Acked,
}

/// Where a message was known to be when `send` returned, from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReceiptLevel {
    /// In this host's queue ([`Delivery::Ordered`], [`Delivery::Latest`]).
    Host,
    /// In a relay's memory ([`Delivery::Acked`]): survives the death of this host.
    RelayMemory,
    /// On a relay's disk ([`Delivery::Acked`]): survives the death of the relay as well.
    RelayDisk,
}

/// What is known about a message that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its epoch, as subscribers will see it.
    pub epoch: u64,
    /// Its number, as subscribers will see it.
    pub seq: u64,
    /// How safe it was.
    pub level: ReceiptLevel,
}

/// What happens when a subscription's queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Forget the oldest queued message: the default.
    #[default]
    DropOldest,
    /// Keep only the newest message of each topic.
    LatestOnly,
    /// Hold back the receipts of [`Delivery::Acked`] publishers until there is room, for at most 2 s at a stretch; after
    /// that, and for all other publishers, like `DropOldest`.
    Block,
}

/// Counts since a subscription began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionStats {
    /// Handed to the handler, each once.
    pub delivered: u64,
    /// Dropped because a queue was full, here or at a relay.
    pub dropped: u64,
    /// Waiting now.
    pub queued: u32,
}

/// Begins a message to everybody subscribed to `topic` in this realm; [`Publish::send`] sends it.
///
/// ```
/// use macula_plugin::prelude::*;
///
/// #[derive(serde::Serialize)]
/// struct Alert { celsius: f64 }
///
/// fn alert(room: &str, celsius: f64) -> Result {
///     publish(format!("alerts.{room}.temperature")).json(&Alert { celsius }).retain().send()?;
///     Ok(())
/// }
/// ```
pub fn publish<'a>(topic: impl Into<Cow<'a, str>>) -> Publish<'a> {
    Publish {
        topic: topic.into(),
        payload: Ok(Cow::Borrowed(&[])),
        delivery: Delivery::Ordered,
        retain: false,
        content_type: Cow::Borrowed(""),
        metadata: Vec::new(),
    }
}

/// A message about to be sent: see [`publish`].
#[derive(Debug)]
#[must_use = "a message is sent by `send`"]
pub struct Publish<'a> {
    topic: Cow<'a, str>,
    payload: Result<Cow<'a, [u8]>, Error>,
    delivery: Delivery,
    retain: bool,
    content_type: Cow<'a, str>,
    metadata: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Publish<'a> {
    /// The payload as it is, at most 1 MiB: borrowed when given as a slice, not copied.
    pub fn payload(mut self, payload: impl Into<Cow<'a, [u8]>>) -> Self {
        self.payload = Ok(payload.into());
        self
    }

    /// The payload as text, with the content type `text/plain`.
    pub fn text(mut self, text: &'a str) -> Self {
        self.payload = Ok(Cow::Borrowed(text.as_bytes()));
        self.content_type("text/plain")
    }

    /// The payload as JSON, with the content type `application/json`. A value that cannot be written makes
    /// [`send`](Self::send) fail with [`Error::Invalid`].
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.payload = crate::to_json(value).map(Cow::Owned);
        self.content_type("application/json")
    }

    /// How hard the mesh tries.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = delivery;
        self
    }

    /// Keep it as the topic's last value, for subscribers to come. With an empty payload: forget the last value.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Media type of the payload, at most 127 bytes.
    pub fn content_type(mut self, content_type: impl Into<Cow<'a, str>>) -> Self {
        self.content_type = content_type.into();
        self
    }

    /// Adds a named value: a name is 1 to 64 characters of `[a-z0-9-]`, at most 16 pairs and 4,096 bytes together.
    pub fn meta(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }

    /// Sends it. Waits while this host's queue is full, and with [`Delivery::Acked`] for the relay, but never beyond the
    /// handler's time budget.
    ///
    /// # Errors
    /// `Denied`; `Invalid` (topic, content type, metadata); `TooLarge` (payload above 1 MiB); `QuotaExceeded` (rate);
    /// `Timeout` (may still be delivered); `Unavailable` (was not sent).
    pub fn send(self) -> Result<Receipt, Error> {
        let payload = self.payload?;
        let plain = self.delivery == Delivery::Ordered
            && !self.retain
            && self.content_type.is_empty()
            && self.metadata.is_empty();
        if plain {
            return host::publish(&self.topic, &payload, None);
        }
        let metadata = borrowed(&self.metadata);
        let options = PublishOptions {
            delivery: self.delivery,
            retain: self.retain,
            content_type: &self.content_type,
            metadata: &metadata,
        };
        host::publish(&self.topic, &payload, Some(options))
    }
}

pub(crate) struct PublishOptions<'a> {
    pub(crate) delivery: Delivery,
    pub(crate) retain: bool,
    pub(crate) content_type: &'a str,
    pub(crate) metadata: &'a [(&'a str, &'a str)],
}

/// Begins to ask for all messages whose topic matches; [`Subscribe::open`] asks.
///
/// Subscribe in [`Lifecycle::init`](crate::Lifecycle::init), or let the manifest do it. The queue belongs to the plugin:
/// when the next instance subscribes to the same pattern in `init`, it goes on where the last one stopped.
pub fn subscribe(pattern: &str) -> Subscribe<'_> {
    Subscribe { pattern, options: None }
}

/// A subscription about to be opened: see [`subscribe`].
#[derive(Debug)]
#[must_use = "a subscription begins with `open`"]
pub struct Subscribe<'a> {
    pattern: &'a str,
    options: Option<SubscribeOptions>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SubscribeOptions {
    pub(crate) when_full: WhenFull,
    pub(crate) queue_messages: Option<u32>,
    pub(crate) retained: bool,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self { when_full: WhenFull::DropOldest, queue_messages: None, retained: true }
    }
}

impl Subscribe<'_> {
    /// What happens when the queue is full.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.options.get_or_insert_default().when_full = when_full;
        self
    }

    /// How many messages may wait, 1 to 65,536; without it, the host's number.
    pub fn queue_messages(mut self, messages: u32) -> Self {
        self.options.get_or_insert_default().queue_messages = Some(messages);
        self
    }

    /// Only what is published from now on: do not begin with the stored last values.
    pub fn live_only(mut self) -> Self {
        self.options.get_or_insert_default().retained = false;
        self
    }

    /// Opens it. Takes effect when the current handler returns.
    ///
    /// # Errors
    /// `Denied` (the whole pattern must be allowed); `Invalid`; `QuotaExceeded` (too many subscriptions); `Conflict`
    /// (this instance already holds the same pattern).
    pub fn open(self) -> Result<Subscription, Error> {
        host::subscribe(self.pattern, self.options).map(Subscription)
    }
}

/// A running subscription. It runs until [`unsubscribe`](Self::unsubscribe) or the end of the instance:
/// **dropping this handle changes nothing**.
#[derive(Debug)]
pub struct Subscription(host::Subscription);

impl Subscription {
    /// The number in [`Message::subscription`]; never 0, which stands for subscriptions of the manifest.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The pattern as given.
    pub fn pattern(&self) -> String {
        self.0.pattern()
    }

    /// What it has delivered and dropped so far.
    pub fn stats(&self) -> SubscriptionStats {
        self.0.stats()
    }

    /// Ends it: what is still queued is dropped, and nothing of it arrives any more. Twice is once.
    pub fn unsubscribe(&self) {
        self.0.unsubscribe();
    }
}

/// Reads the stored last value of one topic, without subscribing. Needs `/mesh/subscribe` for it.
///
/// # Errors
/// `Denied`, `Invalid`, `Timeout`, `Unavailable`. No stored value is `None`, not an error.
pub fn retained(topic: &str) -> Result<Option<Message>, Error> {
    host::retained(topic)
}

pub(crate) fn borrowed<'a>(metadata: &'a [(Cow<'_, str>, Cow<'_, str>)]) -> Vec<(&'a str, &'a str)> {
    metadata.iter().map(|(name, value)| (&**name, &**value)).collect()
}
