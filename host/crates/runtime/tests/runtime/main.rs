//! Plugins on a mesh in memory, driven through the scripted plugin in `tests/guest` (built into `tests/probe.wasm` by
//! `tests/guest/build.sh`). No test sleeps: they wait for what they expect, or run in paused time.

mod calls;
mod content;
#[path = "../../src/conformance/contract_component.rs"]
mod contract_component;
mod crashes;
mod delivery;
mod examples;
mod idle;
mod lifecycle;
mod limits;
mod refusals;
mod rights;
mod settings;
mod sharing;
mod succession;
mod support;
mod timers;
