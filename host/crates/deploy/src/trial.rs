//! Whether a version that has just taken over does at least as well as the one before.

use serde::{Deserialize, Serialize};

/// Pieces of work after which a rate of errors says something.
const HANDLED_MIN: u64 = 20;
/// How much more often than before something may go wrong, as a share of all work: below, it is noise.
const RATE_MARGIN: f64 = 0.05;

/// What a plugin has done so far, over all its versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages, calls and ticks that were handled, well or not.
    pub handled: u64,
    /// Of these, those that went wrong: errors, retries, rejections, dead letters, traps.
    pub wrong: u64,
}

impl Counts {
    pub(crate) fn since(self, before: Self) -> Self {
        Self { handled: self.handled.saturating_sub(before.handled), wrong: self.wrong.saturating_sub(before.wrong) }
    }

    fn rate(self) -> f64 {
        if self.handled == 0 { 0.0 } else { self.wrong as f64 / self.handled.max(self.wrong) as f64 }
    }
}

/// What a look at a version on trial says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Too early to tell.
    Undecided,
    /// It stays.
    Passed,
    /// It goes, and why.
    Failed(String),
}

/// A version on trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// When it is over, in unix milliseconds.
    until: u64,
    /// When it began.
    begin: Counts,
    /// How often things went wrong before, as a share of all work.
    rate_before: f64,
}

impl Trial {
    /// Begins at `now` and lasts for `length` milliseconds. `before` is what the version before did in its time, `begin` what
    /// has been counted in all until now.
    pub fn new(now: u64, length: u64, before: Counts, begin: Counts) -> Self {
        Self { until: now.saturating_add(length), begin, rate_before: before.rate() }
    }

    /// When it is over, in unix milliseconds.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// Looks at the version: what has been counted in all until now, and why it has failed altogether, if it has.
    pub fn look(&self, now: u64, counts: Counts, failed: Option<&str>) -> Verdict {
        if let Some(reason) = failed {
            return Verdict::Failed(reason.to_owned());
        }
        let own = counts.since(self.begin);
        if own.handled >= HANDLED_MIN && own.rate() > self.rate_before + RATE_MARGIN {
            return Verdict::Failed(format!(
                "{} of {} went wrong ({:.0} %), and {:.0} % with the version before",
                own.wrong,
                own.handled,
                own.rate() * 100.0,
                self.rate_before * 100.0
            ));
        }
        if now >= self.until { Verdict::Passed } else { Verdict::Undecided }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(handled: u64, wrong: u64) -> Counts {
        Counts { handled, wrong }
    }

    #[test]
    fn what_is_worse_than_before_goes() {
        let trial = Trial::new(0, 100, counts(1000, 100), counts(1000, 100));
        assert_eq!(trial.look(0, counts(1000, 100), None), Verdict::Undecided);
        assert_eq!(trial.look(0, counts(1019, 119), None), Verdict::Undecided, "too few to tell");
        assert!(matches!(trial.look(0, counts(1020, 104), None), Verdict::Failed(why) if why.contains("4 of 20")));
        assert_eq!(trial.look(0, counts(1100, 110), None), Verdict::Undecided, "as bad as before");
        assert_eq!(trial.look(100, counts(1100, 115), None), Verdict::Passed);
        assert_eq!(trial.look(100, counts(1000, 100), None), Verdict::Passed, "nothing came");
        assert_eq!(trial.look(1, counts(1000, 100), Some("fell")), Verdict::Failed("fell".into()));
    }

    #[test]
    fn with_nothing_before_all_must_be_well() {
        let trial = Trial::new(0, 100, counts(0, 0), counts(0, 0));
        assert!(matches!(trial.look(0, counts(20, 2), None), Verdict::Failed(_)));
        assert_eq!(trial.look(0, counts(20, 1), None), Verdict::Undecided);
        // More went wrong than was handled: retries count each time.
        assert!(matches!(trial.look(0, counts(20, 90), None), Verdict::Failed(_)));
    }
}
