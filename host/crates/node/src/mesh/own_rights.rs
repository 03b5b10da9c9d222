//! What this node may do in its realm, and what its relay has shown: kept up to date while the handle lives.
//!
//! The node holds itself to the same table that its relay makes of the same proofs. So what is not allowed fails here, at
//! once and with the reason, and what is no longer allowed ends here, whatever the relay does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use macula_auth::{
    AuditEvent, Authority, AuthorityConfig, Change, ExpectedRecord, GrantError, Invocations, MemberKey, Moment,
    Permissions, ProofError, Refusal, SignedRecord, Standing, Validity, ucan::Ipld,
};
use macula_wire::{NodeId, Operation, RealmId, control::Proof};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{
    Audit, RealmAccess, RevocationLog, clock, clock::unix_now, realm_access::Purpose, revocation_log::LoggedRevocation,
};

/// This node is the only member that it knows.
const SELF: MemberKey = MemberKey { link: 0, slot: 0 };

/// Grants that are remembered when nobody has renewed them: as many as a member may hold.
const LAPSED_MAX: usize = 64;

/// How often deadlines are looked at.
pub(super) const TICK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct OwnRights {
    node: NodeId,
    access: RealmAccess,
    realm: RealmId,
    log: Option<RevocationLog>,
    pub(super) audit: Arc<Audit>,
    state: Mutex<State>,
    /// Something was revoked.
    revoked: Notify,
    permissions: watch::Sender<Arc<Permissions>>,
}

#[derive(Debug)]
struct State {
    authority: Authority,
    invocations: Invocations,
    /// What was presented last, and when more is to be looked for: by the date, or by the clock that runs.
    proofs: Vec<Proof>,
    renew_at: Moment,
    /// Why there are no rights at all.
    refusal: Option<Refusal>,
    /// Rights have expired a moment ago: a renewed proof is looked for at each tick.
    is_suspended: bool,
}

impl State {
    fn is_due(&self, now: Moment) -> bool {
        let expires = || self.authority.poll_timeout(now).is_some_and(|due| due <= now.unix);
        self.is_suspended || self.is_renewal(now) || expires()
    }

    /// A date that was reset does not put it off, nor one that has leapt.
    fn is_renewal(&self, now: Moment) -> bool {
        now.unix >= self.renew_at.unix || now.running >= self.renew_at.running
    }
}

/// What a look at the clock has brought.
#[derive(Debug, Default)]
pub(super) struct Ticked {
    /// To be presented to the relay.
    pub(super) proofs: Vec<Proof>,
    /// The table has changed.
    pub(super) changed: bool,
}

impl OwnRights {
    pub(super) fn new(
        node: NodeId,
        access: RealmAccess,
        log: Option<RevocationLog>,
        revocations: &[LoggedRevocation],
    ) -> Self {
        let realm = access.id();
        let mut authority =
            Authority::new(AuthorityConfig { lapsed_per_member_max: LAPSED_MAX, ..AuthorityConfig::default() });
        authority.add_realm(realm, access.root());
        let now = clock::now();
        for (_, revocation) in revocations.iter().filter(|(of, _)| *of == realm) {
            if let Err(error) = authority.revoke(now, &realm, revocation) {
                tracing::warn!(%error, "a revocation on disk is left out");
            }
        }
        // They were news when they came.
        while authority.poll_audit().is_some() {}
        let proofs = access.proofs(&node, Purpose::Member, now.unix);
        let joined = authority.join(now, SELF, &realm, node, &proofs);
        let (permissions, refusal) = match joined {
            Ok(permissions) => (permissions, None),
            Err(refusal) => (Arc::default(), Some(refusal)),
        };
        let renew_at = access.renewal_after(now);
        let invocations = Invocations::default();
        let state = State { authority, invocations, proofs, renew_at, refusal, is_suspended: false };
        let audit = Arc::new(Audit::new("host", [&access]));
        let (state, revoked, permissions) = (Mutex::new(state), Notify::new(), watch::channel(permissions).0);
        let rights = Self { node, access, realm, log, audit, state, revoked, permissions };
        rights.record(&mut rights.state.lock());
        rights
    }

    pub(super) fn access(&self) -> &RealmAccess {
        &self.access
    }

    pub(super) fn realm(&self) -> RealmId {
        self.realm
    }

    /// What this node may do, now and as it changes.
    pub(super) fn permissions(&self) -> watch::Receiver<Arc<Permissions>> {
        self.permissions.subscribe()
    }

    /// What to present on a new link; why there is nothing, when there is nothing.
    pub(super) fn proofs(&self) -> Result<Vec<Proof>, Refusal> {
        let mut state = self.state.lock();
        self.renew(&mut state, clock::now());
        match &state.refusal {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(state.proofs.clone()),
        }
    }

    /// Revocations that this node knows, to be told to a relay.
    pub(super) fn revocations(&self) -> Vec<Vec<u8>> {
        let state = self.state.lock();
        let known = state.authority.revocations(&self.realm);
        known.map(|known| known.tokens().map(<[u8]>::to_vec).collect()).unwrap_or_default()
    }

    /// Whether a relay may serve the realm, by what it has shown; until when.
    pub(super) fn check_relay(&self, relay: &NodeId, proof: &Proof) -> Result<Option<u64>, ProofError> {
        let mut state = self.state.lock();
        let checked = state.authority.check(unix_now(), &self.realm, relay, proof)?;
        if !checked.serves_realm() {
            return Err(GrantError::Command(checked.grant.chain().command().clone()).into());
        }
        Ok(checked.expires)
    }

    /// How long a relay may take to renew its right, from when it was noticed that it is over.
    pub(super) fn grace() -> Duration {
        Duration::from_secs(AuthorityConfig::default().grace)
    }

    /// Looks for newer proofs at the next tick, and presents them: a relay does not know of rights that are in force here.
    pub(super) fn renew_soon(&self) {
        self.state.lock().renew_at = Moment::at(0);
    }

    /// A look at the clock: renews what is half over, drops what has ended.
    pub(super) fn tick(&self) -> Ticked {
        let mut state = self.state.lock();
        let now = clock::now();
        let mut ticked = Ticked::default();
        if state.is_due(now) {
            ticked.proofs = self.renew(&mut state, now);
        }
        state.authority.handle_timeout(now);
        ticked.changed = self.settle(&mut state);
        ticked
    }

    /// Takes a revocation in; whether the table has changed. What is new is kept on disk.
    pub(super) fn revoke(&self, revocation: &[u8]) -> bool {
        let mut state = self.state.lock();
        match state.authority.revoke(clock::now(), &self.realm, revocation) {
            Ok(false) => return false,
            Ok(true) => {}
            Err(error) => {
                tracing::warn!(%error, "a revocation is not taken in");
                return false;
            }
        }
        let changed = self.settle(&mut state);
        drop(state);
        self.revoked.notify_one();
        if let Some(log) = &self.log {
            log.append_later(&self.realm, revocation);
        }
        changed
    }

    /// Where revocations are kept.
    pub(super) fn log(&self) -> Option<&RevocationLog> {
        self.log.as_ref()
    }

    /// Waits until something is revoked; remembered for the next who waits.
    pub(super) async fn revoked(&self) {
        self.revoked.notified().await;
    }

    /// Checks a signed invocation that was sent to this node; see [`macula_auth::Invocations`].
    pub(super) fn accept_invocation(
        &self,
        tokens: &[Vec<u8>],
        sender: &NodeId,
        operation: Operation,
        topic: &macula_wire::Topic,
    ) -> Result<BTreeMap<String, Ipld>, macula_auth::InvocationRefused> {
        let expected = macula_auth::Expected { realm: &self.realm, node: &self.node, sender, operation, topic };
        let mut state = self.state.lock();
        let State { authority, invocations, .. } = &mut *state;
        let accepted = invocations.accept(unix_now(), authority, tokens, expected);
        drop(state);
        match accepted {
            Ok(arguments) => Ok(arguments),
            Err(refused) => {
                let error = refused.name();
                self.audit.record(&AuditEvent::Refused { node: *sender, realm: self.realm, error });
                Err(refused)
            }
        }
    }

    /// Checks a record; see [`Authority::check_record`].
    pub(super) fn check_record(
        &self,
        tokens: &[Vec<u8>],
        operation: Operation,
        topic: &macula_wire::Topic,
        validity: Validity,
    ) -> Result<SignedRecord, macula_auth::InvocationRefused> {
        let expected = ExpectedRecord { realm: &self.realm, operation, topic, validity };
        let mut state = self.state.lock();
        // What somebody has just signed confirms a clock that has jumped ahead.
        if let Some(ahead) = clock::ahead()
            && let Ok(record) = state.authority.check_record(ahead, tokens, expected)
        {
            clock::confirm(record.issued);
        }
        state.authority.check_record(clock::now(), tokens, expected)
    }

    /// Looks for new proofs; those that are new.
    fn renew(&self, state: &mut State, now: Moment) -> Vec<Proof> {
        if !state.is_due(now) && state.refusal.is_none() {
            return Vec::new();
        }
        let is_renewal = state.is_renewal(now);
        state.renew_at = self.access.renewal_after(now);
        let found = self.access.proofs(&self.node, Purpose::Member, now.unix);
        // Now and then all of them: what was refused or has dropped may hold by now, when a claim that it rests on is back.
        let is_new = |proof: &&Proof| is_renewal || !state.proofs.contains(proof);
        let new: Vec<Proof> = found.iter().filter(is_new).cloned().collect();
        // What was refused may hold by now: its time has come, or the relay is less busy.
        if new.is_empty() && state.refusal.is_none() {
            return new;
        }
        let taken = match state.refusal {
            None => state.authority.present(now, SELF, &new),
            Some(_) => state.authority.join(now, SELF, &self.realm, self.node, &found).map(|permissions| {
                self.permissions.send_replace(permissions);
            }),
        };
        match taken {
            Ok(()) => (state.proofs, state.refusal) = (found, None),
            Err(refusal) => {
                if state.refusal.is_none() {
                    tracing::warn!(%refusal, "renewed delegations are refused");
                }
                return Vec::new();
            }
        }
        new
    }

    /// Puts in force what has changed.
    fn settle(&self, state: &mut State) -> bool {
        let mut changed = false;
        while let Some(Change { permissions, standing, .. }) = state.authority.poll_change() {
            // A suspended node is held up by its relay; here nothing is taken away before the time.
            state.is_suspended = standing == Standing::Suspended;
            if state.is_suspended {
                tracing::warn!(realm = %self.access.name(), "rights have expired; they end soon unless renewed");
            }
            self.permissions.send_replace(permissions);
            changed = true;
        }
        self.record(state);
        changed
    }

    fn record(&self, state: &mut State) {
        while let Some(event) = state.authority.poll_audit() {
            self.audit.record(&event);
        }
    }
}
