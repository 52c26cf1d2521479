//! How a strand goes on while the store refuses some of its rows for a reason that may pass: batches get smaller until
//! the row at fault is alone, which rests and is tried again alone, while the others go on. Knows no store.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cache::memory::overlay::Rows;
use crate::journal::Entry;
use crate::keys::MappingId;

/// After so many rows of a mapping one after the other no row is at fault: all of them wait for the next flush.
const MOST_REFUSALS: usize = 16;

/// How long a row rests at first; each next pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// It doubles so often at most: to 8 seconds.
const MOST_DOUBLINGS: u32 = 5;

/// Of one strand.
#[derive(Debug, Default)]
pub(super) struct Pace {
    mappings: HashMap<MappingId, Step>,
    resting: HashMap<Bytes, Rest>,
}

/// Of one mapping.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The most rows of a batch.
    most: usize,
    /// Rows that were refused, one after the other.
    refusals: usize,
}

/// Of one row.
#[derive(Debug)]
struct Rest {
    /// The newest change that was refused; with a newer one it is another row.
    newest: u64,
    until: Instant,
    times: u32,
}

/// What is next after a batch was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Fewer rows of the mapping, or others.
    GoesOn,
    /// The mapping's rows wait for the next flush.
    Waits,
}

fn newest(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.seq).max().unwrap_or_default()
}

impl Pace {
    /// The most rows of the mapping's next batch.
    pub(super) fn most(&self, mapping: MappingId) -> usize {
        self.mappings.get(&mapping).map_or(usize::MAX, |step| step.most.max(1))
    }

    /// True of a row that was not refused with these changes.
    pub(super) fn is_fresh(&self, key: &Bytes, entries: &[Entry]) -> bool {
        self.resting.get(key).is_none_or(|rest| rest.newest != newest(entries))
    }

    /// True of one that has rested.
    pub(super) fn is_due(&self, key: &Bytes, now: Instant) -> bool {
        self.resting.get(key).is_some_and(|rest| rest.until <= now)
    }

    /// Whatever rests is tried again now.
    pub(super) fn rouse(&mut self) {
        let now = Instant::now();
        self.resting.values_mut().for_each(|rest| rest.until = now);
    }

    /// A batch of the mapping is judged, and was not refused for what may pass.
    pub(super) fn passed(&mut self, mapping: MappingId, rows: &Rows) {
        for (key, _) in rows {
            self.resting.remove(key);
        }
        if let Some(step) = self.mappings.get_mut(&mapping) {
            (step.most, step.refusals) = (step.most.saturating_mul(2), 0);
        }
    }

    /// A batch of the mapping was refused for what may pass.
    pub(super) fn refused(&mut self, mapping: MappingId, rows: &Rows) -> Next {
        let step = self.mappings.entry(mapping).or_insert(Step { most: usize::MAX, refusals: 0 });
        step.most = (rows.len() / 2).max(1);
        let [(key, entries)] = &rows[..] else { return Next::GoesOn };
        let newest = newest(entries);
        let rest = self.resting.entry(key.clone()).or_insert_with(|| Rest { newest, until: Instant::now(), times: 0 });
        if rest.newest != newest {
            (rest.newest, rest.times) = (newest, 0);
        }
        rest.until = Instant::now() + FIRST_PAUSE * 2_u32.pow(rest.times.min(MOST_DOUBLINGS));
        (rest.times, step.refusals) = (rest.times + 1, step.refusals + 1);
        if step.refusals < MOST_REFUSALS { Next::GoesOn } else { Next::Waits }
    }

    /// Forgets what does not wait any more.
    pub(super) fn keep(&mut self, waits: impl Fn(&Bytes) -> bool) {
        self.resting.retain(|key, _| waits(key));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;

    use super::{MOST_REFUSALS, Next, Pace};
    use crate::cache::memory::overlay::Rows;
    use crate::journal::{Change, Entry};
    use crate::keys::MappingId;

    fn row(key: usize, seq: u64) -> (Bytes, Vec<Entry>) {
        let key = Bytes::from(format!("p:{key}"));
        let change = Change::Field(Bytes::from("f"), None);
        (key.clone(), vec![Entry { seq, mapping: "p:{id}".into(), key, change }])
    }

    #[test]
    fn batches_are_halved_until_a_row_is_alone_which_rests_and_grow_again() {
        let (mut pace, id) = (Pace::default(), MappingId::default());
        let mut rows: Rows = (0..8).map(|key| row(key, 1)).collect();
        for most in [4, 2, 1] {
            assert_eq!(pace.refused(id, &rows), Next::GoesOn);
            assert_eq!(pace.most(id), most);
            rows.truncate(most);
        }
        assert_eq!(pace.refused(id, &rows), Next::GoesOn);
        let (key, entries) = rows.remove(0);
        assert!(!pace.is_fresh(&key, &entries) && !pace.is_due(&key, Instant::now()));
        assert!(pace.is_due(&key, Instant::now() + Duration::from_secs(1)));
        assert!(pace.is_fresh(&key, &row(0, 2).1), "it has another value");
        pace.passed(id, &vec![row(0, 1)]);
        assert_eq!(pace.most(id), 2);
        assert!(pace.is_fresh(&key, &row(0, 1).1));
    }

    #[test]
    fn where_every_row_is_refused_none_is_at_fault() {
        let (mut pace, id) = (Pace::default(), MappingId::default());
        let told: Vec<Next> = (0..=MOST_REFUSALS).map(|key| pace.refused(id, &vec![row(key, 1)])).collect();
        assert_eq!(told.iter().filter(|next| **next == Next::Waits).count(), 2);
        pace.passed(id, &Vec::new());
        assert_eq!(pace.refused(id, &vec![row(99, 1)]), Next::GoesOn);
    }
}
