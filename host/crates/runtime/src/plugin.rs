//! What all instances of a plugin share, and the handle by which others see and stop it.

use std::{
    collections::HashSet,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use macula_wire::{Mcid, Operation, Pattern, PluginName, Topic};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    breaker::{self, Breaker, Verdict},
    inspect::Inspection,
    log::{LogLevel, LogSource, PluginLog},
    mailbox::{Bell, Mailbox},
    manifest::Manifest,
    mesh::Mesh,
    program::Program,
    registry::Registry,
    rights::{Rights, RightsCell},
    status::{Counters, MemoryGauges, Metrics, PluginState, PluginStatus},
};

/// Different denials that are logged; after that they are only counted.
const DENIALS_LOGGED_MAX: usize = 256;

/// Longer than the grace given to a plugin, for what the host itself has to do.
const STOP_MARGIN: Duration = Duration::from_millis(500);

/// Why a plugin ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// A new version has taken over.
    Replaced,
    /// Somebody stopped or removed it.
    Stopped,
    /// It was idle.
    Evicted,
    /// The host stops.
    HostStopping,
}

/// An order to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StopOrder {
    pub(crate) reason: StopReason,
    pub(crate) deadline: Instant,
}

/// What all instances of a plugin share.
pub(crate) struct PluginCore {
    pub(crate) manifest: Manifest,
    pub(crate) program: Arc<Program>,
    pub(crate) mesh: Arc<dyn Mesh>,
    pub(crate) rights: RightsCell,
    pub(crate) log: Arc<PluginLog>,
    pub(crate) counters: Counters,
    pub(crate) memory: MemoryGauges,
    pub(crate) mailbox: Mutex<Mailbox>,
    pub(crate) bell: Arc<Bell>,
    /// Handlers that may run at a time, over all plugins.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) life: Life,
    breaker: Mutex<Breaker>,
    denials: Mutex<HashSet<(Operation, String)>>,
}

/// Where the plugin is in its life.
pub(crate) struct Life {
    is_stopping: AtomicBool,
    order: watch::Sender<Option<StopOrder>>,
    phases: Mutex<Phases>,
    /// Changes with each phase, for those who wait.
    state: watch::Sender<PluginState>,
}

struct Phases {
    shards: Vec<PluginState>,
    reason: Option<String>,
    health: Option<String>,
}

impl Life {
    fn new(shards: u32) -> Self {
        Self {
            is_stopping: AtomicBool::new(false),
            order: watch::Sender::new(None),
            phases: Mutex::new(Phases {
                shards: vec![PluginState::Starting; shards as usize],
                reason: None,
                health: None,
            }),
            state: watch::Sender::new(PluginState::Starting),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// The order to stop, once there is one.
    pub(crate) async fn stop_order(&self) -> StopOrder {
        let mut order = self.order.subscribe();
        loop {
            if let Some(order) = *order.borrow_and_update() {
                return order;
            }
            // The sender lives as long as `self`.
            let _ = order.changed().await;
        }
    }

    /// Notes where one instance is.
    pub(crate) fn enter(&self, shard: u32, state: PluginState, reason: Option<String>) {
        let mut phases = self.phases.lock();
        phases.shards[shard as usize] = state;
        phases.reason = reason;
        self.state.send_replace(phases.state());
    }

    pub(crate) fn note_health(&self, health: Option<String>) {
        self.phases.lock().health = health;
    }

    fn enter_all(&self, state: PluginState, reason: Option<String>) {
        let mut phases = self.phases.lock();
        if !phases.shards.contains(&PluginState::Failed) {
            phases.shards.fill(state);
            phases.reason = reason;
        }
        self.state.send_replace(phases.state());
    }

    fn state(&self) -> PluginState {
        self.phases.lock().state()
    }
}

impl Phases {
    /// The worst of its instances.
    fn state(&self) -> PluginState {
        let order = [PluginState::Failed, PluginState::BackingOff, PluginState::Starting, PluginState::Running];
        order.into_iter().find(|state| self.shards.contains(state)).unwrap_or(PluginState::Stopped)
    }
}

/// What a plugin is made of.
pub(crate) struct PluginParts {
    pub(crate) manifest: Manifest,
    pub(crate) program: Arc<Program>,
    pub(crate) mesh: Arc<dyn Mesh>,
    pub(crate) rights: Rights,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) breaker: Breaker,
}

impl PluginCore {
    pub(crate) fn new(parts: PluginParts) -> Self {
        let limits = &parts.manifest.limits;
        let mailbox = Mailbox::new(limits.instances, limits.timers);
        Self {
            log: Arc::new(PluginLog::new(parts.manifest.name.clone(), limits.log_bytes_per_s)),
            counters: Counters::default(),
            memory: MemoryGauges::new(limits.instances),
            bell: Arc::clone(mailbox.bell()),
            mailbox: Mutex::new(mailbox),
            life: Life::new(limits.instances),
            rights: RightsCell::new(parts.rights),
            program: parts.program,
            mesh: parts.mesh,
            permits: parts.permits,
            breaker: Mutex::new(parts.breaker),
            denials: Mutex::default(),
            manifest: parts.manifest,
        }
    }

    /// Counts something that was not allowed, and says the first time what would allow it.
    pub(crate) fn note_denial(&self, operation: Operation, target: &str) {
        self.counters.denied.one();
        self.mesh.denied(operation, target);
        let mut denials = self.denials.lock();
        if denials.len() > DENIALS_LOGGED_MAX || denials.contains(&(operation, target.to_owned())) {
            return;
        }
        denials.insert((operation, target.to_owned()));
        let text = if denials.len() > DENIALS_LOGGED_MAX {
            "many more names were denied; from now on they are only counted".to_owned()
        } else if target.starts_with('_') && operation != Operation::Subscribe {
            format!("denied {operation} {target}: names that begin with '_' are the system's")
        } else {
            self.what_would_allow(operation, target)
        };
        self.note(LogLevel::Warn, text);
    }

    /// The denial, and the line of the manifest or the token that is missing.
    fn what_would_allow(&self, operation: Operation, target: &str) -> String {
        let is_asked = target.parse().is_ok_and(|target: Pattern| {
            self.manifest.asks.patterns(operation).iter().any(|asked| asked.covers(&target))
        });
        if !is_asked {
            let key = operation.word();
            return format!("denied {operation} {target}; to allow it, the manifest needs: {key} = [\"{target}\"]");
        }
        // Only a name, or everything below one, can be granted.
        let topic = match target.split_once('*') {
            None => format!(" --topic '{target}'"),
            Some(("", _)) => String::new(),
            Some((above, _)) => format!(" --topic '{above}**'"),
        };
        let (realm, node, mcid) = (self.mesh.realm(), self.mesh.node(), self.program.mcid());
        format!(
            "denied {operation} {target}: the manifest asks for it, and no delegation in realm {realm} grants it to this \
             component on this node; who holds the right can: macula-host token issue --realm {realm} --to {node} \
             --can {operation}{topic} --plugin {mcid}"
        )
    }

    /// Says something about the plugin that the plugin itself can bring about as often as it likes: within its quota.
    pub(crate) fn note(&self, level: LogLevel, text: String) {
        let dropped = self.log.write(level, LogSource::Host, String::new(), text, Vec::new());
        self.counters.log_dropped.add(dropped);
    }

    /// Puts new rights in force: what is no longer allowed ends at once. The same again changes nothing.
    fn replace_rights(&self, rights: &Rights) {
        if *self.rights.current() == *rights {
            return;
        }
        self.rights.replace(rights.clone());
        self.mailbox.lock().retain_allowed(
            |pattern: &Pattern| rights.allows_all(Operation::Subscribe, pattern),
            |procedure: &Topic| rights.allows(Operation::Advertise, procedure),
        );
        self.denials.lock().clear();
        self.bell.ring_all();
    }

    /// Counts a crash, on disk too.
    pub(crate) async fn record_crash(&self, reason: &str) -> Verdict {
        let (verdict, to_store) = {
            let mut breaker = self.breaker.lock();
            (breaker.crash(reason, breaker::now_ms()), breaker.to_store())
        };
        if let Some((file, bytes)) = to_store {
            let stored = tokio::task::spawn_blocking(move || breaker::store(&file, &bytes)).await;
            if let Ok(Err(error)) = stored {
                tracing::warn!(plugin = %self.manifest.name, %error, "cannot remember the crash across restarts");
            }
        }
        verdict
    }

    /// Gives the plugin up: its instances end, what had been taken becomes dead letters.
    pub(crate) async fn fail(&self, shard: u32, reason: String) {
        self.log.host(LogLevel::Error, format!("given up: {reason}"));
        self.life.enter(shard, PluginState::Failed, Some(reason));
        self.order_stop(StopReason::Stopped, Duration::ZERO);
        self.bury_the_rest("the plugin was given up").await;
    }

    fn order_stop(&self, reason: StopReason, grace: Duration) -> Instant {
        let deadline = Instant::now() + grace;
        self.life.is_stopping.store(true, Ordering::Release);
        self.life.order.send_if_modified(|order| {
            let is_first = order.is_none();
            order.get_or_insert(StopOrder { reason, deadline });
            is_first
        });
        self.mailbox.lock().drain(Instant::now());
        deadline
    }

    async fn bury_the_rest(&self, reason: &str) {
        let rest = self.mailbox.lock().close();
        for delivery in rest {
            self.bury(&delivery, reason).await;
        }
    }

    fn status(&self) -> PluginStatus {
        let (state, reason, health) = {
            let phases = self.life.phases.lock();
            (phases.state(), phases.reason.clone(), phases.health.clone())
        };
        let mailbox = self.mailbox.lock();
        PluginStatus {
            name: self.manifest.name.clone(),
            version: self.manifest.version.clone(),
            mcid: self.program.mcid().clone(),
            state,
            reason,
            health,
            instances: self.manifest.limits.instances,
            memory_bytes: self.memory.sum(),
            subscriptions: mailbox.subscription_statuses(),
            procedures: mailbox.procedures(),
            timers: u32::try_from(mailbox.timer_count()).unwrap_or(u32::MAX),
            held_messages: u32::try_from(mailbox.held_messages()).unwrap_or(u32::MAX),
            metrics: Metrics { dropped: mailbox.dropped(), ..self.counters.metrics() },
        }
    }
}

/// A plugin that was started. Cheap to clone; dropping it stops nothing.
#[derive(Clone)]
pub struct PluginHandle {
    pub(crate) core: Arc<PluginCore>,
    pub(crate) actors: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// Where its name is taken.
    pub(crate) registry: Weak<Registry>,
}

impl PluginHandle {
    /// Its name.
    pub fn name(&self) -> &PluginName {
        &self.core.manifest.name
    }

    /// The component it runs.
    pub fn mcid(&self) -> &Mcid {
        self.core.program.mcid()
    }

    /// What the component is.
    pub fn inspection(&self) -> &Inspection {
        self.core.program.inspection()
    }

    /// What it asked for and how it is set up.
    pub fn manifest(&self) -> &Manifest {
        &self.core.manifest
    }

    /// Its log, to read and to follow.
    pub fn log(&self) -> &Arc<PluginLog> {
        &self.core.log
    }

    /// Where it is in its life.
    pub fn state(&self) -> PluginState {
        self.core.life.state()
    }

    /// Waits until it is in one of these states. Dropping the future changes nothing.
    pub async fn wait_for(&self, states: &[PluginState]) -> PluginState {
        let mut state = self.core.life.state.subscribe();
        // The sender lives as long as `self`.
        match state.wait_for(|state| states.contains(state)).await {
            Ok(state) => *state,
            Err(_) => self.state(),
        }
    }

    /// What it is and does now.
    pub fn status(&self) -> PluginStatus {
        self.core.status()
    }

    /// What has been counted.
    pub fn metrics(&self) -> Metrics {
        Metrics { dropped: self.core.mailbox.lock().dropped(), ..self.core.counters.metrics() }
    }

    /// What it may do now.
    pub fn rights(&self) -> Arc<Rights> {
        self.core.rights.current()
    }

    /// Puts new rights in force while it runs. What is no longer allowed fails and ends at once; the plugin is told.
    pub fn replace_rights(&self, rights: &Rights) {
        self.core.replace_rights(rights);
    }

    /// Stops it: nothing new is taken, what had been taken is handled, `shutdown` runs. After `grace` it is ended where it
    /// stands, and messages not handled by then become dead letters. Its name is free afterwards.
    pub async fn stop(&self, reason: StopReason, grace: Duration) {
        let deadline = self.core.order_stop(reason, grace);
        let actors = std::mem::take(&mut *self.actors.lock());
        for mut actor in actors {
            if tokio::time::timeout_at(deadline + STOP_MARGIN, &mut actor).await.is_err() {
                self.core
                    .log
                    .host(LogLevel::Warn, format!("did not stop within {} ms and was ended", grace.as_millis()));
                actor.abort();
                // Cancelled, as it was just told to be.
                let _ = actor.await;
            }
        }
        self.core.bury_the_rest("the plugin was stopped").await;
        self.core.life.enter_all(PluginState::Stopped, None);
        if let Some(registry) = self.registry.upgrade() {
            registry.remove(self);
        }
    }
}

impl std::fmt::Debug for PluginHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHandle").field("name", self.name()).field("mcid", self.mcid()).finish_non_exhaustive()
    }
}
