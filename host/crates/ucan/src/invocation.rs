//! Invocations: asking for something by delegations (UCAN invocation 1.0.0).
//!
//! Owns the token and whether its proofs allow it. Leaves to whoever carries it out: that it is meant for them (`aud`),
//! and that it comes once (by its id, until its end).
//!
//! How it is verified: its own end; its proofs, found by id and put in a [`Chain`] from the subject to the issuer; their
//! times and revocations; last, whether every link covers the command and holds of the arguments.

use std::{collections::BTreeMap, sync::Arc};

use cid::Cid;
use ed25519_dalek::SigningKey;
use ipld_core::ipld::Ipld;
use macula_wire::NodeId;

use crate::{
    Chain, ChainError, Clock, Command, Delegation, TokenError,
    delegation::check_bounds,
    envelope::{self, Kind, Opened, Sealed},
    fields::{Fields, principal_value},
    limits::PROOFS_MAX,
};

/// An invocation whose signature has been verified. That it is allowed, [`Invocation::verify`] says.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    issuer: NodeId,
    fields: InvocationFields,
    sealed: Sealed,
}

/// What an invocation says, beside who says it.
#[derive(Debug, Clone, PartialEq)]
pub struct InvocationFields {
    /// Whose the matter is.
    pub subject: NodeId,
    /// Who is to do it; `None`: the subject.
    pub audience: Option<NodeId>,
    /// What is asked for.
    pub command: Command,
    /// With what.
    pub arguments: BTreeMap<String, Ipld>,
    /// The delegations that allow it, the root's first; none when the issuer is the subject.
    pub proofs: Vec<Cid>,
    /// Tells it from others that ask the same; at most 64 bytes.
    pub nonce: Vec<u8>,
    /// The last second in which it counts.
    pub expires: Option<u64>,
    /// When it was made.
    pub issued_at: Option<u64>,
    /// What it follows from.
    pub cause: Option<Cid>,
    /// Remarks; signed, and without effect here.
    pub meta: BTreeMap<String, Ipld>,
}

impl InvocationFields {
    /// Signs it as `issuer`.
    ///
    /// # Errors
    /// When a bound is broken: [`TokenError::TooLarge`], [`TokenError::NonceTooLong`], [`TokenError::TooManyProofs`],
    /// [`TokenError::InvalidTime`], [`TokenError::TooDeep`].
    pub fn sign(&self, issuer: &SigningKey) -> Result<Invocation, TokenError> {
        check_bounds(&self.nonce, [("exp", self.expires), ("iat", self.issued_at)])?;
        let id = NodeId::from(issuer.verifying_key());
        let mut fields = Fields::default();
        fields.put("iss", principal_value(&id));
        fields.put("sub", principal_value(&self.subject));
        fields.put_some("aud", self.audience.as_ref().map(principal_value));
        fields.put("cmd", Ipld::String(self.command.to_string()));
        fields.put("args", Ipld::Map(self.arguments.clone()));
        fields.put("prf", Ipld::List(self.proofs.iter().copied().map(Ipld::Link).collect()));
        fields.put("nonce", Ipld::Bytes(self.nonce.clone()));
        fields.put_time("exp", self.expires);
        fields.put_some("iat", self.issued_at.map(|time| Ipld::Integer(time.into())));
        fields.put_some("cause", self.cause.map(Ipld::Link));
        fields.put_some("meta", (!self.meta.is_empty()).then(|| Ipld::Map(self.meta.clone())));
        Invocation::decode(&envelope::seal(issuer, Kind::Invocation, fields)?)
    }
}

impl Invocation {
    /// Reads an invocation and verifies its signature.
    ///
    /// # Errors
    /// See [`TokenError`]; the signature is looked at last, when everything else is as it should be.
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let opened = envelope::open(bytes)?;
        if opened.kind != Kind::Invocation {
            return Err(TokenError::OtherKind("a delegation"));
        }
        Self::read(opened)
    }

    pub(crate) fn read(mut opened: Opened) -> Result<Self, TokenError> {
        let mut taken = std::mem::take(&mut opened.fields);
        let issuer = taken.principal("iss")?;
        let fields = InvocationFields {
            subject: taken.principal("sub")?,
            audience: taken.principal_if_any("aud")?,
            command: taken.command()?,
            arguments: taken.map("args")?,
            proofs: taken.links("prf")?,
            nonce: taken.nonce()?,
            expires: taken.time_or_null("exp")?,
            issued_at: taken.time_if_any("iat")?,
            cause: taken.link_if_any("cause")?,
            meta: taken.map_if_any("meta")?,
        };
        taken.end()?;
        if fields.proofs.len() > PROOFS_MAX {
            return Err(TokenError::TooManyProofs(fields.proofs.len()));
        }
        opened.verify(&issuer)?;
        Ok(Self { issuer, fields, sealed: opened.sealed })
    }

    /// Whether it is allowed: the chain of its proofs leads from the subject to the issuer, holds now, is not revoked, and
    /// covers command and arguments. Gives the chain; `None` when the issuer is the subject and needs none.
    ///
    /// `proof` finds a delegation by its id, and is not trusted: what it gives must have that id. `revoked` says whether
    /// somebody has revoked a delegation; see [`Chain::check_revoked`].
    ///
    /// # Errors
    /// See [`ChainError`].
    pub fn verify(
        &self,
        mut proof: impl FnMut(&Cid) -> Option<Arc<Delegation>>,
        clock: &Clock,
        revoked: impl Fn(&Cid, &NodeId) -> bool,
    ) -> Result<Option<Chain>, ChainError> {
        if self.expires().is_some_and(|expires| clock.now > expires) {
            return Err(ChainError::Expired);
        }
        if self.proofs().is_empty() {
            return if self.issuer == self.fields.subject { Ok(None) } else { Err(ChainError::NoProof) };
        }
        let find = |cid: &Cid| proof(cid).filter(|found| found.cid() == cid).ok_or(ChainError::UnavailableProof(*cid));
        let chain = Chain::new(self.proofs().iter().map(find).collect::<Result<_, _>>()?)?;
        if *chain.audience() != self.issuer {
            return Err(ChainError::Audience(chain.links().len() + 1));
        }
        if *chain.subject() != self.fields.subject {
            return Err(ChainError::Subject(chain.links().len() + 1));
        }
        chain.check_time(clock)?;
        chain.check_revoked(revoked)?;
        chain.check(self.command(), &Ipld::Map(self.fields.arguments.clone()))?;
        Ok(Some(chain))
    }

    /// The token as it is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.sealed.bytes
    }

    /// Its id.
    pub fn cid(&self) -> &Cid {
        &self.sealed.cid
    }

    /// Who asks.
    pub fn issuer(&self) -> &NodeId {
        &self.issuer
    }

    /// Whose the matter is.
    pub fn subject(&self) -> &NodeId {
        &self.fields.subject
    }

    /// Who is to do it; `None`: the subject.
    pub fn audience(&self) -> Option<&NodeId> {
        self.fields.audience.as_ref()
    }

    /// What is asked for.
    pub fn command(&self) -> &Command {
        &self.fields.command
    }

    /// With what.
    pub fn arguments(&self) -> &BTreeMap<String, Ipld> {
        &self.fields.arguments
    }

    /// The delegations that allow it, the root's first.
    pub fn proofs(&self) -> &[Cid] {
        &self.fields.proofs
    }

    /// What tells it from others that ask the same.
    pub fn nonce(&self) -> &[u8] {
        &self.fields.nonce
    }

    /// The last second in which it counts.
    pub fn expires(&self) -> Option<u64> {
        self.fields.expires
    }

    /// When it was made.
    pub fn issued_at(&self) -> Option<u64> {
        self.fields.issued_at
    }

    /// What it follows from.
    pub fn cause(&self) -> Option<&Cid> {
        self.fields.cause.as_ref()
    }

    /// Remarks.
    pub fn meta(&self) -> &BTreeMap<String, Ipld> {
        &self.fields.meta
    }
}

#[cfg(test)]
mod tests;
