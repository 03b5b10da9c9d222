//! Errors of host functions: what the guest sees, and what ends it.

use macula_wire::{CallError, Fault, HandlerError};
use wasmtime::component::ResourceTableError;

use super::InstanceState;
use crate::bindings::{rpc, types};

/// What a host function that may fail gives back.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated code names it in a public place")]
pub enum HostError {
    /// The guest gets it as a value.
    Guest(types::Error),
    /// The guest broke the rules of the interface itself, and ends.
    Trap(wasmtime::Error),
}

/// The same for calls.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated code names it in a public place")]
pub enum CallFailure {
    /// The guest gets it as a value.
    Guest(rpc::CallError),
    /// See [`HostError::Trap`]. No call does that today.
    #[allow(dead_code, reason = "the pair of `HostError::Trap`")]
    Trap(wasmtime::Error),
}

impl From<types::Error> for HostError {
    fn from(error: types::Error) -> Self {
        Self::Guest(error)
    }
}

impl From<Fault> for HostError {
    fn from(fault: Fault) -> Self {
        Self::Guest(fault.into())
    }
}

impl From<ResourceTableError> for HostError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<rpc::CallError> for CallFailure {
    fn from(error: rpc::CallError) -> Self {
        Self::Guest(error)
    }
}

impl From<Fault> for types::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Denied(text) => Self::Denied(text),
            Fault::Invalid(text) => Self::Invalid(text),
            Fault::NotFound(text) => Self::NotFound(text),
            Fault::Timeout => Self::Timeout,
            Fault::Unavailable(text) => Self::Unavailable(text),
            Fault::TooLarge(limit) => Self::TooLarge(limit),
            Fault::QuotaExceeded(text) => Self::QuotaExceeded(text),
            Fault::Conflict(text) => Self::Conflict(text),
            Fault::Cancelled => Self::Cancelled,
            Fault::Other(text) => Self::Other(text),
        }
    }
}

impl From<HandlerError> for types::HandlerError {
    fn from(error: HandlerError) -> Self {
        Self { code: error.code, message: error.message, data: error.data }
    }
}

impl From<types::HandlerError> for HandlerError {
    fn from(error: types::HandlerError) -> Self {
        Self { code: error.code, message: error.message, data: error.data }
    }
}

impl From<CallError> for rpc::CallError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Handler(error) => Self::Handler(error.into()),
            CallError::NotRun(fault) => Self::NotRun(fault.into()),
            CallError::MaybeRun(fault) => Self::MaybeRun(fault.into()),
        }
    }
}

/// What a plugin said was wrong, as one line for a person.
pub(crate) fn describe(error: &types::Error) -> String {
    match error {
        types::Error::Denied(text) => format!("denied: {text}"),
        types::Error::Invalid(text) => format!("invalid: {text}"),
        types::Error::NotFound(text) => format!("not found: {text}"),
        types::Error::Timeout => "timed out".to_owned(),
        types::Error::Unavailable(text) => format!("unavailable: {text}"),
        types::Error::TooLarge(limit) => format!("too large: at most {limit} bytes"),
        types::Error::QuotaExceeded(text) => format!("quota exceeded: {text}"),
        types::Error::Conflict(text) => format!("conflict: {text}"),
        types::Error::Cancelled => "cancelled".to_owned(),
        types::Error::Other(text) => text.clone(),
    }
}

impl types::Host for InstanceState {
    fn convert_error(&mut self, error: HostError) -> wasmtime::Result<types::Error> {
        match error {
            HostError::Guest(error) => Ok(error),
            HostError::Trap(error) => Err(error),
        }
    }
}
