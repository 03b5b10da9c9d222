//! The exported handlers: the contract's values in, this crate's handlers, the contract's values out.

use super::wit;
use crate::export::{Glue, Instance, run};
use crate::{
    CallHandler, ConfigHandler, Disposition, Health, Lifecycle, Message, MessageHandler, Request, StartReason,
    StateHandler, StopReason, Tick, TimerHandler,
};
use std::time::Duration;
use wit::call::exports::macula::plugin::call_handler;
use wit::config::exports::macula::plugin::config_handler;
use wit::lifecycle::exports::macula::plugin::lifecycle;
use wit::message::exports::macula::plugin::message_handler;
use wit::platform::macula::plugin::types;
use wit::state::exports::macula::plugin::state_handler;
use wit::timer::exports::macula::plugin::timer_handler;

impl<P: Instance + Lifecycle> lifecycle::Guest for Glue<P> {
    fn init(reason: lifecycle::StartReason) -> Result<(), types::Error> {
        let reason = match reason {
            lifecycle::StartReason::Fresh => StartReason::Fresh,
            lifecycle::StartReason::Restarted => StartReason::Restarted,
            lifecycle::StartReason::Replacing => StartReason::Replacing,
            lifecycle::StartReason::Resumed => StartReason::Resumed,
            lifecycle::StartReason::Other => StartReason::Other,
        };
        P::with(|plugin| run::init(plugin, reason)).map_err(Into::into)
    }

    fn health() -> lifecycle::HealthStatus {
        match P::with(run::health) {
            Health::Healthy => lifecycle::HealthStatus::Healthy,
            Health::Degraded(text) => lifecycle::HealthStatus::Degraded(text),
            Health::Unhealthy(text) => lifecycle::HealthStatus::Unhealthy(text),
        }
    }

    fn shutdown(reason: lifecycle::StopReason, grace_ms: u32) {
        let reason = match reason {
            lifecycle::StopReason::Replaced => StopReason::Replaced,
            lifecycle::StopReason::Stopped => StopReason::Stopped,
            lifecycle::StopReason::Evicted => StopReason::Evicted,
            lifecycle::StopReason::HostStopping => StopReason::HostStopping,
            lifecycle::StopReason::Other => StopReason::Other,
        };
        P::with(|plugin| run::shutdown(plugin, reason, Duration::from_millis(grace_ms.into())));
    }
}

impl<P: Instance + MessageHandler> message_handler::Guest for Glue<P> {
    fn on_message(message: types::Message) -> message_handler::Disposition {
        match P::with(|plugin| run::message(plugin, message.into())) {
            Disposition::Ack => message_handler::Disposition::Ack,
            Disposition::Retry(delay) => {
                // A delay beyond what the contract can say is the longest it can say.
                let delay_ms = delay.map(|delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX));
                message_handler::Disposition::Retry(delay_ms)
            }
            Disposition::Reject(text) => message_handler::Disposition::Reject(text),
            Disposition::DeadLetter(text) => message_handler::Disposition::DeadLetter(text),
        }
    }
}

impl<P: Instance + CallHandler> call_handler::Guest for Glue<P> {
    fn on_call(request: types::Request) -> Result<Vec<u8>, types::HandlerError> {
        let request = Request {
            procedure: request.procedure,
            payload: request.payload,
            content_type: request.content_type,
            caller: request.caller,
            time_left: Duration::from_millis(request.time_left_ms.into()),
            idempotency_key: request.idempotency_key,
            metadata: request.metadata,
        };
        P::with(|plugin| run::call(plugin, request)).map_err(|error| types::HandlerError {
            code: error.code,
            message: error.message,
            data: error.data,
        })
    }
}

impl<P: Instance + TimerHandler> timer_handler::Guest for Glue<P> {
    fn on_timer(tick: timer_handler::Tick) -> Result<(), types::Error> {
        let tick = Tick { name: tick.name, due_ms: tick.due_ms, missed: tick.missed };
        P::with(|plugin| run::timer(plugin, tick)).map_err(Into::into)
    }
}

impl<P: Instance + ConfigHandler> config_handler::Guest for Glue<P> {
    fn on_config_changed(keys: Vec<String>) -> Result<(), types::Error> {
        P::with(|plugin| run::config_changed(plugin, &keys)).map_err(Into::into)
    }

    fn on_rights_changed() {
        P::with(run::rights_changed);
    }
}

impl<P: Instance + StateHandler> state_handler::Guest for Glue<P> {
    fn snapshot() -> Result<Vec<u8>, types::Error> {
        P::with(run::snapshot).map_err(Into::into)
    }

    fn restore(state: Vec<u8>, version: String) -> Result<(), types::Error> {
        P::with(|plugin| run::restore(plugin, state, &version)).map_err(Into::into)
    }
}

impl From<types::Message> for Message {
    fn from(message: types::Message) -> Self {
        Self {
            topic: message.topic,
            payload: message.payload,
            content_type: message.content_type,
            publisher: message.publisher,
            epoch: message.epoch,
            seq: message.seq,
            timestamp_ms: message.timestamp_ms,
            attempt: message.attempt,
            retained: message.retained,
            subscription: message.subscription,
            metadata: message.metadata,
        }
    }
}
