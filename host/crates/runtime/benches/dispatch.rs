//! What this crate costs beside wasmtime itself: `cargo bench -p macula-runtime`.
//!
//! 1. One message whose handler publishes one message, in Rust, Go and JavaScript: a bare `call_async` with the simplest
//!    possible `publish`, and the same through mailbox, checks and a mesh in memory. And an instance made from a component
//!    that is ready.
//! 2. From the file to the first message handled, with native code in the cache.
//! 3. Memory of an idle plugin.
//!
//! Everything runs on one thread; figures are medians. `cargo bench -p macula-runtime -- soak` lets handlers allocate for
//! 5,000,000 messages in Go and 1,000,000 in JavaScript, and tells traps and memory.

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

/// Gives back each message, in each language.
const ECHOES: [(&str, &str); 3] = [("Rust", "echo.wasm"), ("Go", "echo-go.wasm"), ("JS", "echo-js.wasm")];

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

/// What a message carries.
const PAYLOAD_BYTES: usize = 128;

const INSTANCES: usize = 200;
const BATCHES: usize = 200;
const BATCH: usize = 1000;

fn main() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if std::env::args().any(|argument| argument == "soak") {
        return tokio.block_on(async {
            soak("Go", "sensor-alert-go.wasm", 5_000_000).await;
            soak("JS", "sensor-alert-js.wasm", 1_000_000).await;
        });
    }
    tokio.block_on(async {
        println!("per message, handler + one publish:");
        for (language, file) in ECHOES {
            let component = fs::read(prebuilt(file)).unwrap();
            let (raw, instance) = bare(&component).await;
            let ours = through_the_runtime(&component).await;
            println!(
                "  {language:<5} bare {raw:>7.0} ns, through the runtime {ours:>7.0} ns ({:+.0} ns); an instance {instance:>7.1} us",
                ours - raw
            );
        }
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

/// wasmtime with the same settings, and nothing around it: nanoseconds a message, microseconds an instance.
async fn bare(component: &[u8]) -> (f64, f64) {
    use raw::macula::plugin::types::Message;
    use wasmtime::component::{Component, HasSelf, Linker};

    let mut config = wasmtime::Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .allocation_strategy(wasmtime::InstanceAllocationStrategy::pooling());
    let engine = wasmtime::Engine::new(&config).unwrap();
    let component = Component::new(&engine, component).unwrap();
    let mut linker = Linker::<Wasi>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    raw::macula::plugin::types::add_to_linker::<_, HasSelf<Wasi>>(&mut linker, |state| state).unwrap();
    raw::macula::plugin::pubsub::add_to_linker::<_, HasSelf<Wasi>>(&mut linker, |state| state).unwrap();
    raw::macula::plugin::log::add_to_linker::<_, HasSelf<Wasi>>(&mut linker, |state| state).unwrap();
    let fresh = || {
        let mut store = wasmtime::Store::new(&engine, Wasi::default());
        store.set_epoch_deadline(u64::MAX / 2);
        store
    };
    let mut store = fresh();
    let pre = linker.instantiate_pre(&component).unwrap();
    let indices = raw::exports::macula::plugin::message_handler::GuestIndices::new(&pre).unwrap();
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let mut store = fresh();
        let begin = Instant::now();
        pre.instantiate_async(&mut store).await.unwrap();
        instances.push(begin.elapsed().as_nanos() as f64 / 1e3);
    }
    let instance = pre.instantiate_async(&mut store).await.unwrap();
    let guest = indices.load(&mut store, &instance).unwrap();
    let message = Message {
        topic: "bench.in".into(),
        payload: vec![b'x'; PAYLOAD_BYTES],
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
    let message = per_message(async || {
        for _ in 0..BATCH {
            guest.call_on_message(&mut store, &message).await.unwrap();
        }
    })
    .await;
    (message, median(instances))
}

/// What language runtimes import whatever the plugin does.
struct Wasi {
    context: wasmtime_wasi::WasiCtx,
    table: wasmtime::component::ResourceTable,
}

impl Default for Wasi {
    fn default() -> Self {
        Self { context: wasmtime_wasi::WasiCtx::builder().build(), table: Default::default() }
    }
}

impl wasmtime_wasi::WasiView for Wasi {
    fn ctx(&mut self) -> wasmtime_wasi::WasiCtxView<'_> {
        wasmtime_wasi::WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
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

async fn through_the_runtime(component: &[u8]) -> f64 {
    let host = Host::new();
    host.mesh.forget();
    let path = host.home.path().join("echo.wasm");
    fs::write(&path, component).unwrap();
    let plugin = host.start(&path, "echo", "").await;
    let message = host.mesh.message("bench.in", Bytes::from(vec![b'x'; PAYLOAD_BYTES]));
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

/// The simplest possible host: what the echoes do not call is not there.
mod bare_host {
    use wasmtime::component::Resource;

    use super::{
        Wasi,
        raw::macula::plugin::{
            log, pubsub,
            pubsub::{PublishOptions, Receipt, ReceiptLevel, SubscribeOptions, Subscription, SubscriptionStats},
            types::{self, Error, Message},
        },
    };

    impl types::Host for Wasi {}

    impl pubsub::Host for Wasi {
        async fn publish(
            &mut self,
            _: String,
            _: Vec<u8>,
            _: Option<PublishOptions>,
        ) -> wasmtime::Result<Result<Receipt, Error>> {
            Ok(Ok(Receipt { epoch: 1, seq: 1, level: ReceiptLevel::Host }))
        }

        async fn subscribe(
            &mut self,
            _: String,
            _: Option<SubscribeOptions>,
        ) -> wasmtime::Result<Result<Resource<Subscription>, Error>> {
            unreachable!()
        }

        async fn retained(&mut self, _: String) -> wasmtime::Result<Result<Option<Message>, Error>> {
            unreachable!()
        }
    }

    impl pubsub::HostSubscription for Wasi {
        async fn id(&mut self, _: Resource<Subscription>) -> wasmtime::Result<u32> {
            unreachable!()
        }

        async fn pattern(&mut self, _: Resource<Subscription>) -> wasmtime::Result<String> {
            unreachable!()
        }

        async fn stats(&mut self, _: Resource<Subscription>) -> wasmtime::Result<SubscriptionStats> {
            unreachable!()
        }

        async fn unsubscribe(&mut self, _: Resource<Subscription>) -> wasmtime::Result<()> {
            unreachable!()
        }

        async fn drop(&mut self, _: Resource<Subscription>) -> wasmtime::Result<()> {
            unreachable!()
        }
    }

    impl log::Host for Wasi {
        async fn enabled(&mut self, _: log::Level) -> wasmtime::Result<bool> {
            Ok(false)
        }

        async fn write(
            &mut self,
            _: log::Level,
            _: String,
            _: String,
            _: Vec<(String, String)>,
        ) -> wasmtime::Result<()> {
            Ok(())
        }
    }
}

/// Readings as JSON, of a thousand rooms: each handler allocates.
async fn soak(language: &str, file: &str, messages: u64) {
    let host = Host::new();
    host.mesh.forget();
    let plugin = host.start(&prebuilt(file), "soak", "").await;
    let readings: Vec<_> = (0..1000)
        .map(|room| host.mesh.message(&format!("sensors.r{room}.temperature"), "{\"celsius\": 21.5}"))
        .collect();
    let begin = Instant::now();
    let mut memory = Vec::new();
    for round in 1..=messages / 1000 {
        readings.iter().for_each(|reading| host.mesh.send(reading));
        handled(&plugin, round * 1000).await;
        if round % (messages / 10_000) == 0 {
            memory.push(plugin.status().memory_bytes as f64 / f64::from(1 << 20));
        }
    }
    let counted = plugin.metrics();
    println!(
        "soak, {language}: {} messages, {} traps, {} rejected, {:.2} us each; memory after each tenth, MiB: {memory:.1?}",
        counted.messages,
        counted.traps,
        counted.rejected,
        begin.elapsed().as_secs_f64() * 1e6 / messages as f64
    );
    stop(&plugin).await;
}

fn prebuilt(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/prebuilt").join(name)
}

/// The scripted plugin, and examples in other languages.
fn components() -> Vec<(&'static str, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
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
