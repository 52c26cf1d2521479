//! Monotonic milliseconds since the process began: TTLs and ages never follow the wall clock (hazard 26). The wall clock
//! is for what clients and other processes name moments by.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the process began. Never goes back.
#[must_use]
pub fn now_ms() -> u64 {
    START.elapsed().as_millis() as u64
}

/// Milliseconds since 1970 by the wall clock. May go back.
#[must_use]
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

/// A duration in whole milliseconds.
#[must_use]
pub const fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
