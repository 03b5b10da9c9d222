//! Scenarios: what a plugin is given, step by step, and what is expected of it.
//!
//! A scenario is a file of TOML ([`Scenario`]). It is run ([`Runner::run`]) against an instance of its own, on a mesh in
//! memory, in virtual time: a timer of an hour takes no time, and nothing depends on how fast the machine is. Faults can be
//! put in: a right denied, a message lost or late, a handler that traps. Results can be written for programs as JUnit
//! ([`junit`]). One can be made of what happened at a plugin elsewhere ([`Recording`]).
//!
//! Leaves to others: building the component, and telling people.
//!
//! `docs/plugins/testing.md` has the form of the files.

mod expect;
pub mod junit;
mod payload;
mod recording;
mod run;
mod scenario;

pub use expect::Mismatch;
pub use payload::Payload;
pub use recording::Recording;
pub use run::{Outcome, RunError, Runner};
pub use scenario::{
    Answer, Call, Fault, Message, Published, Reply, SCENARIO_BYTES_MAX, Scenario, ScenarioError, Step, Timing,
};
