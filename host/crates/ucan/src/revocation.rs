//! Revocations: taking a delegation back (UCAN revocation, draft).
//!
//! A revocation is an invocation of `/ucan/revoke` by the revoker on itself: no proofs, no end, an empty nonce, and the
//! delegation's id as its one argument. So one revoker has one revocation of a delegation, and it never changes.

use std::collections::BTreeMap;

use cid::Cid;
use ed25519_dalek::SigningKey;
use ipld_core::ipld::Ipld;
use macula_wire::NodeId;

use crate::{Invocation, InvocationFields, TokenError};

const COMMAND: &str = "/ucan/revoke";
const ARGUMENT: &str = "revoke";

/// A revocation whose signature has been verified. Whether its issuer has a say in the matter is decided where the chain is
/// known: see [`Chain::check_revoked`](crate::Chain::check_revoked).
#[derive(Debug, Clone, PartialEq)]
pub struct Revocation {
    invocation: Invocation,
    revoked: Cid,
}

impl Revocation {
    /// Signs the revocation of a delegation.
    pub fn sign(issuer: &SigningKey, revoked: &Cid) -> Self {
        let fields = InvocationFields {
            subject: issuer.verifying_key().into(),
            audience: None,
            command: COMMAND.parse().expect("a constant"),
            arguments: [(ARGUMENT.to_owned(), Ipld::Link(*revoked))].into(),
            proofs: Vec::new(),
            nonce: Vec::new(),
            expires: None,
            issued_at: None,
            cause: None,
            meta: BTreeMap::new(),
        };
        let invocation = fields.sign(issuer).expect("within every bound");
        Self { invocation, revoked: *revoked }
    }

    /// Reads and verifies a revocation.
    ///
    /// # Errors
    /// See [`TokenError`]; [`TokenError::NoRevocation`] for any other invocation.
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let invocation = Invocation::decode(bytes)?;
        let is_own = invocation.issuer() == invocation.subject()
            && invocation.command().as_str() == COMMAND
            && invocation.proofs().is_empty()
            && invocation.expires().is_none()
            && invocation.nonce().is_empty()
            && invocation.meta().is_empty()
            && invocation.audience().is_none()
            && invocation.issued_at().is_none()
            && invocation.cause().is_none()
            && invocation.arguments().len() == 1;
        match invocation.arguments().get(ARGUMENT) {
            Some(Ipld::Link(revoked)) if is_own => Ok(Self { revoked: *revoked, invocation }),
            _ => Err(TokenError::NoRevocation),
        }
    }

    /// What is revoked.
    pub fn revoked(&self) -> &Cid {
        &self.revoked
    }

    /// Who revokes it.
    pub fn issuer(&self) -> &NodeId {
        self.invocation.issuer()
    }

    /// The token as it is sent.
    pub fn bytes(&self) -> &[u8] {
        self.invocation.bytes()
    }

    /// Its id.
    pub fn cid(&self) -> &Cid {
        self.invocation.cid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_revoker_has_one_revocation_of_a_delegation() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let cid = crate::cid_of(b"a delegation");
        let revocation = Revocation::sign(&key, &cid);
        assert_eq!(Revocation::sign(&key, &cid).bytes(), revocation.bytes());
        let read = Revocation::decode(revocation.bytes()).unwrap();
        assert_eq!((read.revoked(), *read.issuer()), (&cid, NodeId::from(key.verifying_key())));
    }

    #[test]
    fn other_invocations_are_none() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let id = NodeId::from(key.verifying_key());
        let cid = crate::cid_of(b"a delegation");
        let good = InvocationFields {
            subject: id,
            audience: None,
            command: COMMAND.parse().unwrap(),
            arguments: [(ARGUMENT.to_owned(), Ipld::Link(cid))].into(),
            proofs: Vec::new(),
            nonce: Vec::new(),
            expires: None,
            issued_at: None,
            cause: None,
            meta: BTreeMap::new(),
        };
        let changes: [fn(&mut InvocationFields); 8] = [
            |fields| fields.subject = SigningKey::from_bytes(&[2; 32]).verifying_key().into(),
            |fields| fields.command = "/ucan/revoked".parse().unwrap(),
            |fields| fields.nonce = vec![1],
            |fields| fields.expires = Some(1),
            |fields| fields.proofs = vec![crate::cid_of(b"x")],
            |fields| fields.arguments = BTreeMap::new(),
            |fields| drop(fields.arguments.insert("more".into(), Ipld::Null)),
            |fields| drop(fields.arguments.insert(ARGUMENT.into(), Ipld::String("x".into()))),
        ];
        for change in changes {
            let mut fields = good.clone();
            change(&mut fields);
            let bytes = fields.sign(&key).unwrap().bytes().to_vec();
            assert_eq!(Revocation::decode(&bytes), Err(TokenError::NoRevocation));
        }
    }
}
