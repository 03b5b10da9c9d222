//! Health and metrics over HTTP, from read-only snapshots.
//!
//! Owns the port, the paths `/live`, `/ready`, `/health` and `/metrics`, and who may ask: requests whose `Host` names
//! another machine are refused, so that a web page cannot reach it by a name of its own (DNS rebinding). What is told
//! comes from a [`Source`]; topics and payloads never do. Specified in `docs/operating/health.md`.

mod connections;
mod metrics;
mod server;
mod source;

pub use metrics::{Metric, MetricKind};
pub use server::{AdminServer, BindError};
pub use source::{Check, Source};
