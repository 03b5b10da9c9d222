//! Where modules are evaluated while a component is made: no host, no files but those given, a clock that stands still, and
//! the same random numbers each time, so that the same source makes the same bytes. Handlers, later, see real ones.

use std::{path::Path, time::Duration};

use anyhow::Result;
use wasmtime::{Cache, CacheConfig, Config, Engine};
use wasmtime_wasi::{
    HostMonotonicClock, HostWallClock, WasiCtxBuilder, p2::pipe::MemoryOutputPipe, random::Deterministic,
};

/// What a module may print while it is evaluated.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Where what is printed goes.
pub fn output() -> MemoryOutputPipe {
    MemoryOutputPipe::new(OUTPUT_BYTES_MAX)
}

/// What was printed so far.
pub fn said(output: &MemoryOutputPipe) -> String {
    String::from_utf8_lossy(&output.contents()).into_owned()
}

/// The world outside, as far as there is one.
pub fn wasi(output: &MemoryOutputPipe) -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(output.clone())
        .stderr(output.clone())
        .wall_clock(StoppedClock)
        .monotonic_clock(StoppedClock)
        .secure_random(Deterministic::new((0..=255).collect()))
        .insecure_random(Deterministic::new((0..=255).collect()))
        .insecure_random_seed(1);
    wasi
}

/// An engine that keeps what it compiles in `cache`.
pub fn engine(cache: &Path) -> Result<Engine> {
    let mut config = Config::new();
    config.wasm_component_model(true);
    let mut settings = CacheConfig::new();
    settings.with_directory(cache);
    // Without it everything works, a little slower.
    if let Ok(cache) = Cache::new(settings) {
        config.cache(Some(cache));
    }
    Ok(Engine::new(&config)?)
}

/// A clock that stands at 2000-01-01, which no program takes for the present.
struct StoppedClock;

/// What it shows.
pub const STOPPED: Duration = Duration::from_secs(946_684_800);

/// What a clock that measures spans shows, in nanoseconds.
pub const STOPPED_TICKS: u64 = 1_000_000;

impl HostWallClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        STOPPED
    }
}

impl HostMonotonicClock for StoppedClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        STOPPED_TICKS
    }
}
