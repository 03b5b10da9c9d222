//! The relay core, fed with whatever three links might send: it never panics, holds its bounds, and when the links have
//! closed nothing is left.
//!
//! The input is a list of acts, each two bytes (what, and by which link on which lane) and a length-prefixed body.

#![no_main]

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use ed25519_dalek::SigningKey;
use libfuzzer_sys::fuzz_target;
use macula_relay::{LinkKey, Peer, Permissions, Relay, RelayConfig};
use macula_wire::{
    Channel, ChannelKind, ContentType, NodeId, PluginName, RealmId,
    control::Control,
    frame::{self, Frame, Header, Lane, Outgoing},
    hello::Role,
};

static IDS: LazyLock<Vec<NodeId>> =
    LazyLock::new(|| (1..=3).map(|seed| SigningKey::from_bytes(&[seed; 32]).verifying_key().into()).collect());

fn open(relay: &mut Relay, now: Instant, index: usize) -> LinkKey {
    let role = [Role::Host, Role::Client, Role::Relay][index];
    let key = relay.link_opened(Peer { node: IDS[index], epoch: 1, role });
    let realm = RealmId::from_bytes([9; 32]);
    relay.admit(now, key, 0, realm, Arc::new(Permissions::all())).expect("room for one realm");
    key
}

/// Well-formed frames from few bytes, which the fuzzer would need long to find.
fn shaped(index: usize, body: &[u8]) -> BytesMut {
    let at = |place: usize| body.get(place).copied().unwrap_or_default();
    let mut out = BytesMut::new();
    let (number, id) = (u64::from(at(1) % 4), u64::from(u16::from_le_bytes([at(2), at(3)])));
    let header = Header { flags: at(4), hops: at(5), time: id, id, channel: number, ..Header::default() };
    let payload = vec![0; usize::from(at(6)) * usize::from(at(7))];
    match at(0) % 8 {
        0 | 1 => frame::put_message(header, &[], &payload, &mut out),
        2 => frame::put_call(header, &[], &payload, &mut out),
        3 | 4 => {
            let channel = Channel {
                kind: if at(2) % 2 == 0 { ChannelKind::Topic } else { ChannelKind::Procedure },
                realm_slot: 0,
                name: ["a", "a.b", "c.d.e", "_s.x"][usize::from(at(3) % 4)].parse().unwrap(),
                sender: IDS[index],
                epoch: 1,
                plugin: PluginName::EMPTY,
                content_type: ContentType::EMPTY,
            };
            frame::put_channel(number, &channel.to_bytes(), &mut out);
        }
        5 => frame::put_sync(id, &mut out),
        6 => frame::put_credit(u32::from(at(1)), id, &mut out),
        _ => frame::put_reply(number << 32 | id, frame::Outcome::Answer(&payload), &mut out),
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let config = RelayConfig {
        subscriptions_per_link_max: 8,
        offers_per_link_max: 4,
        calls_per_link_max: 8,
        queued_bytes_per_link_max: 20_000,
        queued_bytes_per_realm_max: 30_000,
        queued_bytes_max: 40_000,
        call_bytes_per_link_max: 10_000,
        retained_topics_per_realm_max: 3,
        retained_bytes_per_realm_max: 10_000,
        publishers_remembered_max: 4,
        ..RelayConfig::default()
    };
    let mut relay = Relay::new(config);
    let mut links: [LinkKey; 3] = std::array::from_fn(|index| open(&mut relay, now, index));
    let mut rest = data;
    while let [what, whose, len, behind @ ..] = rest {
        let (body, next) = behind.split_at(usize::from(*len).min(behind.len()));
        rest = next;
        let index = usize::from(whose % 3);
        let lane = Lane::ALL[usize::from(whose / 3) % Lane::COUNT];
        let outcome = match what % 8 {
            0 => {
                let mut bytes = BytesMut::from(&(body.len() as u32).to_le_bytes()[..]);
                bytes.extend_from_slice(body);
                relay.handle_frame(now, links[index], lane, &bytes)
            }
            1..=4 => relay.handle_frame(now, links[index], lane, &shaped(index, body)),
            5 => match Control::decode(body) {
                Ok(Some((message, _))) => relay.handle_control(now, links[index], message),
                _ => Ok(()),
            },
            6 => {
                now += Duration::from_millis(u64::from(*len) * 20);
                relay.handle_timeout(now);
                Ok(())
            }
            // Rights come and go.
            7 if len % 4 > 0 => {
                let permissions = if len % 4 == 1 { Permissions::default() } else { Permissions::all() };
                relay.set_permissions(now, links[index], 0, Arc::new(permissions));
                if len % 8 < 4 {
                    relay.suspend(links[index], 0)
                } else {
                    relay.resume(links[index], 0)
                }
                Ok(())
            }
            _ => {
                drain(&mut relay, now);
                Ok(())
            }
        };
        if outcome.is_err() {
            relay.link_closed(now, links[index]);
            links[index] = open(&mut relay, now, index);
        }
        let stats = relay.stats();
        // The link's, realm's and total bounds together, and one run that is not handed out yet.
        assert!(stats.queued_bytes <= 2 * 40_000 + 100_000, "{stats:?}");
    }
    for link in links {
        relay.link_closed(now, link);
    }
    let stats = relay.stats();
    assert_eq!(
        (stats.links, stats.subscriptions, stats.offers, stats.queued_bytes, stats.calls_pending),
        (0, 0, 0, 0, 0)
    );
});

fn drain(relay: &mut Relay, now: Instant) {
    let mut out = Outgoing::default();
    relay.flush(now);
    while let Some(key) = relay.poll_ready() {
        while relay.poll_control(key).is_some() {}
        for lane in Lane::ALL {
            loop {
                relay.poll_transmit(now, key, lane, &mut out);
                if out.is_empty() {
                    break;
                }
                for bytes in frame::Frames::new(&out.take().concat()) {
                    Frame::parse(bytes.expect("whole frames")).expect("what a relay sends parses");
                }
            }
        }
    }
}
