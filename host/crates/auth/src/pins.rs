//! Which root key a realm's name stands for on this node.

use std::collections::BTreeMap;

use macula_wire::{NodeId, RealmName};

/// Realm names and their root keys. A name that is not here has no traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins(BTreeMap<RealmName, NodeId>);

/// Why a realm is not pinned. What was pinned before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The name has another root.
    #[error(
        "realm {name} is pinned to {root} here, and a realm's root never changes; if that pin was wrong: macula-host realm unpin {name}"
    )]
    Name {
        /// The realm.
        name: RealmName,
        /// Its root.
        root: NodeId,
    },
    /// The key is another realm's root: tokens name the root only, so they would count in both.
    #[error("{root} is the root of realm {name} here; each realm has a root key of its own")]
    Root {
        /// The other realm.
        name: RealmName,
        /// The key.
        root: NodeId,
    },
}

impl Pins {
    /// Pins a realm; the same again changes nothing.
    ///
    /// # Errors
    /// See [`PinError`].
    pub fn pin(&mut self, name: RealmName, root: NodeId) -> Result<(), PinError> {
        if let Some(pinned) = self.0.get(&name).filter(|pinned| **pinned != root) {
            return Err(PinError::Name { name, root: *pinned });
        }
        if let Some((other, _)) = self.0.iter().find(|(other, pinned)| **pinned == root && **other != name) {
            return Err(PinError::Root { name: other.clone(), root });
        }
        self.0.insert(name, root);
        Ok(())
    }

    /// The root of a realm.
    pub fn root(&self, name: &RealmName) -> Option<&NodeId> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&RealmName, &NodeId)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;

    #[test]
    fn one_root_a_name_and_one_name_a_root() {
        let mut pins = Pins::default();
        let name = |text: &str| text.parse::<RealmName>().unwrap();
        assert_eq!(pins.pin(name("io.example"), id(1)), Ok(()));
        assert_eq!(pins.pin(name("io.example"), id(1)), Ok(()));
        assert!(matches!(pins.pin(name("io.example"), id(2)), Err(PinError::Name { .. })));
        assert!(matches!(pins.pin(name("io.other"), id(1)), Err(PinError::Root { .. })));
        assert_eq!(pins.root(&name("io.example")), Some(&id(1)));
        assert_eq!(pins.root(&name("io.other")), None);
    }
}
