//! Delegations: who lets whom do what (UCAN delegation 1.0.0).
//!
//! Owns one link: its fields, how they are signed and read. What links make together is a [`Chain`](crate::Chain)'s.
//!
//! What holds: a [`Delegation`] was signed by its issuer, says nothing that is not understood here, and decodes from
//! exactly the bytes that its id names.

use std::collections::BTreeMap;

use cid::Cid;
use ed25519_dalek::SigningKey;
use ipld_core::ipld::Ipld;
use macula_wire::NodeId;

use crate::{
    Command, Policy, TokenError,
    envelope::{self, Kind, Opened, Sealed},
    fields::{Fields, principal_value},
    limits::{INTEGER_MAX, NONCE_BYTES_MAX},
};

/// A delegation whose signature has been verified. Immutable; share it by [`Arc`](std::sync::Arc).
#[derive(Debug, Clone, PartialEq)]
pub struct Delegation {
    issuer: NodeId,
    fields: DelegationFields,
    sealed: Sealed,
}

/// What a delegation says, beside who says it.
#[derive(Debug, Clone, PartialEq)]
pub struct DelegationFields {
    /// Who is let.
    pub audience: NodeId,
    /// Whose the matter is; `None`: whatever the issuer has been or will be let do to anybody's (a “powerline”).
    pub subject: Option<NodeId>,
    /// What may be done.
    pub command: Command,
    /// Where: what must hold of an invocation's arguments.
    pub policy: Policy,
    /// The last second in which it holds, unix time up to 2^53 − 1; `None`: no end.
    pub expires: Option<u64>,
    /// The first second in which it holds; `None`: from the beginning.
    pub not_before: Option<u64>,
    /// Tells it from others that say the same; at most 64 bytes.
    pub nonce: Vec<u8>,
    /// Remarks; signed, and without effect here.
    pub meta: BTreeMap<String, Ipld>,
}

impl DelegationFields {
    /// Signs it as `issuer`.
    ///
    /// # Errors
    /// When a bound is broken: [`TokenError::TooLarge`], [`TokenError::NonceTooLong`], [`TokenError::InvalidTime`],
    /// [`TokenError::NeverInForce`], [`TokenError::TooDeep`].
    pub fn sign(&self, issuer: &SigningKey) -> Result<Delegation, TokenError> {
        check_bounds(&self.nonce, [("exp", self.expires), ("nbf", self.not_before)])?;
        self.check_span()?;
        let id = NodeId::from(issuer.verifying_key());
        let mut fields = Fields::default();
        fields.put("iss", principal_value(&id));
        fields.put("aud", principal_value(&self.audience));
        fields.put("sub", self.subject.as_ref().map_or(Ipld::Null, principal_value));
        fields.put("cmd", Ipld::String(self.command.to_string()));
        fields.put("pol", self.policy.to_ipld());
        fields.put("nonce", Ipld::Bytes(self.nonce.clone()));
        fields.put_time("exp", self.expires);
        fields.put_some("nbf", self.not_before.map(|time| Ipld::Integer(time.into())));
        fields.put_some("meta", (!self.meta.is_empty()).then(|| Ipld::Map(self.meta.clone())));
        // What was made is read back, so that nothing leaves that would not be taken.
        Delegation::decode(&envelope::seal(issuer, Kind::Delegation, fields)?)
    }

    /// What ends before it begins is never in force, whatever allowance a verifier makes for clocks that differ.
    fn check_span(&self) -> Result<(), TokenError> {
        match (self.not_before, self.expires) {
            (Some(not_before), Some(expires)) if not_before > expires => {
                Err(TokenError::NeverInForce { not_before, expires })
            }
            _ => Ok(()),
        }
    }
}

pub(crate) fn check_bounds<const N: usize>(
    nonce: &[u8],
    times: [(&'static str, Option<u64>); N],
) -> Result<(), TokenError> {
    if nonce.len() > NONCE_BYTES_MAX {
        return Err(TokenError::NonceTooLong(nonce.len()));
    }
    match times.into_iter().find(|(_, time)| time.is_some_and(|time| i128::from(time) > INTEGER_MAX)) {
        Some((name, _)) => Err(TokenError::InvalidTime(name)),
        None => Ok(()),
    }
}

impl Delegation {
    /// Reads and verifies a delegation.
    ///
    /// # Errors
    /// See [`TokenError`]; the signature is looked at last, when everything else is as it should be.
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let opened = envelope::open(bytes)?;
        if opened.kind != Kind::Delegation {
            return Err(TokenError::OtherKind("an invocation"));
        }
        Self::read(opened)
    }

    pub(crate) fn read(mut opened: Opened) -> Result<Self, TokenError> {
        let mut taken = std::mem::take(&mut opened.fields);
        let issuer = taken.principal("iss")?;
        let fields = DelegationFields {
            audience: taken.principal("aud")?,
            subject: taken.principal_or_null("sub")?,
            command: taken.command()?,
            policy: Policy::from_ipld(&taken.take("pol")?)?,
            expires: taken.time_or_null("exp")?,
            not_before: taken.time_if_any("nbf")?,
            nonce: taken.nonce()?,
            meta: taken.map_if_any("meta")?,
        };
        taken.end()?;
        fields.check_span()?;
        opened.verify(&issuer)?;
        Ok(Self { issuer, fields, sealed: opened.sealed })
    }

    /// The token as it is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.sealed.bytes
    }

    /// Its id.
    pub fn cid(&self) -> &Cid {
        &self.sealed.cid
    }

    /// Who lets.
    pub fn issuer(&self) -> &NodeId {
        &self.issuer
    }

    /// Who is let.
    pub fn audience(&self) -> &NodeId {
        &self.fields.audience
    }

    /// Whose the matter is; `None` for a powerline.
    pub fn subject(&self) -> Option<&NodeId> {
        self.fields.subject.as_ref()
    }

    /// What may be done.
    pub fn command(&self) -> &Command {
        &self.fields.command
    }

    /// Where.
    pub fn policy(&self) -> &Policy {
        &self.fields.policy
    }

    /// What tells it from others that say the same.
    pub fn nonce(&self) -> &[u8] {
        &self.fields.nonce
    }

    /// The last second in which it holds.
    pub fn expires(&self) -> Option<u64> {
        self.fields.expires
    }

    /// The first second in which it holds.
    pub fn not_before(&self) -> Option<u64> {
        self.fields.not_before
    }

    /// Remarks.
    pub fn meta(&self) -> &BTreeMap<String, Ipld> {
        &self.fields.meta
    }
}

#[cfg(test)]
mod tests;
