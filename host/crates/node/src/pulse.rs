//! When to look whether a peer is still there; both ends of a link do.

use macula_wire::limits::PING_INTERVAL;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// Ticks each [`PING_INTERVAL`], first after one. Kept across messages, not begun anew for each: a busy link is looked at
/// as well.
pub(crate) fn ping_interval() -> Interval {
    let mut interval = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
