//! Be woken later, by [`TimerHandler`](crate::TimerHandler).
//!
//! A timer is known by a name of 1 to 64 bytes, so that the next version knows what it is for: timers belong to the
//! plugin, outlive a swap or a crash of the instance, and end with the host. Setting a name again replaces its timer.

use crate::{Error, error::milliseconds, host};
use std::time::Duration;

/// One tick after this delay (zero: right after the current handler).
///
/// # Errors
/// `Invalid` (name, delay), `QuotaExceeded`.
pub fn after(name: &str, delay: Duration) -> Result<(), Error> {
    host::timer_after(name, milliseconds("delay", delay)?)
}

/// A tick each period (at least 10 ms), first after one period. The same `every` again keeps its rhythm, so that `init`
/// may always set it. Ticks that fall due while the instance is busy are not queued: the next one says how many were
/// missed.
///
/// # Errors
/// `Invalid` (name, period), `QuotaExceeded`.
pub fn every(name: &str, period: Duration) -> Result<(), Error> {
    host::timer_every(name, milliseconds("period", period)?)
}

/// Stops a timer; afterwards no tick of it arrives. False when there was none.
pub fn cancel(name: &str) -> bool {
    host::timer_cancel(name)
}
