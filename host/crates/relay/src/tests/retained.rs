//! Last values.

use macula_wire::{
    Channel, Fault,
    control::{Control, Retained, Subscribe},
    frame::{self, Lane},
    hello::Role,
};

use super::harness::{SLOT, Sim, wanted};
use crate::RelayConfig;

pub(super) const RETAIN: u8 = frame::FLAG_RETAIN;

#[test]
fn the_last_value_is_stored_replaced_and_forgotten() {
    let mut sim = Sim::new();
    let (publisher, other) = (sim.host(1), sim.host(2));
    assert_eq!(sim.retained(other, "a"), None);
    sim.publish_retained(publisher, "a", "one");
    assert_eq!(sim.retained(other, "a").as_deref(), Some("one"));
    sim.publish_retained(publisher, "a", "two");
    sim.publish(publisher, "a", "not kept");
    assert_eq!(sim.retained(other, "a").as_deref(), Some("two"));
    assert_eq!(sim.retained(other, "a.b"), None);
    sim.publish_retained(publisher, "a", "");
    assert_eq!(sim.retained(other, "a"), None);
}

/// Goal: a subscription that asks for them begins with the last values, marked as stored; live ones follow unmarked.
#[test]
fn a_subscription_begins_with_the_last_values() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    for (topic, payload) in [("s.b", "b"), ("s.a", "a"), ("t", "t"), ("_mesh.x", "system")] {
        sim.publish_retained(publisher, topic, payload);
    }
    let without = sim.subscribe(subscriber, wanted("s.*"));
    let with = sim.subscribe(subscriber, Subscribe { retained: true, ..wanted("s.*") });
    let all = sim.subscribe(subscriber, Subscribe { retained: true, ..wanted("**") });
    let literal = sim.subscribe(subscriber, Subscribe { retained: true, ..wanted("t") });
    sim.publish_retained(publisher, "s.a", "live");
    assert_eq!(sim.payloads(subscriber, without), ["live"]);
    let got: Vec<(String, bool)> =
        sim.got(subscriber, with).into_iter().map(|got| (got.payload, got.retained)).collect();
    assert_eq!(got, [("a".to_owned(), true), ("b".to_owned(), true), ("live".to_owned(), false)]);
    assert_eq!(sim.payloads(subscriber, all), ["a", "b", "t", "live"], "without the system's");
    assert_eq!(sim.payloads(subscriber, literal), ["t"]);
}

/// Goal: last values outlive their publisher and even the last member of the realm, and go with the last value.
#[test]
fn last_values_outlive_everybody() {
    let mut sim = Sim::new();
    let publisher = sim.host(1);
    sim.publish_retained(publisher, "a", "kept");
    sim.close(publisher);
    sim.assert_empty();
    let reader = sim.host(2);
    assert_eq!(sim.retained(reader, "a").as_deref(), Some("kept"));
    let number = sim.subscribe(reader, Subscribe { retained: true, ..wanted("*") });
    let got = sim.got(reader, number);
    assert_eq!(got[0].publisher, super::harness::id_of(1), "still under its publisher's name");
    sim.publish_retained(reader, "a", "");
    sim.close(reader);
    sim.assert_empty();
    assert_eq!(sim.relay.stats().realms, 0);
}

/// Goal: stored values respect credit and the length of the queue that they are put into.
#[test]
fn last_values_fit_the_subscription_that_asks_for_them() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    for n in 0..20 {
        sim.publish_retained(publisher, &format!("t-{n:02}"), &n.to_string());
    }
    let options = Subscribe { retained: true, queue_messages: 5, credit: 0, ..wanted("*") };
    let number = sim.subscribe(subscriber, options);
    assert!(sim.got(subscriber, number).is_empty());
    sim.pass(std::time::Duration::from_secs(1));
    assert_eq!(sim.hosts[subscriber].dropped.get(&number), Some(&15));
    sim.credit(subscriber, number, 100);
    assert_eq!(sim.payloads(subscriber, number), ["15", "16", "17", "18", "19"]);
    sim.relay.assert_consistent();
}

/// Goal: a realm's quota in values and bytes holds, what does not fit is still forwarded, and no old value is passed off
/// as the last.
#[test]
fn the_quota_of_a_realm_holds() {
    let mut sim = Sim::with(RelayConfig {
        retained_topics_per_realm_max: 2,
        retained_bytes_per_realm_max: 200,
        ..RelayConfig::default()
    });
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, wanted("**"));
    for topic in ["a", "b", "c"] {
        sim.publish_retained(publisher, topic, topic);
    }
    assert_eq!(sim.payloads(subscriber, number), ["a", "b", "c"]);
    assert_eq!(sim.retained(subscriber, "c"), None);
    assert_eq!(sim.relay.stats().retained_refused, 1);
    let large = "x".repeat(190);
    sim.publish_retained(publisher, "a", &large);
    assert_eq!(sim.retained(subscriber, "a"), None, "the old one is not the last any more");
    assert_eq!(sim.retained(subscriber, "b").as_deref(), Some("b"));
    sim.publish_retained(publisher, "c", "there is room again");
    assert_eq!(sim.retained(subscriber, "c").as_deref(), Some("there is room again"));
    // Another realm has a quota of its own.
    let stranger = sim.open(3, Role::Host, 1);
    sim.join(stranger, SLOT, 100, "other.test").unwrap();
    sim.publish_retained(stranger, "a", "its own");
    assert_eq!(sim.retained(stranger, "a").as_deref(), Some("its own"));
}

/// Goal: what all realms keep together is bounded as well; realms that nobody is in give way, the longest deserted first.
#[test]
fn deserted_realms_make_room_for_living_ones() {
    let mut sim = Sim::with(RelayConfig { realms_max: 2, retained_bytes_max: 200, ..RelayConfig::default() });
    for (seed, realm) in [(1, "a.test"), (2, "b.test")] {
        let publisher = sim.open(seed, Role::Host, 1);
        sim.join(publisher, SLOT, 100, realm).unwrap();
        sim.publish_retained(publisher, "t", realm);
        sim.close(publisher);
    }
    let reader = sim.open(3, Role::Host, 1);
    sim.join(reader, SLOT, 100, "b.test").unwrap();
    let stranger = sim.open(4, Role::Host, 1);
    sim.join(stranger, SLOT, 100, "c.test").expect("the deserted realm a.test gives way");
    assert_eq!(sim.retained(reader, "t").as_deref(), Some("b.test"));
    let third = sim.open(5, Role::Host, 1);
    assert_eq!(sim.join(third, SLOT, 100, "a.test"), Err(Fault::QuotaExceeded("realms on this relay".into())));
    let refused = sim.relay.stats().retained_refused;
    sim.publish_retained(stranger, "t", &"x".repeat(180));
    assert_eq!((sim.retained(stranger, "t"), sim.relay.stats().retained_refused), (None, refused + 1));
    sim.relay.assert_consistent();
}

#[test]
fn asking_for_a_last_value_needs_the_realm() {
    let mut sim = Sim::new();
    let outsider = sim.open(1, Role::Host, 1);
    let topic: macula_wire::Topic = "a".parse().unwrap();
    let refused = sim.ask(outsider, |id| Control::Retained(Retained { id, slot: 3, topic: topic.clone() }));
    assert!(matches!(refused, Err(Fault::Denied(_))));
}

/// Goal: the stored frame and channel are complete in themselves, under the asker's slot.
#[test]
fn a_stored_value_is_complete() {
    let mut sim = Sim::new();
    let publisher = sim.host(1);
    sim.publish_retained(publisher, "a", "x");
    let reader = sim.open(2, Role::Client, 1);
    sim.join(reader, 9, 200, "local.dev").unwrap();
    let topic: macula_wire::Topic = "a".parse().unwrap();
    let stored = sim.ask(reader, |id| Control::Retained(Retained { id, slot: 9, topic })).unwrap().unwrap();
    let channel = Channel::from_bytes(&stored.channel).unwrap();
    assert_eq!((channel.realm_slot, &*channel.name), (9, "a"));
    // And nothing was put into anybody's stream.
    assert_eq!(sim.hosts[reader].known_channels(Lane::Normal), 0);
}

/// Goal: a publisher cannot pass off a live message as a stored one.
#[test]
fn a_live_message_is_not_marked_as_stored() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, wanted("a"));
    sim.feed_with(publisher, Lane::Normal, SLOT, "a", "x", frame::FLAG_RETAINED);
    sim.pump();
    assert!(!sim.got(subscriber, number)[0].retained);
}
