//! What client verbs have in common: finding the node and linking to it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use macula_node::{
    CallOptions, Mesh, MeshConfig, RealmAccess, RelayUrl, RunningNode,
    auth::{Scope, ucan::Ipld},
    wire::{CallError, Fault, NodeId, Operation, Topic, limits::LINK_RETURN_MAX},
};
use tokio::time::{Instant, sleep};

use super::HostFlags;
use crate::{
    admin_rpc::plugins_procedure,
    compose::reachable,
    config::{ClientSettings, Settings},
    failure::{Failure, Kind},
};

/// A client's delegation is short: its key is gone when the command ends. A longer one is renewed.
const CLIENT_LIFETIME: Duration = Duration::from_secs(3600);

/// Links to the node that the settings name, or to the one that runs here.
pub(super) async fn connect(settings: &Settings, client: &ClientSettings) -> Result<Mesh, Failure> {
    connect_in(settings, client, settings.realm.clone()).await
}

/// The same, in another realm than the settings'.
pub(super) async fn connect_in(
    settings: &Settings,
    client: &ClientSettings,
    realm: RealmAccess,
) -> Result<Mesh, Failure> {
    let urls = match &client.node {
        Some(url) => vec![settings.pinned(url.clone())?],
        None => running_relays(settings)?,
    };
    let mut config = MeshConfig::new(urls[0].clone(), realm.lasting(CLIENT_LIFETIME));
    config.revocations = settings.home.revocations()?;
    config.relays = urls;
    config.tls = settings.tls;
    config.timeout = client.timeout;
    Ok(Mesh::connect(config).await?)
}

/// The hosts that run here in the realm of these settings, at least one: all of them, or the one of this name. Relays run no
/// plugins. With `--node`, a host that runs elsewhere is named by its id.
pub(super) fn hosts(
    settings: &Settings,
    client: &ClientSettings,
    name: Option<&str>,
) -> Result<Vec<RunningNode>, Failure> {
    if let (Some(node), Some(Ok(id))) = (&client.node, name.map(str::parse)) {
        return Ok(vec![elsewhere(settings, node, id)]);
    }
    let mut running = settings.home.running()?;
    running.retain(|node| node.runs_plugins && node.realm == *settings.realm.name());
    running.retain(|node| name.is_none_or(|name| node.name == name));
    if !running.is_empty() {
        return Ok(running);
    }
    Err(Failure::not_found(match name {
        Some(name) => format!("no host named {name} runs here; `macula-host status` lists those that do"),
        None if client.node.is_some() => {
            "no host runs here; one that runs elsewhere is named by its id: --node URL --name did:key:…, where it runs \
             `macula-host status -v` tells it"
                .to_owned()
        }
        None => "no host runs here; start one with `macula-host run`".to_owned(),
    }))
}

/// A host that is reached over a node that was named.
fn elsewhere(settings: &Settings, node: &RelayUrl, id: NodeId) -> RunningNode {
    RunningNode {
        name: id.short(),
        pid: 0,
        node: id,
        relay: None,
        relays: vec![node.to_string()],
        health: None,
        admin: Some(id),
        realm: settings.realm.name().clone(),
        runs_plugins: true,
    }
}

/// A link over which a node that runs here is looked after.
pub(super) struct Admin<'a> {
    settings: &'a Settings,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    pub(super) mesh: Mesh,
    /// Who answers.
    pub(super) host: NodeId,
    /// Its name here.
    pub(super) name: String,
}

impl<'a> Admin<'a> {
    /// Links to where the node is.
    pub(super) async fn connect(
        settings: &'a Settings,
        client: &ClientSettings,
        node: &RunningNode,
    ) -> Result<Self, Failure> {
        let relay = match node.relay {
            Some(address) => Some(RelayUrl::local(address, node.node)),
            None => node.relays.first().and_then(|url| url.parse().ok()),
        };
        let (timeout, priority) = (client.timeout, client.priority);
        let client = ClientSettings { node: client.node.clone().or(relay), timeout, priority };
        let connected = connect_in(settings, &client, settings.access(&node.realm)?).await;
        let mesh = connected.map_err(|failure| with_grantor(failure, settings, Operation::Admin, ""))?;
        Ok(Self { settings, timeout, mesh, host: node.admin.unwrap_or(node.node), name: node.name.clone() })
    }

    /// To the first host that runs here, in the realm of these settings.
    pub(super) async fn of_host(settings: &'a Settings, client: &ClientSettings) -> Result<Self, Failure> {
        Self::connect(settings, client, &hosts(settings, client, None)?[0]).await
    }

    /// To the host here on which a plugin runs.
    pub(super) async fn of_plugin(
        settings: &'a Settings,
        client: &ClientSettings,
        host: &HostFlags,
        plugin: &str,
    ) -> Result<Self, Failure> {
        let hosts = hosts(settings, client, host.name.as_deref())?;
        if let [host] = &hosts[..] {
            // If it does not run there, the answer will say so.
            return Self::connect(settings, client, host).await;
        }
        let (mut found, mut silent): (Option<Self>, Option<Failure>) = (None, None);
        for host in &hosts {
            let asked = match Self::connect(settings, client, host).await {
                Ok(admin) => admin.plugins().await.map(|names| (admin, names)),
                Err(failure) => Err(failure),
            };
            match (asked, &found) {
                // It matters only when no other runs the plugin.
                (Err(failure), _) => silent = Some(failure.during(format!("host {} does not answer", host.name))),
                (Ok((admin, names)), _) if !names.iter().any(|name| name == plugin) => admin.mesh.close().await,
                (Ok((admin, _)), None) => found = Some(admin),
                (Ok((admin, _)), Some(other)) => {
                    let text = format!("{plugin} runs on {} and on {}; say which with --name", other.name, host.name);
                    admin.mesh.close().await;
                    other.mesh.close().await;
                    return Err(Failure::usage(text));
                }
            }
        }
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let nowhere = || Failure::not_found(format!("no plugin named {plugin} runs here, on {}", names.join(", ")));
        found.ok_or_else(|| silent.unwrap_or_else(nowhere))
    }

    /// Names of the plugins that run there.
    async fn plugins(&self) -> Result<Vec<String>, Failure> {
        let arguments = BTreeMap::from([("do".to_owned(), Ipld::String("plugins".to_owned()))]);
        read(&self.ask(&plugins_procedure(&self.host), arguments).await?)
    }

    /// Asks the node something, by a signed invocation.
    pub(super) async fn ask(&self, procedure: &Topic, arguments: BTreeMap<String, Ipld>) -> Result<Bytes, Failure> {
        self.ask_within(self.timeout, procedure, arguments).await
    }

    /// The same for what may take longer.
    pub(super) async fn ask_within(
        &self,
        timeout: Duration,
        procedure: &Topic,
        arguments: BTreeMap<String, Ipld>,
    ) -> Result<Bytes, Failure> {
        let explained = |failure| with_grantor(failure, self.settings, Operation::Admin, "");
        let invocation = || self.mesh.invocation(Operation::Admin, procedure, self.host, arguments.clone());
        let answer = call_host(&self.mesh, procedure, timeout, invocation).await;
        // Whether something has run is nothing to those who only asked.
        answer.map_err(|fault| explained(fault.into()))?.map_err(|error| match error {
            CallError::NotRun(Fault::Cancelled) | CallError::MaybeRun(Fault::Cancelled) => {
                Failure::new(Kind::Unreachable, format!("host {} has ended", self.name))
            }
            CallError::NotRun(fault) | CallError::MaybeRun(fault) => Failure::from(fault),
            error => Failure::from(error),
        })
    }
}

/// Calls what a host offers. While nobody offers it, the host is waited for, within the time of the call: after a restart of
/// the relay it may be on its way back. Each try has a payload of its own, since an invocation is good for a minute.
///
/// # Errors
/// Outside, why there is no payload; inside, how the call ended.
pub(super) async fn call_host(
    mesh: &Mesh,
    procedure: &Topic,
    timeout: Duration,
    payload: impl Fn() -> Result<Vec<u8>, Fault>,
) -> Result<Result<Bytes, CallError>, Fault> {
    let until = Instant::now() + timeout.min(LINK_RETURN_MAX);
    loop {
        let options = CallOptions { timeout, ..CallOptions::default() };
        let outcome = mesh.call(procedure, &payload()?, &options).await;
        let is_away = matches!(&outcome, Err(CallError::NotRun(fault)) if fault.is_nobody_offers(procedure));
        if !is_away || Instant::now() + HOST_ASK_INTERVAL > until {
            return Ok(outcome);
        }
        sleep(HOST_ASK_INTERVAL).await;
    }
}

/// How often a host that is away is asked for.
const HOST_ASK_INTERVAL: Duration = Duration::from_millis(250);

/// Reads a node's answer.
pub(super) fn read<T: serde::de::DeserializeOwned>(answer: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(answer).map_err(|error| Failure::failed(format!("the node's answer: {error}")))
}

/// A denial with what would lift it: who can grant the right, and with which command. Only for the user of this machine;
/// nothing of it comes from the other side.
pub(super) fn with_grantor(failure: Failure, settings: &Settings, operation: Operation, name: &str) -> Failure {
    let realm = &settings.realm;
    if failure.kind() != Kind::Denied || settings.holds_root_key() {
        return failure;
    }
    let holder =
        settings.home.keys().ok().and_then(|keys| keys.first().map(|(_, key)| NodeId::from(key.verifying_key())));
    let to = holder.map_or_else(|| "DID (macula-host key new NAME makes one)".to_owned(), |id| id.to_string());
    let topic = match name.parse().map(Scope::grantable) {
        Ok(pattern) => format!(" --topic '{pattern}'"),
        Err(_) => String::new(),
    };
    Failure::new(
        Kind::Denied,
        format!(
            "{failure}; who holds the right, at least the realm's root {}, can grant it: macula-host token issue --realm {} \
             --to {to} --can {operation}{topic}; then name the file with --token, or put it into {}",
            realm.root(),
            realm.name(),
            settings.home.path().join("tokens").display(),
        ),
    )
}

/// The relays that nodes of this home run or dial; the most recently named `host` first.
fn running_relays(settings: &Settings) -> Result<Vec<RelayUrl>, Failure> {
    let mut running = settings.home.running()?;
    running.sort_by_key(|node| (node.relay.is_none(), node.name != "host", node.name.clone()));
    let urls: Vec<RelayUrl> = running.iter().flat_map(relays_of).collect();
    if urls.is_empty() {
        let message = "no node is running here; start one with `macula-host run` or name one with --node";
        return Err(Failure::new(Kind::Unreachable, message));
    }
    Ok(urls)
}

fn relays_of(node: &RunningNode) -> Vec<RelayUrl> {
    match node.relay {
        Some(mut address) => {
            address.set_ip(reachable(address.ip()));
            vec![RelayUrl::local(address, node.node)]
        }
        None => node.relays.iter().filter_map(|url| url.parse().ok()).collect(),
    }
}
