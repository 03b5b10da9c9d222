//! Opening links.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use macula_wire::hello::Side;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::{net::lookup_host, time::timeout};

use crate::{
    RelayUrl, TlsMode,
    endpoint::{self, EndpointConfig},
    link::{Link, LinkError, LocalNode, PATH},
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
    #[error("no answer from {0} within {seconds} s", seconds = DIAL_TIMEOUT.as_secs())]
    Timeout(RelayUrl),
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
            _ => true,
        }
    }
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
        }
    }

    /// Opens a link, within 10 s. Must be called within a tokio runtime, which then drives the link.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, url: &RelayUrl, node: &LocalNode) -> Result<Link, DialError> {
        timeout(DIAL_TIMEOUT, self.dial_now(url, node)).await.unwrap_or_else(|_| Err(DialError::Timeout(url.clone())))
    }

    async fn dial_now(&self, url: &RelayUrl, node: &LocalNode) -> Result<Link, DialError> {
        let config = match (url.pin(), self.mode) {
            (Some(_), _) => &self.unchecked,
            (None, TlsMode::Development) if url.is_loopback() => &self.unchecked,
            (None, TlsMode::Development) => return Err(DialError::PinNeeded(url.clone())),
            (None, TlsMode::Production) => &self.checked,
        };
        let unresolved = |error| DialError::Resolve { host: url.host().to_owned(), error };
        let mut addresses = lookup_host((url.host(), url.port())).await.map_err(unresolved)?;
        let mut failed = unresolved(io::ErrorKind::NotFound.into());
        // One after the other; a name rarely has more than one address per family.
        for address in addresses.by_ref().take(4) {
            match self.dial_address(address, url, config, node).await {
                Ok(link) => return Ok(link),
                Err(error) => failed = error,
            }
        }
        Err(failed)
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
