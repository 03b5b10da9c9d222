//! Channels: what a data frame's 8-byte channel number stands for.
//!
//! A sender declares, once on each stream on which it uses it, that a number means “this topic (or procedure), from
//! this node and plugin, with this content type”. After that a frame carries the number only. Upstream, numbers are
//! the host's; downstream, they are the relay's, the same on all its links, so that a frame for many subscribers is
//! encoded once.

use serde::{Deserialize, Serialize};

use crate::{ContentType, NodeId, PluginName, Topic};

/// Whether a channel carries messages or calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelKind {
    /// Messages to a topic.
    Topic,
    /// Calls to a procedure.
    Procedure,
}

/// What a channel number stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Channel {
    /// Messages or calls.
    #[serde(rename = "k")]
    pub kind: ChannelKind,
    /// The realm, by the slot under which the link's host joined it.
    #[serde(rename = "r")]
    pub realm_slot: u32,
    /// The topic or procedure.
    #[serde(rename = "n")]
    pub name: Topic,
    /// Who sends. From a host, its own id: a relay refuses another.
    #[serde(rename = "p")]
    pub sender: NodeId,
    /// The sender's epoch.
    #[serde(rename = "e")]
    pub epoch: u64,
    /// The sending plugin.
    #[serde(rename = "g", default, skip_serializing_if = "PluginName::is_empty")]
    pub plugin: PluginName,
    /// Media type of the payloads.
    #[serde(rename = "c", default, skip_serializing_if = "ContentType::is_empty")]
    pub content_type: ContentType,
}

/// Why a channel's declaration was refused.
#[derive(Debug, thiserror::Error)]
#[error("malformed channel declaration: {0}")]
pub struct ChannelError(String);

impl Channel {
    /// The declaration's body: DAG-CBOR.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_ipld_dagcbor::to_vec(self).expect("a channel always encodes")
    }

    /// Reads a declaration's body. Unknown keys are ignored.
    ///
    /// # Errors
    /// When a field is missing, malformed or out of bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChannelError> {
        serde_ipld_dagcbor::from_slice(bytes).map_err(|error| ChannelError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusal() {
        let channel = Channel {
            kind: ChannelKind::Topic,
            realm_slot: 3,
            name: "sensors.kitchen".parse().unwrap(),
            sender: ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().into(),
            epoch: 1 << 41,
            plugin: "sensor-alert".parse().unwrap(),
            content_type: ContentType::EMPTY,
        };
        let bytes = channel.to_bytes();
        assert!(bytes.len() < 120, "{} bytes", bytes.len());
        assert_eq!(Channel::from_bytes(&bytes).unwrap(), channel);
        for cut in 0..bytes.len() {
            assert!(Channel::from_bytes(&bytes[..cut]).is_err());
        }
    }
}
