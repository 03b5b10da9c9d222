//! `macula-host relay`

use clap::Args;

use super::{CommonFlags, NodeFlags};
use crate::{
    compose::{self, Purpose},
    config::{Settings, Table},
    failure::Failure,
    output::Format,
};

#[derive(Debug, Args)]
pub(super) struct Relay {
    #[command(flatten)]
    node: NodeFlags,
}

impl Relay {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let settings = Settings::load(common)?;
        let node = settings.node(&self.node, Table::Relay, "relay")?;
        if !node.relays.is_empty() {
            return Err(Failure::usage("relays do not link to other relays yet; start it without --relay"));
        }
        compose::run(&settings, &node, Purpose::Relay, Format::of(common.json))
    }
}
