use super::*;
use crate::testing::{EXPIRES, id, key, link, link_until, own_link, owners_link, proof, realm_id, root_id};

const NOW: u64 = 1000;
const START: Moment = Moment::at(NOW);
const MEMBER: MemberKey = MemberKey { link: 1, slot: 0 };

fn authority() -> Authority {
    let mut authority = Authority::new(AuthorityConfig::default());
    authority.add_realm(realm_id(), root_id());
    authority
}

fn join(authority: &mut Authority, proofs: &[Proof]) -> Result<Arc<Permissions>, &'static str> {
    authority.join(START, MEMBER, &realm_id(), id(9), proofs).map_err(|refusal| refusal.name())
}

fn may(permissions: &Permissions, name: &str) -> bool {
    permissions.allows(Operation::Publish, &name.parse::<Topic>().unwrap())
}

/// What a change puts in force, if there is one.
fn change(authority: &mut Authority) -> Option<(Standing, bool)> {
    let change = authority.poll_change()?;
    assert_eq!(change.member, MEMBER);
    Some((change.standing, may(&change.permissions, "io.example.user.door")))
}

fn revoke(authority: &mut Authority, by: u8, delegation: &macula_ucan::Delegation) -> bool {
    let revocation = Revocation::sign(&key(by), delegation.cid());
    authority.revoke(START, &realm_id(), revocation.bytes()).unwrap()
}

#[test]
fn a_chain_of_three_is_exactly_what_it_says() {
    let mut authority = authority();
    let (owner, operator, node) = (
        link(200, 1, "/mesh", &["io.example.**"]),
        link(1, 2, "/mesh/publish", &["io.example.user.**"]),
        link(2, 9, "/mesh/publish", &[]),
    );
    let permissions = join(&mut authority, &[proof(&[&owner, &operator, &node])]).unwrap();
    assert!(may(&permissions, "io.example.user.door"));
    assert!(!may(&permissions, "io.example.userevil.door") && !may(&permissions, "io.example.other"));
    assert!(!permissions.allows(Operation::Subscribe, &"io.example.user.door".parse().unwrap()));
    assert_eq!(permissions.deadline(), Some(EXPIRES));
    assert_eq!(permissions.cids().len(), 3);
}

#[test]
fn each_refusal_has_its_name() {
    let (root, user) = (link(200, 1, "/mesh", &["io.example.user.**"]), link(1, 9, "/mesh/publish", &[]));
    let stranger = link(7, 9, "/mesh/publish", &[]);
    let expired = link_until(200, 9, "/mesh", &[], NOW - 1);
    let cases: Vec<(Vec<Proof>, &str)> = vec![
        (vec![], "UnavailableProof"),
        (vec![proof(&[])], "InvalidClaim"),
        (vec![proof(&[&user])], "InvalidClaim"),
        (vec![proof(&[&user, &root])], "InvalidClaim"),
        (vec![proof(&[&root])], "InvalidAudience"),
        (vec![proof(&[&root, &stranger])], "InvalidAudience"),
        (vec![proof(&[&root, &root, &user])], "DuplicateProof"),
        (vec![proof(&[&root, &link(1, 9, "/mesh/publish", &["io.example.**"])])], "Overclaims"),
        (vec![proof(&[&link(200, 1, "/mesh/publish", &[]), &link(1, 9, "/mesh/call", &[])])], "Escalation"),
        (vec![proof(&[&link(200, 9, "/other", &[])])], "InvalidCommand"),
        (vec![proof(&[&link(200, 9, "/mesh/publisher", &[])])], "InvalidCommand"),
        (vec![proof(&[&expired])], "Expired"),
        (vec![proof(&[&owners_link(7, 9, "/mesh/publish", &["io.example.user.**"])])], "InvalidSubject"),
        (vec![Proof(vec![serde_bytes::ByteBuf::from(vec![0x80])])], "WrongType"),
        (vec![Proof(vec![serde_bytes::ByteBuf::from(vec![0; 17 << 10])])], "TooLarge"),
        (vec![proof(&[&root; 9])], "ChainTooLong"),
    ];
    for (index, (proofs, name)) in cases.into_iter().enumerate() {
        assert_eq!(join(&mut authority(), &proofs).unwrap_err(), name, "case {index}");
    }
    let mut empty = Authority::new(AuthorityConfig::default());
    assert_eq!(join(&mut empty, &[proof(&[&root, &user])]).unwrap_err(), "UnknownRealm");
    // One that holds is enough, and the others are told to the audit.
    let mut authority = authority();
    join(&mut authority, &[proof(&[&expired]), proof(&[&root, &user])]).unwrap();
    assert!(std::iter::from_fn(|| authority.poll_audit()).any(|event| event.kind() == "refused"));
}

#[test]
fn an_expired_right_is_suspended_and_then_dropped() {
    let mut authority = authority();
    join(&mut authority, &[proof(&[&link(200, 9, "/mesh/publish", &["io.example.user.**"])])]).unwrap();
    assert_eq!(authority.poll_timeout(START), Some(EXPIRES + 1));
    authority.handle_timeout(Moment::at(EXPIRES));
    assert_eq!(change(&mut authority), None, "its last second");
    authority.handle_timeout(Moment::at(EXPIRES + 1));
    assert_eq!(change(&mut authority), Some((Standing::Suspended, true)));
    assert_eq!(authority.poll_timeout(Moment::at(EXPIRES + 1)), Some(EXPIRES + 31));
    authority.handle_timeout(Moment::at(EXPIRES + 31));
    assert_eq!(change(&mut authority), Some((Standing::Active, false)));
    assert_eq!(authority.poll_timeout(START), None);
}

#[test]
fn renewed_in_time_nothing_is_lost() {
    let mut authority = authority();
    join(&mut authority, &[proof(&[&link(200, 9, "/mesh", &[])])]).unwrap();
    authority.handle_timeout(Moment::at(EXPIRES + 10));
    assert_eq!(change(&mut authority), Some((Standing::Suspended, true)));
    let renewed = proof(&[&link_until(200, 9, "/mesh", &[], 2 * EXPIRES)]);
    authority.present(Moment::at(EXPIRES + 11), MEMBER, &[renewed]).unwrap();
    assert_eq!(change(&mut authority), Some((Standing::Active, true)));
    authority.handle_timeout(Moment::at(EXPIRES + 100));
    assert_eq!(change(&mut authority), None);
    // Renewed before the end, it is never suspended at all.
    let again = proof(&[&link_until(200, 9, "/mesh", &[], 3 * EXPIRES)]);
    authority.present(Moment::at(2 * EXPIRES - 5), MEMBER, &[again]).unwrap();
    authority.handle_timeout(Moment::at(2 * EXPIRES + 1));
    while let Some((standing, may)) = change(&mut authority) {
        assert_eq!((standing, may), (Standing::Active, true));
    }
    let lost = std::iter::from_fn(|| authority.poll_audit()).filter(|event| event.kind() == "lost").count();
    assert_eq!(lost, 0, "what another took the place of is no loss");
}

#[test]
fn revoking_the_middle_takes_the_right_at_once() {
    let mut authority = authority();
    let (owner, operator, node) =
        (link(200, 1, "/mesh", &[]), link(1, 2, "/mesh", &["io.example.user.**"]), link(2, 9, "/mesh", &[]));
    let chain = proof(&[&owner, &operator, &node]);
    join(&mut authority, std::slice::from_ref(&chain)).unwrap();
    assert!(revoke(&mut authority, 2, &operator), "kept: who holds it may not revoke it");
    assert_eq!(change(&mut authority), None);
    assert!(revoke(&mut authority, 7, &operator), "kept: a stranger's has no effect");
    assert_eq!(change(&mut authority), None);
    assert!(revoke(&mut authority, 1, &operator));
    assert_eq!(change(&mut authority), Some((Standing::Active, false)));
    assert!(!revoke(&mut authority, 1, &operator), "once is enough");
    let again = authority.join(START, MEMBER, &realm_id(), id(9), &[chain]).unwrap_err();
    assert_eq!(again.name(), "Revoked");
}

#[test]
fn a_revocation_may_come_first_and_from_anybody_above() {
    for (by, takes) in [(200, true), (1, true), (2, true), (9, false)] {
        let mut authority = authority();
        let (owner, operator, node) = (link(200, 1, "/mesh", &[]), link(1, 2, "/mesh", &[]), link(2, 9, "/mesh", &[]));
        revoke(&mut authority, by, &node);
        let joined = join(&mut authority, &[proof(&[&owner, &operator, &node])]);
        assert_eq!(joined.map(|_| ()), if takes { Err("Revoked") } else { Ok(()) }, "by {by}");
    }
}

#[test]
fn owners_grant_what_they_own_and_nothing_else() {
    let mut authority = authority();
    let own = proof(&[&own_link(200, 1, "io.example", None), &own_link(1, 2, "io.example.user", Some(1))]);
    let grant = owners_link(2, 9, "/mesh/publish", &["io.example.**"]);
    assert_eq!(join(&mut authority, &[proof(&[&grant])]).unwrap_err(), "InvalidSubject", "without the claim");
    let permissions = join(&mut authority, &[proof(&[&grant]), own]).unwrap();
    assert!(may(&permissions, "io.example.user.door") && !may(&permissions, "io.example.other"));
    assert!(!may(&permissions, "io.example.user.Door"), "names in an owned namespace are in lower case");
    // The name moves to another key, and what the old one granted ends.
    let moved = proof(&[&own_link(200, 1, "io.example", None), &own_link(1, 3, "io.example.user", Some(2))]);
    authority.present(START, MEMBER, &[moved]).unwrap();
    assert_eq!(change(&mut authority), Some((Standing::Active, false)));
    let forked = proof(&[&own_link(200, 1, "io.example", None), &own_link(1, 2, "io.example.user", Some(2))]);
    authority.present(START, MEMBER, &[forked]).unwrap();
    assert!(std::iter::from_fn(|| authority.poll_audit()).any(|event| event.kind() == "forked"));
    let user = "io.example.user".parse().unwrap();
    assert!(authority.owners(&realm_id()).unwrap().resolve(&user).is_none());
}

/// Goal: an owner's word reaches its names and nothing beyond, also where no name is looked at.
#[test]
fn an_owner_grants_nothing_about_the_realm_as_a_whole() {
    let mut authority = authority();
    let own = proof(&[&own_link(200, 2, "io.example.user", None)]);
    join(&mut authority, &[own, proof(&[&link(200, 9, "/mesh", &[])])]).unwrap();
    let mut relay = crate::testing::owners_fields(2, 9, "/mesh/relay");
    relay.policy = macula_ucan::Policy::any();
    let relay = relay.sign(&key(2)).unwrap();
    let checked = authority.check(NOW, &realm_id(), &id(9), &proof(&[&relay])).unwrap();
    assert_ne!(checked.scope, Scope::All);
    assert_eq!(checked.expires, Some(EXPIRES));
}

/// Goal: joins that fail do not fill the budget of their link again, and a new link has one of its own.
#[test]
fn failing_joins_are_paid_for() {
    let mut authority = Authority::new(AuthorityConfig { signatures_max: 4, ..AuthorityConfig::default() });
    authority.add_realm(realm_id(), root_id());
    let foreign = |number: u64| proof(&[&link_until(7, 9, "/mesh", &[], EXPIRES + number)]);
    for number in 0..4 {
        assert_eq!(join(&mut authority, &[foreign(number)]).unwrap_err(), "InvalidClaim");
    }
    assert_eq!(join(&mut authority, &[foreign(4)]).unwrap_err(), "Busy");
    authority.leave(MEMBER);
    assert_eq!(join(&mut authority, &[foreign(5)]).unwrap_err(), "Busy", "leaving the realm is no way around");
    authority.link_closed(MEMBER.link);
    assert_eq!(join(&mut authority, &[foreign(6)]).unwrap_err(), "InvalidClaim");
}

#[test]
fn revocations_of_a_link_are_paid_for_and_known_ones_are_free() {
    let mut authority = Authority::new(AuthorityConfig { revocations_max: 2, ..AuthorityConfig::default() });
    authority.add_realm(realm_id(), root_id());
    let revocation = |number: u64| {
        let delegation = link_until(200, 9, "/mesh", &[], EXPIRES + number);
        Revocation::sign(&key(7), delegation.cid()).bytes().to_vec()
    };
    let bring = |authority: &mut Authority, number: u64| {
        let brought = authority.revoke_from(START, 1, &realm_id(), &revocation(number));
        brought.map_err(|refused| refused.name())
    };
    assert_eq!(bring(&mut authority, 0), Ok(true));
    assert_eq!(bring(&mut authority, 1), Ok(true));
    assert_eq!(bring(&mut authority, 2), Err("Busy"));
    assert_eq!(bring(&mut authority, 1), Ok(false));
}

#[test]
fn revoking_a_claim_ends_what_rests_on_it() {
    let mut authority = authority();
    let own = own_link(200, 2, "io.example.user", None);
    let grant = owners_link(2, 9, "/mesh/publish", &["io.example.user.**"]);
    join(&mut authority, &[proof(&[&own]), proof(&[&grant])]).unwrap();
    assert!(revoke(&mut authority, 200, &own));
    assert_eq!(change(&mut authority), Some((Standing::Active, false)));
}

#[test]
fn signatures_are_paid_for() {
    let mut authority = Authority::new(AuthorityConfig { signatures_max: 4, ..AuthorityConfig::default() });
    authority.add_realm(realm_id(), root_id());
    join(&mut authority, &[proof(&[&link(200, 9, "/mesh", &[])])]).unwrap();
    let fresh = |number: u64| proof(&[&link_until(200, 9, "/mesh/call", &[], EXPIRES + number)]);
    let present = |authority: &mut Authority, now: u64, number: u64| {
        authority.present(Moment::at(now), MEMBER, &[fresh(number)]).map_err(|refusal| refusal.name())
    };
    for number in 0..3 {
        assert_eq!(present(&mut authority, NOW, number), Ok(()));
    }
    assert_eq!(present(&mut authority, NOW, 3), Err("Busy"));
    assert_eq!(present(&mut authority, NOW, 1), Ok(()), "what was checked before costs nothing");
    assert_eq!(present(&mut authority, NOW + 1, 3), Ok(()));
}

#[test]
fn grants_are_bounded() {
    let config = AuthorityConfig { grants_per_member_max: 2, ..AuthorityConfig::default() };
    let mut authority = Authority::new(config);
    authority.add_realm(realm_id(), root_id());
    let grant = |name: &str| proof(&[&link(200, 9, "/mesh/call", &[name])]);
    join(&mut authority, &[grant("a"), grant("b")]).unwrap();
    assert_eq!(authority.present(START, MEMBER, &[grant("c")]).unwrap_err().name(), "QuotaExceeded");
    authority.leave(MEMBER);
    assert!(authority.permissions(MEMBER).is_empty());
    assert_eq!(authority.poll_timeout(START), None);
}

/// Goal: whoever presents claims old and new acts by the newest, in whatever order they come; others lose at once.
#[test]
fn old_claims_beside_new_ones_change_nothing() {
    let (old, new) = (own_link(200, 2, "io.example.user", None), own_link(200, 3, "io.example.user", Some(1)));
    let heirs = owners_link(3, 9, "/mesh/publish", &["io.example.user.**"]);
    for claims in [[&old, &new], [&new, &old]] {
        let mut authority = authority();
        let proofs = [proof(&[claims[0]]), proof(&[claims[1]]), proof(&[&heirs])];
        let permissions = join(&mut authority, &proofs).unwrap();
        assert!(may(&permissions, "io.example.user.door"));
        let former = owners_link(2, 9, "/mesh/publish", &["io.example.user.**"]);
        let other = MemberKey { link: 2, slot: 0 };
        let refused = authority.join(START, other, &realm_id(), id(9), &[proof(&[&old]), proof(&[&former])]);
        assert_eq!(refused.unwrap_err().name(), "InvalidSubject", "a claim alone lets nobody in");
    }
}

/// A date that has leapt by 25 hours beside a clock that has gone on for `seconds` since the start.
const fn leapt(seconds: u64) -> Moment {
    Moment { unix: NOW + 25 * 3600 + seconds, running: std::time::Duration::from_secs(NOW + seconds) }
}

/// Goal: a date that leaps beyond the end of a right and its grace takes nothing away at once: the grace begins when the end
/// is noticed, and goes by the clock that runs.
#[test]
fn a_date_that_leaps_leaves_the_whole_grace() {
    let mut authority = authority();
    join(&mut authority, &[proof(&[&link(200, 9, "/mesh", &[])])]).unwrap();
    authority.handle_timeout(leapt(1));
    assert_eq!(change(&mut authority), Some((Standing::Suspended, true)));
    assert_eq!(authority.poll_timeout(leapt(1)), Some(leapt(31).unix));
    // It leaps again, back and ahead, and that is no matter of the grace.
    authority.handle_timeout(Moment { unix: leapt(20).unix + 50 * 3600, ..leapt(20) });
    authority.handle_timeout(leapt(30));
    assert_eq!(change(&mut authority), None);
    let renewed = proof(&[&link_until(200, 9, "/mesh", &[], leapt(1000).unix)]);
    authority.present(leapt(30), MEMBER, &[renewed]).unwrap();
    assert_eq!(change(&mut authority), Some((Standing::Active, true)));
    authority.handle_timeout(leapt(900));
    assert_eq!(change(&mut authority), None);
    assert!(!std::iter::from_fn(|| authority.poll_audit()).any(|event| event.kind() == "lost"));
}

/// Goal: a right that nobody renewed is remembered as lapsed until it is renewed or revoked, and allows nothing meanwhile.
#[test]
fn what_has_lapsed_is_remembered_until_it_is_renewed_or_revoked() {
    let config = AuthorityConfig { lapsed_per_member_max: 1, ..AuthorityConfig::default() };
    let start = || {
        let mut authority = Authority::new(config.clone());
        authority.add_realm(realm_id(), root_id());
        let lasting = proof(&[&link_until(200, 9, "/mesh/call", &[], 9 * EXPIRES)]);
        let short = link(200, 9, "/mesh/publish", &["io.example.user.**"]);
        join(&mut authority, &[lasting, proof(&[&short])]).unwrap();
        authority.handle_timeout(Moment::at(EXPIRES + 1));
        authority.handle_timeout(Moment::at(EXPIRES + 31));
        (authority, short)
    };
    let may = |authority: &Authority| {
        let permissions = authority.permissions(MEMBER);
        let kept = permissions.with_lapsed();
        (may(&permissions, "io.example.user.door"), may(&kept, "io.example.user.door"))
    };
    let (mut authority, _) = start();
    assert_eq!(may(&authority), (false, true));
    let renewed = proof(&[&link_until(200, 9, "/mesh/publish", &["io.example.user.**"], 2 * EXPIRES)]);
    authority.present(Moment::at(EXPIRES + 500), MEMBER, &[renewed]).unwrap();
    assert_eq!(may(&authority), (true, true));
    assert_eq!(*authority.permissions(MEMBER), authority.permissions(MEMBER).with_lapsed(), "it is forgotten");
    let (mut revoked, short) = start();
    assert!(revoke(&mut revoked, 200, &short));
    assert_eq!(may(&revoked), (false, false));
    // Of more than are kept, the oldest are forgotten.
    let (mut full, _) = start();
    let other = proof(&[&link_until(200, 9, "/mesh/subscribe", &[], EXPIRES + 50)]);
    full.present(Moment::at(EXPIRES + 40), MEMBER, &[other]).unwrap();
    full.handle_timeout(Moment::at(EXPIRES + 51));
    full.handle_timeout(Moment::at(EXPIRES + 81));
    assert_eq!(may(&full), (false, false));
    assert!(full.permissions(MEMBER).with_lapsed().allows(Operation::Subscribe, &"a".parse().unwrap()));
}
