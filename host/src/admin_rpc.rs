//! What a node tells of itself: to `macula-host status` over the mesh, and to health and metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use macula_admin::{Check, Metric, MetricKind, Source};
use macula_node::{
    ContentUsage, IncomingCall, LinkState, Mesh, NodeContent, OutOfForce, RelayServer, RelayUrl,
    auth::ucan::Ipld,
    wire::{Fault, NodeId, Operation, Topic},
};
use macula_runtime::{Latencies, PluginState, PluginStatus, Runtime, latency_bounds_us};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::{answering, content_admin, deployment::Deployments, plugin_admin};

/// The procedure under which a node answers for its status.
pub(crate) fn status_procedure(node: &NodeId) -> Topic {
    format!("_mesh.admin.{}.status", node.segment()).parse().expect("an id is one segment")
}

/// The procedure under which a node looks after its content.
pub(crate) fn content_procedure(node: &NodeId) -> Topic {
    format!("_mesh.admin.{}.content", node.segment()).parse().expect("an id is one segment")
}

/// The procedure under which a node tells of the slots that it follows, and takes grants.
pub(crate) fn slots_procedure(node: &NodeId) -> Topic {
    format!("_mesh.admin.{}.slots", node.segment()).parse().expect("an id is one segment")
}

/// The procedure under which a node tells of its plugins: logs, dead letters, and what they are given and send, with its
/// payloads.
pub(crate) fn plugins_procedure(node: &NodeId) -> Topic {
    format!("_mesh.admin.{}.plugins", node.segment()).parse().expect("an id is one segment")
}

/// Collects what there is to tell.
pub(crate) struct NodeReport {
    name: String,
    mesh: Mesh,
    relays: Vec<RelayUrl>,
    relay: Mutex<Option<Arc<RelayServer>>>,
    runtime: Mutex<Option<Runtime>>,
    content: Mutex<Option<NodeContent>>,
    deployments: Mutex<Option<Deployments>>,
    ready: AtomicBool,
    stopping: AtomicBool,
}

/// The answer of [`status_procedure`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) node: NodeId,
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) realm: String,
    /// Addresses of the relays it dials; its own when it embeds one.
    pub(crate) relays: Vec<String>,
    /// Empty when linked; otherwise why not.
    pub(crate) link: String,
    /// Of its own relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) relay: Option<RelayStatus>,
    /// Of its store, if it keeps content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<ContentUsage>,
    pub(crate) plugins: Vec<PluginStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RelayStatus {
    pub(crate) address: String,
    pub(crate) links: u64,
    pub(crate) realms: u64,
    pub(crate) subscriptions: u64,
    pub(crate) offers: u64,
    pub(crate) messages_in: u64,
    pub(crate) messages_out: u64,
    pub(crate) messages_dropped: u64,
    /// Absent in what earlier versions say.
    #[serde(default)]
    pub(crate) messages_abandoned: u64,
    pub(crate) calls_in: u64,
    pub(crate) queued_bytes: u64,
}

impl NodeReport {
    pub(crate) fn new(name: &str, mesh: &Mesh, relay: Option<Arc<RelayServer>>, relays: Vec<RelayUrl>) -> Self {
        Self {
            name: name.to_owned(),
            mesh: mesh.clone(),
            relays,
            relay: Mutex::new(relay),
            runtime: Mutex::new(None),
            content: Mutex::new(None),
            deployments: Mutex::new(None),
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_runtime(&self, runtime: Runtime) {
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
    }

    pub(crate) fn set_content(&self, content: NodeContent) {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = Some(content);
    }

    pub(crate) fn set_deployments(&self, deployments: Deployments) {
        *self.deployments.lock().unwrap_or_else(PoisonError::into_inner) = Some(deployments);
    }

    fn deployments(&self) -> Option<Deployments> {
        self.deployments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn content(&self) -> Option<NodeContent> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Lets go of the relay, so that whoever started it can stop it.
    pub(crate) fn release_relay(&self) {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn status(&self) -> NodeStatus {
        let relay = self.relay().map(|relay| {
            let stats = relay.stats();
            RelayStatus {
                address: relay.address().to_string(),
                links: stats.links,
                realms: stats.realms,
                subscriptions: stats.subscriptions,
                offers: stats.offers,
                messages_in: stats.messages_in,
                messages_out: stats.messages_out,
                messages_dropped: stats.messages_dropped,
                messages_abandoned: stats.messages_abandoned,
                calls_in: stats.calls_in,
                queued_bytes: stats.queued_bytes,
            }
        });
        NodeStatus {
            name: self.name.clone(),
            node: self.mesh.node(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            realm: self.mesh.realm().to_string(),
            relays: self.relays.iter().map(ToString::to_string).collect(),
            link: self.link_trouble().unwrap_or_default(),
            relay,
            content: self.content().map(|content| content.usage()),
            plugins: self.plugins(),
        }
    }

    async fn answer(&self, desk: Desk, arguments: &BTreeMap<String, Ipld>) -> Result<Vec<u8>, Fault> {
        match (desk, self.content()) {
            (Desk::Status, _) => Ok(serde_json::to_vec(&self.status()).expect("a status is plain data")),
            (Desk::Content, Some(content)) => content_admin::answer(&content, arguments).await,
            (Desk::Content, None) => Err(Fault::Unavailable("this node keeps no content".into())),
            (Desk::Slots, _) => match self.deployments() {
                Some(deployments) => answer_slots(&deployments, arguments).await,
                None => Err(Fault::Unavailable("this node follows no slots".into())),
            },
            (Desk::Plugins, _) => match self.runtime() {
                Some(runtime) => plugin_admin::answer(&runtime, arguments).await,
                None => Err(Fault::Unavailable("this node runs no plugins".into())),
            },
        }
    }

    fn relay(&self) -> Option<Arc<RelayServer>> {
        self.relay.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn runtime(&self) -> Option<Runtime> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        self.runtime()
            .map(|runtime| runtime.plugins().iter().map(|plugin| plugin.status()).collect())
            .unwrap_or_default()
    }

    /// What was subscribed to or offered here and is not in force, if anything.
    fn out_of_force(&self) -> Option<String> {
        let OutOfForce { subscriptions, offers } = self.mesh.out_of_force();
        (subscriptions + offers > 0).then(|| {
            format!(
                "{subscriptions} subscriptions and {offers} offers are not in force: their right has expired, or the relay refuses them"
            )
        })
    }

    fn link_trouble(&self) -> Option<String> {
        match &*self.mesh.link().borrow() {
            LinkState::Up(_) => None,
            LinkState::Down { reason, .. } => Some(reason.clone()),
            LinkState::Closed => Some("closed".into()),
        }
    }
}

/// Lists the slots that this node follows, or grants what waits in one.
async fn answer_slots(deployments: &Deployments, arguments: &BTreeMap<String, Ipld>) -> Result<Vec<u8>, Fault> {
    let text = |name: &str| match arguments.get(name) {
        Some(Ipld::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match (text("do"), text("slot"), arguments.get("seq")) {
        (Some("list"), ..) => Ok(serde_json::to_vec(&deployments.rollouts()).expect("plain data")),
        (Some("grant"), Some(slot), Some(Ipld::Integer(seq))) => {
            let seq = u64::try_from(*seq).map_err(|_| Fault::Invalid("seq is out of range".into()))?;
            deployments.grant(slot, seq).await.map(|()| b"true".to_vec())
        }
        _ => Err(Fault::Invalid("nothing that a node does".into())),
    }
}

impl Source for NodeReport {
    fn checks(&self) -> Vec<Check> {
        let stopping = self.stopping.load(Ordering::Relaxed);
        let node = if stopping {
            Check::failing("node", "stopping")
        } else if self.ready.load(Ordering::Relaxed) {
            Check::passing("node")
        } else {
            Check::failing("node", "starting")
        };
        let link = match self.link_trouble() {
            None => Check::passing("link"),
            Some(reason) => Check::failing("link", reason),
        };
        let plugins = self.plugins().into_iter().map(|plugin| {
            let name = format!("plugin {}", plugin.name);
            match plugin.state {
                PluginState::Running | PluginState::Evicted => match plugin.health {
                    None => Check::passing(name),
                    Some(health) => Check::failing(name, health),
                },
                _ => {
                    Check::failing(name, plugin.reason.unwrap_or_else(|| format!("{:?}", plugin.state).to_lowercase()))
                }
            }
        });
        let rights = match self.out_of_force() {
            None => Check::passing("rights"),
            Some(reason) => Check::failing("rights", reason),
        };
        [node, link, rights].into_iter().chain(plugins).collect()
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![Metric::new(
            MetricKind::Gauge,
            "macula_link_up",
            "Whether this node has a link to a relay",
            u64::from(self.link_trouble().is_none()),
        )];
        let OutOfForce { subscriptions, offers } = self.mesh.out_of_force();
        metrics.push(Metric::new(
            MetricKind::Gauge,
            "macula_link_out_of_force",
            "Subscriptions and offers of this node that are not in force",
            (subscriptions + offers) as u64,
        ));
        if let Some(relay) = self.relay() {
            metrics.extend(relay_metrics(&relay.stats()));
        }
        let relay = self.relay();
        let audits = relay.iter().map(|relay| relay.audit()).chain([self.mesh.audit()]);
        for audit in audits {
            metrics.extend(audit_metrics(audit));
        }
        metrics.extend(self.content().iter().flat_map(|content| content_metrics(&content.usage())));
        for plugin in self.plugins() {
            metrics.extend(plugin_metrics(&plugin));
        }
        metrics
    }
}

fn audit_metrics(audit: &macula_node::Audit) -> Vec<Metric> {
    let help = "Denials and changes of rights";
    let metric = |(kind, count)| {
        Metric::new(MetricKind::Counter, "macula_audit_events", help, count)
            .label("event", kind)
            .label("at", audit.at())
    };
    audit.counts().map(metric).collect()
}

fn relay_metrics(stats: &macula_node::RelayStats) -> Vec<Metric> {
    use MetricKind::{Counter, Gauge};
    [
        (Gauge, "macula_relay_links", "Links to this relay", stats.links),
        (Gauge, "macula_relay_realms", "Realms served", stats.realms),
        (Gauge, "macula_relay_subscriptions", "Subscriptions", stats.subscriptions),
        (Gauge, "macula_relay_offers", "Procedures on offer", stats.offers),
        (Gauge, "macula_relay_contents", "Contents provided, counted once for each provider", stats.contents),
        (Gauge, "macula_relay_queued_bytes", "Bytes waiting for subscribers", stats.queued_bytes),
        (Gauge, "macula_relay_calls_pending", "Calls waiting for an answer", stats.calls_pending),
        (Counter, "macula_relay_messages_in", "Messages taken from publishers", stats.messages_in),
        (Counter, "macula_relay_messages_out", "Messages handed to subscribers' links", stats.messages_out),
        (Counter, "macula_relay_messages_dropped", "Messages dropped because a queue was full", stats.messages_dropped),
        (
            Counter,
            "macula_relay_messages_abandoned",
            "Messages that waited for a subscription when it or its link ended",
            stats.messages_abandoned,
        ),
        (Counter, "macula_relay_messages_duplicate", "Messages recognised as sent twice", stats.messages_duplicate),
        (Counter, "macula_relay_messages_looping", "Messages that had passed too many relays", stats.messages_looping),
        (Counter, "macula_relay_messages_denied", "Messages not forwarded for lack of a right", stats.messages_denied),
        (Counter, "macula_relay_denied", "Subscriptions, offers, channels and reads denied", stats.denied),
        (Counter, "macula_relay_calls_in", "Calls taken from callers", stats.calls_in),
        (Counter, "macula_relay_calls_not_run", "Calls that reached no provider", stats.calls_not_run),
        (Counter, "macula_relay_calls_maybe_run", "Calls of unknown outcome", stats.calls_maybe_run),
        (Counter, "macula_relay_retained_refused", "Last values not stored for lack of quota", stats.retained_refused),
        (Counter, "macula_relay_violations", "Links closed for breaking the protocol", stats.violations),
    ]
    .map(|(kind, name, help, value)| Metric::new(kind, name, help, value))
    .into()
}

fn content_metrics(usage: &ContentUsage) -> [Metric; 3] {
    [
        ("macula_content_bytes", "Bytes of content on the disk", usage.bytes),
        ("macula_content_bytes_max", "Bytes of content that may be there", usage.bytes_max),
        ("macula_content_contents", "Contents there, whole or in part", usage.contents),
    ]
    .map(|(name, help, value)| Metric::new(MetricKind::Gauge, name, help, value))
}

fn plugin_metrics(plugin: &PluginStatus) -> Vec<Metric> {
    use MetricKind::{Counter, Gauge};
    let counted = &plugin.metrics;
    let evicted = plugin.state == PluginState::Evicted;
    let running = u64::from(evicted || plugin.state == PluginState::Running);
    let waiting: u64 = plugin.subscriptions.iter().map(|subscription| u64::from(subscription.queued)).sum();
    [
        (Gauge, "macula_plugin_running", "Whether the plugin runs, or would with the next message", running),
        (Gauge, "macula_plugin_evicted", "Whether it has given its memory back", u64::from(evicted)),
        (Gauge, "macula_plugin_memory_bytes", "Linear memory", plugin.memory_bytes),
        (Gauge, "macula_plugin_messages_waiting", "Messages waiting on this host", waiting),
        (Counter, "macula_plugin_messages", "Messages handled", counted.messages),
        (Counter, "macula_plugin_calls", "Calls answered", counted.calls),
        (Counter, "macula_plugin_ticks", "Ticks of timers handled", counted.ticks),
        (Counter, "macula_plugin_published", "Messages published", counted.published),
        (Counter, "macula_plugin_retries", "Messages asked for again", counted.retries),
        (Counter, "macula_plugin_rejected", "Messages refused for good", counted.rejected),
        (Counter, "macula_plugin_dead_letters", "Messages put aside", counted.dead_letters),
        (Counter, "macula_plugin_errors", "Errors returned by handlers", counted.errors),
        (Counter, "macula_plugin_traps", "Instances ended by a trap or for lack of time", counted.traps),
        (Counter, "macula_plugin_restarts", "Instances begun after the first", counted.restarts),
        (Counter, "macula_plugin_denied", "Things asked for without the right", counted.denied),
        (Counter, "macula_plugin_messages_dropped", "Messages dropped because a queue was full", counted.dropped),
        (Counter, "macula_plugin_log_dropped", "Log entries above the quota", counted.log_dropped),
        (Counter, "macula_plugin_guest_nanoseconds", "Time that the plugin's own code has run", counted.guest_ns),
        (Counter, "macula_plugin_host_calls", "Functions of the host called", counted.host_calls),
        (Counter, "macula_plugin_evictions", "Times that it gave its memory back", counted.evictions),
    ]
    .map(|(kind, name, help, value)| Metric::new(kind, name, help, value))
    .into_iter()
    .chain(latency_metrics(&plugin.latencies))
    .map(|metric| metric.label("plugin", plugin.name.as_str()))
    .collect()
}

fn latency_metrics(latencies: &Latencies) -> impl Iterator<Item = Metric> {
    let handlers =
        [("message", &latencies.messages), ("call", &latencies.calls), ("tick", &latencies.ticks)].into_iter();
    handlers.filter(|(_, histogram)| !histogram.is_empty()).map(|(handler, histogram)| {
        let bounds = latency_bounds_us().map(|us| us as f64 / 1e6).into_iter().chain([f64::INFINITY]);
        let buckets = bounds.zip(histogram.counts.iter().copied()).collect();
        let (name, help) = ("macula_plugin_handler_seconds", "How long handlers took, with their waits");
        Metric::histogram(name, help, histogram.sum_ns as f64 / 1e9, buckets).label("handler", handler)
    })
}

/// What is asked for where.
#[derive(Clone, Copy)]
enum Desk {
    Status,
    Content,
    Slots,
    Plugins,
}

/// Answers [`status_procedure`], [`content_procedure`], [`slots_procedure`] and [`plugins_procedure`].
pub(crate) struct AdminRpc {
    tasks: Vec<JoinHandle<()>>,
}

impl AdminRpc {
    pub(crate) fn start(mesh: &Mesh, report: &Arc<NodeReport>) -> Self {
        let serve = |desk| tokio::spawn(serve(mesh.clone(), desk, Arc::clone(report)));
        Self { tasks: vec![serve(Desk::Status), serve(Desk::Content), serve(Desk::Slots), serve(Desk::Plugins)] }
    }

    pub(crate) async fn stop(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }
}

/// Answers at one desk those who may ask.
async fn serve(mesh: Mesh, desk: Desk, report: Arc<NodeReport>) {
    let procedure = match desk {
        Desk::Status => status_procedure(&mesh.node()),
        Desk::Content => content_procedure(&mesh.node()),
        Desk::Slots => slots_procedure(&mesh.node()),
        Desk::Plugins => plugins_procedure(&mesh.node()),
    };
    let asked = mesh.clone();
    answering::serve(mesh, procedure, move |call| answer(asked.clone(), desk, Arc::clone(&report), call)).await;
}

async fn answer(mesh: Mesh, desk: Desk, report: Arc<NodeReport>, call: IncomingCall) {
    let (procedure, caller) = (&call.request.procedure, &call.request.caller);
    // Administration is asked for by a signed invocation, beside the right to call.
    let accepted = mesh.accept_invocation(&call.request.payload, caller, Operation::Admin, procedure);
    let answered = match accepted {
        Ok(arguments) => report.answer(desk, &arguments).await,
        Err(fault) => Err(fault),
    };
    answering::give(call, answered);
}
