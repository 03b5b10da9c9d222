//! An allowance: so much a second. What is not used is saved up for one second, what is used too much is owed for ten at most.
//!
//! Pure: time comes in as an argument.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Seconds for which what is used too much is owed: a plugin that was let run long does not rest for minutes.
const OWED_S_MAX: f64 = 10.0;

/// What is owed counts as paid below this: sums of fractions leave a rest. All that is used comes in whole units.
const NOTHING: f64 = 1e-3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Allowance {
    per_s: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What may be used now; below nothing, what is owed.
    level: f64,
    at: Instant,
}

impl Allowance {
    /// `None` when there is no limit: 0.
    pub(crate) fn new(per_s: u64, now: Instant) -> Option<Self> {
        let per_s = per_s as f64;
        (per_s > 0.0).then(|| Self { per_s, state: Mutex::new(State { level: per_s, at: now }) })
    }

    fn refill(&self, state: &mut State, now: Instant) {
        let gained = now.saturating_duration_since(state.at).as_secs_f64() * self.per_s;
        state.level = (state.level + gained).min(self.per_s);
        state.at = now;
    }

    /// Uses one, if it may.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        let is_there = state.level >= 1.0;
        if is_there {
            state.level -= 1.0;
        }
        is_there
    }

    /// Uses `amount`, whether it may or not.
    pub(crate) fn charge(&self, amount: f64, now: Instant) {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        state.level = (state.level - amount).max(-OWED_S_MAX * self.per_s);
    }

    /// Until when nothing may be used, because something is owed.
    pub(crate) fn rests_until(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state.lock();
        self.refill(&mut state, now);
        // A little longer, so that it is paid then, whatever was rounded.
        (state.level < -NOTHING)
            .then(|| now + Duration::from_secs_f64(-state.level / self.per_s) + Duration::from_micros(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const US: Duration = Duration::from_micros(1);

    #[test]
    fn so_much_a_second_and_a_second_saved_up() {
        let start = Instant::now();
        assert!(Allowance::new(0, start).is_none());
        let rate = Allowance::new(3, start).unwrap();
        let taken = |now| (0..10).filter(|_| rate.take(now)).count();
        assert_eq!(taken(start), 3);
        assert_eq!(taken(start + S / 2), 1);
        assert_eq!(taken(start + 60 * S), 3, "no more than a second's is saved up");
    }

    #[test]
    fn what_is_used_too_much_is_owed_and_not_for_ever() {
        let start = Instant::now();
        let rate = Allowance::new(100, start).unwrap();
        assert_eq!(rate.rests_until(start), None);
        rate.charge(300.0, start);
        assert_eq!(rate.rests_until(start), Some(start + 2 * S + US));
        assert_eq!(rate.rests_until(start + 2 * S), None);
        rate.charge(1e9, start + 2 * S);
        assert_eq!(rate.rests_until(start + 2 * S), Some(start + 12 * S + US));
    }

    #[test]
    fn rest_ends_when_it_was_said_to() {
        for per_s in [1, 7, 100, 1000, 1_000_000_000] {
            for owed in 1..3000 {
                let start = Instant::now();
                let rate = Allowance::new(per_s, start).unwrap();
                rate.charge((per_s + owed) as f64, start);
                let until = rate.rests_until(start).unwrap();
                assert_eq!(rate.rests_until(until), None, "{owed} at {per_s} a second");
            }
        }
    }
}
