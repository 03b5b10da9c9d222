//! The relay core: who wants which messages, who offers which procedures, and what waits for whom.
//!
//! A pure state machine: frames, control messages and the time come in through `handle_*`; bytes to send, control
//! messages and deadlines go out through `poll_*`. It opens no socket, spawns no task, reads no clock. It owns
//! interest, queues, retained values and pending calls; links, keys and streams are the driver's (crate `macula-node`).
//! What a peer may do comes as a table of [`Permissions`], made elsewhere of proofs; here each subscription, offer,
//! channel and read of a stored value is held against it, and ends when a new table does not allow it any more.
//!
//! Nothing here assumes that there is one relay: messages carry publisher, epoch, sequence and hops, duplicates are
//! recognised by them, and channels name their sender.
//!
//! How a message passes: its channel number gives an *inlet* (publisher's link, lane, topic), which holds the route, a
//! shared list of subscriptions, computed when interest changes. Consecutive messages with one route form a *run*: they
//! are copied once into a shared buffer, and when the run ends, each subscription's queue gets a reference to it. A
//! writer takes from the queues round robin. Specified in `docs/protocol/pubsub.md` and `rpc.md`.

mod calls;
mod config;
mod contents;
mod interest;
mod link;
mod procedures;
mod publishers;
mod queue;
mod realm;
mod recent;
mod relay;
mod retained;
mod rights;
mod run;
mod stats;
mod subscription;

pub use config::RelayConfig;
pub use contents::{Passage, PassageEnd, Stall};
pub use link::{LinkKey, Peer, Violation};
pub use macula_auth::Permissions;
pub use relay::Relay;
pub use rights::Denial;
pub use stats::Stats;

#[cfg(test)]
mod tests;
