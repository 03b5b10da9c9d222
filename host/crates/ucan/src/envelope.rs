//! The envelope around every token: `[signature, {"h": header, tag: payload}]` (UCAN 1.0.0, “Envelope”).
//!
//! Owns the way from bytes to fields and back, the signature, and the id. What the fields must say is the token's.
//!
//! How it is opened, cheapest first, so that a stranger pays most: size; a [scan](crate::scan); decoding, and whether that
//! encodes to the same bytes; the two parts; version; header. The signature comes when the fields have been understood.
//!
//! What is signed is the second part, as it lies in the bytes.

use cid::Cid;
use ed25519_dalek::{Signature, Signer, SigningKey};
use ipld_core::ipld::Ipld;
use macula_wire::NodeId;
use multihash::Multihash;
use sha2::{Digest, Sha256};

use crate::{
    TokenError,
    fields::{Fields, cut},
    limits::TOKEN_BYTES_MAX,
    scan,
};

/// The one header: varsig 1, EdDSA, Ed25519, SHA2-512, DAG-CBOR. There is no table of algorithms to be confused by.
const HEADER: [u8; 8] = [0x34, 0x01, 0xed, 0x01, 0xed, 0x01, 0x13, 0x71];
const HEADER_KEY: &str = "h";
/// Heads of the list (1 byte) and of the signature (2), and the signature.
const SIGNED_AT: usize = 3 + Signature::BYTE_SIZE;
const DAG_CBOR: u64 = 0x71;
const SHA2_256: u64 = 0x12;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Delegation,
    Invocation,
}

impl Kind {
    fn tag(self) -> &'static str {
        match self {
            Self::Delegation => "ucan/dlg@1.0.0",
            Self::Invocation => "ucan/inv@1.0.0",
        }
    }

    fn of_tag(tag: &str) -> Option<Self> {
        [Self::Delegation, Self::Invocation].into_iter().find(|kind| kind.tag() == tag)
    }
}

/// A token that is whole, canonical and of a known kind; its signature has not been looked at.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) kind: Kind,
    pub(crate) fields: Fields,
    pub(crate) sealed: Sealed,
    signature: Vec<u8>,
}

/// A token's bytes and what names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) cid: Cid,
}

/// The id of a token: CIDv1, DAG-CBOR, SHA2-256 of its bytes as they are.
pub fn cid_of(bytes: &[u8]) -> Cid {
    let hash = Multihash::wrap(SHA2_256, &Sha256::digest(bytes)).expect("32 bytes fit into 64");
    Cid::new_v1(DAG_CBOR, hash)
}

/// Opens an envelope, cheapest checks first.
pub(crate) fn open(bytes: &[u8]) -> Result<Opened, TokenError> {
    if bytes.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLarge(bytes.len()));
    }
    scan::check(bytes)?;
    let envelope: Ipld =
        serde_ipld_dagcbor::from_slice(bytes).map_err(|error| TokenError::Malformed(error.to_string()))?;
    // Its scan has found it canonical; should the decoder be lenient in what a scan does not see, it would show here.
    if encode(&envelope)? != bytes {
        return Err(TokenError::NotCanonical("it does not encode to itself"));
    }
    let Ipld::List(parts) = envelope else { return Err(TokenError::WrongType("the envelope")) };
    let Ok([Ipld::Bytes(signature), Ipld::Map(signed)]) = <[Ipld; 2]>::try_from(parts) else {
        return Err(TokenError::WrongType("the envelope"));
    };
    let (mut header, mut payload) = (None, None);
    for (key, value) in signed {
        match (key.as_str(), Kind::of_tag(&key)) {
            (HEADER_KEY, _) => header = Some(value),
            // One signature must not be good for two tokens.
            (_, Some(_)) if payload.is_some() => return Err(TokenError::UnknownField(key)),
            (_, Some(kind)) => payload = Some((kind, value)),
            _ if key.starts_with("ucan/") => return Err(TokenError::UnsupportedVersion(cut(&key))),
            _ => return Err(TokenError::UnknownField(cut(&key))),
        }
    }
    match header {
        Some(Ipld::Bytes(header)) if header == HEADER => {}
        Some(Ipld::Bytes(_)) => return Err(TokenError::UnsupportedAlgorithm),
        Some(_) => return Err(TokenError::WrongType("h")),
        None => return Err(TokenError::MissingField("h")),
    }
    let Some((kind, payload)) = payload else { return Err(TokenError::MissingField("the payload")) };
    let Ipld::Map(payload) = payload else { return Err(TokenError::WrongType("the payload")) };
    let sealed = Sealed { bytes: bytes.into(), cid: cid_of(bytes) };
    Ok(Opened { kind, fields: Fields::new(payload), sealed, signature })
}

impl Opened {
    /// Checks the signature. A delegation or invocation is only made of what has passed this.
    pub(crate) fn verify(&self, issuer: &NodeId) -> Result<(), TokenError> {
        let signature = Signature::from_slice(&self.signature).map_err(|_| TokenError::InvalidSignature)?;
        // A signature of the right length leaves one place for what it signs: behind itself, to the end.
        let signed = &self.sealed.bytes[SIGNED_AT..];
        // Strict: no small-order keys, no second spelling of a signature.
        issuer.verifying_key().verify_strict(signed, &signature).map_err(|_| TokenError::InvalidSignature)
    }
}

/// Signs a payload.
pub(crate) fn seal(issuer: &SigningKey, kind: Kind, fields: Fields) -> Result<Vec<u8>, TokenError> {
    let signed = Ipld::Map(
        [(HEADER_KEY.to_owned(), Ipld::Bytes(HEADER.into())), (kind.tag().to_owned(), Ipld::Map(fields.into_map()))]
            .into(),
    );
    let signature = issuer.sign(&encode(&signed)?).to_bytes().to_vec();
    let bytes = encode(&Ipld::List(vec![Ipld::Bytes(signature), signed]))?;
    if bytes.len() > TOKEN_BYTES_MAX { Err(TokenError::TooLarge(bytes.len())) } else { Ok(bytes) }
}

fn encode(value: &Ipld) -> Result<Vec<u8>, TokenError> {
    serde_ipld_dagcbor::to_vec(value).map_err(|error| TokenError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests;
