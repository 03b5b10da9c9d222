//! Calls: the request a handler sees, and the ways in which a call ends without an answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    ContentType, Metadata, NodeId, PluginName, Topic, Traceparent, Tracestate,
    limits::{ERROR_CODE_BYTES_MAX, ERROR_DATA_BYTES_MAX, ERROR_MESSAGE_BYTES_MAX},
};

/// A call as its handler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The procedure called, as it was advertised.
    pub procedure: Topic,
    /// At most 1 MiB.
    pub payload: Bytes,
    /// Media type; empty when the caller did not say.
    pub content_type: ContentType,
    /// The calling node, as attested by the relay.
    pub caller: NodeId,
    /// The calling plugin; empty for a program that uses the node's handle itself.
    pub plugin: PluginName,
    /// Time until the caller gives up, counted from the moment the request was taken from its queue on this node.
    pub time_left: Duration,
    /// How many handlers acted because of one another before this call.
    pub cause_depth: u8,
    /// The same for every try of what the caller means to happen once; empty when not given.
    pub idempotency_key: Arc<str>,
    /// What the caller added; `None` when nothing.
    pub metadata: Option<Arc<Metadata>>,
    /// The trace that it belongs to; `None` when it is not traced.
    pub traceparent: Option<Traceparent>,
    /// What systems that trace have noted about that trace; `None` when they have not.
    pub tracestate: Option<Tracestate>,
}

/// Why the mesh did not do what was asked. Texts are for people; programs decide by the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A right is missing; the text names it.
    #[error("denied: {0}")]
    Denied(String),
    /// An argument can never be valid.
    #[error("invalid: {0}")]
    Invalid(String),
    /// What was named does not exist or cannot be found now.
    #[error("not found: {0}")]
    NotFound(String),
    /// Time ran out.
    #[error("timed out")]
    Timeout,
    /// No link, no provider, or every queue full.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// More bytes than the given limit.
    #[error("too large: at most {0} bytes are allowed")]
    TooLarge(u32),
    /// A quota is used up; the text names it.
    #[error("quota exceeded: {0}")]
    QuotaExceeded(String),
    /// Somebody else was first.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The other side gave up, or this one is shutting down.
    #[error("cancelled")]
    Cancelled,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Fault {
    /// What a relay says to a call of a procedure that nobody offers.
    pub fn nobody_offers(procedure: &Topic) -> Self {
        Self::NotFound(format!("nobody offers {procedure}"))
    }

    /// Whether it is [`Fault::nobody_offers`] of this procedure: what a provider says of something else that it does not find
    /// reads otherwise.
    pub fn is_nobody_offers(&self, procedure: &Topic) -> bool {
        *self == Self::nobody_offers(procedure)
    }
}

/// A handler's own “no” to a call, given to the caller unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct HandlerError {
    /// For programs: 1–64 characters of `[a-z0-9-]`.
    pub code: String,
    /// For people: one sentence, at most 1,024 bytes.
    pub message: String,
    /// Details in an encoding of the procedure's own; at most 64 KiB.
    #[serde(with = "serde_bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<u8>,
}

/// Why a handler's error cannot be carried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerErrorInvalid {
    /// The code is outside its grammar.
    #[error("error code {0:?} is not 1 to {ERROR_CODE_BYTES_MAX} characters of a-z, 0-9 and '-'")]
    Code(String),
    /// Message or data are above their bounds.
    #[error("an error carries at most {ERROR_MESSAGE_BYTES_MAX} bytes of message and {ERROR_DATA_BYTES_MAX} of data")]
    TooLarge,
}

impl HandlerError {
    /// An error without data.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), data: Vec::new() }
    }

    /// Checks grammar and bounds.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), HandlerErrorInvalid> {
        let grammar = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if self.code.is_empty() || self.code.len() > ERROR_CODE_BYTES_MAX || !self.code.bytes().all(grammar) {
            return Err(HandlerErrorInvalid::Code(self.code.chars().take(80).collect()));
        }
        if self.message.len() > ERROR_MESSAGE_BYTES_MAX || self.data.len() > ERROR_DATA_BYTES_MAX {
            return Err(HandlerErrorInvalid::TooLarge);
        }
        Ok(())
    }
}

/// Why a call gave no answer, sorted by what the caller has to know first: did the handler run?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum CallError {
    /// It ran and said no.
    #[error("{0}")]
    Handler(HandlerError),
    /// It did not run: trying again cannot make it run twice.
    #[error("{0} (the handler did not run)")]
    NotRun(Fault),
    /// It may have run.
    #[error("{0} (the handler may have run)")]
    MaybeRun(Fault),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_the_wire() {
        for error in [
            CallError::Handler(HandlerError { code: "bad".into(), message: "no".into(), data: vec![1, 2] }),
            CallError::NotRun(Fault::NotFound("math.add".into())),
            CallError::MaybeRun(Fault::Timeout),
            CallError::MaybeRun(Fault::TooLarge(9)),
        ] {
            let bytes = serde_ipld_dagcbor::to_vec(&error).unwrap();
            assert_eq!(serde_ipld_dagcbor::from_slice::<CallError>(&bytes).unwrap(), error);
        }
    }

    #[test]
    fn handler_errors_are_bounded() {
        assert!(HandlerError::new("out-of-range", "x").check().is_ok());
        assert!(HandlerError::new("Out", "x").check().is_err());
        assert!(HandlerError::new("", "x").check().is_err());
        assert!(HandlerError::new("a", "x".repeat(1025)).check().is_err());
    }
}
