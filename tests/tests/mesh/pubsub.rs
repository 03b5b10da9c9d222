//! Messages between nodes.

use macula_node::{Publish, Subscribe};
use macula_wire::{
    Delivery, Fault, Metadata, Priority, ReceiptLevel, WhenFull, frame::Extras, limits::PAYLOAD_BYTES_MAX,
};

use crate::support::{acked, next, node, payloads, relay, soon, topic};

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_both_ways_with_all_they_carry() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut from_two = soon(one.subscribe("to.one.*".parse().unwrap())).await.unwrap();
    let mut from_one = soon(two.subscribe("to.two.*".parse().unwrap())).await.unwrap();
    let metadata = Metadata::new(vec![("unit".into(), "celsius".into())]).unwrap();
    let options = Publish {
        priority: Priority::High,
        content_type: "application/json".parse().unwrap(),
        cause_depth: 3,
        extras: Extras { metadata: Some(metadata.clone().into()), ..Extras::default() },
        ..acked()
    };
    let plugin = one.for_plugin("sensor-alert".parse().unwrap());
    let receipt = soon(plugin.publish_with(&topic("to.two.x"), b"21", &options)).await.unwrap();
    assert_eq!(receipt.level, ReceiptLevel::RelayMemory);
    let message = next(&mut from_one).await;
    assert_eq!((&*message.topic, &message.payload[..], message.publisher), ("to.two.x", &b"21"[..], one.node()));
    assert_eq!((message.epoch, message.seq), (receipt.epoch, receipt.seq));
    assert_eq!((message.content_type.as_str(), message.plugin.as_str()), ("application/json", "sensor-alert"));
    assert_eq!((message.cause_depth, message.retained), (3, false));
    assert_eq!(message.metadata.as_deref(), Some(&metadata));
    assert!(message.timestamp_ms > 1_700_000_000_000);
    soon(two.publish(&topic("to.one.y"), b"back")).await.unwrap();
    assert_eq!(payloads(&mut from_two, 1).await, ["back"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_come_in_order_whatever_their_size() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut got = soon(two.subscribe("n".parse().unwrap())).await.unwrap();
    let name = topic("n");
    let publishing = async {
        let mut publisher = one.publisher(&name, &Default::default());
        for n in 0..5000u32 {
            // Small ones, and now and then one that spans many packets.
            let mut payload = n.to_string().into_bytes();
            payload.resize(if n % 500 == 0 { 100_000 } else { 10 }, b' ');
            publisher.publish(&payload).await.unwrap();
            if n % 1000 == 0 {
                // Keeps within the subscriber's queue.
                publisher.confirm().unwrap().wait().await.unwrap();
            }
        }
    };
    let reading = async {
        for n in 0..5000u32 {
            let message = next(&mut got).await;
            assert_eq!(String::from_utf8_lossy(&message.payload).trim_end(), n.to_string());
        }
    };
    soon(async { tokio::join!(publishing, reading) }).await;
    assert_eq!(got.stats().dropped, 0);
}

/// Goal: a payload of exactly 1 MiB goes through, one byte more is refused before it is sent, and nothing else suffers.
#[tokio::test(flavor = "multi_thread")]
async fn payloads_up_to_one_mebibyte() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut got = soon(two.subscribe("big".parse().unwrap())).await.unwrap();
    let big = vec![7u8; PAYLOAD_BYTES_MAX];
    soon(one.publish_with(&topic("big"), &big, &acked())).await.unwrap();
    assert_eq!(next(&mut got).await.payload, big);
    let too_big = vec![7u8; PAYLOAD_BYTES_MAX + 1];
    let refused = Err(Fault::TooLarge(PAYLOAD_BYTES_MAX as u32));
    assert_eq!(soon(one.publish_with(&topic("big"), &too_big, &acked())).await, refused);
    assert_eq!(soon(one.publish(&topic("big"), &too_big)).await, refused);
    assert_eq!(one.try_publish(&topic("big"), &too_big, &Publish::default()), Some(refused.clone()));
    let mut publisher = one.publisher(&topic("big"), &Default::default());
    assert_eq!(soon(publisher.publish(&too_big)).await, refused);
    soon(one.publish(&topic("big"), b"after")).await.unwrap();
    assert_eq!(payloads(&mut got, 1).await, ["after"]);
}

/// Goal: who does not read slows nobody, loses only its own oldest, and is told how many.
/// Method: one subscriber with a short queue reads nothing until everything is published; the other reads all.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_slows_nobody() {
    let relay = relay();
    let (publisher, slow, quick) = (node(&relay).await, node(&relay).await, node(&relay).await);
    let short = Subscribe { queue_messages: 10, ..Subscribe::default() };
    let mut stalled = soon(slow.subscribe_with("n".parse().unwrap(), short)).await.unwrap();
    let mut got = soon(quick.subscribe("n".parse().unwrap())).await.unwrap();
    for n in 0..1000 {
        soon(publisher.publish_with(&topic("n"), n.to_string().as_bytes(), &acked())).await.unwrap();
    }
    let all: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&mut got, 1000).await, all);
    // 10 on the way and 10 at the relay; the rest was dropped, oldest first.
    let seen = payloads(&mut stalled, 20).await;
    assert_eq!(seen, [&all[..10], &all[990..]].concat());
    soon(async {
        while stalled.stats().dropped < 980 || publisher.undelivered() < 980 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((stalled.stats().dropped, publisher.undelivered()), (980, 980));
}

/// Goal: a `block` subscription loses nothing of a publisher that waits for its receipts.
#[tokio::test(flavor = "multi_thread")]
async fn block_makes_acked_publishers_wait_rather_than_lose() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let options = Subscribe { queue_messages: 8, when_full: WhenFull::Block, ..Subscribe::default() };
    let mut got = soon(two.subscribe_with("n".parse().unwrap(), options)).await.unwrap();
    let publishing = async {
        for n in 0..300 {
            one.publish_with(&topic("n"), n.to_string().as_bytes(), &acked()).await.unwrap();
        }
    };
    let reading = async {
        let mut seen = Vec::new();
        for _ in 0..300 {
            seen.push(next(&mut got).await.payload);
            tokio::task::yield_now().await;
        }
        seen
    };
    let ((), seen) = soon(async { tokio::join!(publishing, reading) }).await;
    assert!(seen.iter().enumerate().all(|(n, payload)| payload == n.to_string().as_bytes()));
    assert_eq!(got.stats().dropped, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_latest_value_always_comes() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut got = soon(two.subscribe("position.*".parse().unwrap())).await.unwrap();
    let latest = Publish { delivery: Delivery::Latest, ..Publish::default() };
    for n in 0..2000 {
        soon(one.publish_with(&topic("position.a"), n.to_string().as_bytes(), &latest)).await.unwrap();
    }
    let mut before = None;
    loop {
        let n: u32 = String::from_utf8_lossy(&next(&mut got).await.payload).parse().unwrap();
        assert!(before < Some(n), "never back in time");
        before = Some(n);
        if n == 1999 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn last_values_are_kept_and_given_out() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let retain = Publish { retain: true, ..acked() };
    soon(one.publish_with(&topic("s.a"), b"kept", &retain)).await.unwrap();
    let stored = soon(two.retained(&topic("s.a"))).await.unwrap().unwrap();
    assert_eq!((&stored.payload[..], stored.retained, stored.publisher), (&b"kept"[..], true, one.node()));
    assert_eq!(soon(two.retained(&topic("s.b"))).await, Ok(None));
    let mut got = soon(two.subscribe("s.*".parse().unwrap())).await.unwrap();
    assert!(next(&mut got).await.retained);
    soon(one.publish_with(&topic("s.a"), b"", &retain)).await.unwrap();
    assert!(next(&mut got).await.payload.is_empty(), "forgetting is a message, too");
    assert_eq!(soon(two.retained(&topic("s.a"))).await, Ok(None));
}

/// Goal: a subscription of one's own gets one's own messages once, and dropping it ends it without harm to others.
#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_of_one_node_are_independent() {
    let relay = relay();
    let mesh = node(&relay).await;
    let mut first = soon(mesh.subscribe("a".parse().unwrap())).await.unwrap();
    let second = soon(mesh.subscribe("a".parse().unwrap())).await.unwrap();
    let mut third = soon(mesh.subscribe("*".parse().unwrap())).await.unwrap();
    soon(mesh.publish(&topic("a"), b"1")).await.unwrap();
    assert_eq!(payloads(&mut first, 1).await, ["1"]);
    drop(second);
    soon(mesh.publish(&topic("a"), b"2")).await.unwrap();
    assert_eq!(payloads(&mut first, 1).await, ["2"]);
    assert_eq!(payloads(&mut third, 2).await, ["1", "2"]);
    crate::support::stats_where(&relay, |stats| stats.subscriptions == 2).await;
}

/// Goal: `close` sends what waits, and readers see the end after the last message.
#[tokio::test(flavor = "multi_thread")]
async fn closing_sends_what_waits_and_ends_subscriptions() {
    let relay = relay();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut got = soon(two.subscribe("n".parse().unwrap())).await.unwrap();
    for n in 0..1000 {
        soon(one.publish(&topic("n"), n.to_string().as_bytes())).await.unwrap();
    }
    soon(one.close()).await;
    assert_eq!(payloads(&mut got, 1000).await.last().unwrap(), "999");
    assert!(matches!(soon(one.publish(&topic("n"), b"late")).await, Err(Fault::Unavailable(_))));
    soon(two.close()).await;
    assert!(soon(got.next()).await.is_none());
    crate::support::stats_where(&relay, |stats| stats.links == 0 && stats.subscriptions == 0).await;
}
