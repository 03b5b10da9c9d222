//! Bytes to values and back.

use crate::Error;
use serde::{Serialize, de::DeserializeOwned};

/// A payload, setting or answer is not what the plugin expects.
///
/// In a message handler, `?` rejects the message; in a call handler the caller gets the code `bad-arguments`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not {expected}: {why}")]
pub struct DecodeError {
    what: String,
    expected: &'static str,
    why: String,
}

impl DecodeError {
    pub(crate) fn json(what: impl Into<String>, cause: &serde_json::Error) -> Self {
        Self { what: what.into(), expected: "the expected JSON", why: cause.to_string() }
    }

    pub(crate) fn text(what: impl Into<String>, cause: std::str::Utf8Error) -> Self {
        Self { what: what.into(), expected: "UTF-8 text", why: cause.to_string() }
    }
}

/// Writes a value as JSON: for answers, snapshots and stored values.
///
/// # Errors
/// [`Error::Invalid`] when the type cannot be written as JSON, for example a map whose keys are no strings.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|cause| Error::unwritable(&cause))
}

/// Reads a value from JSON: the counterpart of [`to_json`].
///
/// # Errors
/// [`DecodeError`] when the bytes are not JSON of the type's form.
pub fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_json("data", bytes)
}

pub(crate) fn decode_json<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|cause| DecodeError::json(what, &cause))
}

pub(crate) fn decode_text<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, DecodeError> {
    str::from_utf8(bytes).map_err(|cause| DecodeError::text(what, cause))
}
