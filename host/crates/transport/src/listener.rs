//! Accepting links.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use macula_wire::{hello::Side, limits::HELLO_TIMEOUT};
use quinn::crypto::rustls::QuicServerConfig;
use tokio::time::timeout;

use crate::{
    endpoint::{self, EndpointConfig},
    link::{Link, LinkError, LocalNode, PATH},
    reset,
    tls::{self, Certificate, CertificateError, Resolver},
};

/// Handshakes and Hellos under way before new ones have to prove their address first (QUIC Retry).
const UNVERIFIED_BEFORE_RETRY: usize = 64;
/// Handshakes and Hellos under way at most; more are refused.
const UNVERIFIED_MAX: usize = 1024;

/// An open UDP port that takes links.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    unverified: Arc<AtomicUsize>,
}

/// Why a port could not be opened. Nothing is left open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The socket.
    #[error("cannot listen on {address} (UDP): {error}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why, for example “Address already in use”.
        error: io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A connection attempt whose peer has proved nothing yet.
#[derive(Debug)]
pub struct Handshake {
    incoming: quinn::Incoming,
    _unverified: Unverified,
}

#[derive(Debug)]
struct Unverified(Arc<AtomicUsize>);

impl Drop for Unverified {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listener {
    /// Opens a port; `:0` picks one. Must be called within a tokio runtime, which then drives all its links. The node's
    /// key makes a restarted listener known to peers of the former one, so that they dial again at once.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(
        address: SocketAddr,
        certificate: Certificate,
        config: &EndpointConfig,
        node: &LocalNode,
    ) -> Result<Self, BindError> {
        let resolver = Resolver::new(certificate)?;
        let mut crypto = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(CertificateError::from)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        crypto.alpn_protocols = vec![web_transport_quinn::ALPN.as_bytes().to_vec()];
        let crypto = QuicServerConfig::try_from(crypto).expect("TLS 1.3 with AES-128-GCM is enabled");
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(config.transport());
        let refused = |error| BindError::Socket { address, error };
        let socket = endpoint::socket(address).map_err(refused)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint =
            quinn::Endpoint::new(reset::endpoint_config(&node.key), Some(server), socket, runtime).map_err(refused)?;
        Ok(Self { endpoint, unverified: Arc::default() })
    }

    /// What was bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next attempt, to be completed apart from accepting further ones; `None` after [`Listener::close`].
    ///
    /// Under load, attempts are made to prove their address, and beyond a bound they are refused.
    pub async fn accept(&self) -> Option<Handshake> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let unverified = self.unverified.load(Ordering::Relaxed);
            if unverified >= UNVERIFIED_MAX {
                incoming.refuse();
            } else if unverified >= UNVERIFIED_BEFORE_RETRY
                && incoming.may_retry()
                && !incoming.remote_address_validated()
            {
                // The attempt has just been found not to be validated, so it can be.
                let _ = incoming.retry();
            } else {
                self.unverified.fetch_add(1, Ordering::Relaxed);
                return Some(Handshake { incoming, _unverified: Unverified(Arc::clone(&self.unverified)) });
            }
        }
    }

    /// Takes no further attempts and closes all links.
    pub fn close(&self, reason: &str) {
        self.endpoint.close(0u32.into(), reason.as_bytes());
    }

    /// Waits until the peers of all closed links know.
    pub async fn drained(&self) {
        self.endpoint.wait_idle().await;
    }
}

impl Handshake {
    /// Where the attempt comes from.
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Completes TLS, HTTP/3, WebTransport and the Hello exchange, within 5 s.
    ///
    /// # Errors
    /// The peer is none of ours; its connection is closed.
    pub async fn complete(self, node: &LocalNode) -> Result<Link, LinkError> {
        let complete = async {
            let connection = self.incoming.accept()?.await?;
            let request = web_transport_quinn::Request::accept(connection).await?;
            if request.url.path() != PATH {
                let path = request.url.path().to_owned();
                request.reject(web_transport_quinn::http::StatusCode::NOT_FOUND).await?;
                return Err(LinkError::Path(path));
            }
            let session = request.ok().await?;
            Link::establish(session, Side::Listener, node, None).await
        };
        timeout(HELLO_TIMEOUT, complete).await.unwrap_or(Err(LinkError::Slow))
    }
}
