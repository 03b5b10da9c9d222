//! What can be chosen about a fetch.

use std::time::Duration;

/// How a fetch goes about it.
#[derive(Debug, Clone)]
pub struct FetchConfig {
    /// Providers that are asked; further ones are ignored. 1 to 1024; more need more memory, and help little.
    pub providers_max: usize,
    /// The smallest piece, which is also the first; in bytes, at least a group.
    pub piece_bytes_min: u64,
    /// The largest piece; in bytes.
    pub piece_bytes_max: u64,
    /// How long a provider should be busy with a piece, as far as the two bounds let it.
    pub piece_time: Duration,
    /// How long to wait for a next byte.
    pub stall_after: Duration,
    /// How long to wait before asking who was busy, has stalled, or was lost.
    pub back_off: Duration,
    /// How long to believe that a provider still has not what it had not. It may be fetching itself.
    pub ask_again_after: Duration,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            providers_max: 32,
            piece_bytes_min: 1 << 20,
            piece_bytes_max: 16 << 20,
            piece_time: Duration::from_millis(500),
            stall_after: Duration::from_secs(10),
            back_off: Duration::from_secs(1),
            ask_again_after: Duration::from_secs(2),
        }
    }
}
