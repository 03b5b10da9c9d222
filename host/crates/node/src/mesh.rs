//! The handle that programs use, and what stands behind it.
//!
//! ```text
//!  Mesh, Publisher ──▶ outbox ──▶ lane writers ─┐
//!  Subscription ◀── inbox ◀── lane readers ◀────┼── link ◀── link task: dial, join, replay, back off
//!  call, Offer ──▶ calls, offers (tables)       │
//!  subscribe … ──▶ registry ──▶ control writer ─┘
//!  fetch ──▶ a stream for each request;  content source ◀── streams of others
//! ```
//!
//! The registry knows everything that has to be said again on a new link; the outbox what has not been sent yet. So a
//! lost link loses no subscription and no offer, and of the messages only those that were on the wire, and none that
//! was published `acked`.

mod call;
mod config;
mod content;
mod dialling;
mod fetch;
mod handle;
mod inbound;
mod link_task;
mod offer;
mod outbox;
mod own_rights;
mod publisher;
mod registry;
mod subscription;

pub use call::CallOptions;
pub use config::{AuthLevel, ConnectError, Link, LinkState, MeshConfig, Outlook};
pub use content::{ContentBytes, ContentSource};
pub use fetch::{ContentSink, FetchError, FetchOptions, Fetching};
pub use handle::{Mesh, Publish, Subscribe};
pub use offer::{Advertise, IncomingCall, Offer, Responder};
pub use publisher::{ConfirmError, Confirmation, Publisher};
pub use registry::OutOfForce;
pub use subscription::{Subscription, SubscriptionStats};
