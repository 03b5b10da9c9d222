//! Certificates: what an authority vouches for is taken without a pin, an expired one is not.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::process::{Home, Process};

/// Writes an authority, and a certificate of its for localhost that is valid until `year`.
fn certificates(home: &Home, year: i32) -> String {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    leaf.not_before = date_time_ymd(2020, 1, 1);
    leaf.not_after = date_time_ymd(year, 1, 1);
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&authority, &authority_key)).unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    fs::write(path("authority.pem"), authority_certificate.pem()).unwrap();
    fs::write(path("cert.pem"), leaf.pem()).unwrap();
    fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let settings = format!("[relay]\ntls-cert = {:?}\ntls-key = {:?}\n", path("cert.pem"), path("key.pem"));
    fs::write(path("macula.toml"), settings).unwrap();
    path("authority.pem")
}

/// Publishes from another home, which knows nothing of the relay but its address.
fn publish_from_elsewhere(home: &Home, authority: &str, port: u16) -> crate::process::Finished {
    let elsewhere = Home::new();
    // The same realm, as if its key had been copied.
    fs::create_dir(elsewhere.path().join("realms")).unwrap();
    fs::copy(home.path().join("realms/local.dev.key"), elsewhere.path().join("realms/local.dev.key")).unwrap();
    let mut command = elsewhere.command(&["publish", "a.b", "x", "--node", &format!("quic://localhost:{port}")]);
    command.env("SSL_CERT_FILE", authority).env_remove("SSL_CERT_DIR");
    Process::start(command).wait()
}

#[test]
fn a_vouched_for_certificate_needs_no_pin() {
    let home = Home::new();
    let authority = certificates(&home, 2090);
    let relay = home.node(&["relay"]);
    publish_from_elsewhere(&home, &authority, relay.port()).succeeded();
    relay.stop();
}

#[test]
fn an_expired_certificate_is_refused() {
    let home = Home::new();
    let authority = certificates(&home, 2021);
    let relay = home.node(&["relay"]);
    publish_from_elsewhere(&home, &authority, relay.port()).failed(1, "certificate was refused");
    relay.stop();
}
