//! What one plugin may use.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

/// Bounds on what a plugin uses. Defaults suit a small handler; each has a range outside of which it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of one instance, in MiB: 1 to 4,095.
    pub memory_mib: u32,
    /// Guest time of one handler, in milliseconds: 10 to 600,000. Time spent waiting in the host does not count.
    pub handler_ms: u32,
    /// Timers set at a time: up to 65,536.
    pub timers: u32,
    /// Subscriptions at a time, and offers likewise: up to 4,096.
    pub subscriptions: u32,
    /// Messages that may wait in a subscription that does not say: 1 to 65,536.
    pub queue_messages: u32,
    /// Bytes of log in a second; what is above is counted and dropped. Up to 16 MiB.
    pub log_bytes_per_s: u32,
    /// Guest time of all instances together in a second, in milliseconds: what is above is made up for by rest, while its
    /// messages wait. 0: no limit but that of a handler. Up to 64,000.
    pub cpu_ms_per_s: u32,
    /// Messages published in a second; what is above fails with `quota-exceeded`. 0: no limit. Up to 10,000,000.
    pub publish_per_s: u32,
    /// Functions of the host called in a second, by all instances together: what is above is made up for by rest, while its
    /// messages wait. 0: no limit. Up to 100,000,000.
    pub host_calls_per_s: u32,
    /// Seconds without work after which an instance gives its memory back, its state kept by `state-handler`, until there is
    /// work again. 0: never. Up to 2,592,000 (30 days).
    pub evict_after_s: u32,
    /// Instances that share the topics among them: 1 to 64. Each has a memory of its own.
    pub instances: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 64,
            handler_ms: 5000,
            timers: 256,
            subscriptions: 64,
            queue_messages: 1024,
            log_bytes_per_s: 65_536,
            cpu_ms_per_s: 0,
            publish_per_s: 0,
            host_calls_per_s: 0,
            evict_after_s: 0,
            instances: 1,
        }
    }
}

/// Why limits were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key} = {value}` is outside {} to {}", range.start(), range.end())]
pub(crate) struct LimitError {
    pub(crate) key: &'static str,
    value: u32,
    range: RangeInclusive<u32>,
}

impl Limits {
    /// Checks every bound.
    pub(crate) fn check(&self) -> Result<(), LimitError> {
        let bounds = [
            ("memory-mib", self.memory_mib, 1..=4095),
            ("handler-ms", self.handler_ms, 10..=600_000),
            ("timers", self.timers, 0..=65_536),
            ("subscriptions", self.subscriptions, 0..=4096),
            ("queue-messages", self.queue_messages, 1..=macula_wire::limits::QUEUE_MESSAGES_MAX),
            ("log-bytes-per-s", self.log_bytes_per_s, 0..=16 << 20),
            ("cpu-ms-per-s", self.cpu_ms_per_s, 0..=64_000),
            ("publish-per-s", self.publish_per_s, 0..=10_000_000),
            ("host-calls-per-s", self.host_calls_per_s, 0..=100_000_000),
            ("evict-after-s", self.evict_after_s, 0..=2_592_000),
            ("instances", self.instances, 1..=64),
        ];
        match bounds.into_iter().find(|(_, value, range)| !range.contains(value)) {
            Some((key, value, range)) => Err(LimitError { key, value, range }),
            None => Ok(()),
        }
    }

    /// Linear memory of one instance, in bytes.
    pub fn memory_bytes(&self) -> usize {
        (self.memory_mib as usize) << 20
    }

    /// Guest time of one handler.
    pub fn handler_time(&self) -> Duration {
        Duration::from_millis(u64::from(self.handler_ms))
    }
}
