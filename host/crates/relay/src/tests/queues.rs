//! What waits for slow subscribers: credit, bounds, policies, conflation, and when channels are taken back.

use std::{sync::Arc, time::Duration};

use macula_wire::{
    ChannelKind, WhenFull,
    control::Subscribe,
    frame::{Header, Lane, put_message},
};

use super::harness::{SLOT, Sim, wanted};
use crate::Permissions;

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn publish_numbers(sim: &mut Sim, name: usize, topic: &str, range: std::ops::Range<u64>) {
    for payload in numbers(range) {
        sim.feed(name, Lane::Normal, topic, &payload);
    }
    sim.pump();
}

/// Goal: nothing is sent beyond the credit, and with more credit it goes on exactly where it stopped, over all lanes.
#[test]
fn nothing_is_sent_beyond_the_credit_and_it_goes_on_where_it_stopped() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, Subscribe { credit: 3, ..wanted("a") });
    publish_numbers(&mut sim, publisher, "a", 0..10);
    assert_eq!(sim.payloads(subscriber, number), numbers(0..3));
    sim.credit(subscriber, number, 3);
    assert!(sim.payloads(subscriber, number).is_empty(), "no more than before");
    sim.credit(subscriber, number, 4);
    sim.credit(subscriber, number, 2);
    assert_eq!(sim.payloads(subscriber, number), numbers(3..4), "credit is never taken back");
    sim.feed(publisher, Lane::High, "a", "high");
    sim.credit(subscriber, number, 5);
    assert_eq!(sim.payloads(subscriber, number), ["high"], "the more important lane goes first");
    sim.credit(subscriber, number, 100);
    assert_eq!(sim.payloads(subscriber, number), numbers(4..10));
    assert_eq!(sim.hosts[subscriber].dropped.get(&number), None);
}

/// Goal: a full queue forgets exactly its oldest; both ends are told how many, within the report interval.
#[test]
fn a_full_queue_drops_exactly_its_oldest_and_says_so() {
    let mut sim = Sim::new();
    let (publisher, slow, quick) = (sim.host(1), sim.host(2), sim.host(3));
    let number = sim.subscribe(slow, Subscribe { credit: 2, queue_messages: 5, ..wanted("a") });
    let other = sim.subscribe(quick, wanted("a"));
    publish_numbers(&mut sim, publisher, "a", 0..2);
    publish_numbers(&mut sim, publisher, "a", 2..20);
    sim.pass(Duration::from_millis(250));
    assert_eq!(sim.hosts[slow].dropped[&number], 13);
    assert_eq!(sim.hosts[publisher].undelivered, 13);
    sim.credit(slow, number, 1000);
    assert_eq!(sim.payloads(slow, number), [numbers(0..2), numbers(15..20)].concat());
    assert_eq!(sim.payloads(quick, other), numbers(0..20), "nobody else loses anything");
    assert_eq!(sim.relay.stats().messages_dropped, 13);
    publish_numbers(&mut sim, publisher, "a", 20..23);
    sim.pass(Duration::from_secs(1));
    assert_eq!(sim.payloads(slow, number), numbers(20..23));
    assert_eq!(sim.hosts[slow].dropped[&number], 13, "no report without a drop");
}

/// Goal: each publisher is told of its own losses, also when its messages come right behind another's.
#[test]
fn drops_are_counted_for_the_publisher_whose_message_came() {
    let mut sim = Sim::new();
    let (one, two, slow) = (sim.host(1), sim.host(2), sim.host(3));
    let number = sim.subscribe(slow, Subscribe { credit: 0, queue_messages: 1, ..wanted("a") });
    // Channels are declared, so that nothing comes between the messages that follow.
    sim.publish(one, "a", "first");
    sim.publish(two, "a", "first");
    for publisher in [one, two] {
        for n in 0..3 {
            sim.feed(publisher, Lane::Normal, "a", &n.to_string());
        }
    }
    sim.pump();
    sim.pass(Duration::from_millis(250));
    assert_eq!((sim.hosts[one].undelivered, sim.hosts[two].undelivered), (3, 4));
    assert_eq!(sim.hosts[slow].dropped[&number], 7);
}

/// Goal: every message that a subscriber does not get is counted, whatever ends its subscription.
/// Method: of a hundred some are taken, some are dropped, and the rest waits when the end comes.
#[test]
fn what_waits_when_a_subscription_ends_is_counted() {
    for end in ["link", "unsubscribe", "right"] {
        let mut sim = Sim::new();
        let (publisher, subscriber) = (sim.host(1), sim.host(2));
        let number = sim.subscribe(subscriber, Subscribe { credit: 30, queue_messages: 40, ..wanted("a") });
        publish_numbers(&mut sim, publisher, "a", 0..100);
        sim.feed(publisher, Lane::Latest, "a", "latest");
        sim.pump();
        let key = sim.hosts[subscriber].key;
        match end {
            "link" => sim.close(subscriber),
            "unsubscribe" => sim.unsubscribe(subscriber, number),
            _ => sim.relay.set_permissions(sim.now, key, SLOT, Arc::new(Permissions::default())),
        }
        let stats = sim.relay.stats();
        let ends = (stats.messages_in, stats.messages_out, stats.messages_dropped, stats.messages_abandoned);
        assert_eq!(ends, (101, 30, 60, 11), "{end}");
        sim.pump();
        sim.relay.assert_consistent();
    }
}

/// Goal: each lane has a queue of its own, so that bulk does not push out what matters.
#[test]
fn low_priority_does_not_push_out_high() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, Subscribe { credit: 0, queue_messages: 2, ..wanted("a") });
    sim.feed(publisher, Lane::High, "a", "high");
    for payload in numbers(0..100) {
        sim.feed(publisher, Lane::Low, "a", &payload);
    }
    sim.credit(subscriber, number, 100);
    assert_eq!(sim.payloads(subscriber, number), ["high", "98", "99"]);
}

#[test]
fn latest_only_keeps_the_newest_of_each_topic_in_order() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let options = Subscribe { credit: 0, queue_messages: 4, when_full: WhenFull::LatestOnly, ..wanted("**") };
    let number = sim.subscribe(subscriber, options);
    for (topic, payload) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1")] {
        sim.publish(publisher, topic, payload);
    }
    assert_eq!(sim.relay.stats().messages_dropped, 0, "not full yet");
    for (topic, payload) in [("c", "c2"), ("c", "c3"), ("b", "b2"), ("d", "d1")] {
        sim.publish(publisher, topic, payload);
    }
    sim.credit(subscriber, number, 100);
    assert_eq!(sim.payloads(subscriber, number), ["a2", "c3", "b2", "d1"]);
    sim.pass(Duration::from_millis(250));
    assert_eq!(sim.hosts[subscriber].dropped[&number], 4);
}

/// Goal: the newest of each topic survives whatever the publishers: the topic counts, not the channel.
#[test]
fn latest_only_knows_a_topic_from_several_publishers() {
    let mut sim = Sim::new();
    let (one, two, subscriber) = (sim.host(1), sim.host(2), sim.host(3));
    let options = Subscribe { credit: 0, queue_messages: 2, when_full: WhenFull::LatestOnly, ..wanted("**") };
    let number = sim.subscribe(subscriber, options);
    for (publisher, payload) in [(one, "1"), (two, "2"), (one, "3"), (two, "4")] {
        sim.publish(publisher, "a", payload);
    }
    sim.publish(one, "b", "b");
    sim.credit(subscriber, number, 100);
    assert_eq!(sim.payloads(subscriber, number), ["4", "b"]);
}

/// Goal: also when the publisher has left, what waits is told apart by topic.
#[test]
fn latest_only_still_knows_topics_whose_publisher_has_left() {
    let mut sim = Sim::new();
    let (one, subscriber) = (sim.host(1), sim.host(3));
    let options = Subscribe { credit: 0, queue_messages: 2, when_full: WhenFull::LatestOnly, ..wanted("**") };
    let number = sim.subscribe(subscriber, options);
    sim.publish(one, "a", "old");
    sim.close(one);
    let two = sim.host(2);
    for payload in ["newer", "newest"] {
        sim.publish(two, "a", payload);
    }
    sim.publish(two, "b", "b");
    sim.credit(subscriber, number, 100);
    assert_eq!(sim.payloads(subscriber, number), ["newest", "b"]);
}

/// Goal: on the lane for latest values only the newest of a topic waits; it always comes; replacing is not a loss.
#[test]
fn the_latest_lane_conflates_and_the_newest_always_comes() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, Subscribe { credit: 1, ..wanted("**") });
    for n in 0..100 {
        sim.feed(publisher, Lane::Latest, "a", &format!("a{n}"));
        sim.feed(publisher, Lane::Latest, "b", &format!("b{n}"));
        if n % 10 == 0 {
            sim.pump();
        }
    }
    sim.credit(subscriber, number, 100);
    assert_eq!(sim.payloads(subscriber, number), ["a0", "b99", "a99"]);
    sim.pass(Duration::from_secs(1));
    assert_eq!((sim.hosts[publisher].undelivered, sim.relay.stats().messages_dropped), (0, 0));
    sim.relay.assert_consistent();
}

/// Goal: more topics than may wait are a loss, and are counted as one.
#[test]
fn latest_topics_beyond_the_bound_are_counted_as_dropped() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, Subscribe { credit: 0, ..wanted("**") });
    for n in 0..4100 {
        sim.feed(publisher, Lane::Latest, &format!("t-{n}"), "x");
    }
    sim.pass(Duration::from_secs(1));
    assert_eq!(sim.hosts[subscriber].dropped.get(&number), Some(&4));
    sim.credit(subscriber, number, 10_000);
    assert_eq!(sim.got(subscriber, number).len(), 4096);
    sim.relay.assert_consistent();
}

/// Goal: a channel is taken back only after everything that uses it, however long that waits.
/// Method: messages wait for credit, their publisher leaves; the harness checks that each message's channel is known.
#[test]
fn channels_are_taken_back_after_the_messages_that_use_them() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, Subscribe { credit: 1, ..wanted("**") });
    publish_numbers(&mut sim, publisher, "a", 0..3);
    sim.close(publisher);
    assert_eq!(sim.hosts[subscriber].known_channels(Lane::Normal), 1);
    assert!(sim.hosts[subscriber].forgotten.is_empty());
    sim.credit(subscriber, number, 100);
    assert_eq!(sim.payloads(subscriber, number), numbers(0..3));
    let other = sim.host(3);
    sim.publish(other, "b", "x");
    assert_eq!(sim.payloads(subscriber, number), ["x"]);
    assert_eq!(sim.hosts[subscriber].forgotten.len(), 1);
    assert_eq!(sim.hosts[subscriber].known_channels(Lane::Normal), 1, "the other's");
}

/// Goal: a channel number that is declared anew stands for the new topic, and what was sent before for the old.
#[test]
fn a_channel_number_can_be_used_again_for_another_topic() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, Subscribe { credit: 0, ..wanted("**") });
    for (seq, topic) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
        let channel = sim.channel_of(publisher, ChannelKind::Topic, topic, 0);
        sim.declare(publisher, Lane::Normal, 7, &channel).unwrap();
        let header = Header { id: seq, channel: 7, ..Header::default() };
        sim.put(publisher, Lane::Normal, |out| put_message(header, &[], topic.as_bytes(), out)).unwrap();
    }
    sim.credit(subscriber, number, 100);
    let got = sim.got(subscriber, number);
    assert!(got.iter().all(|got| got.topic == got.payload), "{got:?}");
    assert_eq!(got.len(), 4);
}

/// Goal: a subscriber that does not even read its stream costs a bounded amount, whatever publishers do.
/// Method: a publisher uses one channel number for ever new topics, so that each message needs a declaration; the
/// subscriber reads nothing.
#[test]
fn declarations_for_a_peer_that_does_not_read_are_bounded() {
    let mut sim = Sim::new();
    let (publisher, stalled, credited) = (sim.host(1), sim.host(2), sim.host(3));
    sim.subscribe(stalled, Subscribe { queue_messages: 10, ..wanted("**") });
    let dry = sim.subscribe(credited, Subscribe { queue_messages: 10, credit: 0, ..wanted("**") });
    sim.stall(stalled, &Lane::ALL);
    let mut most = 0;
    for seq in 1..=20_000 {
        let channel = sim.channel_of(publisher, ChannelKind::Topic, &format!("topic.{seq}"), 0);
        sim.declare(publisher, Lane::Normal, 7, &channel).unwrap();
        let header = Header { id: seq, channel: 7, ..Header::default() };
        sim.put(publisher, Lane::Normal, |out| put_message(header, &[], b"x", out)).unwrap();
        if seq % 1000 == 0 {
            sim.pump();
            most = most.max(sim.relay.overhead_bytes(sim.hosts[stalled].key));
            most = most.max(sim.relay.overhead_bytes(sim.hosts[credited].key));
        }
    }
    assert!(most < 1 << 20, "{most} bytes");
    sim.pass(Duration::from_secs(1));
    sim.resume(stalled);
    sim.credit(credited, dry, 1000);
    let seen = sim.got(credited, dry);
    assert_eq!(seen.last().unwrap().topic, "topic.20000", "the newest came, as always");
    sim.hosts[publisher].seq = 20_000;
    sim.publish(publisher, "after", "after");
    assert_eq!(sim.got(credited, dry).last().unwrap().topic, "after");
    for name in [publisher, stalled, credited] {
        sim.close(name);
    }
    sim.assert_empty();
}
