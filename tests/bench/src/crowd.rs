//! A thousand plugins on one host: how long it takes to start them, what they cost while they do nothing, and what one that
//! never rests costs the others.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use hdrhistogram::Histogram;
use macula_node::{CallOptions, Mesh, wire::CallError};
use serde::{Deserialize, Serialize};

use crate::{
    component::variant,
    host::Host,
    process::{Party, Process, say},
    table::Table,
};

const PLUGINS: u32 = 1000;
/// When idle plugins give their memory back.
const EVICT_AFTER_S: u64 = 5;
/// Calls of one round, to one plugin after another.
const CALLS: u32 = 10_000;
/// What the noisy one is told, again and again: to run for four seconds without a pause.
const NOISE: &[u8] = b"spin 4000";

#[derive(Args)]
pub(crate) struct Caller {
    #[arg(long)]
    plugins: u32,
}

/// Latencies of calls, in microseconds.
#[derive(Serialize, Deserialize)]
struct Called {
    calm: [u64; 2],
    noisy: [u64; 2],
}

impl Caller {
    pub(crate) async fn run(self, party: &Party) -> anyhow::Result<()> {
        let mesh = party.mesh().await?;
        self.round(&mesh).await?;
        let calm = self.round(&mesh).await?;
        let noise = tokio::spawn({
            let mesh = mesh.clone();
            async move { make_noise(&mesh).await }
        });
        let noisy = self.round(&mesh).await?;
        if noise.is_finished() {
            bail!("there was no noise: {:?}", noise.await?);
        }
        noise.abort();
        say(&Called { calm, noisy })?;
        Ok(())
    }

    /// One call after another; the median and the 99th percentile.
    async fn round(&self, mesh: &Mesh) -> anyhow::Result<[u64; 2]> {
        let options = CallOptions::default();
        let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
        for number in 0..CALLS {
            // A number that has no factor in common with theirs leads to all of them, in no order that a cache would know.
            let procedure = format!("crowd.p{}", u64::from(number) * 7919 % u64::from(self.plugins)).parse()?;
            let begin = Instant::now();
            mesh.call(&procedure, b"handled", &options).await?;
            latencies.saturating_record(begin.elapsed().as_micros() as u64);
        }
        Ok([latencies.value_at_quantile(0.5), latencies.value_at_quantile(0.99)])
    }
}

/// Keeps the noisy one busy; why it could not.
async fn make_noise(mesh: &Mesh) -> CallError {
    let options = CallOptions { timeout: Duration::from_secs(60), ..CallOptions::default() };
    let procedure = "crowd.noisy".parse().expect("a constant of the grammar");
    loop {
        if let Err(error) = mesh.call(&procedure, NOISE, &options).await {
            return error;
        }
    }
}

/// Writes a plugin that does what it is told.
fn write(folder: &Path, name: &str, component: &[u8]) -> anyhow::Result<PathBuf> {
    let file = folder.join(format!("{name}.wasm"));
    std::fs::write(&file, component)?;
    let manifest = format!(
        "advertise = [\"crowd.{name}\"]\n[limits]\nevict-after-s = {EVICT_AFTER_S}\n\
         [[procedures]]\nprocedure = \"crowd.{name}\"\n"
    );
    std::fs::write(folder.join(format!("{name}.toml")), manifest)?;
    Ok(file)
}

pub(crate) fn measure(table: &mut Table) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let probe =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host/crates/runtime/tests/probe.wasm"))?;
    let mut files = vec![write(home.path(), "noisy", &variant(&probe, PLUGINS))?];
    for number in 0..PLUGINS {
        files.push(write(home.path(), &format!("p{number}"), &variant(&probe, number))?);
    }
    let mut relay = Process::start(home.path(), None, &["relay"])?;
    let url: String = relay.hear()?;
    let start = || -> anyhow::Result<(Host, Duration)> {
        let begin = Instant::now();
        Ok((Host::start(home.path(), &url, &files)?, begin.elapsed()))
    };
    let (host, compiled) = start()?;
    drop(host);
    let (host, cached) = start()?;
    let (anonymous, resident) = (host.anonymous_bytes()?, host.resident_bytes()?);
    let figure = format!("{:.2} s; all compiled first: {:.1} s", cached.as_secs_f64(), compiled.as_secs_f64());
    table.add(format!("{PLUGINS} plugins, from the cache until all are ready"), figure, "goal 5 s");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    // Each has native code of its own, which is mapped from its file.
    let figure =
        format!("{:.0} MiB, {:.0} with the pages of native code that are mapped", mib(anonymous), mib(resident));
    table.add(format!("memory of a host with {PLUGINS} idle plugins"), figure, "goal 300 MB");
    let plugins = PLUGINS.to_string();
    let mut caller = Process::start(home.path(), Some(&url), &["crowd-caller", "--plugins", &plugins])?;
    let Called { calm, noisy } = caller.hear()?;
    let figure = format!(
        "p50 {} → {} µs, p99 {} → {} µs (+{:.2} ms)",
        calm[0],
        noisy[0],
        calm[1],
        noisy[1],
        (noisy[1] as f64 - calm[1] as f64) / 1000.0
    );
    table.add("calls to them while one more never rests", figure, "goal p99 +2 ms");
    drop(caller);
    host.wait_until("macula_plugin_evicted", f64::from(PLUGINS + 1), Duration::from_secs(10 * EVICT_AFTER_S))?;
    let figure =
        format!("{:.0} MiB, {:.0} with native code", mib(host.anonymous_bytes()?), mib(host.resident_bytes()?));
    table.add("… and when they have been evicted", figure, "");
    drop(host);
    Ok(())
}
