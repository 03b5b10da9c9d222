//! What a node knows of its realms' tokens, and what each member of them may do now.
//!
//! A *member* is one node in one realm on one link (for a host, itself). It comes with proofs ([`Authority::join`]), may
//! bring more ([`Authority::present`]), and leaves. Its table of permissions changes when
//!
//! - a grant's time has passed: the member is *suspended* for [`AuthorityConfig::grace`], so that it can present a
//!   renewed one and lose nothing; then the right drops. The grace begins when the end is noticed, and is counted by the
//!   clock that only runs: a date that leaps beyond both takes nothing away unseen;
//! - a revocation arrives, or the names it acts by get another owner: at once;
//! - it presents more.
//!
//! Each change comes out of [`Authority::poll_change`], to be put in force by whoever drives this. Everything that was
//! refused or changed comes out of [`Authority::poll_audit`] as well.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use cid::Cid;
use macula_ucan::{Chain, ChainError, Clock, Revocation, TokenError};
use macula_wire::{NodeId, Operation, RealmId, Topic, control::Proof};
use rustc_hash::FxHashMap;

use crate::{
    AuditEvent, Grant, GrantError, Moment, OwnClaimError, Owners, Ownership, Permissions, RevocationRefused,
    Revocations, Scope,
    memo::Memo,
    owners::Learned,
    permissions::{Effective, earlier},
};

/// Bounds and patience.
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    /// Seconds that a member whose right has expired is suspended before it loses the right, from when that was noticed. 0
    /// takes it at once.
    pub grace: u64,
    /// Grants of one member that have dropped because nobody renewed them, and are remembered until they are renewed or
    /// revoked ([`Permissions::with_lapsed`]); of more, the oldest are forgotten. 0 where nothing is kept for them.
    pub lapsed_per_member_max: usize,
    /// Seconds by which `nbf` may lie ahead: clocks differ.
    pub skew: u64,
    /// Grants that one member may hold; of further proofs, the first that does not fit is refused.
    pub grants_per_member_max: usize,
    /// Patterns of names in those grants, all together: whatever changes a member's table compares them with each other.
    pub patterns_per_member_max: usize,
    /// Signatures that are checked for one link at once; as many again come back at
    /// [`signatures_per_second`](Self::signatures_per_second). Each costs about 50 µs.
    pub signatures_max: u32,
    /// See [`signatures_max`](Self::signatures_max).
    pub signatures_per_second: u32,
    /// Revocations that are new here and taken from one link at once; they come back like signatures.
    pub revocations_max: u32,
}

impl Default for AuthorityConfig {
    fn default() -> Self {
        Self {
            grace: 30,
            lapsed_per_member_max: 0,
            skew: 60,
            grants_per_member_max: 64,
            patterns_per_member_max: 256,
            signatures_max: 256,
            signatures_per_second: 16,
            revocations_max: 4096,
        }
    }
}

/// Names a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberKey {
    /// Its link, as the driver numbers them.
    pub link: u32,
    /// Its number for the realm.
    pub slot: u32,
}

/// Whether a member's rights are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// They are.
    Active,
    /// Some have expired a moment ago. Nothing of the member is to be forwarded; nothing is to be taken from it yet.
    Suspended,
}

/// A member's permissions have changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// Whose.
    pub member: MemberKey,
    /// Whether they are in force.
    pub standing: Standing,
    /// What they are from now on.
    pub permissions: Arc<Permissions>,
}

/// A chain that holds, and what it comes to in its realm.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What it says.
    pub grant: Grant,
    /// On which names, cut to what its subject may grant.
    pub scope: Scope,
    /// Until when, with what it rests on.
    pub expires: Option<u64>,
}

impl Checked {
    /// Whether it lets a node serve its realm: as a relay reads the whole realm, neither the owner of some names nor a plugin's
    /// right is enough.
    pub fn serves_realm(&self) -> bool {
        let Self { grant, scope, .. } = self;
        grant.operations().contains(Operation::Relay) && *scope == Scope::All && grant.binding().is_node()
    }

    /// Whether it reaches a name: the root's word for everything reaches the system's names, an owner's what it owns.
    pub fn reaches(&self, topic: &Topic) -> bool {
        self.scope == Scope::All || self.scope.contains(topic)
    }
}

/// Why a proof does not count.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// A token that is none, or not verified.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A chain that grants nothing here.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// A claim to names that does not hold.
    #[error(transparent)]
    OwnClaim(#[from] OwnClaimError),
    /// Too many signatures in too short a time.
    #[error("too many signatures to check; try again later")]
    Busy,
    /// The member holds as many grants as it may.
    #[error("too many grants")]
    Full,
    /// Nobody has joined under this number.
    #[error("the realm was not joined on this link")]
    NoMember,
}

/// Why a member is refused. It has what it had before.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The realm is none that this node serves.
    #[error("this relay does not serve the realm")]
    Realm,
    /// No proof holds; the first one's error.
    #[error("no proof holds: {0}")]
    Proof(#[from] ProofError),
    /// There was none.
    #[error("no proof was presented")]
    NoProof,
}

impl ProofError {
    /// One word for programs: the specification's where it has one.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Token(error) => error.name(),
            Self::Grant(error) => error.name(),
            Self::OwnClaim(error) => error.name(),
            Self::Busy => "Busy",
            Self::Full => "QuotaExceeded",
            Self::NoMember => "UnknownRealm",
        }
    }
}

impl From<ChainError> for ProofError {
    fn from(error: ChainError) -> Self {
        Self::Grant(error.into())
    }
}

impl Refusal {
    /// One word for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Realm => "UnknownRealm",
            Self::Proof(error) => error.name(),
            Self::NoProof => "UnavailableProof",
        }
    }
}

#[derive(Debug)]
struct Realm {
    root: NodeId,
    revocations: Revocations,
    owners: Owners,
}

#[derive(Debug)]
struct Member {
    realm: RealmId,
    node: NodeId,
    grants: Vec<Held>,
    /// Those that have dropped because nobody renewed them.
    lapsed: Vec<Grant>,
    standing: Standing,
    permissions: Arc<Permissions>,
    due: Due,
}

#[derive(Debug)]
struct Held {
    grant: Grant,
    /// When its end was noticed, by the running clock.
    noticed: Option<Duration>,
}

/// When a member is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Due {
    /// Something expires: by the date.
    expiry: Option<u64>,
    /// A grace is over: by the running clock.
    drop: Option<Duration>,
}

/// What one link may still make this node do. It lasts as long as the link, whatever joins succeed or fail.
#[derive(Debug, Clone, Copy)]
struct Budgets {
    signatures: Budget,
    revocations: Budget,
}

/// What may still be done, and when that was so.
#[derive(Debug, Clone, Copy)]
struct Budget {
    left: u32,
    max: u32,
    /// In whole seconds of the running clock.
    at: u64,
}

/// What a chain was taken as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Grant,
    Claim,
}

/// Audit events that wait to be taken; older ones are dropped.
const AUDIT_MAX: usize = 1024;

/// All realms that a node knows, and their members.
#[derive(Debug)]
pub struct Authority {
    config: AuthorityConfig,
    memo: Memo,
    realms: FxHashMap<RealmId, Realm>,
    members: FxHashMap<MemberKey, Member>,
    /// By link.
    budgets: FxHashMap<u32, Budgets>,
    expiries: BTreeSet<(u64, MemberKey)>,
    drops: BTreeSet<(Duration, MemberKey)>,
    changes: VecDeque<Change>,
    audit: VecDeque<AuditEvent>,
}

impl Authority {
    /// Knows no realm yet.
    pub fn new(config: AuthorityConfig) -> Self {
        Self {
            config,
            memo: Memo::default(),
            realms: FxHashMap::default(),
            members: FxHashMap::default(),
            budgets: FxHashMap::default(),
            expiries: BTreeSet::new(),
            drops: BTreeSet::new(),
            changes: VecDeque::new(),
            audit: VecDeque::new(),
        }
    }

    /// Takes a realm up.
    pub fn add_realm(&mut self, realm: RealmId, root: NodeId) {
        let (revocations, owners) = (Revocations::default(), Owners::default());
        self.realms.entry(realm).or_insert(Realm { root, revocations, owners });
    }

    /// A node joins a realm with these proofs; what it may do. A proof that does not hold is left out, and told to the
    /// audit; claims to names are learned, whoever they are for.
    ///
    /// # Errors
    /// See [`Refusal`]: at least one proof has to hold.
    pub fn join(
        &mut self,
        now: Moment,
        key: MemberKey,
        realm: &RealmId,
        node: NodeId,
        proofs: &[Proof],
    ) -> Result<Arc<Permissions>, Refusal> {
        if !self.realms.contains_key(realm) {
            self.note(AuditEvent::Refused { node, realm: *realm, error: Refusal::Realm.name() });
            return Err(Refusal::Realm);
        }
        let (permissions, standing) = (Arc::default(), Standing::Active);
        let member = Member {
            realm: *realm,
            node,
            grants: Vec::new(),
            lapsed: Vec::new(),
            standing,
            permissions,
            due: Due::default(),
        };
        self.leave(key);
        self.members.insert(key, member);
        let taken = match self.take_proofs(now, key, proofs) {
            // Who owns names is worth knowing; by itself it lets nobody in.
            Ok(Taken::Claim) => Err(Refusal::NoProof),
            other => other,
        };
        if let Err(refusal) = taken {
            self.leave(key);
            return Err(refusal);
        }
        self.refresh(now, key);
        // The caller gets them here.
        self.changes.retain(|change| change.member != key);
        Ok(self.permissions(key))
    }

    /// A member presents more.
    ///
    /// # Errors
    /// See [`Refusal`]; at least one proof has to hold.
    pub fn present(&mut self, now: Moment, key: MemberKey, proofs: &[Proof]) -> Result<(), Refusal> {
        self.take_proofs(now, key, proofs)?;
        self.refresh(now, key);
        Ok(())
    }

    /// A member is gone.
    pub fn leave(&mut self, key: MemberKey) {
        if let Some(member) = self.members.remove(&key) {
            self.set_due(key, member.due, Due::default());
        }
        self.changes.retain(|change| change.member != key);
    }

    /// A link is gone, and its members have left: what it may still do is a matter of the next one under this number.
    pub fn link_closed(&mut self, link: u32) {
        self.budgets.remove(&link);
    }

    /// What a member may do now; nothing for one that is none.
    pub fn permissions(&self, key: MemberKey) -> Arc<Permissions> {
        self.members.get(&key).map(|member| Arc::clone(&member.permissions)).unwrap_or_default()
    }

    /// Takes a revocation in, whether it is new. What is known already costs no signature, and a new one concerns only those
    /// whose rights rest on what it revokes.
    ///
    /// # Errors
    /// See [`RevocationRefused`].
    pub fn revoke(&mut self, now: Moment, realm: &RealmId, bytes: &[u8]) -> Result<bool, RevocationRefused> {
        let known = self.realms.get_mut(realm).ok_or(RevocationRefused::Realm)?;
        if known.revocations.holds(bytes) {
            return Ok(false);
        }
        let revocation = Revocation::decode(bytes)?;
        let root = known.root;
        if !known.revocations.insert(&root, &revocation)? {
            return Ok(false);
        }
        let (cid, by) = (*revocation.revoked(), *revocation.issuer());
        self.note(AuditEvent::Revoked { realm: *realm, cid, by });
        let rests_on_it = |member: &Member| member.permissions.cids().binary_search(&cid).is_ok();
        // Few members have any that has lapsed.
        self.refresh_where(now, realm, |member| rests_on_it(member) || !member.lapsed.is_empty());
        Ok(true)
    }

    /// The same for one that a peer brings on a link, which may bring so many in a time.
    ///
    /// # Errors
    /// See [`RevocationRefused`].
    pub fn revoke_from(
        &mut self,
        now: Moment,
        link: u32,
        realm: &RealmId,
        bytes: &[u8],
    ) -> Result<bool, RevocationRefused> {
        if self.revocations(realm).is_some_and(|known| known.holds(bytes)) {
            return Ok(false);
        }
        let per_second = self.config.signatures_per_second;
        if !self.budgets(now, link).revocations.pay(per_second, now) {
            return Err(RevocationRefused::Busy);
        }
        let known = self.realms.get(realm).ok_or(RevocationRefused::Realm)?;
        known.revocations.has_room_for(&known.root, Revocation::decode(bytes)?.issuer())?;
        self.revoke(now, realm, bytes)
    }

    /// Takes a delegation as revoked by `by`, who need not have signed that: to ask what would be.
    pub fn suppose_revoked(&mut self, realm: &RealmId, cid: Cid, by: NodeId) {
        if let Some(known) = self.realms.get_mut(realm) {
            known.revocations.suppose(cid, by);
        }
    }

    /// What has been revoked in a realm.
    pub fn revocations(&self, realm: &RealmId) -> Option<&Revocations> {
        self.realms.get(realm).map(|realm| &realm.revocations)
    }

    /// The root key of a realm that this node knows.
    pub fn root(&self, realm: &RealmId) -> Option<&NodeId> {
        self.realms.get(realm).map(|realm| &realm.root)
    }

    /// Who owns which names of a realm, as far as is known.
    pub(crate) fn owners(&self, realm: &RealmId) -> Option<&Owners> {
        self.realms.get(realm).map(|realm| &realm.owners)
    }

    /// Checks one chain for `node` as of now, without making anybody a member: for what a relay shows, and for
    /// invocations.
    ///
    /// # Errors
    /// See [`ProofError`]; an unknown realm has no root, so nothing begins there.
    pub fn check(&mut self, now: u64, realm: &RealmId, node: &NodeId, proof: &Proof) -> Result<Checked, ProofError> {
        let chain = decode(&self.memo, proof, &mut || Ok(()))?;
        let checked = self.check_chain(now, realm, node, chain)?;
        self.memo.remember(checked.grant.chain().links());
        Ok(checked)
    }

    pub(crate) fn check_chain(
        &self,
        now: u64,
        realm: &RealmId,
        node: &NodeId,
        chain: Chain,
    ) -> Result<Checked, ProofError> {
        let grant = Grant::read(chain)?;
        if grant.chain().audience() != node {
            return Err(GrantError::Audience(*grant.chain().audience()).into());
        }
        let clock = self.clock(now);
        grant.chain().check_time(&clock)?;
        let known = self.realms.get(realm).ok_or(GrantError::Subject(*grant.chain().subject()))?;
        let (scope, expires) = {
            let effective = known.effective(&grant, &clock)?;
            (effective.scope, effective.expires)
        };
        if scope.is_empty() || expires.is_some_and(|expires| expires < now) {
            return Err(GrantError::Subject(*grant.chain().subject()).into());
        }
        Ok(Checked { grant, scope, expires })
    }

    /// When [`Authority::handle_timeout`] wants to be called, in unix seconds, if both clocks go on as fast as now.
    pub fn poll_timeout(&self, now: Moment) -> Option<u64> {
        let expiry = self.expiries.first().map(|(due, _)| *due);
        let left = self.drops.first().map(|(due, _)| due.saturating_sub(now.running).as_secs_f64().ceil() as u64);
        earlier(expiry, left.map(|left| now.unix.saturating_add(left)))
    }

    /// A deadline may have passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        while let Some(key) = self.next_due(now) {
            self.refresh(now, key);
        }
    }

    /// A member whose deadline has passed; it is not told again.
    fn next_due(&mut self, now: Moment) -> Option<MemberKey> {
        let expired = self.expiries.first().filter(|(due, _)| *due <= now.unix).map(|(_, key)| *key);
        let key = expired.or_else(|| self.drops.first().filter(|(due, _)| *due <= now.running).map(|(_, key)| *key))?;
        let before = self.members.get_mut(&key).map(|member| std::mem::take(&mut member.due)).unwrap_or_default();
        self.set_due(key, before, Due::default());
        Some(key)
    }

    fn set_due(&mut self, key: MemberKey, before: Due, after: Due) {
        before.expiry.map(|due| self.expiries.remove(&(due, key)));
        before.drop.map(|due| self.drops.remove(&(due, key)));
        self.expiries.extend(after.expiry.map(|due| (due, key)));
        self.drops.extend(after.drop.map(|due| (due, key)));
    }

    /// The next member whose permissions have changed.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The next event for the audit.
    pub fn poll_audit(&mut self) -> Option<AuditEvent> {
        self.audit.pop_front()
    }

    /// One for everything that is held against a time: what holds for a link holds for an invocation.
    pub(crate) fn clock(&self, now: u64) -> Clock {
        Clock { now, skew: self.config.skew }
    }

    fn note(&mut self, event: AuditEvent) {
        if self.audit.len() >= AUDIT_MAX {
            self.audit.pop_front();
        }
        self.audit.push_back(event);
    }

    fn take_proofs(&mut self, now: Moment, key: MemberKey, proofs: &[Proof]) -> Result<Taken, Refusal> {
        let (mut outcome, mut claimed) = (Err(Refusal::NoProof), false);
        // Claims to names first: what their owners grant counts only then.
        let (claims, grants): (Vec<_>, Vec<_>) = proofs
            .iter()
            .map(|proof| self.decode(now, key, proof))
            .partition(|chain| chain.as_ref().is_ok_and(Ownership::is_claim));
        for chain in claims.into_iter().chain(grants) {
            let Some(member) = self.members.get(&key) else { return Err(ProofError::NoMember.into()) };
            let (realm, node) = (member.realm, member.node);
            match chain.and_then(|chain| self.take_chain(now, key, chain)) {
                Ok(Taken::Grant) => outcome = Ok(Taken::Grant),
                Ok(Taken::Claim) => claimed = true,
                Err(error) => {
                    self.note(AuditEvent::Refused { node, realm, error: error.name() });
                    if outcome == Err(Refusal::NoProof) {
                        outcome = Err(error.into());
                    }
                }
            }
        }
        match outcome {
            Err(Refusal::NoProof) if claimed => Ok(Taken::Claim),
            outcome => outcome,
        }
    }

    fn decode(&mut self, now: Moment, key: MemberKey, proof: &Proof) -> Result<Chain, ProofError> {
        let per_second = self.config.signatures_per_second;
        let mut budget = self.budgets(now, key.link).signatures;
        let mut pay = || if budget.pay(per_second, now) { Ok(()) } else { Err(ProofError::Busy) };
        let decoded = decode(&self.memo, proof, &mut pay);
        self.budgets(now, key.link).signatures = budget;
        decoded
    }

    fn budgets(&mut self, now: Moment, link: u32) -> &mut Budgets {
        let full = |max| Budget { left: max, max, at: now.running.as_secs() };
        let (signatures, revocations) = (full(self.config.signatures_max), full(self.config.revocations_max));
        self.budgets.entry(link).or_insert(Budgets { signatures, revocations })
    }

    fn take_chain(&mut self, now: Moment, key: MemberKey, chain: Chain) -> Result<Taken, ProofError> {
        let Some(member) = self.members.get(&key) else { return Err(ProofError::NoMember) };
        let (realm, node) = (member.realm, member.node);
        if Ownership::is_claim(&chain) {
            let is_own = *chain.audience() == node;
            self.learn(now, &realm, &Ownership::read(chain.clone())?)?;
            if !is_own {
                return Ok(Taken::Claim);
            }
        }
        let Checked { grant, .. } = self.check_chain(now.unix, &realm, &node, chain)?;
        let max = self.config.grants_per_member_max;
        let Some(member) = self.members.get_mut(&key) else { return Err(ProofError::NoMember) };
        let links = |grant: &Grant| grant.chain().links().iter().map(|link| *link.cid()).collect::<Vec<_>>();
        if member.grants.iter().any(|held| held.grant.cid() == grant.cid() && links(&held.grant) == links(&grant)) {
            return Ok(Taken::Grant);
        }
        member.grants.retain(|held| !held.grant.is_expired(now.unix) || member.standing == Standing::Suspended);
        let held = member.grants.iter().map(|held| &held.grant);
        let patterns: usize = held.chain([&grant]).map(|grant| grant.scope().len()).sum();
        if member.grants.len() >= max || patterns > self.config.patterns_per_member_max {
            return Err(ProofError::Full);
        }
        self.memo.remember(grant.chain().links());
        if let Some(known) = self.realms.get_mut(&realm) {
            known.revocations.know(grant.chain().links().iter().map(|link| *link.issuer()));
        }
        let event = AuditEvent::Granted { node, realm, cid: *grant.cid(), expires: grant.expires() };
        member.grants.push(Held { grant, noticed: None });
        self.note(event);
        Ok(Taken::Grant)
    }

    pub(crate) fn learn(&mut self, now: Moment, realm: &RealmId, claim: &Ownership) -> Result<(), ProofError> {
        let clock = self.clock(now.unix);
        let Some(known) = self.realms.get_mut(realm) else { return Ok(()) };
        if *claim.chain().subject() != known.root {
            return Err(GrantError::Subject(*claim.chain().subject()).into());
        }
        claim.chain().check_time(&clock)?;
        claim.chain().check_revoked(|cid, by| known.revocations.is_revoked(cid, by))?;
        let (revocations, root) = (&known.revocations, known.root);
        let holds = |chain: &Chain| {
            let is_current = chain.check_time(&clock).is_ok();
            is_current && chain.check_revoked(|cid, by| revocations.is_revoked(cid, by)).is_ok()
        };
        let learned = known.owners.learn(claim, holds);
        if learned.is_ok() {
            self.memo.remember(claim.chain().links());
        }
        match learned {
            Ok(Learned::Known | Learned::Outdated) => return Ok(()),
            Ok(Learned::Forked) => {
                self.note(AuditEvent::Forked { realm: *realm, namespace: claim.namespace().clone() });
            }
            Ok(Learned::Changed) => {}
            // What lies above it may have been news all the same.
            Err(_) => {}
        }
        // Who acts by the root's own word is not concerned by who owns names.
        let is_concerned = |member: &Member| {
            let mut held = member.grants.iter().map(|held| &held.grant).chain(&member.lapsed);
            held.any(|grant| *grant.chain().subject() != root)
        };
        self.refresh_where(now, realm, is_concerned);
        learned?;
        Ok(())
    }

    fn refresh_where(&mut self, now: Moment, realm: &RealmId, is_concerned: impl Fn(&Member) -> bool) {
        let is_concerned = |member: &Member| member.realm == *realm && is_concerned(member);
        let members: Vec<MemberKey> =
            self.members.iter().filter(|(_, member)| is_concerned(member)).map(|(key, _)| *key).collect();
        for key in members {
            self.refresh(now, key);
        }
    }

    /// Makes a member's table anew.
    fn refresh(&mut self, now: Moment, key: MemberKey) {
        let clock = self.clock(now.unix);
        let Some(member) = self.members.get_mut(&key) else { return };
        let Some(realm) = self.realms.get(&member.realm) else { return };
        let grace = Duration::from_secs(self.config.grace);
        // What is revoked does not come back. What has been expired for longer than the grace is remembered at most.
        let lapsed = &mut member.lapsed;
        member.grants.retain_mut(|held| {
            let Ok(effective) = realm.effective(&held.grant, &clock) else { return false };
            if effective.expires.is_none_or(|expires| now.unix <= expires) {
                held.noticed = None;
                return true;
            }
            let is_in_grace = now.running < held.noticed.get_or_insert(now.running).saturating_add(grace);
            if !is_in_grace {
                lapsed.push(held.grant.clone());
            }
            is_in_grace
        });
        let (current, expired): (Vec<&Held>, Vec<&Held>) =
            member.grants.iter().partition(|held| held.noticed.is_none());
        let effective = |grant| realm.effective(grant, &clock).ok();
        let current: Vec<Effective<'_>> = current.into_iter().filter_map(|held| effective(&held.grant)).collect();
        let table = Permissions::compile(current.iter().cloned());
        // Nothing is taken away yet; what has expired and was not replaced is kept in the table until it drops.
        let missing: Vec<(Duration, Effective<'_>)> = expired
            .into_iter()
            .filter_map(|held| Some((held.noticed?, effective(&held.grant)?)))
            .filter(|(_, expired)| !table.includes(expired))
            .collect();
        let drop = missing.iter().map(|(noticed, _)| noticed.saturating_add(grace)).min();
        let due = Due { expiry: table.deadline().map(|deadline| deadline.saturating_add(1)), drop };
        let (standing, table) = if missing.is_empty() {
            (Standing::Active, table)
        } else {
            let kept = missing.into_iter().map(|(_, expired)| expired);
            (Standing::Suspended, Permissions::compile(current.into_iter().chain(kept)))
        };
        member.lapsed.retain(|grant| realm.effective(grant, &clock).is_ok_and(|lapsed| !table.includes(&lapsed)));
        let too_many = member.lapsed.len().saturating_sub(self.config.lapsed_per_member_max);
        member.lapsed.drain(..too_many);
        let table = table.remembering(member.lapsed.iter().filter_map(effective));
        let before = std::mem::replace(&mut member.due, due);
        self.set_due(key, before, due);
        let Some(member) = self.members.get_mut(&key) else { return };
        if member.standing == standing && *member.permissions == table {
            return;
        }
        let (node, realm) = (member.node, member.realm);
        // A grant that another has taken the place of is no loss.
        let lost = if table.includes_all_of(&member.permissions) {
            Vec::new()
        } else {
            lost_cids(&member.permissions, &table)
        };
        member.standing = standing;
        member.permissions = Arc::new(table);
        let change = Change { member: key, standing, permissions: Arc::clone(&member.permissions) };
        self.changes.push_back(change);
        if standing == Standing::Suspended {
            self.note(AuditEvent::Suspended { node, realm });
        } else if !lost.is_empty() {
            self.note(AuditEvent::Lost { node, realm, cids: lost });
        }
    }
}

impl Realm {
    /// What a grant comes to in this realm: cut to what its subject may grant.
    fn effective<'a>(&self, grant: &'a Grant, clock: &Clock) -> Result<Effective<'a>, GrantError> {
        let chain = grant.chain();
        let revoked = |cid: &Cid, by: &NodeId| self.revocations.is_revoked(cid, by);
        chain.check_revoked(revoked)?;
        if *chain.subject() == self.root {
            let (scope, expires) = (grant.scope().clone(), grant.expires());
            return Ok(Effective { grant, scope, is_canonical: false, expires, claims: Vec::new() });
        }
        // The end of a claim is the end of what rests on it, with the same grace; it is looked at with `expires`.
        let holds_at = |at: u64| {
            let at = Clock { now: at, ..*clock };
            move |chain: &Chain| chain.check_time(&at).and_then(|()| chain.check_revoked(revoked))
        };
        let started = |chain: &Chain| {
            let at = chain.expires().map_or(clock.now, |expires| expires.min(clock.now));
            holds_at(at)(chain)
        };
        // Claims that are over count only where none is in force: they must not end what rests on another.
        let subject = chain.subject();
        let (owned, until, claims) = self
            .owners
            .scope_of(subject, grant.scope(), holds_at(clock.now))
            .or_else(|| self.owners.scope_of(subject, grant.scope(), started))
            .ok_or(GrantError::Subject(*subject))?;
        let scope = grant.scope().intersection(&owned);
        Ok(Effective { grant, scope, is_canonical: true, expires: earlier(grant.expires(), until), claims })
    }
}

impl Budget {
    /// Takes one, if there is one left.
    fn pay(&mut self, per_second: u32, now: Moment) -> bool {
        let now = now.running.as_secs();
        let back = now.saturating_sub(self.at).saturating_mul(u64::from(per_second));
        self.left = u64::from(self.left).saturating_add(back).min(u64::from(self.max)) as u32;
        self.at = now.max(self.at);
        let is_there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_there
    }
}

fn decode(memo: &Memo, proof: &Proof, pay: &mut impl FnMut() -> Result<(), ProofError>) -> Result<Chain, ProofError> {
    if proof.0.len() > macula_ucan::limits::CHAIN_MAX {
        return Err(ChainError::TooLong(proof.0.len()).into());
    }
    let links = proof.0.iter().map(|token| memo.delegation(token, &mut *pay)).collect::<Result<_, ProofError>>()?;
    Ok(Chain::new(links)?)
}

/// Delegations that the one table rests on and the other does not.
fn lost_cids(before: &Permissions, after: &Permissions) -> Vec<Cid> {
    before.cids().iter().filter(|cid| after.cids().binary_search(cid).is_err()).copied().collect()
}

#[cfg(test)]
mod tests;
