//! Relays, nodes and patience.

use std::{future::Future, net::SocketAddr, time::Duration};

use ed25519_dalek::SigningKey;
use macula_auth::{Issuing, Scope, Terms, issue, ucan::Chain};
use macula_node::{
    Link, LinkState, Mesh, MeshConfig, Outlook, Publish, RealmAccess, RelayConfig, RelayServer, RelayUrl, Subscription,
};
use macula_relay::Stats;
use macula_transport::LocalNode;
use macula_wire::{Delivery, Message, Topic, hello::Role};

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for what has to come.
#[track_caller]
pub(crate) fn soon<T>(what: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, what).await {
            Ok(came) => came,
            Err(_) => panic!("waited in vain at {caller}"),
        }
    }
}

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn realm() -> RealmAccess {
    RealmAccess::by_root("local.dev".parse().unwrap(), key(200))
}

/// A chain of one more link: `issuer`, who holds `proof` or is the realm's root, lets the node with the seed `to` do
/// something on these names (all, when there are none), until `expires` (in an hour, when not given).
pub(crate) fn granted(
    issuer: &SigningKey,
    proof: Option<&Chain>,
    to: u8,
    command: &str,
    patterns: &[&str],
    expires: Option<u64>,
) -> Chain {
    let scope = match patterns {
        [] => Scope::All,
        patterns => Scope::new(patterns.iter().map(|pattern| pattern.parse().unwrap())).unwrap(),
    };
    let issuing = Issuing {
        audience: key(to).verifying_key().into(),
        command: command.parse().unwrap(),
        terms: Terms { scope, ..Terms::all() },
        expires: Some(expires.unwrap_or(unix_now() + 3600)),
        nonce: vec![to; 12],
        meta: Default::default(),
    };
    issue(issuer, proof, issuing, 0).unwrap()
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn topic(text: &str) -> Topic {
    text.parse().unwrap()
}

/// A relay with the key of this seed; port 0 picks one.
pub(crate) fn relay_at(seed: u8, port: u16) -> RelayServer {
    RelayServer::start(relay_config(seed, port)).expect("the port is free")
}

pub(crate) fn relay_config(seed: u8, port: u16) -> RelayConfig {
    let node = LocalNode { key: key(seed), role: Role::Relay, epoch: 1 };
    RelayConfig::new(node, SocketAddr::from(([127, 0, 0, 1], port)), vec![realm()])
}

pub(crate) fn relay() -> RelayServer {
    relay_at(100, 0)
}

/// A node's configuration, with a key of its own.
pub(crate) fn config(url: RelayUrl) -> MeshConfig {
    let mut config = MeshConfig::new(url, realm());
    config.node.role = Role::Host;
    // Beyond what a test waits, so that tests see what happens and not how long it took.
    config.timeout = PATIENCE;
    config
}

pub(crate) async fn node(relay: &RelayServer) -> Mesh {
    soon(Mesh::connect(config(relay.url()))).await.expect("a link")
}

/// Waits for a link with a number above `after`.
pub(crate) async fn up(mesh: &Mesh, after: u64) -> Link {
    let mut state = mesh.link();
    let up = soon(state.wait_for(|state| matches!(state, LinkState::Up(link) if link.generation > after))).await;
    match &*up.expect("the handle is there") {
        LinkState::Up(link) => link.clone(),
        other => panic!("{other:?}"),
    }
}

/// Waits until the link is down, and says why.
pub(crate) async fn down(mesh: &Mesh) -> (String, bool) {
    let mut state = mesh.link();
    let down = soon(
        state.wait_for(|state| matches!(state, LinkState::Down { reason, .. } if !reason.starts_with("no answer yet"))),
    );
    match &*down.await.expect("the handle is there") {
        LinkState::Down { reason, outlook } => (reason.clone(), *outlook != Outlook::Hopeful),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn next(subscription: &mut Subscription) -> Message {
    soon(subscription.next()).await.expect("the mesh is up")
}

/// The payloads of the next `count` messages.
pub(crate) async fn payloads(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut payloads = Vec::with_capacity(count);
    for _ in 0..count {
        payloads.push(String::from_utf8_lossy(&next(subscription).await.payload).into_owned());
    }
    payloads
}

pub(crate) fn acked() -> Publish {
    Publish { delivery: Delivery::Acked, ..Publish::default() }
}

/// Waits until the relay's counters say what is wanted.
pub(crate) async fn stats_where(relay: &RelayServer, wanted: impl Fn(&Stats) -> bool) -> Stats {
    soon(async {
        loop {
            let stats = relay.stats();
            if wanted(&stats) {
                return stats;
            }
            // The relay copies its counters four times a second; there is no event for it.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}
