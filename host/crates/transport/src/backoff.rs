//! How long to wait before trying again: doubling, capped, and spread so that many who lost one relay at the same
//! moment do not come back at the same moment.

use std::time::Duration;

use macula_wire::limits::LINK_PAUSE_MAX;

/// Delays for one thing that is tried again and again.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    /// Delays that grow from `first` to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, attempts: 0 }
    }

    /// For links: 50 ms to 10 s.
    pub fn for_links() -> Self {
        Self::new(Duration::from_millis(50), LINK_PAUSE_MAX)
    }

    /// The next delay: between half of the current step and all of it, by `random`, which should be uniform.
    pub fn next(&mut self, random: u32) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempts.min(20)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        let half = step / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// It worked: the next delay is the first again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Tries since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_stays_in_its_band() {
        let mut backoff = Backoff::for_links();
        for attempt in 0..40 {
            let step = Duration::from_millis(50).saturating_mul(1 << attempt.min(20)).min(Duration::from_secs(10));
            let delay = backoff.next(if attempt % 2 == 0 { 0 } else { u32::MAX });
            assert!(delay >= step / 2 && delay <= step, "{attempt}: {delay:?} of {step:?}");
        }
        backoff.reset();
        assert!(backoff.next(u32::MAX) <= Duration::from_millis(50));
    }
}
