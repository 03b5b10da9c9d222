//! Opening links.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use macula_wire::hello::Side;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::{
    net::lookup_host,
    time::{Instant, timeout_at},
};

use crate::{
    RelayUrl, TlsMode,
    endpoint::{self, EndpointConfig},
    link::{Link, LinkError, LocalNode, PATH},
    race::{Failed, Race},
    tls::{self, AnyCertificate},
};

/// How long opening a link may take in all.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens links from one UDP socket per address family.
#[derive(Debug)]
pub struct Dialler {
    mode: TlsMode,
    /// Takes any certificate, because the Hello is pinned or the peer is on loopback.
    unchecked: quinn::ClientConfig,
    /// Checks against roots.
    checked: quinn::ClientConfig,
    v4: tokio::sync::OnceCell<quinn::Endpoint>,
    v6: tokio::sync::OnceCell<quinn::Endpoint>,
    failed: Mutex<Failed>,
}

/// Why a link could not be opened. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The name leads to no address.
    #[error("cannot resolve {host}: {error}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// No local socket.
    #[error("cannot open a UDP socket: {0}")]
    Socket(io::Error),
    /// Without a pin the certificate decides, and in development mode that would be nothing at all.
    #[error("{0} has no pin: off this machine, development mode needs one (quic://HOST:PORT#NODE-ID)")]
    PinNeeded(RelayUrl),
    /// Nobody answered in time.
    #[error("no answer from {url} within {seconds} s{}", described(.tried, .failed), seconds = DIAL_TIMEOUT.as_secs())]
    Timeout {
        /// Whom.
        url: RelayUrl,
        /// The addresses that were tried; none when the name was not resolved in time.
        tried: Vec<SocketAddr>,
        /// Those of them that failed before.
        failed: Vec<(SocketAddr, DialError)>,
    },
    /// Every address of a name with several has failed.
    #[error("no address of {url} leads to the relay{}", described(&[], .failed))]
    EveryAddress {
        /// Whom.
        url: RelayUrl,
        /// The addresses, and why each.
        failed: Vec<(SocketAddr, DialError)>,
    },
    /// The peer answered, and was not what it has to be.
    #[error("{url}: {error}")]
    Link {
        /// Whom.
        url: RelayUrl,
        /// Why.
        error: Box<LinkError>,
    },
}

impl DialError {
    /// Whether trying again later can help: false when the peer is the wrong one or its certificate is refused.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::PinNeeded(_) => false,
            Self::Link { error, .. } => error.is_transient(),
            Self::EveryAddress { failed, .. } => failed.iter().any(|(_, error)| error.is_transient()),
            _ => true,
        }
    }

    /// Without whom it was about.
    fn reason(&self) -> String {
        match self {
            Self::Link { error, .. } => error.to_string(),
            error => error.to_string(),
        }
    }
}

/// Addresses that did not answer and those that failed, in brackets; nothing for none, or for one alone without a reason.
fn described(tried: &[SocketAddr], failed: &[(SocketAddr, DialError)]) -> String {
    let silent = tried.iter().filter(|address| failed.iter().all(|(failed, _)| failed != *address));
    let silent = silent.map(|address| format!("{address}: no answer"));
    let refused = failed.iter().map(|(address, error)| format!("{address}: {}", error.reason()));
    let all: Vec<String> = refused.chain(silent).collect();
    if all.is_empty() || (tried.len() == 1 && failed.is_empty()) {
        return String::new();
    }
    format!(" ({})", all.join("; "))
}

impl Dialler {
    /// A dialler without sockets; they are opened when needed. Addresses without a pin are checked against the system's
    /// roots.
    pub fn new(mode: TlsMode, config: &EndpointConfig) -> Self {
        Self::with_roots(mode, config, tls::system_roots())
    }

    /// The same, checking against these roots instead of the system's.
    pub fn with_roots(mode: TlsMode, config: &EndpointConfig, roots: rustls::RootCertStore) -> Self {
        let provider = tls::provider();
        let algorithms = provider.signature_verification_algorithms;
        let builder = || {
            rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .expect("the provider supports TLS 1.3")
        };
        let unchecked = builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
            .with_no_client_auth();
        let checked = builder().with_root_certificates(roots).with_no_client_auth();
        let quic = |mut crypto: rustls::ClientConfig| {
            crypto.alpn_protocols = vec![web_transport_quinn::ALPN.as_bytes().to_vec()];
            let crypto = QuicClientConfig::try_from(crypto).expect("TLS 1.3 with AES-128-GCM is enabled");
            let mut client = quinn::ClientConfig::new(Arc::new(crypto));
            client.transport_config(config.transport());
            client
        };
        Self {
            mode,
            unchecked: quic(unchecked),
            checked: quic(checked),
            v4: tokio::sync::OnceCell::new(),
            v6: tokio::sync::OnceCell::new(),
            failed: Mutex::default(),
        }
    }

    /// Opens a link, within 10 s. Must be called within a tokio runtime, which then drives the link.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, url: &RelayUrl, node: &LocalNode) -> Result<Link, DialError> {
        let deadline = Instant::now() + DIAL_TIMEOUT;
        let config = match (url.pin(), self.mode) {
            (Some(_), _) => &self.unchecked,
            (None, TlsMode::Development) if url.is_loopback() => &self.unchecked,
            (None, TlsMode::Development) => return Err(DialError::PinNeeded(url.clone())),
            (None, TlsMode::Production) => &self.checked,
        };
        let unresolved = |error| DialError::Resolve { host: url.host().to_owned(), error };
        let resolved = match timeout_at(deadline, lookup_host((url.host(), url.port()))).await {
            Ok(resolved) => resolved.map_err(unresolved)?.collect::<Vec<_>>(),
            Err(_) => return Err(DialError::Timeout { url: url.clone(), tried: Vec::new(), failed: Vec::new() }),
        };
        if resolved.is_empty() {
            return Err(unresolved(io::ErrorKind::NotFound.into()));
        }
        self.dial_first(resolved, deadline, url, config, node).await
    }

    /// Opens a link to the first of these addresses that answers.
    async fn dial_first(
        &self,
        addresses: Vec<SocketAddr>,
        deadline: Instant,
        url: &RelayUrl,
        config: &quinn::ClientConfig,
        node: &LocalNode,
    ) -> Result<Link, DialError> {
        let order = self.failed.lock().unwrap_or_else(PoisonError::into_inner).order(addresses);
        let mut race = Race::new();
        let attempt = |address| self.dial_address(address, url, config, node);
        let outcome = timeout_at(deadline, race.run(order, attempt)).await;
        let winner = outcome.as_ref().ok().and_then(|won| won.as_ref().map(|(address, _)| *address));
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).note(&race, winner);
        let Race { tried, mut failed } = race;
        match outcome {
            Ok(Some((address, link))) => {
                for (address, error) in &failed {
                    tracing::debug!(relay = %url, %address, %error, "another address of the relay failed");
                }
                tracing::debug!(relay = %url, %address, "dialled");
                Ok(link)
            }
            Ok(None) if failed.len() == 1 => Err(failed.remove(0).1),
            Ok(None) => Err(DialError::EveryAddress { url: url.clone(), failed }),
            Err(_) => Err(DialError::Timeout { url: url.clone(), tried, failed }),
        }
    }

    async fn dial_address(
        &self,
        address: SocketAddr,
        url: &RelayUrl,
        config: &quinn::ClientConfig,
        node: &LocalNode,
    ) -> Result<Link, DialError> {
        let failed = |error: LinkError| DialError::Link { url: url.clone(), error: Box::new(error) };
        let endpoint = self.endpoint(address).await.map_err(DialError::Socket)?;
        let connecting =
            endpoint.connect_with(config.clone(), address, url.host()).map_err(|error| failed(error.into()))?;
        let connection = connecting.await.map_err(|error| failed(error.into()))?;
        let target = format!("https://{}{PATH}", url.authority())
            .parse::<url::Url>()
            .expect("a checked authority and a fixed path");
        let session =
            web_transport_quinn::Session::connect(connection, target).await.map_err(|error| failed(error.into()))?;
        Link::establish(session, Side::Dialler, node, url.pin()).await.map_err(failed)
    }

    async fn endpoint(&self, address: SocketAddr) -> io::Result<&quinn::Endpoint> {
        let (cell, any): (_, SocketAddr) = if address.is_ipv4() {
            (&self.v4, (Ipv4Addr::UNSPECIFIED, 0).into())
        } else {
            (&self.v6, (Ipv6Addr::UNSPECIFIED, 0).into())
        };
        cell.get_or_try_init(|| async {
            let socket = endpoint::socket(any)?;
            quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, Arc::new(quinn::TokioRuntime))
        })
        .await
    }

    /// Waits until the peers of all closed links know.
    pub async fn drained(&self) {
        for endpoint in [self.v4.get(), self.v6.get()].into_iter().flatten() {
            endpoint.wait_idle().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use macula_wire::hello::Role;

    use super::*;
    use crate::{Certificate, Listener};

    fn node(seed: u8, role: Role) -> LocalNode {
        LocalNode { key: SigningKey::from_bytes(&[seed; 32]), epoch: 1, role }
    }

    /// Goal: of a name's addresses one that does not answer, and one that is refused, keep nobody from the relay; and the
    /// next time that the relay is dialled its address comes first.
    #[tokio::test]
    async fn a_silent_address_does_not_hide_the_relay() {
        let config = EndpointConfig::default();
        let relay = node(1, Role::Relay);
        let certificate = Certificate::SelfSigned { names: vec!["localhost".into()] };
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), certificate, &config, &relay).unwrap();
        let there = listener.address().unwrap();
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let addresses = vec![silent.local_addr().unwrap(), there];
        let accepted = relay.clone();
        let accepting = tokio::spawn(async move {
            while let Some(handshake) = listener.accept().await {
                let link = handshake.complete(&accepted).await.unwrap();
                assert_eq!(link.peer().role, Role::Client);
            }
        });
        let dialler = Dialler::new(TlsMode::Development, &config);
        let url = RelayUrl::local(there, relay.id());
        for _ in 0..2 {
            let deadline = Instant::now() + DIAL_TIMEOUT;
            let client = node(2, Role::Client);
            let link =
                dialler.dial_first(addresses.clone(), deadline, &url, &dialler.unchecked, &client).await.unwrap();
            assert_eq!((link.peer().node, link.remote_address()), (relay.id(), there));
            assert_eq!(dialler.failed.lock().unwrap().order(addresses.clone())[0], there);
        }
        accepting.abort();
    }

    #[test]
    fn what_failed_is_said_address_by_address() {
        let url: RelayUrl = "quic://relay.example".parse().unwrap();
        let [v6, v4]: [SocketAddr; 2] = ["[::1]:9443", "127.0.0.1:9443"].map(|text| text.parse().unwrap());
        let failed = |address| (address, DialError::Link { url: url.clone(), error: Box::new(LinkError::Slow) });
        let text = |tried: &[SocketAddr], failed| {
            DialError::Timeout { url: url.clone(), tried: tried.to_vec(), failed }.to_string()
        };
        let base = "no answer from quic://relay.example:9443 within 10 s";
        assert_eq!(text(&[], vec![]), base);
        assert_eq!(text(&[v4], vec![]), base);
        let both = "[::1]:9443: the peer did not complete its handshake in time; 127.0.0.1:9443: no answer";
        assert_eq!(text(&[v6, v4], vec![failed(v6)]), format!("{base} ({both})"));
        let every = DialError::EveryAddress { url: url.clone(), failed: vec![failed(v6), failed(v4)] };
        assert!(every.is_transient() && every.to_string().starts_with("no address of quic://relay.example:9443"));
    }
}
