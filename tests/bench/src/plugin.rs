//! A plugin that gives back what it gets. Messages: publisher → relay → host → handler → relay → subscriber. Calls: caller →
//! relay → host → handler, and back.

use crate::{
    calls::Called,
    host::{Host, prebuilt},
    process::Process,
    pubsub::Received,
    table::{Table, grouped},
};

/// Messages of one round.
const MESSAGES: u64 = 1_000_000;

pub(crate) fn measure(rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    messages(rounds, table)?;
    for (depth, calls) in [(1, 20_000), (64, 200_000)] {
        self::calls(rounds, depth, calls, table)?;
    }
    Ok(())
}

fn messages(rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    let (mut rates, mut host_ns, mut dropped) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let home = tempfile::tempdir()?;
        let mut relay = Process::start(home.path(), None, &["relay"])?;
        let url: String = relay.hear()?;
        let host = Host::start(home.path(), &url, [prebuilt("echo")])?;
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

fn calls(rounds: usize, depth: u32, calls: u64, table: &mut Table) -> anyhow::Result<()> {
    let mut results = Vec::new();
    for _ in 0..rounds {
        let home = tempfile::tempdir()?;
        let mut relay = Process::start(home.path(), None, &["relay"])?;
        let url: String = relay.hear()?;
        let host = Host::start(home.path(), &url, [prebuilt("echo")])?;
        let before = host.cpu_seconds()?;
        let (count, at_once) = (calls.to_string(), depth.to_string());
        let ask = ["caller", "--calls", &count, "--depth", &at_once];
        let mut caller = Process::start(home.path(), Some(&url), &ask)?;
        let called: Called = caller.hear()?;
        results.push((called, (host.cpu_seconds()? - before) * 1e6 / calls as f64));
    }
    results.sort_by(|(a, _), (b, _)| a.p50_us.total_cmp(&b.p50_us));
    let (middle, host_us) = &results[results.len() / 2];
    let figure =
        format!("p50 {:.0} µs, p99 {:.0} µs; {host_us:.1} µs of the host's time each", middle.p50_us, middle.p99_us);
    table.add(format!("call of a plugin, {depth} at once"), figure, "");
    let rates = results.iter().map(|(called, _)| calls as f64 / called.seconds).collect();
    table.add_rate(format!("calls of a plugin, {depth} at once"), rates, "");
    Ok(())
}
