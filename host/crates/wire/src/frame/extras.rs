//! What only some messages and calls carry.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Metadata, Traceparent, Tracestate, limits::IDEMPOTENCY_KEY_BYTES_MAX};

/// W3C Trace Context and metadata; unknown keys are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extras {
    /// What the sender added.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<Metadata>>,
    /// The trace that it belongs to. One that is malformed counts as none: what carries it is as good without.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none", deserialize_with = "traceparent")]
    pub traceparent: Option<Traceparent>,
    /// What systems that trace have noted about that trace. One that is malformed counts as none, and so does one without a trace.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none", deserialize_with = "tracestate")]
    pub tracestate: Option<Tracestate>,
    /// Of a call: at most 64 bytes.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Arc<str>>,
}

fn traceparent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Traceparent>, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    Ok(text.parse().ok())
}

fn tracestate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Tracestate>, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    Ok(text.parse().ok())
}

/// Why extras were refused.
#[derive(Debug, thiserror::Error)]
#[error("malformed extras: {0}")]
pub struct ExtrasError(String);

impl Extras {
    /// Whether there is nothing to carry.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Encodes; empty extras give no bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_empty() { Vec::new() } else { serde_ipld_dagcbor::to_vec(self).expect("extras always encode") }
    }

    /// Reads what [`Extras::to_bytes`] wrote.
    ///
    /// # Errors
    /// When it is no map, or a known field breaks its rule.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ExtrasError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut extras: Self = serde_ipld_dagcbor::from_slice(bytes).map_err(|error| ExtrasError(error.to_string()))?;
        if extras.traceparent.is_none() {
            extras.tracestate = None;
        }
        if extras.idempotency_key.as_ref().is_some_and(|key| key.len() > IDEMPOTENCY_KEY_BYTES_MAX) {
            return Err(ExtrasError(format!("an idempotency key above {IDEMPOTENCY_KEY_BYTES_MAX} bytes")));
        }
        Ok(extras)
    }
}
