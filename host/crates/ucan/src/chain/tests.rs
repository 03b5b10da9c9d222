//! Chains of a root (key 1), an owner (2), an operator (3) and a node (4): what holds of a good one, and each way in which
//! one is refused, by name.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ed25519_dalek::SigningKey;

use super::*;
use crate::{DelegationFields, Invocation, InvocationFields, Policy, Statement, cid_of};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> NodeId {
    key(seed).verifying_key().into()
}

fn fields(audience: u8, command: &str) -> DelegationFields {
    DelegationFields {
        audience: id(audience),
        subject: Some(id(1)),
        command: command.parse().unwrap(),
        policy: Policy::any(),
        expires: Some(1000),
        not_before: None,
        nonce: vec![7; 12],
        meta: BTreeMap::new(),
    }
}

fn signed(issuer: u8, fields: &DelegationFields) -> Arc<Delegation> {
    Arc::new(fields.sign(&key(issuer)).unwrap())
}

fn link(issuer: u8, audience: u8, command: &str) -> Arc<Delegation> {
    signed(issuer, &fields(audience, command))
}

fn like(selector: &str, glob: &str) -> Policy {
    Policy::new(vec![Statement::Like(selector.parse().unwrap(), glob.parse().unwrap())]).unwrap()
}

/// 1 → 2 → 3 → 4, ever narrower.
fn links() -> Vec<Arc<Delegation>> {
    vec![
        signed(1, &DelegationFields { policy: like(".topic", "io.example.*"), ..fields(2, "/mesh") }),
        signed(2, &DelegationFields { expires: Some(600), not_before: Some(50), ..fields(3, "/mesh/publish") }),
        signed(
            3,
            &DelegationFields {
                policy: like(".topic", "*.temperature"),
                expires: None,
                not_before: Some(20),
                ..fields(4, "/mesh/publish")
            },
        ),
    ]
}

fn refusal(links: Vec<Arc<Delegation>>) -> &'static str {
    Chain::new(links).unwrap_err().name()
}

fn topic(text: &str) -> Ipld {
    Ipld::Map([("topic".to_owned(), Ipld::String(text.to_owned()))].into())
}

#[test]
fn a_chain_is_as_narrow_as_its_links() {
    let chain = Chain::new(links()).unwrap();
    assert_eq!((chain.links().len(), chain.subject(), chain.audience()), (3, &id(1), &id(4)));
    assert_eq!(chain.command().as_str(), "/mesh/publish");
    assert_eq!((chain.expires(), chain.not_before()), (Some(600), Some(50)));
    let endless = signed(1, &DelegationFields { expires: None, ..fields(2, "/") });
    let endless = Chain::new(vec![endless]).unwrap();
    assert_eq!((endless.expires(), endless.not_before()), (None, None));
}

#[test]
fn the_second_that_is_named_belongs_to_the_time() {
    let chain = Chain::new(links()).unwrap();
    let at = |now, skew| chain.check_time(&Clock { now, skew });
    assert_eq!(at(49, 0), Err(ChainError::TooEarly(2)));
    assert_eq!(at(50, 0), Ok(()));
    assert_eq!(at(600, 0), Ok(()));
    assert_eq!(at(601, 0), Err(ChainError::Expired));
    // Skew is for beginnings only.
    assert_eq!(at(40, 10), Ok(()));
    assert_eq!(at(39, 10), Err(ChainError::TooEarly(2)));
    assert_eq!(at(601, 60), Err(ChainError::Expired));
    assert_eq!(at(u64::MAX, u64::MAX), Err(ChainError::Expired));
}

/// Goal: links whose times do not meet are no chain, so that no allowance for clocks that differ makes them one.
#[test]
fn links_that_are_never_in_force_together_are_no_chain() {
    let from = |not_before| {
        let late = DelegationFields { not_before: Some(not_before), expires: None, ..fields(5, "/mesh/publish") };
        Chain::new(links().into_iter().chain([signed(4, &late)]).collect())
    };
    assert_eq!(from(600).map(|chain| chain.not_before()), Ok(Some(600)), "for one second");
    assert_eq!(from(601), Err(ChainError::NeverInForce(4)));
    assert_eq!(from(601).unwrap_err().name(), "InvalidTime");
}

#[test]
fn every_policy_and_the_narrowest_command_count() {
    let chain = Chain::new(links()).unwrap();
    let check = |command: &str, arguments: &Ipld| {
        chain.check(&command.parse().unwrap(), arguments).map_err(|error| error.name())
    };
    assert_eq!(check("/mesh/publish", &topic("io.example.temperature")), Ok(()));
    assert_eq!(check("/mesh/publish/bulk", &topic("io.example.temperature")), Ok(()));
    for command in ["/mesh", "/", "/mesh/subscribe", "/mesh/publisher"] {
        assert_eq!(check(command, &topic("io.example.temperature")), Err("InvalidCommand"), "{command}");
    }
    assert_eq!(check("/mesh/publish", &topic("io.other.temperature")), Err("MatchError"), "the first link's");
    assert_eq!(check("/mesh/publish", &topic("io.example.door")), Err("MatchError"), "the last link's");
    assert_eq!(check("/mesh/publish", &Ipld::Map(BTreeMap::new())), Err("MatchError"), "nothing to match");
}

#[test]
fn what_is_no_chain() {
    let good = links();
    assert_eq!(refusal(vec![]), "InvalidClaim");
    // The root is missing, or somebody else's.
    assert_eq!(refusal(good[1..].to_vec()), "InvalidClaim");
    assert_eq!(refusal(vec![link(9, 2, "/mesh")]), "InvalidClaim");
    let nobodys = signed(1, &DelegationFields { subject: None, ..fields(2, "/mesh") });
    assert_eq!(refusal(vec![nobodys]), "InvalidClaim", "a powerline is no root");
    // One in the middle is missing, all are in another order, one is a stranger's.
    assert_eq!(refusal(vec![good[0].clone(), good[2].clone()]), "InvalidAudience");
    assert_eq!(refusal(vec![good[0].clone(), good[2].clone(), good[1].clone()]), "InvalidAudience");
    assert_eq!(refusal(good.iter().rev().cloned().collect()), "InvalidClaim");
    assert_eq!(refusal(vec![good[0].clone(), link(9, 3, "/mesh/publish")]), "InvalidAudience");
    let of_another = signed(2, &DelegationFields { subject: Some(id(9)), ..fields(3, "/mesh") });
    assert_eq!(refusal(vec![good[0].clone(), of_another]), "InvalidSubject");
}

#[test]
fn no_link_gives_more_than_it_got() {
    for wider in ["/", "/mes", "/meshes", "/other"] {
        assert_eq!(Chain::new(vec![link(1, 2, "/mesh"), link(2, 3, wider)]), Err(ChainError::Escalation(2)), "{wider}");
    }
    assert_eq!(refusal(vec![link(1, 2, "/mesh/publish"), link(2, 3, "/mesh/publisher")]), "Escalation");
    // Also where the one after is narrow again.
    assert_eq!(refusal(vec![link(1, 2, "/a/b"), link(2, 3, "/a"), link(3, 4, "/a/b")]), "Escalation");
}

#[test]
fn length_and_repetition() {
    let there_and_back = |length: usize| -> Vec<_> {
        (0..length)
            .map(|index| {
                let (issuer, audience) = if index % 2 == 0 { (1, 2) } else { (2, 1) };
                signed(issuer, &DelegationFields { nonce: vec![index as u8], ..fields(audience, "/") })
            })
            .collect()
    };
    assert!(Chain::new(there_and_back(CHAIN_MAX)).is_ok());
    assert_eq!(Chain::new(there_and_back(CHAIN_MAX + 1)), Err(ChainError::TooLong(9)));
    let (one, other) = (link(1, 2, "/"), link(2, 1, "/"));
    assert_eq!(refusal(vec![one.clone(), other, one]), "DuplicateProof");
}

#[test]
fn powerlines_take_the_subject_that_comes() {
    let powerline = signed(2, &DelegationFields { subject: None, ..fields(3, "/") });
    assert_eq!(refusal(vec![link(1, 2, "/mesh"), powerline.clone()]), "Escalation", "its command is wider");
    let narrow = signed(2, &DelegationFields { subject: None, ..fields(3, "/mesh") });
    let chain = Chain::new(vec![link(1, 2, "/mesh"), narrow.clone(), link(3, 4, "/mesh")]).unwrap();
    assert_eq!(chain.subject(), &id(1));
    let of_another = signed(3, &DelegationFields { subject: Some(id(9)), ..fields(4, "/mesh") });
    assert_eq!(refusal(vec![link(1, 2, "/mesh"), narrow, of_another]), "InvalidSubject");
}

/// Who may revoke a link: its issuer and those above, and nobody else; nobody else is even asked.
#[test]
fn revoked_by_those_who_issued_it_or_above() {
    let chain = Chain::new(links()).unwrap();
    for (index, may) in [(0, vec![1]), (1, vec![1, 2]), (2, vec![1, 2, 3])] {
        for by in [1, 2, 3, 4, 9] {
            let revoked = |cid: &Cid, issuer: &NodeId| cid == links()[index].cid() && *issuer == id(by);
            let expected = if may.contains(&by) { Err(ChainError::Revoked(*links()[index].cid())) } else { Ok(()) };
            assert_eq!(chain.check_revoked(revoked), expected, "link {index} by {by}");
        }
    }
    let asked = RefCell::new(0);
    let count = |_: &Cid, issuer: &NodeId| {
        assert!([id(1), id(2), id(3)].contains(issuer));
        *asked.borrow_mut() += 1;
        false
    };
    assert_eq!(chain.check_revoked(count), Ok(()));
    assert_eq!(*asked.borrow(), 1 + 2 + 3);
}

mod invocations {
    use super::*;

    const NOW: Clock = Clock { now: 100, skew: 0 };

    fn fields(proofs: &[Arc<Delegation>]) -> InvocationFields {
        InvocationFields {
            subject: id(1),
            audience: None,
            command: "/mesh/publish".parse().unwrap(),
            arguments: [("topic".to_owned(), Ipld::String("io.example.temperature".to_owned()))].into(),
            proofs: proofs.iter().map(|proof| *proof.cid()).collect(),
            nonce: vec![1; 12],
            expires: Some(200),
            issued_at: Some(99),
            cause: None,
            meta: BTreeMap::new(),
        }
    }

    fn verify(invocation: &Invocation, store: &[Arc<Delegation>]) -> Result<Option<Chain>, ChainError> {
        invocation.verify(|cid| store.iter().find(|token| token.cid() == cid).cloned(), &NOW, |_, _| false)
    }

    fn refusal(by: u8, fields: &InvocationFields) -> &'static str {
        verify(&fields.sign(&key(by)).unwrap(), &links()).unwrap_err().name()
    }

    #[test]
    fn allowed_by_a_chain_or_by_being_the_subject() {
        let invocation = fields(&links()).sign(&key(4)).unwrap();
        let chain = verify(&invocation, &links()).unwrap().expect("a chain");
        assert_eq!((chain.audience(), chain.links().len()), (&id(4), 3));
        let own = fields(&[]).sign(&key(1)).unwrap();
        assert_eq!(verify(&own, &[]), Ok(None));
    }

    #[test]
    fn refused_by_name() {
        let good = fields(&links());
        assert_eq!(refusal(4, &fields(&[])), "InvalidClaim", "nothing shows it");
        assert_eq!(refusal(3, &good), "InvalidAudience", "the chain is another's");
        assert_eq!(refusal(4, &fields(&links()[1..])), "InvalidClaim", "the root is missing");
        assert_eq!(refusal(4, &fields(&links()[..2])), "InvalidAudience", "the last is missing");
        let mut shuffled = good.clone();
        shuffled.proofs.swap(1, 2);
        assert_eq!(refusal(4, &shuffled), "InvalidAudience");
        shuffled.proofs.rotate_left(1);
        assert_eq!(refusal(4, &shuffled), "InvalidClaim");
        let mut twice = good.clone();
        twice.proofs.push(good.proofs[0]);
        assert_eq!(refusal(4, &twice), "DuplicateProof");
        let mut unknown = good.clone();
        unknown.proofs[1] = cid_of(b"unknown");
        assert_eq!(refusal(4, &unknown), "UnavailableProof");
        assert_eq!(refusal(4, &InvocationFields { subject: id(2), ..good.clone() }), "InvalidSubject");
        let command = "/mesh/publisher".parse().unwrap();
        assert_eq!(refusal(4, &InvocationFields { command, ..good.clone() }), "InvalidCommand");
        assert_eq!(refusal(4, &InvocationFields { arguments: BTreeMap::new(), ..good.clone() }), "MatchError");
        assert_eq!(refusal(4, &InvocationFields { expires: Some(99), ..good.clone() }), "Expired");
        assert_eq!(refusal(1, &InvocationFields { expires: Some(99), ..fields(&[]) }), "Expired", "the subject's too");
        assert!(verify(&InvocationFields { expires: Some(100), ..good }.sign(&key(4)).unwrap(), &links()).is_ok());
    }

    #[test]
    fn times_and_revocations_of_proofs_count() {
        let invocation = InvocationFields { expires: None, ..fields(&links()) }.sign(&key(4)).unwrap();
        let find = |cid: &Cid| links().into_iter().find(|token| token.cid() == cid);
        let at = |now| invocation.verify(find, &Clock { now, skew: 0 }, |_, _| false).map_err(|error| error.name());
        assert_eq!(at(49).unwrap_err(), "TooEarly");
        assert!(at(50).is_ok() && at(600).is_ok());
        assert_eq!(at(601).unwrap_err(), "Expired");
        let revoked = invocation.verify(find, &NOW, |cid, by| cid == links()[2].cid() && *by == id(2));
        assert_eq!(revoked.unwrap_err().name(), "Revoked");
        assert!(invocation.verify(find, &NOW, |_, by| *by == id(4)).is_ok(), "who is let has no say");
    }

    /// A store that answers with a token of its choice must not be believed.
    #[test]
    fn a_store_that_answers_with_another_token() {
        let narrow = links();
        let wide = signed(2, &DelegationFields { expires: None, ..super::fields(3, "/mesh") });
        let invocation = fields(&narrow).sign(&key(4)).unwrap();
        let answer = |cid: &Cid| {
            let asked = narrow.iter().find(|token| token.cid() == cid)?;
            Some(if asked.issuer() == &id(2) { wide.clone() } else { asked.clone() })
        };
        assert_eq!(invocation.verify(answer, &NOW, |_, _| false), Err(ChainError::UnavailableProof(*narrow[1].cid())));
    }
}

mod assembling {
    use super::*;

    #[test]
    fn from_any_order_and_with_strangers_in_between() {
        let mut tokens = links();
        tokens.insert(0, link(8, 9, "/mesh"));
        tokens.push(link(3, 9, "/mesh/publish"));
        tokens.push(tokens[2].clone());
        let expected = Chain::new(links()).unwrap();
        for _ in 0..tokens.len() {
            tokens.rotate_left(1);
            assert_eq!(assemble(&tokens, &id(4)), std::slice::from_ref(&expected));
        }
        tokens.reverse();
        assert_eq!(assemble(&tokens, &id(4)), [expected]);
        assert_eq!(assemble(&tokens, &id(2)).len(), 1, "a part of it is one as well");
        assert_eq!(assemble(&tokens, &id(1)), []);
        assert_eq!(assemble(&[], &id(4)), []);
    }

    #[test]
    fn every_way_is_found_in_the_order_of_the_tokens() {
        let ways: Vec<_> = [10, 11, 12].into_iter().flat_map(|via| [link(1, via, "/a"), link(via, 4, "/a")]).collect();
        let found = assemble(&ways, &id(4));
        let via: Vec<_> = found.iter().map(|chain| *chain.links()[1].issuer()).collect();
        assert_eq!(via, [id(10), id(11), id(12)]);
        assert_eq!(assemble(&ways, &id(4)), found);
    }

    #[test]
    fn what_is_no_chain_is_left_out() {
        let circle = [link(2, 3, "/a"), link(3, 2, "/a"), link(3, 4, "/a")];
        assert_eq!(assemble(&circle, &id(4)), []);
        let escalated = [link(1, 2, "/a"), link(2, 4, "/b")];
        assert_eq!(assemble(&escalated, &id(4)), []);
    }

    /// Each of many tokens for the same node is a chain of its own; an honest container holds some hundreds.
    #[test]
    fn large_sets_are_searched_and_hostile_ones_not_for_long() {
        let mut many: Vec<_> = (0..500_u16)
            .map(|number| {
                let nonce = number.to_be_bytes().to_vec();
                signed(1, &DelegationFields { nonce, ..fields(200, "/a") })
            })
            .collect();
        many.push(link(1, 2, "/a"));
        many.push(link(2, 4, "/a"));
        assert_eq!(assemble(&many, &id(4)).len(), 1);
        assert_eq!(assemble(&many, &id(200)).len(), ASSEMBLED_MAX);

        // A mesh without a root: as many ways as there are words of eight letters.
        let mut mesh: Vec<_> = (10..30).flat_map(|a| (10..30).map(move |b| link(a, b, "/a"))).collect();
        let begin = Instant::now();
        assert_eq!(assemble(&mesh, &id(10)), []);
        // And with one.
        mesh.push(link(1, 29, "/a"));
        let found = assemble(&mesh, &id(10));
        assert!((1..=ASSEMBLED_MAX).contains(&found.len()) && found.iter().all(|chain| chain.subject() == &id(1)));
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    }
}
