//! Limits how often a line is logged about what others cause: one line now and then, with the number of those that were
//! not logged. Metrics count them all.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::clock::Tick;

/// Milliseconds between two lines about the same kind of thing, unless said otherwise.
const PAUSE: u64 = 10_000;

/// When something of one kind was last logged.
#[derive(Debug)]
pub struct LogThrottle {
    /// In milliseconds.
    pause: u64,
    /// In milliseconds of the clock, plus one; 0: never.
    logged: AtomicU64,
    /// How many there were since.
    passed: AtomicU64,
}

impl Default for LogThrottle {
    fn default() -> Self {
        Self::every(PAUSE)
    }
}

impl LogThrottle {
    /// Lines with at least so many milliseconds between them.
    #[must_use]
    pub const fn every(pause: u64) -> Self {
        Self { pause, logged: AtomicU64::new(0), passed: AtomicU64::new(0) }
    }

    /// If it is time for a line, the number of those that have had none since the last one.
    pub fn due(&self) -> Option<u64> {
        self.due_at(Tick::now().as_ms() + 1)
    }

    fn due_at(&self, now: u64) -> Option<u64> {
        let logged = self.logged.load(Relaxed);
        let is_due = logged == 0 || now.saturating_sub(logged) >= self.pause;
        if is_due && self.logged.compare_exchange(logged, now, Relaxed, Relaxed).is_ok() {
            return Some(self.passed.swap(0, Relaxed));
        }
        self.passed.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::LogThrottle;

    #[test]
    fn one_in_a_while_is_logged_and_the_others_are_counted() {
        let throttle = LogThrottle::every(1000);
        let due: Vec<Option<u64>> = [1, 2, 1000, 1001, 1500, 5000].map(|now| throttle.due_at(now)).into();
        assert_eq!(due, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
