//! What all tokens have in common: why one is refused, and reading one whose kind is not known.

use crate::{
    CommandError, Delegation, Invocation, PolicyError, envelope,
    limits::{NONCE_BYTES_MAX, PROOFS_MAX, TOKEN_BYTES_MAX},
};

/// Why bytes are no token, or a token is not made. Nothing of it can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// More than [`TOKEN_BYTES_MAX`].
    #[error("a token of {0} bytes, at most {TOKEN_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// A nonce of more than [`NONCE_BYTES_MAX`].
    #[error("a nonce of {0} bytes, at most {NONCE_BYTES_MAX} are allowed")]
    NonceTooLong(usize),
    /// More than [`PROOFS_MAX`] proofs.
    #[error("{0} proofs, at most {PROOFS_MAX} are allowed")]
    TooManyProofs(usize),
    /// The bytes end too early.
    #[error("the token is cut short")]
    Truncated,
    /// Lists or maps too deep within one another.
    #[error("the token is nested too deeply")]
    TooDeep,
    /// Another spelling than the one that DAG-CBOR has for what it says.
    #[error("the token is not in canonical form: {0}")]
    NotCanonical(&'static str),
    /// No DAG-CBOR.
    #[error("the token is malformed: {0}")]
    Malformed(String),
    /// A field, or the envelope, of another type than the specification says.
    #[error("{0} has the wrong type")]
    WrongType(&'static str),
    /// A field that must be there.
    #[error("{0} is missing")]
    MissingField(&'static str),
    /// A field that the specification does not have: what is signed must be understood.
    #[error("{0:?} is no field of such a token")]
    UnknownField(String),
    /// A token of the other kind.
    #[error("this is {0}, which is not wanted here")]
    OtherKind(&'static str),
    /// Another version of such a token, or something else that UCAN may define.
    #[error("{0:?} is not supported (expected ucan/dlg@1.0.0 or ucan/inv@1.0.0)")]
    UnsupportedVersion(String),
    /// Another signature algorithm or encoding than Ed25519 over DAG-CBOR.
    #[error("the signature's algorithm is not supported (expected Ed25519 over DAG-CBOR)")]
    UnsupportedAlgorithm,
    /// A principal that is no usable `did:key` of an Ed25519 key.
    #[error("{field} is no did:key of a usable Ed25519 key")]
    InvalidKey {
        /// Which.
        field: &'static str,
    },
    /// A command that is none.
    #[error(transparent)]
    InvalidCommand(#[from] CommandError),
    /// A policy that is none.
    #[error(transparent)]
    InvalidPolicy(#[from] PolicyError),
    /// A time that is no whole number of seconds from 0 to 2^53 − 1, or an end that is not said: `null` says that there is
    /// none, leaving it out says nothing.
    #[error("{0} is no time in whole seconds")]
    InvalidTime(&'static str),
    /// A delegation whose `nbf` is after its `exp`.
    #[error("it would begin at {not_before} (nbf) and end before that, at {expires} (exp): it is never in force")]
    NeverInForce {
        /// Its first second, in unix seconds.
        not_before: u64,
        /// Its last.
        expires: u64,
    },
    /// The signature does not verify.
    #[error("the signature does not verify")]
    InvalidSignature,
    /// An invocation that is no revocation.
    #[error("the token is no revocation")]
    NoRevocation,
}

impl TokenError {
    /// One word for programs: the specification's where it has one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge(_) | Self::NonceTooLong(_) => "TooLarge",
            Self::TooManyProofs(_) => "ChainTooLong",
            Self::Truncated => "Truncated",
            Self::TooDeep => "TooDeep",
            Self::NotCanonical(_) => "NotCanonical",
            Self::Malformed(_) => "Malformed",
            Self::WrongType(_) => "WrongType",
            Self::MissingField(_) => "MissingField",
            Self::UnknownField(_) => "UnknownField",
            Self::OtherKind(_) => "OtherKind",
            Self::UnsupportedVersion(_) => "UnsupportedVersion",
            Self::UnsupportedAlgorithm => "UnsupportedAlgorithm",
            Self::InvalidKey { .. } => "InvalidKey",
            Self::InvalidCommand(error) => error.name(),
            Self::InvalidPolicy(error) => error.name(),
            Self::InvalidTime(_) | Self::NeverInForce { .. } => "InvalidTime",
            Self::InvalidSignature => "InvalidSignature",
            Self::NoRevocation => "NoRevocation",
        }
    }
}

/// A token of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// It grants.
    Delegation(Delegation),
    /// It asks.
    Invocation(Invocation),
}

impl Token {
    /// Reads and verifies a token, whichever it is.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let opened = envelope::open(bytes)?;
        match opened.kind {
            envelope::Kind::Delegation => Delegation::read(opened).map(Self::Delegation),
            envelope::Kind::Invocation => Invocation::read(opened).map(Self::Invocation),
        }
    }
}
