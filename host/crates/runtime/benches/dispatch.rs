//! What this crate costs beside wasmtime itself: `cargo bench -p macula-runtime`.
//!
//! 1. One message whose handler publishes one message: a bare `call_async` with the simplest possible `publish`, and the
//!    same through mailbox, checks and a mesh in memory.
//! 2. From the file to the first message handled, with native code in the cache.
//! 3. Memory of an idle plugin.
//!
//! Everything runs on one thread; figures are medians.

#![allow(missing_docs, clippy::print_stdout, reason = "a program whose output is its purpose")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use macula_runtime::{
    Grant, PluginHandle, PluginSource, Runtime, RuntimeConfig, StartOptions, StopReason, testing::LocalMesh,
};

mod raw {
    wasmtime::component::bindgen!({
        path: "../../../wit",
        world: "plugin",
        imports: { default: async | trappable },
        exports: { default: async },
    });
}

const PROBE: &[u8] = include_bytes!("../tests/probe.wasm");
const MANIFEST: &str = r#"
subscribe = ["**"]
publish = ["**"]
[limits]
queue-messages = 65536
[[subscriptions]]
pattern = "in.**"
"#;
/// The scripted plugin publishes its payload to the topic it names.
const COMMAND: &str = "forward bench.out";

const BATCHES: usize = 200;
const BATCH: usize = 1000;

fn main() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let raw = bare().await;
        let ours = through_the_runtime().await;
        println!("per message, handler + one publish:");
        println!("  bare call_async       {raw:>8.0} ns");
        println!("  through the runtime   {ours:>8.0} ns   ({:+.0} ns)", ours - raw);
        for (name, path) in components() {
            let (cold, stages) = cold_start(&path).await;
            println!("cold start, cached, {name:<14} {cold:>7.2} ms   ({stages})");
        }
        idle_memory().await;
    });
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `BATCHES` medians of `BATCH` messages each, in nanoseconds per message.
async fn per_message(mut batch: impl AsyncFnMut()) -> f64 {
    let mut figures = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let begin = Instant::now();
        batch().await;
        figures.push(begin.elapsed().as_nanos() as f64 / BATCH as f64);
    }
    median(figures)
}

/// wasmtime with the same settings, and nothing around it.
async fn bare() -> f64 {
    use raw::macula::plugin::{
        pubsub::{PublishOptions, Receipt, ReceiptLevel},
        types::{Error, Message},
    };
    use wasmtime::component::{Component, Linker};

    let mut config = wasmtime::Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .allocation_strategy(wasmtime::InstanceAllocationStrategy::pooling());
    let engine = wasmtime::Engine::new(&config).unwrap();
    let component = Component::new(&engine, PROBE).unwrap();
    let mut linker = Linker::<()>::new(&engine);
    linker.define_unknown_imports_as_traps(&component).unwrap();
    linker.allow_shadowing(true);
    let mut pubsub = linker.instance("macula:plugin/pubsub@0.1.0").unwrap();
    type Arguments = (String, Vec<u8>, Option<PublishOptions>);
    pubsub
        .func_wrap_async("publish", |_, _: Arguments| {
            let receipt = Receipt { epoch: 1, seq: 1, level: ReceiptLevel::Host };
            Box::new(async move { Ok((Ok::<Receipt, Error>(receipt),)) })
        })
        .unwrap();
    let mut store = wasmtime::Store::new(&engine, ());
    store.set_epoch_deadline(u64::MAX / 2);
    let pre = linker.instantiate_pre(&component).unwrap();
    let indices = raw::exports::macula::plugin::message_handler::GuestIndices::new(&pre).unwrap();
    let instance = pre.instantiate_async(&mut store).await.unwrap();
    let guest = indices.load(&mut store, &instance).unwrap();
    let message = Message {
        topic: "in.x".into(),
        payload: COMMAND.into(),
        content_type: String::new(),
        publisher: "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK".into(),
        epoch: 1,
        seq: 1,
        timestamp_ms: 1,
        attempt: 1,
        retained: false,
        subscription: 0,
        metadata: Vec::new(),
    };
    per_message(async || {
        for _ in 0..BATCH {
            guest.call_on_message(&mut store, &message).await.unwrap();
        }
    })
    .await
}

struct Host {
    mesh: LocalMesh,
    runtime: Runtime,
    home: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = RuntimeConfig { cache_dir: Some(home.path().join("native")), ..RuntimeConfig::default() };
        let mesh = LocalMesh::new();
        let runtime = Runtime::new(config, Arc::new(mesh.clone())).unwrap();
        Self { mesh, runtime, home }
    }

    async fn start(&self, path: &Path, name: &str, manifest: &str) -> PluginHandle {
        let file = self.home.path().join(format!("{name}.toml"));
        fs::write(&file, format!("name = \"{name}\"\n{manifest}")).unwrap();
        let options = StartOptions { manifest: Some(file.into()), grant: Grant::AsAsked };
        self.runtime.start(PluginSource::Path(path.to_owned()), options).await.unwrap()
    }
}

async fn stop(plugin: &PluginHandle) {
    plugin.stop(StopReason::Stopped, Duration::from_secs(1)).await;
}

async fn handled(plugin: &PluginHandle, count: u64) {
    while plugin.metrics().messages < count {
        tokio::task::yield_now().await;
    }
}

fn probe_file(home: &Path) -> PathBuf {
    let path = home.join("probe.wasm");
    fs::write(&path, PROBE).unwrap();
    path
}

async fn through_the_runtime() -> f64 {
    let host = Host::new();
    host.mesh.forget();
    let plugin = host.start(&probe_file(host.home.path()), "probe", MANIFEST).await;
    let message = host.mesh.message("in.x", Bytes::from_static(COMMAND.as_bytes()));
    let mut figures = Vec::new();
    for batch in 1..=BATCHES {
        // The queue is filled first, so that only taking and handling are measured.
        for _ in 0..BATCH {
            host.mesh.send(&message);
        }
        let begin = Instant::now();
        handled(&plugin, (batch * BATCH) as u64).await;
        figures.push(begin.elapsed().as_nanos() as f64 / BATCH as f64);
    }
    assert_eq!(plugin.metrics().published, (BATCHES * BATCH) as u64);
    stop(&plugin).await;
    median(figures)
}

/// The scripted plugin, and examples in other languages when they are there.
fn components() -> Vec<(&'static str, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let prebuilt = |name: &str| root.join("../../../examples/prebuilt").join(name);
    let all = [
        ("probe (Rust)", root.join("tests/probe.wasm")),
        ("echo (Rust)", prebuilt("echo.wasm")),
        ("echo (Go)", prebuilt("echo-go.wasm")),
        ("echo (JS)", prebuilt("echo-js.wasm")),
    ];
    all.into_iter().filter(|(_, path)| path.is_file()).collect()
}

/// From the file to the first message handled, and to where the time goes.
async fn cold_start(path: &Path) -> (f64, String) {
    let host = Host::new();
    let manifest = "subscribe = [\"echo.**\", \"in.**\"]\n[[subscriptions]]\npattern = \"echo.in\"";
    let manifest_free =
        fs::read(path).is_ok_and(|bytes| macula_runtime::inspect(&bytes).is_ok_and(|it| it.manifest.is_none()));
    let manifest = if manifest_free { manifest } else { "" };
    let first = host.start(path, "cold", manifest).await;
    let pattern = first.status().subscriptions.first().map(|one| one.pattern.clone()).unwrap_or_default();
    let topic = pattern.replace('*', "x");
    stop(&first).await;
    drop(first);
    let (mut totals, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let begin = Instant::now();
        let plugin = host.start(path, "cold", manifest).await;
        starts.push(begin.elapsed().as_secs_f64() * 1e3);
        host.mesh.publish(&topic, "1");
        handled(&plugin, 1).await;
        totals.push(begin.elapsed().as_secs_f64() * 1e3);
        stop(&plugin).await;
    }
    (median(totals), format!("until init had returned: {:.2} ms", median(starts)))
}

async fn idle_memory() {
    const PLUGINS: usize = 100;
    let host = Host::new();
    host.mesh.forget();
    let path = probe_file(host.home.path());
    let warm = host.start(&path, "warm", MANIFEST).await;
    let before = resident_kib();
    let mut plugins = Vec::new();
    for number in 0..PLUGINS {
        plugins
            .push(host.start(&path, &format!("p{number}"), &MANIFEST.replace("in.**", &format!("in.{number}"))).await);
        host.mesh.publish(&format!("in.{number}"), COMMAND);
        handled(&plugins[number], 1).await;
    }
    let grown = (resident_kib() - before) as f64 / PLUGINS as f64;
    let memory =
        plugins.iter().map(|plugin| plugin.status().memory_bytes).sum::<u64>() as f64 / PLUGINS as f64 / 1024.0;
    println!("idle plugin: {grown:.0} KiB resident in all, with a linear memory of {memory:.0} KiB (one of {PLUGINS})");
    stop(&warm).await;
    for plugin in &plugins {
        stop(plugin).await;
    }
}

fn resident_kib() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or_default()
}
