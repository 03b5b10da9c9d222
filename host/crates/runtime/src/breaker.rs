//! When a plugin that crashes is started again, and when it is given up.
//!
//! Crashes within a window are counted, on disk as well, so that a host that is restarted together with a crashing plugin
//! does not begin counting anew. A plugin that was given up rests; then, or as another component, it may start again.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use macula_wire::Mcid;
use serde::{Deserialize, Serialize};

use crate::cache::private;

/// How crashes are answered. The defaults give up a plugin that crashes at every message within a few seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashPolicy {
    /// Crashes within [`CrashPolicy::window`] after which a plugin is given up.
    pub crashes_max: usize,
    /// See [`CrashPolicy::crashes_max`].
    pub window: Duration,
    /// Pause before the first restart; doubled with each further crash within the window.
    pub restart_delay_min: Duration,
    /// Longest pause before a restart.
    pub restart_delay_max: Duration,
    /// How long a plugin that was given up cannot be started again with the same component.
    pub rest: Duration,
}

impl Default for CrashPolicy {
    fn default() -> Self {
        Self {
            crashes_max: 10,
            window: Duration::from_secs(60),
            restart_delay_min: Duration::from_millis(10),
            restart_delay_max: Duration::from_secs(5),
            rest: Duration::from_secs(300),
        }
    }
}

/// The plugin was given up not long ago.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it crashed {crashes} times in a short while and was given up ({reason}); start a repaired one, wait for {} s, or remove {}",
    rest.as_secs(), file.display()
)]
pub struct CrashLoop {
    /// Crashes that led to it.
    pub crashes: usize,
    /// The last crash.
    pub reason: String,
    /// Until it can be started again.
    pub rest: Duration,
    /// Where this is remembered.
    pub file: PathBuf,
}

/// What to do after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    RestartAfter(Duration),
    GiveUp,
}

/// What is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Record {
    mcid: Mcid,
    /// Milliseconds since 1970-01-01 UTC, oldest first.
    crashes: VecDeque<u64>,
    given_up: Option<GivenUp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct GivenUp {
    at_ms: u64,
    reason: String,
}

/// Counts the crashes of one plugin.
#[derive(Debug)]
pub(crate) struct Breaker {
    policy: CrashPolicy,
    /// In force when probation is over.
    lasting: CrashPolicy,
    file: Option<PathBuf>,
    record: Record,
}

pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Breaker {
    /// Takes up the count that `file` has of this component.
    pub(crate) fn open(
        file: Option<PathBuf>,
        mcid: &Mcid,
        policy: CrashPolicy,
        now_ms: u64,
    ) -> Result<Self, CrashLoop> {
        let fresh = || Record { mcid: mcid.clone(), crashes: VecDeque::new(), given_up: None };
        let record = file.as_deref().and_then(read).filter(|record| record.mcid == *mcid).unwrap_or_else(fresh);
        if let (Some(given_up), Some(file)) = (&record.given_up, &file) {
            let end = given_up.at_ms.saturating_add(milliseconds(policy.rest));
            if now_ms < end {
                return Err(CrashLoop {
                    crashes: record.crashes.len(),
                    reason: given_up.reason.clone(),
                    rest: Duration::from_millis(end - now_ms),
                    file: file.clone(),
                });
            }
            return Ok(Self { lasting: policy.clone(), policy, file: Some(file.clone()), record: fresh() });
        }
        Ok(Self { lasting: policy.clone(), policy, file, record })
    }

    /// Begins anew, whatever `file` says: somebody wants this version in the place of another. `probation`, if there is one, is in force
    /// until [`Breaker::end_probation`].
    pub(crate) fn anew(
        file: Option<PathBuf>,
        mcid: &Mcid,
        lasting: CrashPolicy,
        probation: Option<CrashPolicy>,
    ) -> Self {
        let policy = probation.unwrap_or_else(|| lasting.clone());
        Self { policy, lasting, file, record: Record { mcid: mcid.clone(), crashes: VecDeque::new(), given_up: None } }
    }

    /// What was counted stays.
    pub(crate) fn end_probation(&mut self) {
        self.policy = self.lasting.clone();
    }

    /// Counts a crash.
    pub(crate) fn crash(&mut self, reason: &str, now_ms: u64) -> Verdict {
        let crashes = &mut self.record.crashes;
        let begin = now_ms.saturating_sub(milliseconds(self.policy.window));
        while crashes.front().is_some_and(|crash| *crash < begin) {
            crashes.pop_front();
        }
        crashes.push_back(now_ms);
        if crashes.len() >= self.policy.crashes_max {
            self.record.given_up = Some(GivenUp { at_ms: now_ms, reason: reason.to_owned() });
            return Verdict::GiveUp;
        }
        // At most `crashes_max` doublings; the exponent cannot overflow before the product saturates.
        let doublings = u32::try_from(crashes.len() - 1).unwrap_or(u32::MAX).min(20);
        let delay = self.policy.restart_delay_min.saturating_mul(1 << doublings);
        Verdict::RestartAfter(delay.min(self.policy.restart_delay_max))
    }

    /// What to write where, to remember the count: disk work for a blocking thread.
    pub(crate) fn to_store(&self) -> Option<(PathBuf, Vec<u8>)> {
        let file = self.file.clone()?;
        let bytes = serde_json::to_vec(&self.record).expect("a record of plain values encodes");
        Some((file, bytes))
    }
}

/// Writes what [`Breaker::to_store`] gave.
pub(crate) fn store(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        private::create_directory(directory)?;
    }
    macula_files::write_private(file, bytes).map_err(|error| error.error)
}

/// Times of crashes, and what the last one was.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// A file that is missing or damaged counts as empty: crashes will be counted again soon enough.
fn read(file: &Path) -> Option<Record> {
    serde_json::from_slice(&macula_files::read(file, RECORD_BYTES_MAX).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(file: &Path, mcid: &[u8], now_ms: u64) -> Result<Breaker, CrashLoop> {
        Breaker::open(Some(file.to_owned()), &Mcid::of(mcid), CrashPolicy::default(), now_ms)
    }

    fn crash(breaker: &mut Breaker, now_ms: u64) -> Verdict {
        let verdict = breaker.crash("it fell", now_ms);
        let (file, bytes) = breaker.to_store().unwrap();
        store(&file, &bytes).unwrap();
        verdict
    }

    #[test]
    fn restarts_slow_down_and_end_across_restarts_of_the_host() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("plugins/x.json");
        let mut breaker = open(&file, b"x", 0).unwrap();
        let mut delays = Vec::new();
        for number in 0..5 {
            let Verdict::RestartAfter(delay) = crash(&mut breaker, number) else { panic!("too early") };
            delays.push(delay.as_millis());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160]);

        let mut breaker = open(&file, b"x", 10).unwrap();
        for number in 5..9 {
            assert!(matches!(crash(&mut breaker, number), Verdict::RestartAfter(_)));
        }
        assert_eq!(crash(&mut breaker, 10), Verdict::GiveUp);
        let refused = open(&file, b"x", 1000).unwrap_err();
        assert!(
            refused.to_string().contains("crashed 10 times") && refused.to_string().contains("it fell"),
            "{refused}"
        );
        assert!(open(&file, b"repaired", 1000).is_ok());
        assert!(open(&file, b"x", 10 + 300_000).is_ok(), "rested");
    }

    #[test]
    fn old_crashes_are_forgotten() {
        let mut breaker = Breaker::open(None, &Mcid::of(b"x"), CrashPolicy::default(), 0).unwrap();
        for number in 0..100 {
            assert!(matches!(breaker.crash("x", number * 10_000), Verdict::RestartAfter(_)), "{number}");
        }
    }

    #[test]
    fn a_damaged_file_counts_as_empty() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("x.json");
        fs::write(&file, b"{\"mcid\":").unwrap();
        assert!(open(&file, b"x", 0).is_ok());
    }
}
