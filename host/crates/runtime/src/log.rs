//! A plugin's log: what it writes, what it prints, and what the host has to say about it.
//!
//! Each entry goes to `tracing` (target `plugin`, with the plugin's name) and into a ring of the last [`LINES_MAX`]
//! entries that can be read and followed later. What the plugin writes is held to a number of bytes a second; what is
//! above is counted, dropped, and mentioned once the flood is over. What the host says is never dropped.

use std::{
    collections::VecDeque,
    fmt::Write,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use macula_wire::{PluginName, readable};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Entries kept.
pub(crate) const LINES_MAX: usize = 1000;
/// Bytes kept, so that many plugins with long lines stay small.
const RING_BYTES_MAX: usize = 512 << 10;
/// One entry at most; longer ones are cut and say so.
pub(crate) const ENTRY_BYTES_MAX: usize = 16 << 10;

/// What an entry, and each of its fields, costs beside its text, in bytes.
const ENTRY_COST: usize = 64;
const FIELD_COST: usize = 64;

/// How important an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Each step.
    Trace,
    /// For those who look for a fault.
    Debug,
    /// What happens.
    Info,
    /// What should not happen.
    Warn,
    /// What somebody has to see to.
    Error,
}

/// Who wrote an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// The plugin, through `log`.
    Plugin,
    /// The plugin, by printing.
    Output,
    /// The host, about the plugin.
    Host,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Counts up from 0 for each plugin; a gap in what is read means entries have left the ring.
    pub number: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: u64,
    /// How important.
    pub level: LogLevel,
    /// Who wrote it.
    pub source: LogSource,
    /// Where in the plugin; may be empty.
    pub target: String,
    /// The text.
    pub message: String,
    /// Names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
    /// Handlers that acted because of one another up to the one that wrote it.
    #[serde(skip)]
    pub(crate) cause_depth: u8,
}

/// An entry to be written.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) level: LogLevel,
    pub(crate) source: LogSource,
    pub(crate) target: String,
    pub(crate) message: String,
    pub(crate) fields: Vec<(String, String)>,
    /// See [`LogLine`].
    pub(crate) cause_depth: u8,
}

impl Entry {
    /// One that is only text.
    pub(crate) fn new(level: LogLevel, source: LogSource, message: String) -> Self {
        Self { level, source, target: String::new(), message, fields: Vec::new(), cause_depth: 0 }
    }

    /// Cuts it to [`ENTRY_BYTES_MAX`]: fields go first, then the end of the message.
    fn cut(&mut self) {
        const MARK: &str = " … (cut)";
        if bytes_of(&self.target, &self.message, &self.fields) <= ENTRY_BYTES_MAX {
            return;
        }
        self.fields.clear();
        truncate(&mut self.target, 256);
        truncate(&mut self.message, ENTRY_BYTES_MAX - self.target.len() - MARK.len());
        self.message.push_str(MARK);
    }
}

/// The log of one plugin.
#[derive(Debug)]
pub struct PluginLog {
    plugin: PluginName,
    ring: Mutex<Ring>,
    quota: Mutex<Quota>,
    newest: watch::Sender<u64>,
    /// From which level on it is published.
    published: OnceLock<LogLevel>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Quota {
    bytes_per_s: u32,
    left: u32,
    refilled: Instant,
    /// Dropped since the last entry that was taken.
    dropped: u64,
}

impl PluginLog {
    pub(crate) fn new(plugin: PluginName, bytes_per_s: u32) -> Self {
        let quota = Quota { bytes_per_s, left: bytes_per_s, refilled: Instant::now(), dropped: 0 };
        Self {
            plugin,
            ring: Mutex::default(),
            quota: Mutex::new(quota),
            newest: watch::Sender::new(0),
            published: OnceLock::new(),
        }
    }

    /// Entries from `number` on that are still kept, and the number to go on from.
    pub fn lines_from(&self, number: u64) -> (Vec<Arc<LogLine>>, u64) {
        let ring = self.ring.lock();
        (ring.lines.iter().filter(|line| line.number >= number).cloned().collect(), ring.next_number)
    }

    /// Waits until there are entries from `number` on, and gives them.
    pub async fn follow(&self, number: u64) -> (Vec<Arc<LogLine>>, u64) {
        let mut newest = self.newest.subscribe();
        // An error means that the log is gone, and `self` says otherwise.
        let _ = newest.wait_for(|newest| *newest > number).await;
        self.lines_from(number)
    }

    /// It is published from this level on.
    pub(crate) fn set_published(&self, level: LogLevel) {
        // Said once, when the plugin starts.
        let _ = self.published.set(level);
    }

    /// Whether anybody would see this level now.
    pub(crate) fn is_enabled(&self, level: LogLevel) -> bool {
        level >= LogLevel::Info
            || self.published.get().is_some_and(|published| level >= *published)
            || match level {
                LogLevel::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
                _ => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
            }
    }

    /// Writes for the plugin, within its quota. Gives how many entries were dropped: 0 or 1.
    pub(crate) fn write(&self, mut entry: Entry) -> u64 {
        if !self.is_enabled(entry.level) {
            return 0;
        }
        entry.cut();
        let bytes = bytes_of(&entry.target, &entry.message, &entry.fields);
        match self.quota.lock().take(bytes, Instant::now()) {
            Taken::Dropped => return 1,
            Taken::After(0) => {}
            Taken::After(dropped) => {
                self.host(LogLevel::Warn, format!("{dropped} entries above the quota of log bytes were dropped"));
            }
        }
        self.push(entry);
        0
    }

    /// Writes for the host.
    pub(crate) fn host(&self, level: LogLevel, message: String) {
        self.push(Entry::new(level, LogSource::Host, message));
    }

    fn push(&self, entry: Entry) {
        let Entry { level, source, target, message, fields, cause_depth } = entry;
        self.trace(level, source, &target, &message, &fields);
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp_ms = u64::try_from(timestamp.as_millis()).unwrap_or(u64::MAX);
        let line = |number| LogLine { number, timestamp_ms, level, source, target, message, fields, cause_depth };
        let next = self.ring.lock().push(line);
        self.newest.send_replace(next);
    }

    fn trace(&self, level: LogLevel, source: LogSource, target: &str, message: &str, fields: &[(String, String)]) {
        let plugin = self.plugin.as_str();
        // In the host's log each is one line, whatever is in it.
        let (target, message) = (readable(target), readable(message));
        let target = &*target;
        let mut text = String::new();
        for (name, value) in fields {
            // Writing to a string cannot fail.
            let _ = write!(text, " {}={value:?}", readable(name));
        }
        macro_rules! emit {
            ($level:ident) => {
                tracing::event!(target: "plugin", tracing::Level::$level, plugin, part = target, source = ?source, "{message}{text}")
            };
        }
        match level {
            LogLevel::Trace => emit!(TRACE),
            LogLevel::Debug => emit!(DEBUG),
            LogLevel::Info => emit!(INFO),
            LogLevel::Warn => emit!(WARN),
            LogLevel::Error => emit!(ERROR),
        }
    }
}

impl Ring {
    /// Adds a line and gives the number of the next.
    fn push(&mut self, line: impl FnOnce(u64) -> LogLine) -> u64 {
        let line = Arc::new(line(self.next_number));
        self.next_number += 1;
        self.bytes += bytes_of_line(&line);
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= bytes_of_line(&oldest);
        }
        self.next_number
    }
}

/// What became of a request for bytes.
enum Taken {
    /// Granted; so many entries were dropped before.
    After(u64),
    Dropped,
}

impl Quota {
    fn take(&mut self, bytes: usize, now: Instant) -> Taken {
        let elapsed = now.saturating_duration_since(self.refilled).min(Duration::from_secs(1));
        let refill = u64::from(self.bytes_per_s) * elapsed.as_micros() as u64 / 1_000_000;
        if refill > 0 {
            let refill = u32::try_from(refill).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(refill).min(self.bytes_per_s);
            self.refilled = now;
        }
        match u32::try_from(bytes) {
            Ok(bytes) if bytes <= self.left => {
                self.left -= bytes;
                Taken::After(std::mem::take(&mut self.dropped))
            }
            _ => {
                self.dropped += 1;
                Taken::Dropped
            }
        }
    }
}

/// What an entry costs: its text, and what it takes to keep it, so that many empty ones are not for nothing.
fn bytes_of(target: &str, message: &str, fields: &[(String, String)]) -> usize {
    let fields = fields.iter().map(|(name, value)| FIELD_COST + name.len() + value.len());
    ENTRY_COST + target.len() + message.len() + fields.sum::<usize>()
}

fn bytes_of_line(line: &LogLine) -> usize {
    bytes_of(&line.target, &line.message, &line.fields) + size_of::<LogLine>()
}

fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(bytes_per_s: u32) -> PluginLog {
        PluginLog::new("probe".parse().unwrap(), bytes_per_s)
    }

    fn say(log: &PluginLog, message: String) -> u64 {
        log.write(Entry::new(LogLevel::Info, LogSource::Plugin, message))
    }

    #[test]
    fn the_ring_keeps_the_newest() {
        let log = log(u32::MAX);
        for number in 0..LINES_MAX + 5 {
            say(&log, number.to_string());
        }
        let (lines, next) = log.lines_from(0);
        assert_eq!((lines.len(), lines[0].number, next), (LINES_MAX, 5, LINES_MAX as u64 + 5));
        assert_eq!(log.lines_from(next - 1).0.len(), 1);
    }

    #[test]
    fn the_ring_is_bounded_in_bytes() {
        let log = log(u32::MAX);
        for _ in 0..100 {
            say(&log, "x".repeat(ENTRY_BYTES_MAX));
        }
        assert!(log.lines_from(0).0.len() < 40);
    }

    #[test]
    fn floods_are_counted_and_mentioned() {
        let log = log(1000);
        let dropped: u64 = (0..10).map(|_| say(&log, "x".repeat(400))).sum();
        assert_eq!(dropped, 8);
        log.quota.lock().left = 1000;
        say(&log, "calm".into());
        let (lines, _) = log.lines_from(2);
        assert_eq!(lines[0].message, "8 entries above the quota of log bytes were dropped");
        assert_eq!(lines[1].message, "calm");
    }

    #[test]
    fn long_entries_are_cut_at_a_character() {
        let log = log(u32::MAX);
        say(&log, "ä".repeat(ENTRY_BYTES_MAX));
        let (lines, _) = log.lines_from(0);
        assert!(lines[0].message.ends_with("ä … (cut)"));
        assert!(lines[0].message.len() <= ENTRY_BYTES_MAX);
    }

    #[test]
    fn what_is_empty_costs_as_well() {
        let log = log(1000);
        let dropped: u64 = (0..100).map(|_| say(&log, String::new())).sum();
        assert_eq!(dropped, 85);
        let log = PluginLog::new("probe".parse().unwrap(), u32::MAX);
        let fields = vec![(String::new(), String::new()); 10_000];
        log.write(Entry { fields, ..Entry::new(LogLevel::Info, LogSource::Plugin, "many".into()) });
        let (lines, _) = log.lines_from(0);
        assert_eq!((lines[0].message.as_str(), lines[0].fields.len()), ("many … (cut)", 0));
    }

    #[tokio::test]
    async fn can_be_followed() {
        let log = log(u32::MAX);
        let (_, next) = log.lines_from(0);
        let (followed, ()) = tokio::join!(log.follow(next), async { _ = say(&log, "now".into()) });
        assert_eq!(followed.0[0].message, "now");
    }
}
