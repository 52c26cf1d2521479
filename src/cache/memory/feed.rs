//! How far the change feed vouches for what is in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
/// The moment up to which every change has been applied. A feed that has been silent for longer than
/// `max_staleness` vouches for nothing, whatever the connection looks like (hazard 5).
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// One more than the moment; 0 before the first word.
    alive: AtomicU64,
    connected: AtomicBool,
}

impl Feed {
    pub(crate) fn alive(&self, as_of: u64) {
        self.alive.fetch_max(as_of + 1, SeqCst);
        self.connected.store(true, SeqCst);
    }

    /// A gap begins. What the feed vouched for until now ages from here on.
    pub(crate) fn lost(&self) {
        self.connected.store(false, SeqCst);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(SeqCst)
    }

    /// True when every change up to `moment` has been applied.
    pub(crate) fn has_vouched_for(&self, moment: u64) -> bool {
        self.alive.load(SeqCst) > moment
    }

    /// True while it vouches for what is at most `max_staleness` milliseconds old.
    pub(crate) fn is_fresh(&self, max_staleness: u64, now: u64) -> bool {
        match self.alive.load(SeqCst) {
            0 => false,
            alive => now.saturating_sub(alive - 1) <= max_staleness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Feed;

    #[test]
    fn silence_is_not_calm() {
        let feed = Feed::default();
        assert!(!feed.is_fresh(100, 0));
        feed.alive(50);
        assert!(feed.is_fresh(100, 150) && !feed.is_fresh(100, 151));
        feed.lost();
        assert!(feed.is_fresh(100, 150) && !feed.is_fresh(100, 151) && !feed.is_connected());
    }
}
