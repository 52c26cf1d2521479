//! Milliseconds since the process began: TTLs and ages never follow the wall clock (hazard 26), and go on while the
//! machine sleeps, since its store and its clients do. The wall clock is for the times that clients and other processes
//! name.

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

/// A moment of the process's clock: milliseconds since the process began. Ages and TTLs are counted with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

impl Tick {
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// This moment. Never goes back.
    #[must_use]
    pub fn now() -> Self {
        let start = *START;
        Self(millis(ticking().saturating_sub(start)))
    }

    /// The moment so many milliseconds after the process began.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the process began.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// The moment `ms` milliseconds later, at most [`Tick::NEVER`].
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 if `earlier` comes after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The same clock to the microsecond, for what is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// This moment. Never goes back.
    #[must_use]
    pub fn now() -> Self {
        let start = *START;
        Self(ticking().saturating_sub(start).as_micros() as u64)
    }

    /// The same in milliseconds.
    #[must_use]
    pub const fn tick(self) -> Tick {
        Tick(self.0 / 1000)
    }

    /// Microseconds since `earlier`; 0 if that comes after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Microseconds since then.
    #[must_use]
    pub fn age(self) -> u64 {
        Self::now().since(self)
    }
}

/// A moment of the wall clock: milliseconds since 1970. Clients, the store and the journal's file name moments by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMs(i64);

impl UnixMs {
    /// This moment, as far as the wall clock is right. May go back.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64))
    }

    /// The moment so many milliseconds after the beginning of 1970.
    #[must_use]
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// The moment `ms` milliseconds later, or earlier where that is negative.
    #[must_use]
    pub const fn plus(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; negative if `earlier` comes after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// This moment of the wall clock: microseconds since 1970.
#[must_use]
pub fn unix_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}

/// A duration in whole milliseconds.
#[must_use]
pub const fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Tick, UnixMs, ticking};

    #[test]
    fn moments_never_leave_their_range_and_a_tick_has_no_age_before_itself() {
        assert_eq!(Tick::NEVER.plus(1), Tick::NEVER);
        assert_eq!((Tick::from_ms(7).since(Tick::from_ms(5)), Tick::from_ms(5).since(Tick::from_ms(7))), (2, 0));
        assert_eq!(UnixMs::from_ms(i64::MAX).plus(1), UnixMs::from_ms(i64::MAX));
        assert_eq!(UnixMs::from_ms(5).since(UnixMs::from_ms(7)), -2);
    }

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
