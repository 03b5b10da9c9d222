//! `macula-host key show|new|list`

use clap::{Args, Subcommand};
use macula_node::{Home, wire::NodeId};

use super::{CommonFlags, home};
use crate::{failure::Failure, output};

#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the did:key of a node
    Show {
        /// Name of the node
        #[arg(default_value = "host")]
        name: String,
    },
    /// Make the key of a node that has none yet
    New {
        /// Name of the node
        name: String,
    },
    /// Print all nodes of this home
    List,
}

impl Key {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let home = home()?;
        let nodes = home.nodes()?;
        let is_known = |name: &str| nodes.iter().any(|known| known == name);
        match self.action {
            Action::List => list(&home, &nodes, common)?,
            Action::Show { name } if is_known(&name) => {
                print(&name, &home.node_key(&name)?, common);
                if let Some(relay) = home.relay_key(&name)? {
                    print(&format!("{name}/relay"), &relay, common);
                }
            }
            Action::Show { name } => {
                let message = format!("there is no node named {name:?} in {}", home.path().display());
                return Err(Failure::not_found(message));
            }
            Action::New { name } if is_known(&name) => {
                return Err(Failure::failed(format!("node {name:?} has a key; keys are never replaced")));
            }
            Action::New { name } => print(&name, &home.node_key(&name)?, common),
        }
        Ok(())
    }
}

/// Prints every key that can be read; one that cannot is the failure, in the end.
fn list(home: &Home, nodes: &[String], common: &CommonFlags) -> Result<(), Failure> {
    let mut failure = None;
    for name in nodes {
        match home.node_key(name) {
            Ok(id) => {
                print(name, &id, common);
                if let Ok(Some(relay)) = home.relay_key(name) {
                    print(&format!("{name}/relay"), &relay, common);
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

fn print(name: &str, id: &NodeId, common: &CommonFlags) {
    if common.json {
        output::json(&serde_json::json!({ "name": name, "did": id }));
    } else {
        output::line(format_args!("{name} {id}"));
    }
}
