//! What time it is: the host's clock, or a test's virtual one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time now. Use this rather than [`SystemTime::now`], so that tests can set the time.
pub fn now() -> SystemTime {
    #[cfg(target_arch = "wasm32")]
    return SystemTime::now();
    #[cfg(not(target_arch = "wasm32"))]
    return UNIX_EPOCH + Duration::from_millis(crate::host::now_ms());
}

/// The time now in milliseconds since 1970-01-01 UTC, like [`Message::timestamp_ms`](crate::Message::timestamp_ms).
pub fn now_ms() -> u64 {
    let since = now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
