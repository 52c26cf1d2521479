//! Many entries as few statements: which of them are written, and how many by each statement.

use std::collections::HashSet;

use super::Entry;

/// The last of each key's field, in their order, and the weight of the others.
pub(super) fn last_of_each(entries: Vec<Entry>) -> (Vec<Entry>, u64) {
    let mut seen = HashSet::with_capacity(entries.len());
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
const CHUNKS: [usize; 4] = [256, 32, 4, 1];

/// All entries in their order, in pieces of these sizes.
pub(super) fn chunks(mut entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    std::iter::from_fn(move || {
        let size = CHUNKS.into_iter().find(|size| *size <= entries.len())?;
        let (some, rest) = entries.split_at(size);
        entries = rest;
        Some(some)
    })
}

/// So many rows of a statement's VALUES.
pub(super) fn rows(count: usize, row: &str) -> String {
    vec![row; count].join(", ")
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
        assert_eq!(chunks(&all).collect::<Vec<_>>().concat(), all);
        assert_eq!(chunks(&[]).count(), 0);
    }
}
