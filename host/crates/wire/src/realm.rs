//! Realms: isolated name spaces, each named by a root key and a name.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// A realm's name in reverse DNS form: 2–8 labels of `[a-z0-9-]{1,63}`, at most 253 bytes, for example `local.dev`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RealmName(Arc<str>);

/// Why text is no realm name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no realm name (expected 2 to 8 labels of a-z, 0-9 and '-', joined by '.', like io.example)")]
pub struct RealmNameError(String);

impl RealmName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RealmName {
    type Err = RealmNameError;

    fn from_str(text: &str) -> Result<Self, RealmNameError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let labels = text.split('.').count();
        if text.len() <= 253 && (2..=8).contains(&labels) && text.split('.').all(label) {
            Ok(Self(text.into()))
        } else {
            Err(RealmNameError(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for RealmName {
    type Error = RealmNameError;
    fn try_from(text: String) -> Result<Self, RealmNameError> {
        text.parse()
    }
}

impl From<RealmName> for String {
    fn from(name: RealmName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for RealmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RealmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RealmName({})", self.0)
    }
}

/// What relays route by: BLAKE3 over the realm's root key and its name.
///
/// Two realms of the same name under different root keys have nothing in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RealmId(#[serde(with = "serde_bytes")] [u8; 32]);

impl RealmId {
    /// The id of the realm `name` under `root`.
    pub fn new(root: &NodeId, name: &RealmName) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("macula realm id 1");
        hasher.update(root.as_bytes());
        hasher.update(name.as_str().as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// An id as it came from elsewhere.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Eight hexadecimal digits that tell realms apart in logs.
    pub fn short(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex()[..8].to_owned()
    }
}

impl fmt::Debug for RealmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RealmId({})", self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["local.dev", "io.example", "io.my-app.v2"] {
            assert_eq!(good.parse::<RealmName>().unwrap().as_str(), good);
        }
        for bad in
            ["", "local", "Local.dev", "a..b", ".a.b", "a.b.", "a_b.c", "-a.b", "a-.b", "a.b.c.d.e.f.g.h.i", "ä.b"]
        {
            assert!(bad.parse::<RealmName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_depend_on_root_and_name() {
        let root = |seed| NodeId::from(ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key());
        let name = |text: &str| text.parse::<RealmName>().unwrap();
        let id = RealmId::new(&root(1), &name("local.dev"));
        assert_eq!(id, RealmId::new(&root(1), &name("local.dev")));
        assert_ne!(id, RealmId::new(&root(2), &name("local.dev")));
        assert_ne!(id, RealmId::new(&root(1), &name("local.test")));
    }
}
