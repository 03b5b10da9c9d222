//! The relay's promises, each as a test on one relay with simulated peers, simulated time, and no sleeps.
//!
//! [`harness`] plays the peers: it encodes what a host would send, and decodes what the relay gives out as strictly as a
//! host may. A module a subject.

mod bounds;
mod calls;
mod chaos;
mod contents;
mod harness;
mod links;
mod queues;
mod receipts;
mod restart;
mod retained;
mod rights;
mod routing;
mod violations;
