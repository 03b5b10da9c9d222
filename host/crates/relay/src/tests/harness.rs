//! One relay, its peers and the time, all simulated.
//!
//! Peers check as they read: a channel must have been declared on the lane and not taken back, a batch must hold what its
//! header says, nothing may come beyond the credit given. So every test also tests these.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use ed25519_dalek::SigningKey;
use macula_wire::{
    CallError, Channel, ChannelKind, ContentType, Fault, NodeId, PluginName, RealmId, WhenFull,
    control::{Advertise, Control, Done, Ended, Refused, Retained, StoredValue, Subscribe, Unsubscribe, Withdraw},
    frame::{self, Frame, Frames, Header, Lane, Outcome, Outgoing, Taken},
    hello::Role,
};

use crate::{LinkKey, Peer, Permissions, Relay, RelayConfig, Violation};

/// Names a peer of the simulation.
pub(super) type Name = usize;

/// What tests do not care about.
pub(super) const SLOT: u32 = 0;

/// A message as a subscriber got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) publisher: NodeId,
    pub(super) seq: u64,
    pub(super) retained: bool,
    pub(super) lane: Lane,
    pub(super) slot: u32,
}

/// A call as a provider got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GotCall {
    pub(super) number: u64,
    pub(super) procedure: String,
    pub(super) caller: NodeId,
    pub(super) payload: String,
    pub(super) lane: Lane,
    pub(super) time_left_ms: u64,
}

/// How a call ended for its caller.
pub(super) type Answer = Result<String, CallError>;

/// A host, as far as a relay can tell.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) key: LinkKey,
    pub(super) node: NodeId,
    pub(super) epoch: u64,
    /// Lanes that it does not read at the moment.
    stalled: BTreeSet<Lane>,
    reads_control: bool,
    // What it knows.
    channels: BTreeMap<(Lane, u64), Channel>,
    slots: BTreeSet<u32>,
    credit: BTreeMap<u32, u64>,
    /// Messages by subscription, not yet looked at by the test.
    inbox: BTreeMap<u32, Vec<Got>>,
    /// Messages by subscription, in all.
    pub(super) received: BTreeMap<u32, u64>,
    pub(super) calls: Vec<GotCall>,
    pub(super) answers: Vec<(u64, Answer)>,
    pub(super) cancelled: Vec<u64>,
    pub(super) receipts: Vec<(Lane, u64)>,
    /// Of them, those before which something was denied.
    pub(super) denied_receipts: Vec<(Lane, u64)>,
    pub(super) dones: Vec<Done>,
    pub(super) dropped: BTreeMap<u32, u64>,
    /// What ended, and what was refused, for lack of a right.
    pub(super) ended: Vec<Ended>,
    pub(super) refused: Vec<Refused>,
    pub(super) undelivered: u64,
    /// Forgets by channel number, in the order in which they came.
    pub(super) forgotten: Vec<u64>,
    // What it says.
    declared: HashMap<(Lane, ChannelKind, String, u32), u64>,
    next_channel: u64,
    pub(super) seq: u64,
    next_id: u64,
    next_number: u32,
}

/// The whole.
pub(super) struct Sim {
    pub(super) relay: Relay,
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
}

pub(super) fn signing(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(super) fn id_of(seed: u8) -> NodeId {
    signing(seed).verifying_key().into()
}

/// A subscription as most tests want it.
pub(super) fn wanted(pattern: &str) -> Subscribe {
    Subscribe {
        id: 0,
        slot: SLOT,
        subscription: 0,
        pattern: pattern.parse().unwrap(),
        when_full: WhenFull::DropOldest,
        queue_messages: 1000,
        credit: 1_000_000,
        retained: false,
        resumed: false,
    }
}

impl Sim {
    pub(super) fn new() -> Self {
        // Long after its start; tests of the first seconds say so.
        Self::with(RelayConfig { resume_window: Duration::ZERO, ..RelayConfig::default() })
    }

    pub(super) fn with(config: RelayConfig) -> Self {
        Self { relay: Relay::new(config), now: Instant::now(), hosts: Vec::new() }
    }

    /// A link of the node with this seed, not yet in any realm.
    pub(super) fn open(&mut self, seed: u8, role: Role, epoch: u64) -> Name {
        let key = self.relay.link_opened(Peer { node: id_of(seed), epoch, role });
        self.hosts.push(Host {
            key,
            node: id_of(seed),
            epoch,
            stalled: BTreeSet::new(),
            reads_control: true,
            channels: BTreeMap::new(),
            slots: BTreeSet::new(),
            credit: BTreeMap::new(),
            inbox: BTreeMap::new(),
            received: BTreeMap::new(),
            calls: Vec::new(),
            answers: Vec::new(),
            cancelled: Vec::new(),
            receipts: Vec::new(),
            denied_receipts: Vec::new(),
            dones: Vec::new(),
            dropped: BTreeMap::new(),
            ended: Vec::new(),
            refused: Vec::new(),
            undelivered: 0,
            forgotten: Vec::new(),
            declared: HashMap::new(),
            next_channel: 0,
            seq: 0,
            next_id: 0,
            next_number: 0,
        });
        self.hosts.len() - 1
    }

    /// A host in the realm `local.dev`.
    pub(super) fn host(&mut self, seed: u8) -> Name {
        let name = self.open(seed, Role::Host, 1);
        self.join(name, SLOT, 200, "local.dev").unwrap();
        name
    }

    /// Joins a realm under the root key with this seed, with all rights.
    pub(super) fn join(&mut self, name: Name, slot: u32, root: u8, realm: &str) -> Result<(), Fault> {
        self.join_with(name, slot, root, realm, Permissions::all())
    }

    /// Joins a realm with these rights.
    pub(super) fn join_with(
        &mut self,
        name: Name,
        slot: u32,
        root: u8,
        realm: &str,
        permissions: Permissions,
    ) -> Result<(), Fault> {
        let id = RealmId::new(&id_of(root), &realm.parse().unwrap());
        let outcome = self.relay.admit(self.now, self.hosts[name].key, slot, id, Arc::new(permissions));
        if outcome.is_ok() {
            self.hosts[name].slots.insert(slot);
        }
        outcome
    }

    /// Sends a request and gives its answer.
    pub(super) fn request(&mut self, name: Name, make: impl FnOnce(u64) -> Control) -> Result<(), Fault> {
        self.ask(name, make).map(|_| ())
    }

    pub(super) fn ask(&mut self, name: Name, make: impl FnOnce(u64) -> Control) -> Result<Option<StoredValue>, Fault> {
        let done = self.ask_done(name, make);
        done.fault.map_or(Ok(done.value), Err)
    }

    pub(super) fn ask_done(&mut self, name: Name, make: impl FnOnce(u64) -> Control) -> Done {
        self.hosts[name].next_id += 1;
        let id = self.hosts[name].next_id;
        self.control(name, make(id)).expect("no violation");
        let place = self.hosts[name].dones.iter().position(|done| done.id == id).expect("every request is answered");
        self.hosts[name].dones.remove(place)
    }

    /// Subscribes and gives the subscription's number.
    pub(super) fn subscribe(&mut self, name: Name, wanted: Subscribe) -> u32 {
        self.try_subscribe(name, wanted).expect("the relay takes the subscription")
    }

    pub(super) fn try_subscribe(&mut self, name: Name, wanted: Subscribe) -> Result<u32, Fault> {
        self.hosts[name].next_number += 1;
        let subscription = self.hosts[name].next_number;
        // Retained values may come with the answer.
        self.hosts[name].credit.insert(subscription, wanted.credit);
        let outcome = self.request(name, |id| Control::Subscribe(Subscribe { id, subscription, ..wanted }));
        outcome.map(|()| subscription)
    }

    pub(super) fn unsubscribe(&mut self, name: Name, subscription: u32) {
        self.request(name, |id| Control::Unsubscribe(Unsubscribe { id, subscription })).unwrap();
    }

    pub(super) fn advertise(&mut self, name: Name, procedure: &str, in_flight_max: u32) -> u32 {
        self.try_advertise(name, procedure, in_flight_max).expect("the relay takes the offer")
    }

    pub(super) fn try_advertise(&mut self, name: Name, procedure: &str, in_flight_max: u32) -> Result<u32, Fault> {
        self.hosts[name].next_number += 1;
        let offer = self.hosts[name].next_number;
        let procedure = procedure.parse().unwrap();
        let metadata = Default::default();
        let advertise =
            |id| Control::Advertise(Advertise { id, slot: SLOT, offer, procedure, in_flight_max, metadata });
        self.request(name, advertise).map(|()| offer)
    }

    pub(super) fn withdraw(&mut self, name: Name, offer: u32) {
        self.request(name, |id| Control::Withdraw(Withdraw { id, offer })).unwrap();
    }

    /// The stored last value: its payload.
    /// Puts other permissions in force.
    pub(super) fn set_permissions(&mut self, name: Name, permissions: Permissions) {
        self.relay.set_permissions(self.now, self.hosts[name].key, SLOT, Arc::new(permissions));
        self.pump();
    }

    /// Calls, and gives the answer if there is one without a provider's doing.
    pub(super) fn outcome(&mut self, name: Name, procedure: &str) -> Option<Answer> {
        self.hosts[name].next_id += 1;
        let number = 1_000_000 + self.hosts[name].next_id;
        self.call(name, number, procedure, "x");
        let answers = self.answers(name);
        answers.into_iter().find(|(answered, _)| *answered == number).map(|(_, answer)| answer)
    }

    /// Asks for a last value; why it is not given.
    pub(super) fn try_retained(&mut self, name: Name, topic: &str) -> Result<Option<StoredValue>, Fault> {
        let topic = topic.parse().unwrap();
        self.ask(name, |id| Control::Retained(Retained { id, slot: SLOT, topic }))
    }

    pub(super) fn retained(&mut self, name: Name, topic: &str) -> Option<String> {
        let topic = topic.parse().unwrap();
        let stored = self.ask(name, |id| Control::Retained(Retained { id, slot: SLOT, topic })).unwrap()?;
        let channel = Channel::from_bytes(&stored.channel).unwrap();
        assert_eq!(channel.realm_slot, SLOT);
        let Ok(Frame::Message { header, payload, .. }) = Frame::parse(&stored.frame) else { panic!("a message") };
        assert_ne!(header.flags & frame::FLAG_RETAINED, 0);
        Some(text(payload))
    }

    /// Sends a control message, reads what comes of it.
    pub(super) fn control(&mut self, name: Name, message: Control) -> Result<(), Violation> {
        let outcome = self.relay.handle_control(self.now, self.hosts[name].key, message);
        self.pump();
        outcome
    }

    /// Sends a frame without reading anything.
    pub(super) fn frame(&mut self, name: Name, lane: Lane, bytes: &[u8]) -> Result<(), Violation> {
        self.relay.handle_frame(self.now, self.hosts[name].key, lane, bytes)
    }

    /// Sends what `write` writes: one frame.
    pub(super) fn put(&mut self, name: Name, lane: Lane, write: impl FnOnce(&mut BytesMut)) -> Result<(), Violation> {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        self.frame(name, lane, &bytes)
    }

    pub(super) fn channel_of(&self, name: Name, kind: ChannelKind, text: &str, slot: u32) -> Channel {
        let host = &self.hosts[name];
        Channel {
            kind,
            realm_slot: slot,
            name: text.parse().unwrap(),
            sender: host.node,
            epoch: host.epoch,
            plugin: PluginName::EMPTY,
            content_type: ContentType::EMPTY,
        }
    }

    /// Declares a channel under this number.
    pub(super) fn declare(&mut self, name: Name, lane: Lane, number: u64, channel: &Channel) -> Result<(), Violation> {
        self.put(name, lane, |out| frame::put_channel(number, &channel.to_bytes(), out))
    }

    /// The number of a channel, declared when it is new on the lane.
    pub(super) fn number(&mut self, name: Name, lane: Lane, kind: ChannelKind, text: &str, slot: u32) -> u64 {
        let key = (lane, kind, text.to_owned(), slot);
        if let Some(number) = self.hosts[name].declared.get(&key) {
            return *number;
        }
        let number = self.hosts[name].next_channel;
        self.hosts[name].next_channel += 1;
        let channel = self.channel_of(name, kind, text, slot);
        self.declare(name, lane, number, &channel).expect("the channel is in order");
        self.hosts[name].declared.insert(key, number);
        number
    }

    /// Takes all channels back; their numbers may then stand for others.
    pub(super) fn forget_channels(&mut self, name: Name, reuse_numbers: bool) {
        for ((lane, ..), number) in std::mem::take(&mut self.hosts[name].declared) {
            self.put(name, lane, |out| frame::put_forget(number, out)).unwrap();
        }
        if reuse_numbers {
            self.hosts[name].next_channel = 0;
        }
    }

    /// Publishes without flushing: the relay may still be collecting a run. Gives the sequence number.
    pub(super) fn feed(&mut self, name: Name, lane: Lane, topic: &str, payload: &str) -> u64 {
        self.feed_with(name, lane, SLOT, topic, payload, 0)
    }

    pub(super) fn feed_with(
        &mut self,
        name: Name,
        lane: Lane,
        slot: u32,
        topic: &str,
        payload: &str,
        flags: u8,
    ) -> u64 {
        let channel = self.number(name, lane, ChannelKind::Topic, topic, slot);
        self.hosts[name].seq += 1;
        let id = self.hosts[name].seq;
        let header = Header { flags, id, channel, ..Header::default() };
        self.put(name, lane, |out| frame::put_message(header, &[], payload.as_bytes(), out)).expect("no violation");
        id
    }

    /// Publishes on the normal lane and lets everybody read.
    pub(super) fn publish(&mut self, name: Name, topic: &str, payload: &str) {
        self.feed(name, Lane::Normal, topic, payload);
        self.pump();
    }

    /// Publishes to be kept as the last value.
    pub(super) fn publish_retained(&mut self, name: Name, topic: &str, payload: &str) {
        self.feed_with(name, Lane::Normal, SLOT, topic, payload, frame::FLAG_RETAIN);
        self.pump();
    }

    /// Asks for a receipt.
    pub(super) fn sync(&mut self, name: Name, lane: Lane, token: u64) {
        self.put(name, lane, |out| frame::put_sync(token, out)).expect("no violation");
        self.pump();
    }

    /// Takes more messages of a subscription: `total` since it began.
    pub(super) fn credit(&mut self, name: Name, subscription: u32, total: u64) {
        self.hosts[name].credit.insert(subscription, total);
        self.put(name, Lane::Calls, |out| frame::put_credit(subscription, total, out)).expect("no violation");
        self.pump();
    }

    /// Calls without letting anybody read.
    pub(super) fn feed_call(&mut self, name: Name, number: u64, procedure: &str, payload: &str) {
        self.feed_call_for(name, number, procedure, payload, Duration::from_secs(10));
    }

    pub(super) fn feed_call_for(
        &mut self,
        name: Name,
        number: u64,
        procedure: &str,
        payload: &str,
        time_left: Duration,
    ) {
        let lane = Lane::for_call(payload.len());
        let channel = self.number(name, lane, ChannelKind::Procedure, procedure, SLOT);
        let header = Header { id: number, channel, time: time_left.as_millis() as u64, ..Header::default() };
        self.put(name, lane, |out| frame::put_call(header, &[], payload.as_bytes(), out)).expect("no violation");
    }

    /// Calls and lets everybody read.
    pub(super) fn call(&mut self, name: Name, number: u64, procedure: &str, payload: &str) {
        self.feed_call(name, number, procedure, payload);
        self.pump();
    }

    /// Answers a call.
    pub(super) fn reply(&mut self, name: Name, number: u64, answer: &str) {
        let lane = Lane::for_call(answer.len());
        self.put(name, lane, |out| frame::put_reply(number, Outcome::Answer(answer.as_bytes()), out)).unwrap();
        self.pump();
    }

    /// Takes the one call that has come.
    pub(super) fn take_call(&mut self, name: Name) -> GotCall {
        assert_eq!(self.hosts[name].calls.len(), 1, "{:?}", self.hosts[name].calls);
        self.hosts[name].calls.remove(0)
    }

    /// Takes the answers that have come.
    pub(super) fn answers(&mut self, name: Name) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.hosts[name].answers)
    }

    /// Time goes on; deadlines are kept on the way.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.relay.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.relay.handle_timeout(self.now);
            self.pump();
            assert!(self.relay.poll_timeout().is_none_or(|next| next > self.now), "a deadline that was not kept");
        }
        self.now = end;
    }

    /// The link is gone.
    pub(super) fn close(&mut self, name: Name) {
        self.relay.link_closed(self.now, self.hosts[name].key);
        self.pump();
    }

    /// The peer does not read these lanes any more.
    pub(super) fn stall(&mut self, name: Name, lanes: &[Lane]) {
        self.hosts[name].stalled.extend(lanes);
    }

    pub(super) fn stall_control(&mut self, name: Name) {
        self.hosts[name].reads_control = false;
    }

    /// It reads them again, all there is.
    pub(super) fn resume(&mut self, name: Name) {
        self.hosts[name].stalled.clear();
        self.drain(name);
        self.pump();
    }

    /// Ends the current run and lets all peers read what there is for them, as the driver does.
    pub(super) fn pump(&mut self) {
        self.relay.flush(self.now);
        while let Some(key) = self.relay.poll_ready() {
            // The newest link under this key; a closed one is never ready.
            let name = self.hosts.iter().rposition(|host| host.key == key).expect("a link of this simulation");
            self.drain(name);
        }
    }

    fn drain(&mut self, name: Name) {
        let key = self.hosts[name].key;
        while self.hosts[name].reads_control
            && let Some(message) = self.relay.poll_control(key)
        {
            self.hosts[name].read_control(message);
        }
        for lane in Lane::ALL {
            while !self.hosts[name].stalled.contains(&lane) && self.transmit(name, lane) {}
        }
    }

    /// Reads about 64 KiB of a lane; whether there was anything.
    pub(super) fn transmit(&mut self, name: Name, lane: Lane) -> bool {
        let mut out = Outgoing::default();
        self.relay.poll_transmit(self.now, self.hosts[name].key, lane, &mut out);
        let bytes = out.take().concat();
        for frame in Frames::new(&bytes) {
            self.hosts[name].read(lane, frame.expect("whole frames"));
        }
        !bytes.is_empty()
    }

    /// Takes what came for a subscription.
    pub(super) fn got(&mut self, name: Name, subscription: u32) -> Vec<Got> {
        self.hosts[name].inbox.remove(&subscription).unwrap_or_default()
    }

    /// The payloads of what came for a subscription.
    pub(super) fn payloads(&mut self, name: Name, subscription: u32) -> Vec<String> {
        self.got(name, subscription).into_iter().map(|got| got.payload).collect()
    }

    /// After all links have closed: nothing is left but retained values and what recognises duplicates.
    pub(super) fn assert_empty(&mut self) {
        let stats = self.relay.stats();
        let gauges = (stats.links, stats.subscriptions, stats.offers, stats.queued_bytes, stats.calls_pending);
        assert_eq!(gauges, (0, 0, 0, 0, 0));
        self.relay.assert_consistent();
    }
}

impl Host {
    fn read_control(&mut self, message: Control) {
        match message {
            Control::Done(done) => self.dones.push(done),
            Control::Dropped(dropped) => {
                let before = self.dropped.insert(dropped.subscription, dropped.total);
                assert!(before.is_none_or(|before| before < dropped.total), "totals grow");
            }
            Control::Undelivered(undelivered) => {
                assert!(undelivered.total > self.undelivered, "totals grow");
                self.undelivered = undelivered.total;
            }
            Control::Ended(ended) => self.ended.push(ended),
            Control::Refused(refused) => self.refused.push(refused),
            Control::Pong(_) | Control::Goodbye(_) => {}
            other => panic!("a relay does not send {other:?}"),
        }
    }

    fn read(&mut self, lane: Lane, bytes: &[u8]) {
        match Frame::parse(bytes).expect("a relay sends frames") {
            Frame::Channel { number, body } => {
                let channel = Channel::from_bytes(body).expect("a channel");
                assert!(self.slots.contains(&channel.realm_slot), "a realm that it joined");
                assert!(self.channels.insert((lane, number), channel).is_none(), "declared once");
            }
            Frame::Forget { number } => {
                assert!(self.channels.remove(&(lane, number)).is_some(), "only what was declared");
                self.forgotten.push(number);
            }
            Frame::Batch { subscription, count, frames } => self.read_batch(lane, subscription, count, frames),
            Frame::Call { header, payload, .. } => {
                let channel = &self.channels[&(lane, header.channel)];
                assert_eq!(channel.kind, ChannelKind::Procedure);
                self.calls.push(GotCall {
                    number: header.id,
                    procedure: channel.name.to_string(),
                    caller: channel.sender,
                    payload: text(payload),
                    lane,
                    time_left_ms: header.time,
                });
            }
            Frame::Reply { call, outcome } => {
                let answer = match outcome {
                    Outcome::Answer(answer) => Ok(text(answer)),
                    Outcome::Error(error) => Err(Outcome::decode_error(error)),
                };
                self.answers.push((call, answer));
            }
            Frame::Cancel { call } => self.cancelled.push(call),
            Frame::Receipt { lane, taken, token } => {
                let lane = Lane::from_number(lane).expect("a lane");
                self.receipts.push((lane, token));
                if taken == Taken::NotDenied {
                    self.denied_receipts.push((lane, token));
                }
            }
            other => panic!("a relay does not send {other:?}"),
        }
    }

    fn read_batch(&mut self, lane: Lane, subscription: u32, count: u32, frames: &[u8]) {
        let mut counted = 0;
        for bytes in Frames::new(frames) {
            let Ok(Frame::Message { header, payload, .. }) = Frame::parse(bytes.expect("whole frames")) else {
                panic!("a batch holds messages");
            };
            counted += 1;
            let channel = self.channels.get(&(lane, header.channel)).expect("declared on this lane");
            assert_eq!(channel.kind, ChannelKind::Topic);
            assert!(header.hops >= 1, "a relay was passed");
            self.inbox.entry(subscription).or_default().push(Got {
                topic: channel.name.to_string(),
                payload: text(payload),
                publisher: channel.sender,
                seq: header.id,
                retained: header.flags & frame::FLAG_RETAINED != 0,
                lane,
                slot: channel.realm_slot,
            });
        }
        assert_eq!(counted, count, "as many as the batch says");
        let received = self.received.entry(subscription).or_default();
        *received += u64::from(count);
        assert!(*received <= self.credit[&subscription], "nothing beyond the credit");
    }

    /// What it has granted, when a test does so by itself.
    pub(super) fn credit_for_tests(&mut self, subscription: u32, total: u64) {
        self.credit.insert(subscription, total);
        self.received.remove(&subscription);
    }

    /// Channel numbers that it knows on a lane.
    pub(super) fn known_channels(&self, lane: Lane) -> usize {
        self.channels.keys().filter(|(of, _)| *of == lane).count()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Small, seeded, good enough to draw cases (xorshift64*).
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}
