//! Lets peers into realms: shows that this relay may serve a realm, takes their proofs, passes revocations on.
//!
//! Stands between a link's control stream and the core. What is about rights is answered here, and the core is told the
//! table that comes of it; the rest goes to the core as it is.

use std::{sync::Arc, time::Instant};

use macula_auth::{AuditEvent, Authority, AuthorityConfig, Change, MemberKey, Moment, Standing};
use macula_relay::{LinkKey, Relay, Violation};
use macula_wire::{
    Fault, NodeId, RealmId,
    control::{Control, Done, Join, Present, Proof, Revoke, Revoked, Show, portions},
};
use rustc_hash::FxHashMap;
use serde_bytes::ByteBuf;
use smallvec::SmallVec;

use crate::{LoggedRevocation, RealmAccess, RevocationLog, clock};

/// The time, for links and for rights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    instant: Instant,
    moment: Moment,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), moment: clock::now() }
    }
}

/// Proofs in one message. More come in further ones.
const PROOFS_PER_MESSAGE_MAX: usize = 64;

/// What a relay has to know of realms when it starts.
pub(super) struct RealmRights {
    pub(super) config: AuthorityConfig,
    pub(super) realms: Vec<RealmAccess>,
    pub(super) revocations: Vec<LoggedRevocation>,
    pub(super) log: Option<RevocationLog>,
}

/// See the module.
pub(super) struct Admission {
    node: NodeId,
    authority: Authority,
    realms: FxHashMap<RealmId, Served>,
    /// By link and the peer's number for the realm.
    members: FxHashMap<LinkKey, SmallVec<[(u32, RealmId); 1]>>,
    log: Option<RevocationLog>,
}

/// A realm that this relay serves.
struct Served {
    access: RealmAccess,
    proof: Option<Proof>,
    /// When to look for a newer one: by the date, or by the clock that runs.
    renew_at: Moment,
}

impl Admission {
    pub(super) fn new(now: Now, node: NodeId, rights: RealmRights) -> Self {
        let mut authority = Authority::new(rights.config);
        let mut realms = FxHashMap::default();
        for access in rights.realms {
            authority.add_realm(access.id(), access.root());
            realms.insert(access.id(), Served { access, proof: None, renew_at: Moment::at(0) });
        }
        for (realm, revocation) in rights.revocations {
            if realms.contains_key(&realm)
                && let Err(error) = authority.revoke(now.moment, &realm, &revocation)
            {
                tracing::warn!(%error, "a revocation on disk is left out");
            }
        }
        // They were news when they came.
        while authority.poll_audit().is_some() {}
        Self { node, authority, realms, members: FxHashMap::default(), log: rights.log }
    }

    /// Takes a control message of a peer.
    pub(super) fn handle_control(
        &mut self,
        relay: &mut Relay,
        now: Now,
        key: LinkKey,
        node: NodeId,
        message: Control,
    ) -> Result<(), Violation> {
        match message {
            Control::Show(show) => relay.answer(key, self.show(now, &show)),
            Control::Join(join) => self.join(relay, now, key, node, &join),
            Control::Present(present) => {
                let outcome = self.present(now, key, &present);
                relay.answer(key, done(present.id, outcome))
            }
            Control::Revoke(revoke) => {
                let outcome = self.revoke(relay, now, key, &revoke);
                relay.answer(key, done(revoke.id, outcome))
            }
            other => relay.handle_control(now.instant, key, other),
        }
    }

    /// The same answer for a realm that is not served and for one that may not be served any more.
    fn show(&mut self, now: Now, show: &Show) -> Done {
        match self.proof_for(now, &show.realm) {
            Some(proof) => Done { proof: Some(proof), ..Done::ok(show.id) },
            None => Done::failed(show.id, not_served()),
        }
    }

    fn proof_for(&mut self, now: Now, realm: &RealmId) -> Option<Proof> {
        self.realms.get_mut(realm)?.proof(&self.node, now.moment)
    }

    fn join(&mut self, relay: &mut Relay, now: Now, key: LinkKey, node: NodeId, join: &Join) -> Result<(), Violation> {
        let (realm, member) = (RealmId::new(&join.root, &join.name), member_key(key, join.slot));
        // A number that is in use stays what it is; the core says so.
        let permissions = if self.realm_of(key, join.slot).is_some() {
            self.authority.permissions(member)
        } else if self.proof_for(now, &realm).is_none() {
            // As for a realm that nobody has heard of.
            return relay.answer(key, Done::failed(join.id, not_served()));
        } else {
            match self.admit(now, member, &realm, node, &join.proofs) {
                Ok(permissions) => permissions,
                Err(fault) => return relay.answer(key, Done::failed(join.id, fault)),
            }
        };
        let outcome = relay.admit(now.instant, key, join.slot, realm, permissions);
        let is_new = outcome.is_ok();
        if is_new {
            self.members.entry(key).or_default().push((join.slot, realm));
        } else if self.realm_of(key, join.slot).is_none() {
            self.authority.leave(member);
        }
        relay.answer(key, done(join.id, outcome))?;
        if is_new { self.tell_revocations(relay, key, join.slot, &realm) } else { Ok(()) }
    }

    fn admit(
        &mut self,
        now: Now,
        member: MemberKey,
        realm: &RealmId,
        node: NodeId,
        proofs: &[Proof],
    ) -> Result<Arc<macula_auth::Permissions>, Fault> {
        check_count(proofs)?;
        let joined = self.authority.join(now.moment, member, realm, node, proofs);
        // What exactly is wrong with a proof is the peer's own business; what others have is not in it.
        joined.map_err(|refusal| Fault::Denied(format!("{} ({})", refusal, refusal.name())))
    }

    fn present(&mut self, now: Now, key: LinkKey, present: &Present) -> Result<(), Fault> {
        if self.realm_of(key, present.slot).is_none() {
            return Err(not_joined());
        }
        check_count(&present.proofs)?;
        let presented = self.authority.present(now.moment, member_key(key, present.slot), &present.proofs);
        presented.map_err(|refusal| Fault::Denied(format!("{} ({})", refusal, refusal.name())))
    }

    /// Takes revocations in, keeps what is new, and tells all members of the realm.
    fn revoke(&mut self, relay: &mut Relay, now: Now, key: LinkKey, revoke: &Revoke) -> Result<(), Fault> {
        let Some(realm) = self.realm_of(key, revoke.slot) else {
            return Err(not_joined());
        };
        let mut news = Vec::new();
        let mut outcome = Ok(());
        for revocation in &revoke.revocations {
            match self.authority.revoke_from(now.moment, key.index() as u32, &realm, revocation) {
                Ok(true) => news.push(revocation.clone()),
                Ok(false) => {}
                Err(error) => outcome = Err(Fault::Invalid(format!("{error} ({})", error.name()))),
            }
        }
        if !news.is_empty() {
            self.keep(realm, &news);
            let joined =
                self.members.iter().flat_map(|(key, slots)| slots.iter().map(move |(slot, of)| (key, slot, of)));
            for (key, slot, _) in joined.filter(|(_, _, of)| **of == realm) {
                let revoked = Revoked { slot: *slot, revocations: news.clone() };
                // Who does not read control messages is told when it joins again.
                let _ = relay.send_control(*key, Control::Revoked(revoked));
            }
        }
        outcome
    }

    /// On disk too; they are in force already.
    fn keep(&self, realm: RealmId, revocations: &[ByteBuf]) {
        if let Some(log) = &self.log {
            revocations.iter().for_each(|revocation| log.append_later(&realm, revocation));
        }
    }

    fn tell_revocations(&self, relay: &mut Relay, key: LinkKey, slot: u32, realm: &RealmId) -> Result<(), Violation> {
        let Some(known) = self.authority.revocations(realm) else { return Ok(()) };
        for revocations in portions(known.tokens().map(ByteBuf::from), |token| token.len()) {
            relay.send_control(key, Control::Revoked(Revoked { slot, revocations }))?;
        }
        Ok(())
    }

    /// A look at the clock.
    pub(super) fn tick(&mut self, now: Now) {
        self.authority.handle_timeout(now.moment);
    }

    /// Puts in force what has changed; whether a link may go on that was suspended.
    pub(super) fn settle(&mut self, relay: &mut Relay, now: Instant) -> bool {
        let mut resumed = false;
        while let Some(Change { member, standing, permissions }) = self.authority.poll_change() {
            let key = LinkKey::of_index(member.link);
            relay.set_permissions(now, key, member.slot, permissions);
            match standing {
                Standing::Suspended => relay.suspend(key, member.slot),
                Standing::Active => {
                    relay.resume(key, member.slot);
                    resumed = true;
                }
            }
        }
        resumed
    }

    pub(super) fn poll_audit(&mut self) -> Option<AuditEvent> {
        self.authority.poll_audit()
    }

    pub(super) fn link_closed(&mut self, key: LinkKey) {
        for (slot, _) in self.members.remove(&key).into_iter().flatten() {
            self.authority.leave(member_key(key, slot));
        }
        self.authority.link_closed(key.index() as u32);
    }

    fn realm_of(&self, key: LinkKey, slot: u32) -> Option<RealmId> {
        self.members.get(&key)?.iter().find(|(own, _)| *own == slot).map(|(_, realm)| *realm)
    }
}

impl Served {
    /// What shows that this relay may serve the realm, as long as it does. Looked for now and then, and not for whoever asks.
    fn proof(&mut self, node: &NodeId, now: Moment) -> Option<Proof> {
        if now.unix >= self.renew_at.unix || now.running >= self.renew_at.running {
            self.renew_at = self.access.renewal_after(now);
            self.proof = self.access.relay_proof(node, now.unix);
        }
        self.proof.clone()
    }
}

fn member_key(key: LinkKey, slot: u32) -> MemberKey {
    MemberKey { link: key.index() as u32, slot }
}

fn not_served() -> Fault {
    Fault::Denied("this relay does not serve the realm".into())
}

fn not_joined() -> Fault {
    Fault::Denied("the realm was not joined on this link".into())
}

fn done(id: u64, outcome: Result<(), Fault>) -> Done {
    match outcome {
        Ok(()) => Done::ok(id),
        Err(fault) => Done::failed(id, fault),
    }
}

fn check_count(proofs: &[Proof]) -> Result<(), Fault> {
    if proofs.len() <= PROOFS_PER_MESSAGE_MAX {
        return Ok(());
    }
    Err(Fault::QuotaExceeded(format!("proofs in one message: at most {PROOFS_PER_MESSAGE_MAX}")))
}

#[cfg(test)]
mod tests;
