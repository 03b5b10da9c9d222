//! Deployment slots as delegations name them.

use std::{fmt, str::FromStr, sync::Arc};

use macula_wire::{NodeId, Pattern, SEGMENT_BYTES_MAX, Topic};

use crate::{Namespace, NamespaceError};

/// A place for a deployed plugin: a namespace and a label, `io.example.app/alerts`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(Arc<str>);

/// Why text is no [`Slot`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// Not two parts with a `/` between them, or a label that is none.
    #[error("{0:?} is no slot (expected a namespace and a label of a-z, 0-9 and '-', like io.example.app/alerts)")]
    Form(String),
    /// What stands before the `/` is no namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

impl Slot {
    /// The slot as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The slot as a name that rights are about: `io.example.app/alerts` is `io.example.app.alerts`.
    pub fn topic(&self) -> Topic {
        self.0.replace('/', ".").parse().expect("a namespace has room for one more segment")
    }

    /// Where its records are: the newest is the topic's retained value. `None` when the slot has too many labels for it.
    pub fn record_topic(&self) -> Option<Topic> {
        format!("{SLOTS_PREFIX}{}", self.topic()).parse().ok()
    }

    /// Where `node` says how far it is with it. `None` as above.
    pub fn rollout_topic(&self, node: &NodeId) -> Option<Topic> {
        format!("{ROLLOUTS_PREFIX}{}.{}", node.segment(), self.topic()).parse().ok()
    }

    /// The same of all nodes.
    pub fn rollout_pattern(&self) -> Option<Pattern> {
        format!("{ROLLOUTS_PREFIX}*.{}", self.topic()).parse().ok()
    }
}

/// Topics that records of slots are on.
const SLOTS_PREFIX: &str = "_mesh.slots.";
/// Topics on which nodes say how far they are; a node writes only below its own id.
const ROLLOUTS_PREFIX: &str = "_mesh.rollouts.";
/// Procedures that take records.
const DEPLOYMENT_PROCEDURES: [&str; 2] = ["_mesh.deploy", "_mesh.registry"];
/// Topics that records of packages are on.
const PACKAGES_PREFIX: &str = "_mesh.packages.";

/// Whether a name (or pattern) is of those by which code gets to hosts. What is there proves itself by signatures, so it
/// is open to all who may fetch content.
pub(crate) fn is_about_deployment(name: &str) -> bool {
    [SLOTS_PREFIX, ROLLOUTS_PREFIX, PACKAGES_PREFIX].iter().any(|prefix| name.starts_with(prefix))
        || DEPLOYMENT_PROCEDURES.contains(&name)
}

/// Whether `node` may write to `topic` as far as that is about whose word it is: how far a node is, only the node says.
pub fn may_speak_for(node: &NodeId, topic: &Topic) -> bool {
    match topic.strip_prefix(ROLLOUTS_PREFIX) {
        Some(rest) => rest.split('.').next() == Some(&*node.segment()),
        None => true,
    }
}

impl FromStr for Slot {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Self, SlotError> {
        let form = || SlotError::Form(text.chars().take(80).collect());
        let (namespace, label) = text.split_once('/').ok_or_else(form)?;
        namespace.parse::<Namespace>()?;
        let is_label = (1..=SEGMENT_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if is_label { Ok(Self(text.into())) } else { Err(form()) }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        assert_eq!("io.example.app/alerts".parse::<Slot>().unwrap().as_str(), "io.example.app/alerts");
        for bad in ["io.example.app", "/alerts", "io.example/", "io.example/a/b", "io.example/A", "io.Example/a"] {
            assert!(bad.parse::<Slot>().is_err(), "{bad}");
        }
    }

    #[test]
    fn has_topics_of_its_own() {
        let (slot, node) = ("io.example/alerts".parse::<Slot>().unwrap(), crate::testing::id(1));
        assert_eq!(slot.topic().as_str(), "io.example.alerts");
        assert_eq!(slot.record_topic().unwrap().as_str(), "_mesh.slots.io.example.alerts");
        let rollout = slot.rollout_topic(&node).unwrap();
        assert!(slot.rollout_pattern().unwrap().matches(&rollout));
        assert!(may_speak_for(&node, &rollout) && !may_speak_for(&crate::testing::id(2), &rollout));
        assert!(may_speak_for(&node, &slot.record_topic().unwrap()));
        let deep: Slot = format!("{}/x", ["a"; 15].join(".")).parse().unwrap();
        assert!(deep.record_topic().is_none() && deep.rollout_topic(&node).is_none());
        assert_eq!(deep.topic().as_str().split('.').count(), 16);
    }
}
