//! `macula-host status`

use clap::Args;
use indicatif::HumanBytes;
use macula_node::RunningNode;
use macula_runtime::{Histogram, PluginStatus};

use super::{ClientFlags, CommonFlags, client, client_runtime};
use crate::{
    admin_rpc::{NodeStatus, status_procedure},
    config::{ClientSettings, Settings},
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Name of the node [default: all that run here]
    name: Option<String>,
    #[command(flatten)]
    client: ClientFlags,
}

impl Status {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        let client = settings.client(&self.client)?;
        let mut running = settings.home.running()?;
        running.retain(|node| self.name.as_ref().is_none_or(|name| *name == node.name));
        if running.is_empty() {
            let which = self.name.map(|name| format!(" named {name:?}")).unwrap_or_default();
            return Err(Failure::not_found(format!(
                "no node{which} is running here; start one with `macula-host run`"
            )));
        }
        client_runtime()?.block_on(async {
            let mut first = None;
            for node in &running {
                match ask(&settings, &client, node).await {
                    Ok(status) if common.json => drop(output::json(&status)),
                    Ok(status) => drop(output::line(describe(&status, common))),
                    // The others are told of all the same.
                    Err(failure) => {
                        let failure =
                            failure.during(format!("node {} (process {}) does not answer", node.name, node.pid));
                        if let Some(earlier) = first.replace(failure) {
                            output::print_failure(&earlier, output::Format::of(common.json));
                        }
                    }
                }
            }
            first.map_or(Ok(()), Err)
        })
    }
}

pub(super) async fn ask(
    settings: &Settings,
    client: &ClientSettings,
    node: &RunningNode,
) -> Result<NodeStatus, Failure> {
    let admin = client::Admin::connect(settings, client, node).await?;
    let answer = admin.ask(&status_procedure(&admin.host), Default::default()).await;
    admin.mesh.close().await;
    serde_json::from_slice(&answer?)
        .map_err(|error| Failure::failed(format!("node {}: unreadable status: {error}", node.name)))
}

/// Plugins that run on the nodes here; none of those that do not answer.
pub(super) async fn plugins_here(settings: &Settings, client: &ClientSettings) -> Vec<PluginStatus> {
    let mut plugins = Vec::new();
    for node in settings.home.running().unwrap_or_default() {
        plugins.extend(ask(settings, client, &node).await.into_iter().flat_map(|told| told.plugins));
    }
    plugins
}

/// How long most handlers of a kind took, and nearly all.
fn latency(histogram: &Histogram, what: &str) -> Option<String> {
    let within = |share| match histogram.quantile_us(share) {
        Some(us @ ..1000) => format!("{us} µs"),
        Some(us) => format!("{} ms", us.div_ceil(1000)),
        None => "more than 17 s".to_owned(),
    };
    let text = || format!("    half of its {what} took at most {}, 99 % {}", within(0.5), within(0.99));
    (!histogram.is_empty()).then(text)
}

fn describe(status: &NodeStatus, common: &CommonFlags) -> String {
    let mut lines = vec![format!(
        "{} ({}), process {}, version {}",
        status.name,
        common.id(&status.node),
        status.pid,
        status.version
    )];
    let link = if status.link.is_empty() { "linked".to_owned() } else { format!("no link: {}", status.link) };
    lines.push(format!("  realm {}, {link} via {}", status.realm, status.relays.join(", ")));
    if let Some(relay) = &status.relay {
        lines.push(format!(
            "  relay {}: {} links, {} subscriptions, {} procedures; {} messages in, {} out, {} dropped, {} abandoned; {} calls",
            relay.address,
            relay.links,
            relay.subscriptions,
            relay.offers,
            relay.messages_in,
            relay.messages_out,
            relay.messages_dropped,
            relay.messages_abandoned,
            relay.calls_in,
        ));
    }
    if let Some(content) = &status.content {
        let (bytes, bytes_max) = (HumanBytes(content.bytes), HumanBytes(content.bytes_max));
        lines.push(format!("  content {bytes} of {bytes_max}, {} stored", content.contents));
    }
    for plugin in &status.plugins {
        let state = format!("{:?}", plugin.state).to_lowercase();
        let counted = &plugin.metrics;
        lines.push(format!(
            "  plugin {} {} {state}: {} messages, {} calls, {} errors, {} traps, {:.1} MiB",
            plugin.name,
            plugin.version,
            counted.messages,
            counted.calls,
            counted.errors,
            counted.traps,
            plugin.memory_bytes as f64 / f64::from(1 << 20),
        ));
        lines.extend(latency(&plugin.latencies.messages, "messages"));
        lines.extend(latency(&plugin.latencies.calls, "calls"));
        lines.extend(latency(&plugin.latencies.ticks, "ticks"));
        for detail in plugin.reason.iter().chain(&plugin.health).chain(&plugin.lost_state) {
            lines.push(format!("    {}", output::readable(detail)));
        }
    }
    lines.join("\n")
}
