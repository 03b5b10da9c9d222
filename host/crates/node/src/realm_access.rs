//! A realm as a member holds it.

use std::fmt;

use ed25519_dalek::SigningKey;
use macula_wire::{NodeId, RealmName, control::RealmProof};

/// A realm's name and what proves membership in it: for now its root key, which only the local user's processes hold.
#[derive(Clone)]
pub struct RealmKeys {
    name: RealmName,
    root: SigningKey,
}

impl RealmKeys {
    /// The realm `name` under this root key.
    pub fn new(name: RealmName, root: SigningKey) -> Self {
        Self { name, root }
    }

    /// Its name.
    pub fn name(&self) -> &RealmName {
        &self.name
    }

    /// Its root key's public half.
    pub fn root(&self) -> NodeId {
        self.root.verifying_key().into()
    }

    /// Lets `node` in on the session with this exporter.
    pub(crate) fn proof(&self, exporter: &[u8; 32], node: &NodeId) -> RealmProof {
        RealmProof::by_root(&self.root, exporter, node, &self.name)
    }
}

impl fmt::Debug for RealmKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RealmKeys({} under {})", self.name, self.root().short())
    }
}
