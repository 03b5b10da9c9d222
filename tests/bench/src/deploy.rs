//! Deployment: from the record handed in until the version runs, and what swaps cost those who send messages meanwhile.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use hdrhistogram::Histogram;
use macula_node::{
    CallOptions, ContentBytes, ContentSource, Mesh, Subscribe, Subscription,
    auth::{Slot, Validity},
    content::{Geometry, GroupSet, Node, OutboardBuilder, Parent},
    deploy::{Deployment, Held, Rollout, RolloutState},
    wire::{ContentType, Mcid, Operation, WhenFull},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    component::variant,
    host::{Host, prebuilt},
    process::{Party, Process, say},
    table::Table,
};

const SLOT: &str = "bench/echo";
/// Deployments of one kind of start.
const DEPLOYMENTS: usize = 30;
/// Swaps under load.
const SWAPS: usize = 1000;
/// How long it is listened without any.
const CALM: Duration = Duration::from_secs(10);
/// Messages in a second, in steps of a millisecond.
const RATE: u64 = 50_000;

#[derive(Args)]
pub(crate) struct Deployer {
    #[arg(long)]
    component: PathBuf,
}

/// What was measured. Times in microseconds.
#[derive(Serialize, Deserialize)]
struct Measured {
    cold: Vec<u64>,
    cached: Vec<u64>,
    swap: Vec<u64>,
    calm: Latencies,
    swapping: Latencies,
}

#[derive(Serialize, Deserialize)]
struct Latencies {
    sent: u64,
    lost: u64,
    repeated: u64,
    reordered: u64,
    p50: u64,
    p99: u64,
    max: u64,
    seconds: f64,
}

/// Components in memory.
#[derive(Default)]
struct Shelf(Mutex<Vec<Arc<Component>>>);

struct Component {
    mcid: Mcid,
    bytes: Vec<u8>,
    parents: Vec<[u8; 64]>,
}

impl Component {
    /// See [`variant`].
    fn variant(bytes: &[u8], number: u32) -> Self {
        let bytes = variant(bytes, number);
        let mut builder = OutboardBuilder::new();
        builder.push(&bytes);
        let mut found: Vec<Parent> = builder.take_parents();
        let mut finished = builder.finish();
        found.append(&mut finished.parents);
        let mut parents = vec![[0; 64]; Geometry::of(bytes.len() as u64).parents() as usize];
        found.iter().for_each(|parent| parents[parent.index as usize] = parent.pair);
        Self { mcid: finished.mcid(), bytes, parents }
    }
}

impl ContentSource for Shelf {
    fn open(&self, content: &Mcid) -> Option<Box<dyn ContentBytes>> {
        let components = self.0.lock();
        let found = components.iter().find(|component| component.mcid == *content)?;
        Some(Box::new(Opened(Arc::clone(found))))
    }
}

struct Opened(Arc<Component>);

impl ContentBytes for Opened {
    fn size(&self) -> u64 {
        self.0.bytes.len() as u64
    }

    fn groups(&self) -> Option<GroupSet> {
        None
    }

    fn parent(&mut self, index: u64) -> io::Result<[u8; 64]> {
        Ok(self.0.parents[index as usize])
    }

    fn group(&mut self, group: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let range = Geometry::of(self.size()).bytes(group);
        into.extend(&self.0.bytes[range.start as usize..range.end as usize]);
        Ok(())
    }

    fn damaged(&mut self, _node: Node) {}
}

/// Hands in records, and hears how far the host is.
struct Desk {
    mesh: Mesh,
    slot: Slot,
    seq: u64,
    shelf: Arc<Shelf>,
    rollouts: Subscription,
}

impl Desk {
    async fn new(party: &Party) -> anyhow::Result<Self> {
        let (mesh, slot) = (party.mesh().await?, SLOT.parse::<Slot>()?);
        let pattern = slot.rollout_pattern().context("a short slot")?;
        let rollouts = mesh.subscribe_with(pattern, Subscribe::default()).await?;
        let shelf: Arc<Shelf> = Arc::default();
        mesh.set_content_source(Arc::clone(&shelf) as Arc<dyn ContentSource>);
        Ok(Self { mesh, slot, seq: 0, shelf, rollouts })
    }

    /// Puts a component where the host finds it.
    async fn offer(&self, component: Component) -> anyhow::Result<Mcid> {
        let mcid = component.mcid.clone();
        self.shelf.0.lock().push(Arc::new(component));
        self.mesh.provide(std::slice::from_ref(&mcid));
        // When this is answered, what was said before is known.
        self.mesh.retained(&"bench.ready".parse()?).await?;
        Ok(mcid)
    }

    /// Deploys, and waits until the version runs; how long that took.
    async fn deploy(&mut self, mcid: &Mcid) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        self.seq += 1;
        let deployment = Deployment {
            slot: self.slot.clone(),
            realm: self.mesh.realm().clone(),
            seq: self.seq,
            prev: None,
            held: Held { mcid: mcid.clone(), manifest: None },
            before: None,
            canary: None,
            drop_state: false,
        };
        let topic = self.slot.topic();
        let record = self.mesh.sign_record(Operation::Deploy, &topic, deployment.to_arguments()?, Validity::Now)?;
        let record = data_encoding::BASE64.encode(&record);
        let asked = serde_json::json!({ "do": "deploy", "slot": SLOT, "record": record });
        let options = CallOptions { timeout: Duration::from_secs(60), ..CallOptions::default() };
        self.mesh.call(&"_mesh.deploy".parse()?, asked.to_string().as_bytes(), &options).await?;
        loop {
            let message = self.rollouts.next().await.context("the mesh is up")?;
            let rollout: Rollout = serde_json::from_slice(&message.payload)?;
            if rollout.running_seq == self.seq {
                return Ok(begin.elapsed());
            }
            if rollout.state == RolloutState::Failed {
                bail!("the deployment failed: {:?}", rollout.reason);
            }
        }
    }
}

impl Deployer {
    pub(crate) async fn run(self, party: &Party) -> anyhow::Result<()> {
        let bytes = std::fs::read(&self.component)?;
        let mut desk = Desk::new(party).await?;
        let mut mcids = Vec::new();
        let mut cold = Vec::new();
        for number in 0..DEPLOYMENTS as u32 {
            let mcid = desk.offer(Component::variant(&bytes, number)).await?;
            cold.push(micros(desk.deploy(&mcid).await?));
            mcids.push(mcid);
        }
        // Native code of all of these is in the cache, and the last of them are on the host's disk.
        let mut cached = Vec::new();
        for number in 0..DEPLOYMENTS {
            cached.push(micros(desk.deploy(&mcids[DEPLOYMENTS - 1 - number % 3]).await?));
        }
        let calm = load(party, async {
            tokio::time::sleep(CALM).await;
            Ok(())
        })
        .await?;
        let mut swap = Vec::new();
        let swapping = load(party, async {
            for number in 0..SWAPS {
                swap.push(micros(desk.deploy(&mcids[DEPLOYMENTS - 1 - number % 2]).await?));
            }
            Ok(())
        })
        .await?;
        say(&Measured { cold, cached, swap, calm: calm.0, swapping: swapping.0 })
    }
}

/// Sends messages through the plugin for as long as `work` takes, and counts each of them.
async fn load<T>(party: &Party, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<(Latencies, T)> {
    let (sender, receiver) = (party.mesh().await?, party.mesh().await?);
    let options = Subscribe { when_full: WhenFull::Block, queue_messages: 65_536, retained: false };
    let mut subscription = receiver.subscribe_with("bench.out".parse()?, options).await?;
    let (begin, is_over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&is_over);
    let mut publisher = sender.publisher(&"bench.in".parse()?, &ContentType::EMPTY);
    let sending = tokio::spawn(async move {
        let mut sent = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let due = begin.elapsed().as_micros() as u64 * RATE / 1_000_000;
            while sent < due {
                let mut payload = [0; 128];
                payload[..8].copy_from_slice(&sent.to_le_bytes());
                payload[8..16].copy_from_slice(&(begin.elapsed().as_nanos() as u64).to_le_bytes());
                publisher.publish(&payload).await?;
                sent += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<u64, anyhow::Error>(sent)
    });
    let receiving = tokio::spawn(async move {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
        let (mut next, mut repeated, mut reordered, mut received) = (0_u64, 0, 0, 0);
        loop {
            // Long after the last one, none comes any more.
            let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(2), subscription.next()).await else {
                break;
            };
            let number = u64::from_le_bytes(message.payload[..8].try_into()?);
            let sent = u64::from_le_bytes(message.payload[8..16].try_into()?);
            histogram.saturating_record((begin.elapsed().as_nanos() as u64).saturating_sub(sent) / 1000);
            received += 1;
            if number + 1 == next {
                repeated += 1;
            } else if number < next {
                reordered += 1;
            } else {
                next = number + 1;
            }
        }
        Ok::<_, anyhow::Error>((histogram, received, repeated, reordered))
    });
    let outcome = work.await?;
    let seconds = begin.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    let sent = sending.await??;
    let (histogram, received, repeated, reordered) = receiving.await??;
    sender.close().await;
    receiver.close().await;
    let latencies = Latencies {
        sent,
        lost: (sent + repeated + reordered).saturating_sub(received),
        repeated,
        reordered,
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
        seconds,
    };
    Ok((latencies, outcome))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn measure(table: &mut Table) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut relay = Process::start(home.path(), None, &["relay"])?;
    let url: String = relay.hear()?;
    let _host = Host::start(home.path(), &url, ["--follow", SLOT])?;
    let component = prebuilt("echo").display().to_string();
    let mut deployer = Process::start(home.path(), Some(&url), &["deployer", "--component", &component])?;
    let Measured { cold, cached, swap, calm, swapping } = deployer.hear()?;
    table.add("handed in until it runs, compiled", spread(cold), "goal 150 ms");
    table.add("handed in until it runs, native code cached", spread(cached), "goal 30 ms");
    table.add(format!("the same, {SWAPS} times at {RATE} messages/s"), spread(swap), "");
    for (what, latencies) in [("without swaps", &calm), ("with swaps", &swapping)] {
        let Latencies { sent, lost, repeated, reordered, p50, p99, max, seconds } = latencies;
        let figure = format!(
            "p50 {:.2} ms, p99 {:.2} ms, at most {:.1} ms; {sent} in {seconds:.1} s, {lost} lost, {repeated} repeated, {reordered} reordered",
            *p50 as f64 / 1e3,
            *p99 as f64 / 1e3,
            *max as f64 / 1e3,
        );
        table.add(format!("publisher → plugin → subscriber, {what}"), figure, "");
    }
    let added = swapping.p99 as f64 / 1e3 - calm.p99 as f64 / 1e3;
    table.add("what swaps add to the 99th percentile", format!("{added:.2} ms"), "goal 1 ms");
    Ok(())
}

/// Median and extremes of microseconds, in milliseconds.
fn spread(mut micros: Vec<u64>) -> String {
    micros.sort_unstable();
    let ms = |micros: u64| micros as f64 / 1e3;
    let (least, most) = (micros.first().copied().unwrap_or(0), micros.last().copied().unwrap_or(0));
    format!("{:.1} ms ({:.1} – {:.1})", ms(micros[micros.len() / 2]), ms(least), ms(most))
}
