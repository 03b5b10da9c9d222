//! Links come and go: joining, leaving, and that nothing is left behind.

use macula_wire::{
    Fault,
    control::{Beat, Control, Subscribe, Unsubscribe, Withdraw},
    frame::Lane,
    hello::Role,
};

use super::harness::{Sim, wanted};

/// Goal: whoever has not been let in can do nothing, and is told no more than that.
#[test]
fn nothing_works_before_a_realm_is_joined() {
    let mut sim = Sim::new();
    let name = sim.open(1, Role::Host, 1);
    assert!(matches!(sim.try_subscribe(name, wanted("**")), Err(Fault::Denied(_))));
    assert!(matches!(sim.try_advertise(name, "p", 1), Err(Fault::Denied(_))));
    assert_eq!(sim.relay.stats().realms, 0);
    assert_eq!(sim.join(name, 0, 200, "local.dev"), Ok(()));
    sim.subscribe(name, wanted("**"));
}

#[test]
fn a_slot_names_one_realm_but_a_realm_may_have_two_slots() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    assert!(matches!(sim.join(subscriber, 0, 200, "other.dev"), Err(Fault::Conflict(_))));
    sim.join(subscriber, 1, 200, "local.dev").unwrap();
    let number = sim.subscribe(subscriber, Subscribe { slot: 1, ..wanted("a") });
    sim.publish(publisher, "a", "x");
    assert_eq!(sim.payloads(subscriber, number), ["x"]);
    sim.close(publisher);
    sim.close(subscriber);
    sim.assert_empty();
    assert_eq!(sim.relay.stats().realms, 0);
}

#[test]
fn a_ping_is_answered_and_requests_of_later_versions_too() {
    let mut sim = Sim::new();
    let name = sim.host(1);
    sim.stall_control(name);
    sim.control(name, Control::Ping(Beat { token: 42 })).unwrap();
    sim.control(name, Control::Unknown { kind: 99, id: Some(7) }).unwrap();
    sim.control(name, Control::Unknown { kind: 99, id: None }).unwrap();
    let key = sim.hosts[name].key;
    assert_eq!(sim.relay.poll_control(key), Some(Control::Pong(Beat { token: 42 })));
    let Some(Control::Done(done)) = sim.relay.poll_control(key) else { panic!("an answer") };
    assert!(matches!((done.id, done.fault), (7, Some(Fault::Unavailable(_)))));
    assert_eq!(sim.relay.poll_control(key), None);
}

#[test]
fn ending_what_is_not_there_succeeds() {
    let mut sim = Sim::new();
    let name = sim.host(1);
    sim.request(name, |id| Control::Unsubscribe(Unsubscribe { id, subscription: 9 })).unwrap();
    sim.request(name, |id| Control::Withdraw(Withdraw { id, offer: 9 })).unwrap();
    sim.credit(name, 9, 100);
}

#[test]
fn nothing_comes_after_unsubscribing_and_the_number_is_free_again() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, Subscribe { credit: 0, ..wanted("a") });
    sim.publish(publisher, "a", "waits");
    sim.unsubscribe(subscriber, number);
    assert_eq!(sim.relay.stats().queued_bytes, 0);
    sim.publish(publisher, "a", "later");
    let subscription = number;
    sim.request(subscriber, |id| Control::Subscribe(Subscribe { id, subscription, credit: 10, ..wanted("a") }))
        .unwrap();
    sim.hosts[subscriber].credit_for_tests(number, 10);
    sim.publish(publisher, "a", "new");
    assert_eq!(sim.payloads(subscriber, number), ["new"]);
}

/// Goal: a place in the relay's tables that is used again leads nowhere old.
/// Method: subscriptions of one realm end while routes to them are warm; their places are taken by another realm's.
#[test]
fn a_table_place_used_again_gets_nothing_of_its_predecessor() {
    let mut sim = Sim::new();
    let publisher = sim.host(1);
    let first = sim.host(2);
    let number = sim.subscribe(first, wanted("**"));
    sim.publish(publisher, "a", "1");
    assert_eq!(sim.payloads(first, number), ["1"]);
    sim.feed(publisher, Lane::Normal, "a", "2");
    sim.close(first);
    let second = sim.open(3, Role::Host, 1);
    sim.join(second, 0, 99, "other.test").unwrap();
    let other = sim.subscribe(second, wanted("**"));
    sim.publish(publisher, "a", "3");
    assert!(sim.got(second, other).is_empty());
}

/// Goal: after everybody has left nothing is left.
/// Method: everything at once: subscriptions that wait, calls both ways, held receipts, retained values, half-open runs.
#[test]
fn nothing_is_left_when_all_links_have_closed() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let mut sim = Sim::new();
        let names: Vec<usize> = (1..=4).map(|seed| sim.host(seed)).collect();
        for name in &names {
            for pattern in ["**", "a.*", "a.b"] {
                let options = Subscribe {
                    credit: 1,
                    queue_messages: 3,
                    when_full: macula_wire::WhenFull::Block,
                    ..wanted(pattern)
                };
                sim.subscribe(*name, options);
            }
            sim.advertise(*name, "p", 10);
            sim.advertise(*name, &format!("p.{name}"), 10);
        }
        for name in &names {
            for lane in [Lane::High, Lane::Normal, Lane::Low, Lane::Latest] {
                for topic in ["a.b", "a.c", "d"] {
                    sim.feed(*name, lane, topic, "x");
                }
                sim.sync(*name, lane, 1);
            }
            sim.stall(*name, &[Lane::Calls]);
            for number in 0..8 {
                sim.feed_call(*name, number, if number % 2 == 0 { "p" } else { "p.1" }, "x");
            }
        }
        sim.publish_retained(names[0], "kept", "kept");
        sim.feed(names[1], Lane::Normal, "a.b", "half a run");
        for place in order {
            sim.close(names[place]);
            sim.relay.assert_consistent();
        }
        sim.assert_empty();
        assert_eq!(sim.relay.stats().realms, 1, "for its last value");
    }
}

/// Goal: a long-lived publisher does not collect what it told subscribers that have left.
#[test]
fn passing_subscribers_leave_nothing_with_a_long_lived_publisher() {
    let mut sim = Sim::new();
    let publisher = sim.host(1);
    sim.publish_retained(publisher, "a", "x");
    for _ in 0..1000 {
        let subscriber = sim.host(2);
        sim.subscribe(subscriber, Subscribe { retained: true, ..wanted("**") });
        sim.publish(publisher, "a", "x");
        sim.close(subscriber);
    }
    assert!(sim.relay.told_entries() < 40, "{} entries", sim.relay.told_entries());
}

#[test]
fn a_goodbye_reaches_everybody() {
    let mut sim = Sim::new();
    let names = [sim.host(1), sim.host(2)];
    sim.relay.say_goodbye("restarting");
    for name in names {
        let Some(Control::Goodbye(goodbye)) = sim.relay.poll_control(sim.hosts[name].key) else { panic!("goodbye") };
        assert_eq!(goodbye.reason, "restarting");
    }
}
