//! Peers that break the protocol: their link is closed with a text that says why, and the others go on.

use bytes::{Bytes, BytesMut};
use macula_node::{Mesh, RelayServer};
use macula_transport::{ControlReader, ControlWriter, Dialler, EndpointConfig, LaneWriter, Link, LocalNode};
use macula_wire::{
    Channel, ChannelKind, ContentType, NodeId, PluginName, WhenFull,
    control::{Control, Join, Subscribe},
    frame::{self, Header, Lane},
    hello::Role,
    limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX},
};
use web_transport_quinn::{ClientBuilder, Session};

use crate::support::{acked, granted, key, node, payloads, relay, soon, stats_where, topic};

/// A relay, an honest pair, and what shows that they are unharmed.
struct Bystanders {
    relay: RelayServer,
    publisher: Mesh,
    _subscriber: Mesh,
    got: macula_node::Subscription,
    sent: u32,
}

impl Bystanders {
    async fn new() -> Self {
        let relay = relay();
        let (publisher, subscriber) = (node(&relay).await, node(&relay).await);
        let got = soon(subscriber.subscribe("**".parse().unwrap())).await.unwrap();
        Self { relay, publisher, _subscriber: subscriber, got, sent: 0 }
    }

    async fn are_unharmed(&mut self) {
        self.sent += 1;
        let text = self.sent.to_string();
        soon(self.publisher.publish_with(&topic("a"), text.as_bytes(), &acked())).await.unwrap();
        assert_eq!(payloads(&mut self.got, 1).await, [text]);
    }
}

/// A session without a Hello.
async fn session(relay: &RelayServer, path: &str) -> Result<Session, web_transport_quinn::ClientError> {
    let client = ClientBuilder::new().dangerous().with_no_certificate_verification().unwrap();
    let url: url::Url = format!("https://{}{path}", relay.address()).parse().unwrap();
    soon(client.connect(url)).await
}

/// A verified link with nothing on it yet, and the dialler that it hangs on.
pub(crate) struct Rogue {
    pub(crate) link: Link,
    control: (ControlWriter, ControlReader),
    _dialler: Dialler,
}

const ROGUE: u8 = 66;

impl Rogue {
    async fn new(relay: &RelayServer, seed: u8) -> Self {
        let dialler = Dialler::new(macula_node::TlsMode::Production, &EndpointConfig::default());
        let node = LocalNode { key: key(seed), role: Role::Host, epoch: 1 };
        let link = soon(dialler.dial(&relay.url(), &node)).await.unwrap();
        let control = link.take_control();
        Self { link, control, _dialler: dialler }
    }

    /// A member of the realm that the honest ones are in.
    async fn joined(relay: &RelayServer) -> Self {
        Self::joined_as(relay, ROGUE).await
    }

    /// The same with the key of this seed.
    pub(crate) async fn joined_as(relay: &RelayServer, seed: u8) -> Self {
        let mut rogue = Self::new(relay, seed).await;
        let (name, root) = ("local.dev".parse().unwrap(), key(200));
        let proofs = vec![macula_auth::proof_of(&granted(&root, None, seed, "/mesh", &[], None))];
        let join = Join { id: 1, slot: 0, name, root: root.verifying_key().into(), proofs };
        assert_eq!(rogue.ask(Control::Join(join)).await, None);
        rogue
    }

    /// Sends a request; its fault.
    pub(crate) async fn ask(&mut self, request: Control) -> Option<macula_wire::Fault> {
        soon(self.control.0.send([request])).await.unwrap();
        loop {
            if let Control::Done(done) = soon(self.control.1.next()).await.unwrap() {
                return done.fault;
            }
        }
    }

    /// Opens a lane and sends this on it.
    async fn sends(&self, lane: Lane, write: impl FnOnce(&mut BytesMut)) -> LaneWriter {
        let mut out = BytesMut::new();
        write(&mut out);
        let mut writer = soon(self.link.open_lane(lane)).await.unwrap();
        // The relay may have closed the link by the first half.
        let _ = soon(writer.write(&mut [out.freeze()])).await;
        writer
    }

    /// Waits until the relay has closed the link, and says with which words.
    async fn is_closed(&self) -> String {
        soon(self.link.closed()).await
    }
}

fn id() -> NodeId {
    key(ROGUE).verifying_key().into()
}

fn channel(name: &str) -> Channel {
    Channel {
        kind: ChannelKind::Topic,
        realm_slot: 0,
        name: name.parse().unwrap(),
        sender: id(),
        epoch: 1,
        plugin: PluginName::EMPTY,
        content_type: ContentType::EMPTY,
    }
}

fn put_channel(number: u64, channel: &Channel, out: &mut BytesMut) {
    frame::put_channel(number, &channel.to_bytes(), out);
}

fn put_message(channel: u64, id: u64, out: &mut BytesMut) {
    frame::put_message(Header { id, channel, ..Header::default() }, &[], b"x", out);
}

/// Goal: before a Hello has verified nothing is read, and what comes instead of one closes the session.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_hello_closes_the_session() {
    let mut bystanders = Bystanders::new().await;
    let noise = |len: usize| [&(len as u32).to_le_bytes()[..], &vec![0xa5; len]].concat();
    let oversized = u32::try_from(HELLO_BYTES_MAX + 1).unwrap().to_le_bytes().to_vec();
    for (bytes, what) in
        [(noise(100), "malformed Hello"), (oversized, "a Hello of 4097 bytes"), (noise(0), "malformed Hello")]
    {
        let session = session(&bystanders.relay, "/mesh/1").await.unwrap();
        let (mut send, _recv) = soon(session.open_bi()).await.unwrap();
        soon(send.write_all(&bytes)).await.unwrap();
        let closed = soon(session.closed()).await.to_string();
        assert!(closed.contains(what), "{closed:?} does not say {what:?}");
    }
    bystanders.are_unharmed().await;
}

/// Goal: a Hello that was made for another session does not verify on this one.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_hello_closes_the_session() {
    let mut bystanders = Bystanders::new().await;
    let hello = macula_wire::hello::Hello {
        node: id(),
        versions: vec![macula_wire::hello::VERSION],
        role: Role::Host,
        epoch: 1,
        features: Vec::new(),
    };
    let sealed = hello.seal(&key(ROGUE), macula_wire::hello::Side::Dialler, &[7; 32]);
    let session = session(&bystanders.relay, "/mesh/1").await.unwrap();
    let (mut send, _recv) = soon(session.open_bi()).await.unwrap();
    soon(send.write_all(&[&(sealed.len() as u32).to_le_bytes()[..], &sealed].concat())).await.unwrap();
    let closed = soon(session.closed()).await.to_string();
    assert!(closed.contains("does not verify on this session"), "{closed}");
    bystanders.are_unharmed().await;
}

/// Goal: who stalls is closed within the time that a handshake may take, and meanwhile holds up nobody.
/// Method: sessions that open no stream, half a Hello, and data streams before the Hello; all at once.
#[tokio::test(flavor = "multi_thread")]
async fn stalling_sessions_are_closed_and_hold_up_nobody() {
    let mut bystanders = Bystanders::new().await;
    let silent = session(&bystanders.relay, "/mesh/1").await.unwrap();
    let half = session(&bystanders.relay, "/mesh/1").await.unwrap();
    let (mut half_send, _half_recv) = soon(half.open_bi()).await.unwrap();
    soon(half_send.write_all(&[100, 0, 0, 0, 1, 2, 3])).await.unwrap();
    let early = session(&bystanders.relay, "/mesh/1").await.unwrap();
    let mut lanes = Vec::new();
    for lane in 0..6u8 {
        let mut stream = soon(early.open_uni()).await.unwrap();
        let mut out = BytesMut::from(&[lane][..]);
        put_message(1, 1, &mut out);
        soon(stream.write_all(&out)).await.unwrap();
        lanes.push(stream);
    }
    bystanders.are_unharmed().await;
    node(&bystanders.relay).await;
    for session in [silent, half, early] {
        soon(session.closed()).await;
    }
    bystanders.are_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_path_is_not_found() {
    let mut bystanders = Bystanders::new().await;
    let refused = session(&bystanders.relay, "/mesh/2").await;
    assert!(refused.is_err(), "{refused:?}");
    bystanders.are_unharmed().await;
}

/// Goal: each breach of the protocol on a lane closes the link with its own words.
#[tokio::test(flavor = "multi_thread")]
async fn breaches_on_lanes_close_the_link_with_their_reason() {
    type Write = Box<dyn Fn(&mut BytesMut) + Send>;
    let mut bystanders = Bystanders::new().await;
    let breaches: Vec<(&str, Lane, Write)> = vec![
        ("is truncated", Lane::Normal, Box::new(|out| out.extend_from_slice(&[2, 0, 0, 0, 1, 1]))),
        ("frame of kind 0 is truncated", Lane::Normal, Box::new(|out| out.extend_from_slice(&[0; 4]))),
        (
            "a frame of 4294967295 bytes, at most",
            Lane::High,
            Box::new(|out| out.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3])),
        ),
        (
            "bytes, at most",
            Lane::Bulk,
            Box::new(|out| out.extend_from_slice(&(FRAME_BYTES_MAX as u32 + 1).to_le_bytes())),
        ),
        ("channel 3 was not declared on this lane", Lane::Normal, Box::new(|out| put_message(3, 1, out))),
        (
            "it names another sender than this link's",
            Lane::Normal,
            Box::new(|out| {
                put_channel(1, &Channel { sender: key(1).verifying_key().into(), ..channel("a") }, out);
            }),
        ),
        (
            "the realm was not joined",
            Lane::Normal,
            Box::new(|out| {
                put_channel(1, &Channel { realm_slot: 9, ..channel("a") }, out);
            }),
        ),
        ("malformed channel declaration", Lane::Normal, Box::new(|out| frame::put_channel(1, &[0xff; 30], out))),
        (
            "a batch frame on lane Normal",
            Lane::Normal,
            Box::new(|out| {
                let mut message = BytesMut::new();
                put_message(1, 1, &mut message);
                frame::put_batch_header(1, 1, message.len(), out);
                out.extend_from_slice(&message);
            }),
        ),
        (
            "a receipt frame on lane High",
            Lane::High,
            Box::new(|out| frame::put_receipt(Lane::High, Default::default(), 1, out)),
        ),
        (
            "a message frame on lane Calls",
            Lane::Calls,
            Box::new(|out| {
                put_channel(1, &channel("a"), out);
                put_message(1, 1, out);
            }),
        ),
        (
            "auth 1 is not known here",
            Lane::Normal,
            Box::new(|out| {
                put_channel(1, &channel("a"), out);
                frame::put_message(Header { id: 1, channel: 1, auth: 1, ..Header::default() }, &[], b"x", out);
            }),
        ),
    ];
    for (index, (words, lane, write)) in breaches.into_iter().enumerate() {
        let rogue = Rogue::joined(&bystanders.relay).await;
        let _lane = rogue.sends(lane, |out| write(out)).await;
        let closed = rogue.is_closed().await;
        assert!(closed.contains(words), "{index}: {closed:?} does not say {words:?}");
    }
    bystanders.are_unharmed().await;
    stats_where(&bystanders.relay, |stats| stats.violations == 12 && stats.links == 2).await;
}

/// Goal: a lane that ends in the middle of a frame is a breach, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_ends_within_a_frame_closes_the_link() {
    let mut bystanders = Bystanders::new().await;
    let rogue = Rogue::joined(&bystanders.relay).await;
    let lane = rogue.sends(Lane::Normal, |out| out.extend_from_slice(&[100, 0, 0, 0, 1, 2, 3])).await;
    // The relay closes before it has everything acknowledged.
    let _ = soon(lane.finish()).await;
    let closed = rogue.is_closed().await;
    assert!(closed.contains("truncated"), "{closed}");
    bystanders.are_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_opened_twice_closes_the_link() {
    let mut bystanders = Bystanders::new().await;
    let rogue = Rogue::joined(&bystanders.relay).await;
    let _first = rogue.sends(Lane::Low, |_| {}).await;
    let _second = rogue.sends(Lane::Low, |_| {}).await;
    let closed = rogue.is_closed().await;
    assert!(closed.contains("lane Low was opened twice"), "{closed}");
    bystanders.are_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_control_messages_close_the_link() {
    let mut bystanders = Bystanders::new().await;
    for (message, words) in [
        (Control::Dropped(macula_wire::control::Dropped { subscription: 1, total: 1 }), "unexpected control message"),
        (Control::Unknown { kind: 2, id: None }, "malformed control message of kind 2"),
    ] {
        let mut rogue = Rogue::joined(&bystanders.relay).await;
        soon(rogue.control.0.send([message])).await.unwrap();
        let closed = rogue.is_closed().await;
        assert!(closed.contains(words), "{closed:?} does not say {words:?}");
    }
    bystanders.are_unharmed().await;
}

/// Goal: a member that opens every stream it may and stalls, subscribes to everything and reads nothing, costs the others
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_reads_nothing_holds_up_nobody() {
    let mut bystanders = Bystanders::new().await;
    let mut rogue = Rogue::joined(&bystanders.relay).await;
    let subscribe = Subscribe {
        id: 2,
        slot: 0,
        subscription: 1,
        pattern: "**".parse().unwrap(),
        when_full: WhenFull::Block,
        queue_messages: 100,
        credit: u64::MAX,
        retained: true,
        resumed: false,
    };
    assert_eq!(rogue.ask(Control::Subscribe(subscribe)).await, None);
    let mut lanes = Vec::new();
    for lane in Lane::ALL {
        // Half a frame each.
        lanes.push(rogue.sends(lane, |out| out.extend_from_slice(&[100, 0, 0, 0, 1])).await);
    }
    let big = vec![b'x'; 100_000];
    let plain = macula_node::Publish::default();
    for _ in 0..300 {
        soon(bystanders.publisher.publish_with(&topic("b"), &big, &plain)).await.unwrap();
        assert_eq!(crate::support::next(&mut bystanders.got).await.payload.len(), big.len());
    }
    bystanders.are_unharmed().await;
    stats_where(&bystanders.relay, |stats| stats.messages_dropped > 0 && stats.links == 3).await;
}

/// Goal: lanes of later versions are not read and do no harm.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_lanes_and_frames_are_ignored() {
    let mut bystanders = Bystanders::new().await;
    let rogue = Rogue::joined(&bystanders.relay).await;
    let session = session(&bystanders.relay, "/mesh/1").await.unwrap();
    let mut stream = soon(session.open_uni()).await.unwrap();
    soon(stream.write_all(&[99, 1, 2, 3])).await.unwrap();
    let _lane = rogue
        .sends(Lane::Normal, |out| {
            out.extend_from_slice(&[4, 0, 0, 0, 200, 0, 0, 0]);
            put_channel(1, &channel("c"), out);
            put_message(1, 1, out);
        })
        .await;
    assert_eq!(&*crate::support::next(&mut bystanders.got).await.topic, "c");
    bystanders.are_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stray_datagrams_are_ignored() {
    let mut bystanders = Bystanders::new().await;
    let session = session(&bystanders.relay, "/mesh/1").await.unwrap();
    soon(session.send_datagram_wait(Bytes::from_static(b"stray"))).await.unwrap();
    bystanders.are_unharmed().await;
}
