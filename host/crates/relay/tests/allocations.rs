//! Goal: on the steady path a forwarded message costs next to no allocation, however many subscribers it has.
//!
//! Method: a global allocator counts the calls of this thread while a warmed-up relay forwards messages from one
//! publisher to several subscribers that read and give credit as a host does. One binary of its own, because the counter
//! is a property of the process.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use ed25519_dalek::SigningKey;
use macula_relay::{LinkKey, Peer, Permissions, Relay, RelayConfig};
use macula_wire::{
    Channel, ChannelKind, ContentType, NodeId, PluginName, RealmId, WhenFull,
    control::{Control, Subscribe},
    frame::{self, Frame, Frames, Header, Lane, Outgoing},
    hello::Role,
};

/// Counts allocations of the current thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as promised by our caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As the driver reads: so many messages arrive before the run is ended and writers are woken.
const BURST: usize = 64;
const BURSTS: usize = 500;

/// A relay with one publisher and some subscribers of its topic.
struct Mesh {
    relay: Relay,
    now: Instant,
    publisher: LinkKey,
    subscribers: Vec<Subscriber>,
    seq: u64,
    frame: BytesMut,
}

struct Subscriber {
    key: LinkKey,
    outgoing: Outgoing,
    pieces: Vec<Bytes>,
    received: u64,
    credit: u64,
}

fn id(seed: u8) -> NodeId {
    SigningKey::from_bytes(&[seed; 32]).verifying_key().into()
}

/// Messages that a subscriber takes at a time.
const WINDOW: u64 = 16_384;

impl Mesh {
    fn new(subscribers: u8, when_full: WhenFull) -> Self {
        let (mut relay, now) =
            (Relay::new(RelayConfig { resume_window: Duration::ZERO, ..RelayConfig::default() }), Instant::now());
        let publisher = join(&mut relay, now, 1);
        let channel = Channel {
            kind: ChannelKind::Topic,
            realm_slot: 0,
            name: "sensors.kitchen".parse().unwrap(),
            sender: id(1),
            epoch: 1,
            plugin: PluginName::EMPTY,
            content_type: ContentType::EMPTY,
        };
        let mut frame = BytesMut::with_capacity(4096);
        frame::put_channel(0, &channel.to_bytes(), &mut frame);
        relay.handle_frame(now, publisher, Lane::Normal, &frame).unwrap();
        let subscribers = (0..subscribers).map(|n| Subscriber::new(&mut relay, now, n + 2, when_full)).collect();
        Self { relay, now, publisher, subscribers, seq: 0, frame }
    }

    /// A burst of messages in, and everything out.
    fn turn(&mut self) {
        for _ in 0..BURST {
            self.seq += 1;
            self.frame.clear();
            let header = Header { id: self.seq, ..Header::default() };
            frame::put_message(header, &[], b"21.5 degrees Celsius", &mut self.frame);
            self.relay.handle_frame(self.now, self.publisher, Lane::Normal, &self.frame).unwrap();
        }
        self.relay.flush(self.now);
        while let Some(key) = self.relay.poll_ready() {
            let subscriber = self.subscribers.iter_mut().find(|subscriber| subscriber.key == key).unwrap();
            subscriber.read(&mut self.relay, self.now, &mut self.frame);
        }
    }

    fn received(&self) -> u64 {
        self.subscribers.iter().map(|subscriber| subscriber.received).sum()
    }
}

impl Subscriber {
    fn new(relay: &mut Relay, now: Instant, seed: u8, when_full: WhenFull) -> Self {
        let key = join(relay, now, seed);
        let subscribe = Subscribe {
            id: 2,
            slot: 0,
            subscription: 1,
            pattern: "sensors.*".parse().unwrap(),
            when_full,
            queue_messages: WINDOW as u32,
            credit: WINDOW,
            retained: false,
            resumed: false,
        };
        relay.handle_control(now, key, Control::Subscribe(subscribe)).unwrap();
        while relay.poll_control(key).is_some() {}
        Self { key, outgoing: Outgoing::default(), pieces: Vec::new(), received: 0, credit: WINDOW }
    }

    fn read(&mut self, relay: &mut Relay, now: Instant, frame: &mut BytesMut) {
        loop {
            relay.poll_transmit(now, self.key, Lane::Normal, &mut self.outgoing);
            if self.outgoing.is_empty() {
                break;
            }
            self.outgoing.take_into(&mut self.pieces);
            for bytes in self.pieces.iter().flat_map(|piece| Frames::new(piece)).flatten() {
                if let Ok(Frame::Batch { count, .. }) = Frame::parse(bytes) {
                    self.received += u64::from(count);
                }
            }
            self.pieces.clear();
        }
        if self.received + WINDOW - self.credit >= WINDOW / 2 {
            self.credit = self.received + WINDOW;
            frame.clear();
            frame::put_credit(1, self.credit, frame);
            relay.handle_frame(now, self.key, Lane::Calls, frame).unwrap();
        }
    }
}

fn join(relay: &mut Relay, now: Instant, seed: u8) -> LinkKey {
    let key = relay.link_opened(Peer { node: id(seed), epoch: 1, role: Role::Host });
    let realm = RealmId::new(&id(200), &"local.dev".parse().unwrap());
    relay.admit(now, key, 0, realm, Arc::new(Permissions::all())).unwrap();
    while relay.poll_control(key).is_some() {}
    while relay.poll_ready().is_some() {}
    key
}

#[test]
fn forwarding_allocates_next_to_nothing() {
    for subscribers in [1, 8, 64] {
        let mut mesh = Mesh::new(subscribers, WhenFull::DropOldest);
        for _ in 0..BURSTS {
            mesh.turn();
        }
        assert!(ALLOCATIONS.get() > 0, "the counter counts");
        let (before, received_before) = (ALLOCATIONS.get(), mesh.received());
        for _ in 0..BURSTS {
            mesh.turn();
        }
        let (allocations, forwarded) = (ALLOCATIONS.get() - before, mesh.received() - received_before);
        assert_eq!(forwarded, (BURST * BURSTS) as u64 * u64::from(subscribers), "everything arrived");
        let each = allocations as f64 / forwarded as f64;
        report(subscribers, allocations, forwarded);
        assert!(each <= 0.05, "{each} allocations per forwarded message");
    }
}

#[expect(clippy::print_stdout, reason = "the measured number is what one wants to see of this test")]
fn report(subscribers: u8, allocations: u64, forwarded: u64) {
    println!("{subscribers} subscribers: {allocations} allocations for {forwarded} forwarded messages");
}
