//! What client verbs have in common: finding the node and linking to it.

use macula_node::{Mesh, MeshConfig, RealmAccess, RelayUrl, RunningNode};

use crate::{
    config::{ClientSettings, Settings},
    failure::{Failure, Kind},
};

/// Links to the node that the settings name, or to the one that runs here.
pub(super) async fn connect(settings: &Settings, client: &ClientSettings) -> Result<Mesh, Failure> {
    connect_in(settings, client, settings.realm.clone()).await
}

/// The same, in another realm than the settings'.
pub(super) async fn connect_in(
    settings: &Settings,
    client: &ClientSettings,
    realm: RealmAccess,
) -> Result<Mesh, Failure> {
    let urls = match &client.node {
        Some(url) => vec![settings.pinned(url.clone())?],
        None => running_relays(settings)?,
    };
    let mut config = MeshConfig::new(urls[0].clone(), realm);
    config.revocations = settings.home.revocations()?;
    config.relays = urls;
    config.tls = settings.tls;
    config.timeout = client.timeout;
    Ok(Mesh::connect(config).await?)
}

/// The relays that nodes of this home run or dial; the most recently named `host` first.
fn running_relays(settings: &Settings) -> Result<Vec<RelayUrl>, Failure> {
    let mut running = settings.home.running()?;
    running.sort_by_key(|node| (node.relay.is_none(), node.name != "host", node.name.clone()));
    let urls: Vec<RelayUrl> = running.iter().flat_map(relays_of).collect();
    if urls.is_empty() {
        let message = "no node is running here; start one with `macula-host run` or name one with --node";
        return Err(Failure::new(Kind::Unreachable, message));
    }
    Ok(urls)
}

fn relays_of(node: &RunningNode) -> Vec<RelayUrl> {
    match node.relay {
        Some(mut address) => {
            if address.ip().is_unspecified() {
                let is_v4 = address.is_ipv4();
                address.set_ip(if is_v4 { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
            }
            vec![RelayUrl::local(address, node.node)]
        }
        None => node.relays.iter().filter_map(|url| url.parse().ok()).collect(),
    }
}
