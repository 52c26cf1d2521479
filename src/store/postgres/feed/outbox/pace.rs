//! How often the outbox is read, and when notices are so many that it is to be read. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// It is read so often while rows come.
const PACE: Duration = Duration::from_millis(5);

/// So many notices within so long are many.
const MANY: u32 = 20;
const WITHIN: Duration = Duration::from_millis(100);

/// Fewer rows than that in such a time are few.
const FEW: u64 = 50;
const WINDOW: Duration = Duration::from_secs(1);

/// While it rests, the time to the next reading is this part of the rest: a transaction that began before is as old.
const PART: u32 = 4;

/// At rest it is read so often at least: the server ends the session of a reader that is silent for long.
const LONGEST: Duration = Duration::from_secs(10);

/// Counts notices.
pub(super) struct Heard {
    begun: Instant,
    count: u32,
}

impl Heard {
    pub(super) const fn new(now: Instant) -> Self {
        Self { begun: now, count: 0 }
    }

    /// One more has come: whether that makes them many.
    pub(super) fn is_many(&mut self, now: Instant) -> bool {
        if now >= self.begun + WITHIN {
            *self = Self::new(now);
        }
        self.count += 1;
        self.count.is_multiple_of(MANY)
    }
}

/// How often it is read.
pub(super) struct Pace {
    /// Since when it rests.
    rests_since: Option<Instant>,
    /// When the rows that have come were counted from, and how many there are.
    counted_from: Instant,
    rows: u64,
    /// When the next heartbeat is due.
    next_beat: Instant,
    /// The time between two heartbeats.
    interval: Duration,
}

impl Pace {
    /// Of a feed that begins: another sidecar may hold the lock, which it finds out first.
    pub(super) fn new(now: Instant, interval: Duration) -> Self {
        let counted_from = now.checked_sub(WINDOW).unwrap_or(now);
        Self { rests_since: None, counted_from, rows: 0, next_beat: now, interval }
    }

    /// Whether a reading that begins now is a heartbeat, too.
    pub(super) fn beats(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next_beat;
        if is_due {
            self.next_beat = now + self.interval;
        }
        is_due
    }

    /// Counts the rows of a reading: whether they have become few.
    pub(super) fn is_quiet(&mut self, now: Instant, rows: u64) -> bool {
        self.rows += rows;
        if self.rests_since.is_some() || now < self.counted_from + WINDOW {
            return false;
        }
        self.counted_from = now;
        std::mem::take(&mut self.rows) < FEW
    }

    pub(super) const fn rest(&mut self, now: Instant) {
        self.rests_since = Some(now);
    }

    pub(super) const fn wake(&mut self, now: Instant) {
        (self.rests_since, self.counted_from, self.rows) = (None, now, 0);
    }

    pub(super) const fn rests_since(&self) -> Option<Instant> {
        self.rests_since
    }

    /// When it is read next, after a reading that began then.
    pub(super) fn next(&self, begun: Instant) -> Instant {
        let Some(since) = self.rests_since else { return begun + PACE };
        let longest = self.interval.min(LONGEST);
        begun + ((begun - since) / PART).max(PACE).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Heard, Pace};

    #[test]
    fn twenty_notices_within_a_tenth_of_a_second_are_many() {
        let (begun, mut heard) = (Instant::now(), Heard::new(Instant::now()));
        let mut at = |ms| heard.is_many(begun + Duration::from_millis(ms));
        assert!((0..19).all(|i| !at(i * 5)), "{}", "too few");
        assert!((0..19).all(|i| !at(200 + i)), "those before are too long ago");
        assert!(at(219) && !at(220));
    }

    #[test]
    fn a_rest_begins_after_a_second_of_few_rows_and_grows_slower() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut pace = Pace::new(begun, Duration::from_secs(2));
        assert!(pace.beats(begun) && !pace.beats(at(1_999)) && pace.beats(at(2_000)));
        assert!(pace.is_quiet(begun, 0), "it finds out first whether it may rest");
        pace.wake(begun);
        assert_eq!(pace.next(begun), at(5));
        assert!(!pace.is_quiet(at(999), 30) && !pace.is_quiet(at(1_000), 30), "that was much");
        assert!(!pace.is_quiet(at(1_999), 49) && pace.is_quiet(at(2_000), 0));
        pace.rest(at(2_000));
        assert!(!pace.is_quiet(at(9_000), 0), "it rests already");
        for (since, wait) in [(0, 5), (20, 5), (1_000, 250), (4_000, 1_000), (100_000, 2_000)] {
            assert_eq!(pace.next(at(2_000 + since)), at(2_000 + since + wait));
        }
        assert_eq!(pace.rests_since(), Some(at(2_000)));
    }
}
