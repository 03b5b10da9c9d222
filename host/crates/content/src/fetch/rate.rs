//! How fast a provider sends, from when which bytes came.

use std::time::{Duration, Instant};

/// Bytes are counted over at least this time: what comes at once was not sent at once.
const WINDOW: Duration = Duration::from_millis(100);
/// What one window counts against all before it.
const WEIGHT: f64 = 0.3;

/// Bytes a second, smoothed. Time in which nothing was asked for does not count.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    smoothed: Option<f64>,
    since: Instant,
    bytes: u64,
    /// The first bytes after a rest tell when sending began, and not how long they took.
    begins: bool,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { smoothed: None, since: now, bytes: 0, begins: true }
    }

    /// Something was asked for, after a time in which nothing was.
    pub(super) fn resume(&mut self, now: Instant) {
        (self.since, self.bytes, self.begins) = (now, 0, true);
    }

    pub(super) fn add(&mut self, now: Instant, bytes: u64) {
        if self.begins {
            (self.since, self.bytes, self.begins) = (now, 0, false);
            return;
        }
        self.bytes += bytes;
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= WINDOW {
            let sample = self.bytes as f64 / elapsed.as_secs_f64();
            self.smoothed = Some(self.smoothed.map_or(sample, |before| before + WEIGHT * (sample - before)));
            (self.since, self.bytes) = (now, 0);
        }
    }

    /// Bytes a second, as it looks now: the longer nothing comes, the less. `None` before the first window.
    pub(super) fn at(&self, now: Instant) -> Option<f64> {
        let smoothed = self.smoothed?;
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        let window = WINDOW.as_secs_f64();
        if elapsed <= 2.0 * window {
            return Some(smoothed);
        }
        Some(smoothed.min((self.bytes as f64 + smoothed * window) / elapsed).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_what_comes_and_forgets_in_silence() {
        let mut now = Instant::now();
        let mut rate = Rate::new(now);
        assert_eq!(rate.at(now), None);
        for _ in 0..100 {
            now += Duration::from_millis(10);
            rate.add(now, 10_000);
        }
        let steady = rate.at(now).unwrap();
        assert!((0.9e6..1.1e6).contains(&steady), "{steady}");
        assert!(rate.at(now + Duration::from_secs(2)).unwrap() < steady / 10.0);
        // A rest in which nothing was asked for is none of the provider's doing.
        now += Duration::from_secs(60);
        rate.resume(now);
        now += Duration::from_millis(30);
        rate.add(now, 10_000);
        assert!((0.9e6..1.1e6).contains(&rate.at(now).unwrap()));
    }
}
