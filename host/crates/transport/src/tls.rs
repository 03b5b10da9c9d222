//! TLS: which certificate a relay shows, and which ones a dialler takes.
//!
//! A node's identity is its Ed25519 key, proved by the Hello over the TLS exporter. So where the address pins a node id,
//! any certificate will do: whoever sits in the middle cannot make the Hello verify. Without a pin, the certificate is
//! checked against the system's roots (WebPKI).

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// `MACULA_TLS_MODE`: which certificates are taken from a relay whose address has no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Those that the system's roots vouch for.
    #[default]
    Production,
    /// Any, on loopback only; elsewhere a pin is needed all the same.
    Development,
}

impl FromStr for TlsMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "production" => Ok(Self::Production),
            "development" => Ok(Self::Development),
            _ => Err(format!("{text:?} is no TLS mode (expected production or development)")),
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Development => "development",
        })
    }
}

/// What a relay shows.
#[derive(Debug, Clone)]
pub enum Certificate {
    /// Made by itself, ECDSA P-256, valid for 14 days (browsers take no longer ones by hash) and renewed while it runs.
    SelfSigned {
        /// Names and addresses to put in.
        names: Vec<String>,
    },
    /// From PEM files, read again when they change is the operator's restart.
    Files {
        /// Chain, leaf first.
        chain: PathBuf,
        /// PKCS#8, SEC1 or PKCS#1 key.
        key: PathBuf,
    },
}

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read or holds no PEM of the wanted kind.
    #[error("cannot read {path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// Chain and key do not fit each other, or the key's kind is not supported.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// Making one's own failed.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The one provider of cryptography that everything here names explicitly.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// How long a self-signed certificate is valid: what browsers accept for `serverCertificateHashes`.
const SELF_SIGNED_VALIDITY: Duration = Duration::from_secs(14 * 24 * 3600);
/// A new one is made when less than this is left.
const SELF_SIGNED_RENEWAL: Duration = Duration::from_secs(4 * 24 * 3600);
/// Tolerance for clocks that are behind.
const SELF_SIGNED_BACKDATE: Duration = Duration::from_secs(3600);

/// Gives rustls the certificate of the moment.
pub(crate) struct Resolver {
    source: Certificate,
    current: Mutex<(Arc<CertifiedKey>, SystemTime)>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) fn new(source: Certificate) -> Result<Self, CertificateError> {
        let current = Mutex::new(load(&source, SystemTime::now())?);
        Ok(Self { source, current })
    }

    fn current(&self, now: SystemTime) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if now > current.1 {
            // The old one still serves when no new one can be made.
            match load(&self.source, now) {
                Ok(renewed) => *current = renewed,
                Err(error) => tracing::error!(%error, "the certificate could not be renewed"),
            }
        }
        Arc::clone(&current.0)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current(SystemTime::now()))
    }
}

/// The certificate, and when to load again.
fn load(source: &Certificate, now: SystemTime) -> Result<(Arc<CertifiedKey>, SystemTime), CertificateError> {
    match source {
        Certificate::SelfSigned { names } => {
            let mut params = CertificateParams::new(names.clone())?;
            params.not_before = (now - SELF_SIGNED_BACKDATE).into();
            params.not_after = (now - SELF_SIGNED_BACKDATE + SELF_SIGNED_VALIDITY).into();
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let certificate = params.self_signed(&key)?;
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let certified = CertifiedKey::from_der(vec![certificate.der().clone()], key, &provider())?;
            Ok((Arc::new(certified), now + SELF_SIGNED_VALIDITY - SELF_SIGNED_RENEWAL))
        }
        Certificate::Files { chain, key } => {
            let file = |path: &Path| {
                let path = path.to_owned();
                move |error| CertificateError::File { path, error }
            };
            let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
                .map_err(file(chain))?
                .collect::<Result<_, _>>()
                .map_err(file(chain))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
            let certified = CertifiedKey::from_der(certificates, key, &provider())?;
            // Looked at again daily: certificates of public authorities are replaced by renewal tools.
            Ok((Arc::new(certified), now + Duration::from_secs(24 * 3600)))
        }
    }
}

/// The roots of the system, for addresses without a pin.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "a system certificate was skipped");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

/// Takes any certificate: the Hello proves the node, or the peer is on loopback in development mode.
#[derive(Debug)]
pub(crate) struct AnyCertificate(pub(crate) WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn self_signed_is_renewed_before_it_ends() {
        let start = SystemTime::now();
        let resolver = Resolver::new(Certificate::SelfSigned { names: vec!["localhost".into()] }).unwrap();
        let first = resolver.current(start);
        assert!(Arc::ptr_eq(&first, &resolver.current(start + Duration::from_secs(9 * 24 * 3600))));
        assert!(!Arc::ptr_eq(&first, &resolver.current(start + Duration::from_secs(11 * 24 * 3600))));
    }

    #[test]
    fn missing_files_are_named() {
        let files = Certificate::Files { chain: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() };
        let error = Resolver::new(files).unwrap_err().to_string();
        assert!(error.contains("/nowhere/cert.pem"), "{error}");
    }
}
