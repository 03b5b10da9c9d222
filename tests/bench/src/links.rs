//! What an idle link costs at the relay, beside a bare WebTransport session.

use std::net::SocketAddr;

use clap::Args;

use crate::{
    process::{Party, Process, say, wait_for_end},
    table::Table,
};

/// Links of one measurement.
const LINKS: usize = 1000;

#[derive(Args)]
pub(crate) struct IdleLinks {
    #[arg(long)]
    links: usize,
}

impl IdleLinks {
    pub(crate) async fn run(self, party: &Party) -> anyhow::Result<()> {
        let mut open = Vec::new();
        for _ in 0..self.links {
            open.push(party.mesh().await?);
        }
        say(&"ready")?;
        wait_for_end().await;
        Ok(())
    }
}

pub(crate) async fn bare_server() -> anyhow::Result<()> {
    let certificate = rcgen_certificate()?;
    let mut server = web_transport_quinn::ServerBuilder::new()
        .with_addr(SocketAddr::from(([127, 0, 0, 1], 0)))
        .with_certificate(certificate.0, certificate.1)?;
    say(&server.local_addr()?)?;
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some(request) = server.accept().await {
            if let Ok(session) = request.ok().await {
                open.push(session);
            }
        }
    });
    wait_for_end().await;
    Ok(())
}

#[derive(Args)]
pub(crate) struct BareClient {
    #[arg(long)]
    links: usize,
    #[arg(long)]
    address: SocketAddr,
}

impl BareClient {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let client = web_transport_quinn::ClientBuilder::new().dangerous().with_no_certificate_verification()?;
        let url: url::Url = format!("https://{}/mesh/1", self.address).parse()?;
        let mut open = Vec::new();
        for _ in 0..self.links {
            open.push(client.connect(url.clone()).await?);
        }
        say(&"ready")?;
        wait_for_end().await;
        Ok(())
    }
}

type Certificate = (Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

fn rcgen_certificate() -> anyhow::Result<Certificate> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}

pub(crate) fn measure(table: &mut Table) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let links = LINKS.to_string();
    let mut relay = Process::start(home.path(), None, &["relay"])?;
    let url: String = relay.hear()?;
    let before = relay.resident_bytes()?;
    let mut idle = Process::start(home.path(), Some(&url), &["idle-links", "--links", &links])?;
    let _: String = idle.hear()?;
    let ours = (relay.resident_bytes()? - before) as f64 / LINKS as f64;

    let mut server = Process::start(home.path(), None, &["bare-server"])?;
    let address: String = server.hear()?;
    let before = server.resident_bytes()?;
    let mut client = Process::start(home.path(), None, &["bare-client", "--links", &links, "--address", &address])?;
    let _: String = client.hear()?;
    let bare = (server.resident_bytes()? - before) as f64 / LINKS as f64;
    let figure = format!("{:.1} KiB, bare session {:.1} KiB: {:.2}×", ours / 1024.0, bare / 1024.0, ours / bare);
    table.add(format!("idle link at the relay, {LINKS} links"), figure, "goal 1.25×");
    Ok(())
}
