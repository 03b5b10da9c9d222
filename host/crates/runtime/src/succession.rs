//! One version of a plugin after another, with nothing lost, reordered or handled twice in between.
//!
//! 1. The new version is made beside the running one: its instances, their `init` and `health`. What it subscribes to begins
//!    at once and waits; its offers and timers wait for step 4.
//! 2. The instances of the old version finish what they are at and give their state (`snapshot`). From here on messages wait,
//!    in a mailbox that belongs to the plugin.
//! 3. The new instances take the state (`restore`).
//! 4. The mailbox passes to the new version, which goes on; the old one says good-bye (`shutdown`).
//!
//! Until step 4 anything may fail: then the old version works on, and the new one leaves no trace.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use macula_wire::{Operation, Pattern};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use crate::{
    actor::{Actor, InitError},
    breaker::{Breaker, CrashPolicy},
    host::Unfinished,
    instance::Instance,
    log::LogLevel,
    mesh::Inbox,
    orders::{GivePlace, Handed, NotHanded, Order},
    plugin::{Canary, PluginCore, PluginHandle, end_actors},
    runtime::{Grant, Prepared, Runtime, StartError, supervised},
    status::PluginState,
};

/// How a version takes over from another.
#[derive(Debug, Clone)]
pub struct ReplaceOptions {
    /// How long the new version's `init` may say that it is not ready.
    pub patience: Duration,
    /// How long the old version may take to finish what it is at; then the swap is called off.
    pub handover: Duration,
    /// How long the old version may take to say good-bye; then it is ended.
    pub grace: Duration,
    /// How crashes of the new version are answered until [`PluginHandle::end_probation`]: when it has crashed too often it
    /// fails, and its messages wait for the next version. `None`: as those of any plugin, from the beginning.
    pub probation: Option<CrashPolicy>,
    /// What becomes of the old version's state.
    pub state: StateTransfer,
}

/// What becomes of a version's state when another takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateTransfer {
    /// The new version gets it, or does not take over.
    Required,
    /// The new version begins without: the old one is not asked. For going back from a version that is not right, and for whoever
    /// has chosen to go on without.
    None,
}

impl Default for ReplaceOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(60),
            handover: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            probation: None,
            state: StateTransfer::Required,
        }
    }
}

/// Why a version did not take over. The old one works on, if it did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// It would not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It has another name: its messages, timers and state would be another plugin's.
    #[error("the new version is named {is:?}, and a plugin keeps its name: {was:?}")]
    Renamed {
        /// The plugin's name.
        was: String,
        /// The new version's.
        is: String,
    },
    /// It has more or fewer instances, and the state of one instance is for one.
    #[error(
        "the new version has {is} instances and the running one {was}; stop the plugin and start it anew to change that"
    )]
    Instances {
        /// Of the running version.
        was: u32,
        /// Of the new one.
        is: u32,
    },
    /// It did not become ready.
    #[error("the new version did not start: {0}")]
    Init(#[source] InitError),
    /// The old version could not give its state.
    #[error("the running version could not hand over its state: {0}")]
    Snapshot(String),
    /// An instance of the old version came to its end when it was asked for its state, which is gone. The old version goes on, with
    /// a new instance that begins without it.
    #[error("the running version lost its state when it was to hand it over: {0}")]
    StateLost(String),
    /// The new version could not take it.
    #[error("the new version could not take over the state: {0}")]
    Restore(String),
    /// The old version did not come to an end of what it was at.
    #[error("the running version was busy for more than {} s", .0.as_secs())]
    Busy(Duration),
    /// It was made to take over from a version from which another has taken over meanwhile.
    #[error("another version has taken over meanwhile")]
    Overtaken,
    /// The plugin was stopped or given up: whoever wants it back starts it.
    #[error("the plugin does not run")]
    NotRunning,
}

/// A version's instances, made and ready to take over.
struct Candidate {
    core: Arc<PluginCore>,
    instances: Vec<(Actor, Box<Instance>)>,
    /// The manifest's subscriptions that the running version does not have.
    inboxes: Vec<(Pattern, Box<dyn Inbox>)>,
    has_taken_over: bool,
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if !self.has_taken_over {
            self.core.mailbox.lock().cancel_reservations();
        }
    }
}

/// Where the old instances wait for the verdict. Dropping it lets them work on.
struct Waiting {
    verdicts: Vec<oneshot::Sender<Duration>>,
    states: Vec<Option<Bytes>>,
}

impl Runtime {
    /// Lets a new version of a plugin take over from the running one. Returns when it has, with the old one perhaps still
    /// saying good-bye. Dropping the future does not stop it half way.
    ///
    /// # Errors
    /// See [`ReplaceError`]; nothing has changed then.
    pub async fn replace(
        &self,
        plugin: &PluginHandle,
        prepared: Prepared,
        grant: &Grant,
        options: &ReplaceOptions,
    ) -> Result<(), ReplaceError> {
        self.replace_from(plugin, None, prepared, grant, options).await
    }

    /// The same; with `from`, only if that version still runs when it comes to that.
    pub(crate) async fn replace_from(
        &self,
        plugin: &PluginHandle,
        from: Option<Arc<PluginCore>>,
        prepared: Prepared,
        grant: &Grant,
        options: &ReplaceOptions,
    ) -> Result<(), ReplaceError> {
        let (runtime, plugin, grant, options) = (self.clone(), plugin.clone(), grant.clone(), options.clone());
        let replaced =
            tokio::spawn(async move { runtime.replace_all(&plugin, from, prepared, &grant, &options).await });
        replaced.await.unwrap_or(Err(ReplaceError::Start(StartError::Stopping)))
    }

    /// Gives a share of a plugin's work to another version, beside the running one: `percent` of a hundred pairs of publisher
    /// and topic, and as many calls. It begins with the state of the running version's first instance; what it gathers goes
    /// with it. It changes nothing of the plugin: what its `init` subscribes to, offers and sets begins when it takes over
    /// ([`Runtime::replace`], which ends it first). An earlier canary ends.
    ///
    /// # Errors
    /// As [`Runtime::replace`]; nothing has changed then.
    pub async fn start_canary(
        &self,
        plugin: &PluginHandle,
        prepared: Prepared,
        grant: &Grant,
        percent: u32,
        options: &ReplaceOptions,
    ) -> Result<(), ReplaceError> {
        let (runtime, plugin, grant, options) = (self.clone(), plugin.clone(), grant.clone(), options.clone());
        let started =
            tokio::spawn(async move { runtime.begin_canary(&plugin, prepared, &grant, percent, &options).await });
        started.await.unwrap_or(Err(ReplaceError::Start(StartError::Stopping)))
    }

    async fn begin_canary(
        &self,
        plugin: &PluginHandle,
        prepared: Prepared,
        grant: &Grant,
        percent: u32,
        options: &ReplaceOptions,
    ) -> Result<(), ReplaceError> {
        let running = plugin.core();
        check(&running, &prepared)?;
        // Its crashes are remembered nowhere: the file is the running version's.
        let lasting = self.config().crash_policy.clone();
        let breaker = Breaker::anew(None, prepared.mcid(), lasting, options.probation.clone());
        let core = Arc::new(running.canary(self.parts(prepared, grant, breaker)));
        let mut candidate =
            Candidate { core: Arc::clone(&core), instances: Vec::new(), inboxes: Vec::new(), has_taken_over: false };
        let shard = core.mailbox.lock().canary_shard();
        let mut actor = Actor::new(Arc::clone(&core), shard as u32, self.config().health_interval);
        let instance = actor.prepare(options.patience).await.map_err(ReplaceError::Init)?;
        candidate.instances.push((actor, instance));

        let _alone = plugin.succession().await;
        plugin.end_canary_alone().await;
        let running = plugin.core();
        if running.life.is_stopping() || !Arc::ptr_eq(&running.mailbox, &core.mailbox) {
            return Err(ReplaceError::NotRunning);
        }
        // The running version stands still while the work is divided, and goes on when `waiting` is dropped.
        let waiting = hand_over(&running, options).await?;
        restore(&mut candidate, &running, &waiting.states).await?;
        let Some((actor, instance)) = candidate.instances.pop() else { return Err(ReplaceError::NotRunning) };
        core.mailbox.lock().begin_canary(percent);
        let actor = tokio::spawn(supervised(actor.run_from(instance), Arc::clone(&core), shard as u32));
        plugin.set_canary(Canary { core, actor });
        Ok(())
    }

    async fn replace_all(
        &self,
        plugin: &PluginHandle,
        from: Option<Arc<PluginCore>>,
        prepared: Prepared,
        grant: &Grant,
        options: &ReplaceOptions,
    ) -> Result<(), ReplaceError> {
        let running = plugin.core();
        check(&running, &prepared)?;
        if running.life.is_stopping() {
            return Err(ReplaceError::NotRunning);
        }
        let lasting = self.config().crash_policy.clone();
        let file = self.crash_file(plugin.name());
        let breaker = Breaker::anew(file, prepared.mcid(), lasting, options.probation.clone());
        let parts = self.parts(prepared, grant, breaker);
        let core = Arc::new(running.candidate(parts));
        core.set_probation(options.probation.is_some());
        let mut candidate = Candidate { core, instances: Vec::new(), inboxes: Vec::new(), has_taken_over: false };
        self.prepare_candidate(&mut candidate, options).await?;

        let _alone = plugin.succession().await;
        plugin.end_canary_alone().await;
        // Another version may have taken over meanwhile, or the plugin stopped.
        let running = plugin.core();
        if running.life.is_stopping() || !Arc::ptr_eq(&running.mailbox, &candidate.core.mailbox) {
            return Err(ReplaceError::NotRunning);
        }
        if from.is_some_and(|from| !Arc::ptr_eq(&from, &running)) {
            return Err(ReplaceError::Overtaken);
        }
        let waiting = hand_over(&running, options).await?;
        restore(&mut candidate, &running, &waiting.states).await?;
        let (actors, unfinished) = take_over(&mut candidate);
        let core = Arc::clone(&candidate.core);
        let old_actors = plugin.succeed(Arc::clone(&core), actors);
        // Rights may have changed since the candidate was made; from now on changes reach it by its handle.
        core.refresh_rights();
        for verdict in waiting.verdicts {
            // Who is gone needs no verdict.
            let _ = verdict.send(options.grace);
        }
        let text = format!("{} took over, component {}", core.manifest.version, core.program.mcid());
        core.log.host(LogLevel::Info, text.trim_start().to_owned());
        let deadline = Instant::now() + options.grace;
        tokio::spawn(async move { end_actors(&running, old_actors, deadline).await });
        for unfinished in unfinished {
            core.finish_take_over(unfinished).await;
        }
        if let Err(error) = self.open_offers(&core).await {
            core.log.host(LogLevel::Error, error.to_string());
        }
        Ok(())
    }

    /// Makes the new version's instances, beside the running one's.
    async fn prepare_candidate(&self, candidate: &mut Candidate, options: &ReplaceOptions) -> Result<(), ReplaceError> {
        candidate.inboxes = self.open_subscriptions(&candidate.core).await?;
        for shard in 0..candidate.core.manifest.limits.instances {
            let mut actor = Actor::new(Arc::clone(&candidate.core), shard, self.config().health_interval);
            let instance = actor.prepare(options.patience).await.map_err(ReplaceError::Init)?;
            candidate.instances.push((actor, instance));
        }
        Ok(())
    }
}

/// What can be told before anything of the new version runs.
fn check(running: &PluginCore, prepared: &Prepared) -> Result<(), ReplaceError> {
    let (was, is) = (&running.manifest, prepared.manifest());
    if was.name != is.name {
        return Err(ReplaceError::Renamed { was: was.name.to_string(), is: is.name.to_string() });
    }
    if was.limits.instances != is.limits.instances {
        return Err(ReplaceError::Instances { was: was.limits.instances, is: is.limits.instances });
    }
    Ok(())
}

/// Has all old instances hand over, at the same time.
async fn hand_over(running: &PluginCore, options: &ReplaceOptions) -> Result<Waiting, ReplaceError> {
    if options.state == StateTransfer::Required {
        // Who was told that the version is busy tries again, and must not get the empty state of a new instance instead.
        if let Some(reason) = running.life.take_untold_loss() {
            return Err(ReplaceError::StateLost(reason));
        }
    }
    let mut verdicts = Vec::new();
    let mut handing = Vec::new();
    for shard in 0..running.manifest.limits.instances {
        let (handed, taken) = oneshot::channel::<Handed>();
        let (verdict, told) = oneshot::channel();
        let wants_state = options.state == StateTransfer::Required;
        running.orders.give(shard as usize, Order::GivePlace(GivePlace { handed, verdict: told, wants_state }));
        verdicts.push(verdict);
        handing.push(taken);
    }
    running.bell.ring_all();
    let deadline = Instant::now() + options.handover;
    let mut states = Vec::new();
    let mut failed = None;
    for mut handed in handing {
        let outcome = match tokio::time::timeout_at(deadline, &mut handed).await {
            Ok(outcome) => outcome.map_err(|_| ReplaceError::NotRunning),
            // What was said at the last moment counts: whoever said it takes it for heard.
            Err(_) => {
                handed.close();
                handed.try_recv().map_err(|_| ReplaceError::Busy(options.handover))
            }
        };
        let error = match outcome {
            Ok(Ok(state)) => {
                states.push(state);
                continue;
            }
            Ok(Err(NotHanded::Refused(reason))) => ReplaceError::Snapshot(reason),
            Ok(Err(NotHanded::Ended(reason))) => ReplaceError::StateLost(reason),
            Err(error) => error,
        };
        // It is called off: those that have handed over work on. Others may be at it still, and of all that has gone wrong, a
        // state that is lost is what has to be told.
        verdicts.clear();
        if failed.is_none() || matches!(error, ReplaceError::StateLost(_)) {
            failed = Some(error);
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(Waiting { verdicts, states }),
    }
}

async fn restore(
    candidate: &mut Candidate,
    running: &PluginCore,
    states: &[Option<Bytes>],
) -> Result<(), ReplaceError> {
    for ((_, instance), state) in candidate.instances.iter_mut().zip(states) {
        let Some(state) = state else { continue };
        match instance.restore(state, &running.manifest.version).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(ReplaceError::Restore(crate::host::describe(&error))),
            Err(fault) => return Err(ReplaceError::Restore(fault.to_string())),
        }
    }
    Ok(())
}

/// The mailbox passes to the new version, in one step; its instances begin to work.
fn take_over(candidate: &mut Candidate) -> (Vec<JoinHandle<()>>, Vec<Unfinished>) {
    let core = Arc::clone(&candidate.core);
    let mut unfinished = Vec::new();
    {
        let mut mailbox = core.mailbox.lock();
        let manifest = &core.manifest;
        let rights = core.rights.current();
        for (pattern, inbox) in candidate.inboxes.drain(..) {
            if rights.allows_all(Operation::Subscribe, &pattern) {
                mailbox.add_manifest_subscription(pattern, inbox);
            }
        }
        mailbox.begin_take_over(
            |pattern| manifest.subscriptions.iter().any(|one| one.pattern == *pattern),
            |procedure| manifest.procedures.contains(procedure),
        );
        for (_, instance) in &mut candidate.instances {
            unfinished.push(instance.state().take_over(&mut mailbox));
        }
        mailbox.end_take_over(manifest.limits.timers);
        core.end_candidacy();
        candidate.has_taken_over = true;
    }
    let actors = std::mem::take(&mut candidate.instances).into_iter().zip(0..);
    let actors = actors.map(|((actor, instance), shard)| {
        core.life.enter(shard, PluginState::Running, None);
        tokio::spawn(supervised(actor.run_from(instance), Arc::clone(&core), shard))
    });
    (actors.collect(), unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManifestSource, PluginSource, RuntimeConfig, StartOptions, testing::LocalMesh};

    /// Goal: whoever gave up waiting for a state that is lost afterwards learns that at the next try, and does not go on without.
    #[tokio::test]
    async fn a_loss_that_nobody_waited_for_is_told_at_the_next_try() {
        let runtime = Runtime::new(RuntimeConfig::default(), Arc::new(LocalMesh::new())).unwrap();
        let source = || PluginSource::Bytes {
            name: "probe".to_owned(),
            bytes: Bytes::from_static(include_bytes!("../tests/probe.wasm")),
        };
        let manifest = || Some(ManifestSource::Text { origin: "the test".to_owned(), text: String::new() });
        let options = StartOptions { manifest: manifest(), grant: Grant::AsAsked };
        let plugin = runtime.start(source(), options).await.unwrap();
        let prepared = runtime.prepare(source(), manifest()).await.unwrap();
        let options = ReplaceOptions::default();
        plugin.core().life.note_untold_loss("trapped".to_owned());
        let replace = |options| {
            let (runtime, plugin, prepared) = (&runtime, &plugin, prepared.clone());
            async move { runtime.replace(plugin, prepared, &Grant::AsAsked, &options).await }
        };
        let lost = replace(options.clone()).await;
        assert!(matches!(&lost, Err(ReplaceError::StateLost(why)) if why == "trapped"), "{lost:?}");
        replace(options.clone()).await.unwrap();
        // Who has chosen to go on without has nothing to learn.
        plugin.core().life.note_untold_loss("trapped".to_owned());
        replace(ReplaceOptions { state: StateTransfer::None, ..options }).await.unwrap();
    }
}
