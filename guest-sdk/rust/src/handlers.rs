//! The six things a plugin can be asked to do, a trait each.
//!
//! A plugin is a type with a [`Default`] that implements those it needs and lists them in
//! [`export!`](crate::export): only those become exports of the component. An instance runs one handler at a time. A
//! panic ends the instance; a new one, made by `Default`, takes over the plugin's queue.

use crate::{Message, Request, Result, Tick};
use std::time::Duration;

/// Start, stop and be watched: `lifecycle` in [`export!`](crate::export).
///
/// Without it a plugin begins with its `Default`, has nothing to do at the start, and counts as healthy.
#[diagnostic::on_unimplemented(message = "`{Self}` is exported with `lifecycle` but does not implement `Lifecycle`")]
pub trait Lifecycle {
    /// Runs once, first, on a fresh `Default`. Subscribe, advertise and set timers here.
    ///
    /// # Errors
    /// They keep the plugin from starting: [`Error::Timeout`](crate::Error::Timeout) and
    /// [`Error::Unavailable`](crate::Error::Unavailable) are tried again with growing delays; all others stop a start,
    /// and roll a deployment back.
    fn init(&mut self, reason: StartReason) -> Result {
        let _ = reason;
        Ok(())
    }

    /// Asked after `init` and from time to time. Answer from memory, within 100 ms.
    fn health(&mut self) -> Health {
        Health::Healthy
    }

    /// Runs once, last, when all taken messages are handled: write what must be kept. After `grace` the instance is
    /// ended. Not called after a panic.
    fn shutdown(&mut self, reason: StopReason, grace: Duration) {
        let _ = (reason, grace);
    }
}

/// Receive messages: `message` in [`export!`](crate::export).
#[diagnostic::on_unimplemented(message = "`{Self}` is exported with `message` but does not implement `MessageHandler`")]
pub trait MessageHandler {
    /// Handles one message of a subscription, at least once each. `Ok` is [`Disposition::Ack`].
    ///
    /// # Errors
    /// A [`Failure`](crate::Failure) says what becomes of the message; `?` chooses what is usual for the error.
    fn on_message(&mut self, message: Message) -> Result;
}

/// Answer calls: `call` in [`export!`](crate::export).
#[diagnostic::on_unimplemented(message = "`{Self}` is exported with `call` but does not implement `CallHandler`")]
pub trait CallHandler {
    /// Answers one call to a procedure this plugin offers, with at most 1 MiB.
    ///
    /// # Errors
    /// A [`Failure`](crate::Failure) becomes the [`HandlerError`](crate::HandlerError) the caller gets.
    fn on_call(&mut self, request: Request) -> Result<Vec<u8>>;
}

/// Be woken: `timer` in [`export!`](crate::export).
#[diagnostic::on_unimplemented(message = "`{Self}` is exported with `timer` but does not implement `TimerHandler`")]
pub trait TimerHandler {
    /// Handles one tick of a timer set with [`timers`](crate::timers).
    ///
    /// # Errors
    /// They are logged and counted; a timer of `every` goes on.
    fn on_timer(&mut self, tick: Tick) -> Result;
}

/// Follow changes of settings and rights without a restart: `config` in [`export!`](crate::export).
///
/// Without it, changed settings restart the instance (with its state) and changed rights simply hold.
#[diagnostic::on_unimplemented(message = "`{Self}` is exported with `config` but does not implement `ConfigHandler`")]
pub trait ConfigHandler {
    /// Settings changed; [`config`](crate::config) already gives the new ones.
    ///
    /// # Errors
    /// They refuse the change: the old settings come back, and whoever changed them sees the text.
    fn on_config_changed(&mut self, keys: &[String]) -> Result;

    /// Rights were granted, withdrawn or have expired: [`identity::can`](crate::identity::can) and every call already
    /// answer by the new ones.
    fn on_rights_changed(&mut self) {}
}

/// Keep memory across a new version or an eviction: `state` in [`export!`](crate::export).
///
/// Without it the next instance begins empty. Messages wait between `snapshot` and the take-over, so be quick.
#[diagnostic::on_unimplemented(message = "`{Self}` is exported with `state` but does not implement `StateHandler`")]
pub trait StateHandler {
    /// The state as of the last handled message, at most 16 MiB by default. When the swap is called off the instance
    /// works on afterwards. While this and `restore` run, the instance may have as much memory again as its limit, at
    /// least 64 MiB more, and 20 s.
    ///
    /// # Errors
    /// They call the swap off. So does a trap, which also loses the state, as the instance ends with it.
    fn snapshot(&mut self) -> Result<Vec<u8>>;

    /// Takes over a snapshot, after `init`. `version` is the plugin version that made it: write formats that the next
    /// version can read.
    ///
    /// # Errors
    /// They call the swap off, and the old version serves on.
    fn restore(&mut self, state: Vec<u8>, version: &str) -> Result;
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Done.
    Ack,
    /// Deliver again after this delay, or after the host's growing one.
    Retry(Option<Duration>),
    /// Counted and logged with the text, then dropped.
    Reject(String),
    /// Kept for a person to look at and to replay, with the text as the reason.
    DeadLetter(String),
}

/// Why an instance begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartReason {
    /// Nothing ran before.
    Fresh,
    /// The instance before trapped, or the host was restarted.
    Restarted,
    /// A new version takes over from one that still runs. [`StateHandler::restore`] follows.
    Replacing,
    /// Back from being evicted while idle. [`StateHandler::restore`] follows.
    Resumed,
    /// Another reason, of a later version of the contract.
    Other,
}

/// Why an instance ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A new version has taken over.
    Replaced,
    /// Somebody stopped or removed the plugin.
    Stopped,
    /// Idle; comes back with the next message.
    Evicted,
    /// The host stops.
    HostStopping,
    /// Another reason, of a later version of the contract.
    Other,
}

/// How the plugin sees itself. Texts: one sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Healthy,
    /// Works, but not as it should. Reported; nothing is done.
    Degraded(String),
    /// Does not work. A new version is not taken into service; a running instance is restarted after three in a row.
    Unhealthy(String),
}
