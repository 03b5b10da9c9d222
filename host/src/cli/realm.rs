//! `macula-host realm new|pin|unpin|list`

use clap::{Args, Subcommand};
use macula_node::{
    RealmEntry,
    wire::{NodeId, RealmName},
};

use super::{CommonFlags, home};
use crate::{failure::Failure, output};

#[derive(Debug, Args)]
pub(super) struct Realm {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a realm: its root key stays here, its did:key is what others pin
    New {
        /// For example io.example
        name: RealmName,
    },
    /// Say which root key a realm's name stands for on this machine
    Pin {
        /// For example io.example
        name: RealmName,
        /// The did:key of the realm's root
        root: NodeId,
    },
    /// Forget which root key a realm's name stands for, if it was pinned wrongly
    Unpin {
        /// For example io.example
        name: RealmName,
    },
    /// Print the realms that are known here
    List,
}

impl Realm {
    pub(super) fn run(self, common: &CommonFlags) -> Result<(), Failure> {
        let home = home()?;
        match self.action {
            Action::New { name } => {
                let root = home.new_realm(&name)?;
                print(&RealmEntry { name, root, has_key: true }, common);
                if output::is_watched() && !common.json {
                    let path = home.path().join("realms");
                    output::note(format!("the root key is in {}: whoever has it is the realm", path.display()));
                }
            }
            Action::Pin { name, root } => {
                home.pin_realm(&name, &root)?;
                let has_key = home.realm_key(&name)?.is_some();
                print(&RealmEntry { name, root, has_key }, common);
            }
            Action::Unpin { name } => {
                if !home.unpin_realm(&name)? {
                    return Err(Failure::not_found(format!("realm {name} is not pinned here")));
                }
                if common.json {
                    output::json(&serde_json::json!({ "realm": name, "unpinned": true }));
                } else {
                    output::line(format_args!("{name} is not pinned any more"));
                }
            }
            Action::List => {
                home.local_realm()?;
                home.realms()?.iter().for_each(|realm| print(realm, common));
            }
        }
        Ok(())
    }
}

fn print(realm: &RealmEntry, common: &CommonFlags) {
    let RealmEntry { name, root, has_key } = realm;
    if common.json {
        output::json(&serde_json::json!({ "realm": name, "root": root, "has-key": has_key }));
    } else {
        let whose = if *has_key { "root key here" } else { "pinned" };
        output::line(format_args!("{name} {root} ({whose})"));
    }
}
