//! Running scenarios: each against an instance, a mesh and a clock of its own.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use macula_runtime::{
    CrashPolicy, Grant, ManifestSource, Metrics, PluginHandle, PluginSource, Prepared, ReconfigureError,
    ReplaceOptions, Rights, Runtime, RuntimeConfig, RuntimeError, StopReason, overlay, testing::LocalMesh,
};
use macula_wire::{CallError, ContentType, HandlerError, Metadata, Operation, Pattern, Topic};

use crate::{
    Mismatch,
    expect::Observed,
    scenario::{self, Answer, Fault, Scenario, Step},
};

/// Virtual time that passes when everything has come to rest: with a clock that stands still, that is how one learns it.
pub(crate) const REST: Duration = Duration::from_millis(1);

/// What the plugin's clock shows at the beginning: 2026-01-01 00:00 UTC, since a result is to be the same at any time.
const START: Duration = Duration::from_secs(1_767_225_600);

/// How long a scenario may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A call without a timeout waits so long.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs scenarios of one component.
#[derive(Debug, Clone)]
pub struct Runner {
    name: String,
    component: Bytes,
    manifest: Option<String>,
    cache: Option<PathBuf>,
    patience: Duration,
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// What was not as expected; nothing: it has passed.
    pub mismatches: Vec<Mismatch>,
    /// The plugin's log.
    pub log: Vec<String>,
    /// How long it took, in real time.
    pub took: Duration,
}

/// Why scenarios cannot be run at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// This machine cannot run components, or the folder for native code cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There is no thread to run them in.
    #[error("cannot begin: {0}")]
    Thread(#[from] std::io::Error),
}

impl Runner {
    /// For a component; `name` names the plugin when its manifest does not, `manifest` is the one beside it, and native
    /// code is kept in `cache`.
    pub fn new(name: &str, component: Vec<u8>, manifest: Option<String>, cache: Option<&Path>) -> Self {
        Self {
            name: name.to_owned(),
            component: component.into(),
            manifest,
            cache: cache.map(Path::to_owned),
            patience: PATIENCE,
        }
    }

    /// How long one scenario may take, in real time; a minute when nobody says.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Runs one scenario to its end, or to the first step that is not as expected.
    ///
    /// # Errors
    /// When nothing can be run here; what the plugin does wrong is in the outcome.
    pub fn run(&self, scenario: &Scenario) -> Result<Outcome, RunError> {
        let (runner, played) = (self.clone(), scenario.clone());
        let (done, ended) = mpsc::channel();
        // A thread of its own: virtual time stands still as long as there is something to do, and there may be no end of it.
        let thread = thread::Builder::new().name("scenario".to_owned()).spawn(move || {
            // Nobody waits any more when it took too long.
            let _ = done.send(runner.run_here(&played));
        })?;
        match ended.recv_timeout(self.patience) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.patience.as_secs();
                let what = format!(
                    "had not come to its end after {seconds} s of real time; does something call for itself again at once?"
                );
                Ok(Outcome { mismatches: vec![Mismatch { step: 0, what }], log: Vec::new(), took: self.patience })
            }
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => Err(RunError::Thread(io::Error::other("it ended without a result"))),
            },
        }
    }

    fn run_here(&self, scenario: &Scenario) -> Result<Outcome, RunError> {
        let begin = Instant::now();
        let time = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        let (mismatches, log) = time.block_on(self.play(scenario))?;
        Ok(Outcome { mismatches, log, took: begin.elapsed() })
    }

    async fn play(&self, scenario: &Scenario) -> Result<(Vec<Mismatch>, Vec<String>), RunError> {
        let mesh = LocalMesh::new();
        let crash_policy = CrashPolicy { crashes_max: usize::MAX, ..CrashPolicy::default() };
        let begun = tokio::time::Instant::now();
        let time = Some(SystemTime::UNIX_EPOCH + START);
        let config = RuntimeConfig { cache_dir: self.cache.clone(), crash_policy, time, ..RuntimeConfig::default() };
        let runtime = Runtime::new(config, Arc::new(mesh.clone()))?;
        let mut beside = match self.beside() {
            Ok(beside) => beside,
            Err(what) => return Ok((vec![Mismatch { step: 0, what }], Vec::new())),
        };
        set(&mut beside, &scenario.config);
        let at_start = |what: String| Ok((vec![Mismatch { step: 0, what }], Vec::new()));
        set_up(&mesh, scenario);
        let prepared = match self.prepare(&runtime, &beside).await {
            Ok(prepared) => prepared,
            Err(error) => return at_start(error),
        };
        let plugin = match runtime.start_prepared(prepared.clone(), &Grant::AsAsked).await {
            Ok(plugin) => plugin,
            Err(error) => return at_start(error.to_string()),
        };
        let mut stage = Stage {
            runner: self,
            mesh,
            runtime,
            plugin,
            prepared,
            beside,
            begun,
            log_next: 0,
            denied: Vec::new(),
            delay: Duration::ZERO,
        };
        let (mut mismatches, mut log) = (Vec::new(), Vec::new());
        stage.observe(&mut log).await;
        for (index, step) in scenario.steps.iter().enumerate() {
            let differences = match stage.step(step, &mut log).await {
                Ok(observed) => observed.differences(step),
                Err(why) => vec![why],
            };
            mismatches.extend(differences.into_iter().map(|what| Mismatch { step: index + 1, what }));
            // What follows would only be confusing.
            if !mismatches.is_empty() {
                break;
            }
        }
        stage.plugin.stop(StopReason::Stopped, Duration::from_secs(1)).await;
        stage.observe(&mut log).await;
        Ok((mismatches, log))
    }

    /// The manifest beside the component.
    fn beside(&self) -> Result<toml::Table, String> {
        let parsed =
            self.manifest.as_ref().map(|text| text.parse().map_err(|error: toml::de::Error| error.to_string()));
        parsed.transpose().map(Option::unwrap_or_default)
    }

    async fn prepare(&self, runtime: &Runtime, beside: &toml::Table) -> Result<Prepared, String> {
        let source = PluginSource::Bytes { name: self.name.clone(), bytes: self.component.clone() };
        runtime.prepare(source, manifest(beside)).await.map_err(|error| error.to_string())
    }
}

/// Puts settings over those of a manifest.
fn set(beside: &mut toml::Table, settings: &toml::Table) {
    if !settings.is_empty() {
        overlay(beside, &toml::Table::from_iter([("config".to_owned(), settings.clone().into())]));
    }
}

fn manifest(beside: &toml::Table) -> Option<ManifestSource> {
    let text = || ManifestSource::Text { origin: "the scenario's settings".to_owned(), text: beside.to_string() };
    (!beside.is_empty()).then(text)
}

fn set_up(mesh: &LocalMesh, scenario: &Scenario) {
    for message in &scenario.retained {
        mesh.retain(message_of(mesh, message));
    }
    set_answers(mesh, &scenario.answers);
}

fn set_answers(mesh: &LocalMesh, answers: &BTreeMap<Topic, Answer>) {
    for (procedure, answer) in answers {
        let outcome = match &answer.error {
            Some(code) => Err(CallError::Handler(HandlerError::new(code.clone(), "as the scenario has it"))),
            None => Ok(answer.payload.bytes()),
        };
        mesh.answer(procedure.clone(), outcome, answer.delay.map_or(Duration::ZERO, |delay| delay.0));
    }
}

fn message_of(mesh: &LocalMesh, given: &scenario::Message) -> macula_wire::Message {
    let mut message = mesh.message(given.topic.as_str(), given.payload.bytes());
    message.timestamp_ms = START.as_millis() as u64;
    message.content_type = given.content_type.parse().unwrap_or(ContentType::EMPTY);
    let pairs = given.metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    message.metadata = Metadata::new(pairs).ok().filter(|metadata| !metadata.pairs().is_empty()).map(Arc::new);
    message
}

/// A plugin in the middle of a scenario.
struct Stage<'a> {
    runner: &'a Runner,
    mesh: LocalMesh,
    runtime: Runtime,
    plugin: PluginHandle,
    prepared: Prepared,
    /// Its manifest beside the component, with the settings that it has now.
    beside: toml::Table,
    begun: tokio::time::Instant,
    log_next: u64,
    /// Rights that were taken.
    denied: Vec<(Operation, Pattern)>,
    /// How much later things come.
    delay: Duration,
}

impl Stage<'_> {
    async fn step(&mut self, step: &Step, log: &mut Vec<String>) -> Result<Observed, String> {
        let before = self.plugin.metrics();
        set_answers(&self.mesh, &step.answers);
        let (mut reply, mut refused) = (None, None);
        if let Some(message) = &step.message {
            tokio::time::sleep(self.delay).await;
            let mut message = message_of(&self.mesh, message);
            message.timestamp_ms = (START + self.begun.elapsed()).as_millis() as u64;
            let patterns = self.mesh.patterns();
            let is_heard =
                |pattern: &String| pattern.parse().is_ok_and(|pattern: Pattern| pattern.matches(&message.topic));
            if !patterns.iter().any(is_heard) {
                return Err(format!(
                    "the plugin subscribes to nothing that {} belongs to, but to [{}]",
                    message.topic,
                    patterns.join(", ")
                ));
            }
            self.mesh.send(&message);
        } else if let Some(call) = &step.call {
            tokio::time::sleep(self.delay).await;
            let timeout = call.timeout.map_or(CALL_TIMEOUT, |timeout| timeout.0);
            reply = Some(self.mesh.call_as(call.procedure.clone(), call.payload.bytes(), timeout, 0).await);
        } else if let Some(time) = step.advance {
            tokio::time::sleep(time.0).await;
        } else if let Some(fault) = &step.fault {
            self.put_in(fault);
        } else if step.replace {
            let options = ReplaceOptions::default();
            let replaced = self.runtime.replace(&self.plugin, self.prepared.clone(), &Grant::AsAsked, &options).await;
            replaced.map_err(|error| format!("replace: {error}"))?;
        }
        if let Some(settings) = &step.config {
            refused = self.change_settings(settings).await?;
        }
        let mut observed = self.observe(log).await;
        (observed.reply, observed.refused) = (reply, refused);
        observed.outcome = outcome(&before, &self.plugin.metrics());
        Ok(observed)
    }

    /// Changes settings; why the plugin refuses them.
    async fn change_settings(&mut self, settings: &toml::Table) -> Result<Option<String>, String> {
        let mut beside = self.beside.clone();
        set(&mut beside, settings);
        match self.runtime.reconfigure(&self.plugin, manifest(&beside), &Grant::AsAsked).await {
            Ok(_) => {
                // A version that takes over later has them as well.
                self.prepared = self.runner.prepare(&self.runtime, &beside).await?;
                self.beside = beside;
                // One that was begun anew has the rights that it asks for.
                self.plugin.replace_rights(&self.rights());
                Ok(None)
            }
            Err(ReconfigureError::Refused(why)) => Ok(Some(why)),
            Err(error) => Err(format!("config: {error}")),
        }
    }

    /// Waits until nothing happens any more, and says what has.
    async fn observe(&mut self, log: &mut Vec<String>) -> Observed {
        tokio::time::sleep(REST).await;
        let (lines, next) = self.plugin.log().lines_from(self.log_next);
        self.log_next = next;
        let logs: Vec<String> = lines
            .iter()
            .map(|line| {
                let fields = line.fields.iter().map(|(name, value)| format!(" {name}={value}"));
                format!("{}{}", line.message, fields.collect::<String>())
            })
            .collect();
        log.extend(logs.iter().cloned());
        Observed {
            published: self.mesh.take_published(),
            calls: self.mesh.take_calls(),
            denied: self.mesh.take_denied(),
            logs,
            ..Observed::default()
        }
    }

    fn put_in(&mut self, fault: &Fault) {
        if let Some(right) = &fault.deny {
            self.denied.push((right.operation, right.pattern.clone()));
        }
        if let Some(right) = &fault.allow {
            self.denied.retain(|(operation, pattern)| *operation != right.operation || !right.pattern.covers(pattern));
        }
        if fault.deny.is_some() || fault.allow.is_some() {
            self.plugin.replace_rights(&self.rights());
        }
        if let Some(pattern) = &fault.drop {
            self.mesh.lose(pattern.clone());
        }
        match fault.refuse.as_deref() {
            Some("timeout") => self.mesh.fail_next(macula_wire::Fault::Timeout),
            Some("quota-exceeded") => self.mesh.fail_next(macula_wire::Fault::QuotaExceeded("messages".to_owned())),
            Some(_) => self.mesh.fail_next(macula_wire::Fault::Unavailable("no link".to_owned())),
            None => {}
        }
        if let Some(delay) = fault.delay {
            self.delay += delay.0;
            self.mesh.delay_answers(delay.0);
        }
        if fault.trap {
            self.plugin.trap_next();
        }
    }

    /// What the manifest asks for, without what was denied. A pattern is denied as a whole, or not at all.
    fn rights(&self) -> Rights {
        let asks = &self.prepared.manifest().asks;
        Rights::of(|operation| {
            let is_denied = |asked: &Pattern| {
                self.denied.iter().any(|(denied, pattern)| *denied == operation && pattern.covers(asked))
            };
            asks.patterns(operation).iter().filter(|asked| !is_denied(asked)).cloned().collect()
        })
    }
}

/// What became of a message, told from what was counted.
fn outcome(before: &Metrics, after: &Metrics) -> Option<&'static str> {
    let counted = [
        (after.traps > before.traps, "trap"),
        (after.dead_letters > before.dead_letters, "dead-letter"),
        (after.rejected > before.rejected, "reject"),
        (after.retries > before.retries, "retry"),
        (after.messages > before.messages, "ack"),
    ];
    counted.into_iter().find(|(is_it, _)| *is_it).map(|(_, outcome)| outcome)
}
