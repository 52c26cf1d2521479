//! Milliseconds since the process began: TTLs and ages never follow the wall clock (hazard 26), and go on while the machine
//! sleeps, since its store and its clients do. The wall clock is for what clients and other processes name moments by.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

static START: LazyLock<Duration> = LazyLock::new(ticking);

/// The time since the machine was booted, sleep included.
/// Source: <https://man7.org/linux/man-pages/man2/clock_gettime.2.html> (CLOCK_BOOTTIME)
#[cfg(target_os = "linux")]
fn ticking() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Elsewhere what there is: it may stand still while the machine sleeps.
#[cfg(not(target_os = "linux"))]
fn ticking() -> Duration {
    static BEGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    BEGIN.elapsed()
}

/// Milliseconds since the process began. Never goes back.
#[must_use]
pub fn now_ms() -> u64 {
    let start = *START;
    ticking().saturating_sub(start).as_millis() as u64
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::ticking;

    /// What the kernel calls uptime counts sleep, too.
    #[cfg(target_os = "linux")]
    fn uptime() -> Duration {
        let text = std::fs::read_to_string("/proc/uptime").expect("Linux");
        let seconds: f64 = text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number");
        Duration::from_secs_f64(seconds)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_clock_is_the_one_that_goes_on_while_the_machine_sleeps() {
        let (before, now, after) = (uptime(), ticking(), uptime());
        // It tells hundredths of a second.
        assert!(before <= now && now <= after + Duration::from_millis(10), "{before:?} {now:?} {after:?}");
    }
}
