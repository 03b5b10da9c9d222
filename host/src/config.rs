//! Settings: flag before environment before file before default, checked once, here.

mod environment;
mod file;
mod realm;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use macula_node::{
    AuthLevel, Home, RealmAccess, RelayUrl, RunningNode, TlsMode,
    wire::{Priority, RealmName},
};

pub(crate) use environment::Environment;
pub(crate) use file::File;
pub(crate) use realm::token_failure;

use crate::{
    cli::{ClientFlags, CommonFlags, NodeFlags},
    failure::Failure,
};

/// Default UDP port of relays.
pub(crate) const QUIC_PORT: u16 = 9443;
/// Default port of health and metrics.
pub(crate) const HEALTH_PORT: u16 = 8080;
/// Default of `--timeout`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What every command needs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) home: Home,
    pub(crate) realm: RealmAccess,
    /// How messages of the realm must be vouched for.
    pub(crate) auth_min: AuthLevel,
    /// Files of delegations that were named.
    pub(crate) tokens: Vec<PathBuf>,
    pub(crate) tls: TlsMode,
    pub(crate) environment: Environment,
    pub(crate) file: File,
}

/// What `run` and `relay` need beside.
#[derive(Debug)]
pub(crate) struct NodeSettings {
    pub(crate) name: String,
    pub(crate) listen: SocketAddr,
    pub(crate) relays: Vec<RelayUrl>,
    pub(crate) health: HealthAddress,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

/// Where health is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthAddress {
    /// Chosen: a busy port is a failure.
    Given(SocketAddr),
    /// Nobody chose: a busy port is replaced by another.
    Default(SocketAddr),
}

/// What client verbs need beside.
#[derive(Debug)]
pub(crate) struct ClientSettings {
    pub(crate) node: Option<RelayUrl>,
    pub(crate) timeout: Duration,
    pub(crate) priority: Priority,
}

impl Settings {
    /// Reads environment and file, opens the home, and finds the realm.
    pub(crate) fn load(flags: &CommonFlags) -> Result<Self, Failure> {
        let environment = Environment::read()?;
        let home = match environment.home.clone() {
            Some(path) => Home::open(path)?,
            None => Home::open(Home::default_path()?)?,
        };
        let file = File::read(flags.config.as_deref(), &home)?;
        let name = realm::chosen(flags, &environment, &file)?;
        let tokens = if flags.token.is_empty() { file.node.token.clone() } else { flags.token.clone() };
        let realm = realm::access(&home, &name, &tokens)?;
        let auth_min = realm::auth_min(&file, &name)?;
        let tls = match &environment.tls_mode {
            Some(mode) => *mode,
            None => {
                file.node.tls_mode.as_deref().map(str::parse).transpose().map_err(Failure::usage)?.unwrap_or_default()
            }
        };
        if tls == TlsMode::Development {
            tracing::warn!("TLS mode development: certificates of relays on this machine are not checked");
        }
        environment.warn_of_what_is_not_in_force();
        Ok(Self { home, realm, auth_min, tokens, tls, environment, file })
    }

    /// For `run` (`default_name` host) and `relay` (relay).
    pub(crate) fn node(&self, flags: &NodeFlags, table: Table, default_name: &str) -> Result<NodeSettings, Failure> {
        let file = match table {
            Table::Node => &self.file.node,
            Table::Relay => &self.file.relay,
        };
        let name = flags.name.clone().or_else(|| file.name.clone()).unwrap_or_else(|| default_name.to_owned());
        let listen = match (&flags.listen, self.environment.quic_port, &file.listen) {
            (Some(address), _, _) => *address,
            (None, Some(port), _) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            (None, None, Some(address)) => parse("listen", address)?,
            (None, None, None) => SocketAddr::from((Ipv4Addr::LOCALHOST, QUIC_PORT)),
        };
        let health = match (&flags.health, self.environment.health_port, &file.health) {
            (Some(address), _, _) => HealthAddress::Given(*address),
            (None, Some(port), _) => HealthAddress::Given(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            (None, None, Some(address)) => HealthAddress::Given(parse("health", address)?),
            (None, None, None) => HealthAddress::Default(SocketAddr::from((Ipv4Addr::LOCALHOST, HEALTH_PORT))),
        };
        let named: Vec<RelayUrl> = if flags.relay.is_empty() {
            file.relay.iter().map(|url| parse("relay", url)).collect::<Result<_, _>>()?
        } else {
            flags.relay.clone()
        };
        let relays = named.into_iter().map(|url| self.pinned(url)).collect::<Result<_, _>>()?;
        let certificate = match (&file.tls_cert, &file.tls_key) {
            (Some(chain), Some(key)) => Some((chain.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(Failure::usage("the config file has one of tls-cert and tls-key; both are needed")),
        };
        Ok(NodeSettings { name, listen, relays, health, certificate })
    }

    /// What a relay of this home may serve: every realm that is known here, by its root key or by tokens.
    pub(crate) fn served(&self) -> Result<Vec<RealmAccess>, Failure> {
        realm::served(&self.home, &[&self.tokens[..], &self.file.relay.token].concat())
    }

    /// Whether this home's word is law in the realm: then nothing there is a matter of granting.
    pub(crate) fn holds_root_key(&self) -> bool {
        self.tokens.is_empty() && self.home.realm_key(self.realm.name()).is_ok_and(|key| key.is_some())
    }

    /// What lets this node into another realm.
    pub(crate) fn access(&self, name: &RealmName) -> Result<RealmAccess, Failure> {
        realm::access(&self.home, name, &self.tokens)
    }

    /// A loopback address of a node that runs here needs no pin from the user: its id is known.
    pub(crate) fn pinned(&self, url: RelayUrl) -> Result<RelayUrl, Failure> {
        if url.pin().is_some() || !url.is_loopback() {
            return Ok(url);
        }
        let runs_there = |node: &RunningNode| node.relay.is_some_and(|relay| relay.port() == url.port());
        Ok(match self.home.running()?.into_iter().find(runs_there) {
            Some(node) => url.pinned(node.node),
            None => url,
        })
    }

    /// For client verbs.
    pub(crate) fn client(&self, flags: &ClientFlags) -> Result<ClientSettings, Failure> {
        let node = match (&flags.node, &self.environment.node) {
            (Some(url), _) | (None, Some(url)) => Some(url.clone()),
            (None, None) => None,
        };
        let timeout = match (&flags.timeout, &self.file.node.timeout) {
            (Some(timeout), _) => *timeout,
            (None, Some(text)) => {
                duration(text).map_err(|error| Failure::usage(format!("timeout in the config file: {error}")))?
            }
            (None, None) => TIMEOUT,
        };
        let priority = match (flags.priority, &self.file.node.priority) {
            (Some(priority), _) => priority,
            (None, Some(text)) => {
                text.parse().map_err(|error| Failure::usage(format!("priority in the config file: {error}")))?
            }
            (None, None) => Priority::Normal,
        };
        Ok(ClientSettings { node, timeout, priority })
    }
}

/// The realm that a command is about, when nothing else of the settings matters.
pub(crate) fn chosen_realm(flags: &CommonFlags, home: &Home) -> Result<RealmName, Failure> {
    // Every command finds the realm of this machine there.
    home.local_realm()?;
    realm::chosen(flags, &Environment::read()?, &File::read(flags.config.as_deref(), home)?)
}

/// Which table of the file a node reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Node,
    Relay,
}

fn parse<T: std::str::FromStr>(key: &str, text: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| Failure::usage(format!("{key} = {text:?} in the config file: {error}")))
}

/// `10s`, `250ms`, `2m`, `1h`, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("{text:?} is no duration (expected a number and ms, s, m, h or d, like 250ms)")),
    };
    let seconds: f64 =
        number.parse::<f64>().map_err(|_| format!("{text:?} is no duration (expected 10s, 250ms, 2m or 1h)"))?;
    Duration::try_from_secs_f64(seconds * scale).map_err(|_| format!("{text:?} is out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "s", "-1s", "10 s", "1w", "1e400"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
