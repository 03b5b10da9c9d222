//! Relays that die and come back: nothing that was promised is lost.
//!
//! A relay that is to be killed runs in a process of its own: this binary again, running [`relay_process`] only.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::Duration,
};

use macula_node::{CallOptions, ConfirmError, LinkState, Mesh, Outlook, Publish, RelayServer, RelayUrl};
use macula_wire::{CallError, Fault, ReceiptLevel};

use crate::support::{acked, config, down, key, node, payloads, relay, relay_at, soon, topic, up};

/// Where the process is told which port to take.
const PORT: &str = "MACULA_TEST_RELAY_PORT";
/// Seed of its key.
const SEED: u8 = 100;

/// A relay in a process of its own, killed when dropped.
struct RelayProcess {
    child: Child,
    port: u16,
}

impl RelayProcess {
    /// Port 0 picks one.
    fn start(port: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["recovery::relay_process", "--exact", "--ignored", "--nocapture"])
            .env(PORT, port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary runs");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| line.rsplit_once("listening on ")?.1.parse().ok());
        Self { child, port: port.expect("the relay says its port") }
    }

    fn url(&self) -> RelayUrl {
        RelayUrl::local(([127, 0, 0, 1], self.port).into(), key(SEED).verifying_key().into())
    }

    /// Kills it at once (SIGKILL on Unix): no goodbye, nothing flushed.
    fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.port
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        // Ended already, or no longer wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: what [`RelayProcess`] runs, until its parent closes the pipe.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn relay_process() {
    let Ok(port) = std::env::var(PORT) else { return };
    let relay = relay_at(SEED, port.parse().unwrap());
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", relay.address().port()).unwrap();
    out.flush().unwrap();
    std::io::stdin().lines().for_each(drop);
}

fn patient() -> CallOptions {
    CallOptions { timeout: Duration::from_secs(30), ..CallOptions::default() }
}

async fn node_at(url: RelayUrl) -> Mesh {
    soon(Mesh::connect(config(url))).await.expect("a link")
}

/// Goal: after a relay was killed and another started in its place, subscriptions and offers are in force as before,
/// without anybody having said so again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_loses_no_subscription_and_no_offer() {
    let relay = RelayProcess::start(0);
    let (one, two) = (node_at(relay.url()).await, node_at(relay.url()).await);
    let mut subscriptions = Vec::new();
    for n in 0..200 {
        subscriptions.push(soon(two.subscribe(format!("n-{n}").parse().unwrap())).await.unwrap());
    }
    let mut offer = soon(two.advertise(topic("p"))).await.unwrap();
    let port = relay.kill();
    let _relay = RelayProcess::start(port);
    up(&one, 1).await;
    up(&two, 1).await;
    // Whoever has a request of its own answered has said everything again before.
    soon(two.retained(&topic("a"))).await.unwrap();
    for (n, subscription) in subscriptions.iter_mut().enumerate() {
        soon(one.publish(&topic(&format!("n-{n}")), n.to_string().as_bytes())).await.unwrap();
        assert_eq!(payloads(subscription, 1).await, [n.to_string()]);
    }
    let serve = async { offer.next().await.unwrap().responder.answer(Ok("yes".into())) };
    let (name, options) = (topic("p"), patient());
    let ((), answer) = soon(async { tokio::join!(serve, one.call(&name, b"", &options)) }).await;
    assert_eq!(answer.unwrap(), "yes");
}

/// Goal: messages that were on their way when the relay was killed, and those published while there was none, are all
/// confirmed by the next relay and delivered, once and in order, to subscribers on the same and on other nodes,
/// whichever node finds the relay first.
#[tokio::test(flavor = "multi_thread")]
async fn acked_messages_survive_a_killed_relay() {
    let relay = RelayProcess::start(0);
    let (one, two) = (node_at(relay.url()).await, node_at(relay.url()).await);
    let mut own = soon(one.subscribe("n".parse().unwrap())).await.unwrap();
    let mut other = soon(two.subscribe("*".parse().unwrap())).await.unwrap();
    for n in 0..20 {
        soon(one.publish_with(&topic("n"), n.to_string().as_bytes(), &acked())).await.unwrap();
    }
    let before: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&mut own, 20).await, before);
    assert_eq!(payloads(&mut other, 20).await, before);
    let port = relay.kill();
    let publishing = (20..220).map(|n| {
        let one = one.clone();
        async move { one.publish_with(&topic("n"), n.to_string().as_bytes(), &acked()).await }
    });
    // All are queued, in order, before any is confirmed: there is nobody to do so.
    let publishing = tokio::spawn(futures::future::join_all(publishing));
    let _relay = RelayProcess::start(port);
    for receipt in soon(publishing).await.unwrap() {
        assert_eq!(receipt.unwrap().level, ReceiptLevel::RelayMemory);
    }
    let after: Vec<String> = (20..220).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&mut own, 200).await, after);
    assert_eq!(payloads(&mut other, 200).await, after);
}

/// Goal: however many subscribers are idle when a relay is killed and started again, each gets every message that was
/// receipted before it was back.
/// Method: messages are published with a receipt as soon as the relay is there again; the subscribers only ever ping.
#[tokio::test(flavor = "multi_thread")]
async fn idle_subscribers_miss_nothing_of_a_restarted_relay() {
    const SUBSCRIBERS: usize = 200;
    let relay = RelayProcess::start(0);
    let publisher = node_at(relay.url()).await;
    let mut subscribers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mesh = node_at(relay.url()).await;
        subscribers.push((soon(mesh.subscribe("n".parse().unwrap())).await.unwrap(), mesh));
    }
    let port = relay.kill();
    let first = {
        let publisher = publisher.clone();
        tokio::spawn(async move { publisher.publish_with(&topic("n"), b"0", &acked()).await })
    };
    let _relay = RelayProcess::start(port);
    soon(first).await.unwrap().unwrap();
    for n in 1..3 {
        soon(publisher.publish_with(&topic("n"), n.to_string().as_bytes(), &acked())).await.unwrap();
    }
    for (got, _) in &mut subscribers {
        assert_eq!(payloads(got, 3).await, ["0", "1", "2"]);
    }
}

/// Goal: a relay that is stopped in order delivers everything that it has confirmed, and what was on its way as well.
/// Method: it is stopped amid a stream of messages, each awaiting its receipt or all at full speed; another takes its
/// place; every message comes, in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_relay_delivers_what_it_has_taken() {
    for (options, count) in [(acked(), 2000), (Publish::default(), 10_000)] {
        let relay = relay();
        let port = relay.address().port();
        let (one, two) = (node(&relay).await, node(&relay).await);
        let mut got = soon(two.subscribe("n".parse().unwrap())).await.unwrap();
        let publisher = one.clone();
        let publishing = tokio::spawn(async move {
            for n in 0..count {
                publisher.publish_with(&topic("n"), n.to_string().as_bytes(), &options).await.unwrap();
            }
        });
        // Stops in the middle of it.
        assert_eq!(payloads(&mut got, 100).await.last().unwrap(), "99");
        soon(relay.stop()).await;
        let _relay = relay_at(100, port);
        soon(publishing).await.unwrap();
        for n in 100..count {
            assert_eq!(payloads(&mut got, 1).await, [n.to_string()]);
        }
        assert_eq!(soon(one.flush()).await, Ok(()), "the relay has said what it took before it left");
    }
}

/// Goal: nobody is told that messages arrived which no relay has confirmed: what was sent on a link that was lost is
/// counted, by every kind of confirmation, and only once.
/// Method: some messages are confirmed, some are sent to a relay that was killed, and some to the next.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_relay_may_have_taken_along_is_told() {
    let relay = RelayProcess::start(0);
    let one = node_at(relay.url()).await;
    let mut publisher = one.publisher(&topic("n"), &"".parse().unwrap());
    let mut publish = async |count| {
        for n in 0..count {
            soon(publisher.publish(format!("{n}").as_bytes())).await.unwrap();
        }
        publisher.confirm().unwrap()
    };
    assert_eq!(soon(publish(20).await.wait()).await, Ok(()));
    let port = relay.kill();
    for n in 0..30 {
        soon(one.publish(&topic("n"), format!("{n}").as_bytes())).await.unwrap();
    }
    while one.waiting_bytes() > 0 {
        // Written by another task, without an event.
        tokio::task::yield_now().await;
    }
    let kept = publish(0).await;
    let _relay = RelayProcess::start(port);
    up(&one, 1).await;
    let later = publish(10).await;
    assert_eq!(soon(kept.wait()).await, Err(ConfirmError::Unknown { messages: 30 }));
    assert_eq!(soon(later.wait()).await, Ok(()), "told once");
    assert_eq!(soon(one.flush()).await, Err(ConfirmError::Unknown { messages: 30 }));
    assert_eq!(soon(one.flush()).await, Ok(()), "told once");
    soon(one.publish_with(&topic("n"), b"acked", &acked())).await.expect("it speaks of itself");
}

/// Goal: what is published while there is no relay waits for one; `ordered` too, as long as there is room.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_without_a_relay_waits_for_one() {
    let relay = relay();
    let port = relay.address().port();
    let mesh = node(&relay).await;
    let mut got = soon(mesh.subscribe("n".parse().unwrap())).await.unwrap();
    soon(relay.stop()).await;
    down(&mesh).await;
    for n in 0..100 {
        soon(mesh.publish(&topic("n"), n.to_string().as_bytes())).await.unwrap();
    }
    assert!(mesh.waiting_bytes() > 0);
    assert!(matches!(soon(mesh.retained(&topic("a"))).await, Err(Fault::Unavailable(_))));
    let _relay = relay_at(100, port);
    let all: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&mut got, 100).await, all);
}

/// Goal: a call whose link was lost may have run; one made without a link waits for the next.
#[tokio::test(flavor = "multi_thread")]
async fn calls_over_a_lost_link() {
    let relay = relay();
    let port = relay.address().port();
    let (one, two) = (node(&relay).await, node(&relay).await);
    let mut offer = soon(two.advertise(topic("p"))).await.unwrap();
    let caller = one.clone();
    let calling = tokio::spawn(async move { caller.call(&topic("p"), b"", &patient()).await });
    let mut taken = soon(offer.next()).await.unwrap();
    soon(relay.stop()).await;
    let outcome = soon(calling).await.unwrap();
    assert!(matches!(outcome, Err(CallError::MaybeRun(Fault::Unavailable(_)))), "{outcome:?}");
    soon(taken.responder.cancelled()).await;
    down(&one).await;
    let caller = one.clone();
    let calling = tokio::spawn(async move {
        loop {
            match caller.call(&topic("p"), b"again", &patient()).await {
                // The caller's link may be back before the provider's.
                Err(CallError::NotRun(Fault::NotFound(_))) => {}
                outcome => return outcome,
            }
        }
    });
    let _relay = relay_at(100, port);
    let call = soon(offer.next()).await.unwrap();
    assert_eq!(&call.request.payload[..], b"again");
    call.responder.answer(Ok("done".into()));
    assert_eq!(soon(calling).await.unwrap().unwrap(), "done");
}

/// Goal: another relay in place of a pinned one is refused, said so, and tried again until the right one is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_key_in_its_place_is_refused() {
    let relay = relay();
    let port = relay.address().port();
    let mesh = node(&relay).await;
    let mut got = soon(mesh.subscribe("n".parse().unwrap())).await.unwrap();
    soon(relay.stop()).await;
    let impostor = relay_at(101, port);
    let mut state = mesh.link();
    soon(state.wait_for(
        |state| matches!(state, LinkState::Down { outlook: Outlook::Refused, reason } if reason.contains("expected")),
    ))
    .await
    .unwrap();
    soon(impostor.stop()).await;
    let _relay = relay_at(100, port);
    assert_eq!(up(&mesh, 1).await.generation, 2);
    soon(mesh.publish(&topic("n"), b"back")).await.unwrap();
    assert_eq!(payloads(&mut got, 1).await, ["back"]);
}

/// Goal: with two relays known, the loss of one moves everything to the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_relay_takes_over() {
    let (first, second): (RelayServer, RelayServer) = (relay_at(100, 0), relay_at(101, 0));
    let mut with_both = config(first.url());
    with_both.relays.push(second.url());
    let mesh = soon(Mesh::connect(with_both)).await.unwrap();
    let mut got = soon(mesh.subscribe("n".parse().unwrap())).await.unwrap();
    assert_eq!(up(&mesh, 0).await.relay, first.node());
    soon(first.stop()).await;
    assert_eq!(up(&mesh, 1).await.relay, second.node());
    soon(mesh.publish_with(&topic("n"), b"over here", &acked())).await.unwrap();
    assert_eq!(payloads(&mut got, 1).await, ["over here"]);
}

/// Goal: a relay that does not answer hides no other: the handle links to the second long before the first is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_does_not_answer_hides_no_other() {
    // A bound port that says nothing.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let relay = relay_at(100, 0);
    let mut with_both = config(relay.url());
    let port = silent.local_addr().unwrap().port();
    with_both.relays.insert(0, format!("quic://127.0.0.1:{port}#{}", relay.node()).parse().unwrap());
    // A dial takes ten seconds before it is given up.
    with_both.timeout = Duration::from_secs(8);
    let mesh = soon(Mesh::connect(with_both)).await.unwrap();
    assert_eq!(up(&mesh, 0).await.relay, relay.node());
}
