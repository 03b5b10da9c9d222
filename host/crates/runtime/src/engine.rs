//! The one wasmtime engine of this process, and the thread that drives its clock.
//!
//! Instances come from a pool when there is address space for one (each memory reserves 4 GiB of it), otherwise they are
//! allocated on demand. The clock is wasmtime's epoch: a thread of its own increments it each [`TICK`] while instances
//! exist, so that neither a busy async runtime nor a machine with one core can keep a runaway guest going.

use std::{
    hash::{Hash, Hasher},
    sync::{
        LazyLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How often running guests are looked at. They yield to other plugins as often.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Instances in one process at most, where there is address space for as many: of a thousand plugins, and of their next versions.
pub(crate) const INSTANCES_MAX: u32 = 2000;

/// Stack of a guest. Interpreters inside of guests recurse deeply.
const GUEST_STACK_BYTES: usize = 1 << 20;

/// Stack that a handler runs on: the guest's, and what host functions need above it.
const HANDLER_STACK_BYTES: usize = 2 << 20;

/// Entries of one table; the largest seen (an interpreter of JavaScript) has fewer than half as many.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 65_536;

/// Core instances, memories and tables that one component may consist of: what adapters need, with room to spare.
pub(crate) const CORE_INSTANCES_PER_COMPONENT: u32 = 32;
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 4;
pub(crate) const TABLES_PER_COMPONENT: u32 = 16;

/// Why there is no engine on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot run WebAssembly on this machine: {0}")]
pub struct EngineError(String);

/// The engine, and how it was set up.
pub(crate) struct HostEngine {
    pub(crate) engine: Engine,
    /// Names everything that native code depends on: wasmtime's version, the settings, the processor.
    pub(crate) compatibility: String,
    ticker: Ticker,
}

/// The engine of this process.
pub(crate) fn host_engine() -> Result<&'static HostEngine, EngineError> {
    static ENGINE: LazyLock<Result<HostEngine, EngineError>> = LazyLock::new(HostEngine::new);
    ENGINE.as_ref().map_err(Clone::clone)
}

impl HostEngine {
    fn new() -> Result<Self, EngineError> {
        let engine = engine_with_largest_pool()?;
        let compatibility = compatibility(&engine);
        let ticker = Ticker::start(engine.clone()).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { engine, compatibility, ticker })
    }

    /// Keeps the epoch going until the guard is dropped.
    pub(crate) fn keep_ticking(&self) -> Ticking {
        self.ticker.live.fetch_add(1, Ordering::SeqCst);
        self.ticker.thread.unpark();
        Ticking { live: self.ticker.live }
    }
}

/// Reserving the address space is the probe: the operating system says at once whether it can.
fn engine_with_largest_pool() -> Result<Engine, EngineError> {
    let mut refused = String::new();
    for instances in [INSTANCES_MAX, INSTANCES_MAX / 2, INSTANCES_MAX / 20] {
        match Engine::new(config().allocation_strategy(pool(instances))) {
            Ok(engine) => {
                tracing::debug!(instances, "instances come from a pool");
                return Ok(engine);
            }
            Err(error) => refused = format!("{error:#}"),
        }
    }
    tracing::info!(reason = refused, "no address space for a pool: instances are allocated on demand and start slower");
    Engine::new(config().allocation_strategy(InstanceAllocationStrategy::OnDemand))
        .map_err(|error| EngineError(format!("{error:#}")))
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        // An instance handles one thing at a time, and all WIT is sync: tasks inside of wasmtime would only cost.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(HANDLER_STACK_BYTES);
    config
}

fn pool(instances: u32) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * 8)
        .total_memories(instances)
        .total_tables(instances * 4)
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(4)
        .table_elements(TABLE_ELEMENTS_MAX)
        // Plugins live long: a slot kept warm for one that has gone is memory wasted.
        .max_unused_warm_slots(8);
    InstanceAllocationStrategy::Pooling(pool)
}

fn compatibility(engine: &Engine) -> String {
    struct Digest(blake3::Hasher);
    impl Hasher for Digest {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut digest = Digest(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut digest);
    digest.0.finalize().to_hex()[..16].to_owned()
}

/// The thread that increments the epoch.
struct Ticker {
    live: &'static AtomicUsize,
    thread: Thread,
}

/// While this lives, the epoch goes on.
pub(crate) struct Ticking {
    live: &'static AtomicUsize,
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    fn start(engine: Engine) -> std::io::Result<Self> {
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        static STARTED: AtomicBool = AtomicBool::new(false);
        debug_assert!(!STARTED.swap(true, Ordering::SeqCst), "one ticker a process");
        let thread = thread::Builder::new().name("macula-epoch".to_owned()).spawn(move || {
            loop {
                if LIVE.load(Ordering::SeqCst) == 0 {
                    // Parking may end early; then the loop looks again.
                    thread::park();
                    continue;
                }
                thread::sleep(TICK);
                engine.increment_epoch();
            }
        })?;
        Ok(Self { live: &LIVE, thread: thread.thread().clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_engine_with_one_name() {
        let one = host_engine().unwrap();
        assert!(Engine::same(&one.engine, &host_engine().unwrap().engine));
        assert_eq!(one.compatibility, compatibility(&one.engine));
        assert_eq!(one.compatibility.len(), 16);
    }
}
