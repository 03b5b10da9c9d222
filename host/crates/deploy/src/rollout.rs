//! How far a host is with a slot, as it tells everybody.

use macula_wire::{Mcid, NodeId};
use serde::{Deserialize, Serialize};

use crate::Asks;

/// What a host does about the newest record that it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutState {
    /// Follows the slot, and no record has come yet.
    Empty,
    /// Gets the component.
    Fetching,
    /// Compiles it, or reads its native code.
    Preparing,
    /// It asks for more than this host's operator has granted.
    WaitingForGrant,
    /// Gets a share of the work, beside the version that runs.
    Canary,
    /// Starts it beside the version that runs, and lets it take over.
    Starting,
    /// It runs, and is looked at closely.
    OnTrial,
    /// It runs.
    Running,
    /// It failed on trial; the version before takes over again.
    RollingBack,
    /// It was given up; what ran before runs.
    Failed,
}

impl RolloutState {
    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Running | Self::Failed)
    }
}

/// How far a host is with a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The slot.
    pub slot: String,
    /// The host.
    pub node: NodeId,
    /// What people call it: its name in its own home. Its own word, and for reading only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The plugin that runs, by name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// What it does about record `seq`.
    pub state: RolloutState,
    /// The newest record that was taken; 0 when there is none.
    pub seq: u64,
    /// What that record asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcid: Option<Mcid>,
    /// What runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Mcid>,
    /// Of the record that brought it; 0 when nothing runs.
    #[serde(default)]
    pub running_seq: u64,
    /// What is wrong, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is asked for beyond what is granted.
    #[serde(default, skip_serializing_if = "Asks::is_empty")]
    pub beyond: Asks,
    /// The record has expired: what runs goes on, and no new host takes it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// When this was said, in unix milliseconds.
    pub at: u64,
}
