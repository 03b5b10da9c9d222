//! What no honest peer does: the link is to be closed, with a text that says why; other links go on.

use macula_wire::{
    ChannelKind, PluginName,
    control::{Beat, Control, Done, Dropped, Undelivered},
    frame::{self, Frame, FrameError, Header, Lane, Outcome},
    hello::Role,
    limits::{CAUSE_DEPTH_MAX, CHANNELS_PER_LINK_MAX},
};

use super::harness::{Name, Sim, id_of, wanted};
use crate::Violation;

/// A violation by its text.
#[track_caller]
fn refused(outcome: Result<(), Violation>, text: &str) {
    let violation = outcome.expect_err("a violation").to_string();
    assert!(violation.contains(text), "{violation:?} does not say {text:?}");
}

fn message(sim: &mut Sim, name: Name, lane: Lane, header: Header) -> Result<(), Violation> {
    sim.put(name, lane, |out| frame::put_message(header, &[], b"x", out))
}

#[test]
fn frames_on_the_wrong_lane() {
    let mut sim = Sim::new();
    let name = sim.host(1);
    let topic = sim.number(name, Lane::Normal, ChannelKind::Topic, "a", 0);
    let on_calls = sim.number(name, Lane::Calls, ChannelKind::Topic, "a", 0);
    let procedure = sim.number(name, Lane::Calls, ChannelKind::Procedure, "p", 0);
    let on_normal = sim.number(name, Lane::Normal, ChannelKind::Procedure, "p", 0);
    let header = |channel| Header { id: 1, channel, ..Header::default() };
    refused(message(&mut sim, name, Lane::Calls, header(on_calls)), "a message frame on lane Calls");
    refused(message(&mut sim, name, Lane::Calls, header(procedure)), "a message frame on lane Calls");
    refused(message(&mut sim, name, Lane::Normal, header(on_normal)), "a message frame on lane Normal");
    let call =
        |sim: &mut Sim, lane, channel| sim.put(name, lane, |out| frame::put_call(header(channel), &[], b"", out));
    refused(call(&mut sim, Lane::Normal, topic), "a call frame on lane Normal");
    refused(call(&mut sim, Lane::Calls, on_calls), "a call to a topic frame on lane Calls");
    let batch = sim.put(name, Lane::Normal, |out| frame::put_batch_header(1, 0, 0, out));
    refused(batch, "a batch frame on lane Normal");
    let receipt = sim.put(name, Lane::Calls, |out| frame::put_receipt(Lane::High, Default::default(), 1, out));
    refused(receipt, "a receipt frame on lane Calls");
    let reply = sim.put(name, Lane::High, |out| frame::put_reply(1, Outcome::Answer(b""), out));
    refused(reply, "a reply frame on lane High");
}

#[test]
fn channels_that_were_not_declared_on_the_lane() {
    let mut sim = Sim::new();
    let name = sim.host(1);
    let declared = sim.number(name, Lane::Normal, ChannelKind::Topic, "a", 0);
    for (lane, channel) in [(Lane::High, declared), (Lane::Normal, 99), (Lane::Normal, u64::MAX)] {
        let header = Header { id: 1, channel, ..Header::default() };
        refused(message(&mut sim, name, lane, header), &format!("channel {channel} was not declared on this lane"));
    }
    sim.put(name, Lane::Normal, |out| frame::put_forget(declared, out)).unwrap();
    sim.put(name, Lane::Normal, |out| frame::put_forget(u64::MAX, out)).unwrap();
    let header = Header { id: 1, channel: declared, ..Header::default() };
    refused(message(&mut sim, name, Lane::Normal, header), "was not declared");
}

#[test]
fn channels_that_name_another_sender_or_realm_or_a_system_topic() {
    let mut sim = Sim::new();
    let (host, client) = (sim.host(1), sim.open(2, Role::Client, 1));
    sim.join(client, 0, 200, "local.dev").unwrap();
    let good = sim.channel_of(host, ChannelKind::Topic, "a", 0);
    let mut declare = |name, channel: &macula_wire::Channel| sim.declare(name, Lane::Normal, 1, channel);
    let other = macula_wire::Channel { sender: id_of(2), ..good.clone() };
    refused(declare(host, &other), "it names another sender than this link's");
    refused(declare(host, &macula_wire::Channel { epoch: 2, ..good.clone() }), "another sender");
    refused(declare(host, &macula_wire::Channel { realm_slot: 5, ..good.clone() }), "the realm was not joined");
    let system = macula_wire::Channel { name: "_mesh.status".parse().unwrap(), ..good.clone() };
    assert_eq!(declare(host, &system), Ok(()));
    let plugin: PluginName = "sensor-alert".parse().unwrap();
    assert_eq!(
        declare(host, &macula_wire::Channel { plugin, ..system.clone() }),
        Ok(()),
        "a host answers for its plugins"
    );
    let by_client = macula_wire::Channel { sender: id_of(2), ..system };
    refused(declare(client, &by_client), "only nodes may publish to it");
    refused(sim.declare(host, Lane::Normal, CHANNELS_PER_LINK_MAX as u64, &good), "out of range");
    let garbage = sim.put(host, Lane::Normal, |out| frame::put_channel(1, b"\xff\xff", out));
    refused(garbage, "malformed channel declaration");
}

#[test]
fn numbers_that_are_in_use() {
    let mut sim = Sim::new();
    let name = sim.host(1);
    let subscription = sim.subscribe(name, wanted("a"));
    let again = Control::Subscribe(macula_wire::control::Subscribe { id: 9, subscription, ..wanted("b") });
    refused(sim.control(name, again), "subscription number 1 is in use");
    let offer = sim.advertise(name, "p", 10);
    let advertise = macula_wire::control::Advertise {
        id: 9,
        slot: 0,
        offer,
        procedure: "q".parse().unwrap(),
        in_flight_max: 1,
        metadata: Default::default(),
    };
    refused(sim.control(name, Control::Advertise(advertise)), "offer number 2 is in use");
    sim.feed_call(name, 7, "p", "");
    let channel = sim.number(name, Lane::Calls, ChannelKind::Procedure, "p", 0);
    let header = Header { id: 7, channel, ..Header::default() };
    refused(sim.put(name, Lane::Calls, |out| frame::put_call(header, &[], b"", out)), "call number 7 is in use");
}

#[test]
fn bytes_that_are_no_frame() {
    let mut sim = Sim::new();
    let name = sim.host(1);
    let channel = sim.number(name, Lane::Normal, ChannelKind::Topic, "a", 0);
    refused(sim.frame(name, Lane::Normal, &[0; 4]), "a frame of kind 0 is truncated");
    refused(sim.frame(name, Lane::Normal, &[4, 0, 0, 0, 1, 0, 0, 0]), "a frame of kind 1 is truncated");
    let signed = Header { id: 1, channel, auth: 1, ..Header::default() };
    refused(message(&mut sim, name, Lane::Normal, signed), "auth 1 is not known here");
    let deep = Header { id: 1, channel, cause_depth: CAUSE_DEPTH_MAX + 1, ..Header::default() };
    refused(message(&mut sim, name, Lane::Normal, deep), "cause depth 17");
    assert_eq!(sim.frame(name, Lane::Normal, &[4, 0, 0, 0, 200, 0, 0, 0]), Ok(()), "of a later version");
    assert_eq!(Frame::parse(&[]), Err(FrameError::Truncated { kind: 0 }));
}

#[test]
fn control_messages_that_only_a_relay_sends() {
    let mut sim = Sim::new();
    let name = sim.host(1);
    refused(sim.control(name, Control::Dropped(Dropped { subscription: 1, total: 1 })), "unexpected");
    refused(sim.control(name, Control::Undelivered(Undelivered { total: 1 })), "unexpected");
    assert_eq!(sim.control(name, Control::Done(Done::ok(1))), Ok(()), "harmless");
    assert_eq!(sim.control(name, Control::Pong(Beat { token: 1 })), Ok(()));
}

/// Goal: a peer that asks and does not read its answers is closed before it costs much.
#[test]
fn a_peer_that_reads_no_control_messages() {
    let mut sim = Sim::new();
    let (name, other) = (sim.host(1), sim.host(2));
    sim.stall_control(name);
    let flood = (0..100_000).try_for_each(|token| sim.control(name, Control::Ping(Beat { token })));
    refused(flood, "does not read its control messages");
    let number = sim.subscribe(other, wanted("a"));
    sim.publish(name, "a", "still works for others");
    assert_eq!(sim.got(other, number).len(), 1);
}

/// Goal: the same for those who ask on the data lanes: receipts, and calls that nobody takes.
#[test]
fn a_peer_that_reads_no_receipts_or_answers() {
    let limits = crate::RelayConfig { call_bytes_per_link_max: 10_000, ..Default::default() };
    for asks_by_call in [false, true] {
        let mut sim = Sim::with(limits.clone());
        let name = sim.host(1);
        sim.stall(name, &[Lane::Calls]);
        let channel = sim.number(name, Lane::Calls, ChannelKind::Procedure, "nobodys", 0);
        let flood = (0..100_000).try_for_each(|id| {
            if asks_by_call {
                let header = Header { id, channel, time: 1, ..Header::default() };
                sim.put(name, Lane::Calls, |out| frame::put_call(header, &[], b"", out))
            } else {
                sim.put(name, Lane::Normal, |out| frame::put_sync(id, out))
            }
        });
        refused(flood, "does not read its answers");
        sim.close(name);
        sim.assert_empty();
    }
}

/// Goal: receipts that are held back count as well.
#[test]
fn held_receipts_are_bounded() {
    let mut sim = Sim::with(crate::RelayConfig { call_bytes_per_link_max: 10_000, ..Default::default() });
    let (name, slow) = (sim.host(1), sim.host(2));
    let options = macula_wire::control::Subscribe {
        when_full: macula_wire::WhenFull::Block,
        queue_messages: 1,
        credit: 0,
        ..wanted("a")
    };
    sim.subscribe(slow, options);
    sim.publish(name, "a", "x");
    let flood = (0..100_000).try_for_each(|id| sim.put(name, Lane::Normal, |out| frame::put_sync(id, out)));
    refused(flood, "does not read its answers");
}
