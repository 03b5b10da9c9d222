//! What a plugin may use in a second, all its instances together.

use std::time::Duration;

use tokio::time::Instant;

use crate::{allowance::Allowance, clock::Clock, manifest::Limits};

/// See the module. What has no limit costs nothing here.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// Guest time, in nanoseconds.
    cpu: Option<Allowance>,
    host_calls: Option<Allowance>,
    publishes: Option<Allowance>,
}

impl Quotas {
    pub(crate) fn new(limits: &Limits, clock: &Clock) -> Self {
        let now = Instant::now();
        let cpu = Allowance::new(u64::from(limits.cpu_ms_per_s) * 1_000_000, now);
        Self {
            // In virtual time nothing that takes real time is to make a difference.
            cpu: cpu.filter(|_| !clock.is_virtual()),
            host_calls: Allowance::new(limits.host_calls_per_s.into(), now),
            publishes: Allowance::new(limits.publish_per_s.into(), now),
        }
    }

    /// Charges what a handler has used.
    pub(crate) fn charge(&self, guest_time: Duration, host_calls: u64) {
        if let Some(cpu) = &self.cpu {
            cpu.charge(guest_time.as_nanos() as f64, Instant::now());
        }
        if let Some(allowance) = &self.host_calls {
            allowance.charge(host_calls as f64, Instant::now());
        }
    }

    /// Charges a message to be published, if it may be.
    pub(crate) fn take_publish(&self) -> bool {
        self.publishes.as_ref().is_none_or(|publishes| publishes.take(Instant::now()))
    }

    /// Until when nothing is handled, because more was used than may be.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        if self.cpu.is_none() && self.host_calls.is_none() {
            return None;
        }
        let now = Instant::now();
        [&self.cpu, &self.host_calls].into_iter().flatten().filter_map(|one| one.rests_until(now)).max()
    }
}
