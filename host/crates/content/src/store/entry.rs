//! What the index says of one content.

use std::{collections::BTreeSet, fmt};

use macula_wire::{Mcid, PluginName, RealmId};
use serde::{Deserialize, Serialize};

use crate::{Geometry, GroupSet};

/// On whose behalf content is here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Owner {
    /// Whoever runs the node.
    #[serde(rename = "o")]
    Operator,
    /// A plugin in a realm.
    #[serde(rename = "p")]
    Plugin(RealmId, PluginName),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("the operator"),
            Self::Plugin(realm, name) => write!(f, "plugin {name} in realm {}", realm.short()),
        }
    }
}

/// One content, as it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// In bytes, proved.
    #[serde(rename = "s")]
    pub(super) size: u64,
    /// Root of the BLAKE3 tree over it; the MCID's own digest, but for SHA-256.
    #[serde(rename = "r", with = "serde_bytes")]
    pub(super) root: [u8; 32],
    /// The groups that are here; none when all are.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub(super) groups: Option<GroupSet>,
    #[serde(rename = "o")]
    pub(super) owners: BTreeSet<Owner>,
    #[serde(rename = "p", default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) pins: BTreeSet<Owner>,
    /// When it was used last, in ms since 1970.
    #[serde(rename = "u")]
    pub(super) used: u64,
}

impl Entry {
    pub(super) fn is_complete(&self) -> bool {
        self.groups.is_none()
    }

    /// Bytes on the disk, the outboard's among them.
    pub(super) fn bytes(&self) -> u64 {
        bytes_for(self.size)
    }

    pub(super) fn is_visible_to(&self, owner: &Owner) -> bool {
        *owner == Owner::Operator || self.owners.contains(owner)
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry::of(self.size)
    }

    /// The groups that are here.
    pub(super) fn present(&self) -> GroupSet {
        self.groups.clone().unwrap_or_else(|| GroupSet::from(0..self.geometry().groups()))
    }
}

/// Bytes that content of this size takes on the disk.
pub(super) fn bytes_for(size: u64) -> u64 {
    size + Geometry::of(size).outboard_bytes()
}

/// Where the bytes are, and the outboard.
pub(super) fn data_name(content: &Mcid) -> String {
    name(content, "data")
}

/// See [`data_name`].
pub(super) fn tree_name(content: &Mcid) -> String {
    name(content, "tree")
}

fn name(content: &Mcid, suffix: &str) -> String {
    let text = content.as_str();
    format!("data/{}/{text}.{suffix}", &text[text.len() - 2..])
}
