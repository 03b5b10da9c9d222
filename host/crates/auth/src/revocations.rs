//! Revocations of one realm: monotone, bounded for each issuer, kept when they come before what they revoke.

use cid::Cid;
use macula_ucan::{Revocation, TokenError};
use macula_wire::NodeId;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

/// Revocations of one issuer. One that needs more moves to another key, and has its own delegation revoked.
const PER_ISSUER_MAX: usize = 1024;
/// Revocations of one realm; the last [`RESERVED`] are kept for its root.
const PER_REALM_MAX: usize = 16_384;
/// See [`PER_REALM_MAX`].
const RESERVED: usize = 1024;
/// Of those, the ones by issuers of whom no chain has been accepted: anybody can make keys, and say anything with them.
const BY_STRANGERS_MAX: usize = 4096;
/// Issuers of accepted chains that are remembered; further ones count as strangers.
const KNOWN_MAX: usize = 16_384;

/// What has been revoked in a realm, and by whom. Nothing is ever taken out.
///
/// Anybody may say that a delegation is revoked; it counts where the one who says so issued a link of the chain, at or
/// above the delegation (see [`Revocations::is_revoked`]).
#[derive(Debug, Default)]
pub struct Revocations {
    by_cid: FxHashMap<Cid, SmallVec<[NodeId; 1]>>,
    by_issuer: FxHashMap<NodeId, usize>,
    /// As signed, in the order in which they came, and their ids.
    tokens: Vec<Box<[u8]>>,
    ids: FxHashSet<Cid>,
    /// Issuers of accepted chains.
    known: FxHashSet<NodeId>,
    by_strangers: usize,
}

/// Why a revocation is not taken. What was known before stays.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationRefused {
    /// It is none, or its signature does not verify.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its issuer, or the realm, has too many.
    #[error("too many revocations are kept for this {0}")]
    Full(&'static str),
    /// Too many new ones in too short a time.
    #[error("too many revocations; try again later")]
    Busy,
    /// The realm is none that this node knows.
    #[error("the realm is not known here")]
    Realm,
}

impl RevocationRefused {
    /// One word for programs: the specification's where it has one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Token(error) => error.name(),
            Self::Full(_) => "QuotaExceeded",
            Self::Busy => "Busy",
            Self::Realm => "UnknownRealm",
        }
    }
}

impl Revocations {
    /// Takes a revocation; whether it is new.
    ///
    /// # Errors
    /// [`RevocationRefused::Full`].
    pub fn insert(&mut self, root: &NodeId, revocation: &Revocation) -> Result<bool, RevocationRefused> {
        let (cid, issuer) = (*revocation.revoked(), *revocation.issuer());
        if self.is_revoked(&cid, &issuer) {
            return Ok(false);
        }
        let by_root = issuer == *root;
        let of_issuer = self.by_issuer.get(&issuer).copied().unwrap_or_default();
        if !by_root && of_issuer >= PER_ISSUER_MAX {
            return Err(RevocationRefused::Full("issuer"));
        }
        let max = if by_root { PER_REALM_MAX } else { PER_REALM_MAX - RESERVED };
        if self.tokens.len() >= max {
            return Err(RevocationRefused::Full("realm"));
        }
        self.by_strangers += usize::from(!by_root && !self.known.contains(&issuer));
        self.by_cid.entry(cid).or_default().push(issuer);
        self.by_issuer.insert(issuer, of_issuer + 1);
        self.tokens.push(revocation.bytes().into());
        self.ids.insert(*revocation.cid());
        Ok(true)
    }

    /// Takes a delegation as revoked by `by` without that being signed: to ask what would be.
    pub(crate) fn suppose(&mut self, cid: Cid, by: NodeId) {
        self.by_cid.entry(cid).or_default().push(by);
    }

    /// A chain by these issuers was accepted: what they revoke matters.
    pub(crate) fn know(&mut self, issuers: impl IntoIterator<Item = NodeId>) {
        for issuer in issuers {
            if self.known.len() < KNOWN_MAX {
                self.known.insert(issuer);
            }
        }
    }

    /// Whether a peer may bring one more by this issuer. What comes from this node's own disk or user is not asked.
    pub(crate) fn has_room_for(&self, root: &NodeId, issuer: &NodeId) -> Result<(), RevocationRefused> {
        let is_stranger = issuer != root && !self.known.contains(issuer);
        if is_stranger && self.by_strangers >= BY_STRANGERS_MAX {
            return Err(RevocationRefused::Full("realm"));
        }
        Ok(())
    }

    /// Whether a revocation was taken in, by its bytes as signed.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        self.ids.contains(&macula_ucan::cid_of(bytes))
    }

    /// Whether `by` has revoked the delegation.
    pub fn is_revoked(&self, cid: &Cid, by: &NodeId) -> bool {
        self.by_cid.get(cid).is_some_and(|issuers| issuers.contains(by))
    }

    /// All of them, as signed, oldest first.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.tokens.iter().map(AsRef::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, key, link, root_id};

    #[test]
    fn counts_for_whoever_issued_a_link_above() {
        let mut revocations = Revocations::default();
        let delegation = link(200, 1, "/mesh", &[]);
        let by = |seed| Revocation::sign(&key(seed), delegation.cid());
        assert_eq!(revocations.insert(&root_id(), &by(200)), Ok(true));
        assert_eq!(revocations.insert(&root_id(), &by(200)), Ok(false), "said twice is said once");
        assert!(revocations.holds(by(200).bytes()) && !revocations.holds(by(9).bytes()));
        assert!(revocations.is_revoked(delegation.cid(), &root_id()));
        assert!(!revocations.is_revoked(delegation.cid(), &id(9)));
        assert_eq!(revocations.insert(&root_id(), &by(9)), Ok(true), "kept, and without effect on this chain");
        assert_eq!(revocations.len(), 2);
    }

    #[test]
    fn bounded_for_each_issuer_and_in_all() {
        let mut revocations = Revocations::default();
        let full = |revocations: &mut Revocations, issuer: u8, count: usize| {
            revocations.by_issuer.insert(id(issuer), count);
            let delegation = link(200, issuer, "/mesh", &[&format!("t{count}")]);
            revocations.insert(&root_id(), &Revocation::sign(&key(issuer), delegation.cid()))
        };
        assert_eq!(full(&mut revocations, 1, PER_ISSUER_MAX), Err(RevocationRefused::Full("issuer")));
        assert_eq!(full(&mut revocations, 200, PER_ISSUER_MAX), Ok(true), "the root's always count");
        revocations.by_strangers = BY_STRANGERS_MAX;
        assert_eq!(revocations.has_room_for(&root_id(), &id(3)), Err(RevocationRefused::Full("realm")));
        assert_eq!(revocations.has_room_for(&root_id(), &root_id()), Ok(()));
        revocations.know([id(3)]);
        assert_eq!(revocations.has_room_for(&root_id(), &id(3)), Ok(()), "somebody's word here");
        revocations.tokens.resize(PER_REALM_MAX - RESERVED, Box::default());
        assert_eq!(full(&mut revocations, 2, 1), Err(RevocationRefused::Full("realm")));
        assert_eq!(full(&mut revocations, 200, 2), Ok(true));
    }
}
