//! How far the change feed vouches for what is in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::telemetry::clock::millis;

/// The moment up to which every change has been applied. A feed that has been silent for longer than
/// `max_staleness` vouches for nothing, whatever the connection looks like (hazard 5).
#[derive(Debug)]
pub(super) struct Feed {
    max_staleness: u64,
    /// One more than the moment; 0 before the first word.
    alive: AtomicU64,
    connected: AtomicBool,
}

impl Feed {
    pub(super) fn new(max_staleness: Duration) -> Self {
        Self { max_staleness: millis(max_staleness), alive: AtomicU64::new(0), connected: AtomicBool::new(false) }
    }

    pub(super) fn alive(&self, as_of: u64) {
        self.alive.fetch_max(as_of + 1, SeqCst);
        self.connected.store(true, SeqCst);
    }

    /// A gap begins. What the feed vouched for until now ages from here on.
    pub(super) fn lost(&self) {
        self.connected.store(false, SeqCst);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(SeqCst)
    }

    pub(super) fn is_fresh(&self, now: u64) -> bool {
        match self.alive.load(SeqCst) {
            0 => false,
            alive => self.tolerates(alive - 1, now),
        }
    }

    /// True for what was true at `moment` and is not too old at `now`.
    pub(super) const fn tolerates(&self, moment: u64, now: u64) -> bool {
        now.saturating_sub(moment) <= self.max_staleness
    }
}

#[cfg(test)]
mod tests {
    use super::Feed;
    use std::time::Duration;

    #[test]
    fn silence_is_not_calm() {
        let feed = Feed::new(Duration::from_millis(100));
        assert!(!feed.is_fresh(0));
        feed.alive(50);
        assert!(feed.is_fresh(150) && !feed.is_fresh(151));
        feed.lost();
        assert!(feed.is_fresh(150) && !feed.is_fresh(151) && !feed.is_connected());
    }
}
