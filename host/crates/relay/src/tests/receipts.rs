//! Receipts, and how a full `block` subscription holds them back.

use std::time::Duration;

use macula_wire::{WhenFull, control::Subscribe, frame::Lane};

use super::harness::{Name, Sim, wanted};

fn blocking(queue_messages: u32) -> Subscribe {
    Subscribe { when_full: WhenFull::Block, queue_messages, credit: 0, ..wanted("a") }
}

fn publish(sim: &mut Sim, name: Name, count: usize) {
    for _ in 0..count {
        sim.feed(name, Lane::Normal, "a", "x");
    }
    sim.pump();
}

#[test]
fn receipts_come_at_once_and_in_order_when_nobody_is_full() {
    let mut sim = Sim::new();
    let publisher = sim.host(1);
    for (lane, token) in [(Lane::Normal, 1), (Lane::High, 2), (Lane::Normal, 3), (Lane::Latest, 4)] {
        sim.feed(publisher, lane, "a", "x");
        sim.sync(publisher, lane, token);
    }
    let expected = [(Lane::Normal, 1), (Lane::High, 2), (Lane::Normal, 3), (Lane::Latest, 4)];
    assert_eq!(sim.hosts[publisher].receipts, expected);
}

/// Goal: a full `block` subscription holds the receipts of those who filled it, and of nobody else, until there is room.
#[test]
fn a_full_block_subscription_holds_receipts_until_it_has_room() {
    let mut sim = Sim::new();
    let (publisher, other, slow, quick) = (sim.host(1), sim.host(2), sim.host(3), sim.host(4));
    let number = sim.subscribe(slow, blocking(10));
    let quicks = sim.subscribe(quick, wanted("a"));
    publish(&mut sim, publisher, 5);
    sim.sync(publisher, Lane::Normal, 1);
    assert_eq!(sim.hosts[publisher].receipts.len(), 1, "half full is not full");
    publish(&mut sim, publisher, 3);
    sim.sync(publisher, Lane::Normal, 2);
    sim.sync(publisher, Lane::High, 3);
    sim.feed(other, Lane::Normal, "b", "x");
    sim.sync(other, Lane::Normal, 9);
    assert_eq!(sim.hosts[publisher].receipts.len(), 1, "held");
    assert_eq!(sim.hosts[other].receipts, [(Lane::Normal, 9)], "not the others'");
    assert_eq!(sim.got(quick, quicks).len(), 8, "others are fed before any wait");
    sim.pass(Duration::from_millis(1900));
    assert_eq!(sim.hosts[publisher].receipts.len(), 1);
    sim.credit(slow, number, 3);
    assert_eq!(sim.hosts[publisher].receipts, [(Lane::Normal, 1), (Lane::Normal, 2), (Lane::High, 3)]);
    assert_eq!(sim.relay.stats().messages_dropped, 0);
    sim.relay.assert_consistent();
}

/// Goal: after 2 s at a stretch the publisher goes on, the subscription drops like the rest, and only once it has
/// drained it may hold again.
#[test]
fn receipts_are_held_for_two_seconds_at_most_and_again_only_after_draining() {
    let mut sim = Sim::new();
    let (publisher, slow) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(slow, blocking(10));
    publish(&mut sim, publisher, 10);
    sim.sync(publisher, Lane::Normal, 1);
    sim.pass(Duration::from_millis(1999));
    assert!(sim.hosts[publisher].receipts.is_empty());
    sim.pass(Duration::from_millis(1));
    assert_eq!(sim.hosts[publisher].receipts.len(), 1);
    publish(&mut sim, publisher, 7);
    sim.sync(publisher, Lane::Normal, 2);
    assert_eq!(sim.hosts[publisher].receipts.len(), 2, "blocked out: not held");
    assert_eq!(sim.relay.stats().messages_dropped, 7);
    sim.credit(slow, number, 9);
    publish(&mut sim, publisher, 8);
    sim.sync(publisher, Lane::Normal, 3);
    assert_eq!(sim.hosts[publisher].receipts.len(), 3, "not drained: not held");
    sim.credit(slow, number, 18);
    assert_eq!(sim.got(slow, number).len(), 18);
    publish(&mut sim, publisher, 8);
    sim.sync(publisher, Lane::Normal, 4);
    assert_eq!(sim.hosts[publisher].receipts.len(), 3, "drained: holds again");
    sim.credit(slow, number, 100);
    assert_eq!(sim.hosts[publisher].receipts.len(), 4);
    sim.relay.assert_consistent();
}

/// Goal: whoever holds receipts and goes away lets go of them.
#[test]
fn receipts_are_released_when_the_subscription_ends() {
    let mut sim = Sim::new();
    let (publisher, slow) = (sim.host(1), sim.host(2));
    for (round, by_closing) in [(1, false), (2, true)] {
        let number = sim.subscribe(slow, blocking(4));
        publish(&mut sim, publisher, 4);
        sim.sync(publisher, Lane::Normal, round);
        assert_eq!(sim.hosts[publisher].receipts.len(), round as usize - 1);
        if by_closing {
            sim.close(slow);
        } else {
            sim.unsubscribe(slow, number);
        }
        assert_eq!(sim.hosts[publisher].receipts.len(), round as usize);
    }
    assert_eq!(sim.relay.poll_timeout(), None, "nothing is left to be looked after");
    sim.relay.assert_consistent();
}

/// Goal: two full subscriptions hold until both have room; a publisher that leaves meanwhile leaves nothing behind.
#[test]
fn two_holders_and_a_publisher_that_leaves() {
    let mut sim = Sim::new();
    let (publisher, gone, one, two) = (sim.host(1), sim.host(2), sim.host(3), sim.host(4));
    let first = sim.subscribe(one, blocking(4));
    let second = sim.subscribe(two, blocking(4));
    publish(&mut sim, gone, 3);
    publish(&mut sim, publisher, 1);
    sim.sync(publisher, Lane::Normal, 1);
    sim.sync(gone, Lane::Normal, 1);
    sim.close(gone);
    sim.credit(one, first, 100);
    assert!(sim.hosts[publisher].receipts.is_empty());
    sim.credit(two, second, 100);
    assert_eq!(sim.hosts[publisher].receipts, [(Lane::Normal, 1)]);
    for name in [publisher, one, two] {
        sim.close(name);
    }
    sim.assert_empty();
}
