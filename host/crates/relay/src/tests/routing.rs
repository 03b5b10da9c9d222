//! Who gets which messages, and in which order.

use std::collections::BTreeMap;

use macula_wire::{Pattern, Topic, control::Subscribe, frame::Lane, hello::Role, limits::HOPS_MAX};

use super::harness::{Random, Sim, id_of, wanted};

/// Goal: a pattern gets what it matches, and a leading wildcard does not reach the system's names.
/// Method: one publisher, one subscriber with several patterns, a handful of topics.
#[test]
fn messages_go_where_patterns_match() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let patterns = ["sensors.kitchen", "sensors.*", "sensors.**", "*", "**", "_mesh.**", "_mesh.*", "*.kitchen"];
    let numbers: Vec<u32> = patterns.iter().map(|pattern| sim.subscribe(subscriber, wanted(pattern))).collect();
    let topics = ["sensors.kitchen", "sensors.kitchen.oven", "sensors", "_mesh.status", "_mesh", "other.kitchen"];
    for topic in topics {
        sim.publish(publisher, topic, topic);
    }
    for (pattern, number) in patterns.iter().zip(numbers) {
        let parsed: Pattern = pattern.parse().unwrap();
        let expected: Vec<&str> =
            topics.into_iter().filter(|topic| parsed.matches(&topic.parse::<Topic>().unwrap())).collect();
        assert_eq!(sim.payloads(subscriber, number), expected, "{pattern}");
    }
}

#[test]
fn a_message_names_its_publisher_topic_and_sequence() {
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, wanted("a.*"));
    sim.publish(publisher, "x", "nobody wants it");
    sim.publish(publisher, "a.b", "hello");
    let got = sim.got(subscriber, number);
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].topic.as_str(), got[0].payload.as_str()), ("a.b", "hello"));
    assert_eq!((got[0].publisher, got[0].seq, got[0].retained), (id_of(1), 2, false));
}

/// Goal: same topic, other realm: nothing crosses; and a realm is its root key as well as its name.
/// Method: three subscribers to `**` in `a.test` under root 1, `b.test` under root 1, `a.test` under root 2; a publisher
/// that has joined all three under different slots.
#[test]
fn realms_share_nothing() {
    let mut sim = Sim::new();
    let realms = [(201, "a.test"), (201, "b.test"), (202, "a.test")];
    let publisher = sim.open(1, Role::Host, 1);
    let mut subscribers = Vec::new();
    for (index, (root, realm)) in realms.into_iter().enumerate() {
        sim.join(publisher, 10 + index as u32, root, realm).unwrap();
        let subscriber = sim.open(2 + index as u8, Role::Host, 1);
        sim.join(subscriber, 5, root, realm).unwrap();
        let number = sim.subscribe(subscriber, Subscribe { slot: 5, retained: true, ..wanted("**") });
        subscribers.push((subscriber, number));
    }
    for index in 0..3 {
        sim.feed_with(publisher, Lane::Normal, 10 + index, "t", &format!("realm {index}"), super::retained::RETAIN);
    }
    sim.pump();
    for (index, (subscriber, number)) in subscribers.into_iter().enumerate() {
        let got = sim.got(subscriber, number);
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!((got[0].payload.as_str(), got[0].slot), (format!("realm {index}").as_str(), 5));
        let again = sim.subscribe(subscriber, Subscribe { slot: 5, retained: true, ..wanted("**") });
        assert_eq!(sim.payloads(subscriber, again), [format!("realm {index}")], "its own last value only");
    }
}

/// Goal: procedures of other realms are not found.
#[test]
fn calls_stay_in_their_realm() {
    let mut sim = Sim::new();
    let provider = sim.open(1, Role::Host, 1);
    sim.join(provider, 0, 201, "a.test").unwrap();
    sim.advertise(provider, "math.add", 10);
    let caller = sim.open(2, Role::Host, 1);
    sim.join(caller, 0, 202, "a.test").unwrap();
    sim.call(caller, 1, "math.add", "");
    assert!(sim.hosts[provider].calls.is_empty());
    let [(1, Err(error))] = &sim.answers(caller)[..] else { panic!("one refusal") };
    assert_eq!(error.to_string(), "not found: nobody offers math.add (the handler did not run)");
}

#[test]
fn a_message_that_has_passed_too_many_relays_ends_here() {
    use macula_wire::{
        ChannelKind,
        frame::{Header, put_message},
    };
    let mut sim = Sim::new();
    let (publisher, subscriber) = (sim.host(1), sim.host(2));
    let number = sim.subscribe(subscriber, wanted("**"));
    let channel = sim.number(publisher, Lane::Normal, ChannelKind::Topic, "a", 0);
    for hops in [HOPS_MAX - 1, HOPS_MAX, 255] {
        let header = Header { id: u64::from(hops), hops, channel, ..Header::default() };
        sim.put(publisher, Lane::Normal, |out| put_message(header, &[], hops.to_string().as_bytes(), out)).unwrap();
    }
    sim.pump();
    assert_eq!(sim.payloads(subscriber, number), [(HOPS_MAX - 1).to_string()]);
    assert_eq!(sim.relay.stats().messages_looping, 2);
}

/// Goal: what is sent again after a reconnect comes once; a new run of the publisher is not mistaken for it.
/// Method: the link of a node is replaced by one of the same epoch, then by one of a later epoch, each sending from
/// number 1 on.
#[test]
fn what_is_sent_again_after_a_reconnect_comes_once() {
    let mut sim = Sim::new();
    let subscriber = sim.host(2);
    let number = sim.subscribe(subscriber, wanted("**"));
    let first = sim.host(1);
    for payload in ["1", "2"] {
        sim.publish(first, "a", payload);
    }
    sim.close(first);
    let again = sim.host(1);
    for payload in ["1 again", "2 again", "3"] {
        sim.publish(again, "a", payload);
    }
    assert_eq!(sim.payloads(subscriber, number), ["1", "2", "3"]);
    assert_eq!(sim.relay.stats().messages_duplicate, 2);
    // Another node's numbers are its own.
    let other = sim.host(3);
    sim.publish(other, "a", "other's 1");
    let later = sim.open(1, Role::Host, 2);
    sim.join(later, 0, 200, "local.dev").unwrap();
    sim.publish(later, "a", "1 of epoch 2");
    assert_eq!(sim.payloads(subscriber, number), ["other's 1", "1 of epoch 2"]);
}

/// Goal: in any interleaving of publishers, topics, lanes, subscriptions that come and go, and credit that comes in
/// drops, every subscription sees exactly what was published to its pattern while it existed, in the order of its
/// publisher and lane, as long as its queue does not overflow.
/// Method: random acts from a seed against a plain model; a failure names its seed.
#[test]
fn every_subscriber_sees_exactly_its_messages_in_order() {
    for seed in 1..=60 {
        Schedule::new(seed).run();
    }
}

/// What a subscription must have seen in the end.
struct Expected {
    subscriber: usize,
    number: u32,
    pattern: Pattern,
    /// By publisher and lane: sequence numbers.
    messages: BTreeMap<(usize, Lane), Vec<u64>>,
    credit: u64,
    alive: bool,
}

struct Schedule {
    seed: u64,
    random: Random,
    sim: Sim,
    publishers: Vec<usize>,
    subscribers: Vec<usize>,
    expected: Vec<Expected>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new();
        let publishers = (1..=3).map(|seed| sim.host(seed)).collect();
        let subscribers = (4..=6).map(|seed| sim.host(seed)).collect();
        Self { seed, random: Random::new(seed), sim, publishers, subscribers, expected: Vec::new() }
    }

    fn run(mut self) {
        for _ in 0..400 {
            match self.random.below(20) {
                0 => self.subscribe(),
                1 => self.unsubscribe(),
                2 => self.redeclare(),
                3..6 => self.give_credit(),
                6..9 => self.sim.pump(),
                _ => self.publish(),
            }
        }
        self.sim.pump();
        self.sim.relay.assert_consistent();
        for place in 0..self.expected.len() {
            self.settle(place);
        }
        for name in self.publishers.iter().chain(&self.subscribers) {
            self.sim.close(*name);
        }
        self.sim.assert_empty();
    }

    fn subscribe(&mut self) {
        let subscriber = self.subscribers[self.random.below(3)];
        let pattern = self.random.pick(&["**", "a.*", "a.b", "*.b", "c.**", "*"]);
        let credit = self.random.below(4) as u64;
        let number = self.sim.subscribe(subscriber, Subscribe { credit, ..wanted(pattern) });
        self.expected.push(Expected {
            subscriber,
            number,
            pattern: pattern.parse().unwrap(),
            messages: BTreeMap::new(),
            credit,
            alive: true,
        });
    }

    fn unsubscribe(&mut self) {
        if let Some(place) = self.any_alive() {
            self.settle(place);
            self.sim.unsubscribe(self.expected[place].subscriber, self.expected[place].number);
            self.expected[place].alive = false;
        }
    }

    fn any_alive(&mut self) -> Option<usize> {
        let alive: Vec<usize> = (0..self.expected.len()).filter(|place| self.expected[*place].alive).collect();
        (!alive.is_empty()).then(|| alive[self.random.below(alive.len())])
    }

    fn give_credit(&mut self) {
        if let Some(place) = self.any_alive() {
            let more = self.random.below(12) as u64;
            let expected = &mut self.expected[place];
            expected.credit += more;
            self.sim.credit(expected.subscriber, expected.number, expected.credit);
        }
    }

    /// The publisher forgets all its channels and uses their numbers for others.
    fn redeclare(&mut self) {
        let publisher = self.publishers[self.random.below(3)];
        self.sim.forget_channels(publisher, self.seed.is_multiple_of(2));
    }

    fn publish(&mut self) {
        let publisher = self.publishers[self.random.below(3)];
        let lane = [Lane::High, Lane::Normal, Lane::Normal, Lane::Low][self.random.below(4)];
        let topic = self.random.pick(&["a.b", "a.c", "c.b", "c.d.e", "z"]);
        let seq = self.sim.feed(publisher, lane, topic, "x");
        let parsed: Topic = topic.parse().unwrap();
        for expected in self.expected.iter_mut().filter(|expected| expected.alive && expected.pattern.matches(&parsed))
        {
            expected.messages.entry((publisher, lane)).or_default().push(seq);
        }
    }

    /// Gives a subscription all the credit it needs and compares.
    fn settle(&mut self, place: usize) {
        let expected = &self.expected[place];
        if !expected.alive {
            return;
        }
        let (subscriber, number) = (expected.subscriber, expected.number);
        self.sim.credit(subscriber, number, expected.credit + 10_000);
        let mut seen: BTreeMap<(usize, Lane), Vec<u64>> = BTreeMap::new();
        for got in self.sim.got(subscriber, number) {
            let publisher =
                self.publishers.iter().position(|name| self.sim.hosts[*name].node == got.publisher).unwrap();
            seen.entry((self.publishers[publisher], got.lane)).or_default().push(got.seq);
        }
        assert_eq!(seen, self.expected[place].messages, "seed {}, subscription {place}", self.seed);
    }
}
