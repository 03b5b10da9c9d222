//! What rights cost: `cargo bench -p macula-auth`.
//!
//! 1. A member joins with a chain of three delegations: from bytes, and when they have been verified before.
//! 2. One look at a table of permissions, as for a channel that is declared; a message on a known channel costs a flag.
//!
//! Figures are medians, with the fastest and the slowest batch.

#![allow(missing_docs, clippy::print_stdout, reason = "a program whose output is its purpose")]

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use ed25519_dalek::SigningKey;
use macula_auth::{
    Authority, AuthorityConfig, Issuing, MemberKey, Moment, Scope, Terms, issue, proof_of,
    ucan::{Chain, Command},
};
use macula_wire::{NodeId, Operation, RealmId, Topic, control::Proof};

const NOW: u64 = 1_800_000_000;
const BATCHES: usize = 101;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> NodeId {
    key(seed).verifying_key().into()
}

fn pass_on(from: u8, proof: Option<&Chain>, to: u8, patterns: &[&str], nonce: u64) -> Chain {
    let scope = match patterns {
        [] => Scope::All,
        some => Scope::new(some.iter().map(|pattern| pattern.parse().unwrap())).unwrap(),
    };
    let issuing = Issuing {
        audience: id(to),
        command: "/mesh".parse::<Command>().unwrap(),
        terms: Terms { scope, ..Terms::all() },
        expires: Some(NOW + 3600),
        nonce: nonce.to_le_bytes().into(),
        meta: BTreeMap::new(),
    };
    issue(&key(from), proof, issuing, NOW).unwrap()
}

fn proof(nonce: u64) -> Proof {
    let owner = pass_on(1, None, 2, &["io.example.**"], nonce);
    let operator = pass_on(2, Some(&owner), 3, &["io.example.user.**"], nonce);
    proof_of(&pass_on(3, Some(&operator), 4, &["io.example.user.sensors.**", "io.example.user.door"], nonce))
}

/// Nanoseconds of one of `count` runs, over many batches.
fn measure(name: &str, count: u64, mut run: impl FnMut(u64)) {
    let mut times: Vec<f64> = (0..BATCHES as u64)
        .map(|batch| {
            let start = Instant::now();
            (0..count).for_each(|number| run(batch * count + number));
            start.elapsed().as_nanos() as f64 / count as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:<52} {:>10.0} ns   ({:.0} – {:.0})", times[BATCHES / 2], times[0], times[BATCHES - 1]);
}

fn main() {
    let realm = RealmId::new(&id(1), &"io.example".parse().unwrap());
    let mut authority = Authority::new(AuthorityConfig::default());
    authority.add_realm(realm, id(1));
    let member = MemberKey { link: 0, slot: 0 };
    let proofs: Vec<Proof> = (0..4 * BATCHES as u64).map(proof).collect();
    measure("join with a chain of 3, from bytes", 4, |number| {
        let joined = authority.join(Moment::at(NOW), member, &realm, id(4), &proofs[number as usize..=number as usize]);
        assert!(joined.is_ok());
    });
    let known = &proofs[..1];
    measure("join with a chain of 3, verified before", 100, |_| {
        assert!(authority.join(Moment::at(NOW), member, &realm, id(4), known).is_ok());
    });
    let permissions = authority.permissions(member);
    let topics: Vec<Topic> = ["io.example.user.sensors.kitchen", "io.example.user.door", "io.example.other"]
        .map(|t| t.parse().unwrap())
        .into();
    measure("one look at the table", 10_000, |number| {
        let topic = &topics[number as usize % topics.len()];
        black_box(permissions.allows(Operation::Publish, black_box(topic)));
    });
}
