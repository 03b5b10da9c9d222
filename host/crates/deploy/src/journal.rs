//! What a host remembers of a slot over a restart. Written to the disk, and synced, before anything is done about it.

use macula_wire::Mcid;
use serde::{Deserialize, Serialize};

use crate::{Asks, Held};

/// Versions that are kept besides the one that runs, so that going back needs nobody else.
pub const VERSIONS_KEPT: usize = 3;

/// A version of a slot's plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Of the record that brought it.
    pub seq: u64,
    /// What it is.
    #[serde(flatten)]
    pub held: Held,
}

/// The newest record that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What it asks for.
    #[serde(flatten)]
    pub version: Version,
    /// Its id.
    pub id: String,
    /// The last second in which it is taken, in unix seconds.
    pub expires: u64,
    /// Percent of the work that it gets at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<u8>,
    /// It begins without the state of the version that runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drop_state: bool,
    /// Why what it asks for was tried and given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Journal {
    /// The newest record that was taken; lower numbers are refused for ever.
    pub accepted: Option<Accepted>,
    /// The version that has stood the test, and runs after a restart.
    pub running: Option<Version>,
    /// Versions before it, the newest first.
    pub kept: Vec<Version>,
    /// What versions in this slot may do, by this host's operator.
    pub granted: Asks,
}

impl Journal {
    /// A version has stood the test.
    pub(crate) fn promote(&mut self, version: Version) {
        let before = self.running.replace(version);
        let running = self.running.as_ref().map(|version| &version.held);
        self.kept.retain(|kept| Some(&kept.held) != running);
        if let Some(before) = before.filter(|before| Some(&before.held) != running) {
            self.kept.retain(|kept| kept.held != before.held);
            self.kept.insert(0, before);
        }
        self.kept.truncate(VERSIONS_KEPT);
    }

    /// Components that must not be evicted: those that run, are to run, and are kept to go back to.
    pub fn pinned(&self) -> Vec<Mcid> {
        let accepted = self.accepted.iter().filter(|accepted| accepted.failed.is_none()).map(|one| &one.version);
        let mut mcids: Vec<Mcid> =
            self.running.iter().chain(&self.kept).chain(accepted).map(|version| version.held.mcid.clone()).collect();
        mcids.sort_unstable();
        mcids.dedup();
        mcids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(seq: u64, name: &str) -> Version {
        Version { seq, held: Held { mcid: Mcid::of(name.as_bytes()), manifest: None } }
    }

    #[test]
    fn three_versions_before_are_kept_each_once() {
        let mut journal = Journal::default();
        for (seq, name) in ["a", "b", "a", "c", "d", "e", "f"].into_iter().enumerate() {
            journal.promote(version(seq as u64 + 1, name));
        }
        assert_eq!(journal.running, Some(version(7, "f")));
        assert_eq!(journal.kept, [version(6, "e"), version(5, "d"), version(4, "c")]);
        assert_eq!(journal.pinned().len(), 4);
        let mut journal = Journal::default();
        for (seq, name) in ["a", "b", "a"].into_iter().enumerate() {
            journal.promote(version(seq as u64 + 1, name));
        }
        assert_eq!(journal.kept, [version(2, "b")]);
    }
}
