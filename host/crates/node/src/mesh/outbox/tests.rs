use macula_wire::{
    Channel, ChannelKind, ContentType, Operation, PluginName, frame::Frames, limits::CHANNELS_PER_LINK_MAX,
};

use super::*;

fn outbox() -> Outbox {
    let sender = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().into();
    Outbox::new(sender, 7, 10_000, Arc::new(Permissions::all()))
}

fn topic(text: &str) -> ChannelName {
    ChannelName {
        kind: ChannelKind::Topic,
        name: text.parse().unwrap(),
        plugin: PluginName::EMPTY,
        content_type: ContentType::EMPTY,
    }
}

const PLAIN: Envelope<'static> =
    Envelope { delivery: Delivery::Ordered, priority: Priority::Normal, retain: false, cause_depth: 0, extras: &[] };

/// What a relay would see of one link and lane: for each message its topic as declared there, and its payload.
struct Peer<'a> {
    outbox: &'a Outbox,
    link: u64,
    channels: FxHashMap<(Lane, u64), String>,
}

impl<'a> Peer<'a> {
    fn link_up(outbox: &'a Outbox) -> Self {
        Self { outbox, link: outbox.link_up(), channels: FxHashMap::default() }
    }

    fn sees(&mut self, lane: Lane) -> Vec<String> {
        let mut pieces = Vec::new();
        self.outbox.take(self.link, lane, &mut pieces);
        let whole = pieces.concat();
        let mut seen = Vec::new();
        for bytes in Frames::new(&whole) {
            match Frame::parse(bytes.unwrap()).unwrap() {
                Frame::Channel { number, body } => {
                    let name = Channel::from_bytes(body).unwrap().name.to_string();
                    self.channels.insert((lane, number), name);
                }
                Frame::Message { header, payload, .. } | Frame::Call { header, payload, .. } => {
                    let name = &self.channels[&(lane, header.channel)];
                    seen.push(format!("{name} {}", String::from_utf8_lossy(payload)));
                }
                Frame::Sync { token } => seen.push(format!("sync {token}")),
                other => seen.push(format!("{other:?}")),
            }
        }
        seen
    }
}

#[test]
fn what_waits_survives_a_link_and_what_was_sent_does_not_come_twice() {
    let outbox = outbox();
    let a = outbox.channel(&topic("a"));
    let b = outbox.channel(&topic("b"));
    let mut first = Peer::link_up(&outbox);
    assert_eq!(outbox.publish(a, PLAIN, b"1"), Ok(1));
    assert_eq!(first.sees(Lane::Normal), ["a 1"]);
    assert_eq!(outbox.publish(a, PLAIN, b"2"), Ok(2));
    assert_eq!(outbox.publish(b, PLAIN, b"3"), Ok(3));
    outbox.link_down();
    let mut second = Peer::link_up(&outbox);
    assert!(first.sees(Lane::Normal).is_empty(), "the old link's writer takes nothing");
    assert_eq!(second.sees(Lane::Normal), ["a 2", "b 3"]);
}

#[test]
fn unconfirmed_messages_are_sent_again_on_a_new_link() {
    let outbox = outbox();
    let a = outbox.channel(&topic("a"));
    let mut first = Peer::link_up(&outbox);
    outbox.publish(a, PLAIN, b"1").unwrap();
    let one = outbox.sync(Lane::Normal).unwrap();
    assert_eq!(first.sees(Lane::Normal), ["a 1", "sync 1"]);
    outbox.publish(a, PLAIN, b"2").unwrap();
    outbox.sync(Lane::Normal).unwrap();
    assert_eq!(first.sees(Lane::Normal), ["a 2", "sync 2"]);
    outbox.confirmed(Lane::Normal, one.token);
    outbox.publish(a, PLAIN, b"3").unwrap();
    outbox.link_down();
    let mut second = Peer::link_up(&outbox);
    assert_eq!(second.sees(Lane::Normal), ["a 2", "sync 2", "a 3"]);
    outbox.link_down();
    let mut third = Peer::link_up(&outbox);
    assert_eq!(third.sees(Lane::Normal), ["a 2", "sync 2", "a 3"], "still not confirmed");
}

#[test]
fn answers_and_credit_die_with_their_link_but_unsent_calls_live() {
    let outbox = outbox();
    let procedure = outbox.channel(&ChannelName { kind: ChannelKind::Procedure, ..topic("math.add") });
    let mut first = Peer::link_up(&outbox);
    outbox.call(procedure, 1, Duration::from_secs(1), 0, &[], b"sent").unwrap();
    assert_eq!(first.sees(Lane::Calls), ["math.add sent"]);
    outbox.call(procedure, 2, Duration::from_secs(1), 0, &[], b"waits").unwrap();
    outbox.reply(first.link, 9, &Ok(Bytes::from_static(b"answer")));
    outbox.credit(first.link, 1, 100);
    assert_eq!(outbox.link_down(), [2]);
    outbox.reply(first.link, 10, &Ok(Bytes::new()));
    let mut second = Peer::link_up(&outbox);
    assert_eq!(second.sees(Lane::Calls), ["math.add waits"]);
}

#[test]
fn latest_keeps_the_newest_of_each_topic() {
    let outbox = outbox();
    let (a, b) = (outbox.channel(&topic("a")), outbox.channel(&topic("b")));
    let mut link = Peer::link_up(&outbox);
    let latest = Envelope { delivery: Delivery::Latest, ..PLAIN };
    for (channel, payload) in [(a, b"1"), (b, b"2"), (a, b"3")] {
        outbox.publish(channel, latest, payload).unwrap();
    }
    assert_eq!(link.sees(Lane::Latest), ["a 3", "b 2"]);
}

#[test]
fn a_full_buffer_takes_nothing_until_it_is_taken() {
    let outbox = outbox();
    let a = outbox.channel(&topic("a"));
    let mut link = Peer::link_up(&outbox);
    while outbox.publish(a, PLAIN, &[0; 1000]).is_ok() {}
    assert_eq!(outbox.publish(a, PLAIN, b""), Err(NoRoom::Full));
    assert!(!link.sees(Lane::Normal).is_empty());
    assert!(outbox.publish(a, PLAIN, b"").is_ok());
    outbox.close();
    assert_eq!(outbox.publish(a, PLAIN, b""), Err(NoRoom::Closed));
}

#[test]
fn channel_numbers_are_used_again_only_with_a_new_declaration() {
    let outbox = outbox();
    let mut link = Peer::link_up(&outbox);
    let first = outbox.channel(&topic("t-0"));
    outbox.publish(first, PLAIN, b"x").unwrap();
    for n in 1..=CHANNELS_PER_LINK_MAX {
        outbox.channel(&topic(&format!("t-{n}")));
    }
    assert_eq!(outbox.publish(first, PLAIN, b"x"), Err(NoRoom::Stale));
    let again = outbox.channel(&topic(&format!("t-{CHANNELS_PER_LINK_MAX}")));
    outbox.publish(again, PLAIN, b"y").unwrap();
    assert_eq!(link.sees(Lane::Normal), ["t-0 x".to_owned(), format!("t-{CHANNELS_PER_LINK_MAX} y")]);
}

/// Goal: what is sent again reaches its own topic, also when the channel's number stands for another one by now.
#[test]
fn what_is_sent_again_keeps_its_topic_when_numbers_are_used_again() {
    for confirmed_later in [false, true] {
        let outbox = Outbox::new(
            ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().into(),
            7,
            10_000_000,
            Arc::new(Permissions::all()),
        );
        let mut first = Peer::link_up(&outbox);
        let old = outbox.channel(&topic("old"));
        outbox.publish(old, PLAIN, b"1").unwrap();
        outbox.sync(Lane::Normal).unwrap();
        assert_eq!(first.sees(Lane::Normal), ["old 1", "sync 1"]);
        outbox.confirmed(Lane::Normal, 1);
        outbox.publish(old, PLAIN, b"2").unwrap();
        outbox.sync(Lane::Normal).unwrap();
        assert_eq!(first.sees(Lane::Normal), ["old 2", "sync 2"]);
        for n in 0..CHANNELS_PER_LINK_MAX {
            outbox.channel(&topic(&format!("t-{n}")));
        }
        let new = outbox.channel(&topic(&format!("t-{}", CHANNELS_PER_LINK_MAX - 1)));
        assert_eq!(new.number, old.number);
        outbox.publish(new, PLAIN, b"3").unwrap();
        if confirmed_later {
            outbox.sync(Lane::Normal).unwrap();
        }
        first.sees(Lane::Normal);
        outbox.link_down();
        let mut second = Peer::link_up(&outbox);
        outbox.publish(new, PLAIN, b"4").unwrap();
        let name = format!("t-{}", CHANNELS_PER_LINK_MAX - 1);
        let mut expected = vec!["old 2".to_owned(), "sync 2".to_owned()];
        if confirmed_later {
            expected.extend([format!("{name} 3"), "sync 3".to_owned()]);
        }
        expected.push(format!("{name} 4"));
        assert_eq!(second.sees(Lane::Normal), expected);
        outbox.link_down();
        let mut third = Peer::link_up(&outbox);
        assert_eq!(third.sees(Lane::Normal), expected, "again the same: nothing was confirmed");
        outbox.confirmed(Lane::Normal, 3);
        outbox.link_down();
        let mut fourth = Peer::link_up(&outbox);
        outbox.publish(new, PLAIN, b"5").unwrap();
        assert_eq!(fourth.sees(Lane::Normal), [format!("{name} 5")]);
    }
}

/// Goal: what this node has no right to is not queued, from the moment on at which the right is gone.
#[test]
fn what_is_not_allowed_is_not_queued() {
    let outbox = outbox();
    let mut peer = Peer::link_up(&outbox);
    let (a, b) = (outbox.channel(&topic("a")), outbox.channel(&topic("b")));
    assert_eq!(outbox.publish(a, PLAIN, b"1"), Ok(1));
    outbox.set_permissions(Arc::new(Permissions::on(&[Operation::Publish], &["b".parse().unwrap()])));
    assert_eq!(outbox.publish(a, PLAIN, b"2"), Err(NoRoom::Denied));
    assert_eq!(outbox.publish(outbox.channel(&topic("c")), PLAIN, b"3"), Err(NoRoom::Denied));
    assert_eq!(outbox.publish(b, PLAIN, b"4"), Ok(2), "and takes no number");
    let call = ChannelName { kind: ChannelKind::Procedure, ..topic("b") };
    let outcome = outbox.call(outbox.channel(&call), 1, Duration::from_secs(1), 0, &[], b"");
    assert_eq!(outcome, Err(NoRoom::Denied), "another operation");
    assert_eq!(topic("a").fault(NoRoom::Denied), Fault::Denied("/mesh/publish a".into()));
    assert_eq!(peer.sees(Lane::Normal), ["a 1", "b 4"]);
    outbox.set_permissions(Arc::new(Permissions::all()));
    assert_eq!(outbox.publish(a, PLAIN, b"5"), Ok(3));
}

/// Goal: what was sent on a lost link, is not sent again and was not confirmed is counted, and nothing else is.
/// Method: one message confirmed, one sent without a sync, one with a sync that is not answered, one behind that sync in the
/// same piece, one sent later, one that waits.
#[test]
fn what_a_lost_link_leaves_open_is_counted_by_number() {
    let outbox = outbox();
    let a = outbox.channel(&topic("a"));
    let mut first = Peer::link_up(&outbox);
    let publish = |text: &str| outbox.publish(a, PLAIN, text.as_bytes()).unwrap();
    assert_eq!(publish("1"), 1);
    first.sees(Lane::Normal);
    let confirmed = outbox.sync(Lane::Normal).unwrap();
    assert_eq!((confirmed.token, confirmed.after), (1, 1));
    first.sees(Lane::Normal);
    outbox.confirmed(Lane::Normal, confirmed.token);
    publish("2");
    first.sees(Lane::Normal);
    publish("3");
    let unanswered = outbox.sync(Lane::Normal).unwrap();
    publish("4");
    first.sees(Lane::Normal);
    publish("5");
    first.sees(Lane::Normal);
    publish("6");
    assert_eq!(outbox.unknown(Lane::Normal, 0, 6), 0, "the link is there");
    outbox.link_down();
    assert_eq!(outbox.unknown(Lane::Normal, 0, 1), 0, "confirmed");
    assert_eq!(outbox.unknown(Lane::Normal, 1, unanswered.after), 1, "2");
    assert_eq!(outbox.unknown(Lane::Normal, 3, 6), 1, "5; the others are sent again or wait");
    assert_eq!(outbox.unknown(Lane::High, 0, 6), 0, "lanes are apart");
    let mut second = Peer::link_up(&outbox);
    assert_eq!(second.sees(Lane::Normal), ["a 3", "sync 2", "a 4", "a 6"]);
    outbox.confirmed(Lane::Normal, unanswered.token);
    assert_eq!(outbox.unknown(Lane::Normal, 0, 6), 2, "as before");
    outbox.link_down();
    assert_eq!(outbox.unknown(Lane::Normal, 3, 6), 3, "4 and 6 were sent behind the sync, and kept no longer");
}

/// Goal: a message and the sync that confirms it are sent in one piece, so that one cannot be kept without the other.
#[test]
fn an_acked_message_is_kept_with_its_sync() {
    let outbox = outbox();
    let a = outbox.channel(&topic("a"));
    let mut first = Peer::link_up(&outbox);
    let (seq, sync) = outbox.publish_synced(a, PLAIN, b"1").unwrap();
    assert_eq!((seq, sync.token, sync.after), (1, 1, 1));
    assert_eq!(first.sees(Lane::Normal), ["a 1", "sync 1"]);
    outbox.link_down();
    assert_eq!(outbox.unknown(Lane::Normal, 0, 1), 0);
    assert_eq!(Peer::link_up(&outbox).sees(Lane::Normal), ["a 1", "sync 1"]);
}

/// Goal: a relay that leaves in order confirms what it was sent, and then nothing is unknown.
#[test]
fn a_relay_that_leaves_is_asked_for_its_last_word() {
    let outbox = outbox();
    let a = outbox.channel(&topic("a"));
    let mut first = Peer::link_up(&outbox);
    assert_eq!(outbox.last_sync(first.link, Lane::Normal), None, "nothing was sent");
    outbox.publish(a, PLAIN, b"1").unwrap();
    first.sees(Lane::Normal);
    outbox.publish(a, PLAIN, b"waits").unwrap();
    let sync = outbox.last_sync(first.link, Lane::Normal).expect("something was");
    assert!(matches!(Frame::parse(&sync), Ok(Frame::Sync { token: 1 })));
    assert_eq!(outbox.last_sync(first.link, Lane::Normal), None, "once");
    outbox.confirmed(Lane::Normal, 1);
    outbox.link_down();
    assert_eq!(outbox.unknown(Lane::Normal, 0, 9), 0);
    let mut second = Peer::link_up(&outbox);
    assert_eq!(second.sees(Lane::Normal), ["a waits"]);
    outbox.last_sync(second.link, Lane::Normal).unwrap();
    outbox.link_down();
    assert_eq!(outbox.unknown(Lane::Normal, 0, 9), 1, "it left without a word");
    assert_eq!(Peer::link_up(&outbox).sees(Lane::Normal), ["sync 2"]);
}

/// Goal: what is kept until it is confirmed counts against the bound, and a receipt makes room.
#[tokio::test]
async fn what_is_not_confirmed_is_bounded() {
    let outbox = outbox();
    let a = outbox.channel(&topic("a"));
    let mut first = Peer::link_up(&outbox);
    let payload = [0; 6000];
    outbox.publish_synced(a, PLAIN, &payload).unwrap();
    let (_, two) = outbox.publish_synced(a, PLAIN, &payload).unwrap();
    first.sees(Lane::Normal);
    assert_eq!(outbox.waiting_bytes(), 0);
    assert_eq!(outbox.publish(a, PLAIN, b"x"), Err(NoRoom::Full));
    assert!(outbox.sync(Lane::Normal).is_ok(), "asking is always possible");
    let room = outbox.room(Lane::Normal);
    tokio::pin!(room);
    assert!(futures::poll!(&mut room).is_pending());
    outbox.confirmed(Lane::Normal, two.token);
    room.await;
    assert!(outbox.publish(a, PLAIN, b"x").is_ok());
}

/// Goal: of `latest`, no topic's newest value is lost because too many topics wait.
#[test]
fn a_topic_too_many_waits_and_pushes_nothing_out() {
    let sender = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().into();
    let outbox = Outbox::new(sender, 7, usize::MAX, Arc::new(Permissions::all()));
    let latest = Envelope { delivery: Delivery::Latest, ..PLAIN };
    let mut taken = 0;
    let full = loop {
        let channel = outbox.channel(&topic(&format!("t{taken}")));
        match outbox.publish(channel, latest, b"x") {
            Ok(_) => taken += 1,
            Err(reason) => break reason,
        }
    };
    assert_eq!(full, NoRoom::Full);
    let known = outbox.channel(&topic("t0"));
    assert!(outbox.publish(known, latest, b"newer").is_ok(), "a topic that waits is replaced");
    let mut peer = Peer::link_up(&outbox);
    assert_eq!(peer.sees(Lane::Latest).len(), taken);
}
