//! What a plugin can ask of this host: one module for each interface of the contract.
//!
//! [`InstanceState`] is what an instance carries through its host calls. Every right is checked here, before anything
//! reaches the mesh. A wait goes through [`InstanceState::begin_wait`]: the guest's clock stands still and another plugin
//! may run meanwhile.

mod candidate;
mod config;
pub(crate) mod content;
mod error;
mod identity;
mod kv;
mod log;
pub(crate) mod pubsub;
pub(crate) mod rpc;
mod timers;
mod topic_cache;
mod trace;
mod wasi;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::AtomicU8},
    time::{Duration, Instant},
};

use macula_wire::{Operation, Pattern, Topic, Traceparent, Tracestate, limits::CAUSE_DEPTH_MAX};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::WasiCtx;

use self::{candidate::StagedTimers, topic_cache::TopicCache};
pub(crate) use self::{
    candidate::Unfinished,
    error::{CallFailure, HostError, describe},
    rpc::IN_FLIGHT_DEFAULT,
};
use crate::{
    activity::ActivityEvent,
    bindings::{Plugin, types},
    limiter::Limiter,
    mesh::{Inbox, Offer},
    meter::Meter,
    plugin::PluginCore,
    settings::Settings,
};

/// Subscriptions, offers and other handles that one instance may hold at a time.
const HANDLES_MAX: u32 = 1024;
/// The same with those of WASI: streams and pollables.
const TABLE_ENTRIES_MAX: usize = 8192;

/// What an instance carries through its host calls.
pub(crate) struct InstanceState {
    pub(crate) plugin: Arc<PluginCore>,
    pub(crate) shard: u32,
    /// The instance slot: `shard`, or that of a canary, which is behind them.
    slot: u32,
    /// It is beside the instance that works, before it takes over or after: what it does is not told to those who watch.
    pub(crate) is_aside: bool,
    pub(crate) meter: Meter,
    pub(crate) limiter: Limiter,
    /// Held while guest code may run.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    pub(crate) handling: Handling,
    /// What it sees as its settings; the same within one handler.
    pub(crate) settings: Settings,
    /// Its cause depth, for what is printed.
    pub(crate) cause_depth: Arc<AtomicU8>,
    /// What this instance has asked for, by itself or by joining what was there.
    pub(crate) wanted: Wanted,
    /// Opened in the current handler; joins the mailbox when the handler returns.
    pub(crate) staged: Staged,
    content: content::ContentState,
    topics: Mutex<TopicCache>,
    handles: u32,
    /// Functions of the host that the current handler has called.
    pub(crate) host_calls: u64,
    table: ResourceTable,
    wasi: WasiCtx,
}

/// What the instance is doing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Handling {
    /// Handlers that acted because of one another before this one.
    pub(crate) cause_depth: u8,
    /// When the caller gives up.
    pub(crate) deadline: Option<tokio::time::Instant>,
    /// The trace of what is handled, from this handler on.
    pub(crate) trace: Option<Traceparent>,
    /// What others have noted about that trace, which goes on as it came.
    pub(crate) tracestate: Option<Tracestate>,
}

impl Handling {
    /// Something that comes from elsewhere, with the trace that it belongs to.
    pub(crate) fn of(
        cause_depth: u8,
        deadline: Option<tokio::time::Instant>,
        traceparent: Option<&Traceparent>,
        tracestate: Option<&Tracestate>,
    ) -> Self {
        // A span of zero is none. Without randomness there is no new part of the trace, and the old one goes on.
        let trace =
            traceparent.map(|trace| getrandom::u64().map_or_else(|_| trace.clone(), |span| trace.with_span(span | 1)));
        Self { cause_depth, deadline, trace, tracestate: tracestate.cloned() }
    }
}

/// Names that an instance holds.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// With the number of the subscription.
    pub(crate) patterns: HashMap<Pattern, u32>,
    pub(crate) procedures: HashSet<Topic>,
}

impl Wanted {
    /// Holds what another instance held as well.
    pub(crate) fn inherit(&mut self, other: Self) {
        for (pattern, id) in other.patterns {
            self.patterns.entry(pattern).or_insert(id);
        }
        self.procedures.extend(other.procedures);
    }
}

/// Asked for, not yet in force.
pub(crate) struct Staged {
    pub(crate) inboxes: Vec<(u32, Pattern, Box<dyn Inbox>)>,
    pub(crate) offers: Vec<(Topic, Box<dyn Offer>)>,
    /// To be offered when the version takes over, with the number of calls in flight.
    later_offers: Vec<(Topic, u32)>,
    timers: StagedTimers,
}

impl Staged {
    fn new(timers_max: u32) -> Self {
        Self {
            inboxes: Vec::new(),
            offers: Vec::new(),
            later_offers: Vec::new(),
            timers: StagedTimers::new(timers_max),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inboxes.is_empty() && self.offers.is_empty() && self.later_offers.is_empty() && self.timers.is_empty()
    }
}

impl InstanceState {
    pub(crate) fn new(plugin: Arc<PluginCore>, shard: u32, slot: u32) -> Self {
        let limiter = Limiter::new(plugin.manifest.limits.memory_bytes(), plugin.memory.of(shard));
        let staged = Staged::new(plugin.manifest.limits.timers);
        let cause_depth = Arc::default();
        let settings = plugin.settings.current();
        let mut table = ResourceTable::new();
        table.set_max_capacity(TABLE_ENTRIES_MAX);
        Self {
            wasi: wasi::context(&plugin, &cause_depth),
            cause_depth,
            plugin,
            shard,
            slot,
            is_aside: false,
            meter: Meter::new(),
            limiter,
            permit: None,
            handling: Handling::default(),
            settings,
            wanted: Wanted::default(),
            staged,
            content: content::ContentState::default(),
            topics: Mutex::default(),
            handles: 0,
            host_calls: 0,
            table,
        }
    }

    /// Whether content is open or on its way, which would end with the instance.
    pub(crate) fn uses_content(&mut self) -> bool {
        self.content.is_in_use()
    }

    /// The guest waits from now on: its clock stands still, and its permit goes to whoever wants it.
    fn begin_wait(&mut self) {
        self.meter.pause(Instant::now());
        self.permit = None;
    }

    /// The guest is about to go on.
    async fn end_wait(&mut self) {
        // Only a closed semaphore gives none, and ours is never closed.
        self.permit = Arc::clone(&self.plugin.permits).acquire_owned().await.ok();
        self.meter.resume(Instant::now());
    }

    /// Waits for `future`, for at most `limit`; `None` when that has passed.
    async fn wait<T>(&mut self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        self.begin_wait();
        let result = tokio::time::timeout(limit, future).await.ok();
        self.end_wait().await;
        result
    }

    /// How long the current handler may wait: what it has left of its budget, and of its caller's patience.
    fn patience(&self) -> Duration {
        let left = self.meter.left();
        match self.time_left() {
            Some(time_left) => left.min(time_left),
            None => left,
        }
    }

    /// Time until the caller of the current handler gives up.
    fn time_left(&self) -> Option<Duration> {
        self.handling.deadline.map(|deadline| deadline.saturating_duration_since(tokio::time::Instant::now()))
    }

    /// The cause depth of what the current handler sends.
    fn next_cause_depth(&self) -> Result<u8, types::Error> {
        match self.handling.cause_depth + 1 {
            depth if depth <= CAUSE_DEPTH_MAX => Ok(depth),
            _ => Err(types::Error::QuotaExceeded(format!(
                "feedback: {CAUSE_DEPTH_MAX} handlers have already acted because of one another"
            ))),
        }
    }

    /// Tells of an event whoever watches.
    fn note(&self, event: impl FnOnce() -> ActivityEvent) {
        if !self.is_aside {
            self.plugin.activity.note(self.slot, event);
        }
    }

    /// The error for a missing right; counts it, and logs it the first time.
    fn denied(&self, operation: Operation, target: &str) -> types::Error {
        self.plugin.note_denial(operation, target);
        types::Error::Denied(format!("{operation} {target}"))
    }

    /// Counts a handle that the guest is about to get.
    fn take_handle(&mut self) -> Result<(), types::Error> {
        if self.handles >= HANDLES_MAX {
            return Err(types::Error::QuotaExceeded(format!("handles: {HANDLES_MAX} are open; drop some")));
        }
        self.handles += 1;
        Ok(())
    }
}

/// Everything a plugin may import.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<InstanceState>> {
    let mut linker = Linker::<InstanceState>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    Plugin::add_to_linker::<_, HasSelf<InstanceState>>(&mut linker, |state| {
        state.host_calls += 1;
        state
    })?;
    linker.allow_shadowing(true);
    wasi::link_bounded_waits(&mut linker)?;
    pubsub::link_publish(&mut linker)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

/// The DID of a node as a plugin sees it.
pub(crate) fn did(node: &macula_wire::NodeId) -> String {
    node.to_string()
}
