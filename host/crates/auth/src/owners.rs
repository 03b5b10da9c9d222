//! Who owns which names of a realm: `did:macula:<namespace>`, resolved through chains of `/mesh/own`.
//!
//! Everything belongs to the realm's root until it grants a namespace, and the owner of a namespace may grant what lies
//! below it: only downwards, by whole labels. The name resolves to the key at the end of such a chain. Whoever grants
//! sets the *epoch* in the last link's `meta`: a higher one replaces a lower one, so that a name can move to another
//! key. Two keys at the same epoch are a fork: neither owns the name until a higher epoch settles it.
//! Specified in `docs/protocol/ucan.md`, “Names that others own”.

use std::collections::BTreeMap;

use macula_ucan::{Chain, ChainError, Ipld};
use macula_wire::{NodeId, Operation};

use crate::{Grant, GrantError, Namespace, Scope};

/// Key of the epoch in a delegation's `meta`.
const EPOCH: &str = "epoch";

/// Namespaces of one realm whose owner is remembered. Further ones are not learned: their owners' tokens are refused.
const NAMESPACES_MAX: usize = 4096;

/// A claim to a namespace that holds together, at some time or other.
#[derive(Debug, Clone)]
pub struct Ownership {
    namespace: Namespace,
    epoch: u64,
    chain: Chain,
}

/// Why a chain is no claim to a namespace.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OwnClaimError {
    /// It is no chain of rights at all.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// A link is about something else than one namespace with everything below it.
    #[error("link {0} does not grant one namespace and everything below it")]
    NotANamespace(usize),
    /// A link is not strictly below the one before.
    #[error("link {link} grants {namespace}, which is not below what the link before grants")]
    NotBelow {
        /// Which link, from the root, counted from 1.
        link: usize,
        /// What it grants.
        namespace: Namespace,
    },
    /// An epoch that is no number from 0.
    #[error("the epoch is no number")]
    Epoch,
    /// Too many namespaces are known already.
    #[error("{NAMESPACES_MAX} namespaces are known, and no more are learned")]
    Full,
}

impl OwnClaimError {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Grant(error) => error.name(),
            Self::NotANamespace(_) => "UnsupportedPolicy",
            Self::NotBelow { .. } => "Overclaims",
            Self::Epoch => "InvalidEpoch",
            Self::Full => "QuotaExceeded",
        }
    }
}

impl Ownership {
    /// Reads a chain of `/mesh/own`.
    ///
    /// # Errors
    /// See [`OwnClaimError`].
    pub fn read(chain: Chain) -> Result<Self, OwnClaimError> {
        let grant = Grant::read(chain)?;
        let chain = grant.chain().clone();
        if chain.command().as_str() != Operation::Own.command() {
            return Err(GrantError::Command(chain.command().clone()).into());
        }
        let mut above: Option<Namespace> = None;
        for (index, delegation) in chain.links().iter().enumerate() {
            let link = index + 1;
            let terms =
                crate::Terms::read(delegation.policy()).map_err(|source| GrantError::Profile { link, source })?;
            let named = match &terms.scope {
                Scope::Within(patterns) => Namespace::of_patterns(patterns),
                Scope::All => None,
            };
            let namespace = named.ok_or(OwnClaimError::NotANamespace(link))?;
            if above.as_ref().is_some_and(|above| !above.is_above(&namespace)) {
                return Err(OwnClaimError::NotBelow { link, namespace });
            }
            above = Some(namespace);
        }
        let last = chain.links().last().expect("a chain has a link");
        let epoch = match last.meta().get(EPOCH) {
            None => 0,
            Some(Ipld::Integer(epoch)) => u64::try_from(*epoch).map_err(|_| OwnClaimError::Epoch)?,
            Some(_) => return Err(OwnClaimError::Epoch),
        };
        Ok(Self { namespace: above.expect("a chain has a link"), epoch, chain })
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Set by whoever granted it.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Who owns it.
    pub fn owner(&self) -> &NodeId {
        self.chain.audience()
    }

    /// The chain that says so.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }
}

#[derive(Debug)]
struct Known {
    epoch: u64,
    claims: Claims,
}

#[derive(Debug)]
enum Claims {
    One(Ownership),
    /// Two keys at one epoch.
    Forked,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// The namespace has another owner from now on, or one for the first time.
    Changed,
    /// Nothing new.
    Known,
    /// An older epoch than is known.
    Outdated,
    /// Another key claims the same epoch: from now on neither owns the namespace.
    Forked,
}

/// The owners of one realm's namespaces, as far as they are known.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<Namespace, Known>);

impl Owners {
    /// Takes a claim that has been checked against the realm's root, time and revocations.
    ///
    /// # Errors
    /// [`OwnClaimError::Full`].
    pub fn learn(&mut self, claim: Ownership) -> Result<Learned, OwnClaimError> {
        if self.0.len() >= NAMESPACES_MAX && !self.0.contains_key(&claim.namespace) {
            return Err(OwnClaimError::Full);
        }
        let epoch = claim.epoch;
        let Some(known) = self.0.get_mut(&claim.namespace) else {
            self.0.insert(claim.namespace.clone(), Known { epoch, claims: Claims::One(claim) });
            return Ok(Learned::Changed);
        };
        if epoch < known.epoch {
            return Ok(Learned::Outdated);
        }
        if epoch > known.epoch {
            *known = Known { epoch, claims: Claims::One(claim) };
            return Ok(Learned::Changed);
        }
        match &mut known.claims {
            Claims::Forked => Ok(Learned::Known),
            Claims::One(held) if held.owner() != claim.owner() => {
                known.claims = Claims::Forked;
                Ok(Learned::Forked)
            }
            Claims::One(held) => {
                // The same owner by a longer-lived chain.
                let later = |chain: &Chain| chain.expires().unwrap_or(u64::MAX);
                let renewed = later(claim.chain()) > later(held.chain());
                if renewed {
                    *held = claim;
                }
                Ok(if renewed { Learned::Changed } else { Learned::Known })
            }
        }
    }

    /// Who owns a namespace, if that is settled; whether the claim is in force is for the caller to check.
    pub fn resolve(&self, namespace: &Namespace) -> Option<&Ownership> {
        match &self.0.get(namespace)?.claims {
            Claims::One(claim) => Some(claim),
            Claims::Forked => None,
        }
    }

    /// What a key owns, by claims that `holds` admits.
    pub fn owned_by(&self, key: &NodeId, holds: impl Fn(&Chain) -> Result<(), ChainError>) -> Vec<&Ownership> {
        let claims = self.0.values().filter_map(|known| match &known.claims {
            Claims::One(claim) if claim.owner() == key && holds(claim.chain()).is_ok() => Some(claim),
            _ => None,
        });
        claims.collect()
    }

    /// The names that a key may grant rights to, and until when.
    pub(crate) fn scope_of(
        &self,
        key: &NodeId,
        holds: impl Fn(&Chain) -> Result<(), ChainError>,
    ) -> Option<(Scope, Option<u64>)> {
        let owned = self.owned_by(key, holds);
        let expires = owned.iter().filter_map(|claim| claim.chain().expires()).min();
        let patterns: Vec<_> = owned.iter().flat_map(|claim| claim.namespace().patterns()).collect();
        (!patterns.is_empty()).then_some((Scope::Within(patterns), expires))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chain, id, own_link, root_id};

    fn claim(path: &[(&str, u8)], epoch: Option<i128>) -> Result<Ownership, OwnClaimError> {
        let mut issuer = 200;
        let mut links = Vec::new();
        for (index, (namespace, to)) in path.iter().enumerate() {
            let epoch = epoch.filter(|_| index + 1 == path.len());
            links.push(own_link(issuer, *to, namespace, epoch));
            issuer = *to;
        }
        Ownership::read(chain(links).unwrap())
    }

    #[test]
    fn a_name_resolves_to_the_end_of_its_chain() {
        let claim = claim(&[("io.example", 1), ("io.example.user", 2)], Some(3)).unwrap();
        assert_eq!((claim.namespace().as_str(), claim.epoch(), *claim.owner()), ("io.example.user", 3, id(2)));
        assert_eq!(*claim.chain().subject(), root_id());
    }

    #[test]
    fn names_are_granted_only_downwards() {
        for path in [
            [("io.example", 1), ("io.example", 2)],
            [("io.example.user", 1), ("io.example", 2)],
            [("io.example.user", 1), ("io.example.userevil", 2)],
            [("io.example.user", 1), ("io.example.sibling", 2)],
        ] {
            let refused = claim(&path, None).unwrap_err();
            assert_eq!(refused.name(), "Overclaims", "{path:?}: {refused}");
        }
        assert_eq!(claim(&[("io.example", 1)], Some(-1)).unwrap_err(), OwnClaimError::Epoch);
    }

    #[test]
    fn epochs_move_names_and_forks_stop_them() {
        let mut owners = Owners::default();
        let user: Namespace = "io.example.user".parse().unwrap();
        let by = |key, epoch| claim(&[("io.example.user", key)], Some(epoch)).unwrap();
        let owner = |owners: &Owners| owners.resolve(&user).map(|claim| *claim.owner());
        assert_eq!(owners.learn(by(1, 1)), Ok(Learned::Changed));
        assert_eq!(owners.learn(by(1, 1)), Ok(Learned::Known));
        assert_eq!(owners.learn(by(2, 2)), Ok(Learned::Changed));
        assert_eq!(owners.learn(by(1, 1)), Ok(Learned::Outdated), "replayed after the name has moved");
        assert_eq!(owner(&owners), Some(id(2)));
        assert_eq!(owners.learn(by(3, 2)), Ok(Learned::Forked));
        assert_eq!(owner(&owners), None, "neither");
        assert!(owners.owned_by(&id(2), |_| Ok(())).is_empty());
        assert_eq!(owners.learn(by(2, 2)), Ok(Learned::Known));
        assert_eq!(owner(&owners), None, "and it stays so");
        assert_eq!(owners.learn(by(3, 3)), Ok(Learned::Changed));
        assert_eq!(owner(&owners), Some(id(3)));
    }

    #[test]
    fn it_stays_small() {
        let mut owners = Owners::default();
        let one = claim(&[("io.example", 1)], None).unwrap();
        for number in 0..NAMESPACES_MAX {
            let namespace = format!("n{number}").parse().unwrap();
            owners.learn(Ownership { namespace, ..one.clone() }).unwrap();
        }
        assert_eq!(owners.learn(one).unwrap_err(), OwnClaimError::Full);
    }
}
