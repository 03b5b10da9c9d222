//! `trace`: join distributed traces.

use macula_wire::{Traceparent, Tracestate};

use super::InstanceState;
use crate::bindings::trace;

impl trace::Host for InstanceState {
    fn current(&mut self) -> wasmtime::Result<Option<trace::Context>> {
        let state = self.handling.tracestate.as_ref();
        let context = |trace: &Traceparent| trace::Context {
            traceparent: trace.to_string(),
            tracestate: state.map(Tracestate::to_string).unwrap_or_default(),
        };
        Ok(self.handling.trace.as_ref().map(context))
    }
}
