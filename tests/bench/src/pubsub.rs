//! Messages through the relay.

use std::{collections::VecDeque, time::Instant};

use clap::Args;
use macula_node::{
    Subscribe,
    wire::{Pattern, Topic, WhenFull},
};
use serde::{Deserialize, Serialize};

use crate::{
    process::{Party, Process, say, wait_for_end},
    table::{Table, grouped},
};

/// Messages between two confirmations, and confirmations under way: what the publisher may be ahead of the relay.
const BATCH: u64 = 1000;
const UNDER_WAY: usize = 8;

#[derive(Args)]
pub(crate) struct Publisher {
    #[arg(long, default_value = "bench.data")]
    topic: Topic,
    #[arg(long)]
    messages: u64,
    #[arg(long)]
    bytes: usize,
}

impl Publisher {
    pub(crate) async fn run(self, party: &Party) -> anyhow::Result<()> {
        let mesh = party.mesh().await?;
        let mut publisher = mesh.publisher(&self.topic, &"".parse()?);
        let payload = vec![b'x'; self.bytes];
        let mut under_way = VecDeque::new();
        for n in 0..self.messages {
            publisher.publish(&payload).await?;
            if n % BATCH == BATCH - 1 {
                under_way.push_back(publisher.confirm()?);
                if under_way.len() > UNDER_WAY
                    && let Some(oldest) = under_way.pop_front()
                {
                    oldest.wait().await?;
                }
            }
        }
        mesh.flush().await?;
        mesh.close().await;
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Subscriber {
    #[arg(long, default_value = "bench.data")]
    topic: Pattern,
    #[arg(long)]
    messages: u64,
    #[arg(long)]
    links: usize,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) messages: u64,
    bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) dropped: u64,
}

impl Subscriber {
    pub(crate) async fn run(self, party: &Party) -> anyhow::Result<()> {
        let tasks =
            futures::future::try_join_all((0..self.links).map(|_| receive(party, &self.topic, self.messages))).await?;
        say(&"ready")?;
        let received: Vec<Received> =
            futures::future::try_join_all(tasks.into_iter().map(|task| async move { task.await? })).await?;
        let all = Received {
            messages: received.iter().map(|r| r.messages).sum(),
            bytes: received.iter().map(|r| r.bytes).sum(),
            seconds: received.iter().map(|r| r.seconds).fold(0.0, f64::max),
            dropped: received.iter().map(|r| r.dropped).sum(),
        };
        say(&all)?;
        wait_for_end().await;
        Ok(())
    }
}

async fn receive(
    party: &Party,
    topic: &Pattern,
    messages: u64,
) -> anyhow::Result<tokio::task::JoinHandle<anyhow::Result<Received>>> {
    let mesh = party.mesh().await?;
    let options = Subscribe { when_full: WhenFull::Block, queue_messages: 65_536, retained: false };
    let mut subscription = mesh.subscribe_with(topic.clone(), options).await?;
    Ok(tokio::spawn(async move {
        let mut begin = None;
        let (mut count, mut bytes) = (0, 0);
        while count + subscription.stats().dropped < messages {
            let Some(message) = subscription.next().await else { break };
            begin.get_or_insert_with(Instant::now);
            count += 1;
            bytes += message.payload.len() as u64;
            // Counting drops takes a lock; within a batch there is no need.
            while count < messages {
                let Some(message) = subscription.try_next() else { break };
                count += 1;
                bytes += message.payload.len() as u64;
            }
        }
        let seconds = begin.map_or(0.0, |begin| begin.elapsed().as_secs_f64());
        let dropped = subscription.stats().dropped;
        mesh.close().await;
        Ok(Received { messages: count, bytes, seconds, dropped })
    }))
}

pub(crate) fn measure(rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    for (links, messages, goal) in [(1, 6_000_000, "goal 1,500,000"), (16, 800_000, "goal 3,500,000")] {
        let (mut rates, mut relay_ns, mut allocations, mut dropped) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for _ in 0..rounds {
            let home = tempfile::tempdir()?;
            let mut relay = Process::start(home.path(), None, &["relay"])?;
            let url: String = relay.hear()?;
            let count = messages.to_string();
            let fan = ["subscriber", "--messages", &count, "--links", &links.to_string()];
            let mut subscriber = Process::start(home.path(), Some(&url), &fan)?;
            let _: String = subscriber.hear()?;
            let before = relay.cpu_seconds()?;
            let allocated: u64 = relay.ask()?;
            let _publisher =
                Process::start(home.path(), Some(&url), &["publisher", "--messages", &count, "--bytes", "128"])?;
            let received: Received = subscriber.hear()?;
            relay_ns.push((relay.cpu_seconds()? - before) * 1e9 / received.messages as f64);
            allocations.push((relay.ask::<u64>()? - allocated) as f64 / received.messages as f64);
            rates.push(received.messages as f64 / received.seconds);
            dropped += received.dropped;
        }
        table.add_rate(format!("1→{links}, 128 B, deliveries"), rates, goal);
        relay_ns.sort_by(f64::total_cmp);
        allocations.sort_by(f64::total_cmp);
        let relay_ns = grouped(relay_ns[relay_ns.len() / 2]);
        let allocations = allocations[allocations.len() / 2];
        let figure =
            format!("{relay_ns} ns and {allocations:.3} allocations (QUIC's included) a delivery, {dropped} dropped");
        table.add(format!("1→{links}, the relay's share"), figure, "");
    }
    Ok(())
}
