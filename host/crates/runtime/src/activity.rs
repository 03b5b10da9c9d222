//! What happens at a plugin, for whoever watches: messages and calls with what came of them, and what it sent meanwhile.
//!
//! Nothing is noted as long as nobody watches; then all that costs is to look whether somebody does. What is noted waits in
//! a ring to be read, the newest [`EVENTS_MAX`] of at most [`BYTES_MAX`] bytes. Whoever watches says so again and again: when
//! nobody has for as long as [`LEASE`], watching ends and the ring is emptied.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use macula_wire::{CallError, HandlerError, Message, Topic};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use crate::base64;

/// Events that may wait to be read.
const EVENTS_MAX: usize = 4096;
/// Bytes that may, of payloads and of what goes with them.
const BYTES_MAX: usize = 4 << 20;
/// Of one payload; longer ones are cut. An event with it fits into one answer over the mesh, in base64.
const SAMPLE_BYTES_MAX: usize = 128 << 10;
/// How long watching goes on after somebody has asked for events.
const LEASE: Duration = Duration::from_secs(15);

/// Something that happened at a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// Counts up; a gap in what is read means that events have left the ring.
    pub number: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// At which of its instances; one that handles something does nothing else meanwhile.
    pub instance: u32,
    /// What.
    #[serde(flatten)]
    pub event: ActivityEvent,
}

/// What happens at a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ActivityEvent {
    /// It is given a message.
    Message {
        /// Where it was published.
        topic: Topic,
        /// What.
        payload: Sample,
        /// Media type; may be empty.
        content_type: String,
        /// What its publisher added.
        metadata: Vec<(String, String)>,
        /// From 1; more when it was tried before.
        attempt: u32,
    },
    /// It has handled a message, or what a timer brought.
    Handled {
        /// What became of that.
        outcome: HandlerOutcome,
    },
    /// It is called.
    Call {
        /// What is called.
        procedure: Topic,
        /// With what.
        payload: Sample,
        /// Until the caller gives up.
        time_left_ms: u64,
    },
    /// The call has come to its end.
    Answered {
        /// What is called.
        procedure: Topic,
        /// How.
        outcome: CallOutcome,
    },
    /// One of its timers has come.
    Tick {
        /// Which.
        timer: String,
    },
    /// It has other settings from now on.
    Settings {
        /// Those that are different.
        keys: Vec<String>,
    },
    /// It publishes, and the mesh has not refused it at once.
    Publish {
        /// Where.
        topic: Topic,
        /// What.
        payload: Sample,
        /// To be kept as the topic's last value.
        retain: bool,
    },
    /// It calls somebody.
    OutgoingCall {
        /// What it calls.
        procedure: Topic,
        /// With what.
        payload: Sample,
    },
    /// The call that it made has come to its end.
    OutgoingCallEnded {
        /// What it called.
        procedure: Topic,
        /// How.
        outcome: CallOutcome,
    },
}

/// What became of what a handler was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandlerOutcome {
    /// Done.
    Ack,
    /// To be tried again.
    Retry,
    /// Refused for good.
    Reject,
    /// Put aside.
    DeadLetter,
    /// The handler trapped, or ran for too long.
    Trap,
}

impl HandlerOutcome {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ack, Self::Retry, Self::Reject, Self::DeadLetter, Self::Trap];

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::DeadLetter => "dead-letter",
            Self::Trap => "trap",
        }
    }
}

/// How a call has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallOutcome {
    /// With an answer.
    Answer(Sample),
    /// With the handler's own no.
    Error {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// Without an answer: not run, or perhaps run.
    Failed(String),
}

impl CallOutcome {
    pub(crate) fn of(outcome: &Result<Bytes, CallError>) -> Self {
        match outcome {
            Ok(answer) => Self::Answer(Sample::of(answer)),
            Err(CallError::Handler(HandlerError { code, message, .. })) => {
                Self::Error { code: code.clone(), message: message.clone() }
            }
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

/// A payload, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Its beginning, or all of it; in JSON in base64.
    #[serde(with = "base64")]
    pub start: Vec<u8>,
    /// Of the whole payload.
    pub bytes: usize,
}

impl Sample {
    pub(crate) fn of(payload: &[u8]) -> Self {
        Self { start: payload[..payload.len().min(SAMPLE_BYTES_MAX)].to_vec(), bytes: payload.len() }
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        self.start.len() == self.bytes
    }
}

impl ActivityEvent {
    pub(crate) fn message(message: &Message, attempt: u32) -> Self {
        Self::Message {
            topic: message.topic.clone(),
            payload: Sample::of(&message.payload),
            content_type: message.content_type.as_str().to_owned(),
            metadata: message.metadata.as_deref().map(|metadata| metadata.pairs().to_vec()).unwrap_or_default(),
            attempt,
        }
    }

    /// What it costs to keep it.
    fn bytes(&self) -> usize {
        let text = match self {
            Self::Message { payload, metadata, .. } => {
                let metadata = metadata.iter().map(|(name, value)| name.len() + value.len());
                payload.start.len() + metadata.sum::<usize>()
            }
            Self::Call { payload, .. }
            | Self::Publish { payload, .. }
            | Self::OutgoingCall { payload, .. }
            | Self::Answered { outcome: CallOutcome::Answer(payload), .. }
            | Self::OutgoingCallEnded { outcome: CallOutcome::Answer(payload), .. } => payload.start.len(),
            Self::Answered { outcome: CallOutcome::Error { message, .. } | CallOutcome::Failed(message), .. }
            | Self::OutgoingCallEnded {
                outcome: CallOutcome::Error { message, .. } | CallOutcome::Failed(message),
                ..
            } => message.len(),
            Self::Settings { keys } => keys.iter().map(String::len).sum(),
            Self::Handled { .. } | Self::Tick { .. } => 0,
        };
        size_of::<Activity>() + text
    }
}

/// What happens at one plugin.
#[derive(Debug)]
pub struct ActivityLog {
    is_watched: AtomicBool,
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Activity>>,
    bytes: usize,
    next_number: u64,
    /// `None`: for good.
    watched_until: Option<Instant>,
}

impl ActivityLog {
    /// One that nobody watches, or one that is watched for good.
    pub(crate) fn new(watched: Watched) -> Self {
        let is_watched = AtomicBool::new(watched == Watched::Always);
        Self { is_watched, ring: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// Watches for some time from now on, within a runtime of tokio; gives the number of the next event.
    pub fn watch(self: &Arc<Self>) -> u64 {
        let mut ring = self.ring.lock();
        match ring.watched_until {
            Some(_) => ring.watched_until = Some(Instant::now() + LEASE),
            // One that is watched for good has no end to put off.
            None if self.is_watched.load(Ordering::Relaxed) => {}
            None => {
                ring.watched_until = Some(Instant::now() + LEASE);
                self.is_watched.store(true, Ordering::Relaxed);
                tokio::spawn(end_when_over(Arc::downgrade(self)));
            }
        }
        ring.next_number
    }

    /// Events from `number` on that are still kept, and the number to go on from.
    pub fn events_from(&self, number: u64) -> (Vec<Arc<Activity>>, u64) {
        let ring = self.ring.lock();
        let oldest = ring.next_number - ring.events.len() as u64;
        let read = usize::try_from(number.saturating_sub(oldest)).unwrap_or(usize::MAX);
        (ring.events.iter().skip(read).cloned().collect(), ring.next_number)
    }

    /// Waits until there are events from `number` on, and gives them.
    pub async fn follow(&self, number: u64) -> (Vec<Arc<Activity>>, u64) {
        let mut newest = self.newest.subscribe();
        // An error means that the log is gone, and `self` says otherwise.
        let _ = newest.wait_for(|newest| *newest > number).await;
        self.events_from(number)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Notes an event, if somebody watches.
    #[inline]
    pub(crate) fn note(&self, instance: u32, event: impl FnOnce() -> ActivityEvent) {
        if self.is_watched() {
            self.push(instance, event());
        }
    }

    #[cold]
    fn push(&self, instance: u32, event: ActivityEvent) {
        let mut ring = self.ring.lock();
        // It may have ended since the caller looked.
        if !self.is_watched.load(Ordering::Relaxed) {
            return;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let number = ring.next_number;
        let next = ring.push(Activity { number, at_ms, instance, event });
        // Under the lock: the number that is told never goes back.
        self.newest.send_replace(next);
    }
}

/// Ends watching when nobody has said for long that it goes on.
async fn end_when_over(log: Weak<ActivityLog>) {
    let mut until = Instant::now() + LEASE;
    loop {
        tokio::time::sleep_until(until).await;
        let Some(log) = log.upgrade() else { return };
        let mut ring = log.ring.lock();
        match ring.watched_until {
            Some(later) if later > Instant::now() => until = later,
            _ => {
                log.is_watched.store(false, Ordering::Relaxed);
                ring.clear();
                return;
            }
        }
    }
}

/// Whether somebody watches from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    Always,
    OnDemand,
}

impl Ring {
    /// Adds an event and gives the number of the next.
    fn push(&mut self, activity: Activity) -> u64 {
        self.next_number += 1;
        self.bytes += activity.event.bytes();
        self.events.push_back(Arc::new(activity));
        while self.events.len() > EVENTS_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.event.bytes();
        }
        self.next_number
    }

    fn clear(&mut self) {
        (self.events, self.bytes, self.watched_until) = (VecDeque::new(), 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(log: &ActivityLog, timer: &str) {
        log.note(0, || ActivityEvent::Tick { timer: timer.to_owned() });
    }

    fn publish(log: &ActivityLog, bytes: usize) {
        let payload = vec![0; bytes];
        let topic: Topic = "a.b".parse().unwrap();
        log.note(0, || ActivityEvent::Publish { topic, payload: Sample::of(&payload), retain: false });
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_noted_until_somebody_watches() {
        let log = Arc::new(ActivityLog::new(Watched::OnDemand));
        log.note(0, || panic!("nobody watches"));
        assert_eq!(log.watch(), 0);
        tick(&log, "a");
        let (events, next) = log.events_from(0);
        assert_eq!((events.len(), next), (1, 1));
        assert_eq!(log.watch(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn watching_ends_when_nobody_says_that_it_goes_on() {
        let log = Arc::new(ActivityLog::new(Watched::OnDemand));
        log.watch();
        tick(&log, "a");
        tokio::time::sleep(LEASE / 2).await;
        log.watch();
        tokio::time::sleep(LEASE - Duration::from_millis(2)).await;
        assert_eq!(log.events_from(0).0.len(), 1);
        tokio::time::sleep(Duration::from_millis(4)).await;
        // What was there has gone with it, although nothing happens any more.
        assert_eq!(log.events_from(0), (Vec::new(), 1));
        log.note(0, || panic!("nobody watches any more"));
        assert_eq!(log.watch(), 1);
        tick(&log, "c");
        assert_eq!(log.events_from(1).0.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn watching_for_good_has_no_end() {
        let log = Arc::new(ActivityLog::new(Watched::Always));
        tick(&log, "a");
        log.watch();
        tokio::time::sleep(LEASE * 2).await;
        assert_eq!(log.events_from(0).0.len(), 1);
    }

    #[test]
    fn the_ring_is_bounded_in_events_and_in_bytes() {
        let log = ActivityLog::new(Watched::Always);
        for _ in 0..=EVENTS_MAX {
            tick(&log, "a");
        }
        let (events, next) = log.events_from(0);
        assert_eq!((events.len(), events[0].number, next), (EVENTS_MAX, 1, EVENTS_MAX as u64 + 1));
        for _ in 0..=BYTES_MAX / SAMPLE_BYTES_MAX {
            publish(&log, SAMPLE_BYTES_MAX + 1);
        }
        let (events, _) = log.events_from(0);
        assert_eq!(events.len(), BYTES_MAX / SAMPLE_BYTES_MAX - 1);
        let ActivityEvent::Publish { payload, .. } = &events[0].event else { panic!("{events:?}") };
        assert_eq!((payload.start.len(), payload.bytes), (SAMPLE_BYTES_MAX, SAMPLE_BYTES_MAX + 1));
        assert!(!payload.is_whole());
    }

    #[test]
    fn events_are_read_as_they_are_written() {
        let log = ActivityLog::new(Watched::Always);
        publish(&log, 3);
        let outcome = CallOutcome::of(&Err(CallError::Handler(HandlerError::new("no", "not today"))));
        log.note(1, || ActivityEvent::Answered { procedure: "p".parse().unwrap(), outcome });
        log.note(1, || ActivityEvent::Handled { outcome: HandlerOutcome::DeadLetter });
        for activity in log.events_from(0).0 {
            let text = serde_json::to_string(&*activity).unwrap();
            assert_eq!(serde_json::from_str::<Activity>(&text).unwrap(), *activity, "{text}");
        }
    }
}
