//! Processes of a measurement: the relay here, publishers and subscribers beside their measurements.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use macula_node::{Home, Mesh, MeshConfig, RelayConfig, RelayServer, RelayUrl};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::AsyncBufReadExt;

use crate::{calls, content, crowd, deploy, links, pubsub, shaped};

/// One process.
#[derive(Args)]
pub(crate) struct Role {
    /// Its `MACULA_HOME`, shared by all processes of a measurement.
    #[arg(long)]
    home: PathBuf,
    /// The relay; absent for the relay itself.
    #[arg(long)]
    relay: Option<RelayUrl>,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Relay,
    Publisher(pubsub::Publisher),
    Subscriber(pubsub::Subscriber),
    Caller(calls::Caller),
    Provider,
    ContentProvider(content::Provider),
    Fetcher(content::Fetcher),
    Deployer(deploy::Deployer),
    CrowdCaller(crowd::Caller),
    Line(shaped::Line),
    IdleLinks(links::IdleLinks),
    BareServer,
    BareClient(links::BareClient),
}

impl Role {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let party = Party { home: self.home, relay: self.relay };
        runtime.block_on(async {
            match self.what {
                What::Relay => relay(&party).await,
                What::Publisher(publisher) => publisher.run(&party).await,
                What::Subscriber(subscriber) => subscriber.run(&party).await,
                What::Caller(caller) => caller.run(&party).await,
                What::Provider => calls::provide(&party).await,
                What::ContentProvider(provider) => provider.run(&party).await,
                What::Line(line) => line.run().await,
                What::Fetcher(fetcher) => fetcher.run(&party).await,
                What::Deployer(deployer) => deployer.run(&party).await,
                What::CrowdCaller(caller) => caller.run(&party).await,
                What::IdleLinks(idle) => idle.run(&party).await,
                What::BareServer => links::bare_server().await,
                What::BareClient(client) => client.run().await,
            }
        })
    }
}

/// What a role needs to take part.
pub(crate) struct Party {
    home: PathBuf,
    relay: Option<RelayUrl>,
}

impl Party {
    pub(crate) async fn mesh(&self) -> anyhow::Result<Mesh> {
        let relay = self.relay.clone().context("--relay")?;
        Ok(Mesh::connect(MeshConfig::new(relay, Home::open(&self.home)?.local_realm()?)).await?)
    }
}

async fn relay(party: &Party) -> anyhow::Result<()> {
    let home = Home::open(&party.home)?;
    let relay = RelayServer::start(RelayConfig::local(home.node("relay")?, home.local_realm()?)?)?;
    say(&relay.url().to_string())?;
    // Each line asks for the allocations so far.
    let mut questions = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    while questions.next_line().await?.is_some() {
        say(&ALLOCATIONS.load(Ordering::Relaxed))?;
    }
    relay.stop().await;
    Ok(())
}

/// Allocations of this process so far.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counting.
struct Counting;

// SAFETY: hands everything over to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tells the measuring process something.
pub(crate) fn say<T: Serialize>(what: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Waits until the measuring process closes this one's input.
pub(crate) async fn wait_for_end() {
    // The thread ends with the process; nothing else reads the input.
    let _ = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await;
}

/// A started process, ended when dropped.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(home: &Path, relay: Option<&str>, role: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("role").arg("--home").arg(home);
        if let Some(relay) = relay {
            command.args(["--relay", relay]);
        }
        Self::spawn(command.args(role))
    }

    pub(crate) fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self { child, input, output })
    }

    /// What it says next.
    pub(crate) fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("a process said {line:?}"))
    }

    /// Asks something with one line, and hears the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let input = self.input.as_mut().context("stdin")?;
        input.write_all(b"\n")?;
        input.flush()?;
        self.hear()
    }

    /// Memory that it occupies, in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The same without pages of files, which the system takes back when it needs them.
    pub(crate) fn anonymous_bytes(&self) -> anyhow::Result<u64> {
        self.status_bytes("RssAnon:")
    }

    fn status_bytes(&self, name: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(name)).context("no such line")?;
        let kib: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kib * 1024)
    }

    /// Processor time that it has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        // SAFETY: asks for a constant of the system.
        Ok(ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
