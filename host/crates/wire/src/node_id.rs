//! The identity of a node or a client: an Ed25519 public key, written as a `did:key`.

use std::{fmt, str::FromStr};

use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Multicodec prefix of an Ed25519 public key (`0xed` as unsigned varint).
const ED25519_MULTICODEC: [u8; 2] = [0xed, 0x01];

/// Who signs: an Ed25519 public key that is neither weak nor malformed.
///
/// Text form: `did:key:z6Mk…` (56 bytes, did:key method with multibase base58btc); [`NodeId::short`] for logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; 32]);

/// Why bytes or text are not a [`NodeId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeIdError {
    /// The text does not begin with `did:key:z`, or what follows is not base58btc of a 34-byte key.
    #[error("{0:?} is no did:key of an Ed25519 key (expected did:key:z6Mk…)")]
    Text(String),
    /// The bytes are no point of the curve, one of small order, whose signatures prove nothing, or not the usual spelling.
    #[error("not a usable Ed25519 public key")]
    Key,
}

impl NodeId {
    /// Takes the 32 bytes of a public key.
    ///
    /// # Errors
    /// [`NodeIdError::Key`] for bytes that no honest signer can own.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, NodeIdError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| NodeIdError::Key)?;
        if key.is_weak() || !is_reduced(bytes) { Err(NodeIdError::Key) } else { Ok(Self(*bytes)) }
    }

    /// The 32 bytes of the public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key, to verify signatures with.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey::from_bytes(&self.0).expect("checked when the id was made")
    }

    /// The part of the did:key that differs between keys, as one topic segment: `z6Mk…`.
    pub fn segment(&self) -> String {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&ED25519_MULTICODEC);
        bytes[2..].copy_from_slice(&self.0);
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// Eight characters that tell nodes apart in logs.
    pub fn short(&self) -> String {
        let text = self.segment();
        text[text.len() - 8..].to_owned()
    }
}

/// Whether the coordinate is below 2^255 − 19; above, it is a second spelling of a smaller one (RFC 8032 section 5.1.3).
fn is_reduced(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    *first < 0xed || last & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

impl From<VerifyingKey> for NodeId {
    fn from(key: VerifyingKey) -> Self {
        Self(key.to_bytes())
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let refused = || NodeIdError::Text(text.chars().take(80).collect());
        let encoded = text.strip_prefix("did:key:").unwrap_or(text);
        let digits = encoded.strip_prefix('z').filter(|digits| digits.len() < 64).ok_or_else(refused)?;
        let bytes = bs58::decode(digits).into_vec().map_err(|_| refused())?;
        let key: [u8; 32] =
            bytes.strip_prefix(&ED25519_MULTICODEC).and_then(|key| key.try_into().ok()).ok_or_else(refused)?;
        let id = Self::from_bytes(&key)?;
        // base58 has more than one spelling for some inputs; only the canonical one names a key.
        if id.segment() == encoded { Ok(id) } else { Err(refused()) }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "did:key:{}", self.segment())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serde_bytes::Bytes::new(&self.0).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            let bytes = serde_bytes::ByteArray::<32>::deserialize(deserializer)?;
            Self::from_bytes(&bytes).map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seed: u8) -> NodeId {
        ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().into()
    }

    #[test]
    fn text_form_round_trips_and_is_the_published_one() {
        for seed in 0..20 {
            let id = id(seed);
            assert_eq!(id.to_string().parse::<NodeId>().unwrap(), id);
            assert!(id.to_string().starts_with("did:key:z6Mk"));
            assert_eq!(id.segment().parse::<NodeId>().unwrap(), id);
        }
        // The example key of the did:key method specification.
        let spec = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
        assert_eq!(spec.parse::<NodeId>().unwrap().to_string(), spec);
    }

    #[test]
    fn refuses_what_is_no_key() {
        for text in [
            "",
            "did:key:",
            "did:key:z",
            "did:web:example.org",
            "did:key:z6Mk",
            "did:key:zzzzz",
            "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doL1",
        ] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
        assert_eq!(NodeId::from_bytes(&[0; 32]), Err(NodeIdError::Key), "small order");
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(NodeId::from_bytes(&identity), Err(NodeIdError::Key));
        // y = p + 3, in place of 3.
        let mut unreduced = [0xff; 32];
        (unreduced[0], unreduced[31]) = (0xf0, 0x7f);
        let mut reduced = [0; 32];
        reduced[0] = 3;
        assert_eq!(NodeId::from_bytes(&unreduced), Err(NodeIdError::Key));
        assert!(NodeId::from_bytes(&reduced).is_ok());
    }
}
