//! What handlers are given: messages, calls, ticks.

use crate::payload::{self, DecodeError};
use serde::de::DeserializeOwned;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Named values that travel with a message, a call or an offer: at most 16 pairs, 4,096 bytes together.
pub type Metadata = Vec<(String, String)>;

/// A message as a handler sees it.
///
/// `(publisher, epoch, seq)` names it uniquely in its realm and stays the same when it is delivered again, so it is the
/// key to deduplicate by. In tests, [`testing::message`](crate::testing::message) makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The topic it was published to.
    pub topic: String,
    /// At most 1 MiB. Moved out of the host once and never copied by this crate.
    pub payload: Vec<u8>,
    /// Media type, for example `application/json`; empty when the publisher did not say.
    pub content_type: String,
    /// The `did:key` of who published it; verified by the host.
    pub publisher: String,
    /// Grows whenever the publisher starts anew; `seq` then begins again.
    pub epoch: u64,
    /// Grows with each message of the publisher within an epoch, over all its topics: gaps are normal.
    pub seq: u64,
    /// When it was published, by the publisher's clock, in milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: u64,
    /// 1 at first delivery, then one more each time that it is delivered again: after a retry, or a trap of the instance
    /// that had it in hand. What a host had taken is lost with the host's process, and not delivered again.
    pub attempt: u32,
    /// A stored last value, sent because this subscription is new; not live.
    pub retained: bool,
    /// Which subscription it matched: [`Subscription::id`](crate::pubsub::Subscription::id), 0 for the manifest's.
    pub subscription: u32,
    /// What the publisher added; mostly empty.
    pub metadata: Metadata,
}

impl Message {
    /// Reads the payload as JSON.
    ///
    /// # Errors
    /// [`DecodeError`], with which `?` rejects the message.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        payload::decode_json("payload", &self.payload)
    }

    /// Reads the payload as text, without copying it.
    ///
    /// # Errors
    /// [`DecodeError`], with which `?` rejects the message.
    pub fn text(&self) -> Result<&str, DecodeError> {
        payload::decode_text("payload", &self.payload)
    }

    /// The topic's segments: `sensors.kitchen.temperature` has three.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.topic.split('.')
    }

    /// When it was published, by the publisher's clock.
    pub fn timestamp(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.timestamp_ms)
    }

    /// One value of the metadata.
    pub fn meta(&self, name: &str) -> Option<&str> {
        find(&self.metadata, name)
    }
}

/// A call as its handler sees it. The mesh hands a call to a handler at most once.
///
/// In tests, [`testing::request`](crate::testing::request) makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// The procedure called, as it was advertised.
    pub procedure: String,
    /// At most 1 MiB.
    pub payload: Vec<u8>,
    /// Media type; empty when the caller did not say.
    pub content_type: String,
    /// The `did:key` of who calls; verified by the host, which has already checked the right to call.
    pub caller: String,
    /// Time left until the caller gives up, measured when the handler was entered. An answer after that is dropped.
    pub time_left: Duration,
    /// The same for every try of what the caller means to happen once; empty when not given.
    pub idempotency_key: String,
    /// What the caller added; mostly empty.
    pub metadata: Metadata,
}

impl Request {
    /// Reads the arguments as JSON.
    ///
    /// # Errors
    /// [`DecodeError`], which `?` answers with the code `bad-arguments`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        payload::decode_json("argument", &self.payload)
    }

    /// Reads the arguments as text, without copying them.
    ///
    /// # Errors
    /// [`DecodeError`], which `?` answers with the code `bad-arguments`.
    pub fn text(&self) -> Result<&str, DecodeError> {
        payload::decode_text("argument", &self.payload)
    }

    /// One value of the metadata.
    pub fn meta(&self, name: &str) -> Option<&str> {
        find(&self.metadata, name)
    }
}

/// A timer that fell due.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// As given to [`timers`](crate::timers); perhaps by an earlier version of the plugin.
    pub name: String,
    /// When it was due, in milliseconds since 1970-01-01 UTC.
    pub due_ms: u64,
    /// Earlier ticks of this timer that were left out because the instance was busy.
    pub missed: u32,
}

fn find<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    metadata.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}
