//! Runs mesh handlers: WebAssembly components that speak the contract in `wit/`.
//!
//! A component is inspected before anything of it is compiled ([`inspect()`]), made ready once ([`Runtime::start`]), and
//! lives as a [plugin](PluginHandle): a mailbox that outlives its instances, and instances that handle one thing at a
//! time. What it may do is checked at one place ([`Rights`]), what it may use is bounded ([`Limits`]), and what becomes of
//! each message, call and crash follows rules that are written down in `docs/plugins/runtime.md`.
//!
//! The crate sees the mesh through traits of its own ([`mesh`]); whoever embeds it implements them. [`testing`] has a
//! mesh in memory.

mod activity;
mod actor;
mod allowance;
mod base64;
mod bindings;
mod breaker;
mod cache;
mod clock;
mod conformance;
mod dead_letter;
mod dead_letters;
mod engine;
mod host;
mod inspect;
mod instance;
mod latency;
mod limiter;
mod log;
mod log_topic;
mod mailbox;
mod manifest;
mod orders;

pub mod mesh;
mod meter;
mod plugin;
mod program;

mod quotas;
mod registry;
mod rights;
mod runtime;
mod settings;
mod status;
mod succession;
pub mod testing;

pub use activity::{Activity, ActivityEvent, ActivityLog, CallOutcome, HandlerOutcome, Sample};
pub use actor::InitError;
pub use breaker::{CrashLoop, CrashPolicy};
pub use dead_letter::{dead_letter_pattern, dead_letter_topic};
pub use dead_letters::{DeadLetter, DeadLetters, ReplayError};
pub use engine::EngineError;
pub use inspect::{Ability, Inspection, MANIFEST_BYTES_MAX, Refusal, Section, examine, inspect};
pub use latency::{Histogram, Latencies, latency_bounds_us};
pub use log::{LogLevel, LogLine, LogSource, PluginLog};
pub use log_topic::{log_pattern, log_topic};
pub use macula_wire::{Mcid, McidError, Operation};
pub use manifest::{
    Asks, Limits, Manifest, ManifestError, ManifestLayer, ManifestSubscription, ManifestText, SECTION, overlay,
};
pub use plugin::{CanaryStatus, PluginHandle, StopReason};
pub use program::ProgramError;
pub use rights::Rights;
pub use runtime::{
    COMPONENT_BYTES_MAX, Grant, ManifestSource, PluginSource, Prepared, Runtime, RuntimeConfig, RuntimeError,
    StartError, StartOptions, read_component, read_manifest_text,
};
pub use settings::{ReconfigureError, Reconfigured};
pub use status::{Metrics, PluginState, PluginStatus, SubscriptionStatus};
pub use succession::{ReplaceError, ReplaceOptions, StateTransfer};
