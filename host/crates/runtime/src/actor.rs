//! The life of one instance slot of a plugin: start an instance, hand it work one piece at a time, replace it when it
//! crashes, end it when the plugin stops.
//!
//! States: *starting* (`init`) → *running* → *backing off* after a crash → *starting* …, until *stopped* by order or
//! *failed* after too many crashes. Only the very first `init` may refuse the start; later ones count as crashes. A
//! message that was with an instance when it crashed is tried again by the next one. An idle instance may be *evicted*: its
//! state is kept, and the slot is without an instance until one is resumed for the next work.

mod eviction;
mod in_hand;

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use macula_wire::{CallError, Fault, HandlerError, NodeId, limits::PAYLOAD_BYTES_MAX};
use rustc_hash::FxHashMap;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, Sleep},
};

use self::{eviction::Eviction, in_hand::InHand};
use crate::{
    activity::{ActivityEvent, CallOutcome, HandlerOutcome, Sample},
    bindings::{
        lifecycle::{self, HealthStatus, StartReason},
        message_handler::Disposition,
        types,
    },
    breaker::Verdict,
    host::{describe, did},
    instance::{HandlerFault, Instance},
    log::LogLevel,
    mailbox::{Delivery, DueTick, Retry, Work},
    mesh::IncomingCall,
    orders::{GivePlace, NotHanded, Order},
    plugin::{PluginCore, StopOrder},
    settings::{ChangeSettings, different},
    status::PluginState,
};

/// Pieces of work after which other tasks of this thread get a turn.
const WORK_IN_A_ROW: u32 = 64;
/// Unhealthy answers in a row after which the instance is replaced.
const UNHEALTHY_MAX: u32 = 3;
/// Pause before `init` is tried again when it said it was not ready; doubled each time.
const INIT_DELAY_MIN: Duration = Duration::from_millis(200);
const INIT_DELAY_MAX: Duration = Duration::from_secs(30);
/// Publishers whose DID is kept as text.
const DIDS_MAX: usize = 1024;

/// Why a plugin did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// `init` returned an error.
    #[error("its init refused to start: {0}")]
    Refused(String),
    /// `init`, or making the instance, came to a bad end.
    #[error("it failed before it was ready: {0}")]
    Crashed(String),
    /// It does not consider itself fit for service.
    #[error("it is unhealthy: {0}")]
    Unhealthy(String),
    /// Its `init` was not ready in the time that it had.
    #[error("its init was not ready in time: {0}")]
    NotReady(String),
    /// It was stopped before `init` was done.
    #[error("it was stopped before it was ready")]
    Stopped,
}

/// Something to do.
enum Task {
    Work(Work),
    Health,
    RightsChanged,
    SettingsChanged,
    Order(Order),
    Evict,
    Stop,
}

/// How an instance came to its end.
enum Ended {
    /// As ordered, or because a new version took over.
    Stopped,
    /// To be replaced, after a pause.
    Replace(Duration),
    /// Let go because it was idle; what it has to begin with again is kept.
    Evicted,
    /// For good.
    GivenUp,
}

/// How an attempt to get an instance ended.
enum Started {
    Running(Box<Instance>),
    Refused(InitError),
    Stopped,
    GivenUp,
}

/// One instance slot of a plugin.
pub(crate) struct Actor {
    plugin: Arc<PluginCore>,
    shard: u32,
    health_interval: Duration,
    health_due: Option<Instant>,
    unhealthy: u32,
    rights_generation: u64,
    settings_generation: u64,
    dids: Dids,
    permit: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    alarm: Alarm,
    eviction: Eviction,
    /// Pieces of work since others had a turn.
    in_a_row: u32,
}

impl Actor {
    pub(crate) fn new(plugin: Arc<PluginCore>, shard: u32, health_interval: Duration) -> Self {
        let (rights_generation, settings_generation) = (plugin.rights.generation(), plugin.settings.generation());
        Self {
            plugin,
            shard,
            health_interval,
            health_due: None,
            unhealthy: 0,
            rights_generation,
            settings_generation,
            dids: Dids::default(),
            permit: None,
            alarm: Alarm::default(),
            eviction: Eviction::default(),
            in_a_row: 0,
        }
    }

    /// Lives. `ready` is told when the first instance is running, or why there is none.
    pub(crate) async fn run(mut self, ready: oneshot::Sender<Result<(), InitError>>) {
        let started = self.start(StartReason::Fresh).await;
        let outcome = match &started {
            Started::Running(_) => Ok(()),
            Started::Refused(error) => Err(error.clone()),
            Started::Stopped | Started::GivenUp => Err(InitError::Stopped),
        };
        // Whoever started the plugin may have lost interest; it lives on.
        let _ = ready.send(outcome);
        if let Started::Running(instance) = started {
            self.live(instance).await;
        }
    }

    /// Lives from where a new version takes over: with an instance that [`Actor::prepare`] has made.
    pub(crate) async fn run_from(mut self, mut instance: Box<Instance>) {
        // Kept from when `init` ran: if rights have changed since, the plugin is told.
        let rights_generation = self.rights_generation;
        self.welcome(&mut instance);
        self.rights_generation = rights_generation;
        self.live(instance).await;
    }

    async fn live(mut self, mut instance: Box<Instance>) {
        loop {
            let ended = self.serve(&mut instance).await;
            drop(instance);
            let reason = match ended {
                Ended::Stopped | Ended::GivenUp => return,
                Ended::Replace(delay) => {
                    if self.pause(delay).await.is_none() {
                        return;
                    }
                    self.plugin.counters.restarts.one();
                    StartReason::Restarted
                }
                Ended::Evicted => {
                    if self.wait_evicted().await.is_none() {
                        return;
                    }
                    StartReason::Resumed
                }
            };
            let rights_generation = self.rights_generation;
            let Started::Running(next) = self.start(reason).await else { return };
            if reason == StartReason::Resumed {
                // If rights have changed meanwhile, the plugin is told.
                self.rights_generation = rights_generation;
            }
            instance = next;
        }
    }

    /// Waits, unless the plugin is stopped or a new version takes over meanwhile: then `None`.
    async fn pause(&mut self, delay: Duration) -> Option<()> {
        let mut elapsed = pin!(tokio::time::sleep(delay));
        let plugin = Arc::clone(&self.plugin);
        loop {
            tokio::select! {
                () = &mut elapsed => return Some(()),
                _ = plugin.life.stop_order() => return None,
                order = plugin.orders.next_give_place(self.shard as usize) => {
                    if self.give_place(order).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Tells of an event whoever watches.
    fn note(&self, event: impl FnOnce() -> ActivityEvent) {
        self.plugin.activity.note(self.shard, event);
    }

    fn enter(&self, state: PluginState, reason: Option<String>) {
        self.plugin.life.enter(self.shard, state, reason);
    }

    // Starting.

    /// Tries until there is an instance whose `init` has said yes.
    async fn start(&mut self, mut reason: StartReason) -> Started {
        let is_first = reason == StartReason::Fresh;
        let mut delay = INIT_DELAY_MIN;
        loop {
            // One that is back has been called for something, which is handled before it stops.
            if self.plugin.life.is_stopping() && reason != StartReason::Resumed {
                return Started::Stopped;
            }
            self.enter(PluginState::Starting, None);
            let crash = match self.try_start(reason).await {
                Ok((mut instance, Ok(()))) => {
                    self.welcome(&mut instance);
                    return Started::Running(instance);
                }
                Ok((_, Err(error @ (types::Error::Timeout | types::Error::Unavailable(_))))) => {
                    let text =
                        format!("init is not ready: {}; trying again in {} ms", describe(&error), delay.as_millis());
                    self.plugin.log.host(LogLevel::Warn, text.clone());
                    self.enter(PluginState::BackingOff, Some(text));
                    if self.pause(delay).await.is_none() {
                        return Started::Stopped;
                    }
                    delay = (delay * 2).min(INIT_DELAY_MAX);
                    continue;
                }
                Ok((_, Err(error))) if is_first => return Started::Refused(InitError::Refused(describe(&error))),
                Err(fault) if is_first => {
                    self.plugin.counters.traps.one();
                    return Started::Refused(InitError::Crashed(fault.to_string()));
                }
                Ok((_, Err(error))) => format!("init refused to start again: {}", describe(&error)),
                Err(fault) => fault.to_string(),
            };
            if reason == StartReason::Resumed && !self.eviction.has_kept() {
                // It could not take its state back, and is not asked to a second time. The host had taken that state from it,
                // so this counts for nothing in whether the plugin is given up.
                reason = StartReason::Restarted;
                continue;
            }
            match self.crashed(&crash).await {
                Some(delay) if self.pause(delay).await.is_some() => {}
                Some(_) => return Started::Stopped,
                None => return Started::GivenUp,
            }
        }
    }

    /// Makes an instance of a version that may take over, whose `init` has said yes and that is healthy. Tries for `patience`
    /// while `init` says that it is not ready.
    pub(crate) async fn prepare(&mut self, patience: Duration) -> Result<Box<Instance>, InitError> {
        let deadline = Instant::now() + patience;
        let mut delay = INIT_DELAY_MIN;
        loop {
            match self.try_start(StartReason::Replacing).await {
                Ok((_, Ok(()))) if self.unhealthy > 0 => {
                    return Err(InitError::Unhealthy(self.plugin.life.health().unwrap_or_default()));
                }
                Ok((instance, Ok(()))) => return Ok(instance),
                Ok((_, Err(error @ (types::Error::Timeout | types::Error::Unavailable(_))))) => {
                    if Instant::now() + delay > deadline {
                        return Err(InitError::NotReady(describe(&error)));
                    }
                }
                Ok((_, Err(error))) => return Err(InitError::Refused(describe(&error))),
                Err(fault) => return Err(InitError::Crashed(fault.to_string())),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(INIT_DELAY_MAX);
        }
    }

    async fn try_start(
        &mut self,
        reason: StartReason,
    ) -> Result<(Box<Instance>, Result<(), types::Error>), HandlerFault> {
        self.unhealthy = 0;
        let permit = Arc::clone(&self.plugin.permits).acquire_owned().await.ok();
        // Read before the instance reads its settings: if they change now, it is told.
        self.settings_generation = self.plugin.settings.generation();
        let mut instance = Box::new(Instance::start(&self.plugin, self.shard).await?);
        instance.state().is_aside = reason == StartReason::Replacing;
        *instance.permit() = permit;
        let outcome = instance.init(reason).await?;
        if outcome.is_ok() {
            if reason == StartReason::Resumed {
                self.restore_kept(&mut instance).await?;
            }
            self.check_health(&mut instance).await?;
        }
        *instance.permit() = None;
        Ok((instance, outcome))
    }

    /// The instance takes over what the one before had, as far as it has asked for it.
    fn welcome(&mut self, instance: &mut Instance) {
        instance.state().is_aside = false;
        self.eviction.welcome(&self.plugin, &mut instance.state().wanted);
        // A canary changes nothing of its plugin.
        if !self.plugin.is_candidate() {
            let wanted = &instance.state().wanted;
            self.plugin.mailbox.lock().keep_only(
                self.shard as usize,
                |pattern| wanted.patterns.contains_key(pattern),
                |procedure| wanted.procedures.contains(procedure),
            );
        }
        self.rights_generation = self.plugin.rights.generation();
        self.health_due = instance.has_health().then(|| Instant::now() + self.health_interval);
        self.enter(PluginState::Running, None);
    }

    // Running.

    async fn serve(&mut self, instance: &mut Instance) -> Ended {
        loop {
            let task = std::future::poll_fn(|cx| self.poll_task(instance, cx)).await;
            let outcome = match task {
                Task::Work(work) => self.work(instance, work).await,
                Task::Health => match self.check_health(instance).await {
                    Ok(true) => Ok(()),
                    Ok(false) => return self.replace_unhealthy(instance).await,
                    Err(fault) => Err(fault),
                },
                Task::RightsChanged => {
                    self.rights_generation = self.plugin.rights.generation();
                    instance.rights_changed().await
                }
                Task::SettingsChanged => self.put_settings_right(instance).await,
                Task::Order(Order::ChangeSettings(change)) => self.ask_about_settings(instance, change).await,
                Task::Order(Order::GivePlace(order)) => match self.hand_over(instance, order).await {
                    Ok(true) => return Ended::Stopped,
                    Ok(false) => Ok(()),
                    Err(fault) => return self.lose_state(&fault),
                },
                Task::Evict => match self.evict(instance).await {
                    Ok(true) => return Ended::Evicted,
                    Ok(false) => Ok(()),
                    Err(fault) => return self.lose_state(&fault),
                },
                Task::Stop => {
                    self.stop(instance).await;
                    return Ended::Stopped;
                }
            };
            if let Err(fault) = outcome {
                self.plugin.counters.traps.one();
                return match self.crashed(&fault.to_string()).await {
                    Some(delay) => Ended::Replace(delay),
                    None => Ended::GivenUp,
                };
            }
            self.in_a_row += 1;
            if self.in_a_row >= WORK_IN_A_ROW {
                self.in_a_row = 0;
                *instance.permit() = None;
                tokio::task::yield_now().await;
            }
        }
    }

    /// The next thing to do. The permit to run guest code comes first: nothing is taken that could not be handled now.
    fn poll_task(&mut self, instance: &mut Instance, cx: &mut Context<'_>) -> Poll<Task> {
        self.plugin.bell.of(self.shard as usize).register(cx.waker());
        loop {
            let rests_until = self.rests_until();
            if rests_until.is_some() && !self.has_order() {
                // Neither held nor waited for: others need it.
                (*instance.permit(), self.permit) = (None, None);
                self.in_a_row = 0;
                ready!(self.alarm.poll(rests_until, cx));
                continue;
            }
            if instance.permit().is_none() {
                *instance.permit() = ready!(self.poll_permit(cx));
            }
            let task = if rests_until.is_some() { self.next_order() } else { self.next_task() };
            if let Some(task) = task {
                return Poll::Ready(task);
            }
            if self.eviction.is_due(Instant::now) && !self.plugin.is_candidate() && !self.plugin.is_on_probation() {
                return Poll::Ready(Task::Evict);
            }
            *instance.permit() = None;
            self.in_a_row = 0;
            let due = self.plugin.mailbox.lock().next_due(self.shard as usize);
            let times = [due, self.health_due, self.eviction.due()];
            ready!(self.alarm.poll(times.into_iter().flatten().min(), cx));
        }
    }

    fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Option<OwnedSemaphorePermit>> {
        if self.permit.is_none() {
            if let Ok(permit) = Arc::clone(&self.plugin.permits).try_acquire_owned() {
                return Poll::Ready(Some(permit));
            }
            let permits = Arc::clone(&self.plugin.permits);
            self.permit = Some(Box::pin(async move { permits.acquire_owned().await.ok() }));
        }
        let Some(acquiring) = &mut self.permit else { return Poll::Pending };
        let permit = ready!(acquiring.as_mut().poll(cx));
        self.permit = None;
        Poll::Ready(permit)
    }

    /// Until when the plugin handles nothing, because it has used more than it may. One that is stopping has no time to rest.
    fn rests_until(&self) -> Option<Instant> {
        if self.plugin.life.is_stopping() { None } else { self.plugin.quotas.rests_until() }
    }

    /// Whether there is something that does not wait for rest.
    fn has_order(&self) -> bool {
        self.plugin.rights.generation() != self.rights_generation
            || self.plugin.settings.generation() != self.settings_generation
            || self.plugin.orders.is_waiting(self.shard as usize)
    }

    fn next_order(&mut self) -> Option<Task> {
        if self.plugin.rights.generation() != self.rights_generation {
            return Some(Task::RightsChanged);
        }
        if self.plugin.settings.generation() != self.settings_generation {
            return Some(Task::SettingsChanged);
        }
        self.plugin.orders.take(self.shard as usize).map(Task::Order)
    }

    fn next_task(&mut self) -> Option<Task> {
        if let Some(order) = self.next_order() {
            return Some(order);
        }
        // The clock is looked at when there is nothing to do, and now and then when there is a lot.
        if self.in_a_row == 0 && self.health_due.is_some_and(|due| due <= Instant::now()) {
            return Some(Task::Health);
        }
        let work = self.plugin.mailbox.lock().next(self.shard as usize, Instant::now);
        match work {
            Some(work) => Some(Task::Work(work)),
            // What waits for a retry is due at once when a plugin drains, so nothing is left now.
            None if self.plugin.life.is_stopping() => Some(Task::Stop),
            None => None,
        }
    }

    async fn work(&mut self, instance: &mut Instance, work: Work) -> Result<(), HandlerFault> {
        self.eviction.note_work();
        match work {
            Work::Deliver(delivery) => self.deliver(instance, delivery).await,
            Work::Answer { call, taken } => self.answer(instance, call, taken).await,
            Work::Tick(tick) => self.tick(instance, &tick).await,
            Work::Bury(delivery, reason) => {
                self.plugin.bury(&delivery, &reason).await;
                Ok(())
            }
        }
    }

    async fn deliver(&mut self, instance: &mut Instance, delivery: Delivery) -> Result<(), HandlerFault> {
        let publisher = self.dids.of(&delivery.message.publisher);
        self.note(|| ActivityEvent::message(&delivery.message, delivery.attempt));
        let in_hand = InHand::new(&self.plugin.mailbox, self.shard as usize, delivery);
        let (delivery, handled) = in_hand.handled_by(instance, &publisher).await;
        self.note(|| ActivityEvent::Handled { outcome: outcome_of(&handled) });
        match handled {
            Ok(Disposition::Ack) => self.plugin.forget_letter(&delivery).await,
            Ok(Disposition::Retry(delay)) => {
                let delay = delay.map(|delay| Duration::from_millis(delay.into()));
                self.retry(delivery, delay, None).await;
                return Ok(());
            }
            Ok(Disposition::Reject(reason)) => {
                self.plugin.counters.rejected.one();
                let text = format!("rejected a message on {}: {reason}", delivery.message.topic);
                self.plugin.note(LogLevel::Warn, text);
                self.plugin.forget_letter(&delivery).await;
            }
            Ok(Disposition::DeadLetter(reason)) => self.plugin.bury(&delivery, &reason).await,
            Err(fault) => {
                self.retry(delivery, None, Some(&fault)).await;
                return Err(fault);
            }
        }
        self.plugin.counters.messages.one();
        self.settle(&delivery);
        Ok(())
    }

    /// Lets go of what waits behind a message. Nothing waits behind one that has not failed.
    fn settle(&self, delivery: &Delivery) {
        if delivery.attempt > 1 {
            self.plugin.mailbox.lock().settle(delivery);
        }
    }

    async fn retry(&mut self, delivery: Delivery, delay: Option<Duration>, fault: Option<&HandlerFault>) {
        self.plugin.counters.retries.one();
        let outcome = self.plugin.mailbox.lock().retry(delivery, delay, Instant::now());
        if let Retry::GiveUp(delivery, reason) = outcome {
            let reason = match fault {
                Some(fault) => format!("{reason}; the last time the handler {fault}"),
                None => reason,
            };
            self.plugin.bury(&delivery, &reason).await;
            self.plugin.mailbox.lock().settle(&delivery);
        }
    }

    /// Answers a call, exactly once, whatever happens.
    async fn answer(
        &mut self,
        instance: &mut Instance,
        call: IncomingCall,
        taken: Instant,
    ) -> Result<(), HandlerFault> {
        let deadline = taken + call.request.time_left;
        if deadline <= Instant::now() {
            call.answer.fail(CallError::NotRun(Fault::Timeout));
            return Ok(());
        }
        let caller = self.dids.of(&call.request.caller);
        self.note(|| ActivityEvent::Call {
            procedure: call.request.procedure.clone(),
            payload: Sample::of(&call.request.payload),
            time_left_ms: u64::try_from(call.request.time_left.as_millis()).unwrap_or(u64::MAX),
        });
        let (outcome, ended) = match instance.call(&call.request, &caller, deadline).await {
            Ok(outcome) => {
                self.plugin.counters.calls.one();
                let outcome = match outcome.map_err(|error| self.carriable(error)) {
                    // The limit is a constant far below 4 GiB.
                    Ok(answer) if answer.len() > PAYLOAD_BYTES_MAX => {
                        Err(CallError::MaybeRun(Fault::TooLarge(PAYLOAD_BYTES_MAX as u32)))
                    }
                    outcome => outcome.map_err(CallError::Handler),
                };
                (outcome, Ok(()))
            }
            Err(fault) => {
                let text = match fault {
                    HandlerFault::OutOfTime(_) => "the handler ran for too long and was ended",
                    HandlerFault::Trap(_) | HandlerFault::State(_) | HandlerFault::Setup(_) => "the handler trapped",
                };
                (Err(CallError::MaybeRun(Fault::Other(text.to_owned()))), Err(fault))
            }
        };
        self.note(|| {
            let outcome = CallOutcome::of(&outcome);
            ActivityEvent::Answered { procedure: call.request.procedure.clone(), outcome }
        });
        match outcome {
            Ok(answer) => call.answer.answer(Ok(answer)),
            Err(CallError::Handler(error)) => call.answer.answer(Err(error)),
            Err(error) => call.answer.fail(error),
        }
        ended
    }

    /// A handler's error that breaks its own rules is replaced by one that says so.
    fn carriable(&self, error: HandlerError) -> HandlerError {
        self.plugin.counters.errors.one();
        match error.check() {
            Ok(()) => error,
            Err(broken) => HandlerError::new("malformed-error", broken.to_string()),
        }
    }

    async fn tick(&mut self, instance: &mut Instance, tick: &DueTick) -> Result<(), HandlerFault> {
        self.note(|| ActivityEvent::Tick { timer: tick.name.to_string() });
        let ticked = instance.tick(tick).await;
        self.note(|| {
            // There is nothing that could be done again.
            let outcome = if ticked.is_ok() { HandlerOutcome::Ack } else { HandlerOutcome::Trap };
            ActivityEvent::Handled { outcome }
        });
        let outcome = ticked?;
        self.plugin.counters.ticks.one();
        if let Err(error) = outcome {
            self.plugin.counters.errors.one();
            let text = format!("timer {:?}: {}", tick.name, describe(&error));
            self.plugin.note(LogLevel::Warn, text);
        }
        Ok(())
    }

    // Health and the end.

    /// Whether the instance may go on.
    async fn check_health(&mut self, instance: &mut Instance) -> Result<bool, HandlerFault> {
        self.health_due = Some(Instant::now() + self.health_interval);
        let health = instance.health().await?;
        let note = match &health {
            HealthStatus::Healthy => None,
            HealthStatus::Degraded(text) => Some(format!("degraded: {text}")),
            HealthStatus::Unhealthy(text) => Some(format!("unhealthy: {text}")),
        };
        if let Some(note) = &note {
            self.plugin.log.host(LogLevel::Warn, note.clone());
        }
        self.plugin.life.note_health(note);
        self.unhealthy = if matches!(health, HealthStatus::Unhealthy(_)) { self.unhealthy + 1 } else { 0 };
        Ok(self.unhealthy < UNHEALTHY_MAX)
    }

    async fn replace_unhealthy(&mut self, instance: &mut Instance) -> Ended {
        let text = format!("was unhealthy {UNHEALTHY_MAX} times in a row");
        // It is to go anyway; that it cannot even say good-bye changes nothing.
        let _ = instance.shutdown(lifecycle::StopReason::Other, Duration::ZERO).await;
        match self.crashed(&text).await {
            Some(delay) => Ended::Replace(delay),
            None => Ended::GivenUp,
        }
    }

    async fn stop(&mut self, instance: &mut Instance) {
        let StopOrder { reason, deadline } = self.plugin.life.stop_order().await;
        let grace = deadline.saturating_duration_since(Instant::now());
        if let Err(fault) = instance.shutdown(reason.into(), grace).await {
            self.plugin.log.host(LogLevel::Warn, format!("its shutdown {fault}"));
        }
    }

    /// Gives the instance's state to a new version, and its place if it takes over: then the instance has ended.
    ///
    /// # Errors
    /// `snapshot` has brought the instance to its end: see [`Actor::lose_state`].
    async fn hand_over(&mut self, instance: &mut Instance, mut order: GivePlace) -> Result<bool, HandlerFault> {
        if order.is_called_off() {
            // A snapshot that nobody takes is a risk for nothing.
            return Ok(false);
        }
        let snapshot = if order.wants_state { instance.snapshot().await } else { Ok(None) };
        let (handed, fault) = match snapshot {
            Ok(None) => (Ok(None), None),
            Ok(Some(Ok(state))) => (Ok(Some(state.into())), None),
            Ok(Some(Err(error))) => (Err(NotHanded::Refused(describe(&error))), None),
            Err(fault) => (Err(NotHanded::Ended(fault.to_string())), Some(fault)),
        };
        *instance.permit() = None;
        let is_taken = order.handed.send(handed).is_ok();
        if let Some(fault) = fault {
            if !is_taken {
                self.plugin.life.note_untold_loss(fault.to_string());
            }
            return Err(fault);
        }
        let is_wanted = is_taken || self.plugin.is_candidate();
        if !is_wanted {
            return Ok(false);
        }
        let Ok(grace) = order.verdict.await else { return Ok(false) };
        instance.state().is_aside = true;
        if let Err(fault) = instance.shutdown(lifecycle::StopReason::Replaced, grace).await {
            self.plugin.log.host(LogLevel::Warn, format!("the shutdown of the version before {fault}"));
        }
        Ok(true)
    }

    /// `snapshot` has brought the instance to its end, and what only that instance held is gone. It was asked for its state by
    /// the host, so this counts for nothing in whether the plugin is given up.
    fn lose_state(&mut self, fault: &HandlerFault) -> Ended {
        self.plugin.counters.traps.one();
        let text = format!("its snapshot {fault}; its state is lost, and a new instance starts");
        self.plugin.log.host(LogLevel::Error, text.clone());
        self.plugin.life.note_lost_state(format!("its state was lost: its snapshot {fault}"));
        self.enter(PluginState::BackingOff, Some(text));
        Ended::Replace(Duration::ZERO)
    }

    /// Asks the instance whether it takes new settings, unless nobody waits for that any more. The ones that it had come back
    /// when it does not.
    async fn ask_about_settings(
        &mut self,
        instance: &mut Instance,
        change: ChangeSettings,
    ) -> Result<(), HandlerFault> {
        let ChangeSettings { settings, keys, told } = change;
        if told.is_closed() {
            return Ok(());
        }
        // Who has stopped waiting when the answer comes has called all instances to order since.
        match instance.change_settings(settings, &keys).await {
            Ok((_, Ok(()))) => drop(told.send(Ok(()))),
            Ok((before, Err(error))) => {
                instance.state().settings = before;
                let _ = told.send(Err(describe(&error)));
            }
            Err(fault) => {
                let _ = told.send(Err(fault.to_string()));
                return Err(fault);
            }
        }
        Ok(())
    }

    /// The settings that are in force are the instance's, whatever it says.
    async fn put_settings_right(&mut self, instance: &mut Instance) -> Result<(), HandlerFault> {
        self.settings_generation = self.plugin.settings.generation();
        let (has, current) = (Arc::clone(&instance.state().settings), self.plugin.settings.current());
        if Arc::ptr_eq(&has, &current) {
            return Ok(());
        }
        let (_, agreed) = instance.change_settings(Arc::clone(&current), &different(&has, &current)).await?;
        if let Err(error) = agreed {
            let text =
                format!("the settings in force are its settings, although it refuses them: {}", describe(&error));
            self.plugin.log.host(LogLevel::Warn, text);
        }
        Ok(())
    }

    /// Counts a crash; gives the pause before the next instance, or `None` when there is to be none.
    async fn crashed(&mut self, reason: &str) -> Option<Duration> {
        match self.plugin.record_crash(reason).await {
            Verdict::RestartAfter(delay) => {
                let text = if self.plugin.life.is_stopping() {
                    reason.to_owned()
                } else {
                    format!("{reason}; a new instance starts in {} ms", delay.as_millis())
                };
                self.plugin.log.host(LogLevel::Error, text.clone());
                self.enter(PluginState::BackingOff, Some(text));
                Some(delay)
            }
            Verdict::GiveUp if self.plugin.is_on_probation() => {
                // Whoever put it there replaces it; what it has not handled waits for that.
                self.plugin.log.host(LogLevel::Error, format!("{reason}; it has crashed too often to go on"));
                self.enter(PluginState::Failed, Some(reason.to_owned()));
                self.pause(Duration::MAX).await;
                None
            }
            Verdict::GiveUp => {
                self.plugin.fail(self.shard, reason.to_owned()).await;
                None
            }
        }
    }
}

fn outcome_of(handled: &Result<Disposition, HandlerFault>) -> HandlerOutcome {
    match handled {
        Ok(Disposition::Ack) => HandlerOutcome::Ack,
        Ok(Disposition::Retry(_)) => HandlerOutcome::Retry,
        Ok(Disposition::Reject(_)) => HandlerOutcome::Reject,
        Ok(Disposition::DeadLetter(_)) => HandlerOutcome::DeadLetter,
        Err(_) => HandlerOutcome::Trap,
    }
}

/// DIDs as text: making one costs as much as handling a message.
#[derive(Default)]
struct Dids(FxHashMap<NodeId, Arc<str>>);

impl Dids {
    fn of(&mut self, node: &NodeId) -> Arc<str> {
        if let Some(text) = self.0.get(node) {
            return Arc::clone(text);
        }
        if self.0.len() >= DIDS_MAX {
            self.0.clear();
        }
        let text: Arc<str> = did(node).into();
        self.0.insert(*node, Arc::clone(&text));
        text
    }
}

/// Wakes at a time that changes.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when `due` has come; never when there is none.
    fn poll(&mut self, due: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx)
    }
}
