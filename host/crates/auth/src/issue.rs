//! Making delegations that the mesh will take: what cannot hold is refused before it is signed.

use std::{collections::BTreeMap, sync::Arc};

use ed25519_dalek::SigningKey;
use macula_ucan::{Chain, ChainError, Command, Delegation, DelegationFields, Ipld, PolicyError, TokenError};
use macula_wire::NodeId;

use crate::{Grant, GrantError, Terms};

/// What a new delegation is to say.
#[derive(Debug, Clone)]
pub struct Issuing {
    /// Who gets the right.
    pub audience: NodeId,
    /// Which right.
    pub command: Command,
    /// On which names, for whom.
    pub terms: Terms,
    /// Until when, in unix seconds; cut to what the proof has left. `None`: as long as the proof.
    pub expires: Option<u64>,
    /// Tells this delegation from others that say the same.
    pub nonce: Vec<u8>,
    /// Remarks, signed too: for example the epoch of a namespace.
    pub meta: BTreeMap<String, Ipld>,
}

/// Why a delegation is not issued. Nothing was signed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The terms make no policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It breaks a bound.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// With the proof it makes no chain that holds.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The proof's time has passed.
    #[error("the proof has expired")]
    Expired,
}

impl From<ChainError> for IssueError {
    fn from(error: ChainError) -> Self {
        Self::Grant(error.into())
    }
}

/// Signs a delegation by `issuer`, who holds `proof`, or without one is the realm's root (or owns the names). Gives the
/// whole chain, whose last link is new.
///
/// # Errors
/// See [`IssueError`].
pub fn issue(issuer: &SigningKey, proof: Option<&Chain>, issuing: Issuing, now: u64) -> Result<Chain, IssueError> {
    let subject = proof.map_or_else(|| NodeId::from(issuer.verifying_key()), |proof| *proof.subject());
    let until = proof.and_then(Chain::expires);
    if until.is_some_and(|until| until < now) {
        return Err(IssueError::Expired);
    }
    let fields = DelegationFields {
        audience: issuing.audience,
        subject: Some(subject),
        command: issuing.command,
        policy: issuing.terms.to_policy()?,
        expires: crate::permissions::earlier(until, issuing.expires),
        not_before: None,
        nonce: issuing.nonce,
        meta: issuing.meta,
    };
    let new: Delegation = fields.sign(issuer)?;
    let mut links = proof.map(|proof| proof.links().to_vec()).unwrap_or_default();
    links.push(Arc::new(new));
    let chain = Chain::new(links)?;
    Grant::read(chain.clone())?;
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Scope,
        testing::{chain, id, key, link},
    };

    fn issuing(command: &str, patterns: &[&str], expires: Option<u64>) -> Issuing {
        let scope = Scope::new(patterns.iter().map(|pattern| pattern.parse().unwrap())).unwrap();
        Issuing {
            audience: id(2),
            command: command.parse().unwrap(),
            terms: Terms { scope, ..Terms::all() },
            expires,
            nonce: vec![1; 12],
            meta: BTreeMap::new(),
        }
    }

    #[test]
    fn what_the_proof_does_not_cover_is_not_signed() {
        let proof = chain(vec![link(200, 1, "/mesh", &["io.example.user.**"])]).unwrap();
        let issued =
            issue(&key(1), Some(&proof), issuing("/mesh/publish", &["io.example.user.door"], None), 10).unwrap();
        assert_eq!((issued.links().len(), *issued.audience()), (2, id(2)));
        let refused = |command: &str, patterns: &[&str]| {
            let issued = issue(&key(1), Some(&proof), issuing(command, patterns, None), 10);
            match issued.unwrap_err() {
                IssueError::Grant(error) => error.name(),
                other => panic!("{other}"),
            }
        };
        assert_eq!(refused("/mesh/publish", &["io.example.userevil.**"]), "Overclaims");
        assert_eq!(refused("/other", &["io.example.user.door"]), "Escalation");
    }

    #[test]
    fn it_lasts_no_longer_than_its_proof() {
        let proof = chain(vec![link(200, 1, "/mesh", &[])]).unwrap();
        let until = proof.expires().unwrap();
        let by = |expires| issue(&key(1), Some(&proof), issuing("/mesh/call", &["**"], expires), 10).unwrap().expires();
        assert_eq!(by(None), Some(until));
        assert_eq!(by(Some(until + 1)), Some(until));
        assert_eq!(by(Some(until - 1)), Some(until - 1));
        let late = issue(&key(1), Some(&proof), issuing("/mesh/call", &["**"], None), until + 1);
        assert_eq!(late.unwrap_err(), IssueError::Expired);
        assert!(
            issue(&key(3), Some(&proof), issuing("/mesh/call", &["**"], None), 10).is_err(),
            "not the proof's audience"
        );
    }
}
