//! Join distributed traces (W3C Trace Context). Needs no right.
//!
//! Nothing is needed to keep a trace together: what a handler publishes, calls and logs continues the trace of what it
//! handles. Ask only to hand a trace on by other ways.

use crate::host;

/// The trace of what is being handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// 55 characters: `00-<trace id>-<span id>-<flags>`.
    pub traceparent: String,
    /// At most 512 bytes; mostly empty.
    pub tracestate: String,
}

/// The trace of what is being handled; `None` when it is not traced.
pub fn current() -> Option<Context> {
    host::trace_current()
}
