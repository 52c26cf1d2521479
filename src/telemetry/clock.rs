//! Monotonic milliseconds since the process began: TTLs and ages never follow the wall clock (hazard 26).

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the process began. Never goes back.
#[must_use]
pub fn now_ms() -> u64 {
    START.elapsed().as_millis() as u64
}

/// A duration in whole milliseconds.
#[must_use]
pub const fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
