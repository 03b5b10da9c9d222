//! The mesh over real links: relays and nodes of one process, QUIC on 127.0.0.1.
//!
//! Nothing here sleeps: a test waits for what it expects, at most 30 s, and fails when it does not come.

mod calls;
mod certificates;
mod content;
mod hostile;
mod pubsub;
mod recovery;
mod refusal;
mod rights;
mod support;
