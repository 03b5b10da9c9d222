//! Why the host or the mesh did not do what was asked.

use std::fmt;
use std::time::Duration;

/// Why the host or the mesh did not do what was asked. Texts are for people; decide by the case.
///
/// In a handler, pass it on with `?`: [`Failure`](crate::Failure) says what becomes of the message then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The plugin lacks the right; the text names it, for example `/mesh/publish alerts.kitchen`.
    #[error("denied: {0}")]
    Denied(String),
    /// An argument can never be valid; the text says which, and what would be right.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The procedure, content, key or bucket does not exist here or cannot be found now.
    #[error("not found: {0}")]
    NotFound(String),
    /// Time ran out. What was asked may still happen.
    #[error("timeout")]
    Timeout,
    /// No link, no relay, no provider, or every queue full. Nothing happened; trying again later may help.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// More bytes than allowed; the number is the limit in bytes. Large data belongs in [`content`](crate::content).
    #[error("too large: at most {0} bytes")]
    TooLarge(u32),
    /// A quota of this plugin is used up; the text names it. Rates recover by themselves, totals do not.
    #[error("quota exceeded: {0}")]
    QuotaExceeded(String),
    /// Somebody else was first: a compare-and-swap lost, or the name is taken.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Stopped because the plugin is being shut down or the other side gave up.
    #[error("cancelled")]
    Cancelled,
    /// Anything else, and what later versions of the contract add.
    #[error("other: {0}")]
    Other(String),
}

impl Error {
    /// The name of the case as callers see it in [`HandlerError::code`]: `denied`, `not-found`, ….
    pub fn code(&self) -> &'static str {
        match self {
            Error::Denied(_) => "denied",
            Error::Invalid(_) => "invalid",
            Error::NotFound(_) => "not-found",
            Error::Timeout => "timeout",
            Error::Unavailable(_) => "unavailable",
            Error::TooLarge(_) => "too-large",
            Error::QuotaExceeded(_) => "quota-exceeded",
            Error::Conflict(_) => "conflict",
            Error::Cancelled => "cancelled",
            Error::Other(_) => "other",
        }
    }

    pub(crate) fn unwritable(cause: &serde_json::Error) -> Self {
        Error::Invalid(format!("the value cannot be written as JSON: {cause}"))
    }
}

/// A handler's own “no” to a call, given to the caller unchanged.
///
/// ```
/// use macula_plugin::{HandlerError, Result};
///
/// fn divide(a: f64, b: f64) -> Result<f64> {
///     if b == 0.0 {
///         return Err(HandlerError::new("division-by-zero", "the divisor is 0").into());
///     }
///     Ok(a / b)
/// }
/// # assert_eq!(divide(1.0, 0.0).unwrap_err().into_handler_error().code, "division-by-zero");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    /// For programs: 1 to 64 characters of `[a-z0-9-]`, for example `out-of-range`.
    pub code: String,
    /// For people: one sentence, at most 1,024 bytes.
    pub message: String,
    /// Details in an encoding of the procedure's own; mostly empty, at most 64 KiB.
    pub data: Vec<u8>,
}

/// The most bytes that [`HandlerError::message`] may have.
const MESSAGE_BYTES_MAX: usize = 1_024;

impl HandlerError {
    /// An error without details. A message above 1,024 bytes is cut.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        Self { code: code.into(), message, data: Vec::new() }
    }

    /// Adds details, at most 64 KiB.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for HandlerError {}

/// A span as the contract carries it: whole milliseconds, at most 49 days. Rounded up, so that only zero becomes zero.
pub(crate) fn milliseconds(what: &str, span: Duration) -> Result<u32, Error> {
    u32::try_from(span.as_nanos().div_ceil(1_000_000))
        .map_err(|_| Error::Invalid(format!("{what} of {span:?}: at most 49 days")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_up_and_bounded() {
        assert_eq!(milliseconds("delay", Duration::ZERO), Ok(0));
        assert_eq!(milliseconds("delay", Duration::from_micros(1)), Ok(1));
        assert_eq!(milliseconds("delay", Duration::from_millis(20)), Ok(20));
        let error = milliseconds("delay", Duration::from_secs(60 * 86_400)).unwrap_err();
        assert_eq!(error.to_string(), "invalid: delay of 5184000s: at most 49 days");
    }

    /// What callers and logs see is the same whatever language a plugin is written in: the Go and JavaScript SDKs have
    /// the same table.
    #[test]
    fn each_case_has_the_same_code_and_text_in_every_language() {
        let why = || "why".to_owned();
        for (error, code, text) in [
            (Error::Denied(why()), "denied", "denied: why"),
            (Error::Invalid(why()), "invalid", "invalid: why"),
            (Error::NotFound(why()), "not-found", "not found: why"),
            (Error::Timeout, "timeout", "timeout"),
            (Error::Unavailable(why()), "unavailable", "unavailable: why"),
            (Error::TooLarge(5), "too-large", "too large: at most 5 bytes"),
            (Error::QuotaExceeded(why()), "quota-exceeded", "quota exceeded: why"),
            (Error::Conflict(why()), "conflict", "conflict: why"),
            (Error::Cancelled, "cancelled", "cancelled"),
            (Error::Other(why()), "other", "other: why"),
        ] {
            assert_eq!((error.code(), error.to_string().as_str()), (code, text));
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let error = HandlerError::new("too-long", "é".repeat(1_000));
        assert_eq!(error.message.len(), 1_024);
        assert_eq!(HandlerError::new("too-long", format!("x{}", "é".repeat(1_000))).message.len(), 1_023);
    }
}
