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
pub struct Mcid(Arc<str>);

/// Why text is no [`Mcid`]; holds the text, cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no content id (expected CIDv1 in base32, like bafkr4i… or bafkrei…)")]
pub struct McidError(String);

impl Mcid {
    /// The id of `bytes`, by BLAKE3.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = blake3::hash(bytes);
        let hash = Multihash::<64>::wrap(BLAKE3, digest.as_bytes()).expect("32 bytes fit into 64");
        Self(Cid::new_v1(RAW, hash).to_string().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Twelve characters that tell components apart in logs.
    pub fn short(&self) -> &str {
        &self.0[self.0.len().saturating_sub(12)..]
    }
}

impl FromStr for Mcid {
    type Err = McidError;

    fn from_str(text: &str) -> Result<Self, McidError> {
        let refused = || McidError(text.chars().take(80).collect());
        let cid = Cid::try_from(text).map_err(|_| refused())?;
        let known = matches!(cid.hash().code(), BLAKE3 | SHA2_256) && cid.hash().size() == 32;
        // Other spellings of the same id are refused: as text, an id is compared byte by byte.
        if cid.codec() == RAW && known && cid.to_string() == text { Ok(Self(text.into())) } else { Err(refused()) }
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
        mcid.0.as_ref().to_owned()
    }
}

impl fmt::Display for Mcid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Mcid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mcid(…{})", self.short())
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
