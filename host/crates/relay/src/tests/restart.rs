//! The first seconds of a relay, in which everybody finds the way back to it.

use std::time::Duration;

use macula_wire::{control::Subscribe, frame::Lane};

use super::harness::{Sim, wanted};
use crate::RelayConfig;

fn resumed(pattern: &str) -> Subscribe {
    Subscribe { resumed: true, ..wanted(pattern) }
}

fn fresh() -> Sim {
    Sim::with(RelayConfig::default())
}

/// Goal: publishers that find a restarted relay before its subscribers lose nothing, not even if they leave again; and a
/// subscription that is new gets no history.
#[test]
fn subscriptions_that_come_back_get_what_was_published_before_them() {
    let mut sim = fresh();
    let publisher = sim.host(1);
    for n in 0..3 {
        sim.publish(publisher, "a", &n.to_string());
    }
    sim.feed(publisher, Lane::High, "b", "high");
    sim.feed(publisher, Lane::Latest, "a", "latest");
    sim.sync(publisher, Lane::Normal, 1);
    assert_eq!(sim.hosts[publisher].receipts.len(), 1);
    sim.close(publisher);
    let (back, new) = (sim.host(2), sim.host(3));
    let number = sim.subscribe(back, resumed("a"));
    let all = sim.subscribe(back, resumed("*"));
    let without = sim.subscribe(new, wanted("a"));
    assert_eq!(sim.payloads(back, number), ["0", "1", "2"]);
    assert_eq!(sim.payloads(back, all), ["high", "0", "1", "2"]);
    let again = sim.host(1);
    sim.hosts[again].seq = 10;
    sim.publish(again, "a", "live");
    assert_eq!(sim.payloads(back, number), ["live"]);
    assert_eq!(sim.payloads(new, without), ["live"]);
    assert_eq!(sim.hosts[back].known_channels(Lane::Normal), 1, "those of the past are taken back");
    sim.relay.assert_consistent();
}

#[test]
fn realms_do_not_see_each_others_past() {
    let mut sim = fresh();
    let publisher = sim.host(1);
    sim.publish(publisher, "a", "x");
    let stranger = sim.open(2, macula_wire::hello::Role::Host, 1);
    sim.join(stranger, 0, 99, "local.dev").unwrap();
    let number = sim.subscribe(stranger, resumed("**"));
    assert!(sim.got(stranger, number).is_empty());
}

/// Goal: it ends after the window: nothing is kept, nothing is given, and realms that were kept for it are gone.
#[test]
fn after_the_first_seconds_nothing_is_kept() {
    let mut sim = fresh();
    let publisher = sim.host(1);
    sim.publish(publisher, "a", "x");
    sim.close(publisher);
    assert_eq!(sim.relay.stats().realms, 1);
    sim.pass(Duration::from_secs(10));
    assert_eq!(sim.relay.stats().realms, 0);
    sim.assert_empty();
    let (publisher, subscriber) = (sim.host(3), sim.host(2));
    sim.publish(publisher, "a", "y");
    let number = sim.subscribe(subscriber, resumed("a"));
    assert!(sim.got(subscriber, number).is_empty());
    assert_eq!(sim.relay.poll_timeout(), None);
}

#[test]
fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
    let mut sim =
        Sim::with(RelayConfig { resume_bytes_per_realm_max: 3000, resume_bytes_max: 4000, ..RelayConfig::default() });
    let publisher = sim.host(1);
    for n in 0..100 {
        sim.publish(publisher, "a", &n.to_string());
        sim.relay.assert_consistent();
    }
    let subscriber = sim.host(2);
    let number = sim.subscribe(subscriber, resumed("a"));
    let got = sim.payloads(subscriber, number);
    assert!((5..=10).contains(&got.len()), "{got:?}");
    assert_eq!(got.last().unwrap(), "99");
    // A short queue takes its newest, and counts the rest.
    let short = sim.subscribe(subscriber, Subscribe { queue_messages: 2, credit: 0, ..resumed("a") });
    sim.credit(subscriber, short, 100);
    assert_eq!(sim.payloads(subscriber, short), ["98", "99"]);
    sim.pass(Duration::from_secs(1));
    assert_eq!(sim.hosts[subscriber].dropped[&short], got.len() as u64 - 2);
    sim.publish(publisher, "a", &"x".repeat(5000));
    sim.relay.assert_consistent();
}
