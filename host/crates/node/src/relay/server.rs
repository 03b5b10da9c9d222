//! The handle of a running relay.

use std::{io, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use macula_relay::Stats;
use macula_transport::{BindError, Certificate, EndpointConfig, Listener, LocalNode, RelayUrl};
use macula_wire::{NodeId, hello::Role};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::driver::{self, Observers};
use crate::{Audit, HomeError, LoggedRevocation, NodeState, RealmAccess, RevocationLog, Run};

/// How a relay is run.
#[derive(Debug)]
pub struct RelayConfig {
    /// Its key and epoch.
    pub node: LocalNode,
    /// Where it listens (UDP); port 0 picks one.
    pub listen: SocketAddr,
    /// What it shows in TLS.
    pub certificate: Certificate,
    /// Bounds.
    pub limits: macula_relay::RelayConfig,
    /// QUIC windows.
    pub endpoint: EndpointConfig,
    /// The realms that it serves, and what lets it. Others are refused, as if they did not exist.
    pub realms: Vec<RealmAccess>,
    /// Bounds and patience with the rights of peers.
    pub rights: macula_auth::AuthorityConfig,
    /// Revocations that are known already.
    pub revocations: Vec<LoggedRevocation>,
    /// Where those that come are kept; without it, they are in force until the relay stops.
    pub revocation_log: Option<RevocationLog>,
}

impl RelayConfig {
    /// A relay for this machine only, on a port of the system's choice.
    ///
    /// # Errors
    /// None today; the state's lock is kept by the caller.
    pub fn local(node: NodeState, realm: RealmAccess) -> Result<Self, HomeError> {
        let (local, run) = (node.local(Role::Relay), node.run());
        // The state's lock is released here: a relay on a port of its own does not need its name to be free.
        drop(node);
        let mut config = Self::new(local, SocketAddr::from(([127, 0, 0, 1], 0)), vec![realm]);
        config.set_run(run);
        Ok(config)
    }

    /// Says which run of the relay it is: at the first, nobody is on the way back to it, and nothing has to be kept for them.
    pub fn set_run(&mut self, run: Run) {
        if run == Run::First {
            self.limits.resume_window = Duration::ZERO;
        }
    }

    /// A relay with default bounds and a certificate of its own.
    pub fn new(node: LocalNode, listen: SocketAddr, realms: Vec<RealmAccess>) -> Self {
        let names = vec!["localhost".into(), listen.ip().to_string()];
        Self {
            node,
            listen,
            certificate: Certificate::SelfSigned { names },
            limits: macula_relay::RelayConfig::default(),
            endpoint: EndpointConfig::default(),
            realms,
            rights: macula_auth::AuthorityConfig::default(),
            revocations: Vec::new(),
            revocation_log: None,
        }
    }
}

/// Why a relay did not start. Nothing is left open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayStartError {
    /// Its port or certificate.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its thread.
    #[error("cannot start the relay's thread: {0}")]
    Thread(#[from] io::Error),
}

impl RelayStartError {
    /// Whether something else listens there already.
    pub fn is_address_in_use(&self) -> bool {
        matches!(self, Self::Bind(BindError::Socket { error, .. }) if error.kind() == io::ErrorKind::AddrInUse)
    }
}

/// A running relay. Dropping it stops it without goodbye.
#[derive(Debug)]
pub struct RelayServer {
    address: SocketAddr,
    node: NodeId,
    stats: Arc<Mutex<Stats>>,
    audit: Arc<Audit>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl RelayServer {
    /// Opens the port and starts the relay's thread.
    ///
    /// # Errors
    /// See [`RelayStartError`].
    pub fn start(config: RelayConfig) -> Result<Self, RelayStartError> {
        let (stop, stopped) = watch::channel(false);
        let (bound, is_bound) = std::sync::mpsc::sync_channel(1);
        let stats = Arc::new(Mutex::new(Stats::default()));
        let node = config.node.id();
        let shared = Arc::clone(&stats);
        let audit = Arc::new(Audit::new("relay", &config.realms));
        let written = Arc::clone(&audit);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("macula-relay".into()).spawn(move || {
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, async move {
                let listener =
                    match Listener::bind(config.listen, config.certificate.clone(), &config.endpoint, &config.node) {
                        Ok(listener) => listener,
                        Err(error) => return drop(bound.send(Err(error))),
                    };
                let address = listener.address().map_err(|error| BindError::Socket { address: config.listen, error });
                if bound.send(address).is_ok() {
                    driver::run(config, listener, Observers { stats: shared, audit: written }, stopped).await;
                }
            });
        })?;
        // The thread sends exactly once, within milliseconds, or has panicked.
        let address = is_bound.recv().map_err(|_| io::Error::other("the relay's thread ended at once"))??;
        Ok(Self { address, node, stats, audit, stop, thread: Some(thread) })
    }

    /// What was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where nodes on this machine reach it, with its id.
    pub fn url(&self) -> RelayUrl {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        RelayUrl::local(address, self.node)
    }

    /// Counters and gauges, as of a moment ago.
    pub fn stats(&self) -> Stats {
        *self.stats.lock()
    }

    /// What was denied, and how rights have changed.
    pub fn audit(&self) -> &Arc<Audit> {
        &self.audit
    }

    /// Tells all peers, waits until they know, and ends.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // Joining blocks for as long as the relay says goodbye, at most a second.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for RelayServer {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}
