//! Who provides content, who may ask for it, and how many at a time.

use std::time::Duration;

use macula_wire::{
    Fault, Mcid, NodeId, Operation,
    control::{Control, Done, Find, Provide, Unprovide},
};

use super::harness::{Name, SLOT, Sim, id_of, wanted};
use crate::{Passage, PassageEnd, Permissions, RelayConfig, Stall};

fn content(number: u32) -> Mcid {
    Mcid::of(&number.to_le_bytes())
}

fn provide(sim: &mut Sim, name: Name, contents: &[Mcid]) -> Result<(), Fault> {
    sim.request(name, |id| Control::Provide(Provide { id, slot: SLOT, contents: contents.to_vec() }))
}

fn find(sim: &mut Sim, name: Name, content: &Mcid) -> Result<Vec<NodeId>, Fault> {
    let done = sim.ask_done(name, |id| Control::Find(Find { id, slot: SLOT, content: content.clone() }));
    let Done { fault, providers, .. } = done;
    fault.map_or(Ok(providers), Err)
}

fn begin(sim: &mut Sim, name: Name, content: &Mcid, wanted: Option<NodeId>) -> Result<Passage, Fault> {
    sim.relay.begin_passage(sim.now, sim.hosts[name].key, SLOT, content, wanted)
}

/// Goal: what members provide is found by others until they take it back or leave.
#[test]
fn what_is_provided_is_found_until_it_is_gone() {
    let mut sim = Sim::new();
    let (asker, first, second) = (sim.host(1), sim.host(2), sim.host(3));
    assert_eq!(find(&mut sim, asker, &content(1)), Ok(vec![]));
    provide(&mut sim, first, &[content(1), content(2)]).unwrap();
    provide(&mut sim, first, &[content(1)]).unwrap();
    provide(&mut sim, second, &[content(1)]).unwrap();
    assert_eq!(find(&mut sim, asker, &content(1)), Ok(vec![id_of(2), id_of(3)]));
    assert_eq!(find(&mut sim, first, &content(1)), Ok(vec![id_of(3)]), "not oneself");
    sim.relay.assert_consistent();
    let contents = vec![content(1), content(9)];
    sim.control(first, Control::Unprovide(Unprovide { slot: SLOT, contents })).unwrap();
    assert_eq!(find(&mut sim, asker, &content(1)), Ok(vec![id_of(3)]));
    assert_eq!(find(&mut sim, asker, &content(2)), Ok(vec![id_of(2)]));
    sim.close(second);
    sim.relay.assert_consistent();
    assert_eq!(find(&mut sim, asker, &content(1)), Ok(vec![]));
    sim.close(first);
    sim.close(asker);
    assert_eq!(sim.relay.stats().contents, 0);
}

/// Goal: a request goes to the least busy provider, or to the one that is wanted, and never to who asks.
#[test]
fn requests_are_shared_out() {
    let mut sim = Sim::new();
    let (asker, first, second) = (sim.host(1), sim.host(2), sim.host(3));
    for provider in [asker, first, second] {
        provide(&mut sim, provider, &[content(1)]).unwrap();
    }
    let one = begin(&mut sim, asker, &content(1), None).unwrap();
    let other = begin(&mut sim, asker, &content(1), None).unwrap();
    let mut asked = [one.provider, other.provider];
    asked.sort_unstable();
    let mut both = [id_of(2), id_of(3)];
    both.sort_unstable();
    assert_eq!((asked, one.asker), (both, id_of(1)));
    assert_eq!(begin(&mut sim, asker, &content(1), Some(id_of(3))).unwrap().provider, id_of(3));
    assert!(matches!(begin(&mut sim, asker, &content(1), Some(id_of(9))), Err(Fault::NotFound(_))));
    assert!(matches!(begin(&mut sim, asker, &content(2), None), Err(Fault::NotFound(_))));
    sim.relay.assert_consistent();
    sim.relay.end_passage(one.id, PassageEnd::Ended);
    sim.relay.end_passage(one.id, PassageEnd::Ended);
    sim.relay.assert_consistent();
    // A place in the tables that is used again has nothing of the passages of its predecessor.
    sim.close(second);
    sim.host(4);
    sim.relay.end_passage(other.id, PassageEnd::Ended);
    sim.relay.assert_consistent();
}

/// Goal: finding and fetching need the right to the content, and losing it ends what flows; realms are apart.
#[test]
fn content_is_only_for_those_who_may_fetch_it() {
    let mut sim = Sim::new();
    let (asker, provider, stranger) = (sim.host(1), sim.host(2), sim.host(3));
    provide(&mut sim, provider, &[content(1), content(2)]).unwrap();
    let one = content(1).as_str().parse().unwrap();
    sim.set_permissions(asker, Permissions::on(&[Operation::Fetch], &[one]));
    let passage = begin(&mut sim, asker, &content(1), None).unwrap();
    assert!(
        matches!(find(&mut sim, asker, &content(2)), Err(Fault::Denied(what)) if what.contains("/mesh/fetch bafk"))
    );
    assert!(matches!(begin(&mut sim, asker, &content(2), None), Err(Fault::Denied(_))));
    sim.set_permissions(asker, Permissions::on(&[Operation::Publish], &["**".parse().unwrap()]));
    assert_eq!(sim.relay.poll_ended_passage(), Some(passage.id));
    assert_eq!(sim.relay.poll_ended_passage(), None);
    assert!(matches!(begin(&mut sim, asker, &content(1), None), Err(Fault::Denied(_))));
    sim.relay.assert_consistent();
    sim.join(stranger, SLOT + 1, 9, "io.other").unwrap();
    let key = sim.hosts[stranger].key;
    assert!(matches!(sim.relay.begin_passage(sim.now, key, SLOT + 1, &content(1), None), Err(Fault::NotFound(_))));
    sim.relay.suspend(key, SLOT);
    assert!(matches!(begin(&mut sim, stranger, &content(1), None), Err(Fault::Unavailable(_))));
    assert!(matches!(provide(&mut sim, stranger, &[content(1)]), Err(Fault::Unavailable(_))));
}

/// Goal: nobody fills the tables, and a bound that is reached disturbs nobody else.
#[test]
fn contents_and_passages_are_bounded() {
    let config = RelayConfig {
        contents_per_link_max: 3,
        contents_max: 5,
        passages_per_link_max: 2,
        passages_max: 3,
        ..RelayConfig::default()
    };
    let mut sim = Sim::with(config);
    let (first, second, asker) = (sim.host(1), sim.host(2), sim.host(3));
    let some: Vec<Mcid> = (0..4).map(content).collect();
    assert!(matches!(provide(&mut sim, first, &some), Err(Fault::QuotaExceeded(_))));
    assert_eq!(provide(&mut sim, second, &some[..2]), Ok(()));
    assert!(matches!(provide(&mut sim, second, &some[2..]), Err(Fault::QuotaExceeded(_))), "in all");
    sim.relay.assert_consistent();
    let one = begin(&mut sim, asker, &some[0], None).unwrap();
    begin(&mut sim, asker, &some[0], None).unwrap();
    assert!(matches!(begin(&mut sim, asker, &some[0], None), Err(Fault::Unavailable(_))), "of one link");
    begin(&mut sim, first, &some[0], None).unwrap();
    assert!(matches!(begin(&mut sim, second, &some[0], None), Err(Fault::Unavailable(_))), "in all");
    sim.relay.end_passage(one.id, PassageEnd::Ended);
    begin(&mut sim, second, &some[0], None).unwrap();
    sim.relay.assert_consistent();
    sim.subscribe(asker, wanted("a"));
}

/// Goal: askers that take nothing hold up two streams of a provider's link at most, and who was given up waits before it asks again,
/// longer each time; one that takes what it asks for is slow no more.
#[test]
fn who_takes_nothing_is_given_up_and_has_to_wait() {
    let mut sim = Sim::new();
    let (slow, other, provider) = (sim.host(1), sim.host(2), sim.host(3));
    provide(&mut sim, provider, &[content(1)]).unwrap();
    let of = |sim: &mut Sim, name| begin(sim, name, &content(1), None).map(|passage| passage.id);
    let ids = [slow, slow, other].map(|name| of(&mut sim, name).unwrap());
    let stalls = ids.map(|id| sim.relay.stall_passage(id));
    assert_eq!(stalls, [Stall::Wait, Stall::Wait, Stall::GiveUp]);
    assert_eq!(sim.relay.stall_passage(ids[0]), Stall::Wait, "the same is counted once");
    sim.relay.resume_passage(ids[0]);
    assert_eq!(sim.relay.stall_passage(ids[2]), Stall::Wait);
    sim.relay.assert_consistent();
    sim.relay.end_passage(ids[0], PassageEnd::TooSlow(sim.now));
    let mut waited = Vec::new();
    for _ in 0..8 {
        let begun = sim.now;
        while of(&mut sim, slow).is_err() {
            sim.now += Duration::from_millis(500);
        }
        waited.push(sim.now.duration_since(begun).as_secs());
        let id = of(&mut sim, slow).unwrap();
        sim.relay.end_passage(id, PassageEnd::TooSlow(sim.now));
    }
    assert_eq!(waited, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert!(matches!(of(&mut sim, slow), Err(Fault::Unavailable(_))));
    assert!(of(&mut sim, other).is_ok(), "others ask as ever");
    sim.now += Duration::from_secs(60);
    let id = of(&mut sim, slow).unwrap();
    sim.relay.end_passage(id, PassageEnd::Taken);
    let id = of(&mut sim, slow).unwrap();
    sim.relay.end_passage(id, PassageEnd::TooSlow(sim.now));
    sim.now += Duration::from_secs(1);
    assert!(of(&mut sim, slow).is_ok(), "it begins anew with a second");
    sim.relay.assert_consistent();
}
