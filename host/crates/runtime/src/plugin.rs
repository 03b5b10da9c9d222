//! A plugin: what the instances of one version share, what versions have in common, and the handle by which others see
//! and stop it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use macula_wire::{Mcid, Operation, Pattern, PluginName, Topic, limits::CALL_TIMEOUT_MAX};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    activity::{ActivityLog, Watched},
    breaker::{self, Breaker, Verdict},
    clock::Clock,
    dead_letters::{DeadLetters, ReplayError},
    inspect::Inspection,
    log::{Entry, LogLevel, LogSource, PluginLog},
    log_topic::LogPublisher,
    mailbox::{Bell, Leftover, Mailbox},
    manifest::Manifest,
    mesh::Mesh,
    orders::{GivePlace, Order, Orders},
    program::Program,
    quotas::Quotas,
    registry::Registry,
    rights::{Rights, RightsCell},
    runtime::Grant,
    settings::SettingsCell,
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

/// One version of a plugin: what all its instances share. Mailbox, log, activity, counters and mesh are the plugin's, and the same
/// in all its versions.
pub(crate) struct PluginCore {
    pub(crate) manifest: Manifest,
    pub(crate) program: Arc<Program>,
    pub(crate) mesh: Arc<dyn Mesh>,
    pub(crate) rights: RightsCell,
    /// The manifest's at first.
    pub(crate) settings: SettingsCell,
    /// What the rights come from.
    grant: Grant,
    pub(crate) log: Arc<PluginLog>,
    pub(crate) activity: Arc<ActivityLog>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) memory: MemoryGauges,
    pub(crate) mailbox: Arc<Mutex<Mailbox>>,
    pub(crate) bell: Arc<Bell>,
    /// Handlers that may run at a time, over all plugins.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) life: Life,
    /// Where the next version asks this one's instances for their places.
    pub(crate) orders: Orders,
    breaker: Mutex<Breaker>,
    /// Another version runs, and this one may take over from it.
    is_candidate: AtomicBool,
    /// Numbers of subscriptions that instances of a candidate have asked for and the running version has not.
    candidate_ids: Mutex<HashMap<Pattern, u32>>,
    /// When it crashes too often it waits to be replaced, with its mailbox whole.
    is_on_probation: AtomicBool,
    denials: Mutex<HashSet<(Operation, String)>>,
    pub(crate) quotas: Quotas,
    /// Where messages are kept that no handler could deal with.
    pub(crate) dead_letters: Option<Arc<DeadLetters>>,
    /// What its instances see as the time.
    pub(crate) clock: Clock,
    /// The next handler traps: for tests of what happens then.
    pub(crate) is_to_trap: AtomicBool,
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
    lost_state: Option<String>,
    /// A state was lost in a handover for which nobody waited any more.
    untold_loss: Option<String>,
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
                lost_state: None,
                untold_loss: None,
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
        // A canary is behind the instances, and all there is of its version.
        let last = phases.shards.len() - 1;
        phases.shards[(shard as usize).min(last)] = state;
        phases.reason = reason;
        self.state.send_replace(phases.state());
    }

    pub(crate) fn health(&self) -> Option<String> {
        self.phases.lock().health.clone()
    }

    pub(crate) fn note_health(&self, health: Option<String>) {
        self.phases.lock().health = health;
    }

    /// What was lost of the state, for `status`; the last time counts.
    pub(crate) fn note_lost_state(&self, what: String) {
        self.phases.lock().lost_state = Some(what);
    }

    /// The state was lost in a handover, when nobody waited for that any more: whoever is next to ask for the state learns it.
    pub(crate) fn note_untold_loss(&self, why: String) {
        self.phases.lock().untold_loss = Some(why);
    }

    /// Why the state was lost in an earlier handover, once.
    pub(crate) fn take_untold_loss(&self) -> Option<String> {
        self.phases.lock().untold_loss.take()
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

    /// Whether all of its instances are.
    pub(crate) fn is_evicted(&self) -> bool {
        self.state() == PluginState::Evicted
    }
}

impl Phases {
    /// The worst of its instances.
    fn state(&self) -> PluginState {
        let order = [
            PluginState::Failed,
            PluginState::BackingOff,
            PluginState::Starting,
            PluginState::Running,
            PluginState::Evicted,
        ];
        order.into_iter().find(|state| self.shards.contains(state)).unwrap_or(PluginState::Stopped)
    }
}

/// What a plugin is made of.
pub(crate) struct PluginParts {
    pub(crate) manifest: Manifest,
    pub(crate) program: Arc<Program>,
    pub(crate) mesh: Arc<dyn Mesh>,
    pub(crate) grant: Grant,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) breaker: Breaker,
    pub(crate) dead_letters: Option<Arc<DeadLetters>>,
    pub(crate) clock: Clock,
    pub(crate) watched: Watched,
}

/// What is the same in all versions of a plugin.
struct Shared {
    mailbox: Arc<Mutex<Mailbox>>,
    bell: Arc<Bell>,
    log: Arc<PluginLog>,
    activity: Arc<ActivityLog>,
    counters: Arc<Counters>,
}

impl PluginCore {
    /// The first version of a plugin.
    pub(crate) fn new(parts: PluginParts) -> Self {
        let limits = &parts.manifest.limits;
        let mailbox = Mailbox::new(limits.instances, limits.timers);
        let log = PluginLog::new(parts.manifest.name.clone(), limits.log_bytes_per_s);
        let bell = Arc::clone(mailbox.bell());
        let activity = ActivityLog::new(parts.watched);
        let shared = Shared {
            mailbox: Arc::new(Mutex::new(mailbox)),
            bell,
            log: Arc::new(log),
            activity: Arc::new(activity),
            counters: Arc::default(),
        };
        Self::with(parts, shared)
    }

    /// A version that may take over from this one, which has as many instances.
    pub(crate) fn candidate(&self, parts: PluginParts) -> Self {
        let candidate = Self::with(parts, self.shared());
        candidate.is_candidate.store(true, Ordering::Release);
        candidate
    }

    /// A version that gets a share of this one's work, with counters of its own.
    pub(crate) fn canary(&self, parts: PluginParts) -> Self {
        let canary = Self::with(parts, Shared { counters: Arc::default(), ..self.shared() });
        canary.is_candidate.store(true, Ordering::Release);
        canary.is_on_probation.store(true, Ordering::Release);
        canary
    }

    fn shared(&self) -> Shared {
        Shared {
            mailbox: Arc::clone(&self.mailbox),
            bell: Arc::clone(&self.bell),
            log: Arc::clone(&self.log),
            activity: Arc::clone(&self.activity),
            counters: Arc::clone(&self.counters),
        }
    }

    fn with(parts: PluginParts, Shared { mailbox, bell, log, activity, counters }: Shared) -> Self {
        let instances = parts.manifest.limits.instances;
        Self {
            log,
            activity,
            counters,
            memory: MemoryGauges::new(instances),
            bell,
            mailbox,
            // One place more for a canary, which is behind the instances.
            life: Life::new(instances),
            orders: Orders::new(instances + 1),
            settings: SettingsCell::new(parts.manifest.config.clone()),
            rights: RightsCell::new(parts.grant.rights(parts.program.mcid(), &parts.manifest)),
            grant: parts.grant,
            program: parts.program,
            mesh: parts.mesh,
            permits: parts.permits,
            breaker: Mutex::new(parts.breaker),
            is_candidate: AtomicBool::new(false),
            candidate_ids: Mutex::default(),
            is_on_probation: AtomicBool::new(false),
            denials: Mutex::default(),
            quotas: Quotas::new(&parts.manifest.limits, &parts.clock),
            dead_letters: parts.dead_letters,
            clock: parts.clock,
            is_to_trap: AtomicBool::new(false),
            manifest: parts.manifest,
        }
    }

    pub(crate) fn is_candidate(&self) -> bool {
        self.is_candidate.load(Ordering::Acquire)
    }

    /// It takes over now.
    pub(crate) fn end_candidacy(&self) {
        self.is_candidate.store(false, Ordering::Release);
    }

    /// The number of a subscription that a candidate asks for; the same for all its instances.
    pub(crate) fn candidate_id(&self, pattern: &Pattern, mailbox: &mut Mailbox) -> u32 {
        *self.candidate_ids.lock().entry(pattern.clone()).or_insert_with(|| mailbox.reserve_id())
    }

    /// Whether the handler that has just run is to count as trapped.
    pub(crate) fn takes_trap(&self) -> bool {
        self.is_to_trap.load(Ordering::Relaxed) && self.is_to_trap.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn is_on_probation(&self) -> bool {
        self.is_on_probation.load(Ordering::Acquire)
    }

    pub(crate) fn set_probation(&self, is_on_probation: bool) {
        self.is_on_probation.store(is_on_probation, Ordering::Release);
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
        let dropped = self.log.write(Entry::new(level, LogSource::Host, text));
        self.counters.log_dropped.add(dropped);
    }

    /// Puts new rights in force: what is no longer allowed ends at once, and what has lapsed waits. The same again changes
    /// nothing.
    pub(crate) fn replace_rights(&self, rights: &Rights) {
        if *self.rights.current() == *rights {
            return;
        }
        self.rights.replace(rights.clone());
        self.mailbox.lock().retain_allowed(
            |pattern: &Pattern| rights.keeps_subscription(pattern),
            |procedure: &Topic| rights.keeps_offer(procedure),
        );
        self.denials.lock().clear();
        self.bell.ring_all();
    }

    /// Asks again what the plugin gets, and puts that in force.
    pub(crate) fn refresh_rights(&self) {
        self.replace_rights(&self.grant.rights(self.program.mcid(), &self.manifest));
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
        if self.is_candidate() {
            // The mailbox is the running version's.
            return;
        }
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
        let Leftover { taken, untaken } = self.mailbox.lock().close();
        if untaken > 0 {
            let text = format!("{untaken} messages that had come and were not taken yet are lost: {reason}");
            self.log.host(LogLevel::Warn, text);
        }
        for delivery in taken {
            self.bury(&delivery, reason).await;
        }
    }

    fn status(&self) -> PluginStatus {
        let (state, reason, health, lost_state) = {
            let phases = self.life.phases.lock();
            (phases.state(), phases.reason.clone(), phases.health.clone(), phases.lost_state.clone())
        };
        let mailbox = self.mailbox.lock();
        PluginStatus {
            name: self.manifest.name.clone(),
            version: self.manifest.version.clone(),
            mcid: self.program.mcid().clone(),
            state,
            reason,
            health,
            lost_state,
            instances: self.manifest.limits.instances,
            memory_bytes: self.memory.sum(),
            subscriptions: mailbox.subscription_statuses(),
            procedures: mailbox.procedures(),
            timers: u32::try_from(mailbox.timer_count()).unwrap_or(u32::MAX),
            held_messages: u32::try_from(mailbox.held_messages()).unwrap_or(u32::MAX),
            granted: self.rights.current().by_operation(),
            metrics: Metrics { dropped: mailbox.dropped(), ..self.counters.metrics() },
            latencies: self.counters.latencies(),
        }
    }
}

/// A plugin that was started. It stays the same while versions replace one another. Cheap to clone; dropping it stops
/// nothing.
#[derive(Clone)]
pub struct PluginHandle(Arc<Plugin>);

struct Plugin {
    name: PluginName,
    log: Arc<PluginLog>,
    activity: Arc<ActivityLog>,
    running: Mutex<Running>,
    /// A version that gets a share of the work.
    canary: Mutex<Option<Canary>>,
    /// Somebody wants it to stop: what may take long ends early.
    stop_wanted: watch::Sender<bool>,
    /// Held while one version takes over from another, while settings change, and while the plugin stops.
    succession: tokio::sync::Mutex<()>,
    /// Publishes its log, where that is wanted.
    log_publisher: Mutex<Option<LogPublisher>>,
    /// Where its name is taken.
    registry: Weak<Registry>,
}

/// A version that is tried out beside the one that runs.
pub(crate) struct Canary {
    pub(crate) core: Arc<PluginCore>,
    pub(crate) actor: JoinHandle<()>,
}

/// How a canary is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryStatus {
    /// Its component.
    pub mcid: Mcid,
    /// Its version; empty when it has none.
    pub version: String,
    /// Where it is in its life.
    pub state: PluginState,
    /// Why, when it has failed.
    pub reason: Option<String>,
    /// What it alone has done.
    pub metrics: Metrics,
}

/// The version that runs.
struct Running {
    core: Arc<PluginCore>,
    actors: Vec<JoinHandle<()>>,
}

impl PluginHandle {
    pub(crate) fn new(core: Arc<PluginCore>, registry: &Arc<Registry>) -> Self {
        Self(Arc::new(Plugin {
            name: core.manifest.name.clone(),
            log: Arc::clone(&core.log),
            activity: Arc::clone(&core.activity),
            running: Mutex::new(Running { core, actors: Vec::new() }),
            canary: Mutex::default(),
            stop_wanted: watch::Sender::new(false),
            succession: tokio::sync::Mutex::default(),
            log_publisher: Mutex::default(),
            registry: Arc::downgrade(registry),
        }))
    }

    /// The version that runs.
    pub(crate) fn core(&self) -> Arc<PluginCore> {
        Arc::clone(&self.0.running.lock().core)
    }

    /// Notes the task of one more instance slot of the running version.
    pub(crate) fn add_actor(&self, actor: JoinHandle<()>) {
        self.0.running.lock().actors.push(actor);
    }

    /// Nobody else replaces or stops the plugin as long as the guard lives.
    pub(crate) async fn succession(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.succession.lock().await
    }

    /// Ends when somebody wants the plugin to stop.
    pub(crate) async fn stop_wanted(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.stop_wanted.subscribe().wait_for(|is_wanted| *is_wanted).await;
    }

    /// Another version runs from now on; gives the tasks of the one before.
    pub(crate) fn succeed(&self, core: Arc<PluginCore>, actors: Vec<JoinHandle<()>>) -> Vec<JoinHandle<()>> {
        std::mem::replace(&mut *self.0.running.lock(), Running { core, actors }).actors
    }

    /// Publishes its log from now on.
    pub(crate) fn publish_log(&self, level: LogLevel) {
        self.0.log.set_published(level);
        let mesh = Arc::clone(&self.core().mesh);
        *self.0.log_publisher.lock() = LogPublisher::start(&self.0.name, Arc::clone(&self.0.log), mesh, level);
    }

    pub(crate) fn set_canary(&self, canary: Canary) {
        *self.0.canary.lock() = Some(canary);
    }

    /// How its canary is doing, if it has one.
    pub fn canary(&self) -> Option<CanaryStatus> {
        let canary = self.0.canary.lock();
        let core = &canary.as_ref()?.core;
        let status = core.status();
        let metrics = core.counters.metrics();
        Some(CanaryStatus {
            mcid: status.mcid,
            version: status.version,
            state: status.state,
            reason: status.reason,
            metrics,
        })
    }

    /// Ends its canary, if it has one: what it has not handled is the running version's again. What it gathered goes with it.
    pub async fn end_canary(&self) {
        let _alone = self.succession().await;
        self.end_canary_alone().await;
    }

    /// The same for who has [`PluginHandle::succession`].
    pub(crate) async fn end_canary_alone(&self) {
        let Some(Canary { core, actor }) = self.0.canary.lock().take() else { return };
        let (handed, _) = oneshot::channel();
        let (verdict, told) = oneshot::channel();
        // It goes, whatever it may say.
        let _ = verdict.send(STOP_MARGIN);
        let shard = core.mailbox.lock().canary_shard();
        core.orders.give(shard, Order::GivePlace(GivePlace { handed, verdict: told, wants_state: false }));
        core.bell.ring_all();
        // What it handles is handled to the end, which may include a call as long as calls may be.
        let longest = core.manifest.limits.handler_time() + CALL_TIMEOUT_MAX;
        end_actors(&core, vec![actor], Instant::now() + longest).await;
        core.mailbox.lock().end_canary();
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Its name.
    pub fn name(&self) -> &PluginName {
        &self.0.name
    }

    /// The component it runs.
    pub fn mcid(&self) -> Mcid {
        self.core().program.mcid().clone()
    }

    /// What it asked for and how it is set up.
    pub fn manifest(&self) -> Manifest {
        let core = self.core();
        Manifest { config: BTreeMap::clone(&core.settings.current()), ..core.manifest.clone() }
    }

    /// Its log, to read and to follow.
    pub fn log(&self) -> &Arc<PluginLog> {
        &self.0.log
    }

    /// What happens at it, for whoever watches.
    pub fn activity(&self) -> &Arc<ActivityLog> {
        &self.0.activity
    }

    /// Where it is in its life.
    pub fn state(&self) -> PluginState {
        self.core().life.state()
    }

    /// Waits until the version that runs now is in one of these states. Dropping the future changes nothing.
    pub async fn wait_for(&self, states: &[PluginState]) -> PluginState {
        let core = self.core();
        let mut state = core.life.state.subscribe();
        // The sender lives as long as `core`.
        match state.wait_for(|state| states.contains(state)).await {
            Ok(state) => *state,
            Err(_) => core.life.state(),
        }
    }

    /// What it is and does now.
    pub fn status(&self) -> PluginStatus {
        self.core().status()
    }

    /// What has been counted, over all versions.
    pub fn metrics(&self) -> Metrics {
        let core = self.core();
        let dropped = core.mailbox.lock().dropped();
        Metrics { dropped, ..core.counters.metrics() }
    }

    /// What it may do now.
    pub fn rights(&self) -> Arc<Rights> {
        self.core().rights.current()
    }

    /// Puts new rights in force while it runs. What is no longer allowed fails and ends at once; the plugin is told.
    pub fn replace_rights(&self, rights: &Rights) {
        self.core().replace_rights(rights);
    }

    /// What its component is.
    pub fn inspection(&self) -> Inspection {
        self.core().program.inspection().clone()
    }

    /// What no handler could deal with; `None` on a host that keeps no state.
    pub fn dead_letters(&self) -> Option<Arc<DeadLetters>> {
        self.core().dead_letters.clone()
    }

    /// Lets a dead letter be handled again. It is forgotten when that is done, or replaced by a new one.
    ///
    /// # Errors
    /// When there is none of that number, it is being handled already, or the plugin has stopped.
    pub fn replay(&self, id: u64) -> Result<(), ReplayError> {
        let core = self.core();
        let letters = core.dead_letters.as_ref().ok_or(ReplayError::NotThere(id))?;
        let delivery = letters.begin_replay(id)?;
        if core.mailbox.lock().replay(delivery) {
            return Ok(());
        }
        letters.cancel_replay(id);
        Err(ReplayError::NotRunning)
    }

    /// Lets the next handler, when it has run, count as trapped: for tests of what happens then.
    pub fn trap_next(&self) {
        self.core().is_to_trap.store(true, Ordering::Relaxed);
    }

    /// Asks again what the plugin gets by what it was started with, and puts that in force.
    pub fn refresh_rights(&self) {
        self.core().refresh_rights();
        if let Some(canary) = &*self.0.canary.lock() {
            canary.core.refresh_rights();
        }
    }

    /// The version that runs has stood the test: from now on, crashing too often makes the plugin fail. One that has
    /// failed on probation goes on waiting to be replaced or stopped.
    pub fn end_probation(&self) {
        let core = self.core();
        core.set_probation(false);
        core.breaker.lock().end_probation();
    }

    /// Stops it: nothing new is taken, what had been taken is handled, `shutdown` runs. After `grace` it is ended where it
    /// stands, and messages not handled by then become dead letters. Its name is free afterwards. A version that is just
    /// taking over does so first.
    pub async fn stop(&self, reason: StopReason, grace: Duration) {
        self.0.stop_wanted.send_replace(true);
        let _alone = self.succession().await;
        self.end_canary_alone().await;
        let core = self.core();
        let deadline = core.order_stop(reason, grace);
        let actors = std::mem::take(&mut self.0.running.lock().actors);
        end_actors(&core, actors, deadline).await;
        core.bury_the_rest("the plugin was stopped").await;
        core.life.enter_all(PluginState::Stopped, None);
        let publisher = self.0.log_publisher.lock().take();
        if let Some(publisher) = publisher {
            publisher.finish().await;
        }
        if let Some(registry) = self.0.registry.upgrade() {
            registry.remove(self);
        }
    }
}

/// Waits for a version's instances to end, and ends those that do not.
pub(crate) async fn end_actors(core: &PluginCore, actors: Vec<JoinHandle<()>>, deadline: Instant) {
    for mut actor in actors {
        if tokio::time::timeout_at(deadline + STOP_MARGIN, &mut actor).await.is_err() {
            core.log.host(LogLevel::Warn, "did not stop in the time it was given, and was ended".to_owned());
            actor.abort();
            // Cancelled, as it was just told to be.
            let _ = actor.await;
        }
    }
}

impl std::fmt::Debug for PluginHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHandle").field("name", self.name()).field("mcid", &self.mcid()).finish_non_exhaustive()
    }
}
