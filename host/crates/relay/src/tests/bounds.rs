//! Bounds of links, realms and the whole, and that no tenant can fill another's.

use std::time::Duration;

use macula_wire::{CallError, Fault, control::Subscribe, frame::Lane, hello::Role};

use super::harness::{Name, SLOT, Sim, wanted};
use crate::RelayConfig;

fn quota<T: std::fmt::Debug>(outcome: Result<T, Fault>) -> String {
    match outcome {
        Err(Fault::QuotaExceeded(what)) => what,
        other => panic!("not a quota: {other:?}"),
    }
}

fn stranger(sim: &mut Sim, seed: u8, realm: &str) -> Name {
    let name = sim.open(seed, Role::Host, 1);
    sim.join(name, SLOT, 100, realm).unwrap();
    name
}

#[test]
fn realms_are_bounded_per_link_and_in_all() {
    let mut sim = Sim::with(RelayConfig { realms_max: 3, realms_per_link_max: 2, ..RelayConfig::default() });
    let (one, two) = (sim.open(1, Role::Host, 1), sim.open(2, Role::Host, 1));
    sim.join(one, 0, 100, "a.test").unwrap();
    sim.join(one, 1, 100, "b.test").unwrap();
    assert_eq!(quota(sim.join(one, 2, 100, "c.test")), "realms per link");
    sim.join(two, 0, 100, "c.test").unwrap();
    assert_eq!(quota(sim.join(two, 1, 100, "d.test")), "realms on this relay");
    sim.join(two, 1, 100, "a.test").expect("an existing realm needs no room");
    sim.close(one);
    let three = sim.open(3, Role::Host, 1);
    sim.join(three, 0, 100, "d.test").expect("b.test is gone");
    sim.relay.assert_consistent();
}

#[test]
fn subscriptions_are_bounded_per_link_per_realm_and_in_all() {
    let mut sim = Sim::with(RelayConfig {
        subscriptions_per_link_max: 2,
        subscriptions_per_realm_max: 3,
        subscriptions_max: 4,
        ..RelayConfig::default()
    });
    let (one, two, three, other) = (sim.host(1), sim.host(2), sim.host(3), stranger(&mut sim, 4, "other.test"));
    let first = sim.subscribe(one, wanted("a"));
    sim.subscribe(one, wanted("a"));
    assert_eq!(quota(sim.try_subscribe(one, wanted("a"))), "subscriptions of this link");
    sim.subscribe(two, wanted("a"));
    assert_eq!(quota(sim.try_subscribe(three, wanted("a"))), "subscriptions of this realm");
    sim.subscribe(other, wanted("a"));
    let third = stranger(&mut sim, 5, "third.test");
    assert_eq!(quota(sim.try_subscribe(third, wanted("a"))), "subscriptions of this relay");
    sim.unsubscribe(one, first);
    sim.subscribe(third, wanted("a"));
    assert!(matches!(sim.try_subscribe(two, Subscribe { queue_messages: 0, ..wanted("a") }), Err(Fault::Invalid(_))));
    assert!(matches!(
        sim.try_subscribe(two, Subscribe { queue_messages: 65_537, ..wanted("a") }),
        Err(Fault::Invalid(_))
    ));
}

#[test]
fn offers_are_bounded_per_link_per_realm_and_in_all() {
    let mut sim = Sim::with(RelayConfig {
        offers_per_link_max: 2,
        offers_per_realm_max: 3,
        offers_max: 4,
        ..RelayConfig::default()
    });
    let (one, two, other) = (sim.host(1), sim.host(2), stranger(&mut sim, 4, "other.test"));
    let first = sim.advertise(one, "p", 1);
    sim.advertise(one, "q", 1);
    assert_eq!(quota(sim.try_advertise(one, "r", 1)), "offers of this link");
    sim.advertise(two, "p", 1);
    assert_eq!(quota(sim.try_advertise(two, "q", 1)), "offers of this realm");
    sim.advertise(other, "p", 1);
    let third = stranger(&mut sim, 5, "third.test");
    assert_eq!(quota(sim.try_advertise(third, "p", 1)), "offers of this relay");
    sim.withdraw(one, first);
    sim.advertise(third, "p", 1);
}

/// Goal: calls that wait are bounded per link, per realm and in all, and a refused one has not run.
#[test]
fn calls_are_bounded_per_link_per_realm_and_in_all() {
    let mut sim = Sim::with(RelayConfig {
        calls_per_link_max: 2,
        calls_per_realm_max: 3,
        calls_max: 4,
        ..RelayConfig::default()
    });
    let call = |sim: &mut Sim, name: Name, number: u64| -> Option<String> {
        sim.call(name, number, "p", "");
        match sim.answers(name).pop() {
            None => None,
            Some((_, Err(CallError::NotRun(Fault::Unavailable(text))))) => Some(text),
            other => panic!("{other:?}"),
        }
    };
    let (one, two, provider) = (sim.host(1), sim.host(2), sim.host(3));
    sim.advertise(provider, "p", 100);
    for number in 0..2 {
        assert_eq!(call(&mut sim, one, number), None);
    }
    assert!(call(&mut sim, one, 2).unwrap().contains("of this node"));
    assert_eq!(call(&mut sim, two, 0), None);
    assert!(call(&mut sim, two, 1).unwrap().contains("of this realm"));
    let other = stranger(&mut sim, 4, "other.test");
    sim.advertise(other, "p", 100);
    assert_eq!(call(&mut sim, other, 0), None);
    assert!(call(&mut sim, other, 1).unwrap().contains("at this relay"));
    let first = sim.hosts[provider].calls[0].number;
    sim.reply(provider, first, "");
    sim.answers(one);
    assert_eq!(call(&mut sim, other, 1), None, "room again");
    sim.relay.assert_consistent();
    for name in [one, two, provider, other] {
        sim.close(name);
    }
    sim.assert_empty();
}

/// Publishes `count` messages of 1,000 bytes, one by one.
fn publish(sim: &mut Sim, name: Name, topic: &str, count: usize) {
    for n in 0..count {
        sim.feed(name, Lane::Normal, topic, &format!("{n:01000}"));
        sim.pump();
    }
}

/// Goal: a stalled subscription does not starve another one of the same link.
#[test]
fn a_full_link_still_serves_its_other_subscriptions() {
    let mut sim = Sim::with(RelayConfig { queued_bytes_per_link_max: 20_000, ..RelayConfig::default() });
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let stalled = sim.subscribe(subscriber, Subscribe { credit: 0, ..wanted("a") });
    let quick = sim.subscribe(subscriber, wanted("b"));
    publish(&mut sim, publisher, "a", 100);
    publish(&mut sim, publisher, "b", 10);
    assert_eq!(sim.got(subscriber, quick).len(), 10);
    sim.pass(Duration::from_secs(1));
    assert!(sim.hosts[subscriber].dropped[&stalled] >= 80);
    assert_eq!(sim.hosts[subscriber].dropped.get(&quick), None);
    sim.relay.assert_consistent();
}

/// Goal: stalled subscribers that fill their realm do not starve its other subscribers.
#[test]
fn a_full_realm_still_serves_its_other_links() {
    let mut sim = Sim::with(RelayConfig { queued_bytes_per_realm_max: 20_000, ..RelayConfig::default() });
    let (publisher, slow, quick) = (sim.host(1), sim.host(2), sim.host(3));
    sim.subscribe(slow, Subscribe { credit: 0, ..wanted("a") });
    let number = sim.subscribe(quick, wanted("**"));
    publish(&mut sim, publisher, "a", 100);
    assert_eq!(sim.got(quick, number).len(), 100);
    sim.relay.assert_consistent();
}

/// Goal: a realm that fills the whole relay does not starve another realm, neither a quick subscriber nor one that
/// lags; and the total stays bounded.
#[test]
fn a_full_relay_still_serves_other_realms() {
    let mut sim = Sim::with(RelayConfig { queued_bytes_max: 40_000, ..RelayConfig::default() });
    let (hog, hogs) = (sim.host(1), sim.host(2));
    for _ in 0..3 {
        sim.subscribe(hogs, Subscribe { credit: 0, ..wanted("a") });
    }
    let (publisher, subscriber) = (stranger(&mut sim, 3, "other.test"), stranger(&mut sim, 4, "other.test"));
    publish(&mut sim, hog, "a", 50);
    let quick = sim.subscribe(subscriber, wanted("b"));
    let lagging = sim.subscribe(subscriber, Subscribe { credit: 0, ..wanted("b") });
    publish(&mut sim, publisher, "b", 10);
    assert_eq!(sim.got(subscriber, quick).len(), 10);
    sim.credit(subscriber, lagging, 100);
    assert_eq!(sim.got(subscriber, lagging).len(), 10);
    publish(&mut sim, hog, "a", 50);
    let queued = sim.relay.stats().queued_bytes;
    assert!(queued <= 2 * 40_000, "{queued} bytes");
    sim.relay.assert_consistent();
}

/// Goal: however many slow subscribers there are, what waits stays within twice the bound.
#[test]
fn queued_bytes_stay_bounded_with_many_slow_subscribers() {
    let mut sim = Sim::with(RelayConfig {
        queued_bytes_per_link_max: 30_000,
        queued_bytes_per_realm_max: 50_000,
        queued_bytes_max: 60_000,
        ..RelayConfig::default()
    });
    let publisher = sim.host(1);
    for seed in 2..10 {
        let subscriber = sim.host(seed);
        for pattern in ["a", "*", "**"] {
            sim.subscribe(subscriber, Subscribe { credit: 0, ..wanted(pattern) });
        }
    }
    for _ in 0..5 {
        publish(&mut sim, publisher, "a", 20);
        sim.feed(publisher, Lane::Latest, "a", &"x".repeat(5000));
        sim.pump();
        let queued = sim.relay.stats().queued_bytes;
        assert!(queued <= 2 * 50_000, "{queued} bytes");
    }
    sim.relay.assert_consistent();
}
