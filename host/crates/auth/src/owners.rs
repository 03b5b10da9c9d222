//! Who owns which names of a realm: `did:macula:<namespace>`, resolved through chains of `/mesh/own`.
//!
//! Everything belongs to the realm's root until it grants a namespace, and the owner of a namespace may grant what lies
//! below it: only downwards, by whole labels. The name resolves to the key at the end of such a chain. Whoever grants
//! sets the *epoch* in the last link's `meta`: a higher one replaces a lower one, so that a name can move to another
//! key. Two keys at the same epoch are a fork: neither owns the name until a higher epoch settles it.
//! Specified in `docs/protocol/ucan.md`, “Names that others own”.

use std::{cmp::Ordering, collections::BTreeMap};

use cid::Cid;
use macula_ucan::{Chain, ChainError, Ipld};
use macula_wire::{NodeId, Operation};

use crate::{Grant, GrantError, Namespace, Scope};

/// Key of the epoch in a delegation's `meta`.
const EPOCH: &str = "epoch";

/// Namespaces of one realm whose owner is remembered. Further ones are not learned: their owners' tokens are refused. Claims
/// that are over are not forgotten either: it is their epoch that keeps older ones out.
const NAMESPACES_MAX: usize = 4096;
/// Of those, the last ones, kept for what the realm's root grants itself.
const RESERVED: usize = 256;
/// Epochs at most, so that there is always a higher one to say, in any tool's numbers: 2⁵³ − 1.
const EPOCH_MAX: u64 = (1 << 53) - 1;
/// Of those namespaces, the ones that one owner has granted. The realm's root is not bound by it.
const PER_GRANTER_MAX: usize = 256;

/// A claim to a namespace that holds together, at some time or other.
#[derive(Debug, Clone)]
pub struct Ownership {
    /// What each link grants, the widest first.
    path: Vec<Namespace>,
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
    /// It is for a plugin: names are owned by keys.
    #[error("names are owned by keys, and this is for a plugin")]
    Bound,
    /// An epoch that is no whole number from 0 to 2⁵³ − 1.
    #[error("the epoch is no whole number from 0 to 9007199254740991")]
    Epoch,
    /// Somebody else owns the names by now, of this claim or of one that it rests on; or two keys claim them.
    #[error("{0} belongs to another key, or is claimed by two")]
    NotOwner(Namespace),
    /// Too many namespaces are known already, in all or of those that one key has granted.
    #[error("too many namespaces are known, and no more are learned")]
    Full,
}

impl OwnClaimError {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Grant(error) => error.name(),
            Self::NotANamespace(_) | Self::Bound => "UnsupportedPolicy",
            Self::NotBelow { .. } => "Overclaims",
            Self::Epoch => "InvalidEpoch",
            Self::NotOwner(_) => "InvalidSubject",
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
        if !grant.binding().is_node() {
            return Err(OwnClaimError::Bound);
        }
        let mut path: Vec<Namespace> = Vec::new();
        for (index, delegation) in chain.links().iter().enumerate() {
            let link = index + 1;
            let terms =
                crate::Terms::read(delegation.policy()).map_err(|source| GrantError::Profile { link, source })?;
            let named = match &terms.scope {
                Scope::Within(patterns) => Namespace::of_patterns(patterns),
                Scope::All => None,
            };
            let namespace = named.ok_or(OwnClaimError::NotANamespace(link))?;
            if path.last().is_some_and(|above| !above.is_above(&namespace)) {
                return Err(OwnClaimError::NotBelow { link, namespace });
            }
            path.push(namespace);
        }
        let last = chain.last();
        let epoch = match last.meta().get(EPOCH) {
            None => 0,
            Some(Ipld::Integer(epoch)) => {
                u64::try_from(*epoch).ok().filter(|epoch| *epoch <= EPOCH_MAX).ok_or(OwnClaimError::Epoch)?
            }
            Some(_) => return Err(OwnClaimError::Epoch),
        };
        Ok(Self { path, epoch, chain })
    }

    /// Whether a chain is about owning names, and not about using them.
    pub fn is_claim(chain: &Chain) -> bool {
        chain.command().as_str() == Operation::Own.command()
    }

    /// The claims that this one rests on, the widest first, and itself.
    fn with_those_above(&self) -> impl Iterator<Item = Result<Self, OwnClaimError>> {
        let links = self.chain.links();
        (1..=links.len()).map(|length| Self::read(Chain::new(links[..length].to_vec()).map_err(GrantError::from)?))
    }

    /// The namespace.
    pub fn namespace(&self) -> &Namespace {
        self.path.last().expect("a claim has a link, and each link a namespace")
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
    /// Who granted it first.
    granter: NodeId,
    /// The claim that holds, or one of two.
    claim: Ownership,
    /// Two keys claim it at one epoch: neither owns it.
    is_forked: bool,
}

/// What became of a claim; the more it changes, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Learned {
    /// Nothing new.
    Known,
    /// An older epoch than is known.
    Outdated,
    /// The namespace has another owner from now on, or one for the first time.
    Changed,
    /// Another key claims the same epoch: from now on neither owns the namespace.
    Forked,
}

/// The owners of one realm's namespaces, as far as they are known.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<Namespace, Known>);

impl Owners {
    /// Takes a claim that has been checked against the realm's root, time and revocations, with those that it rests on:
    /// of all of them, what is news to the widest names.
    ///
    /// # Errors
    /// [`OwnClaimError::Full`]; [`OwnClaimError::NotOwner`] when a claim above it does not stand any more. What lies above
    /// that is learned all the same.
    pub fn learn(&mut self, claim: &Ownership, holds: impl Fn(&Chain) -> bool) -> Result<Learned, OwnClaimError> {
        let mut news = Learned::Known;
        for part in claim.with_those_above() {
            let part = part?;
            // What is above may have moved; what is below such a claim is nobody's word any more.
            self.check_links(&part, part.path.len() - 1)?;
            news = news.max(self.learn_one(part, &holds)?);
        }
        Ok(news)
    }

    fn learn_one(&mut self, claim: Ownership, holds: impl Fn(&Chain) -> bool) -> Result<Learned, OwnClaimError> {
        let granter = *claim.chain.last().issuer();
        let by_root = claim.path.len() == 1;
        let Some(known) = self.0.get(claim.namespace()) else {
            let granted = self.0.values().filter(|known| known.granter == granter).count();
            let max = if by_root { NAMESPACES_MAX } else { NAMESPACES_MAX - RESERVED };
            if self.0.len() >= max || (!by_root && granted >= PER_GRANTER_MAX) {
                return Err(OwnClaimError::Full);
            }
            self.0.insert(claim.namespace().clone(), Known { granter, claim, is_forked: false });
            return Ok(Learned::Changed);
        };
        let learned = self.compare(known, &claim, holds);
        let known = self.0.get_mut(claim.namespace()).expect("found above");
        match learned {
            Learned::Changed => *known = Known { granter: known.granter, claim, is_forked: false },
            Learned::Forked => known.is_forked = true,
            Learned::Known | Learned::Outdated => {}
        }
        Ok(learned)
    }

    /// What a claim is beside the one that is known.
    fn compare(&self, known: &Known, claim: &Ownership, holds: impl Fn(&Chain) -> bool) -> Learned {
        let held = &known.claim;
        // The root's own word comes before that of any owner, whatever their epochs.
        match (claim.path.len() == 1, held.path.len() == 1) {
            (true, false) => return Learned::Changed,
            (false, true) => return Learned::Outdated,
            _ => {}
        }
        // Whoever has lost the names above does not bind those who have them now.
        if self.check_links(held, held.path.len() - 1).is_err() {
            return Learned::Changed;
        }
        match claim.epoch.cmp(&held.epoch) {
            Ordering::Less => Learned::Outdated,
            Ordering::Greater => Learned::Changed,
            Ordering::Equal if known.is_forked => Learned::Known,
            Ordering::Equal if held.owner() != claim.owner() => Learned::Forked,
            // The same owner by a longer-lived chain, or by one that holds in place of one that does not.
            Ordering::Equal => {
                let later = |chain: &Chain| chain.expires().unwrap_or(u64::MAX);
                let is_renewed = later(claim.chain()) > later(held.chain()) || !holds(held.chain());
                if is_renewed { Learned::Changed } else { Learned::Known }
            }
        }
    }

    /// Who owns a namespace, if that is settled; whether the claim is in force is for the caller to check.
    pub fn resolve(&self, namespace: &Namespace) -> Option<&Ownership> {
        let known = self.0.get(namespace)?;
        (!known.is_forked).then_some(&known.claim)
    }

    /// Whether each of the first `count` links of a claim is for the key that owns its names now.
    fn check_links(&self, claim: &Ownership, count: usize) -> Result<(), OwnClaimError> {
        for (namespace, link) in claim.path.iter().zip(claim.chain.links()).take(count) {
            if self.resolve(namespace).is_none_or(|owned| owned.owner() != link.audience()) {
                return Err(OwnClaimError::NotOwner(namespace.clone()));
            }
        }
        Ok(())
    }

    /// What a key owns, by claims that `holds` admits and whose every link stands.
    fn owned_by(&self, key: &NodeId, holds: impl Fn(&Chain) -> Result<(), ChainError>) -> Vec<&Ownership> {
        let claims = self.0.values().filter(|known| !known.is_forked).map(|known| &known.claim);
        let stands = |claim: &&Ownership| {
            claim.owner() == key && holds(claim.chain()).is_ok() && self.check_links(claim, claim.path.len()).is_ok()
        };
        claims.filter(stands).collect()
    }

    /// Of `wanted`, the names that a key may grant rights to, until when, and the delegations that say so.
    pub(crate) fn scope_of(
        &self,
        key: &NodeId,
        wanted: &Scope,
        holds: impl Fn(&Chain) -> Result<(), ChainError>,
    ) -> Option<(Scope, Option<u64>, Vec<Cid>)> {
        let mut owned = self.owned_by(key, holds);
        // Another claim's end is no matter of what does not rest on it.
        owned.retain(|claim| !wanted.intersection(&Scope::Within(claim.namespace().patterns().to_vec())).is_empty());
        let expires = owned.iter().filter_map(|claim| claim.chain().expires()).min();
        let patterns: Vec<_> = owned.iter().flat_map(|claim| claim.namespace().patterns()).collect();
        let cids = owned.iter().flat_map(|claim| claim.chain().links()).map(|link| *link.cid()).collect();
        (!patterns.is_empty()).then_some((Scope::Within(patterns), expires, cids))
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

    /// Goal: names have one owner, a key, and not one plugin among several on its node.
    #[test]
    fn a_claim_is_for_a_key() {
        let binding = crate::Binding::plugin(macula_wire::Mcid::of(b"component"));
        let bound = crate::testing::link_for(200, 1, "/mesh/own", &["io.example", "io.example.**"], binding);
        let refused = Ownership::read(chain(vec![bound]).unwrap()).unwrap_err();
        assert_eq!((refused.name(), refused), ("UnsupportedPolicy", OwnClaimError::Bound));
    }

    #[test]
    fn epochs_move_names_and_forks_stop_them() {
        let mut owners = Owners::default();
        let user: Namespace = "io.example.user".parse().unwrap();
        let by = |key, epoch| claim(&[("io.example.user", key)], Some(epoch)).unwrap();
        let owner = |owners: &Owners| owners.resolve(&user).map(|claim| *claim.owner());
        assert_eq!(owners.learn(&by(1, 1), |_| true), Ok(Learned::Changed));
        assert_eq!(owners.learn(&by(1, 1), |_| true), Ok(Learned::Known));
        assert_eq!(owners.learn(&by(2, 2), |_| true), Ok(Learned::Changed));
        assert_eq!(owners.learn(&by(1, 1), |_| true), Ok(Learned::Outdated), "replayed after the name has moved");
        assert_eq!(owner(&owners), Some(id(2)));
        assert_eq!(owners.learn(&by(3, 2), |_| true), Ok(Learned::Forked));
        assert_eq!(owner(&owners), None, "neither");
        assert!(owners.owned_by(&id(2), |_| Ok(())).is_empty());
        assert_eq!(owners.learn(&by(2, 2), |_| true), Ok(Learned::Known));
        assert_eq!(owner(&owners), None, "and it stays so");
        assert_eq!(owners.learn(&by(3, 3), |_| true), Ok(Learned::Changed));
        assert_eq!(owner(&owners), Some(id(3)));
    }

    /// Goal: what was granted by somebody who has lost the names since is worth nothing, whatever its own epoch.
    #[test]
    fn moving_a_name_ends_what_lies_below() {
        let mut owners = Owners::default();
        let below = |epoch| claim(&[("io.example", 1), ("io.example.user", 2)], Some(epoch)).unwrap();
        assert_eq!(owners.learn(&below(1), |_| true), Ok(Learned::Changed));
        assert_eq!(owners.owned_by(&id(2), |_| Ok(())).len(), 1);
        assert_eq!(owners.owned_by(&id(1), |_| Ok(())).len(), 1, "those above are learned with it");
        owners.learn(&claim(&[("io.example", 3)], Some(1)).unwrap(), |_| true).unwrap();
        assert!(owners.owned_by(&id(2), |_| Ok(())).is_empty());
        let refused = owners.learn(&below(9), |_| true).unwrap_err();
        assert_eq!(refused.name(), "InvalidSubject", "{refused}");
        assert!(owners.owned_by(&id(2), |_| Ok(())).is_empty());
        owners.learn(&claim(&[("io.example", 3), ("io.example.user", 4)], Some(10)).unwrap(), |_| true).unwrap();
        assert_eq!(owners.owned_by(&id(4), |_| Ok(())).len(), 1);
    }

    /// Goal: whoever has lost a name cannot keep others from it: neither by a high epoch nor by a fork.
    #[test]
    fn a_former_owner_binds_nobody() {
        let below = |owner, to, epoch| claim(&[("io.example", owner), ("io.example.user", to)], Some(epoch)).unwrap();
        let mut owners = Owners::default();
        owners.learn(&below(1, 2, EPOCH_MAX.into()), |_| true).unwrap();
        assert_eq!(owners.learn(&below(1, 5, EPOCH_MAX.into()), |_| true), Ok(Learned::Forked));
        owners.learn(&claim(&[("io.example", 3)], Some(1)).unwrap(), |_| true).unwrap();
        let moved = claim(&[("io.example", 3), ("io.example.user", 4)], Some(1)).unwrap();
        assert_eq!(owners.learn(&moved, |_| true), Ok(Learned::Changed));
        assert_eq!(owners.owned_by(&id(4), |_| Ok(())).len(), 1);
        // What the former owner grants is refused before anything of it is taken in.
        assert_eq!(owners.learn(&below(1, 2, 7), |_| true).unwrap_err().name(), "InvalidSubject");
        assert_eq!(owners.owned_by(&id(4), |_| Ok(())).len(), 1);
        assert_eq!(claim(&[("io.example", 1)], Some(i128::from(EPOCH_MAX) + 1)).unwrap_err(), OwnClaimError::Epoch);
    }

    #[test]
    fn the_roots_own_word_comes_first() {
        let mut owners = Owners::default();
        let by_owner = claim(&[("io.example", 1), ("io.example.user", 2)], Some(9)).unwrap();
        let by_root = claim(&[("io.example.user", 3)], None).unwrap();
        owners.learn(&by_owner, |_| true).unwrap();
        assert_eq!(owners.learn(&by_root, |_| true), Ok(Learned::Changed));
        assert_eq!(owners.learn(&by_owner, |_| true), Ok(Learned::Outdated));
        assert_eq!(owners.owned_by(&id(3), |_| Ok(())).len(), 1);
    }

    #[test]
    fn a_claim_that_holds_replaces_one_that_does_not() {
        let mut owners = Owners::default();
        let by_root = claim(&[("io.example", 1)], None).unwrap();
        owners.learn(&by_root, |_| true).unwrap();
        assert_eq!(owners.learn(&by_root, |_| true), Ok(Learned::Known));
        assert_eq!(owners.learn(&by_root, |_| false), Ok(Learned::Changed));
    }

    /// Goal: a claim that is over, or about other names, does not end what another one carries.
    #[test]
    fn only_the_names_that_are_wanted_count() {
        let mut owners = Owners::default();
        for namespace in ["io.example", "io.other"] {
            owners.learn(&claim(&[(namespace, 1)], None).unwrap(), |_| true).unwrap();
        }
        let wanted = Scope::Within(vec!["io.example.door".parse().unwrap()]);
        let (_, _, cids) = owners.scope_of(&id(1), &wanted, |_| Ok(())).unwrap();
        assert_eq!(cids.len(), 1);
        let (_, _, cids) = owners.scope_of(&id(1), &Scope::All, |_| Ok(())).unwrap();
        assert_eq!(cids.len(), 2);
    }

    #[test]
    fn it_stays_small() {
        let mut owners = Owners::default();
        let by_owner = claim(&[("io.example", 1), ("io.example.user", 2)], None).unwrap();
        for number in 0..PER_GRANTER_MAX {
            let path = vec![format!("n{number}").parse().unwrap()];
            owners.learn_one(Ownership { path, ..by_owner.clone() }, |_| true).unwrap();
        }
        assert_eq!(owners.learn_one(by_owner, |_| true).unwrap_err(), OwnClaimError::Full, "of one owner");
        let by_root = claim(&[("io.example", 1)], None).unwrap();
        // Nobody but the root gets at the last ones; see `RESERVED`.
        for number in PER_GRANTER_MAX..NAMESPACES_MAX {
            let path = vec![format!("n{number}").parse().unwrap()];
            owners.learn_one(Ownership { path, ..by_root.clone() }, |_| true).unwrap();
        }
        assert_eq!(owners.learn_one(by_root, |_| true).unwrap_err(), OwnClaimError::Full);
    }
}
