//! Wires a node together: relay, mesh handle, plugins, administration, health; and takes it apart in order.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use macula_admin::{AdminServer, BindError as HealthBindError};
use macula_node::{
    Certificate, KeptClock, LOCAL_REALM, LinkState, Mesh, MeshConfig, NodeContent, NodeState, Outlook, RelayConfig,
    RelayServer, RelayUrl, RunningNode,
    auth::{Permissions, Slot},
    content::store::{Owner, StoreConfig},
    wire::{NodeId, Operation, Pattern, hello::Role},
};
use macula_runtime::{
    COMPONENT_BYTES_MAX, Grant, LogLevel, Mcid, PluginHandle, PluginSource, Rights, Runtime, RuntimeConfig, StartError,
    StopReason, mesh::MeshProvider,
};
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use crate::{
    admin_rpc::{AdminRpc, NodeReport},
    config::{HealthAddress, NodeSettings, Settings},
    deployment::{Deployments, Parts, Records},
    dev::{self, Project, RightsOf},
    failure::{Failure, Kind},
    given_plugins::{Component, Given, GivenPlugin, warn_of_strangers},
    output::{self, Format},
    plugin_mesh::NodeMeshes,
    registry::{Registry, RegistryTasks},
    reload::Reload,
};

/// How long plugins get to finish what they have begun.
const GRACE: Duration = Duration::from_secs(5);

/// How long another node that has just been started may take to say where it listens.
const STARTING: Duration = Duration::from_secs(5);

/// How long nothing is said while a relay does not answer.
const SILENCE: Duration = Duration::from_secs(1);

/// How long somebody is looked for who has a component that is to run.
const COMPONENT_PATIENCE: Duration = Duration::from_secs(10);

/// A running node.
pub(crate) struct Node {
    state: NodeState,
    relay: Option<Arc<RelayServer>>,
    mesh: Mesh,
    runtime: Option<Runtime>,
    /// Plugins that it was given.
    given: Option<Given>,
    /// Hands changed rights on to plugins.
    rights: Option<JoinHandle<()>>,
    deployments: Option<Deployments>,
    registry: Option<(Registry, RegistryTasks)>,
    report: Arc<NodeReport>,
    /// Works on a project.
    development: Option<JoinHandle<()>>,
    content: Option<NodeContent>,
    admin: AdminRpc,
    health: Option<AdminServer>,
    relays: Vec<RelayUrl>,
    /// Realms that its own relay serves.
    serves: Vec<String>,
    /// Keeps the time that was seen.
    _clock: KeptClock,
}

/// What a node is for.
pub(crate) enum Purpose {
    /// Forwards only.
    Relay,
    /// Runs plugins, and what is deployed to the slots that it follows.
    Host {
        plugins: Vec<GivenPlugin>,
        follow: Vec<Slot>,
        store: StoreConfig,
        /// Publish the plugins' logs, from this level on.
        publish_logs: Option<LogLevel>,
        /// One that is worked on.
        project: Option<Project>,
    },
}

/// The line that says that a node is up, as programs read it.
#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    name: &'a str,
    node: NodeId,
    #[serde(skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
    relays: Vec<String>,
    realm: String,
    /// Realms that its own relay serves.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    serves: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<String>,
    plugins: Vec<ReadyPlugin>,
}

#[derive(Serialize)]
struct ReadyPlugin {
    name: String,
    version: String,
    mcid: String,
    state: macula_runtime::PluginState,
}

/// Starts a node, says that it is ready, serves until told to stop, and stops.
pub(crate) fn run(settings: &Settings, node: &NodeSettings, purpose: Purpose, format: Format) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("macula-host").build()?;
    let outcome = runtime.block_on(async {
        // Told to stop while starting is told to stop.
        let mut stop = std::pin::pin!(stop_signal()?);
        // From here on: a host that is still starting reads its settings again when it has started.
        let mut reload = Reload::new()?;
        let started = tokio::select! {
            started = Node::start(settings, node, purpose) => started?,
            () = &mut stop => return Ok(()),
        };
        started.say_ready(format);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = reload.wanted() => {}
            }
            tokio::select! {
                () = &mut stop => break,
                () = started.reload(settings) => {}
            }
        }
        tracing::info!("stopping");
        tokio::select! {
            () = started.stop() => {}
            () = stop_signal()? => tracing::warn!("told to stop twice: not waiting for what is under way"),
        }
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Ends at SIGINT or SIGTERM.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

impl Node {
    async fn start(settings: &Settings, node: &NodeSettings, purpose: Purpose) -> Result<Self, Failure> {
        let state = settings.home.node(&node.name)?;
        let clock = KeptClock::start(&settings.home)?;
        let embeds_relay = node.relays.is_empty() || matches!(purpose, Purpose::Relay);
        let relay = embeds_relay.then(|| start_relay(settings, &state, node, &purpose)).transpose()?.map(Arc::new);
        let relays = match &relay {
            Some(relay) => vec![relay.url()],
            None => node.relays.clone(),
        };
        let (mesh, relays) = start_mesh(settings, &state, relays, &purpose).await?;
        let realm = mesh.realm().clone();
        let report = Arc::new(NodeReport::new(&node.name, &mesh, relay.clone(), relays.clone()));
        let health = start_health(node.health, &report)?;
        let running = RunningNode {
            name: node.name.clone(),
            pid: std::process::id(),
            node: relay.as_ref().map_or(mesh.node(), |relay| relay.node()),
            relay: relay.as_ref().map(|relay| relay.address()),
            relays: relays.iter().map(ToString::to_string).collect(),
            health: health.as_ref().map(AdminServer::address),
            admin: Some(mesh.node()),
            realm,
            runs_plugins: matches!(purpose, Purpose::Host { .. }),
        };
        // A relay forwards, and keeps nothing.
        let content = match &purpose {
            Purpose::Host { store, .. } => Some(open_content(&state, *store, &mesh)?),
            Purpose::Relay => None,
        };
        if let Some(content) = &content {
            report.set_content(content.clone());
        }
        let admin = AdminRpc::start(&mesh, &report);
        state.announce(&running)?;
        let serves = match &relay {
            Some(relay) => {
                let served = settings.served()?.into_iter().filter(|realm| realm.may_serve(&relay.node()));
                served.map(|realm| realm.name().to_string()).collect()
            }
            None => Vec::new(),
        };
        let mut started = Self {
            state,
            relay,
            mesh,
            runtime: None,
            given: None,
            rights: None,
            deployments: None,
            registry: None,
            report,
            development: None,
            content,
            admin,
            health,
            relays,
            serves,
            _clock: clock,
        };
        if let Purpose::Host { plugins, follow, project, publish_logs, .. } = purpose
            && let Err(failure) = started.start_plugins(settings, plugins, &follow, publish_logs, project).await
        {
            started.stop().await;
            return Err(failure);
        }
        started.report.set_ready();
        Ok(started)
    }

    async fn start_plugins(
        &mut self,
        settings: &Settings,
        plugins: Vec<GivenPlugin>,
        follow: &[Slot],
        publish_logs: Option<LogLevel>,
        project: Option<Project>,
    ) -> Result<(), Failure> {
        let config = RuntimeConfig {
            cache_dir: Some(self.state.path().join("native")),
            state_dir: Some(self.state.path().join("plugins")),
            publish_logs,
            // What is worked on is shown from its first message on.
            is_watched: project.is_some(),
            ..RuntimeConfig::default()
        };
        let meshes: Arc<dyn MeshProvider> =
            Arc::new(NodeMeshes { mesh: self.mesh.clone(), content: self.content.clone() });
        let runtime = Runtime::new(config, meshes).map_err(Failure::failed)?;
        if let Some(project) = project {
            let mesh = self.mesh.clone();
            let rights: RightsOf = Arc::new(move |mcid| plugin_rights(&mesh, mcid));
            self.development = Some(tokio::spawn(dev::develop(project, runtime.clone(), rights)));
        }
        self.report.set_runtime(runtime.clone());
        self.runtime = Some(runtime.clone());
        self.rights = Some(tokio::spawn(keep_plugin_rights(self.mesh.clone(), runtime.clone())));
        if let Some(content) = &self.content {
            self.registry = Some(Registry::start(&self.mesh, content, &self.state)?);
        }
        let mesh = self.mesh.clone();
        let grant = Grant::ByComponent(Arc::new(move |mcid| plugin_rights(&mesh, mcid)));
        let mut given = Given::new(runtime.clone(), grant);
        warn_of_strangers(&settings.file, plugins.iter());
        // All are read before the first begins: nothing happens when one of them is wrong.
        let mut prepared = Vec::new();
        for plugin in plugins {
            let manifest = plugin.manifest(&settings.file)?;
            let source = self.source_of(&plugin.component).await?;
            prepared.push((plugin, runtime.prepare(source, manifest).await.map_err(refused)?));
        }
        for (plugin, prepared) in prepared {
            given.start(plugin, prepared).await.map_err(refused)?;
        }
        self.given = Some(given);
        if let (Some(content), Some((registry, _))) = (self.content.clone(), &self.registry) {
            let deployments = Deployments::start(
                &Parts {
                    mesh: self.mesh.clone(),
                    content,
                    runtime,
                    host_name: self.state.name().to_owned(),
                    records: Records::default(),
                    handing_in: Arc::default(),
                },
                &self.state,
                follow,
                registry,
            )
            .await?;
            self.report.set_deployments(deployments.clone());
            self.deployments = Some(deployments);
        }
        Ok(())
    }

    /// A component to start; content is fetched first, if it is not here.
    async fn source_of(&self, component: &Component) -> Result<PluginSource, Failure> {
        let mcid = match component {
            Component::File(path) => return Ok(PluginSource::Path(path.clone())),
            Component::Content(mcid) => mcid.clone(),
            Component::Package(query) => {
                let registry = self.registry.as_ref().ok_or_else(|| Failure::failed("this node keeps no registry"))?;
                let found = registry.0.find(query, COMPONENT_PATIENCE).await;
                let found = found.ok_or_else(|| Failure::not_found(format!("no version of {} fits", query.name)))?;
                tracing::info!(package = %found.id, mcid = %found.mcid, "found in the registry");
                found.mcid
            }
        };
        let content = self.content.as_ref().ok_or_else(|| Failure::failed("this node keeps no content"))?;
        tracing::info!(%mcid, "fetching the component");
        let obtained = content.obtain(Owner::Operator, &mcid, COMPONENT_PATIENCE, COMPONENT_BYTES_MAX).await;
        obtained.map_err(|error| Failure::from(error.fault()).during("cannot run it"))?;
        let bytes = content.read(&mcid, COMPONENT_BYTES_MAX).await.map_err(|error| Failure::from(error.fault()))?;
        Ok(PluginSource::Bytes { name: mcid.to_string(), bytes: bytes.into() })
    }

    /// Reads again what the plugins' settings come from, and puts that in force.
    async fn reload(&self, settings: &Settings) {
        match (settings.file_as_it_is_now().await, &self.given) {
            (Ok(file), Some(given)) => given.reconfigure(file).await,
            (Ok(_), None) => {
                tracing::info!("asked to read settings again: a node without plugins has none that can change");
            }
            (Err(failure), _) => tracing::error!(%failure, "the settings stay as they are"),
        }
    }

    fn plugins(&self) -> Vec<PluginHandle> {
        self.runtime.as_ref().map(Runtime::plugins).unwrap_or_default()
    }

    fn say_ready(&self, format: Format) {
        let plugins = self.plugins();
        let ready = Ready {
            ready: true,
            name: self.state.name(),
            node: self.mesh.node(),
            relay: self.relay.as_ref().map(|relay| relay.url().to_string()),
            relays: self.relays.iter().map(ToString::to_string).collect(),
            realm: self.mesh.realm().to_string(),
            serves: &self.serves,
            health: self.health.as_ref().map(|health| format!("http://{}", health.address())),
            plugins: plugins.iter().map(ready_plugin).collect(),
        };
        match format {
            Format::Json => {
                output::json(&ready);
            }
            Format::Text => {
                output::line(ready.text());
            }
        }
    }

    /// Finishes what is under way, then closes in the order in which things depend on one another.
    async fn stop(self) {
        self.report.set_stopping();
        if let Some(rights) = &self.rights {
            rights.abort();
        }
        if let Some(development) = &self.development {
            development.abort();
        }
        if let Some(deployments) = &self.deployments {
            deployments.stop();
        }
        if let Some((_, tasks)) = &self.registry {
            tasks.stop();
        }
        if let Some(runtime) = &self.runtime {
            runtime.stop_all(StopReason::HostStopping, GRACE).await;
        }
        self.admin.stop().await;
        self.mesh.close().await;
        if let Some(health) = self.health {
            health.stop().await;
        }
        self.report.release_relay();
        if let Some(relay) = self.relay.and_then(Arc::into_inner) {
            relay.stop().await;
        }
    }
}

/// What a component may do on this node: what is granted to it. In the realm of this machine, a file that the user names
/// may do whatever the node may, which is what its manifest asks for.
fn plugin_rights(mesh: &Mesh, mcid: &Mcid) -> Rights {
    let is_local = mesh.realm().as_str() == LOCAL_REALM;
    let permissions = mesh.permissions().borrow().clone();
    rights_of(&permissions, |table, operation| {
        let mut patterns = table.of_plugin(mcid).patterns(operation);
        if is_local {
            patterns.extend(table.of_node().patterns(operation));
        }
        patterns
    })
}

/// A plugin's rights as a table has them, with what has lapsed.
pub(crate) fn rights_of(
    permissions: &Permissions,
    patterns: impl Fn(&Permissions, Operation) -> Vec<Pattern>,
) -> Rights {
    let kept = permissions.with_lapsed();
    Rights::of(|operation| patterns(permissions, operation)).remembering(|operation| patterns(&kept, operation))
}

/// Puts the node's rights in force at its plugins whenever they change.
async fn keep_plugin_rights(mesh: Mesh, runtime: Runtime) {
    let mut permissions = mesh.permissions();
    while permissions.changed().await.is_ok() {
        permissions.borrow_and_update();
        for plugin in runtime.plugins() {
            plugin.refresh_rights();
        }
    }
}

impl Ready<'_> {
    fn text(&self) -> String {
        let mut lines = vec![format!("ready: node {} ({})", self.node, self.name)];
        match &self.relay {
            Some(relay) => lines.push(format!("  relay    {relay}")),
            None => lines.extend(self.relays.iter().map(|relay| format!("  via      {relay}"))),
        }
        lines.push(format!("  realm    {}", self.realm));
        if self.serves.iter().any(|served| *served != self.realm) {
            lines.push(format!("  serves   {}", self.serves.join(", ")));
        }
        if let Some(health) = &self.health {
            lines.push(format!("  health   {health}/health"));
        }
        for plugin in &self.plugins {
            let version = if plugin.version.is_empty() { String::new() } else { format!(" {}", plugin.version) };
            let state = serde_json::to_value(plugin.state)
                .ok()
                .and_then(|state| state.as_str().map(str::to_owned))
                .unwrap_or_default();
            lines.push(format!("  plugin   {}{version} ({state}) {}", plugin.name, plugin.mcid));
        }
        lines.join("\n")
    }
}

fn ready_plugin(plugin: &PluginHandle) -> ReadyPlugin {
    ReadyPlugin {
        name: plugin.name().to_string(),
        version: plugin.manifest().version.clone(),
        mcid: plugin.mcid().to_string(),
        state: plugin.state(),
    }
}

fn start_relay(
    settings: &Settings,
    state: &NodeState,
    node: &NodeSettings,
    purpose: &Purpose,
) -> Result<RelayServer, Failure> {
    let local = match purpose {
        Purpose::Relay => state.local(Role::Relay),
        // A host and the relay inside it are two nodes: each proves a key of its own to the other.
        Purpose::Host { .. } => state.embedded_relay()?,
    };
    let mut config = RelayConfig::new(local, node.listen, settings.served()?);
    config.set_run(state.run());
    let (log, known) = state.revocations(Role::Relay)?;
    (config.revocation_log, config.revocations) = (Some(log), known);
    if let Some((chain, key)) = &node.certificate {
        config.certificate = Certificate::Files { chain: chain.clone(), key: key.clone() };
    }
    RelayServer::start(config).map_err(|error| {
        if !error.is_address_in_use() {
            return Failure::failed(error);
        }
        let listen = node.listen;
        let joined = SocketAddr::new(reachable(listen.ip()), listen.port());
        let free = SocketAddr::new(listen.ip(), 0);
        Failure::failed(format!(
            "{error}; is another node running there? join it with --relay quic://{joined}, or choose another port with --listen \
             {free}"
        ))
    })
}

/// Where somebody on this machine reaches what listens on `address`.
pub(crate) fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

async fn start_mesh(
    settings: &Settings,
    state: &NodeState,
    relays: Vec<RelayUrl>,
    purpose: &Purpose,
) -> Result<(Mesh, Vec<RelayUrl>), Failure> {
    match try_start_mesh(settings, state, &relays, purpose).await {
        Ok(mesh) => Ok((mesh, relays)),
        Err(failure) => match pinned_meanwhile(settings, state, &relays).await? {
            Some(relays) => Ok((try_start_mesh(settings, state, &relays, purpose).await?, relays)),
            None => Err(failure),
        },
    }
}

/// The same addresses, if one of them is of a node here that was started in the same moment and has only now said that.
async fn pinned_meanwhile(
    settings: &Settings,
    state: &NodeState,
    relays: &[RelayUrl],
) -> Result<Option<Vec<RelayUrl>>, Failure> {
    let begin = Instant::now();
    loop {
        // Asked first: one that says where it is between the two questions is found by the second.
        let is_another_starting = settings.home.is_another_starting(state.name())?;
        let again: Vec<RelayUrl> = relays.iter().map(|url| settings.pinned(url.clone())).collect::<Result<_, _>>()?;
        if again != relays {
            return Ok(Some(again));
        }
        let is_hopeful = relays.iter().any(|url| url.is_loopback() && url.pin().is_none());
        if !is_hopeful || !is_another_starting || begin.elapsed() > STARTING {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn try_start_mesh(
    settings: &Settings,
    state: &NodeState,
    relays: &[RelayUrl],
    purpose: &Purpose,
) -> Result<Mesh, Failure> {
    let config = mesh_config(settings, state, relays, purpose)?;
    let is_local = relays.iter().all(RelayUrl::is_loopback);
    let mesh = Mesh::start(config);
    let mut link = mesh.link();
    // A relay elsewhere may come later; that it is the wrong one, or that one here does not answer, is said at once.
    let settled = |link: &LinkState| match link {
        LinkState::Up(_) | LinkState::Closed => true,
        LinkState::Down { outlook, .. } => *outlook != Outlook::Hopeful,
    };
    let wait = if is_local { Duration::from_secs(10) } else { Duration::from_secs(3) };
    let urls = relays.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let first = tokio::select! {
        first = tokio::time::timeout(wait, link.wait_for(settled)) => first,
        never = say_later(format!("waiting for {urls}")) => match never {},
    };
    let reason = match first {
        Ok(Ok(state)) => match &*state {
            LinkState::Up(_) => None,
            LinkState::Down { reason, outlook: Outlook::Denied } => Some((Kind::Denied, reason.clone())),
            LinkState::Down { reason, .. } => Some((Kind::Failed, reason.clone())),
            LinkState::Closed => Some((Kind::Failed, "closed".into())),
        },
        Ok(Err(_)) => Some((Kind::Failed, "closed".into())),
        Err(_) if is_local => Some((Kind::Unreachable, format!("no relay answers at {urls}; is it running?"))),
        Err(_) => None,
    };
    match reason {
        None => Ok(mesh),
        Some((kind, reason)) => {
            mesh.close().await;
            Err(Failure::new(kind, reason))
        }
    }
}

/// Says something after some silence.
async fn say_later(text: String) -> Infallible {
    tokio::time::sleep(SILENCE).await;
    output::note(text);
    std::future::pending().await
}

fn open_content(state: &NodeState, store: StoreConfig, mesh: &Mesh) -> Result<NodeContent, Failure> {
    let opened = NodeContent::start(state, store, mesh);
    opened.map_err(|error| {
        let path = state.path().join("content");
        Failure::failed(error).during(format!("cannot open the content store in {}", path.display()))
    })
}

/// How this node takes part.
fn mesh_config(
    settings: &Settings,
    state: &NodeState,
    relays: &[RelayUrl],
    purpose: &Purpose,
) -> Result<MeshConfig, Failure> {
    let mut config = match purpose {
        Purpose::Host { .. } => {
            let mut config = MeshConfig::host(relays[0].clone(), settings.realm.clone(), state);
            let (log, known) = state.revocations(Role::Host)?;
            (config.revocation_log, config.revocations) = (Some(log), known);
            config.auth_min = settings.auth_min;
            config
        }
        // A relay serves administration through a link to itself, under a key of the moment, in the realm of this machine:
        // it may have no other right in the realms that it serves than to serve them.
        Purpose::Relay => {
            let mut config = MeshConfig::new(relays[0].clone(), settings.home.local_realm()?);
            config.node.role = Role::Host;
            config
        }
    };
    config.relays = relays.to_vec();
    config.tls = settings.tls;
    Ok(config)
}

fn start_health(address: HealthAddress, report: &Arc<NodeReport>) -> Result<Option<AdminServer>, Failure> {
    let source: Arc<dyn macula_admin::Source> = Arc::clone(report) as _;
    let (HealthAddress::Given(wanted) | HealthAddress::Default(wanted)) = address;
    match (AdminServer::start(wanted, Arc::clone(&source)), address) {
        (Ok(server), _) => Ok(Some(server)),
        (Err(HealthBindError { .. }), HealthAddress::Default(_)) => {
            let other = SocketAddr::new(wanted.ip(), 0);
            let server = AdminServer::start(other, source).map_err(Failure::failed)?;
            tracing::warn!("port {} is in use; health and metrics are on {}", wanted.port(), server.address());
            Ok(Some(server))
        }
        (Err(error), HealthAddress::Given(_)) => Err(Failure::failed(error)),
    }
}

fn refused(error: StartError) -> Failure {
    let kind = match &error {
        StartError::Read(read) => Kind::of_unread(read),
        StartError::Manifest { .. } => Kind::Usage,
        StartError::Open { source: macula_node::wire::Fault::Denied(_), .. } => Kind::Denied,
        _ => Kind::Failed,
    };
    Failure::new(kind, error)
}
