//! How far a master was when: what a replica must have, to be up to date as of a moment (pure).

use std::collections::VecDeque;

use super::said::Said;
use crate::telemetry::clock::Tick;

/// How many answers are kept: a replica that is further behind is not read in any case.
const KEPT: usize = 16;

/// A master's last answers.
#[derive(Debug, Default)]
pub(super) struct History {
    id: String,
    /// When it was asked, and how far it was when it answered; the newest last.
    offsets: VecDeque<(Tick, u64)>,
}

impl History {
    /// A server that was asked at this moment has said this. One that is no master has no history.
    pub(super) fn note(&mut self, asked: Tick, said: &Said) {
        if !said.is_master || said.history != self.id {
            *self = Self { id: said.history.clone(), ..Self::default() };
        }
        if said.is_master {
            self.offsets.push_back((asked, said.offset));
            if self.offsets.len() > KEPT {
                self.offsets.pop_front();
            }
        }
    }

    /// The moment up to which a replica that says this has everything: whatever the master had done before it was asked
    /// is in the offset that it answered with, which comes with it.
    pub(super) fn covered(&self, replica: &Said) -> Option<(Tick, u64)> {
        if replica.history != self.id || replica.is_master || !replica.is_linked {
            return None;
        }
        self.offsets.iter().rev().find(|(_, offset)| *offset <= replica.offset).copied()
    }

    /// How many bytes a replica is behind the master's last answer.
    pub(super) fn behind(&self, replica: &Said) -> Option<u64> {
        let (_, offset) = self.offsets.back().filter(|_| replica.history == self.id)?;
        Some(offset.saturating_sub(replica.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::{History, Said, Tick};

    fn master(history: &str, offset: u64) -> Said {
        Said { is_master: true, history: history.into(), offset, ..Said::default() }
    }

    fn replica(history: &str, offset: u64) -> Said {
        Said { history: history.into(), offset, is_linked: true, ..Said::default() }
    }

    #[test]
    fn a_replica_has_all_that_the_master_had_when_it_was_asked() {
        let mut history = History::default();
        for (at, offset) in [(10, 100), (20, 200), (30, 300)] {
            history.note(Tick::from_ms(at), &master("a", offset));
        }
        let covered = |offset| history.covered(&replica("a", offset)).map(|(asked, _)| asked.as_ms());
        assert_eq!([99, 100, 250, 300, 400].map(covered), [None, Some(10), Some(20), Some(30), Some(30)]);
        assert_eq!((history.behind(&replica("a", 250)), history.behind(&replica("a", 400))), (Some(50), Some(0)));
    }

    #[test]
    fn what_follows_another_history_or_nobody_is_not_up_to_date() {
        let mut history = History::default();
        history.note(Tick::from_ms(10), &master("a", 100));
        assert_eq!(history.covered(&replica("b", 200)), None);
        assert_eq!(history.covered(&Said { is_linked: false, ..replica("a", 200) }), None);
        history.note(Tick::from_ms(20), &master("b", 50));
        assert_eq!(history.covered(&replica("a", 200)), None, "the master has begun another history");
        assert_eq!(history.covered(&replica("b", 60)).map(|(asked, offset)| (asked.as_ms(), offset)), Some((20, 50)));
        history.note(Tick::from_ms(30), &replica("b", 60));
        assert_eq!(history.covered(&replica("b", 60)), None, "it is no master any more");
    }
}
