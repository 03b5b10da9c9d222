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
    content::store::StoreConfig,
    wire::{Priority, RealmName},
};
use macula_runtime::LogLevel;

pub(crate) use environment::Environment;
pub(crate) use file::File;
pub(crate) use realm::{begin_clock, check_wall_clock, token_failure};

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
    /// The config file that was named.
    config: Option<PathBuf>,
    /// As it was read at the start.
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
        let home = Home::open(environment.home_path()?)?;
        begin_clock(&home)?;
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
        Ok(Self { home, realm, auth_min, tokens, tls, environment, config: flags.config.clone(), file })
    }

    /// The config file, read again, where a file that cannot be read holds nobody up.
    pub(crate) async fn file_as_it_is_now(&self) -> Result<File, Failure> {
        let (config, home) = (self.config.clone(), self.home.clone());
        let reading = tokio::task::spawn_blocking(move || File::read(config.as_deref(), &home));
        reading.await.unwrap_or_else(|_| Err(Failure::failed("this host is stopping")))
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

    /// How much content a host keeps: by flags, or by the config file.
    pub(crate) fn store(
        &self,
        content_max: Option<u64>,
        plugin_content_max: Option<u64>,
    ) -> Result<StoreConfig, Failure> {
        let default = StoreConfig::default();
        let file = &self.file.node;
        let or_file = |given: Option<u64>, name: &str, text: &Option<String>, default: u64| match (given, text) {
            (Some(bytes), _) => Ok(bytes),
            (None, Some(text)) => {
                size(text).map_err(|error| Failure::usage(format!("{name} in the config file: {error}")))
            }
            (None, None) => Ok(default),
        };
        Ok(StoreConfig {
            bytes_max: or_file(content_max, "content-max", &file.content_max, default.bytes_max)?,
            plugin_bytes_max: or_file(
                plugin_content_max,
                "plugin-content-max",
                &file.plugin_content_max,
                default.plugin_bytes_max,
            )?,
        })
    }

    /// From which level on plugins' logs are published: by a flag, or by the config file.
    pub(crate) fn publish_logs(&self, flag: Option<LogLevel>) -> Result<Option<LogLevel>, Failure> {
        let level = |text: &String| {
            log_level(text).map_err(|error| Failure::usage(format!("publish-logs in the config file: {error}")))
        };
        flag.map_or_else(|| self.file.node.publish_logs.as_ref().map(level).transpose(), |level| Ok(Some(level)))
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
                patience(text).map_err(|error| Failure::usage(format!("timeout in the config file: {error}")))?
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
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("{text:?} is no duration (expected a number and ms, s, m, h or d, like 250ms)")),
    };
    let seconds: f64 =
        number.parse::<f64>().map_err(|_| format!("{text:?} is no duration (expected 10s, 250ms, 2m or 1h)"))?;
    Duration::try_from_secs_f64(seconds * scale).map_err(|_| format!("{text:?} is out of range"))
}

/// A time to wait: a duration that is longer than nothing.
pub(crate) fn patience(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("{text:?} leaves no time at all (expected more than nothing, like 250ms)")),
        patience => Ok(patience),
    }
}

/// A level of a plugin's log.
pub(crate) fn log_level(text: &str) -> Result<LogLevel, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| "expected trace, debug, info, warn or error".to_owned())
}

/// `10GiB`, `500MB`, or a number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let refused =
        || format!("{text:?} is no size (expected a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, like 10GiB)");
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "" | "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(refused()),
    };
    let bytes = number.parse::<f64>().map_err(|_| refused())? * scale;
    // What is above has more bytes than any disk.
    if bytes < 9e15 { Ok(bytes as u64) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("10GiB"), Ok(10 << 30));
        assert_eq!(size("1.5kB"), Ok(1500));
        assert_eq!(size("4096"), Ok(4096));
        for bad in ["", "GiB", "-1GiB", "10 GiB", "10gib", "10G", "1e400", "99999999TiB", "1..2MB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_time_at_all_is_no_patience() {
        assert_eq!(patience("1ms"), Ok(Duration::from_millis(1)));
        assert!(patience("0s").is_err() && patience("soon").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "s", "-1s", "10 s", "1w", "1e400"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
