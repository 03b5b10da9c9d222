//! Relays that are known by their certificate instead of a pin (WebPKI).

use std::{sync::Arc, time::Duration};

use macula_node::{Certificate, RelayServer, RelayUrl, TlsMode};
use macula_transport::{DialError, Dialler, EndpointConfig, Link, LocalNode};
use macula_wire::hello::Role;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::{key, relay_config, soon};

/// A certification authority of our own.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: tempfile::TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, files: tempfile::tempdir().unwrap() }
    }

    /// A relay with a certificate for this name that ends at this time from now, in seconds.
    fn relay(&self, name: &str, ends: i64) -> RelayServer {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let now = std::time::SystemTime::now();
        params.not_before = (now - Duration::from_secs(24 * 3600)).into();
        let end = if ends < 0 {
            now - Duration::from_secs(ends.unsigned_abs())
        } else {
            now + Duration::from_secs(ends as u64)
        };
        params.not_after = end.into();
        let pair = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&pair, &self.issuer).unwrap();
        let (chain, secret) = (self.files.path().join("chain.pem"), self.files.path().join("key.pem"));
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&secret, pair.serialize_pem()).unwrap();
        let mut config = relay_config(100, 0);
        config.certificate = Certificate::Files { chain, key: secret };
        RelayServer::start(config).unwrap()
    }

    async fn dial(&self, relay: &RelayServer, host: &str) -> Result<Link, DialError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let dialler = Dialler::with_roots(TlsMode::Production, &EndpointConfig::default(), roots);
        let url: RelayUrl = format!("quic://{host}:{}", relay.address().port()).parse().unwrap();
        let node = LocalNode { key: key(1), role: Role::Host, epoch: 1 };
        let link = soon(dialler.dial(&url, &node)).await;
        // The endpoint has to outlive the link.
        std::mem::forget(Arc::new(dialler));
        link
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_known_authority_is_taken() {
    let authority = Authority::new("ours");
    let relay = authority.relay("127.0.0.1", 3600);
    let link = authority.dial(&relay, "127.0.0.1").await.unwrap();
    assert_eq!(link.peer().node, relay.node());
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_foreign_and_misnamed_certificates_are_refused_for_good() {
    let (authority, foreign) = (Authority::new("ours"), Authority::new("theirs"));
    for (relay, what) in [
        (authority.relay("127.0.0.1", -60), "xpired"),
        (foreign.relay("127.0.0.1", 3600), "UnknownIssuer"),
        (authority.relay("relay.example", 3600), "not valid for name"),
    ] {
        let error = authority.dial(&relay, "127.0.0.1").await.expect_err("refused");
        assert!(!error.is_transient(), "trying again does not help: {error}");
        let text = error.to_string();
        assert!(text.contains("certificate was refused") && text.contains(what), "{text}");
    }
}
