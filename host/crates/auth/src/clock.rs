//! A clock that is behind this program cannot tell what has expired.

/// The clock says a time before this program was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock says {now} (unix), which is before this program was built ({built}): it cannot tell what has expired"
)]
pub struct ClockBehind {
    /// What the clock says, in unix seconds.
    pub now: u64,
    /// When the program was built, in unix seconds.
    pub built: u64,
}

/// Refuses a clock that cannot be right.
///
/// # Errors
/// [`ClockBehind`] when `now` lies before `built`.
pub fn check_clock(now: u64, built: u64) -> Result<(), ClockBehind> {
    if now < built { Err(ClockBehind { now, built }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_build_is_behind() {
        assert_eq!(check_clock(99, 100), Err(ClockBehind { now: 99, built: 100 }));
        assert_eq!(check_clock(100, 100), Ok(()));
    }
}
