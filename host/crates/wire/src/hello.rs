//! The Hello: the first thing each side of a link says, proving that it owns its node id on *this* TLS session.
//!
//! Signed over domain ‖ side ‖ exporter ‖ Hello bytes. The exporter is unique to the TLS session, so a Hello that was
//! seen elsewhere (replay, man in the middle) does not verify; the side byte keeps a peer from reflecting one's own.
//! Specified in `docs/protocol/links.md`, “Hello”.

use ed25519_dalek::{Signature, Signer, SigningKey};
use serde::{Deserialize, Serialize};

use crate::{NodeId, limits::HELLO_BYTES_MAX};

/// The protocol version of this code.
pub const VERSION: u16 = 1;

/// Separates these signatures from all others made with the same key.
const DOMAIN: &[u8] = b"macula link hello 1\0";

/// Label for the WebTransport exporter (draft-ietf-webtrans-http3, “Use of Keying Material Exporters”).
pub const EXPORTER_LABEL: &[u8] = b"macula-hello";

/// Which end of the link speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// The one that opened the session.
    Dialler = 1,
    /// The one that accepted it; speaks first.
    Listener = 2,
}

impl Side {
    /// The other end.
    pub fn peer(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

/// What a side is on this link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Forwards for others.
    Relay,
    /// A node that runs plugins or an application.
    Host,
    /// A short-lived client, such as a command line verb.
    Client,
}

/// What a side says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Its key.
    pub node: NodeId,
    /// Versions it speaks, best first.
    pub versions: Vec<u16>,
    /// What it is here.
    pub role: Role,
    /// Of this run of the node; larger than that of any earlier run.
    pub epoch: u64,
    /// Optional abilities by name; unknown ones are ignored. How version 1 grows.
    pub features: Vec<String>,
}

/// A Hello and its signature, as sent.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed {
    #[serde(rename = "h", with = "serde_bytes")]
    hello: Vec<u8>,
    #[serde(rename = "s", with = "serde_bytes")]
    signature: Vec<u8>,
}

/// Why a Hello was refused. The session is closed; nothing else was read from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// More than [`HELLO_BYTES_MAX`].
    #[error("a Hello of {0} bytes, at most {HELLO_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not the expected form.
    #[error("malformed Hello: {0}")]
    Malformed(String),
    /// The signature does not fit key, session and side: a replay, a relay in the middle, or a bug.
    #[error("the Hello's signature does not verify on this session")]
    Signature,
    /// The peer says it is us.
    #[error("the peer uses this node's own id; every node needs a key of its own")]
    OwnId,
    /// Another node than the one that was dialled.
    #[error("reached {actual}, expected {expected}")]
    WrongNode {
        /// From the address.
        expected: NodeId,
        /// As proved by the peer.
        actual: NodeId,
    },
    /// No version in common.
    #[error("no protocol version in common (theirs {theirs:?}, ours {VERSION})")]
    Version {
        /// What the peer speaks.
        theirs: Vec<u16>,
    },
}

impl Hello {
    /// Signs for one session, as spoken by `side`.
    pub fn seal(&self, key: &SigningKey, side: Side, exporter: &[u8; 32]) -> Vec<u8> {
        let hello = serde_ipld_dagcbor::to_vec(self).expect("a Hello always encodes");
        let signature = key.sign(&signed_bytes(side, exporter, &hello)).to_bytes().to_vec();
        serde_ipld_dagcbor::to_vec(&Sealed { hello, signature }).expect("a Hello always encodes")
    }

    /// Reads and verifies what the peer, being `side`, sent on this session.
    ///
    /// # Errors
    /// See [`HelloError`].
    pub fn open(bytes: &[u8], side: Side, exporter: &[u8; 32], expect: &Expect) -> Result<Self, HelloError> {
        if bytes.len() > HELLO_BYTES_MAX {
            return Err(HelloError::TooLong(bytes.len()));
        }
        let malformed = |error: String| HelloError::Malformed(error);
        let sealed: Sealed = serde_ipld_dagcbor::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
        let hello: Self = serde_ipld_dagcbor::from_slice(&sealed.hello).map_err(|e| malformed(e.to_string()))?;
        let signature = Signature::from_slice(&sealed.signature).map_err(|_| HelloError::Signature)?;
        hello
            .node
            .verifying_key()
            .verify_strict(&signed_bytes(side, exporter, &sealed.hello), &signature)
            .map_err(|_| HelloError::Signature)?;
        if hello.node == expect.own {
            return Err(HelloError::OwnId);
        }
        if let Some(expected) = expect.peer.filter(|expected| *expected != hello.node) {
            return Err(HelloError::WrongNode { expected, actual: hello.node });
        }
        if !hello.versions.contains(&VERSION) {
            return Err(HelloError::Version { theirs: hello.versions });
        }
        Ok(hello)
    }
}

/// Whom a side expects to hear.
#[derive(Debug, Clone, Copy)]
pub struct Expect {
    /// Its own id, which no peer may use.
    pub own: NodeId,
    /// The peer's id, when the address or local state pins it.
    pub peer: Option<NodeId>,
}

fn signed_bytes(side: Side, exporter: &[u8; 32], hello: &[u8]) -> Vec<u8> {
    [DOMAIN, &[side as u8], exporter, hello].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn hello(seed: u8) -> Hello {
        Hello {
            node: key(seed).verifying_key().into(),
            versions: vec![VERSION],
            role: Role::Host,
            epoch: 7,
            features: vec!["of-tomorrow".into()],
        }
    }

    fn expect(own: u8, peer: Option<u8>) -> Expect {
        Expect { own: key(own).verifying_key().into(), peer: peer.map(|seed| key(seed).verifying_key().into()) }
    }

    #[test]
    fn verifies_on_its_session_only() {
        let sealed = hello(1).seal(&key(1), Side::Dialler, &[9; 32]);
        assert_eq!(Hello::open(&sealed, Side::Dialler, &[9; 32], &expect(2, Some(1))), Ok(hello(1)));
        assert_eq!(
            Hello::open(&sealed, Side::Dialler, &[8; 32], &expect(2, None)),
            Err(HelloError::Signature),
            "replayed"
        );
        assert_eq!(
            Hello::open(&sealed, Side::Listener, &[9; 32], &expect(2, None)),
            Err(HelloError::Signature),
            "reflected"
        );
        assert_eq!(Hello::open(&sealed, Side::Dialler, &[9; 32], &expect(1, None)), Err(HelloError::OwnId));
        assert!(matches!(
            Hello::open(&sealed, Side::Dialler, &[9; 32], &expect(2, Some(3))),
            Err(HelloError::WrongNode { .. })
        ));
        let forged = hello(1).seal(&key(2), Side::Dialler, &[9; 32]);
        assert_eq!(Hello::open(&forged, Side::Dialler, &[9; 32], &expect(3, None)), Err(HelloError::Signature));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealed = hello(1).seal(&key(1), Side::Listener, &[9; 32]);
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(Hello::open(&altered, Side::Listener, &[9; 32], &expect(2, None)).is_err(), "bit {bit}");
        }
        for cut in 0..sealed.len() {
            assert!(Hello::open(&sealed[..cut], Side::Listener, &[9; 32], &expect(2, None)).is_err());
        }
    }

    #[test]
    fn downgrades_and_strangers_are_refused() {
        let other = Hello { versions: vec![2, 3], ..hello(1) };
        let sealed = other.seal(&key(1), Side::Dialler, &[9; 32]);
        assert_eq!(
            Hello::open(&sealed, Side::Dialler, &[9; 32], &expect(2, None)),
            Err(HelloError::Version { theirs: vec![2, 3] })
        );
        assert!(matches!(
            Hello::open(&[0; 5000], Side::Dialler, &[9; 32], &expect(2, None)),
            Err(HelloError::TooLong(5000))
        ));
    }
}
