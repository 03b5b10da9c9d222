//! What a proof costs: `cargo bench -p macula-ucan`.
//!
//! 1. A chain of three delegations, from bytes to the answer that it allows something: at most 250 µs.
//! 2. The same three seen again: hashing their bytes, finding them in a memo by that id, linking them and asking for the
//!    time: at most 5 µs.
//! 3. The parts of both, to see where the time goes.
//!
//! Everything runs on one thread; figures are medians.

#![allow(missing_docs, clippy::print_stdout, reason = "a program whose output is its purpose")]

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Instant};

use ed25519_dalek::SigningKey;
use macula_ucan::{Chain, Cid, Clock, Command, Delegation, DelegationFields, Ipld, NodeId, Policy, Statement, cid_of};

const RUNS: usize = 2000;

fn main() {
    let bytes = links();
    let command: Command = "/mesh/publish".parse().unwrap();
    let topic = Ipld::String("io.example.user.sensors.temperature".to_owned());
    let arguments = Ipld::Map([("topic".to_owned(), topic)].into());
    let clock = Clock { now: 100, skew: 0 };

    let sizes: Vec<_> = bytes.iter().map(Vec::len).collect();
    println!("chain of three, {sizes:?} bytes:");
    report("decode and verify, link, check all", || {
        let chain = Chain::new(bytes.iter().map(|bytes| decode(bytes)).collect()).unwrap();
        chain.check_time(&clock).unwrap();
        chain.check_revoked(|_, _| false).unwrap();
        chain.check(&command, &arguments).unwrap();
        chain
    });
    report("  of which one delegation decoded and verified", || decode(&bytes[0]));
    let links: Vec<_> = bytes.iter().map(|bytes| decode(bytes)).collect();
    report("  of which linking", || Chain::new(links.clone()).unwrap());
    let chain = Chain::new(links.clone()).unwrap();
    report("  of which policies", || chain.check(&command, &arguments).unwrap());

    println!("delegations seen before:");
    let memo: HashMap<Cid, Arc<Delegation>> = links.iter().map(|link| (*link.cid(), link.clone())).collect();
    report("three hashed and found in a memo, link, time", || {
        let chain = Chain::new(bytes.iter().map(|bytes| memo[&cid_of(bytes)].clone()).collect()).unwrap();
        chain.check_time(&clock).unwrap();
        chain
    });
    report("  of which one hashed and found", || memo[&cid_of(&bytes[0])].clone());
    println!("a delegation with a byte too many:");
    report("refused as not canonical", || Delegation::decode(&[&bytes[0][..], &[0]].concat()).unwrap_err());
}

/// What a realm gives an owner, the owner an operator, and the operator a node.
fn links() -> Vec<Vec<u8>> {
    let key = |seed: u8| SigningKey::from_bytes(&[seed; 32]);
    let id = |seed: u8| NodeId::from(key(seed).verifying_key());
    [("/mesh", "io.example.user.*"), ("/mesh/publish", "io.example.user.sensors.*"), ("/mesh/publish", "*")]
        .into_iter()
        .zip(1_u8..)
        .map(|((command, glob), issuer)| {
            let like = Statement::Like(".topic".parse().unwrap(), glob.parse().unwrap());
            let fields = DelegationFields {
                audience: id(issuer + 1),
                subject: Some(id(1)),
                command: command.parse().unwrap(),
                policy: Policy::new(vec![like]).unwrap(),
                expires: Some(1000),
                not_before: None,
                nonce: vec![issuer; 12],
                meta: Default::default(),
            };
            fields.sign(&key(issuer)).unwrap().bytes().to_vec()
        })
        .collect()
}

fn decode(bytes: &[u8]) -> Arc<Delegation> {
    Arc::new(Delegation::decode(bytes).unwrap())
}

fn report<T>(what: &str, mut run: impl FnMut() -> T) {
    // Tens of nanoseconds are below what one reading of the clock can tell.
    const BATCH: usize = 10;
    let mut figures: Vec<f64> = (0..RUNS / BATCH)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..BATCH {
                black_box(run());
            }
            begin.elapsed().as_nanos() as f64 / BATCH as f64 / 1000.0
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    println!("  {what:<48} {:>8.2} µs", figures[figures.len() / 2]);
}
