//! When a host is asked to read settings again.

use std::{
    io::{IsTerminal, stderr, stdin, stdout},
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Somebody has asked while nobody listened yet.
static HAS_ASKED: AtomicBool = AtomicBool::new(false);

/// SIGHUP. Where a terminal is input or output it says that the terminal has gone, and ends the process as it always does.
pub(crate) enum Reload {
    Asked {
        signal: Signal,
        /// Asked for before there was a signal to wait for.
        is_due: bool,
    },
    Never,
}

/// Whether SIGHUP asks for something here.
fn is_asked_for() -> bool {
    !(stdin().is_terminal() || stdout().is_terminal() || stderr().is_terminal())
}

extern "C" fn note(_signal: libc::c_int) {
    HAS_ASKED.store(true, Ordering::Relaxed);
}

/// From here on SIGHUP does not end the process: for what takes long before there is a node, as building a plugin does.
pub(crate) fn hold() {
    if is_asked_for() {
        let handler: extern "C" fn(libc::c_int) = note;
        // SAFETY: the handler stores into an atomic and does nothing else, which a signal may do at any time.
        unsafe { libc::signal(libc::SIGHUP, handler as libc::sighandler_t) };
    }
}

impl Reload {
    pub(crate) fn new() -> Result<Self, Failure> {
        if !is_asked_for() {
            return Ok(Self::Never);
        }
        let signal = signal(SignalKind::hangup())?;
        Ok(Self::Asked { signal, is_due: HAS_ASKED.swap(false, Ordering::Relaxed) })
    }

    /// Ends when somebody asks; with several who asked before, once.
    pub(crate) async fn wanted(&mut self) {
        match self {
            Self::Asked { is_due, .. } if *is_due => *is_due = false,
            Self::Asked { signal, .. } => drop(signal.recv().await),
            Self::Never => std::future::pending().await,
        }
    }
}
