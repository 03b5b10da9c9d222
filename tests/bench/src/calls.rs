//! Calls through the relay.

use std::time::{Duration, Instant};

use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt};
use hdrhistogram::Histogram;
use macula_node::{Advertise, CallOptions};
use serde::{Deserialize, Serialize};

use crate::{
    process::{Party, Process, say, wait_for_end},
    table::Table,
};

const PROCEDURE: &str = "bench.echo";

#[derive(Args)]
pub(crate) struct Caller {
    #[arg(long)]
    calls: u64,
    #[arg(long)]
    depth: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Called {
    pub(crate) seconds: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

pub(crate) async fn provide(party: &Party) -> anyhow::Result<()> {
    let mesh = party.mesh().await?;
    let options = Advertise { in_flight_max: 65_536, ..Advertise::default() };
    let mut offer = mesh.advertise_with(PROCEDURE.parse()?, options).await?;
    tokio::spawn(async move {
        while let Some(call) = offer.next().await {
            let payload = call.request.payload.clone();
            call.responder.answer(Ok(payload));
        }
    });
    say(&"ready")?;
    wait_for_end().await;
    Ok(())
}

impl Caller {
    pub(crate) async fn run(self, party: &Party) -> anyhow::Result<()> {
        let mesh = party.mesh().await?;
        let (procedure, options, payload) = (PROCEDURE.parse()?, CallOptions::default(), [b'x'; 128]);
        let call = || async {
            let begin = Instant::now();
            let answer = mesh.call(&procedure, &payload, &options).await;
            answer.map(|_| begin.elapsed())
        };
        call().await?;
        let mut histogram: Histogram<u64> =
            Histogram::new_with_bounds(1, Duration::from_secs(10).as_nanos() as u64, 3)?;
        let mut under_way = FuturesUnordered::new();
        let begin = Instant::now();
        let mut started = 0;
        while started < self.calls.min(self.depth as u64) {
            under_way.push(call());
            started += 1;
        }
        while let Some(took) = under_way.next().await {
            histogram.saturating_record(took?.as_nanos() as u64);
            if started < self.calls {
                under_way.push(call());
                started += 1;
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        say(&Called { seconds, p50_us: us(0.5), p99_us: us(0.99) })?;
        mesh.close().await;
        Ok(())
    }
}

pub(crate) fn measure(rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    for (depth, calls) in [(1, 20_000_u64), (256, 1_000_000)] {
        let mut results = Vec::new();
        for _ in 0..rounds {
            let home = tempfile::tempdir()?;
            let mut relay = Process::start(home.path(), None, &["relay"])?;
            let url: String = relay.hear()?;
            let mut provider = Process::start(home.path(), Some(&url), &["provider"])?;
            let _: String = provider.hear()?;
            let (count, at_once) = (calls.to_string(), depth.to_string());
            let mut caller =
                Process::start(home.path(), Some(&url), &["caller", "--calls", &count, "--depth", &at_once])?;
            results.push(caller.hear::<Called>()?);
        }
        results.sort_by(|a, b| a.p50_us.total_cmp(&b.p50_us));
        let middle = &results[results.len() / 2];
        let latency = format!("p50 {:.0} µs, p99 {:.0} µs", middle.p50_us, middle.p99_us);
        table.add(
            format!("call, depth {depth}"),
            latency,
            if depth == 1 { "goal p50 180 µs, p99 1,000 µs" } else { "" },
        );
        let rates = results.iter().map(|result| calls as f64 / result.seconds).collect();
        table.add_rate(format!("calls, depth {depth}"), rates, if depth == 256 { "goal 250,000" } else { "" });
    }
    Ok(())
}
