//! `macula-host key show|new|list`

use clap::{Args, Subcommand};
use macula_node::{Home, wire::NodeId};

use super::CommonFlags;
use crate::{config::Environment, failure::Failure, output};

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
        let home = match Environment::read()?.home {
            Some(path) => Home::open(path)?,
            None => Home::open(Home::default_path()?)?,
        };
        let nodes = home.nodes()?;
        let known = |name: &str| nodes.iter().find(|(known, _)| known == name).map(|(_, id)| *id);
        match self.action {
            Action::List => nodes.iter().for_each(|(name, id)| print(name, id, common)),
            Action::Show { name } => match known(&name) {
                Some(id) => print(&name, &id, common),
                None => {
                    return Err(Failure::not_found(format!(
                        "there is no node named {name:?} in {}",
                        home.path().display()
                    )));
                }
            },
            Action::New { name } => match known(&name) {
                Some(_) => return Err(Failure::failed(format!("node {name:?} has a key; keys are never replaced"))),
                None => print(&name, &home.node_key(&name)?, common),
            },
        }
        Ok(())
    }
}

fn print(name: &str, id: &NodeId, common: &CommonFlags) {
    if common.json {
        output::json(&serde_json::json!({ "name": name, "did": id }));
    } else {
        output::line(format_args!("{name} {id}"));
    }
}
