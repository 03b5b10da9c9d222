//! Content through the relay: 1 GiB, verified, from memory to nowhere; so it is the mesh that is measured and no disk.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use macula_node::{
    ContentBytes, ContentSink, ContentSource, FetchOptions,
    content::{GROUP_BYTES, Geometry, GroupSet, Node, OutboardBuilder, Parent},
    wire::{Fault, Mcid},
};
use serde::{Deserialize, Serialize};

use crate::{
    process::{Party, Process, say, wait_for_end},
    table::Table,
};

const BYTES: u64 = 1 << 30;

/// A group of the content: its number, over and over.
fn fill(group: u64, into: &mut Vec<u8>) {
    let bytes = Geometry::of(BYTES).group_bytes(group) as usize;
    into.reserve(bytes);
    for _ in 0..bytes / 8 {
        into.extend_from_slice(&group.to_le_bytes());
    }
}

#[derive(Args)]
pub(crate) struct Provider {
    /// Spoil every group.
    #[arg(long)]
    corrupt: bool,
}

/// Content that is made as it is read.
struct Made {
    mcid: Mcid,
    parents: Vec<[u8; 64]>,
    is_corrupt: bool,
}

#[derive(Clone)]
struct Source(Arc<Made>);

impl ContentSource for Source {
    fn open(&self, content: &Mcid) -> Option<Box<dyn ContentBytes>> {
        (self.0.mcid == *content).then(|| Box::new(self.clone()) as Box<dyn ContentBytes>)
    }
}

impl ContentBytes for Source {
    fn size(&self) -> u64 {
        BYTES
    }

    fn groups(&self) -> Option<GroupSet> {
        None
    }

    fn parent(&mut self, index: u64) -> io::Result<[u8; 64]> {
        Ok(self.0.parents[index as usize])
    }

    fn group(&mut self, group: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let begin = into.len();
        fill(group, into);
        into[begin] ^= u8::from(self.0.is_corrupt);
        Ok(())
    }

    fn damaged(&mut self, _node: Node) {}
}

impl Provider {
    pub(crate) async fn run(self, party: &Party) -> anyhow::Result<()> {
        provide(party, self.corrupt).await
    }
}

async fn provide(party: &Party, is_corrupt: bool) -> anyhow::Result<()> {
    let mut builder = OutboardBuilder::new();
    let mut parents = vec![[0; 64]; Geometry::of(BYTES).parents() as usize];
    let mut piece = Vec::new();
    for group in 0..BYTES / GROUP_BYTES {
        piece.clear();
        fill(group, &mut piece);
        builder.push(&piece);
        builder.take_parents().iter().for_each(|parent| parents[parent.index as usize] = parent.pair);
    }
    let finished = builder.finish();
    finished.parents.iter().for_each(|parent| parents[parent.index as usize] = parent.pair);
    let mcid = finished.mcid();
    let mesh = party.mesh().await?;
    mesh.set_content_source(Arc::new(Source(Arc::new(Made { mcid: mcid.clone(), parents, is_corrupt }))));
    mesh.provide(std::slice::from_ref(&mcid));
    // When this is answered, what was said before is known.
    mesh.retained(&"bench.ready".parse()?).await?;
    say(&mcid)?;
    wait_for_end().await;
    Ok(())
}

#[derive(Args)]
pub(crate) struct Fetcher {
    #[arg(long)]
    content: Mcid,
}

/// Takes what comes; all of it has been verified.
struct Nowhere;

impl ContentSink for Nowhere {
    fn set_size(&mut self, _size: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn write_parent(&mut self, _parent: &Parent) -> Result<(), Fault> {
        Ok(())
    }

    fn write_group(&mut self, _group: u64, _bytes: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn write_whole(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Fetched {
    pub(crate) seconds: f64,
}

impl Fetcher {
    pub(crate) async fn run(self, party: &Party) -> anyhow::Result<()> {
        let mesh = party.mesh().await?;
        let options = FetchOptions { size: None, have: GroupSet::new(), patience: Duration::from_secs(10) };
        let begin = Instant::now();
        mesh.fetch(&self.content, Box::new(Nowhere), options).finish().await?;
        say(&Fetched { seconds: begin.elapsed().as_secs_f64() })?;
        wait_for_end().await;
        Ok(())
    }
}

pub(crate) fn measure(rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    let mut rates = Vec::new();
    let mut resident = 0;
    for _ in 0..rounds {
        let home = tempfile::tempdir()?;
        let mut relay = Process::start(home.path(), None, &["relay"])?;
        let url: String = relay.hear()?;
        let mut provider = Process::start(home.path(), Some(&url), &["content-provider"])?;
        let content: String = provider.hear()?;
        let mut fetcher = Process::start(home.path(), Some(&url), &["fetcher", "--content", &content])?;
        let fetched: Fetched = fetcher.hear()?;
        rates.push(BYTES as f64 / fetched.seconds / 1e6);
        resident = resident.max(fetcher.resident_bytes()?).max(relay.resident_bytes()?);
    }
    rates.sort_by(f64::total_cmp);
    let figure = format!("{:.0} MB/s ({:.0} – {:.0})", rates[rates.len() / 2], rates[0], rates[rates.len() - 1]);
    table.add("content, 1 GiB through the relay, verified", figure, "goal 300 MB/s");
    table.add(
        "  resident at the end, relay or fetcher",
        format!("{:.0} MiB", resident as f64 / f64::from(1 << 20)),
        "",
    );
    Ok(())
}
