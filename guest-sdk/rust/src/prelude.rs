//! What nearly every plugin needs: `use macula_plugin::prelude::*;`.
//!
//! The logging macros and [`export!`](crate::export) are not among it: `use macula_plugin::{info, warn};`.

pub use crate::{
    CallHandler, ConfigHandler, Failure, HandlerError, Health, Lifecycle, Message, MessageHandler, OrElse, Request,
    Result, StartReason, StateHandler, StopReason, Tick, TimerHandler,
};
pub use crate::{advertise, call, from_json, publish, subscribe, to_json};
pub use crate::{config, kv, timers};
