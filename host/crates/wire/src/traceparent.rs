//! The trace that a message or a call belongs to: `traceparent` of W3C Trace Context, version 00.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// `00-<trace id>-<span id>-<flags>`, 55 characters. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Traceparent(Arc<str>);

/// Why text is no traceparent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("traceparent is not of the form 00-<trace id>-<span id>-<flags>")]
pub struct TraceparentError;

impl Traceparent {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What all parts of the trace have in common: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }

    /// The same trace, from another part of it on.
    pub fn with_span(&self, span: u64) -> Self {
        Self(format!("00-{}-{span:016x}-{}", self.trace_id(), &self.0[53..]).into())
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Traceparent {
    type Error = TraceparentError;

    fn try_from(text: String) -> Result<Self, TraceparentError> {
        text.parse()
    }
}

impl From<Traceparent> for String {
    fn from(trace: Traceparent) -> Self {
        trace.0.as_ref().to_owned()
    }
}

impl FromStr for Traceparent {
    type Err = TraceparentError;

    /// Sections 3.2.2.1 to 3.2.2.5 of Trace Context: lower-case hexadecimal digits, ids that are not all zeros, version 00.
    fn from_str(text: &str) -> Result<Self, TraceparentError> {
        let lengths = [2, 32, 16, 2];
        let mut fields = text.split('-');
        let is_hex = |field: &str| field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let fits =
            lengths.iter().all(|length| fields.next().is_some_and(|field| field.len() == *length && is_hex(field)));
        if !fits || fields.next().is_some() || !text.starts_with("00-") {
            return Err(TraceparentError);
        }
        let is_zero = |digits: &str| digits.bytes().all(|digit| digit == b'0');
        if is_zero(&text[3..35]) || is_zero(&text[36..52]) { Err(TraceparentError) } else { Ok(Self(text.into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_from_part_to_part() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace: Traceparent = text.parse().unwrap();
        assert_eq!((trace.as_str(), trace.trace_id()), (text, "4bf92f3577b34da6a3ce929d0e0e4736"));
        let next = trace.with_span(0xab);
        assert_eq!(next.as_str(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-01");
        assert_eq!(next.as_str().parse(), Ok(next));
    }

    #[test]
    fn everything_else_is_none() {
        for text in [
            "",
            "00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ü-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<Traceparent>(), Err(TraceparentError), "{text}");
        }
    }
}
