//! Until when everything has come by both ways: by notices, and by rows. Pure.

use std::sync::{Mutex, PoisonError};

use crate::telemetry::clock::Tick;

/// The latest heartbeats of each way.
#[derive(Debug, Default)]
struct Latest {
    heard: Option<u64>,
    read: Option<u64>,
    vouched: Option<u64>,
}

impl Latest {
    /// What both have now come to, if it is later than before.
    fn both(&mut self) -> Option<Tick> {
        let both = self.heard.min(self.read);
        if both <= self.vouched {
            return None;
        }
        self.vouched = both;
        both.map(Tick::from_ms)
    }
}

/// It.
#[derive(Debug, Default)]
pub(super) struct Vouching(Mutex<Latest>);

impl Vouching {
    /// The heartbeat that was sent then has come back behind the notices before it.
    pub(super) fn heard(&self, sent: u64) -> Option<Tick> {
        self.now(|latest| latest.heard = latest.heard.max(Some(sent)))
    }

    /// What the statement that was begun then sees has been given on.
    pub(super) fn read(&self, begun: u64) -> Option<Tick> {
        self.now(|latest| latest.read = latest.read.max(Some(begun)))
    }

    fn now(&self, set: impl FnOnce(&mut Latest)) -> Option<Tick> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        set(&mut latest);
        latest.both()
    }
}

#[cfg(test)]
mod tests {
    use super::Vouching;
    use crate::telemetry::clock::Tick;

    #[test]
    fn a_moment_is_vouched_for_when_it_has_passed_by_both_ways() {
        let vouching = Vouching::default();
        assert_eq!(vouching.heard(5), None);
        assert_eq!(vouching.read(5), Some(Tick::from_ms(5)));
        assert_eq!(vouching.heard(5), None, "once is enough");
        assert_eq!(vouching.read(9), None);
        assert_eq!(vouching.heard(7), Some(Tick::from_ms(7)));
        assert_eq!(vouching.heard(12), Some(Tick::from_ms(9)));
    }
}
