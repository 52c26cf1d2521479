//! What goes on with one key: its load, the load before it, and its writes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;

use super::waiting::{Flight, Predecessor, Turn, Waiter};
use super::watchers::Watchers;

/// Keys with which something goes on.
pub(super) type Shard = HashMap<Bytes, Slot, foldhash::quality::RandomState>;

/// What goes on with one key.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The load that readers join.
    pub(super) flight: Option<Arc<Flight>>,
    /// The last load that may not publish any more. What it reads may be newer than what a load beside it reads, so
    /// that whatever comes next waits for its end: a later reader never sees less than an earlier one.
    passed: Option<Arc<Flight>>,
    /// Writes that have queued and not ended, in their order.
    pub(super) turns: VecDeque<Arc<Turn>>,
    pub(super) watchers: Watchers,
}

impl Slot {
    /// The last of the writes that are under way.
    pub(super) fn after(&self) -> Option<Predecessor> {
        self.turns.back().map(|turn| turn.followed())
    }

    /// Somebody waits for the key's load, and for the one before it.
    pub(super) fn hasten(&self) {
        self.flight.iter().chain(&self.passed).for_each(|flight| flight.urgency.raise());
    }

    /// Nobody joins the key's load any more, and it does not publish; whoever comes next waits for its end.
    pub(super) fn pass(&mut self) -> Option<Waiter> {
        self.passed = self.flight.take().or(self.passed.take());
        self.passed.as_ref().filter(|passed| !passed.has_ended()).map(|passed| passed.joined())
    }

    /// What a load or write that is under way has learnt may be older than a change. A load that has not asked yet
    /// learns of it.
    pub(super) fn overtake(&mut self) {
        if self.flight.as_ref().is_some_and(|flight| flight.is_overtaken()) {
            self.passed = self.flight.take();
        }
        self.turns.iter().for_each(|turn| turn.overtaken.store(true, SeqCst));
    }

    /// True when nobody loads or writes the key.
    pub(super) fn is_quiet(&self) -> bool {
        let is_under_way = self.passed.as_ref().is_some_and(|passed| !passed.has_ended());
        self.flight.is_none() && !is_under_way && self.turns.is_empty()
    }

    /// True when nothing goes on.
    pub(super) fn is_idle(&self) -> bool {
        self.is_quiet() && self.watchers.is_empty()
    }
}

/// Gives a slot's memory back when nothing goes on with its key.
pub(super) fn tidy(shard: &mut Shard, key: &[u8]) {
    if shard.get(key).is_some_and(Slot::is_idle) {
        shard.remove(key);
    }
}
