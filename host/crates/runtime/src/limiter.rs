//! Memory and tables of one instance, held to the plugin's limits.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use wasmtime::ResourceLimiter;

use crate::engine::{CORE_INSTANCES_PER_COMPONENT, MEMORIES_PER_COMPONENT, TABLE_ELEMENTS_MAX, TABLES_PER_COMPONENT};

/// What an instance may have beyond its limit while it encodes or decodes its state: as much again as the limit, and at least so
/// much. A state and its encoding are in memory together, and an instance that aborts for want of memory loses both.
const STATE_ALLOWANCE_BYTES_MIN: usize = 64 << 20;

/// Refuses growth beyond the plugin's limit; the guest sees `memory.grow` fail, as it does on a small machine.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// The plugin's limit.
    limit_bytes: usize,
    /// What holds now: the limit, or more while there is an allowance.
    bytes_max: usize,
    /// Over all memories of the instance.
    bytes: usize,
    /// The same, for others to read.
    gauge: Arc<AtomicU64>,
}

impl Limiter {
    pub(crate) fn new(bytes_max: usize, gauge: Arc<AtomicU64>) -> Self {
        gauge.store(0, Ordering::Relaxed);
        Self { limit_bytes: bytes_max, bytes_max, bytes: 0, gauge }
    }

    /// The guest encodes or decodes its state from now on. A memory has 4 GiB at most all the same.
    pub(crate) fn begin_state(&mut self) {
        self.bytes_max = self.limit_bytes.saturating_add(self.limit_bytes.max(STATE_ALLOWANCE_BYTES_MIN));
    }

    /// It has done so. What it has grown to stays, as memories do not shrink, and it gets no more.
    pub(crate) fn end_state(&mut self) {
        self.bytes_max = self.limit_bytes;
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.gauge.store(0, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.bytes.saturating_add(desired.saturating_sub(current));
        if total > self.bytes_max || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.bytes = total;
        self.gauge.store(total as u64, Ordering::Relaxed);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_PER_COMPONENT as usize
    }

    fn tables(&self) -> usize {
        TABLES_PER_COMPONENT as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_PER_COMPONENT as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_count_together() {
        let gauge = Arc::new(AtomicU64::new(9));
        let mut limiter = Limiter::new(100, Arc::clone(&gauge));
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(!limiter.memory_growing(0, 41, None).unwrap(), "a second memory");
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(!limiter.memory_growing(60, 61, None).unwrap());
        assert_eq!(gauge.load(Ordering::Relaxed), 100);
        drop(limiter);
        assert_eq!(gauge.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_state_may_have_as_much_again_and_only_while_it_is_encoded() {
        const MIB: usize = 1 << 20;
        for (limit, with_allowance) in [(MIB, 65 * MIB), (64 * MIB, 128 * MIB), (1024 * MIB, 2048 * MIB)] {
            let mut limiter = Limiter::new(limit, Arc::default());
            assert!(limiter.memory_growing(0, limit, None).unwrap());
            assert!(!limiter.memory_growing(limit, limit + 1, None).unwrap());
            limiter.begin_state();
            assert!(!limiter.memory_growing(limit, with_allowance + 1, None).unwrap());
            assert!(limiter.memory_growing(limit, with_allowance - 1, None).unwrap());
            limiter.end_state();
            assert!(!limiter.memory_growing(with_allowance - 1, with_allowance, None).unwrap());
            // Another time it is no more than the first.
            limiter.begin_state();
            assert!(!limiter.memory_growing(with_allowance - 1, with_allowance + 1, None).unwrap());
        }
    }
}
