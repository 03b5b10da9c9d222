//! `trace`: join distributed traces.

use macula_wire::Traceparent;

use super::InstanceState;
use crate::bindings::trace;

impl trace::Host for InstanceState {
    fn current(&mut self) -> wasmtime::Result<Option<trace::Context>> {
        let context = |trace: &Traceparent| trace::Context {
            traceparent: trace.to_string(),
            // Nothing on the wire carries it.
            tracestate: String::new(),
        };
        Ok(self.handling.trace.as_ref().map(context))
    }
}
