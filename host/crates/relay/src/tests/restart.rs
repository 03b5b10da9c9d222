//! The first seconds of a relay, in which everybody finds the way back to it.

use std::time::Duration;

use macula_wire::{
    control::Subscribe,
    frame::Lane,
    limits::{LINK_NOTICE_MAX, LINK_RETURN_MAX},
};

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
    sim.pass(LINK_RETURN_MAX);
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
    let mut sim = bounded(3000);
    let publisher = sim.host(1);
    for n in 0..100 {
        sim.publish(publisher, "a", &n.to_string());
        sim.relay.assert_consistent();
    }
    let subscriber = sim.host(2);
    let number = sim.subscribe(subscriber, resumed("a"));
    let got = sim.payloads(subscriber, number);
    assert!((15..=20).contains(&got.len()), "{got:?}");
    assert_eq!(got.last().unwrap(), "99");
    sim.pass(Duration::from_secs(1));
    assert_eq!(sim.hosts[subscriber].dropped[&number], 100 - got.len() as u64, "it is told of what it missed");
    // A short queue gets all of it, too, as it takes it.
    let short = sim.subscribe(subscriber, Subscribe { queue_messages: 2, credit: 0, ..resumed("a") });
    sim.credit(subscriber, short, 100);
    assert_eq!(sim.payloads(subscriber, short), got);
    let elsewhere = sim.subscribe(subscriber, resumed("b"));
    sim.publish(publisher, "a", &"x".repeat(5000));
    sim.pass(Duration::from_secs(1));
    assert!(!sim.hosts[subscriber].dropped.contains_key(&elsewhere), "not what others missed");
    sim.relay.assert_consistent();
}

fn bounded(bytes: usize) -> Sim {
    Sim::with(RelayConfig { resume_bytes_per_realm_max: bytes, resume_bytes_max: 2 * bytes, ..RelayConfig::default() })
}

/// Goal: who comes back as late as may be gets every message that a receipt was given for, however much was published
/// without one meanwhile.
/// Method: three messages with receipts, ten times what is kept without, and a subscriber that is there a moment before
/// the window closes.
#[test]
fn what_a_receipt_speaks_of_reaches_who_comes_last() {
    let mut sim = bounded(20_000);
    let (publisher, flood) = (sim.host(1), sim.host(3));
    for n in 0..3 {
        sim.publish(publisher, "a", &n.to_string());
        sim.sync(publisher, Lane::Normal, n);
    }
    assert_eq!(sim.hosts[publisher].receipts.len(), 3, "receipts are given at once");
    for n in 0..2000 {
        sim.publish(flood, "a", &format!("flood {n}"));
    }
    sim.relay.assert_consistent();
    sim.pass(LINK_RETURN_MAX - Duration::from_millis(1));
    let late = sim.host(2);
    let number = sim.subscribe(late, resumed("a"));
    let got = sim.payloads(late, number);
    assert_eq!(got[..3], ["0", "1", "2"]);
    assert_eq!(got.last().unwrap(), "flood 1999");
    sim.pass(Duration::from_secs(1));
    assert_eq!(sim.hosts[late].dropped[&number], 2003 - got.len() as u64);
    sim.relay.assert_consistent();
}

/// Goal: a receipt is not given while those who are alive and expected could not get what it speaks of; then it is, so that
/// nobody waits for who may never come, and what was promised before stays.
#[test]
fn receipts_wait_when_there_is_no_room_to_keep_what_they_speak_of() {
    let mut sim = bounded(3000);
    let publisher = sim.host(1);
    for token in 1..=40 {
        sim.publish(publisher, "a", &token.to_string());
        sim.sync(publisher, Lane::Normal, token);
    }
    let given = sim.hosts[publisher].receipts.len();
    assert!((15..=20).contains(&given), "{given}");
    let late = sim.host(2);
    let number = sim.subscribe(late, resumed("a"));
    let expected: Vec<String> = (1..=given).map(|token| token.to_string()).collect();
    assert_eq!(sim.payloads(late, number), expected, "what was promised, and nothing beyond");
    sim.relay.assert_consistent();
    sim.pass(LINK_NOTICE_MAX - Duration::from_millis(1));
    assert_eq!(sim.hosts[publisher].receipts.len(), given);
    sim.pass(Duration::from_millis(1));
    assert_eq!(sim.hosts[publisher].receipts.len(), 40, "whoever is alive is back");
    sim.publish(publisher, "a", "41");
    sim.sync(publisher, Lane::Normal, 41);
    assert_eq!(sim.hosts[publisher].receipts.len(), 41, "under load it goes on");
    let later = sim.host(3);
    let number = sim.subscribe(later, resumed("a"));
    assert_eq!(sim.payloads(later, number), expected, "what was promised stays");
    sim.relay.assert_consistent();
}

/// Goal: a receipt waits as well when what it speaks of has been given up before it was asked for.
#[test]
fn a_receipt_that_is_asked_for_late_waits_when_something_is_gone() {
    let mut sim = bounded(3000);
    let publisher = sim.host(1);
    for n in 0..100 {
        sim.publish(publisher, "a", &n.to_string());
    }
    sim.sync(publisher, Lane::Normal, 1);
    assert!(sim.hosts[publisher].receipts.is_empty());
    sim.publish(publisher, "a", "next");
    sim.sync(publisher, Lane::High, 2);
    assert!(sim.hosts[publisher].receipts.is_empty(), "receipts stay in order");
    sim.close(publisher);
    sim.pass(LINK_RETURN_MAX);
    sim.assert_empty();
}

/// Goal: who comes back reads what was kept at its own pace: nothing is dropped, doubled or out of order, although its
/// queue is short and messages keep coming.
#[test]
fn what_was_missed_is_read_at_the_subscribers_pace() {
    let mut sim = fresh();
    let (publisher, late) = (sim.host(1), sim.host(2));
    let mut published = 0..;
    let mut publish = |sim: &mut Sim, count: usize| {
        for n in published.by_ref().take(count) {
            sim.feed(publisher, Lane::Normal, "a", &n.to_string());
        }
    };
    publish(&mut sim, 500);
    let number = sim.subscribe(late, Subscribe { queue_messages: 10, credit: 10, ..resumed("a") });
    let mut got = sim.payloads(late, number);
    let mut credit = 10;
    while got.len() < 650 {
        assert_eq!(got.len(), credit as usize, "as much as it takes");
        publish(&mut sim, if credit % 20 == 0 { 5 } else { 0 });
        credit += 10;
        sim.credit(late, number, credit);
        got.extend(sim.payloads(late, number));
        sim.relay.assert_consistent();
    }
    assert!(got.iter().enumerate().all(|(n, payload)| *payload == n.to_string()), "{got:?}");
    sim.pass(Duration::from_secs(1));
    assert_eq!(sim.hosts[late].dropped.get(&number), None);
}

/// Goal: when the window closes before a subscriber has read everything, the rest is in its queue, by its policy, and
/// what does not fit is counted.
#[test]
fn the_rest_is_queued_when_the_window_closes() {
    let mut sim = fresh();
    let (publisher, late) = (sim.host(1), sim.host(2));
    for n in 0..5000 {
        sim.feed(publisher, Lane::Normal, "a", &n.to_string());
    }
    let number = sim.subscribe(late, Subscribe { queue_messages: 100, credit: 50, ..resumed("a") });
    assert_eq!(sim.got(late, number).len(), 50);
    sim.pass(LINK_RETURN_MAX + Duration::from_secs(1));
    sim.relay.assert_consistent();
    sim.credit(late, number, 10_000);
    let got = sim.payloads(late, number);
    let expected: Vec<String> = (4900..5000).map(|n: u32| n.to_string()).collect();
    assert_eq!(got, expected);
    assert_eq!(sim.hosts[late].dropped[&number], 4850);
    sim.publish(publisher, "a", "live");
    assert_eq!(sim.payloads(late, number), ["live"]);
}
