//! Many entries as few statements: which of them are written or marked, and how many by each statement.

use std::collections::HashSet;

use foldhash::quality::RandomState;

use super::Entry;

/// The last of each key's field, in their order, and the weight of the others.
pub(super) fn last_of_each(entries: Vec<Entry>) -> (Vec<Entry>, u64) {
    let mut seen = HashSet::with_capacity_and_hasher(entries.len(), RandomState::default());
    let is_last: Vec<bool> =
        entries.iter().rev().map(|entry| seen.insert((&entry.key[..], entry.change.field()))).collect();
    let mut replaced = 0;
    let last = entries.into_iter().zip(is_last.into_iter().rev()).filter_map(|(entry, is_last)| {
        replaced += if is_last { 0 } else { entry.weight() };
        is_last.then_some(entry)
    });
    (last.collect(), replaced)
}

/// Rows of one statement: few sizes, so that their statements stay prepared.
const SIZES: [usize; 5] = [1, 4, 16, 64, 256];
const MOST: usize = 256;

/// All entries in their order, in pieces for one statement each, and how many rows that statement has: there may be
/// fewer entries.
pub(super) fn chunks(entries: &[Entry]) -> impl Iterator<Item = (&[Entry], usize)> {
    let size = |some: &[Entry]| SIZES.into_iter().find(|size| *size >= some.len()).unwrap_or(MOST);
    entries.chunks(MOST).map(move |some| (some, size(some)))
}

/// The statement of so many rows. One without a key is none.
pub(super) fn insert(rows: usize) -> String {
    format!(
        "INSERT INTO waiting (key, field, seq, mapping, value, weight) SELECT * FROM (VALUES {}) \
         WHERE column1 IS NOT NULL ON CONFLICT DO UPDATE SET seq = excluded.seq, value = excluded.value, \
         weight = excluded.weight, batch = NULL",
        vec!["(?, ?, ?, ?, ?, ?)"; rows].join(", ")
    )
}

/// The statement that marks so many entries with the batch that comes first: those that wait as they are told. One
/// without a key is none. Entries are looked for by key and field, so that their numbers need no index.
pub(super) fn mark(rows: usize) -> String {
    format!(
        "UPDATE waiting SET batch = ? FROM (VALUES {}) WHERE key = column1 AND field = column2 AND seq = column3",
        vec!["(?, ?, ?)"; rows].join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::{chunks, last_of_each};
    use crate::journal::{Change, Entry};

    fn entry(seq: u64, key: &str) -> Entry {
        Entry { seq, mapping: "m".into(), key: key.to_owned().into(), change: Change::Field("f".into(), None) }
    }

    #[test]
    fn of_a_field_the_last_value_is_kept() {
        let (last, replaced) = last_of_each(vec![entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4, "a")]);
        assert_eq!(last, [entry(2, "b"), entry(4, "a")]);
        assert_eq!(replaced, entry(1, "a").weight() * 2);
    }

    #[test]
    fn chunks_are_everything_in_its_order() {
        let all: Vec<Entry> = (0..1000).map(|seq| entry(seq, "a")).collect();
        assert_eq!(chunks(&all).map(|(some, _)| some).collect::<Vec<_>>().concat(), all);
        assert_eq!(chunks(&all).map(|(some, rows)| (some.len(), rows)).last(), Some((232, 256)));
        for (count, rows) in [(1, 1), (2, 4), (64, 64), (65, 256), (256, 256)] {
            assert_eq!(
                chunks(&all[..count]).map(|(some, rows)| (some.len(), rows)).collect::<Vec<_>>(),
                [(count, rows)]
            );
        }
        assert_eq!(chunks(&[]).count(), 0);
    }
}
