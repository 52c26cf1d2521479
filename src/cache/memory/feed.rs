//! How far the change feed can be trusted: the moment up to which every change has been applied to what is in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use crate::telemetry::clock::Tick;

/// The moment up to which every change has been applied. A feed that has been silent for longer than
/// `max_staleness` vouches for nothing, whatever the connection looks like (hazard 5).
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// One more than the moment, which is a [`Tick`]; 0 before the first word.
    alive: AtomicU64,
    connected: AtomicBool,
}

impl Feed {
    pub(super) fn alive(&self, as_of: Tick) {
        self.alive.fetch_max(as_of.as_ms() + 1, SeqCst);
        self.connected.store(true, SeqCst);
    }

    /// A gap begins. What the feed vouched for until now ages from here on.
    pub(super) fn lost(&self) {
        self.connected.store(false, SeqCst);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(SeqCst)
    }

    /// True once it has said anything.
    pub(super) fn has_begun(&self) -> bool {
        self.alive.load(SeqCst) > 0
    }

    /// True when every change up to `moment` has been applied.
    pub(crate) fn has_vouched_for(&self, moment: Tick) -> bool {
        self.alive.load(SeqCst) > moment.as_ms()
    }

    /// True while it vouches for what is at most `max_staleness` milliseconds old.
    pub(super) fn is_fresh(&self, max_staleness: u64, now: Tick) -> bool {
        match self.alive.load(SeqCst) {
            0 => false,
            alive => now.since(Tick::from_ms(alive - 1)) <= max_staleness,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Feed;
    use crate::telemetry::clock::Tick;

    #[test]
    fn silence_is_not_calm() {
        let feed = Feed::default();
        let is_fresh_at = |now| feed.is_fresh(100, Tick::from_ms(now));
        assert!(!is_fresh_at(0));
        feed.alive(Tick::from_ms(50));
        assert!(is_fresh_at(150) && !is_fresh_at(151));
        feed.lost();
        assert!(is_fresh_at(150) && !is_fresh_at(151) && !feed.is_connected());
    }
}
