//! A plugin that publishes back: publisher → relay → host → handler → relay → subscriber.

use std::{path::Path, process::Command};

use crate::{
    process::Process,
    pubsub::Received,
    table::{Table, grouped},
};
use anyhow::{Context, bail};

/// Messages of one round.
const MESSAGES: u64 = 1_000_000;

pub(crate) fn measure(rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    let binary = std::env::current_exe()?.with_file_name("macula-host");
    if !binary.is_file() {
        bail!("{} is not there; build it with: cargo build --release -p macula-host", binary.display());
    }
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/prebuilt/echo.wasm");
    let (mut rates, mut host_ns, mut dropped) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let home = tempfile::tempdir()?;
        let mut relay = Process::start(home.path(), None, &["relay"])?;
        let url: String = relay.hear()?;
        let mut run = Command::new(&binary);
        run.arg("run").arg(&component).args(["--relay", &url, "--health", "127.0.0.1:0", "--json"]);
        let mut host = Process::spawn(run.env("MACULA_HOME", home.path()).env("RUST_LOG", "error"))?;
        let _: serde_json::Value = host.hear().context("the host")?;
        let count = MESSAGES.to_string();
        let listen = ["subscriber", "--topic", "bench.out", "--messages", &count, "--links", "1"];
        let mut subscriber = Process::start(home.path(), Some(&url), &listen)?;
        let _: String = subscriber.hear()?;
        let before = host.cpu_seconds()?;
        let publish = ["publisher", "--topic", "bench.in", "--messages", &count, "--bytes", "128"];
        let _publisher = Process::start(home.path(), Some(&url), &publish)?;
        let received: Received = subscriber.hear()?;
        host_ns.push((host.cpu_seconds()? - before) * 1e9 / received.messages as f64);
        rates.push(received.messages as f64 / received.seconds);
        dropped += received.dropped;
    }
    table.add_rate("through a plugin that publishes back", rates, "goal 300,000");
    host_ns.sort_by(f64::total_cmp);
    let host_ns = grouped(host_ns[host_ns.len() / 2]);
    table.add("the host's processor time", format!("{host_ns} ns a message, {dropped} dropped"), "");
    Ok(())
}
