//! When a host is asked to read settings again.

use std::io::{IsTerminal, stderr, stdin, stdout};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// SIGHUP. Where a terminal is input or output it says that the terminal has gone, and ends the process as it always does.
pub(crate) enum Reload {
    Asked(Signal),
    Never,
}

impl Reload {
    pub(crate) fn new() -> Result<Self, Failure> {
        let has_terminal = stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal();
        if has_terminal { Ok(Self::Never) } else { Ok(Self::Asked(signal(SignalKind::hangup())?)) }
    }

    /// Ends when somebody asks; with several who asked before, once.
    pub(crate) async fn wanted(&mut self) {
        match self {
            Self::Asked(signal) => drop(signal.recv().await),
            Self::Never => std::future::pending().await,
        }
    }
}
