//! Runs a relay: the core on a thread of its own, links around it.
//!
//! The core and all tasks of its links share one thread, so a message passes without a lock and without crossing
//! threads. Each link has a task that reads control, one that writes it, one for each lane that the peer has opened,
//! and one for each lane that something was sent on; an idle link has no lanes. Each request for content has one, too.

mod admission;
mod content;
mod driver;
mod link_tasks;
mod server;

pub use server::{RelayConfig, RelayServer, RelayStartError};
