//! What plugins see as the time: the system's, or one that goes with tokio's clock, which tests can let stand still.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// Where the monotonic clock begins: Go's runtime takes 0 for a broken one.
const MONOTONIC_START: Duration = Duration::from_secs(1);

/// What plugins see as the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    begun: Instant,
    /// The wall clock when it began; `None`: the system's, whatever it shows.
    start: Option<SystemTime>,
}

impl Clock {
    pub(crate) fn new(start: Option<SystemTime>) -> Self {
        Self { begun: Instant::now(), start }
    }

    /// Whether it goes with tokio's clock alone.
    pub(crate) fn is_virtual(&self) -> bool {
        self.start.is_some()
    }

    /// What the wall clock shows, since 1970-01-01 UTC.
    pub(crate) fn wall(&self) -> Duration {
        let now = self.start.map_or_else(SystemTime::now, |start| start + self.begun.elapsed());
        now.duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// What it showed at a time that has passed, in milliseconds.
    pub(crate) fn wall_ms_at(&self, then: Instant) -> u64 {
        u64::try_from(self.wall().saturating_sub(then.elapsed()).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Waits in WASI end by tokio's clock, so this is the one that guests have to see.
impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1_000
    }

    fn now(&self) -> u64 {
        u64::try_from((MONOTONIC_START + self.begun.elapsed()).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_micros(1)
    }

    fn now(&self) -> Duration {
        self.wall()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn goes_with_virtual_time_where_it_has_a_start() {
        let start = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let clock = Clock::new(Some(start));
        let then = Instant::now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.wall(), Duration::from_secs(1_003_600));
        assert_eq!(clock.wall_ms_at(then), 1_000_000_000);
        assert_eq!(HostMonotonicClock::now(&clock), 3_601_000_000_000);
        let system = Clock::new(None).wall();
        assert!(SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - system < Duration::from_secs(60));
    }
}
