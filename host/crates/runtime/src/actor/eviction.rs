//! An instance that has nothing to do is evicted: it says good-bye and its memory is given back. What it was is kept here until it is
//! resumed, with the next work.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::Actor;
use crate::{
    bindings::lifecycle,
    host::{Wanted, describe},
    instance::{HandlerFault, Instance},
    log::LogLevel,
    orders::GivePlace,
    plugin::PluginCore,
    status::PluginState,
};

/// How long an evicted instance may take to say good-bye.
const GRACE: Duration = Duration::from_secs(1);

/// How long an instance that could not be evicted, or not resumed with its state, is left alone; doubled each time. Asking costs it
/// the making of a snapshot, and one that traps costs the state.
const RESPITE_MIN: Duration = Duration::from_secs(60);
/// At most: now and then it is tried, since what was in the way may have gone.
const RESPITE_MAX: Duration = Duration::from_secs(6 * 3600);

/// What one instance slot has to do with eviction.
#[derive(Default)]
pub(super) struct Eviction {
    idleness: Option<Idleness>,
    respite: Respite,
    /// Of the instance that was evicted, until it is resumed.
    kept: Option<Kept>,
}

struct Kept {
    /// `None` when the plugin keeps none.
    state: Option<Bytes>,
    wanted: Wanted,
}

/// Whether an instance has had nothing to do for long. The clock is read when a period ends and not with each message, so
/// that it may be up to twice as long.
struct Idleness {
    after: Duration,
    due: Instant,
    has_worked: bool,
}

/// How long eviction waits since it went wrong.
#[derive(Debug, Default, PartialEq, Eq)]
struct Respite {
    /// None when nothing has gone wrong since the last time that all went well.
    length: Option<Duration>,
    until: Option<Instant>,
}

/// Whether people have to hear of one more failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// It is left alone for longer than before.
    Longer(Duration),
    /// The same as last time.
    Same,
}

impl Respite {
    fn begin(&mut self, now: Instant) -> News {
        let length = self.length.map_or(RESPITE_MIN, |length| (length * 2).min(RESPITE_MAX));
        self.until = Some(now + length);
        if self.length.replace(length) == Some(length) { News::Same } else { News::Longer(length) }
    }
}

/// What ends the wait of an evicted instance.
enum Woken {
    Work,
    GivePlace(GivePlace),
    Stop,
}

impl Eviction {
    /// An instance is ready: it holds what the evicted one held, and its idleness begins.
    pub(super) fn welcome(&mut self, plugin: &PluginCore, wanted: &mut Wanted) {
        if let Some(kept) = self.kept.take() {
            wanted.inherit(kept.wanted);
        }
        let after = Duration::from_secs(plugin.manifest.limits.evict_after_s.into());
        let due = self.respite.until.into_iter().fold(Instant::now() + after, Instant::max);
        self.idleness = (!after.is_zero()).then_some(Idleness { after, due, has_worked: false });
    }

    /// It went wrong: the instance is left alone for longer than the last time. Whether people have to hear of it.
    fn fail(&mut self) -> News {
        let news = self.respite.begin(Instant::now());
        if let (Some(idleness), Some(until)) = (&mut self.idleness, self.respite.until) {
            idleness.due = idleness.due.max(until);
        }
        news
    }

    pub(super) fn note_work(&mut self) {
        if let Some(idleness) = &mut self.idleness {
            idleness.has_worked = true;
        }
    }

    /// Whether the instance has been idle for long enough. Said once a period.
    pub(super) fn is_due(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let Some(idleness) = &mut self.idleness else { return false };
        let now = now();
        if now < idleness.due {
            return false;
        }
        idleness.due = now + idleness.after;
        !std::mem::take(&mut idleness.has_worked)
    }

    /// When to ask [`Eviction::is_due`].
    pub(super) fn due(&self) -> Option<Instant> {
        self.idleness.as_ref().map(|idleness| idleness.due)
    }

    /// Whether there is something to resume.
    pub(super) fn has_kept(&self) -> bool {
        self.kept.is_some()
    }
}

impl Actor {
    /// Whether the idle instance was evicted, and what it was is kept.
    ///
    /// # Errors
    /// `snapshot` has brought the instance to its end: see [`Actor::lose_state`].
    pub(super) async fn evict(&mut self, instance: &mut Instance) -> Result<bool, HandlerFault> {
        if instance.state().uses_content() {
            return Ok(false);
        }
        let state = match instance.snapshot().await {
            Ok(Some(Ok(state))) => Some(state.into()),
            Ok(None) => None,
            Ok(Some(Err(error))) => {
                self.leave_alone(&format!("stays in memory: its snapshot failed: {}", describe(&error)));
                return Ok(false);
            }
            Err(fault) => {
                self.leave_alone(&format!("was to be evicted, as it was idle, and its snapshot {fault}"));
                return Err(fault);
            }
        };
        if let Err(fault) = instance.shutdown(lifecycle::StopReason::Evicted, GRACE).await {
            self.plugin.log.host(LogLevel::Warn, format!("its shutdown {fault}"));
        }
        self.eviction.kept = Some(Kept { state, wanted: std::mem::take(&mut instance.state().wanted) });
        Ok(true)
    }

    /// Eviction went wrong: it is not tried again for a while, and people hear of it when that while is longer than the last.
    fn leave_alone(&mut self, what: &str) {
        match self.eviction.fail() {
            News::Longer(respite) => {
                let text = format!("{what}; it is not evicted for {} s", respite.as_secs());
                self.plugin.log.host(LogLevel::Warn, text);
            }
            News::Same => self.plugin.note(LogLevel::Debug, what.to_owned()),
        }
    }

    /// Waits for something to do, without an instance; `None` when the plugin is stopped or a new version took over.
    pub(super) async fn wait_evicted(&mut self) -> Option<()> {
        self.plugin.counters.evictions.one();
        self.enter(PluginState::Evicted, None);
        self.plugin.log.host(LogLevel::Debug, "evicted: it was idle".to_owned());
        if self.plugin.life.is_evicted() {
            let program = Arc::clone(&self.plugin.program);
            // Not waited for: it may be needed again at once.
            tokio::task::spawn_blocking(move || program.page_out());
        }
        loop {
            match std::future::poll_fn(|cx| self.poll_evicted(cx)).await {
                Woken::Work => return Some(()),
                Woken::Stop => return None,
                Woken::GivePlace(order) => {
                    if self.give_place(order).await {
                        return None;
                    }
                }
            }
        }
    }

    fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        let shard = self.shard as usize;
        self.plugin.bell.of(shard).register(cx.waker());
        loop {
            if let Some(order) = self.plugin.orders.take_give_place(shard) {
                return Poll::Ready(Woken::GivePlace(order));
            }
            // It has a say in its settings; the order stays where it is until there is an instance.
            if self.plugin.orders.is_waiting(shard) {
                return Poll::Ready(Woken::Work);
            }
            // New rights are news that it may have been waiting for.
            if self.plugin.rights.generation() != self.rights_generation {
                return Poll::Ready(Woken::Work);
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

    /// Gives the slot, which has no instance now, to a new version, with the state that is kept. False when it is not wanted after all.
    pub(super) async fn give_place(&mut self, order: GivePlace) -> bool {
        let kept = self.eviction.kept.as_ref().and_then(|kept| kept.state.clone());
        let state = if order.wants_state { kept } else { None };
        let is_wanted = order.handed.send(Ok(state)).is_ok() || self.plugin.is_candidate();
        is_wanted && order.verdict.await.is_ok()
    }

    /// A resumed instance gets the state that is kept.
    pub(super) async fn restore_kept(&mut self, instance: &mut Instance) -> Result<(), HandlerFault> {
        let Some(state) = self.eviction.kept.as_ref().and_then(|kept| kept.state.clone()) else { return Ok(()) };
        let fault = match instance.restore(&state, &self.plugin.manifest.version).await {
            Ok(Ok(())) => {
                self.eviction.respite = Respite::default();
                return Ok(());
            }
            Ok(Err(error)) => HandlerFault::State(describe(&error)),
            Err(fault) => fault,
        };
        let text = format!("its state of before it was evicted is lost, {} bytes: restore: {fault}", state.len());
        self.plugin.log.host(LogLevel::Error, text.clone());
        self.plugin.life.note_lost_state(text);
        if !matches!(fault, HandlerFault::State(_)) {
            self.plugin.counters.traps.one();
        }
        self.eviction.kept = None;
        self.leave_alone(&format!("could not take its state back after it was evicted: restore: {fault}"));
        Err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_respite_doubles_up_to_its_bound_and_is_told_when_it_grows() {
        let (mut respite, mut now) = (Respite::default(), Instant::now());
        let mut told = Vec::new();
        for _ in 0..12 {
            match respite.begin(now) {
                News::Longer(length) => told.push(length.as_secs()),
                News::Same => assert_eq!(respite.length, Some(RESPITE_MAX)),
            }
            assert_eq!(respite.until, respite.length.map(|length| now + length));
            now += RESPITE_MAX;
        }
        assert_eq!(told, [60, 120, 240, 480, 960, 1920, 3840, 7680, 15_360, 21_600]);
    }
}
