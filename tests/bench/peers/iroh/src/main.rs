//! One blob over one direct connection of iroh-blobs, over loopback.
//!
//! `iroh-peer send FILE` prints a ticket and serves the file from its store on disk; `iroh-peer nowhere TICKET` fetches it,
//! verified, and keeps nothing; `iroh-peer disk TICKET FOLDER` fetches it into a store there. Both print MB/s.

use std::time::Instant;

use anyhow::{Context, bail};
use iroh::{Endpoint, RelayMode, endpoint::presets, protocol::Router};
use iroh_blobs::{BlobsProtocol, get::request::GetBlobItem, store::fs::FsStore, ticket::BlobTicket};
use n0_future::StreamExt;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let endpoint = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).bind().await?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send", file] => {
            let folder = std::env::temp_dir().join(format!("iroh-peer-{}", std::process::id()));
            let store = FsStore::load(&folder).await?;
            let tag = store.blobs().add_path(std::path::absolute(file)?).await?;
            println!("{}", BlobTicket::new(endpoint.addr(), tag.hash, tag.format));
            let router = Router::builder(endpoint).accept(iroh_blobs::ALPN, BlobsProtocol::new(&store, None)).spawn();
            tokio::signal::ctrl_c().await?;
            router.shutdown().await?;
            std::fs::remove_dir_all(folder)?;
        }
        ["nowhere", ticket] => {
            let ticket: BlobTicket = ticket.parse()?;
            let connection = endpoint.connect(ticket.addr().clone(), iroh_blobs::ALPN).await?;
            let begin = Instant::now();
            let mut items = iroh_blobs::get::request::get_blob(connection, ticket.hash());
            loop {
                match items.next().await.context("the stream ended")? {
                    GetBlobItem::Item(_) => {}
                    GetBlobItem::Done(stats) => {
                        let seconds = begin.elapsed().as_secs_f64();
                        println!("{:.0} MB/s", stats.payload_bytes_read as f64 / seconds / 1e6);
                        break;
                    }
                    GetBlobItem::Error(error) => bail!("{error}"),
                }
            }
            endpoint.close().await;
        }
        ["disk", ticket, folder] => {
            let ticket: BlobTicket = ticket.parse()?;
            let store = FsStore::load(folder).await?;
            let connection = endpoint.connect(ticket.addr().clone(), iroh_blobs::ALPN).await?;
            let begin = Instant::now();
            let stats = store.remote().fetch(connection, ticket.hash_and_format()).await?;
            let seconds = begin.elapsed().as_secs_f64();
            println!("{:.0} MB/s", stats.payload_bytes_read as f64 / seconds / 1e6);
            endpoint.close().await;
            store.shutdown().await?;
        }
        _ => bail!("send FILE | nowhere TICKET | disk TICKET FOLDER"),
    }
    Ok(())
}
