//! A message as a subscriber sees it, and the choices of those who publish and subscribe.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Metadata, NodeId, Topic, Traceparent, Tracestate,
    limits::{CONTENT_TYPE_BYTES_MAX, PLUGIN_NAME_BYTES_MAX},
};

/// One message. `(publisher, epoch, seq)` names it uniquely in its realm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it was published to.
    pub topic: Topic,
    /// At most 1 MiB.
    pub payload: Bytes,
    /// Media type; empty when the publisher did not say.
    pub content_type: ContentType,
    /// The node that published it, as attested by the relay (`auth` 0).
    pub publisher: NodeId,
    /// The plugin on that node; empty for a program that uses the node's handle itself.
    pub plugin: PluginName,
    /// Grows whenever the publisher starts anew.
    pub epoch: u64,
    /// Grows with each message of the publisher within an epoch, over all its topics.
    pub seq: u64,
    /// When it was published, by the publisher's clock: milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: u64,
    /// A stored last value rather than a live message.
    pub retained: bool,
    /// How many handlers published because of one another before this message.
    pub cause_depth: u8,
    /// What the publisher added; `None` when nothing.
    pub metadata: Option<Arc<Metadata>>,
    /// The trace that it belongs to; `None` when it is not traced.
    pub traceparent: Option<Traceparent>,
    /// What systems that trace have noted about that trace; `None` when they have not.
    pub tracestate: Option<Tracestate>,
}

/// How hard the mesh tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Delivery {
    /// In order for each publisher, kept while subscribers' queues have room.
    #[default]
    Ordered,
    /// Only the newest value of a topic counts; older ones may be dropped, the newest is not.
    Latest,
    /// Ordered, and the publisher is told when a relay has taken it.
    Acked,
}

/// Which queue a message takes where there is competition. Order is kept per publisher *and* priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Before all else.
    High,
    /// The default.
    #[default]
    Normal,
    /// When nothing else wants to be sent.
    Low,
}

/// What happens when a subscription's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Forget the oldest queued message.
    #[default]
    DropOldest,
    /// Keep only the newest message of each topic.
    LatestOnly,
    /// Hold back the receipts of acked publishers, for at most 2 s at a stretch; then as `DropOldest`.
    Block,
}

/// Where a message was known to be when `publish` returned, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ReceiptLevel {
    /// In this node's queue.
    Host,
    /// In a relay's memory.
    RelayMemory,
    /// On a relay's disk.
    RelayDisk,
}

/// What is known about a message that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// With `seq`, the message's name among those of this publisher.
    pub epoch: u64,
    /// See `epoch`.
    pub seq: u64,
    /// How safe it is.
    pub level: ReceiptLevel,
}

macro_rules! short_text {
    ($(#[$doc:meta])* $name:ident, $error:ident, $max:expr, $rule:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Option<Arc<str>>);

        /// Why text was refused; holds the text, cut to 80 characters.
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        #[error("{0:?} is no {expected}", expected = $expected)]
        pub struct $error(String);

        impl $name {
            /// No text.
            pub const EMPTY: Self = Self(None);

            /// The text; empty when there is none.
            pub fn as_str(&self) -> &str {
                self.0.as_deref().unwrap_or_default()
            }

            /// Whether there is none.
            pub fn is_empty(&self) -> bool {
                self.0.is_none()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::EMPTY
            }
        }

        impl FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                if text.is_empty() {
                    Ok(Self::EMPTY)
                } else if text.len() <= $max && text.bytes().all($rule) {
                    Ok(Self(Some(text.into())))
                } else {
                    Err($error(text.chars().take(80).collect()))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.as_str())
            }
        }
    };
}

short_text!(
    /// A media type such as `application/json`, or nothing. At most 127 visible ASCII characters. Cheap to clone.
    ContentType, ContentTypeError, CONTENT_TYPE_BYTES_MAX, |b| (0x20..0x7f).contains(&b),
    "content type (expected at most 127 visible ASCII characters, like application/json)"
);
short_text!(
    /// A plugin's name: 1–64 characters of `[a-z0-9-]`, or nothing. Cheap to clone.
    PluginName, PluginNameError, PLUGIN_NAME_BYTES_MAX, |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'),
    "plugin name (expected 1 to 64 characters of a-z, 0-9 and '-')"
);

impl FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "high" => Ok(Self::High),
            "normal" => Ok(Self::Normal),
            "low" => Ok(Self::Low),
            _ => Err(format!("{text:?} is no priority (expected high, normal or low)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts() {
        assert_eq!("".parse::<ContentType>().unwrap(), ContentType::EMPTY);
        assert_eq!("application/json".parse::<ContentType>().unwrap().as_str(), "application/json");
        assert!("a\nb".parse::<ContentType>().is_err());
        assert!("x".repeat(128).parse::<ContentType>().is_err());
        assert!("sensor-alert".parse::<PluginName>().is_ok());
        assert!("Sensor".parse::<PluginName>().is_err());
    }
}
