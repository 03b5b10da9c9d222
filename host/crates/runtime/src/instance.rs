//! One instance of a component: calls its handlers, one at a time, and tells a guest's “no” from its end.
//!
//! After an error of any call the instance must not be entered again; its owner drops it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use macula_wire::{HandlerError, Metadata, Operation, Request};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{
    Store, Trap, UpdateDeadline,
    component::{Func, Instance as WasmInstance, TypedFunc},
};

use crate::{
    bindings::{
        MessageRef, RequestRef, config_handler,
        lifecycle::{self, HealthStatus, StartReason},
        message_handler::Disposition,
        state_handler,
        timer_handler::{self, Tick},
        types,
    },
    engine::{Ticking, host_engine},
    host::{Handling, InstanceState},
    latency::Latency,
    mailbox::{Delivery, DueTick, Mailbox},
    plugin::{PluginCore, StopReason},
    program::one_line,
    settings::Settings,
    status::Counters,
};

/// What a guest may make the host allocate in one call: a payload of 1 MiB with its metadata, and room to be told that
/// more is too much.
const HOSTCALL_BYTES_MAX: usize = 8 << 20;

/// What a snapshot may have; the contract's default.
pub(crate) const STATE_BYTES_MAX: usize = 16 << 20;

/// Guest time of `snapshot` and of `restore`, where a handler has less: an instance that is cut short there loses its state.
/// A successor waits 30 s ([`crate::ReplaceOptions::handover`]), so more would not help.
const STATE_TIME_MIN: Duration = Duration::from_secs(20);

/// How long `health` may take.
const HEALTH_BUDGET: Duration = Duration::from_millis(100);

/// Why an instance came to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandlerFault {
    /// The guest broke a rule of WebAssembly or of the contract, or aborted.
    #[error("trapped: {0}")]
    Trap(String),
    /// It ran for longer than a handler may.
    #[error("used up its {} ms of guest time", .0.as_millis())]
    OutOfTime(Duration),
    /// It does not take its state back.
    #[error("refused its state: {0}")]
    State(String),
    /// There was no room for the instance, or it could not be set up.
    #[error("could not be set up: {0}")]
    Setup(String),
}

type OnMessage<'a> = TypedFunc<(MessageRef<'a>,), (Disposition,)>;
type OnCall<'a> = TypedFunc<(RequestRef<'a>,), (Result<Vec<u8>, types::HandlerError>,)>;

/// An instance and its handlers.
pub(crate) struct Instance {
    store: Store<InstanceState>,
    exports: Exports,
    _ticking: Ticking,
}

struct Exports {
    lifecycle: Option<lifecycle::Guest>,
    on_message: Option<Func>,
    on_call: Option<Func>,
    timer: Option<timer_handler::Guest>,
    config: Option<config_handler::Guest>,
    state: Option<state_handler::Guest>,
}

impl Exports {
    /// Looks up the handlers and checks their types, which [`Instance::message`] and [`Instance::call`] rely on.
    fn load(plugin: &PluginCore, store: &mut Store<InstanceState>, instance: &WasmInstance) -> wasmtime::Result<Self> {
        let indices = &plugin.program.exports;
        macro_rules! load {
            ($name:ident) => {
                indices.$name.as_ref().map(|indices| indices.load(&mut *store, instance)).transpose()?
            };
        }
        let on_message = load!(message).map(|guest| *guest.func_on_message().func());
        if let Some(func) = on_message {
            func.typed::<(MessageRef<'static>,), (Disposition,)>(&*store)?;
        }
        let on_call = load!(call).map(|guest| *guest.func_on_call().func());
        if let Some(func) = on_call {
            func.typed::<(RequestRef<'static>,), (Result<Vec<u8>, types::HandlerError>,)>(&*store)?;
        }
        Ok(Self {
            lifecycle: load!(lifecycle),
            on_message,
            on_call,
            timer: load!(timer),
            config: load!(config),
            state: load!(state),
        })
    }
}

impl Instance {
    /// Makes an instance for a slot. Its start function, if it has one, runs on the budget of a handler.
    pub(crate) async fn start(plugin: &Arc<PluginCore>, slot: u32) -> Result<Self, HandlerFault> {
        // A canary is behind the instances, and by itself in its version.
        let shard = slot.min(plugin.manifest.limits.instances - 1);
        let host = host_engine().map_err(|error| HandlerFault::Setup(error.to_string()))?;
        let mut store = Store::new(&host.engine, InstanceState::new(Arc::clone(plugin), shard, slot));
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.epoch_deadline_callback(|mut store| Ok(on_tick(store.data_mut())));
        let ticking = host.keep_ticking();
        begin(&mut store, plugin.manifest.limits.handler_time(), Handling::default());
        let loaded = match plugin.program.pre.instantiate_async(&mut store).await {
            Ok(instance) => Exports::load(plugin, &mut store, &instance),
            Err(error) => Err(error),
        };
        end(&mut store);
        match loaded {
            Ok(exports) => Ok(Self { store, exports, _ticking: ticking }),
            Err(error) if error.is::<Trap>() => Err(fault(&store, &error)),
            Err(error) => Err(HandlerFault::Setup(one_line(&error))),
        }
    }

    pub(crate) fn state(&mut self) -> &mut InstanceState {
        self.store.data_mut()
    }

    pub(crate) fn permit(&mut self) -> &mut Option<OwnedSemaphorePermit> {
        &mut self.store.data_mut().permit
    }

    /// Runs `init`, if there is one.
    pub(crate) async fn init(&mut self, reason: StartReason) -> Result<Result<(), types::Error>, HandlerFault> {
        let Some(guest) = self.exports.lifecycle.clone() else { return Ok(Ok(())) };
        self.begin(Handling::default());
        let result = guest.call_init(&mut self.store, reason).await;
        self.end(result)
    }

    /// Asks for the health.
    pub(crate) async fn health(&mut self) -> Result<HealthStatus, HandlerFault> {
        let Some(guest) = self.exports.lifecycle.clone() else { return Ok(HealthStatus::Healthy) };
        begin(&mut self.store, HEALTH_BUDGET, Handling::default());
        let result = guest.call_health(&mut self.store).await;
        self.end(result)
    }

    pub(crate) fn has_health(&self) -> bool {
        self.exports.lifecycle.is_some()
    }

    /// Says good-bye.
    pub(crate) async fn shutdown(
        &mut self,
        reason: lifecycle::StopReason,
        grace: Duration,
    ) -> Result<(), HandlerFault> {
        let Some(guest) = self.exports.lifecycle.clone() else { return Ok(()) };
        self.begin(Handling::default());
        let result = guest.call_shutdown(&mut self.store, reason, milliseconds(grace)).await;
        self.end(result)
    }

    /// Asks for the state, to hand it to the next version; `None` when the plugin keeps none across versions.
    pub(crate) async fn snapshot(&mut self) -> Result<Option<Result<Vec<u8>, types::Error>>, HandlerFault> {
        let Some(guest) = self.exports.state.clone() else { return Ok(None) };
        // As much as a state may have, and room to be told that it has more.
        self.store.set_hostcall_fuel(STATE_BYTES_MAX + HOSTCALL_BYTES_MAX);
        self.begin_state();
        let result = guest.call_snapshot(&mut self.store).await;
        let state = self.end_state(result);
        self.store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        state.map(|state| match state {
            Ok(bytes) if bytes.len() > STATE_BYTES_MAX => Some(Err(types::Error::TooLarge(STATE_BYTES_MAX as u32))),
            state => Some(state),
        })
    }

    /// Hands over the state of the version before. A plugin that keeps none begins empty.
    pub(crate) async fn restore(
        &mut self,
        state: &[u8],
        version: &str,
    ) -> Result<Result<(), types::Error>, HandlerFault> {
        let Some(guest) = self.exports.state.clone() else { return Ok(Ok(())) };
        self.begin_state();
        let result = guest.call_restore(&mut self.store, state, version).await;
        self.end_state(result)
    }

    /// Gives it other settings and tells it which keys are different; gives those that it had, and whether it agrees.
    pub(crate) async fn change_settings(
        &mut self,
        settings: Settings,
        keys: &[String],
    ) -> Result<(Settings, Result<(), types::Error>), HandlerFault> {
        let before = std::mem::replace(&mut self.store.data_mut().settings, settings);
        let Some(guest) = self.exports.config.clone() else { return Ok((before, Ok(()))) };
        self.begin(Handling::default());
        let result = guest.call_on_config_changed(&mut self.store, keys).await;
        Ok((before, self.end(result)?))
    }

    /// Tells of new rights.
    pub(crate) async fn rights_changed(&mut self) -> Result<(), HandlerFault> {
        self.store.data_mut().end_denied_fetches();
        let Some(guest) = self.exports.config.clone() else { return Ok(()) };
        self.begin(Handling::default());
        let result = guest.call_on_rights_changed(&mut self.store).await;
        self.end(result)
    }

    /// Hands over a message; `publisher` is the DID of who sent it.
    pub(crate) async fn message(&mut self, delivery: &Delivery, publisher: &str) -> Result<Disposition, HandlerFault> {
        let Some(func) = self.exports.on_message else {
            // Only a plugin with the handler can have a subscription.
            return Ok(Disposition::Reject("this plugin handles no messages".to_owned()));
        };
        let message = &delivery.message;
        let argument = MessageRef {
            topic: &message.topic,
            payload: &message.payload,
            content_type: message.content_type.as_str(),
            publisher,
            epoch: message.epoch,
            seq: message.seq,
            timestamp_ms: message.timestamp_ms,
            attempt: delivery.attempt,
            retained: message.retained,
            subscription: delivery.subscription,
            metadata: pairs(message.metadata.as_deref()),
        };
        self.begin(Handling::of(message.cause_depth, None, message.traceparent.as_ref(), message.tracestate.as_ref()));
        // SAFETY: `Exports::load` has checked this function against the same types.
        let on_message = unsafe { OnMessage::new_unchecked(func) };
        let result = on_message.call_async(&mut self.store, (argument,)).await;
        self.end_timed(result.map(|(disposition,)| disposition), |counters| &counters.message_latency)
    }

    /// Hands over a call; `caller` is the DID of who calls.
    pub(crate) async fn call(
        &mut self,
        request: &Request,
        caller: &str,
        deadline: tokio::time::Instant,
    ) -> Result<Result<Bytes, HandlerError>, HandlerFault> {
        let Some(func) = self.exports.on_call else {
            return Ok(Err(HandlerError::new("not-handled", "this plugin handles no calls")));
        };
        let time_left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let argument = RequestRef {
            procedure: &request.procedure,
            payload: &request.payload,
            content_type: request.content_type.as_str(),
            caller,
            time_left_ms: milliseconds(time_left),
            idempotency_key: &request.idempotency_key,
            metadata: pairs(request.metadata.as_deref()),
        };
        self.begin(Handling::of(
            request.cause_depth,
            Some(deadline),
            request.traceparent.as_ref(),
            request.tracestate.as_ref(),
        ));
        // SAFETY: `Exports::load` has checked this function against the same types.
        let on_call = unsafe { OnCall::new_unchecked(func) };
        let result = on_call.call_async(&mut self.store, (argument,)).await;
        let answer = self.end_timed(result.map(|(answer,)| answer), |counters| &counters.call_latency)?;
        Ok(answer.map(Bytes::from).map_err(HandlerError::from))
    }

    /// Hands over a tick.
    pub(crate) async fn tick(&mut self, tick: &DueTick) -> Result<Result<(), types::Error>, HandlerFault> {
        let Some(guest) = self.exports.timer.clone() else { return Ok(Ok(())) };
        let due_ms = self.store.data().plugin.clock.wall_ms_at(tick.due);
        let argument = Tick { name: tick.name.to_string(), due_ms, missed: tick.missed };
        self.begin(Handling::default());
        let result = guest.call_on_timer(&mut self.store, &argument).await;
        self.end_timed(result, |counters| &counters.tick_latency)
    }

    fn begin(&mut self, handling: Handling) {
        let budget = self.store.data().plugin.manifest.limits.handler_time();
        begin(&mut self.store, budget, handling);
    }

    /// Begins `snapshot` or `restore`, which have more memory and time than handlers.
    fn begin_state(&mut self) {
        let budget = self.store.data().plugin.manifest.limits.handler_time().max(STATE_TIME_MIN);
        self.store.data_mut().limiter.begin_state();
        begin(&mut self.store, budget, Handling::default());
    }

    fn end_state<T>(&mut self, result: wasmtime::Result<T>) -> Result<T, HandlerFault> {
        self.store.data_mut().limiter.end_state();
        self.end(result)
    }

    fn end<T>(&mut self, result: wasmtime::Result<T>) -> Result<T, HandlerFault> {
        end(&mut self.store);
        self.outcome(result)
    }

    fn end_timed<T>(
        &mut self,
        result: wasmtime::Result<T>,
        latency: impl Fn(&Counters) -> &Latency,
    ) -> Result<T, HandlerFault> {
        let took = end(&mut self.store);
        latency(&self.store.data().plugin.counters).record(took);
        self.outcome(result)
    }

    fn outcome<T>(&mut self, result: wasmtime::Result<T>) -> Result<T, HandlerFault> {
        if self.store.data().plugin.takes_trap() {
            return Err(HandlerFault::Trap("it was told to, by a test".to_owned()));
        }
        match result {
            Ok(value) => {
                self.store.data_mut().open_staged();
                Ok(value)
            }
            Err(error) => Err(fault(&self.store, &error)),
        }
    }
}

impl InstanceState {
    /// What the handler has opened begins now; that of a version which is to replace another begins when it does.
    fn open_staged(&mut self) {
        if self.staged.is_empty() || self.plugin.is_candidate() {
            return;
        }
        let plugin = Arc::clone(&self.plugin);
        self.open_staged_into(&mut plugin.mailbox.lock());
    }

    /// The same under the mailbox's lock: rights that change meanwhile find what is opened here, and end it.
    pub(crate) fn open_staged_into(&mut self, mailbox: &mut Mailbox) {
        let rights = self.plugin.rights.current();
        for (id, pattern, inbox) in self.staged.inboxes.drain(..) {
            if rights.allows_all(Operation::Subscribe, &pattern) {
                mailbox.add_subscription(self.shard as usize, id, pattern, inbox);
            }
        }
        for (procedure, offer) in self.staged.offers.drain(..) {
            if rights.allows(Operation::Advertise, &procedure) {
                mailbox.add_offer(self.shard as usize, procedure, offer);
            }
        }
    }
}

impl From<StopReason> for lifecycle::StopReason {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Replaced => Self::Replaced,
            StopReason::Stopped => Self::Stopped,
            StopReason::Evicted => Self::Evicted,
            StopReason::HostStopping => Self::HostStopping,
        }
    }
}

/// Running code is looked at: has it had its time? If not, others get a turn.
fn on_tick(state: &mut InstanceState) -> UpdateDeadline {
    state.meter.charge(Instant::now());
    if state.meter.is_exhausted() {
        return UpdateDeadline::Interrupt;
    }
    let resumption = state.meter.resumption();
    // Tokio's own yield lets the timers and sockets of this thread have their turn; waking oneself would not.
    let pause = async move {
        tokio::task::yield_now().await;
        resumption.now();
    };
    UpdateDeadline::YieldCustom(1, Box::pin(pause))
}

fn begin(store: &mut Store<InstanceState>, budget: Duration, handling: Handling) {
    store.set_epoch_deadline(1);
    let state = store.data_mut();
    state.cause_depth.store(handling.cause_depth, Ordering::Relaxed);
    state.handling = handling;
    state.meter.begin(budget, Instant::now());
}

/// Gives how long the handler took, with its waits.
fn end(store: &mut Store<InstanceState>) -> Duration {
    let state = store.data_mut();
    let now = Instant::now();
    let spent = state.meter.end(now);
    let host_calls = std::mem::take(&mut state.host_calls);
    let counters = &state.plugin.counters;
    counters.guest_ns.add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX));
    counters.host_calls.add(host_calls);
    state.plugin.quotas.charge(spent, host_calls);
    now.saturating_duration_since(state.meter.begun())
}

fn fault(store: &Store<InstanceState>, error: &wasmtime::Error) -> HandlerFault {
    let state = store.data();
    // With the stack of the guest, as far as the component names its functions.
    tracing::debug!(plugin = %state.plugin.manifest.name, "the handler was ended: {error:?}");
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => HandlerFault::OutOfTime(state.meter.budget()),
        Some(trap) => HandlerFault::Trap(trap.to_string()),
        None => HandlerFault::Trap(error.root_cause().to_string().replace('\n', "; ")),
    }
}

fn pairs(metadata: Option<&Metadata>) -> &[(String, String)] {
    metadata.map(Metadata::pairs).unwrap_or_default()
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
