//! `macula-host run [FILE.wasm|DIR|MCID|NAME@VERSION]... [--follow SLOT]...`

use std::path::{Path, PathBuf};

use clap::Args;
use macula_node::auth::Slot;
use macula_runtime::LogLevel;

use super::{CommonFlags, NodeFlags, build};
use crate::{
    compose::{self, Purpose},
    config::{self, Settings, Table},
    failure::Failure,
    given_plugins::{Component, GivenPlugin},
    named_component::Named,
    output::Format,
    reload,
};

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Components (FILE.wasm), folders with the source of a plugin, which are built first, content ids, which are fetched, or
    /// packages of the registry (io.example.greeter@1.2.0, or the newest that fits: io.example.greeter@^1)
    #[arg(value_name = "FILE.wasm|DIR|MCID|NAME@VERSION")]
    plugins: Vec<PathBuf>,
    /// Manifest to use in place of FILE.toml beside the component; for one plugin only
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Run what is deployed to this slot, from one version to the next (repeat for more): io.example.app/alerts
    #[arg(long, value_name = "SLOT")]
    follow: Vec<Slot>,
    /// Content that this host keeps at most [default: 10GiB]
    #[arg(long, value_name = "SIZE", value_parser = config::size)]
    content_max: Option<u64>,
    /// Content that one plugin may have of it [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = config::size)]
    plugin_content_max: Option<u64>,
    /// Publish the plugins' logs to _mesh.logs.PLUGIN, from this level on: trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL", value_parser = config::log_level)]
    publish_logs: Option<LogLevel>,
    #[command(flatten)]
    node: NodeFlags,
}

impl Run {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        if self.manifest.is_some() && self.plugins.len() != 1 {
            return Err(Failure::usage("--manifest goes with exactly one plugin"));
        }
        // Building takes its time, and who asks meanwhile is heard afterwards.
        reload::hold();
        let settings = Settings::load(common)?;
        let node = settings.node(&self.node, Table::Node, "host")?;
        let mut plugins = Vec::new();
        for path in &self.plugins {
            plugins.push(GivenPlugin { component: component(path)?, manifest: self.manifest.clone() });
        }
        let store = settings.store(self.content_max, self.plugin_content_max)?;
        let publish_logs = settings.publish_logs(self.publish_logs)?;
        let purpose = Purpose::Host { plugins, follow: self.follow, store, publish_logs, project: None };
        compose::run(&settings, &node, purpose, Format::of(common.json))
    }
}

/// The component to run: a file as it is, a folder after building it, a content id as such.
fn component(path: &Path) -> Result<Component, Failure> {
    Ok(match Named::parse(path)? {
        Named::Folder => Component::File(build::build(path, None)?.component),
        Named::File => Component::File(path.to_owned()),
        Named::Content(mcid) => Component::Content(mcid),
        Named::Package(query) => Component::Package(query),
        Named::Nothing => {
            return Err(Failure::not_found(format!("there is no file or folder {}", path.display())));
        }
    })
}
