//! Environment variables, each read here and nowhere else.

use std::{env, path::PathBuf};

use macula_node::{Home, RelayUrl, TlsMode, wire::RealmName};

use crate::failure::Failure;

/// What the environment says.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `MACULA_HOME`
    pub(crate) home: Option<PathBuf>,
    /// `MACULA_NODE`: what `--node` says by default.
    pub(crate) node: Option<RelayUrl>,
    /// `MACULA_QUIC_PORT`: UDP port on loopback.
    pub(crate) quic_port: Option<u16>,
    /// `MACULA_REALM`
    pub(crate) realm: Option<RealmName>,
    /// `HEALTH_PORT`: TCP port on loopback.
    pub(crate) health_port: Option<u16>,
    /// `MACULA_TLS_MODE`
    pub(crate) tls_mode: Option<TlsMode>,
    /// `CLUSTER_STRATEGY` and `CLUSTER_SECRET`, not yet in force.
    cluster: Vec<&'static str>,
}

impl Environment {
    pub(crate) fn read() -> Result<Self, Failure> {
        Ok(Self {
            home: env::var_os("MACULA_HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
            node: read("MACULA_NODE")?,
            quic_port: read("MACULA_QUIC_PORT")?,
            realm: read("MACULA_REALM")?,
            health_port: read("HEALTH_PORT")?,
            tls_mode: read("MACULA_TLS_MODE")?,
            cluster: ["CLUSTER_STRATEGY", "CLUSTER_SECRET"]
                .into_iter()
                .filter(|name| env::var_os(name).is_some())
                .collect(),
        })
    }

    /// Where the home is: there, or the platform's place.
    pub(crate) fn home_path(&self) -> Result<PathBuf, Failure> {
        self.home.clone().map_or_else(|| Ok(Home::default_path()?), Ok)
    }

    pub(crate) fn warn_of_what_is_not_in_force(&self) {
        for name in &self.cluster {
            tracing::warn!("{name} is set, but clustering is not built yet: it has no effect");
        }
    }
}

/// An empty variable counts as unset.
fn read<T: std::str::FromStr>(name: &str) -> Result<Option<T>, Failure>
where
    T::Err: std::fmt::Display,
{
    match env::var(name) {
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Failure::usage(format!("{name} is not text"))),
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|error| Failure::usage(format!("{name}={text}: {error}"))),
    }
}
