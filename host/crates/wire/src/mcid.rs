//! Content ids: what bytes are called, made from them.

use std::{fmt, str::FromStr, sync::Arc};

use cid::Cid;
use multihash::Multihash;
use serde::{Deserialize, Serialize};

/// Multicodec of raw bytes.
const RAW: u64 = 0x55;
/// Multicodec of BLAKE3.
const BLAKE3: u64 = 0x1e;
/// Multicodec of SHA-256.
const SHA2_256: u64 = 0x12;

/// A content id: CIDv1 of raw bytes in lower-case base32, `bafkr4i…` (BLAKE3-256) or `bafkrei…` (SHA-256).
///
/// Cheap to clone; [`Mcid::short`] for logs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mcid {
    digest: Digest,
    text: Arc<str>,
}

/// A hash, and which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// BLAKE3-256: any part can be verified by itself.
    Blake3([u8; 32]),
    /// SHA-256: verified when all is there.
    Sha256([u8; 32]),
}

/// Why text is no [`Mcid`]; holds the text, cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no content id (expected CIDv1 in base32, like bafkr4i… or bafkrei…)")]
pub struct McidError(String);

impl Mcid {
    /// The id of `bytes`, by BLAKE3.
    pub fn of(bytes: &[u8]) -> Self {
        Digest::Blake3(*blake3::hash(bytes).as_bytes()).into()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The hash that it names.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// In binary: version, codec, hash, its length, and the digest.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let (code, digest) = self.digest.parts();
        let mut bytes = [0; Self::BYTES];
        // Each of these numbers is below 128: its varint is itself.
        bytes[..4].copy_from_slice(&[1, RAW as u8, code as u8, 32]);
        bytes[4..].copy_from_slice(digest);
        bytes
    }

    /// From its binary form.
    ///
    /// # Errors
    /// It is none; the error shows the bytes in hex.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, McidError> {
        let cid = Cid::try_from(bytes).ok().filter(|cid| cid.encoded_len() == bytes.len());
        let digest = cid.and_then(|cid| Digest::of_cid(&cid));
        digest
            .map(Self::from)
            .ok_or_else(|| McidError(bytes.iter().take(40).map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Of its binary form.
    pub const BYTES: usize = 36;

    /// Twelve characters that tell components apart in logs.
    pub fn short(&self) -> &str {
        &self.text[self.text.len().saturating_sub(12)..]
    }
}

impl Digest {
    fn parts(&self) -> (u64, &[u8; 32]) {
        match self {
            Self::Blake3(digest) => (BLAKE3, digest),
            Self::Sha256(digest) => (SHA2_256, digest),
        }
    }

    fn of_cid(cid: &Cid) -> Option<Self> {
        let digest = <[u8; 32]>::try_from(cid.hash().digest()).ok()?;
        match (cid.version(), cid.codec(), cid.hash().code()) {
            (cid::Version::V1, RAW, BLAKE3) => Some(Self::Blake3(digest)),
            (cid::Version::V1, RAW, SHA2_256) => Some(Self::Sha256(digest)),
            _ => None,
        }
    }
}

impl From<Digest> for Mcid {
    fn from(digest: Digest) -> Self {
        let (code, bytes) = digest.parts();
        let hash = Multihash::<64>::wrap(code, bytes).expect("32 bytes fit into 64");
        Self { digest, text: Cid::new_v1(RAW, hash).to_string().into() }
    }
}

impl FromStr for Mcid {
    type Err = McidError;

    fn from_str(text: &str) -> Result<Self, McidError> {
        let refused = || McidError(text.chars().take(80).collect());
        let cid = Cid::try_from(text).map_err(|_| refused())?;
        let digest = Digest::of_cid(&cid).ok_or_else(refused)?;
        // Other spellings of the same id are refused: as text, an id is compared byte by byte.
        if cid.to_string() == text { Ok(Self { digest, text: text.into() }) } else { Err(refused()) }
    }
}

impl TryFrom<String> for Mcid {
    type Error = McidError;
    fn try_from(text: String) -> Result<Self, McidError> {
        text.parse()
    }
}

impl From<Mcid> for String {
    fn from(mcid: Mcid) -> Self {
        mcid.text.as_ref().to_owned()
    }
}

impl fmt::Display for Mcid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Mcid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mcid(…{})", self.short())
    }
}

/// For `#[serde(with)]`: an MCID in its binary form, where programs read it and not people.
pub mod binary {
    use serde::{Deserializer, Serializer, de::Error};

    use super::Mcid;

    /// As a byte string.
    ///
    /// # Errors
    /// As the serializer says.
    pub fn serialize<S: Serializer>(mcid: &Mcid, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&mcid.to_bytes()[..], serializer)
    }

    /// From a byte string.
    ///
    /// # Errors
    /// It is no MCID.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mcid, D::Error> {
        let bytes: serde_bytes::ByteBuf = serde_bytes::deserialize(deserializer)?;
        Mcid::from_bytes(&bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_by_blake3_and_read_back() {
        let mcid = Mcid::of(b"hello");
        assert!(mcid.as_str().starts_with("bafkr4i"), "{mcid}");
        assert_eq!(mcid.as_str().parse::<Mcid>().unwrap(), mcid);
        assert_ne!(mcid, Mcid::of(b"hello "));
        assert_eq!(Mcid::from_bytes(&mcid.to_bytes()), Ok(mcid.clone()));
        let other = Mcid::from(Digest::Sha256([7; 32]));
        assert_eq!(Mcid::from_bytes(&other.to_bytes()), Ok(other.clone()));
        assert_eq!(other.as_str().parse(), Ok(other));
        for cut in 0..Mcid::BYTES {
            assert!(Mcid::from_bytes(&mcid.to_bytes()[..cut]).is_err());
        }
        assert!(Mcid::from_bytes(&[&mcid.to_bytes()[..], &[0]].concat()).is_err(), "something follows");
    }

    #[test]
    fn refuses_other_spellings() {
        let mcid = Mcid::of(b"hello").to_string();
        assert!("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".parse::<Mcid>().is_ok(), "sha-256");
        for bad in ["", "bafkr4i", &mcid.to_uppercase(), "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"] {
            assert!(bad.parse::<Mcid>().is_err(), "{bad}");
        }
    }
}
