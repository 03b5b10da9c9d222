//! Starts plugins and keeps track of them.

use std::{
    collections::HashMap,
    io,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{FutureExt, future::join_all};
use macula_files::ReadError;
use macula_wire::{Fault, Mcid, Operation, Pattern, PluginName};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use wasmtime::component::Linker;

use crate::{
    activity::Watched,
    actor::{Actor, InitError},
    breaker::{self, Breaker, CrashLoop, CrashPolicy},
    cache::CodeCache,
    clock::Clock,
    dead_letters::DeadLetters,
    engine::{EngineError, HostEngine, host_engine},
    host::{self, IN_FLIGHT_DEFAULT, InstanceState},
    inspect::{Ability, Inspection, MANIFEST_BYTES_MAX},
    log::LogLevel,
    manifest::{Manifest, ManifestError, ManifestLayer},
    mesh::{Inbox, MeshProvider, SubscribeOptions},
    plugin::{PluginCore, PluginHandle, PluginParts, StopReason},
    program::{Program, ProgramError},
    registry::Registry,
    rights::Rights,
};

/// Largest component that is read: an interpreter with its libraries has a tenth of that.
pub const COMPONENT_BYTES_MAX: u64 = 128 << 20;

/// How plugins are run on this host.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where native code is kept (made if need be, readable by this user only). `None`: components are compiled at each
    /// start, which takes from 20 ms (Rust) to seconds (JavaScript).
    pub cache_dir: Option<PathBuf>,
    /// Where crashes are remembered across restarts of the host. `None`: they are not.
    pub state_dir: Option<PathBuf>,
    /// Handlers that may run at a time, over all plugins; others wait their turn with nothing taken. Waiting in a host
    /// call does not count.
    pub handlers_max: usize,
    /// How often plugins are asked for their health.
    pub health_interval: Duration,
    /// How crashes are answered.
    pub crash_policy: CrashPolicy,
    /// Publish the plugins' logs to [`log_topic`](crate::log_topic), from this level on; `None`: not at all.
    pub publish_logs: Option<LogLevel>,
    /// Plugins' [activity](crate::ActivityLog) is noted from their start on, whether anybody has asked for it or not.
    pub is_watched: bool,
    /// What the plugins' clock shows at the beginning, to go on with tokio's clock: for tests in virtual time. `None`: the system's
    /// clock, whatever it shows.
    pub time: Option<SystemTime>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            state_dir: None,
            handlers_max: 256,
            health_interval: Duration::from_secs(10),
            crash_policy: CrashPolicy::default(),
            publish_logs: None,
            is_watched: false,
            time: None,
        }
    }
}

/// A manifest to use in place of the one beside a file.
#[derive(Debug, Clone)]
pub enum ManifestSource {
    /// A file.
    Path(PathBuf),
    /// Text from elsewhere.
    Text {
        /// What to call it in errors.
        origin: String,
        /// TOML.
        text: String,
    },
    /// Several, of which each sets what it says in place of those before.
    Layers(Vec<ManifestLayer>),
}

impl From<PathBuf> for ManifestSource {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

/// A component to run.
#[derive(Debug, Clone)]
pub enum PluginSource {
    /// A file; `<stem>.toml` beside it sets the plugin up, when it is there.
    Path(PathBuf),
    /// Bytes from elsewhere.
    Bytes {
        /// Names the plugin when its manifest does not.
        name: String,
        /// The component.
        bytes: Bytes,
    },
}

/// What a plugin gets of what it asks for.
#[derive(Clone)]
pub enum Grant {
    /// All of it: a file named by whoever runs this host, in a realm for development.
    AsAsked,
    /// Log and timers only.
    Nothing,
    /// What these rights and its manifest both say.
    Within(Rights),
    /// The same, with the rights that belong to the component with this content id.
    ByComponent(Arc<dyn Fn(&Mcid) -> Rights + Send + Sync>),
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AsAsked => f.write_str("AsAsked"),
            Self::Nothing => f.write_str("Nothing"),
            Self::Within(rights) => f.debug_tuple("Within").field(rights).finish(),
            Self::ByComponent(_) => f.write_str("ByComponent(…)"),
        }
    }
}

/// How to start a plugin.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// A manifest to use in place of the one beside the file.
    pub manifest: Option<ManifestSource>,
    /// What it gets.
    pub grant: Grant,
}

impl From<Grant> for StartOptions {
    fn from(grant: Grant) -> Self {
        Self { manifest: None, grant }
    }
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// This machine cannot run WebAssembly.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The directory for native code cannot be used.
    #[error("cannot keep native code in {}: {source}", path.display())]
    Cache {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The contract cannot be offered: a fault of this program.
    #[error("cannot offer the plugin contract: {0}")]
    Contract(String),
}

/// Why a plugin did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The component or its manifest cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot run here.
    #[error("{what}: {source}")]
    Program {
        /// The file, or the name it came under.
        what: String,
        /// What went wrong.
        source: ProgramError,
    },
    /// Its manifest is wrong.
    #[error("{what}: {source}")]
    Manifest {
        /// The file, or the name it came under.
        what: String,
        /// What went wrong.
        source: ManifestError,
    },
    /// Another plugin runs under this name.
    #[error("a plugin named {0:?} is running already; stop it, or set `name` in the manifest")]
    NameTaken(String),
    /// It was given up not long ago.
    #[error("plugin {name:?} is not started: {source}")]
    CrashLoop {
        /// Its name.
        name: String,
        /// What was remembered.
        source: CrashLoop,
    },
    /// Its manifest opens something that it has no handler for.
    #[error("plugin {name:?}: the manifest's {what} needs the export {}, which the component lacks", ability.interface())]
    Unhandled {
        /// Its name.
        name: String,
        /// For example `subscription to a.b`.
        what: String,
        /// The missing export.
        ability: Ability,
    },
    /// What its manifest opens could not be opened.
    #[error("plugin {name:?}: the manifest's {what} could not be opened: {source}")]
    Open {
        /// Its name.
        name: String,
        /// For example `subscription to a.b`.
        what: String,
        /// What the mesh said.
        source: Fault,
    },
    /// It did not become ready.
    #[error("plugin {name:?} did not start: {source}")]
    Init {
        /// Its name.
        name: String,
        /// What went wrong.
        source: InitError,
    },
    /// The host is stopping.
    #[error("the host is stopping")]
    Stopping,
}

/// Runs plugins. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    config: RuntimeConfig,
    host: &'static HostEngine,
    linker: Linker<InstanceState>,
    cache: Option<CodeCache>,
    provider: Arc<dyn MeshProvider>,
    permits: Arc<Semaphore>,
    /// Components that are in use, by content id.
    programs: Mutex<HashMap<Mcid, Weak<Program>>>,
    registry: Arc<Registry>,
    dead_letters: Mutex<HashMap<PluginName, Arc<DeadLetters>>>,
    clock: Clock,
}

/// A plugin that could be started: read, inspected and compiled, its manifest put together. Nothing of it runs. Cheap to
/// clone.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) program: Arc<Program>,
    pub(crate) manifest: Manifest,
}

impl Prepared {
    /// With its manifest put together; `what` is what the component is called in errors.
    pub(crate) fn resolve(
        program: Arc<Program>,
        beside: Option<ManifestSource>,
        what: String,
        stem: &str,
    ) -> Result<Self, StartError> {
        let layers = beside.map(read_manifest).transpose()?.unwrap_or_default();
        let manifest = Manifest::resolve_layers(program.inspection().manifest.as_deref(), &layers, stem)
            .map_err(|source| StartError::Manifest { what, source })?;
        Ok(Self { program, manifest })
    }

    /// The component.
    pub fn mcid(&self) -> &Mcid {
        self.program.mcid()
    }

    /// What it asks for and how it is set up.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the component is.
    pub fn inspection(&self) -> &Inspection {
        self.program.inspection()
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("manifest", &self.manifest).field("mcid", self.mcid()).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Prepares to run plugins on the meshes that `provider` gives.
    ///
    /// # Errors
    /// When this machine cannot run WebAssembly, or the cache directory cannot be used.
    pub fn new(config: RuntimeConfig, provider: Arc<dyn MeshProvider>) -> Result<Self, RuntimeError> {
        let host = host_engine()?;
        let linker = host::linker(&host.engine).map_err(|error| RuntimeError::Contract(format!("{error:#}")))?;
        let cache = config
            .cache_dir
            .as_deref()
            .map(|path| CodeCache::open(path).map_err(|source| RuntimeError::Cache { path: path.to_owned(), source }))
            .transpose()?;
        let permits = Arc::new(Semaphore::new(config.handlers_max));
        let clock = Clock::new(config.time);
        Ok(Self(Arc::new(Shared {
            config,
            host,
            linker,
            cache,
            provider,
            permits,
            programs: Mutex::default(),
            registry: Arc::default(),
            dead_letters: Mutex::default(),
            clock,
        })))
    }

    /// Starts a plugin and waits until its `init` has returned. While that says that it is not ready yet, this waits on;
    /// the plugin can be seen among [`Runtime::plugins`] meanwhile. Dropping the future does not stop it.
    ///
    /// # Errors
    /// When it does not start; then nothing of it is left.
    pub async fn start(
        &self,
        source: PluginSource,
        options: impl Into<StartOptions>,
    ) -> Result<PluginHandle, StartError> {
        let options = options.into();
        let prepared = self.prepare(source, options.manifest).await?;
        self.start_prepared(prepared, &options.grant).await
    }

    /// The same for what [`Runtime::prepare`] gave.
    ///
    /// # Errors
    /// See [`Runtime::start`].
    pub async fn start_prepared(&self, prepared: Prepared, grant: &Grant) -> Result<PluginHandle, StartError> {
        let name = &prepared.manifest.name;
        let reservation = self.0.registry.reserve(name);
        let reservation = reservation.ok_or_else(|| StartError::NameTaken(name.to_string()))?;
        let (file, policy) = (self.crash_file(name), self.0.config.crash_policy.clone());
        let breaker = Breaker::open(file, prepared.mcid(), policy, breaker::now_ms())
            .map_err(|source| StartError::CrashLoop { name: name.to_string(), source })?;
        let core = Arc::new(PluginCore::new(self.parts(prepared, grant, breaker)));
        self.open_manifest(&core).await?;
        let handle = PluginHandle::new(core, &self.0.registry);
        if let Some(level) = self.0.config.publish_logs {
            handle.publish_log(level);
        }
        reservation.fill(handle.clone());
        // Begun here, so that a caller who stops waiting leaves a whole plugin behind.
        let (runtime, starting) = (self.clone(), handle.clone());
        let started = tokio::spawn(async move { runtime.start_instances(&starting).await }).await;
        match started {
            Ok(Ok(())) => Ok(handle),
            Ok(Err(source)) => {
                let name = handle.name().to_string();
                handle.stop(StopReason::Stopped, Duration::ZERO).await;
                Err(StartError::Init { name, source })
            }
            Err(_) => Err(StartError::Stopping),
        }
    }

    /// All plugins, by name.
    pub fn plugins(&self) -> Vec<PluginHandle> {
        self.0.registry.plugins()
    }

    /// The plugin of this name.
    pub fn plugin(&self, name: &str) -> Option<PluginHandle> {
        self.plugins().into_iter().find(|handle| handle.name().as_str() == name)
    }

    /// Stops all plugins, at the same time.
    pub async fn stop_all(&self, reason: StopReason, grace: Duration) {
        join_all(self.plugins().iter().map(|plugin| plugin.stop(reason, grace))).await;
    }

    /// Looks at a component as a start would, without running it: what it is, or why it would be refused.
    ///
    /// # Errors
    /// When the file cannot be read, or the component or its embedded manifest would be refused.
    pub async fn inspect(&self, path: &Path) -> Result<(Inspection, Manifest), StartError> {
        let prepared = self.prepare(PluginSource::Path(path.to_owned()), None).await?;
        Ok((prepared.inspection().clone(), prepared.manifest))
    }

    /// Reads, inspects and compiles, away from the async threads; nothing of it runs.
    ///
    /// # Errors
    /// When the component or its manifest cannot be read or would be refused.
    pub async fn prepare(
        &self,
        source: PluginSource,
        manifest: Option<ManifestSource>,
    ) -> Result<Prepared, StartError> {
        let runtime = self.clone();
        let reading = tokio::task::spawn_blocking(move || runtime.read_blocking(source, manifest));
        // Reading neither panics nor is cancelled but at the end of the process.
        reading.await.unwrap_or(Err(StartError::Stopping))
    }

    fn read_blocking(&self, source: PluginSource, manifest: Option<ManifestSource>) -> Result<Prepared, StartError> {
        let (what, stem, bytes, beside) = match source {
            PluginSource::Path(path) => {
                let bytes = read_component(&path)?;
                let beside = manifest.is_none().then(|| path.with_extension("toml")).filter(|path| path.is_file());
                let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
                (path.display().to_string(), stem, bytes, beside)
            }
            PluginSource::Bytes { name, bytes } => (name.clone(), name, bytes, None),
        };
        let program = self.program(&bytes).map_err(|source| StartError::Program { what: what.clone(), source })?;
        Prepared::resolve(program, manifest.or(beside.map(ManifestSource::Path)), what, &stem)
    }

    fn program(&self, bytes: &[u8]) -> Result<Arc<Program>, ProgramError> {
        let mcid = Mcid::of(bytes);
        if let Some(program) = self.0.programs.lock().get(&mcid).and_then(Weak::upgrade) {
            return Ok(program);
        }
        let program = Arc::new(Program::load(self.0.host, &self.0.linker, self.0.cache.as_ref(), bytes)?);
        let mut programs = self.0.programs.lock();
        programs.retain(|_, program| program.strong_count() > 0);
        programs.insert(mcid, Arc::downgrade(&program));
        Ok(program)
    }

    /// What a version is made of.
    pub(crate) fn parts(&self, prepared: Prepared, grant: &Grant, breaker: Breaker) -> PluginParts {
        let Prepared { program, manifest } = prepared;
        let mesh = self.0.provider.for_plugin(&manifest.name);
        let permits = Arc::clone(&self.0.permits);
        let dead_letters = self.dead_letters(&manifest.name);
        let (grant, clock) = (grant.clone(), self.0.clock);
        let watched = if self.0.config.is_watched { Watched::Always } else { Watched::OnDemand };
        PluginParts { manifest, program, mesh, grant, permits, breaker, dead_letters, clock, watched }
    }

    /// A plugin's dead letters: the same for all its versions.
    fn dead_letters(&self, name: &PluginName) -> Option<Arc<DeadLetters>> {
        let directory = self.0.config.state_dir.as_ref()?;
        let mut known = self.0.dead_letters.lock();
        let letters = known
            .entry(name.clone())
            .or_insert_with(|| Arc::new(DeadLetters::open(directory.join("deadletters").join(name.as_str()))));
        Some(Arc::clone(letters))
    }

    /// Where a plugin's crashes are remembered.
    pub(crate) fn crash_file(&self, name: &PluginName) -> Option<PathBuf> {
        self.0.config.state_dir.as_ref().map(|directory| directory.join(format!("{name}.json")))
    }

    pub(crate) fn config(&self) -> &RuntimeConfig {
        &self.0.config
    }

    /// Opens what the manifest has to be open before `init`.
    async fn open_manifest(&self, core: &PluginCore) -> Result<(), StartError> {
        for (pattern, inbox) in self.open_subscriptions(core).await? {
            core.mailbox.lock().add_manifest_subscription(pattern, inbox);
        }
        self.open_offers(core).await
    }

    /// The manifest's subscriptions that are not open yet; the others are kept for a version that may take over.
    pub(crate) async fn open_subscriptions(
        &self,
        core: &PluginCore,
    ) -> Result<Vec<(Pattern, Box<dyn Inbox>)>, StartError> {
        let mut opened = Vec::new();
        for subscription in &core.manifest.subscriptions {
            let pattern = &subscription.pattern;
            let what = format!("subscription to {pattern}");
            check_ability(core, Ability::MessageHandler, &what)?;
            if !core.rights.current().allows_all(Operation::Subscribe, pattern) {
                core.note_denial(Operation::Subscribe, pattern);
                continue;
            }
            if core.mailbox.lock().reserve_subscription(pattern).is_some() {
                continue;
            }
            let options = SubscribeOptions {
                when_full: subscription.when_full,
                queue_messages: subscription.queue_messages.unwrap_or(core.manifest.limits.queue_messages),
                retained: subscription.retained,
            };
            match core.mesh.subscribe(pattern, options).await {
                Ok(inbox) => opened.push((pattern.clone(), inbox)),
                Err(source) => return Err(StartError::Open { name: core.manifest.name.to_string(), what, source }),
            }
        }
        for procedure in &core.manifest.procedures {
            check_ability(core, Ability::CallHandler, &format!("offer of {procedure}"))?;
        }
        Ok(opened)
    }

    /// Opens the manifest's offers that are not open yet.
    pub(crate) async fn open_offers(&self, core: &PluginCore) -> Result<(), StartError> {
        for procedure in &core.manifest.procedures {
            let what = format!("offer of {procedure}");
            if !core.rights.current().allows(Operation::Advertise, procedure) {
                core.note_denial(Operation::Advertise, procedure);
                continue;
            }
            if core.mailbox.lock().offers(procedure) {
                continue;
            }
            match core.mesh.advertise(procedure, IN_FLIGHT_DEFAULT).await {
                Ok(offer) => core.mailbox.lock().add_manifest_offer(procedure.clone(), offer),
                Err(source) => return Err(StartError::Open { name: core.manifest.name.to_string(), what, source }),
            }
        }
        Ok(())
    }

    /// One after another: what the first refuses, the others need not try.
    async fn start_instances(&self, handle: &PluginHandle) -> Result<(), InitError> {
        let core = &handle.core();
        for shard in 0..core.manifest.limits.instances {
            let (ready, is_ready) = oneshot::channel();
            let actor = Actor::new(Arc::clone(core), shard, self.0.config.health_interval);
            handle.add_actor(tokio::spawn(supervised(actor.run(ready), Arc::clone(core), shard)));
            is_ready.await.unwrap_or(Err(InitError::Stopped))?;
        }
        let text = format!("{} started, component {}", core.manifest.version, core.program.mcid());
        core.log.host(LogLevel::Info, text.trim_start().to_owned());
        Ok(())
    }
}

/// Lets an actor live. A panic in it is a fault of this program; the plugin has failed then, and says so.
pub(crate) async fn supervised(life: impl Future<Output = ()>, core: Arc<PluginCore>, shard: u32) {
    let _end = EndOfSlot { core: &core, shard };
    if AssertUnwindSafe(life).catch_unwind().await.is_err() {
        core.fail(shard, "an internal error of the host, which is in the host's log".to_owned()).await;
    }
}

/// However a slot ends, who waits for it to hand over learns that it will not.
struct EndOfSlot<'a> {
    core: &'a PluginCore,
    shard: u32,
}

impl Drop for EndOfSlot<'_> {
    fn drop(&mut self) {
        self.core.orders.close(self.shard as usize);
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("plugins", &self.plugins()).finish_non_exhaustive()
    }
}

impl Grant {
    /// What a component with this manifest gets.
    pub(crate) fn rights(&self, mcid: &Mcid, manifest: &Manifest) -> Rights {
        match self {
            Self::AsAsked => Rights::as_asked(&manifest.asks),
            Self::Nothing => Rights::default(),
            Self::Within(rights) => rights.within(&manifest.asks),
            Self::ByComponent(rights) => rights(mcid).within(&manifest.asks),
        }
    }
}

/// What the manifest opens needs a handler.
fn check_ability(core: &PluginCore, ability: Ability, what: &str) -> Result<(), StartError> {
    if core.program.has(ability) {
        return Ok(());
    }
    Err(StartError::Unhandled { name: core.manifest.name.to_string(), what: what.to_owned(), ability })
}

/// Reads a component from a file, without a look at what is in it.
///
/// # Errors
/// It is not there, no regular file, or has more than [`COMPONENT_BYTES_MAX`] bytes.
pub fn read_component(path: &Path) -> Result<Bytes, ReadError> {
    macula_files::read(path, COMPONENT_BYTES_MAX).map(Bytes::from)
}

/// Reads a manifest from a file, without a look at what is in it.
///
/// # Errors
/// It is not there, no regular file, no text, or has more than [`MANIFEST_BYTES_MAX`] bytes.
pub fn read_manifest_text(path: &Path) -> Result<String, ReadError> {
    macula_files::read_text(path, MANIFEST_BYTES_MAX as u64)
}

/// What to call manifests in errors, and their texts.
fn read_manifest(source: ManifestSource) -> Result<Vec<ManifestLayer>, StartError> {
    let whole = |origin, text| vec![ManifestLayer { origin, text, table: Vec::new() }];
    match source {
        ManifestSource::Text { origin, text } => Ok(whole(origin, text)),
        ManifestSource::Layers(layers) => Ok(layers),
        ManifestSource::Path(path) => Ok(whole(path.display().to_string(), read_manifest_text(&path)?)),
    }
}
