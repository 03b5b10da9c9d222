//! The binary as its users see it: real processes on loopback, each test in a home of its own.
//!
//! Nothing here sleeps: a test waits for lines that the processes print. A wait that takes longer than
//! [`process::PATIENCE`] fails.

#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod bad_input;
mod clock;
mod content;
mod deploy;
mod files;
mod flags;
mod life;
mod main_job;
mod manners;
mod permissions;
mod plugins;
mod process;
mod readme;
mod registry;
mod stalls;
mod tls;
