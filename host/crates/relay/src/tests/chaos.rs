//! Whatever a peer sends, the relay does not panic, keeps its books, and serves the others.

use std::sync::Arc;

use bytes::BytesMut;
use macula_wire::{
    Channel, ChannelKind, ContentType, Fault, PluginName, WhenFull,
    control::{
        Advertise, Beat, Control, Done, Dropped, Goodbye, Retained, Subscribe, Undelivered, Unsubscribe, Withdraw,
    },
    frame::{self, Frames, Header, Lane, Outcome},
    hello::Role,
};
use proptest::prelude::*;

use super::harness::{Name, Random, Sim, id_of, wanted};
use crate::{Permissions, RelayConfig};

/// Goal: random frames and control messages, well-formed, altered and plain noise, on several links: nothing panics, and
/// two honest peers lose nothing, not even when links that misbehave close at random moments.
/// Method: seeds; the honest pair publishes and calls between the acts; books are checked along the way.
#[test]
fn no_input_panics_or_harms_other_links() {
    for seed in 1..=100 {
        let outcome = std::panic::catch_unwind(|| Chaos::new(seed).run());
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

struct Chaos {
    random: Random,
    sim: Sim,
    wild: Vec<Option<Name>>,
    honest: (Name, Name),
    subscription: u32,
    sent: u64,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::with(RelayConfig {
            realms_max: 4,
            subscriptions_per_link_max: 6,
            offers_per_link_max: 4,
            calls_per_link_max: 8,
            queued_bytes_per_link_max: 3000,
            queued_bytes_per_realm_max: 6000,
            queued_bytes_max: 9000,
            call_bytes_per_link_max: 4000,
            retained_topics_per_realm_max: 3,
            retained_bytes_per_realm_max: 600,
            publishers_remembered_max: 4,
            resume_bytes_per_realm_max: 3000,
            resume_bytes_max: 5000,
            ..RelayConfig::default()
        });
        let honest = (sim.open(1, Role::Host, 1), sim.open(2, Role::Host, 1));
        for name in [honest.0, honest.1] {
            sim.join(name, 0, 150, "honest.test").unwrap();
        }
        let subscription = sim.subscribe(honest.1, wanted("a.*"));
        sim.advertise(honest.1, "p", 10);
        Self { random: Random::new(seed), sim, wild: vec![None; 4], honest, subscription, sent: 0 }
    }

    fn run(mut self) {
        for act in 0..300 {
            let place = self.random.below(self.wild.len());
            match self.wild[place] {
                None => self.wild[place] = Some(self.open(10 + place as u8)),
                Some(name) => {
                    let broke = if self.random.below(3) == 0 { self.say(name) } else { self.send(name) };
                    if broke || self.random.below(60) == 0 {
                        self.close(place, name);
                    }
                }
            }
            if self.random.below(4) == 0 {
                self.sim.pump();
            }
            if act % 20 == 0 {
                self.honest_round();
                self.sim.pass(std::time::Duration::from_millis(self.random.below(3000) as u64));
                self.sim.relay.assert_consistent();
            }
        }
        for place in 0..self.wild.len() {
            if let Some(name) = self.wild[place] {
                self.close(place, name);
            }
        }
        self.sim.close(self.honest.0);
        self.sim.close(self.honest.1);
        self.sim.assert_empty();
    }

    fn open(&mut self, seed: u8) -> Name {
        let role = [Role::Host, Role::Client, Role::Relay][self.random.below(3)];
        let epoch = self.random.below(3) as u64;
        let name = self.sim.open(seed, role, epoch);
        if self.random.below(4) != 0 {
            // May be refused: there are more realms than the relay takes.
            let realm = self.random.pick(&["a.test", "b.test", "c.test", "d.test"]);
            let _ = self.sim.join(name, 0, 150, realm);
        }
        let stalled: Vec<Lane> = Lane::ALL.into_iter().filter(|_| self.random.below(5) == 0).collect();
        self.sim.stall(name, &stalled);
        name
    }

    fn close(&mut self, place: usize, name: Name) {
        self.sim.close(name);
        self.wild[place] = None;
    }

    /// The honest pair: a message, a call, an answer.
    fn honest_round(&mut self) {
        let (publisher, subscriber) = self.honest;
        self.sent += 1;
        self.sim.publish(publisher, "a.b", &self.sent.to_string());
        assert_eq!(self.sim.payloads(subscriber, self.subscription), [self.sent.to_string()]);
        self.sim.call(publisher, self.sent, "p", "?");
        let call = self.sim.take_call(subscriber);
        self.sim.reply(subscriber, call.number, "!");
        assert_eq!(self.sim.answers(publisher), [(self.sent, Ok("!".to_owned()))]);
    }

    /// A random frame; whether it broke the protocol.
    fn send(&mut self, name: Name) -> bool {
        let lane = Lane::ALL[self.random.below(Lane::COUNT)];
        let mut out = BytesMut::new();
        for _ in 0..=self.random.below(3) {
            self.put_frame(name, &mut out);
        }
        if self.random.below(8) == 0 {
            let bit = self.random.below(out.len() * 8);
            // Lengths are the reassembly's to judge.
            if bit / 8 >= 4 {
                out[bit / 8] ^= 1 << (bit % 8);
            }
        }
        let frames: Vec<Vec<u8>> = Frames::new(&out).flatten().map(<[u8]>::to_vec).collect();
        frames.into_iter().any(|frame| self.sim.frame(name, lane, &frame).is_err())
    }

    fn put_frame(&mut self, name: Name, out: &mut BytesMut) {
        let r = &mut self.random;
        let small = r.below(6) as u64;
        let payload = vec![b'x'; [0, 1, 30, 400, 70_000][r.below(5)]];
        let header = Header {
            flags: [0, 0, frame::FLAG_RETAIN, frame::FLAG_RETAINED, 0xf0][r.below(5)],
            auth: 0,
            cause_depth: r.below(17) as u8,
            hops: r.below(18) as u8,
            time: r.next() >> (r.below(48) + 16),
            id: if r.below(10) == 0 { r.next() } else { self.sim.hosts[name].seq + small },
            channel: small,
        };
        self.sim.hosts[name].seq += 1;
        // The relay's own numbers for calls, as far as this peer can know or guess them.
        let call = self.sim.hosts[name].calls.last().map_or(small << 32 | small, |call| call.number);
        match r.below(16) {
            0..5 => frame::put_message(header, &[], &payload, out),
            5 => frame::put_call(header, &[], &payload, out),
            6 => frame::put_call(Header { id: small, ..header }, b"\xff", &payload, out),
            7..10 => {
                let channel = self.channel(name);
                frame::put_channel(small, &channel.to_bytes(), out);
            }
            10 => frame::put_forget(small, out),
            11 => frame::put_reply(call, Outcome::Answer(&payload), out),
            12 => frame::put_reply(call, Outcome::Error(b"garbage"), out),
            13 => frame::put_cancel(small, out),
            14 => frame::put_sync(small, out),
            _ => frame::put_credit(small as u32, r.next() >> 40, out),
        }
    }

    fn channel(&mut self, name: Name) -> Channel {
        let r = &mut self.random;
        let host = &self.sim.hosts[name];
        Channel {
            kind: [ChannelKind::Topic, ChannelKind::Topic, ChannelKind::Procedure][r.below(3)],
            realm_slot: if r.below(12) == 0 { 3 } else { 0 },
            name: r.pick(&["a.b", "a", "b.c.d", "p", "_sys.x"]).parse().unwrap(),
            sender: if r.below(25) == 0 { id_of(1) } else { host.node },
            epoch: host.epoch,
            plugin: PluginName::EMPTY,
            content_type: ContentType::EMPTY,
        }
    }

    /// A random control message; whether it broke the protocol.
    fn say(&mut self, name: Name) -> bool {
        let r = &mut self.random;
        let small = r.below(8) as u32;
        let id = u64::from(small);
        let message = match r.below(14) {
            0..4 => {
                let when_full = [WhenFull::DropOldest, WhenFull::LatestOnly, WhenFull::Block][r.below(3)];
                let credit = r.below(20) as u64;
                self.sim.hosts[name].credit_for_tests(small, u64::MAX);
                let queue_messages = r.below(12) as u32;
                let (retained, resumed) = (r.below(2) == 0, r.below(3) == 0);
                let pattern = r.pick(&["**", "a.*", "a.b", "*", "_sys.**"]);
                Control::Subscribe(Subscribe {
                    id,
                    subscription: small,
                    when_full,
                    queue_messages,
                    credit,
                    retained,
                    resumed,
                    ..wanted(pattern)
                })
            }
            4 | 5 => Control::Unsubscribe(Unsubscribe { id, subscription: small }),
            6 | 7 => Control::Advertise(Advertise {
                id,
                slot: 0,
                offer: small,
                procedure: r.pick(&["p", "a.b", "_sys.x"]).parse().unwrap(),
                in_flight_max: r.below(3) as u32,
                metadata: Default::default(),
            }),
            8 => Control::Withdraw(Withdraw { id, offer: small }),
            9 => Control::Retained(Retained { id, slot: small / 4, topic: r.pick(&["a.b", "a"]).parse().unwrap() }),
            10 => Control::Ping(Beat { token: id }),
            11 => Control::Goodbye(Goodbye { reason: "so long".into() }),
            12 => {
                // Rights come and go while everything else goes on.
                let permissions = if r.below(3) == 0 { Permissions::default() } else { Permissions::all() };
                let (now, key) = (self.sim.now, self.sim.hosts[name].key);
                self.sim.relay.set_permissions(now, key, small, Arc::new(permissions));
                if r.below(2) == 0 {
                    self.sim.relay.suspend(key, small);
                } else {
                    self.sim.relay.resume(key, small);
                }
                Control::Ping(Beat { token: id })
            }
            _ if r.below(4) > 0 => Control::Unknown { kind: 77, id: Some(id) },
            _ => [
                Control::Done(Done::failed(id, Fault::Timeout)),
                Control::Dropped(Dropped { subscription: small, total: id }),
                Control::Undelivered(Undelivered { total: id }),
            ][r.below(3)]
            .clone(),
        };
        let broke = self.sim.control(name, message).is_err();
        self.sim.hosts[name].dones.clear();
        broke
    }
}

proptest! {
    /// Goal: bytes that are nothing at all are refused or ignored, never a panic, and the link's books stay in order.
    #[test]
    fn noise_never_panics(noise in prop::collection::vec((0..Lane::COUNT, prop::collection::vec(any::<u8>(), 0..120)), 1..20)) {
        let mut sim = Sim::new();
        let name = sim.host(1);
        for (lane, mut bytes) in noise {
            // As the reassembly would hand it over: the length is right, and the kind is one that there is.
            if bytes.len() >= 5 {
                let len = bytes.len() as u32 - 4;
                bytes[..4].copy_from_slice(&len.to_le_bytes());
                bytes[4] %= 12;
            }
            let _ = sim.frame(name, Lane::ALL[lane], &bytes);
        }
        sim.pump();
        sim.relay.assert_consistent();
        sim.close(name);
        sim.assert_empty();
    }
}
