//! The task of one slot: carries out what its follower decides.

use std::{sync::Arc, time::Duration};

use data_encoding::BASE64;
use macula_node::{
    LOCAL_REALM, LinkState, Mesh, NodeContent, Pinner, Publish, StateFile, Subscribe, Subscription,
    auth::{Slot, Validity},
    content::store::{Owner, StoreError},
    deploy::{
        Action, Asks, Config, Counts, Deployment, Failure as Setback, Follower, Handover, Journal, Refused, Rollout,
    },
    wire::{Delivery, Fault, Mcid, Operation, Pattern, Topic},
};
use macula_runtime::{
    COMPONENT_BYTES_MAX, CrashPolicy, Grant, ManifestSource, Metrics, PluginHandle, PluginSource, PluginState,
    Prepared, ReplaceError, ReplaceOptions, StartError, StateTransfer, StopReason,
};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{Order, Parts};
use crate::{compose::rights_of, failure::Failure};

/// How long a provider is looked for at a time.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);
/// How long the first version of a plugin may take to become ready.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a version may take to say good-bye.
const GRACE: Duration = Duration::from_secs(5);
/// Crashes on trial after which a version goes: fewer than a message has attempts.
const TRIAL_CRASHES_MAX: usize = 3;
/// Between two times that the record is said again because somebody said something else.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// Before a subscription that was refused is tried again: rights may have come.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(5);

/// What is on the disk.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    journal: Journal,
    /// The newest record that was taken, in base64, to be given to others who lack it.
    record: Option<String>,
}

/// What came of something that was begun.
enum Done {
    Fetched(u64, Result<(), Setback>),
    Prepared(u64, Result<Box<Prepared>, Setback>),
    Started(u64, Result<PluginHandle, Setback>),
    CanaryStarted(u64, Result<(), Setback>),
}

/// See the module.
pub(super) struct Follow {
    parts: Parts,
    slot: Slot,
    topics: Topics,
    file: StateFile,
    follower: Follower,
    granted: Arc<RwLock<Asks>>,
    prepared: Option<Box<Prepared>>,
    plugin: Option<PluginHandle>,
    /// It was given up, and the follower knows.
    has_fallen: bool,
    pinned: Vec<Mcid>,
    rollout: watch::Sender<Rollout>,
    /// When the record was last said again.
    said_at: Option<tokio::time::Instant>,
    work: JoinSet<Done>,
}

struct Topics {
    records: Topic,
    rollout: Topic,
}

impl Follow {
    /// Takes up what is remembered of the slot.
    pub(super) fn new(parts: Parts, file: StateFile, slot: &Slot) -> Result<(Self, watch::Receiver<Rollout>), Failure> {
        let too_deep = || Failure::usage(format!("the slot {slot} has too many labels to be deployed to"));
        let node = parts.mesh.node();
        let topics = Topics {
            records: slot.record_topic().ok_or_else(too_deep)?,
            rollout: slot.rollout_topic(&node).ok_or_else(too_deep)?,
        };
        let stored: Stored = match file.read()? {
            None => Stored::default(),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::failed(format!("{} is damaged ({error}); removing it begins anew", file.path().display()))
            })?,
        };
        let is_local = parts.mesh.realm().as_str() == LOCAL_REALM;
        let config = Config { grants_what_is_asked: is_local, ..Config::default() };
        let granted = Arc::new(RwLock::new(stored.journal.granted.clone()));
        let pinned = stored.journal.pinned();
        let follower = Follower::new(now_ms(), slot.clone(), node, config, stored.journal);
        let (rollout, watched) = watch::channel(follower.rollout(now_ms()));
        let record = stored.record.and_then(|text| BASE64.decode(text.as_bytes()).ok());
        parts.records.write().extend(record.map(|record| (slot.clone(), record)));
        let follow = Self {
            parts,
            slot: slot.clone(),
            topics,
            file,
            follower,
            granted,
            prepared: None,
            plugin: None,
            has_fallen: false,
            pinned,
            rollout,
            said_at: None,
            work: JoinSet::new(),
        };
        Ok((follow, watched))
    }

    /// Follows, until the node stops.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut records: Option<Subscription> = None;
        let mut subscribe_at = tokio::time::Instant::now();
        let mut link = self.parts.mesh.link();
        loop {
            self.carry_out().await;
            let now = now_ms();
            let timeout = Duration::from_millis(self.follower.poll_timeout().saturating_sub(now));
            let look = self.follower.look_interval().map(Duration::from_millis);
            tokio::select! {
                () = tokio::time::sleep(timeout) => self.follower.handle_timeout(now_ms()),
                () = tokio::time::sleep(look.unwrap_or_default()), if look.is_some() => self.look(),
                reason = fall(self.plugin.clone()), if !self.has_fallen && self.follower.look_interval().is_none() => {
                    self.has_fallen = true;
                    self.follower.fell(now_ms(), &reason);
                }
                Some(done) = self.work.join_next(), if !self.work.is_empty() => self.take(done),
                order = orders.recv() => match order {
                    Some(Order::Grant { seq, done }) => {
                        // Whoever asked may have gone.
                        let _ = done.send(self.grant(seq));
                    }
                    None => return,
                },
                message = next(&mut records) => match message {
                    Some(payload) => self.hear(&payload).await,
                    None if matches!(*link.borrow(), LinkState::Closed) => return,
                    // The right to it has ended, for now perhaps.
                    None => records = None,
                },
                () = tokio::time::sleep_until(subscribe_at), if records.is_none() => {
                    subscribe_at = tokio::time::Instant::now() + SUBSCRIBE_AGAIN;
                    records = self.subscribe().await;
                    if records.is_some() {
                        self.remind().await;
                    }
                }
                Ok(()) = link.changed() => {
                    let is_up = matches!(*link.borrow_and_update(), LinkState::Up(_));
                    if is_up {
                        self.remind().await;
                    }
                }
            }
        }
    }

    async fn subscribe(&self) -> Option<Subscription> {
        let pattern = Pattern::from(self.topics.records.clone());
        match self.parts.mesh.subscribe_with(pattern, Subscribe::default()).await {
            Ok(subscription) => Some(subscription),
            Err(fault) => {
                tracing::warn!(slot = %self.slot, %fault, "cannot follow the slot yet");
                None
            }
        }
    }

    // Records.

    /// A record has come: from its deployer, as the topic's stored value, or again.
    async fn hear(&mut self, payload: &[u8]) {
        // What this host says itself, also when it has expired.
        if self.record().as_deref() == Some(payload) {
            return;
        }
        match self.take_record(payload) {
            Ok(true) => tracing::info!(slot = %self.slot, seq = self.seq(), "deployment taken"),
            Ok(false) => {}
            Err(Heard::Refused(Refused::Older { seq, known })) => {
                tracing::info!(slot = %self.slot, seq, known, "an older deployment came; the newer one is said again");
                self.say_again().await;
            }
            Err(heard @ Heard::Refused(_)) => tracing::warn!(slot = %self.slot, "a deployment is refused: {heard}"),
            Err(heard) => {
                tracing::warn!(slot = %self.slot, "what is no deployment was said of the slot: {heard}");
                // It is what the relay has stored now, in the place of what the slot holds.
                self.say_again().await;
            }
        }
    }

    fn take_record(&mut self, payload: &[u8]) -> Result<bool, Heard> {
        let mesh = &self.parts.mesh;
        let record = mesh
            .check_record(payload, Operation::Deploy, &self.slot.topic(), Validity::Now)
            .map_err(Heard::Unproved)?;
        let deployment =
            Deployment::read(&record, &self.slot, mesh.realm()).map_err(|error| Heard::Malformed(error.to_string()))?;
        let known = self.parts.records.write().insert(self.slot.clone(), payload.to_vec());
        let taken =
            self.follower.record(now_ms(), &record.id.to_string(), record.expires.unwrap_or(u64::MAX), &deployment);
        if !matches!(taken, Ok(true)) {
            let mut records = self.parts.records.write();
            match known {
                Some(known) => records.insert(self.slot.clone(), known),
                None => records.remove(&self.slot),
            };
        }
        taken.map_err(Heard::Refused)
    }

    /// The newest record that was taken.
    fn record(&self) -> Option<Vec<u8>> {
        self.parts.records.read().get(&self.slot).cloned()
    }

    fn seq(&self) -> u64 {
        self.follower.journal().accepted.as_ref().map_or(0, |accepted| accepted.version.seq)
    }

    /// A relay that was started anew knows neither the record nor how far this host is.
    async fn remind(&mut self) {
        self.tell().await;
        if self.record().is_none() {
            return;
        }
        let stored = self.parts.mesh.retained(&self.topics.records).await;
        if let Ok(None) = stored {
            self.publish_record().await;
        }
    }

    /// Says the newest record again, now and then: whoever says something else must not have everybody answer all the time.
    async fn say_again(&mut self) {
        if self.said_at.is_none_or(|said_at| said_at.elapsed() >= SAY_AGAIN) {
            self.said_at = Some(tokio::time::Instant::now());
            self.publish_record().await;
        }
    }

    async fn publish_record(&self) {
        let Some(record) = self.record() else { return };
        if let Err(fault) = publish_retained(&self.parts.mesh, &self.topics.records, &record).await {
            tracing::debug!(slot = %self.slot, %fault, "the deployment could not be said again");
        }
    }

    /// With what people call this host, and what runs on it.
    fn named(&self, rollout: Rollout) -> Rollout {
        let plugin = self.plugin.as_ref().map(|plugin| format!("{} {}", plugin.name(), plugin.manifest().version));
        Rollout { host: Some(self.parts.host_name.clone()), plugin, ..rollout }
    }

    async fn tell(&self) {
        let rollout = self.named(self.rollout.borrow().clone());
        let bytes = serde_json::to_vec(&rollout).expect("plain data");
        if let Err(fault) = publish_retained(&self.parts.mesh, &self.topics.rollout, &bytes).await {
            tracing::debug!(slot = %self.slot, %fault, "how far the deployment is could not be told");
        }
    }

    fn grant(&mut self, seq: u64) -> Result<(), Fault> {
        self.follower.grant(now_ms(), seq).map_err(|refused| Fault::Conflict(refused.to_string()))
    }

    // What the follower decides.

    async fn carry_out(&mut self) {
        while let Some(action) = self.follower.poll_action() {
            match action {
                Action::Store(journal) => self.store(journal).await,
                Action::Fetch { ticket, mcid } => {
                    self.work.abort_all();
                    self.work = JoinSet::new();
                    let (content, pinner) = (self.parts.content.clone(), self.pinner());
                    self.work.spawn(async move { Done::Fetched(ticket, fetch(&content, pinner, &mcid).await) });
                }
                Action::Prepare { ticket, held } => {
                    let (parts, name) = (self.parts.clone(), self.label());
                    self.work.spawn(async move {
                        Done::Prepared(ticket, prepare(&parts, &name, &held.mcid, held.manifest).await)
                    });
                }
                Action::Start { ticket, on_trial, state } => self.start(ticket, on_trial.then(trial_policy), state),
                Action::StartCanary { ticket, percent, state } => self.start_canary(ticket, percent, state),
                Action::EndCanary => {
                    if let Some(plugin) = self.plugin.clone() {
                        // What it handles is handled to the end; whoever replaces the version waits for that too.
                        tokio::spawn(async move { plugin.end_canary().await });
                    }
                }
                Action::EndTrial => {
                    if let Some(plugin) = &self.plugin {
                        plugin.end_probation();
                    }
                }
                Action::Tell(rollout) => {
                    log(&self.rollout.borrow(), &rollout);
                    let rollout = self.named(*rollout);
                    self.rollout.send_replace(rollout);
                    self.tell().await;
                }
            }
        }
    }

    fn pinner(&self) -> Pinner {
        Pinner::Slot(self.slot.to_string())
    }

    /// What is to be kept of it.
    pub(super) fn pinned(&self) -> &[Mcid] {
        &self.pinned
    }

    /// Names the plugin when its manifest does not.
    fn label(&self) -> String {
        self.slot.as_str().rsplit('/').next().unwrap_or_default().to_owned()
    }

    async fn store(&mut self, journal: Journal) {
        *self.granted.write() = journal.granted.clone();
        if let Some(plugin) = &self.plugin {
            plugin.refresh_rights();
        }
        let pinned = journal.pinned();
        let stored = Stored { journal, record: self.record().map(|record| BASE64.encode(&record)) };
        let bytes = serde_json::to_vec_pretty(&stored).expect("plain data");
        // What cannot be remembered must not be done: a host that forgets could go back to an older version.
        loop {
            let (file, bytes) = (self.file.clone(), bytes.clone());
            match tokio::task::spawn_blocking(move || file.write(&bytes)).await {
                Ok(Err(error)) => {
                    tracing::error!(slot = %self.slot, %error, "cannot remember the deployment; trying again");
                }
                Ok(Ok(())) | Err(_) => break,
            }
            tokio::time::sleep(SUBSCRIBE_AGAIN).await;
        }
        let content = &self.parts.content;
        for mcid in self.pinned.iter().filter(|mcid| !pinned.contains(mcid)) {
            // Gone already, perhaps.
            let _ = content.unpin(self.pinner(), mcid).await;
        }
        for mcid in pinned.iter().filter(|mcid| !self.pinned.contains(mcid)) {
            // Not here yet, perhaps; it is pinned once it is.
            let _ = content.pin(self.pinner(), mcid).await;
        }
        self.pinned = pinned;
    }

    fn start_canary(&mut self, ticket: u64, percent: u8, state: Handover) {
        let (Some(prepared), Some(plugin)) = (self.prepared.clone(), self.plugin.clone()) else {
            let nothing = Err(Setback::ForGood("nothing was prepared".to_owned()));
            return self.follower.canary_started(now_ms(), ticket, Counts::default(), nothing);
        };
        let runtime = self.parts.runtime.clone();
        let grant = slot_grant(&self.parts.mesh, &self.slot, &self.granted);
        self.work.spawn(async move {
            let options = ReplaceOptions { probation: Some(trial_policy()), ..options(state) };
            let started = runtime.start_canary(&plugin, *prepared, &grant, percent.into(), &options).await;
            Done::CanaryStarted(ticket, started.map_err(|error| setback(&error)))
        });
    }

    fn start(&mut self, ticket: u64, probation: Option<CrashPolicy>, state: Handover) {
        let Some(prepared) = self.prepared.clone() else {
            let nothing = Err(Setback::ForGood("nothing was prepared".to_owned()));
            return self.follower.started(now_ms(), ticket, Counts::default(), nothing);
        };
        let (runtime, plugin) = (self.parts.runtime.clone(), self.plugin.clone());
        let grant = slot_grant(&self.parts.mesh, &self.slot, &self.granted);
        self.work.spawn(async move {
            let options = ReplaceOptions { probation, ..options(state) };
            if let Some(plugin) = plugin {
                let mut replaced = runtime.replace(&plugin, (*prepared).clone(), &grant, &options).await;
                // Going back needs nothing of the version that failed. Going forward without the state is the deployer's choice.
                let without_state = matches!(
                    &replaced,
                    Err(ReplaceError::Snapshot(_) | ReplaceError::StateLost(_) | ReplaceError::Restore(_))
                );
                if without_state && state == Handover::IfPossible {
                    tracing::warn!(plugin = %plugin.name(), "the state of the version that failed is left behind");
                    let options = ReplaceOptions { state: StateTransfer::None, ..options };
                    replaced = runtime.replace(&plugin, (*prepared).clone(), &grant, &options).await;
                }
                match replaced {
                    Ok(()) => return Done::Started(ticket, Ok(plugin)),
                    // It was given up, or stopped: there is nothing to take over from.
                    Err(ReplaceError::NotRunning) => plugin.stop(StopReason::Stopped, Duration::ZERO).await,
                    Err(error) => return Done::Started(ticket, Err(setback(&error))),
                }
            }
            let name = prepared.manifest().name.clone();
            let started = match tokio::time::timeout(START_PATIENCE, runtime.start_prepared(*prepared, &grant)).await {
                Ok(started) => started.map_err(|error| setback(&ReplaceError::Start(error))),
                Err(_) => {
                    if let Some(plugin) = runtime.plugin(name.as_str()) {
                        plugin.stop(StopReason::Stopped, Duration::ZERO).await;
                    }
                    Err(Setback::ForGood(format!("it was not ready within {} s", START_PATIENCE.as_secs())))
                }
            };
            Done::Started(ticket, started)
        });
    }

    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = now_ms();
        match done {
            Ok(Done::Fetched(ticket, outcome)) => self.follower.fetched(now, ticket, outcome),
            Ok(Done::Prepared(ticket, outcome)) => {
                let outcome = outcome.map(|prepared| {
                    let asks = &prepared.manifest().asks;
                    let asks =
                        Asks::new(Operation::ALL.map(|operation| (operation, asks.patterns(operation).to_vec())));
                    self.prepared = Some(prepared);
                    asks
                });
                self.follower.prepared(now, ticket, outcome);
            }
            Ok(Done::Started(ticket, outcome)) => {
                let outcome = outcome.map(|plugin| {
                    self.plugin = Some(plugin);
                    self.has_fallen = false;
                });
                self.follower.started(now, ticket, self.counts(), outcome);
            }
            Ok(Done::CanaryStarted(ticket, outcome)) => {
                self.follower.canary_started(now, ticket, self.counts(), outcome);
            }
            // Aborted, for something newer.
            Err(_) => {}
        }
    }

    fn counts(&self) -> Counts {
        self.plugin.as_ref().map(|plugin| counts(&plugin.metrics())).unwrap_or_default()
    }

    fn look(&mut self) {
        let failed =
            self.plugin.as_ref().map(PluginHandle::status).filter(|status| status.state == PluginState::Failed);
        let failed = failed.map(|status| status.reason.unwrap_or_else(|| "it crashed too often".to_owned()));
        self.follower.look(now_ms(), self.counts(), failed.as_deref());
        if let Some(canary) = self.plugin.as_ref().and_then(PluginHandle::canary) {
            let has_failed = canary.state == PluginState::Failed;
            let reason = canary.reason.unwrap_or_else(|| "it crashed too often".to_owned());
            self.follower.look_canary(now_ms(), counts(&canary.metrics), has_failed.then_some(&*reason));
        }
    }
}

/// Why a record that came is not taken.
#[derive(Debug)]
enum Heard {
    Unproved(Fault),
    Malformed(String),
    Refused(Refused),
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unproved(fault) => write!(f, "{fault}"),
            Self::Malformed(text) => f.write_str(text),
            Self::Refused(refused) => write!(f, "{refused}"),
        }
    }
}

/// Whether a version that did not start may start later: its component is all right, and the host or the mesh was not.
fn setback(error: &ReplaceError) -> Setback {
    match error {
        ReplaceError::Start(StartError::Open { .. } | StartError::Stopping | StartError::CrashLoop { .. })
        | ReplaceError::Busy(_)
        | ReplaceError::NotRunning => Setback::ForNow(error.to_string()),
        ReplaceError::Snapshot(_) | ReplaceError::StateLost(_) | ReplaceError::Restore(_) => {
            let runs_on = match error {
                ReplaceError::StateLost(_) => "that version runs on with a new instance, which has begun without",
                _ => "the running version runs on with it",
            };
            Setback::ForGood(format!("{error}; {runs_on}; to go on without the state, deploy with --drop-state"))
        }
        _ => Setback::ForGood(error.to_string()),
    }
}

/// Waits until what runs was given up.
async fn fall(plugin: Option<PluginHandle>) -> String {
    let Some(plugin) = plugin else { return std::future::pending().await };
    plugin.wait_for(&[PluginState::Failed]).await;
    plugin.status().reason.unwrap_or_else(|| "it crashed too often".to_owned())
}

/// How a slot's version takes over from another.
fn options(state: Handover) -> ReplaceOptions {
    let state = match state {
        Handover::Required | Handover::IfPossible => StateTransfer::Required,
        Handover::Dropped => StateTransfer::None,
    };
    ReplaceOptions { grace: GRACE, state, ..ReplaceOptions::default() }
}

/// How crashes on trial are answered.
fn trial_policy() -> CrashPolicy {
    CrashPolicy { crashes_max: TRIAL_CRASHES_MAX, ..CrashPolicy::default() }
}

/// What a plugin has done, and how much of it went wrong.
fn counts(metrics: &Metrics) -> Counts {
    let Metrics { messages, calls, ticks, retries, traps, errors, rejected, dead_letters, .. } = metrics;
    Counts {
        handled: messages + calls + ticks + retries + traps,
        wrong: errors + retries + rejected + dead_letters + traps,
    }
}

/// What a slot's versions may do: what is granted to the slot and to the component, and of the node's own rights what this
/// host's operator has granted; in the realm of this machine all of those.
fn slot_grant(mesh: &Mesh, slot: &Slot, granted: &Arc<RwLock<Asks>>) -> Grant {
    let (mesh, slot, granted) = (mesh.clone(), slot.clone(), Arc::clone(granted));
    Grant::ByComponent(Arc::new(move |mcid| {
        let is_local = mesh.realm().as_str() == LOCAL_REALM;
        let granted = granted.read();
        let permissions = mesh.permissions().borrow().clone();
        rights_of(&permissions, |table, operation| {
            let mut patterns = table.of_plugin(mcid).patterns(operation);
            patterns.extend(table.of_slot(&slot, mcid).patterns(operation));
            let nodes = table.of_node().patterns(operation);
            if is_local {
                patterns.extend(nodes);
            } else {
                patterns.extend(in_both(&nodes, granted.patterns(operation)));
            }
            patterns
        })
    }))
}

/// Of two patterns of which one covers the other, the narrower.
fn in_both(held: &[Pattern], granted: &[Pattern]) -> Vec<Pattern> {
    let narrower = |one: &Pattern, other: &Pattern| {
        if one.covers(other) { Some(other.clone()) } else { other.covers(one).then(|| one.clone()) }
    };
    held.iter().flat_map(|one| granted.iter().filter_map(move |other| narrower(one, other))).collect()
}

async fn fetch(content: &NodeContent, pinner: Pinner, mcid: &Mcid) -> Result<(), Setback> {
    let obtained = content.obtain(Owner::Operator, mcid, FETCH_PATIENCE, COMPONENT_BYTES_MAX).await;
    obtained.map_err(|error| Setback::ForNow(error.to_string()))?;
    // From here on it stays, whatever else is stored.
    content.pin(pinner, mcid).await.map_err(|error| Setback::ForNow(error.to_string()))
}

async fn prepare(parts: &Parts, name: &str, mcid: &Mcid, manifest: Option<String>) -> Result<Box<Prepared>, Setback> {
    let read = parts.content.read(mcid, COMPONENT_BYTES_MAX).await;
    let bytes = read.map_err(|error| match error {
        StoreError::TooLarge { .. } => Setback::ForGood(format!("a component has at most {COMPONENT_BYTES_MAX} bytes")),
        // Damaged on the disk: to be fetched again.
        error => Setback::ForNow(error.to_string()),
    })?;
    let source = PluginSource::Bytes { name: name.to_owned(), bytes: bytes.into() };
    let manifest = manifest.map(|text| ManifestSource::Text { origin: "the deployment's manifest".to_owned(), text });
    let prepared = parts.runtime.prepare(source, manifest).await;
    prepared.map(Box::new).map_err(|error| Setback::ForGood(error.to_string()))
}

async fn publish_retained(mesh: &Mesh, topic: &Topic, bytes: &[u8]) -> Result<(), Fault> {
    let options = Publish { retain: true, delivery: Delivery::Ordered, ..Publish::default() };
    mesh.publish_with(topic, bytes, &options).await.map(drop)
}

async fn next(records: &mut Option<Subscription>) -> Option<Vec<u8>> {
    match records {
        Some(subscription) => subscription.next().await.map(|message| message.payload.to_vec()),
        None => std::future::pending().await,
    }
}

/// What people want to know of a rollout, once.
fn log(before: &Rollout, now: &Rollout) {
    if (before.state, before.seq, &before.reason) == (now.state, now.seq, &now.reason) {
        return;
    }
    let state = serde_json::to_value(now.state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default();
    match &now.reason {
        Some(reason) => tracing::warn!(slot = now.slot, seq = now.seq, "deployment {state}: {reason}"),
        None => tracing::info!(slot = now.slot, seq = now.seq, "deployment {state}"),
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
