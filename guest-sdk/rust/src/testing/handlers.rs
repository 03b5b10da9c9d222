//! Which handlers a plugin exports, and how to run each.

use crate::export::run;
use crate::{
    CallHandler, ConfigHandler, Disposition, Error, HandlerError, Health, Lifecycle, Message, MessageHandler, Request,
    StartReason, StateHandler, StopReason, Tick, TimerHandler,
};
use std::time::Duration;

/// The handlers [`export!`](crate::export) lists. Filled in by the macro.
#[doc(hidden)]
#[derive(Debug)]
pub struct Handlers<P> {
    pub(super) lifecycle: Option<LifecycleRuns<P>>,
    pub(super) message: Option<MessageRun<P>>,
    pub(super) call: Option<CallRun<P>>,
    pub(super) timer: Option<TimerRun<P>>,
    pub(super) config: Option<ConfigRuns<P>>,
    pub(super) state: Option<StateRuns<P>>,
}

type MessageRun<P> = fn(&mut P, Message) -> Disposition;
type CallRun<P> = fn(&mut P, Request) -> Result<Vec<u8>, HandlerError>;
type TimerRun<P> = fn(&mut P, Tick) -> Result<(), Error>;

#[derive(Debug)]
pub(super) struct LifecycleRuns<P> {
    pub(super) init: fn(&mut P, StartReason) -> Result<(), Error>,
    pub(super) health: fn(&mut P) -> Health,
    pub(super) shutdown: fn(&mut P, StopReason, Duration),
}

#[derive(Debug)]
pub(super) struct ConfigRuns<P> {
    pub(super) config_changed: fn(&mut P, &[String]) -> Result<(), Error>,
    pub(super) rights_changed: fn(&mut P),
}

#[derive(Debug)]
pub(super) struct StateRuns<P> {
    pub(super) snapshot: fn(&mut P) -> Result<Vec<u8>, Error>,
    pub(super) restore: fn(&mut P, Vec<u8>, &str) -> Result<(), Error>,
}

impl<P> Handlers<P> {
    /// None yet.
    pub fn none() -> Self {
        Self { lifecycle: None, message: None, call: None, timer: None, config: None, state: None }
    }

    /// Lists `lifecycle`.
    pub fn lifecycle(&mut self)
    where
        P: Lifecycle,
    {
        self.lifecycle =
            Some(LifecycleRuns { init: run::init::<P>, health: run::health::<P>, shutdown: run::shutdown::<P> });
    }

    /// Lists `message`.
    pub fn message(&mut self)
    where
        P: MessageHandler,
    {
        self.message = Some(run::message::<P>);
    }

    /// Lists `call`.
    pub fn call(&mut self)
    where
        P: CallHandler,
    {
        self.call = Some(run::call::<P>);
    }

    /// Lists `timer`.
    pub fn timer(&mut self)
    where
        P: TimerHandler,
    {
        self.timer = Some(run::timer::<P>);
    }

    /// Lists `config`.
    pub fn config(&mut self)
    where
        P: ConfigHandler,
    {
        self.config =
            Some(ConfigRuns { config_changed: run::config_changed::<P>, rights_changed: run::rights_changed::<P> });
    }

    /// Lists `state`.
    pub fn state(&mut self)
    where
        P: StateHandler,
    {
        self.state = Some(StateRuns { snapshot: run::snapshot::<P>, restore: run::restore::<P> });
    }
}
