//! What a plugin did, for the test to look at.

use crate::Metadata;
use crate::log::Level;
use crate::pubsub::Delivery;
use serde::de::DeserializeOwned;

/// A message as the plugin published it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Where to.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
    /// Media type; empty when not given.
    pub content_type: String,
    /// How hard the mesh was to try.
    pub delivery: Delivery,
    /// Whether it was to become the topic's last value.
    pub retain: bool,
    /// Named values.
    pub metadata: Metadata,
}

impl Published {
    /// The payload as text.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.payload).expect("the published payload is text")
    }

    /// The payload as JSON.
    ///
    /// # Panics
    /// When it is not of the type's form.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        read_json("the published payload", &self.payload)
    }
}

/// An entry of the plugin's log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logged {
    /// How much it matters.
    pub level: Level,
    /// Where in the plugin.
    pub target: String,
    /// The text.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

#[track_caller]
pub(super) fn read_json<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> T {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|cause| panic!("{what} is not as expected: {cause}: {}", String::from_utf8_lossy(bytes)))
}
