//! `macula-host dev [DIR]`: runs a project and what is made of it, as it is made.

use std::path::PathBuf;

use clap::Args;

use super::{CommonFlags, NodeFlags};
use crate::{
    compose::{self, Purpose},
    config::{Settings, Table},
    dev::{self, Project},
    failure::Failure,
    output::Format,
};

#[derive(Debug, Args)]
pub(super) struct Dev {
    /// Folder with the plugin's source
    #[arg(default_value = ".")]
    directory: PathBuf,
    #[command(flatten)]
    node: NodeFlags,
}

impl Dev {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        dev::check(&self.directory)?;
        let settings = Settings::load(common)?;
        let node = settings.node(&self.node, Table::Node, "dev")?;
        let tools = super::home()?.path().join("build");
        let project = Project { folder: self.directory.canonicalize()?, tools };
        let store = settings.store(None, None)?;
        let publish_logs = settings.publish_logs(None)?;
        let purpose =
            Purpose::Host { plugins: Vec::new(), follow: Vec::new(), store, publish_logs, project: Some(project) };
        compose::run(&settings, &node, purpose, Format::of(common.json))
    }
}
