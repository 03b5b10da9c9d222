//! Rights over real links: what a delegation lets a node do and nothing beside it, what ends when it does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use macula_auth::ucan::{Chain, Delegation, Ipld, Revocation};
use macula_node::{AuthLevel, ConnectError, Mesh, MeshConfig, RealmAccess, RelayServer, RevocationLog, Subscription};
use macula_transport::LocalNode;
use macula_wire::{CallError, Fault, Operation, Topic, hello::Role};
use parking_lot::Mutex;

use crate::support::{
    acked, config, down, granted, key, next, node, payloads, realm, relay, relay_config, soon, topic, unix_now, up,
};

/// Seeds of the realm's root, an operator and the node that acts.
const ROOT: u8 = 200;
const OPERATOR: u8 = 30;
const NODE: u8 = 31;

/// Tokens that can be changed while a node uses them.
type Tokens = Arc<Mutex<Vec<Arc<Delegation>>>>;

fn tokens(chains: &[&Chain]) -> Tokens {
    Arc::new(Mutex::new(chains.iter().flat_map(|chain| chain.links().to_vec()).collect()))
}

/// A node whose key is known, which acts by these tokens.
fn by_tokens(relay: &RelayServer, tokens: &Tokens) -> MeshConfig {
    let mut config = config(relay.url());
    let tokens = Arc::clone(tokens);
    let source = Arc::new(move || tokens.lock().clone());
    config.realm = RealmAccess::by_tokens(realm().name().clone(), realm().root(), source, Vec::new());
    config.node = LocalNode { key: key(NODE), role: Role::Host, epoch: 1 };
    config
}

/// The realm's root lets an operator do everything with the names of a user, and that one lets a node.
fn chain_of_three() -> (Chain, Chain) {
    let owner = granted(&key(ROOT), None, 29, "/mesh", &["io.example.**"], None);
    let operator = granted(&key(29), Some(&owner), OPERATOR, "/mesh", &["io.example.user.**"], None);
    let node = granted(&key(OPERATOR), Some(&operator), NODE, "/mesh", &[], None);
    (operator, node)
}

fn is_denied(fault: &Fault) -> bool {
    matches!(fault, Fault::Denied(_))
}

/// Goal: a host with a delegated token for `io.example.user.**` can do exactly that and nothing beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_delegated_host_does_what_it_may_and_nothing_else() {
    let relay = relay();
    let friend = node(&relay).await;
    let (_, chain) = chain_of_three();
    let host = soon(Mesh::connect(by_tokens(&relay, &tokens(&[&chain])))).await.unwrap();

    let mut heard = soon(friend.subscribe("**".parse().unwrap())).await.unwrap();
    soon(host.publish_with(&topic("io.example.user.door"), b"open", &acked())).await.unwrap();
    assert_eq!(payloads(&mut heard, 1).await, ["open"]);
    let mut own = soon(host.subscribe("io.example.user.*".parse().unwrap())).await.unwrap();
    soon(friend.publish_with(&topic("io.example.user.door"), b"shut", &acked())).await.unwrap();
    assert_eq!(payloads(&mut own, 1).await, ["shut"]);
    let mut offer = soon(host.advertise(topic("io.example.user.ring"))).await.unwrap();
    let answering = tokio::spawn(async move {
        if let Some(call) = offer.next().await {
            call.responder.answer(Ok("rung".into()));
        }
    });
    let answer = soon(friend.call(&topic("io.example.user.ring"), b"", &Default::default())).await.unwrap();
    assert_eq!(&answer[..], b"rung");
    soon(answering).await.unwrap();

    for name in ["io.example.userevil.door", "io.example.user", "io.example.other", "_mesh.deadletters.x", "door"] {
        let name: Topic = topic(name);
        let published = soon(host.publish_with(&name, b"x", &acked())).await.unwrap_err();
        assert_eq!(published, Fault::Denied(format!("/mesh/publish {name}")));
        assert!(is_denied(&soon(host.subscribe(name.clone().into())).await.unwrap_err()), "{name}");
        assert!(is_denied(&soon(host.advertise(name.clone())).await.unwrap_err()), "{name}");
        assert!(is_denied(&soon(host.retained(&name)).await.unwrap_err()), "{name}");
        let called = soon(host.call(&name, b"", &Default::default())).await.unwrap_err();
        assert!(matches!(called, CallError::NotRun(Fault::Denied(_))), "{name}: {called}");
    }
    for pattern in ["**", "io.example.**", "*.example.user.door"] {
        assert!(is_denied(&soon(host.subscribe(pattern.parse().unwrap())).await.unwrap_err()), "{pattern}");
    }
    let denied = host.audit().counts().find(|(kind, _)| *kind == "denied").unwrap().1;
    assert!(denied > 10, "each is counted: {denied}");
}

/// Goal: revoking the middle of a chain takes the right from a connected node, at the relay and at the node; the node is told
/// and nothing else of it is harmed. It comes by the same control stream as everything else: no polling, no interval.
#[tokio::test(flavor = "multi_thread")]
async fn revoking_the_middle_of_a_chain_stops_a_connected_node() {
    let relay = relay();
    let owner = node(&relay).await;
    let (operator, chain) = chain_of_three();
    let second = granted(&key(ROOT), None, NODE, "/mesh", &["io.second.**"], None);
    let host = soon(Mesh::connect(by_tokens(&relay, &tokens(&[&chain, &second])))).await.unwrap();
    let mut lost = soon(host.subscribe("io.example.user.**".parse().unwrap())).await.unwrap();
    let mut kept = soon(host.subscribe("io.second.**".parse().unwrap())).await.unwrap();
    let mut offer = soon(host.advertise(topic("io.example.user.ring"))).await.unwrap();
    let mut permissions = host.permissions();
    permissions.borrow_and_update();

    let middle = *operator.links()[1].cid();
    soon(owner.revoke(&[Revocation::sign(&key(29), &middle)])).await.unwrap();
    // The relay has it in force by now.
    let called = soon(owner.call(&topic("io.example.user.ring"), b"", &Default::default())).await.unwrap_err();
    assert!(matches!(called, CallError::NotRun(Fault::NotFound(_))), "{called}");
    soon(permissions.changed()).await.unwrap();
    let refused = soon(host.publish(&topic("io.example.user.door"), b"x")).await.unwrap_err();
    assert!(is_denied(&refused), "{refused}");
    assert!(soon(lost.next()).await.is_none(), "the subscription has ended");
    assert!(soon(offer.next()).await.is_none(), "and the offer");
    soon(owner.publish_with(&topic("io.second.a"), b"still here", &acked())).await.unwrap();
    assert_eq!(&next(&mut kept).await.payload[..], b"still here");
    assert_eq!(up(&host, 0).await.generation, 1, "over the same link");
    let relays = relay.audit().counts().find(|(kind, _)| *kind == "revoked").unwrap().1;
    assert_eq!(relays, 1);
}

/// Goal: a revocation counts that comes before what it revokes, at a relay that was restarted meanwhile, and at a node that
/// was not there; it is never undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_kept_and_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("revocations");
    let start = || {
        let mut config = relay_config(100, 0);
        let (log, known) = RevocationLog::open(&path).unwrap();
        (config.revocation_log, config.revocations) = (Some(log), known);
        RelayServer::start(config).unwrap()
    };
    let (operator, chain) = chain_of_three();
    let first = start();
    let owner = node(&first).await;
    soon(owner.revoke(&[Revocation::sign(&key(ROOT), operator.links()[1].cid())])).await.unwrap();
    soon(owner.close()).await;
    soon(first.stop()).await;
    let second = start();
    // The log is written beside the relay's work; what the restarted one knows is what was on disk.
    match soon(Mesh::connect(by_tokens(&second, &tokens(&[&chain])))).await {
        Err(ConnectError::Denied(reason)) => assert!(reason.contains("Revoked"), "{reason}"),
        other => panic!("{other:?}"),
    }
    // A node that knows of it tells a relay that does not.
    let third = relay();
    let mut informed = config(third.url());
    informed.revocations = RevocationLog::read(&path).unwrap();
    let informed = soon(Mesh::connect(informed)).await.unwrap();
    // Answered after what was said before it.
    let _ = soon(informed.retained(&topic("a"))).await.unwrap();
    assert!(matches!(soon(Mesh::connect(by_tokens(&third, &tokens(&[&chain])))).await, Err(ConnectError::Denied(_))));
}

/// Goal: who may not revoke something changes nothing, and what is no revocation is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_revocation_has_no_effect() {
    let relay = relay();
    let owner = node(&relay).await;
    let (operator, chain) = chain_of_three();
    let host = soon(Mesh::connect(by_tokens(&relay, &tokens(&[&chain])))).await.unwrap();
    soon(owner.revoke(&[Revocation::sign(&key(99), operator.links()[1].cid())])).await.unwrap();
    soon(owner.revoke(&[Revocation::sign(&key(NODE), operator.links()[1].cid())])).await.unwrap();
    soon(host.publish_with(&topic("io.example.user.door"), b"x", &acked())).await.unwrap();
}

/// Goal: nothing of a realm reaches a relay that has not shown that it may serve it.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_without_the_right_is_told_nothing() {
    let mut serving = relay_config(100, 0);
    serving.realms.clear();
    let none = RelayServer::start(serving).unwrap();
    // One whose token is for another thing, and one whose token is another relay's.
    let mut refusals = vec![none];
    for (seed, command, to) in [(101, "/mesh/publish", 101), (102, "/mesh/relay", 103)] {
        let mut serving = relay_config(seed, 0);
        let token = tokens(&[&granted(&key(ROOT), None, to, command, &[], None)]);
        let source = Arc::new(move || token.lock().clone());
        serving.realms = vec![RealmAccess::by_tokens(realm().name().clone(), realm().root(), source, Vec::new())];
        refusals.push(RelayServer::start(serving).unwrap());
    }
    for relay in &refusals {
        let refused = soon(Mesh::connect(config(relay.url()))).await;
        assert!(matches!(&refused, Err(ConnectError::Denied(reason)) if reason.contains("local.dev")), "{refused:?}");
        assert_eq!(relay.stats().realms, 0);
    }
    let mut serving = relay_config(104, 0);
    let token = tokens(&[&granted(&key(ROOT), None, 104, "/mesh/relay", &[], None)]);
    let source = Arc::new(move || token.lock().clone());
    serving.realms = vec![RealmAccess::by_tokens(realm().name().clone(), realm().root(), source, Vec::new())];
    let delegated = RelayServer::start(serving).unwrap();
    node(&delegated).await;
}

/// Goal: a node by the root key goes on beyond the life of what it presents, without losing a message or its link.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_half_over_is_renewed() {
    let mut serving = relay_config(100, 0);
    let short = realm().lasting(Duration::from_secs(2));
    serving.realms = vec![short.clone()];
    let relay = RelayServer::start(serving).unwrap();
    let mut config = config(relay.url());
    config.realm = short;
    let mesh = soon(Mesh::connect(config)).await.unwrap();
    let mut heard = soon(mesh.subscribe("a".parse().unwrap())).await.unwrap();
    let deadline = mesh.permissions().borrow().deadline().unwrap();
    let mut permissions = mesh.permissions();
    // Until everything that held at first has expired.
    let renewed = |permissions: &Arc<macula_auth::Permissions>| permissions.deadline() > Some(deadline + 2);
    soon(permissions.wait_for(renewed)).await.unwrap();
    soon(mesh.publish_with(&topic("a"), b"x", &acked())).await.unwrap();
    assert_eq!(payloads(&mut heard, 1).await, ["x"]);
    assert_eq!(up(&mesh, 0).await.generation, 1);
}

/// A relay with little patience, and a node whose right has just expired there; what it had subscribed to.
async fn suspended() -> (RelayServer, Mesh, Tokens, Mesh, Subscription) {
    let mut serving = relay_config(100, 0);
    serving.rights.grace = 4;
    let relay = RelayServer::start(serving).unwrap();
    let friend = node(&relay).await;
    let short = granted(&key(ROOT), None, NODE, "/mesh", &["a.**"], Some(unix_now() + 4));
    let tokens = tokens(&[&short]);
    let host = soon(Mesh::connect(by_tokens(&relay, &tokens))).await.unwrap();
    let own = soon(host.subscribe("a.in".parse().unwrap())).await.unwrap();
    let is_suspended = || relay.audit().counts().any(|(kind, count)| kind == "suspended" && count > 0);
    soon(async {
        while !is_suspended() {
            // The audit is a counter; there is no event for it.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    soon(friend.publish_with(&topic("a.in"), b"held", &acked())).await.unwrap();
    (relay, host, tokens, friend, own)
}

/// Goal: a right that has expired suspends the link; renewed in time, what waited goes on, both ways, and nothing was lost.
#[tokio::test(flavor = "multi_thread")]
async fn renewed_in_time_nothing_is_lost() {
    let (_relay, host, tokens, friend, mut own) = suspended().await;
    let mut heard = soon(friend.subscribe("a.out".parse().unwrap())).await.unwrap();
    soon(host.publish(&topic("a.out"), b"held too")).await.unwrap();
    assert!(own.try_next().is_none());
    *tokens.lock() = granted(&key(ROOT), None, NODE, "/mesh", &["a.**"], None).links().to_vec();
    assert_eq!(payloads(&mut own, 1).await, ["held"]);
    assert_eq!(payloads(&mut heard, 1).await, ["held too"]);
    assert_eq!(up(&host, 0).await.generation, 1);
}

/// Goal: not renewed, the right drops, with what was held. What stands on it waits, and goes on when it is renewed: the
/// subscription under another number, of which the relay counts its credit anew.
#[tokio::test(flavor = "multi_thread")]
async fn not_renewed_the_right_drops() {
    let (relay, host, tokens, friend, mut own) = suspended().await;
    let lost = |relay: &RelayServer| relay.audit().counts().any(|(kind, count)| kind == "lost" && count == 1);
    soon(async {
        while !lost(&relay) || host.out_of_force().subscriptions != 1 {
            // The audit is a counter; there is no event for it.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    soon(friend.publish_with(&topic("a.in"), b"missed", &acked())).await.unwrap();
    *tokens.lock() = granted(&key(ROOT), None, NODE, "/mesh", &["a.**"], None).links().to_vec();
    soon(async {
        while host.out_of_force() != macula_node::OutOfForce::default() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Answered after what was asked for before it.
    soon(host.retained(&topic("a.in"))).await.unwrap();
    for number in 0..1000 {
        soon(friend.publish_with(&topic("a.in"), number.to_string().as_bytes(), &acked())).await.unwrap();
    }
    assert_eq!(payloads(&mut own, 3).await, ["0", "1", "2"], "neither what was held, nor what came meanwhile");
    assert_eq!(payloads(&mut own, 997).await.last().unwrap(), "999");
    assert_eq!(up(&host, 0).await.generation, 1, "over the same link");
}

/// Goal: an invocation counts once, for the node and the thing that it names, from the key that signed it.
#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_is_good_for_one_thing_once() {
    let relay = relay();
    let (desk, caller, other) = (node(&relay).await, node(&relay).await, node(&relay).await);
    let (status, stop) = (topic("_mesh.admin.x.status"), topic("_mesh.admin.x.stop"));
    let said = [("do".to_owned(), Ipld::String("list".into()))].into();
    let invocation = caller.invocation(Operation::Admin, &status, desk.node(), said).unwrap();
    let accept = |mesh: &Mesh, sender: &Mesh, topic: &Topic| {
        mesh.accept_invocation(&invocation, &sender.node(), Operation::Admin, topic)
    };
    let name = |outcome: Result<BTreeMap<String, Ipld>, Fault>| match outcome.unwrap_err() {
        Fault::Denied(text) => text.rsplit(' ').next().unwrap().to_owned(),
        other => panic!("{other}"),
    };
    assert_eq!(name(accept(&other, &caller, &status)), "InvalidAudience");
    assert_eq!(name(accept(&desk, &other, &status)), "InvalidSender", "from another link than its signer's");
    assert_eq!(name(accept(&desk, &caller, &stop)), "InvalidCommand");
    assert_eq!(name(desk.accept_invocation(b"", &caller.node(), Operation::Admin, &status)), "Malformed");
    let heard = accept(&desk, &caller, &status).unwrap();
    assert_eq!(heard["do"], Ipld::String("list".into()), "its arguments are signed with it");
    assert_eq!(name(accept(&desk, &caller, &status)), "Replayed");
    let (_, chain) = chain_of_three();
    let user = granted(&key(ROOT), None, NODE, "/mesh/call", &[], None);
    let host = soon(Mesh::connect(by_tokens(&relay, &tokens(&[&chain, &user])))).await.unwrap();
    let outside = host.invocation(Operation::Admin, &status, desk.node(), Default::default()).unwrap();
    let refused = desk.accept_invocation(&outside, &host.node(), Operation::Admin, &status);
    assert_eq!(name(refused), "MatchError", "a right to other names");
    let admin = granted(&key(ROOT), None, NODE, "/mesh/admin", &[], None);
    for proofs in [[&chain, &user, &admin], [&admin, &user, &chain]] {
        let host = soon(Mesh::connect(by_tokens(&relay, &tokens(&proofs)))).await.unwrap();
        let covered = host.invocation(Operation::Admin, &status, desk.node(), Default::default()).unwrap();
        desk.accept_invocation(&covered, &host.node(), Operation::Admin, &status).unwrap();
        soon(host.close()).await;
    }
}

/// Goal: messages that are vouched for by less than the realm's minimum do not get in.
#[tokio::test(flavor = "multi_thread")]
async fn less_than_the_minimum_is_dropped() {
    let relay = relay();
    let publisher = node(&relay).await;
    let mut strict = config(relay.url());
    strict.auth_min = AuthLevel::Signed;
    let strict = soon(Mesh::connect(strict)).await.unwrap();
    let mut never = soon(strict.subscribe("a".parse().unwrap())).await.unwrap();
    let mut heard = soon(publisher.subscribe("a".parse().unwrap())).await.unwrap();
    soon(publisher.publish_with(&topic("a"), b"x", &acked())).await.unwrap();
    assert_eq!(payloads(&mut heard, 1).await, ["x"]);
    // An answer to a later request, after what was under way before it.
    soon(async {
        while strict.not_vouched_for() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(never.try_next().is_none());
}

/// Goal: owners of a namespace grant what they own, at the relay as at the node.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_grants_its_own_names() {
    const OWNER: u8 = 40;
    let relay = relay();
    let claim = granted(&key(ROOT), None, OWNER, "/mesh/own", &["io.example.user", "io.example.user.**"], None);
    let grant = granted(&key(OWNER), None, NODE, "/mesh/publish", &["io.example.**"], None);
    let without = soon(Mesh::connect(by_tokens(&relay, &tokens(&[&grant])))).await;
    assert!(matches!(&without, Err(ConnectError::Denied(reason)) if reason.contains("owns nothing")), "{without:?}");
    let host = soon(Mesh::connect(by_tokens(&relay, &tokens(&[&grant, &claim])))).await.unwrap();
    soon(host.publish_with(&topic("io.example.user.door"), b"x", &acked())).await.unwrap();
    for name in ["io.example.other", "io.example.user.Door"] {
        assert!(is_denied(&soon(host.publish(&topic(name), b"x")).await.unwrap_err()), "{name}");
    }
}

/// Goal: a node without any right says so, and is let in as soon as it has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_comes_later_lets_the_node_in() {
    let relay = relay();
    let tokens = tokens(&[]);
    let mesh = Mesh::start(by_tokens(&relay, &tokens));
    let (reason, is_hopeless) = down(&mesh).await;
    assert!(is_hopeless && reason.contains("nothing lets this node into realm local.dev"), "{reason}");
    tokens.lock().extend(granted(&key(ROOT), None, NODE, "/mesh", &[], None).links().to_vec());
    up(&mesh, 0).await;
}
