//! The latest looks at what is visible, and of a change the last that did not see it. What had been read before that
//! look is older than the change: a look sees all that was seen before it, and nobody can change the row again before
//! the change can be seen. Pure but for the clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::store::logged::Look;
use crate::store::postgres::feed::snapshot::Snapshot;
use crate::telemetry::clock::Tick;

/// So many are kept: the stream is hardly ever so far behind what can be seen.
const KEPT: usize = 64;

pub(super) struct Looks {
    /// How many there have been in this process.
    count: Arc<AtomicU64>,
    /// The oldest first.
    latest: VecDeque<(Look, Snapshot)>,
}

impl Looks {
    pub(super) fn new(count: Arc<AtomicU64>) -> Self {
        Self { count, latest: VecDeque::new() }
    }

    /// Another one begins: to be called before the server is asked.
    pub(super) fn begin(&self) -> Look {
        let at = Tick::now();
        Look { number: self.count.fetch_add(1, SeqCst) + 1, at }
    }

    /// What it showed.
    pub(super) fn saw(&mut self, look: Look, snapshot: Snapshot) {
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back((look, snapshot));
    }

    /// What is visible, as far as it is known.
    pub(super) fn last(&self) -> Option<(Look, &Snapshot)> {
        self.latest.back().map(|(look, snapshot)| (*look, snapshot))
    }

    /// The last that did not see a transaction that has committed, by the low half of its number.
    pub(super) fn unseen(&self, number: u32) -> Option<Look> {
        self.latest.iter().rev().find(|(_, snapshot)| !snapshot.sees(number)).map(|(look, _)| *look)
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Looks};
    use crate::store::postgres::feed::snapshot::Snapshot;

    fn look(looks: &mut Looks, text: &str) -> u64 {
        let look = looks.begin();
        looks.saw(look, Snapshot::read(text).expect("a snapshot"));
        look.number
    }

    #[test]
    fn the_last_look_that_did_not_see_a_change_is_found() {
        let mut looks = Looks::new(Default::default());
        assert_eq!(looks.unseen(10), None);
        let first = look(&mut looks, "10:10:");
        let second = look(&mut looks, "10:12:10");
        let third = look(&mut looks, "12:12:");
        let unseen = |looks: &Looks, number| looks.unseen(number).map(|look| look.number);
        assert_eq!(unseen(&looks, 9), None, "it could be seen before all of them");
        assert_eq!((unseen(&looks, 10), unseen(&looks, 11)), (Some(second), Some(first)));
        assert_eq!(unseen(&looks, 12), Some(third));
        (0..KEPT).for_each(|_| _ = look(&mut looks, "13:13:"));
        assert_eq!(unseen(&looks, 10), None, "that is too long ago");
    }
}
