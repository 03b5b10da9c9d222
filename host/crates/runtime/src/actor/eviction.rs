//! What becomes of an instance that has nothing to do: it says good-bye and its memory is given back; what it was is kept here
//! until there is work again.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use super::Actor;
use crate::{
    bindings::lifecycle,
    handover::Order,
    host::describe,
    instance::{HandlerFault, Instance},
    log::LogLevel,
    plugin::PluginCore,
    status::PluginState,
};

/// How long an evicted instance may take to say good-bye.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// What brings an evicted instance back, or ends it.
enum Woken {
    Work,
    HandOver(Order),
    Stop,
}

/// Whether an instance has had nothing to do for long. The clock is read when a period ends and not with each message, so
/// that it may be up to twice as long.
pub(super) struct Idleness {
    after: Duration,
    pub(super) due: Instant,
    pub(super) has_worked: bool,
}

impl Idleness {
    /// `None` when the plugin's instances stay.
    pub(super) fn new(plugin: &PluginCore) -> Option<Self> {
        let after = Duration::from_secs(plugin.manifest.limits.evict_after_s.into());
        (!after.is_zero()).then(|| Self { after, due: Instant::now() + after, has_worked: false })
    }

    pub(super) fn has_lasted(&mut self, now: Instant) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + self.after;
        !std::mem::take(&mut self.has_worked)
    }
}

impl Actor {
    /// Whether the idle instance was let go, its state kept.
    pub(super) async fn evict(&mut self, instance: &mut Instance) -> Result<bool, HandlerFault> {
        let keeps_state = instance.keeps_state();
        if instance.state().would_lose(self.asked, keeps_state) {
            return Ok(false);
        }
        match instance.snapshot().await? {
            Some(Ok(state)) => self.kept = Some(state),
            None => self.kept = None,
            Some(Err(error)) => {
                self.plugin.note(LogLevel::Warn, format!("stays in memory: its snapshot failed: {}", describe(&error)));
                return Ok(false);
            }
        }
        if let Err(fault) = instance.shutdown(lifecycle::StopReason::Evicted, EVICTION_GRACE).await {
            self.plugin.log.host(LogLevel::Warn, format!("its shutdown {fault}"));
        }
        Ok(true)
    }

    /// Waits for something to do, without an instance; `None` when the plugin is stopped or a new version took over.
    pub(super) async fn sleep(&mut self) -> Option<()> {
        self.plugin.counters.evictions.one();
        self.enter(PluginState::Evicted, None);
        self.plugin.log.host(LogLevel::Debug, "evicted: it was idle".to_owned());
        loop {
            match std::future::poll_fn(|cx| self.poll_sleep(cx)).await {
                Woken::Work => return Some(()),
                Woken::Stop => return None,
                Woken::HandOver(order) => {
                    let state = if order.wants_state { self.kept.clone() } else { None };
                    let is_wanted = order.handed.send(Ok(state)).is_ok();
                    if is_wanted && order.verdict.await.is_ok() {
                        return None;
                    }
                }
            }
        }
    }

    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        let shard = self.shard as usize;
        self.plugin.bell.of(shard).register(cx.waker());
        loop {
            if let Some(order) = self.plugin.handover.take(shard) {
                return Poll::Ready(Woken::HandOver(order));
            }
            let due = {
                let mut mailbox = self.plugin.mailbox.lock();
                if mailbox.has_work(shard, Instant::now()) {
                    return Poll::Ready(Woken::Work);
                }
                mailbox.next_due(shard)
            };
            if self.plugin.life.is_stopping() {
                return Poll::Ready(Woken::Stop);
            }
            ready!(self.alarm.poll(due, cx));
        }
    }

    /// An instance that is back gets what was kept of the one that was evicted.
    pub(super) async fn take_back(&mut self, instance: &mut Instance) -> Result<(), HandlerFault> {
        let Some(state) = self.kept.take() else { return Ok(()) };
        let outcome = instance.restore(&state, &self.plugin.manifest.version).await;
        let why = match &outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => describe(error),
            Err(fault) => fault.to_string(),
        };
        let text = format!("its state of before it was evicted is lost, {} bytes: restore: {why}", state.len());
        self.plugin.log.host(LogLevel::Error, text);
        outcome.map(|_| ())
    }
}
