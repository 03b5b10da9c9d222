//! Links that must not come about, and what is said of them.

use std::net::UdpSocket;

use macula_node::{ConnectError, Mesh, MeshConfig, RealmAccess, RelayServer, RelayUrl, TlsMode};
use macula_transport::LocalNode;
use macula_wire::{NodeId, hello::Role};

use crate::support::{config, down, key, node, relay, relay_at, relay_config, soon, topic, up};

async fn refused(config: MeshConfig) -> String {
    match soon(Mesh::connect(config)).await {
        Err(ConnectError::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_than_the_pinned_one_is_refused() {
    let relay = relay();
    let expected: NodeId = key(50).verifying_key().into();
    let url = RelayUrl::local(relay.address(), expected);
    let reason = refused(config(url)).await;
    assert_eq!(
        reason,
        format!("quic://{}#{}: reached {}, expected {expected}", relay.address(), expected.segment(), relay.node())
    );
    // The relay is none the worse for it.
    node(&relay).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_pin_a_self_signed_certificate_is_refused() {
    let relay = relay();
    let url: RelayUrl = format!("quic://{}", relay.address()).parse().unwrap();
    let reason = refused(config(url.clone())).await;
    assert!(reason.contains("certificate was refused") && reason.contains("#NODE-ID"), "{reason}");
    let mut development = config(url);
    development.tls = TlsMode::Development;
    soon(Mesh::connect(development)).await.expect("on this machine, in development mode");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_the_relays_own_key_is_refused() {
    let relay = relay_at(100, 0);
    let mut twin = config(relay.url());
    twin.node.key = key(100);
    let reason = refused(twin).await;
    assert!(reason.contains("every node needs a key of its own"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_unreachable_and_says_where() {
    // Bound and silent, so that nobody else takes the port meanwhile.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = RelayUrl::local(silent.local_addr().unwrap(), key(1).verifying_key().into());
    let mut config = config(url);
    config.timeout = std::time::Duration::from_millis(300);
    match soon(Mesh::connect(config)).await {
        Err(ConnectError::Unreachable(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_nowhere_is_said_so() {
    let url: RelayUrl = "quic://relay.invalid:9443".parse().unwrap();
    let mesh = Mesh::start(config(url));
    let (reason, hopeless) = down(&mesh).await;
    assert!(reason.contains("cannot resolve relay.invalid"), "{reason}");
    assert!(!hopeless, "names come and go");
    soon(mesh.close()).await;
}

/// Goal: two nodes under one name of a realm but another root key share nothing; both are served.
#[tokio::test(flavor = "multi_thread")]
async fn realms_of_the_same_name_share_nothing() {
    let same_name = RealmAccess::by_root("local.dev".parse().unwrap(), key(201));
    let mut serving = relay_config(100, 0);
    serving.realms.push(same_name.clone());
    let relay = RelayServer::start(serving).unwrap();
    let one = node(&relay).await;
    let mut other = config(relay.url());
    other.realm = same_name;
    let other = soon(Mesh::connect(other)).await.unwrap();
    let mut ours = soon(one.subscribe("**".parse().unwrap())).await.unwrap();
    let mut theirs = soon(other.subscribe("**".parse().unwrap())).await.unwrap();
    soon(one.publish_with(&topic("a"), b"ours", &crate::support::acked())).await.unwrap();
    soon(other.publish_with(&topic("a"), b"theirs", &crate::support::acked())).await.unwrap();
    assert_eq!(crate::support::payloads(&mut ours, 1).await, ["ours"]);
    assert_eq!(crate::support::payloads(&mut theirs, 1).await, ["theirs"]);
    // Everything that either could still get would have been ahead of this.
    soon(one.publish_with(&topic("b"), b"", &crate::support::acked())).await.unwrap();
    assert_eq!(&*crate::support::next(&mut ours).await.topic, "b");
    assert!(theirs.try_next().is_none());
}

/// Goal: two processes with one key (a copied home) do not disturb one another's messages beyond recognition as the same
/// publisher, and none is locked out.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_one_key_are_both_served() {
    let relay = relay();
    let mut configs = Vec::new();
    for epoch in [1, 2] {
        let mut config = config(relay.url());
        config.node = LocalNode { key: key(7), role: Role::Host, epoch };
        configs.push(config);
    }
    let second = soon(Mesh::connect(configs.pop().unwrap())).await.unwrap();
    let first = soon(Mesh::connect(configs.pop().unwrap())).await.unwrap();
    assert_eq!(first.node(), second.node());
    let mut got = soon(first.subscribe("a".parse().unwrap())).await.unwrap();
    for mesh in [&first, &second, &first, &second] {
        soon(mesh.publish_with(&topic("a"), b"x", &crate::support::acked())).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        let message = crate::support::next(&mut got).await;
        seen.push((message.epoch, message.seq));
    }
    assert_eq!(seen, [(1, 1), (2, 1), (1, 2), (2, 2)]);
    assert_eq!((up(&first, 0).await.generation, up(&second, 0).await.generation), (1, 1), "no link was lost");
}
