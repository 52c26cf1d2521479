//! What each entry that waits in the file counts: what a newer value replaces is known without asking the file.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::sqlite::SqliteConnection;

use super::{Entry, JournalError};

/// A key, and its field in the file.
type KeyField = (Bytes, Bytes);

/// The weights of all entries that wait, as they are after what is being written.
#[derive(Debug, Default)]
pub(super) struct Weights {
    of: HashMap<KeyField, u64, foldhash::quality::RandomState>,
    /// What has changed since the last commit, and was so before.
    before: Vec<(KeyField, Option<u64>)>,
}

impl Weights {
    /// Those of what waits in a file.
    pub(super) async fn read(connection: &mut SqliteConnection) -> Result<Self, JournalError> {
        let select = "SELECT key, field, weight FROM waiting";
        let rows: Vec<(Vec<u8>, Vec<u8>, i64)> = sqlx::query_as(select).fetch_all(connection).await?;
        let weighed = rows.into_iter().map(|(key, field, weight)| ((key.into(), field.into()), weight.unsigned_abs()));
        Ok(Self { of: weighed.collect(), before: Vec::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// One more waits; the weight of the one that it replaces.
    pub(super) fn put(&mut self, entry: &Entry) -> u64 {
        let place = (entry.key.clone(), entry.change.stored_field());
        let replaced = self.of.insert(place.clone(), entry.weight());
        self.before.push((place, replaced));
        replaced.unwrap_or(0)
    }

    /// One waits no more; its weight.
    pub(super) fn remove(&mut self, place: KeyField) -> u64 {
        let removed = self.of.remove(&place);
        self.before.push((place, removed));
        removed.unwrap_or(0)
    }

    /// What has changed is in the file.
    pub(super) fn committed(&mut self) {
        // What one very large commit needed is not kept.
        self.before = Vec::new();
    }

    /// What has changed since the last commit has not.
    pub(super) fn rolled_back(&mut self) {
        for (place, before) in std::mem::take(&mut self.before).into_iter().rev() {
            match before {
                Some(weight) => self.of.insert(place, weight),
                None => self.of.remove(&place),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Weights;
    use crate::journal::{Change, Entry};

    fn entry(key: &'static str, value: &'static str) -> Entry {
        let change = Change::Field("f".into(), Some(value.into()));
        Entry { seq: 1, mapping: "m".into(), key: key.into(), change }
    }

    #[test]
    fn what_is_replaced_or_removed_is_told_and_a_rollback_undoes_all_since_the_commit() {
        let (mut weights, place) = (Weights::default(), |key: &'static str| (Bytes::from(key), Bytes::from("f")));
        assert_eq!((weights.put(&entry("a", "one")), weights.len()), (0, 1));
        weights.committed();
        let of_one = entry("a", "one").weight();
        assert_eq!(weights.put(&entry("a", "three")), of_one);
        assert_eq!(weights.put(&entry("a", "")), of_one + 2);
        assert_eq!((weights.put(&entry("b", "")), weights.len()), (0, 2));
        assert_eq!((weights.remove(place("a")), weights.remove(place("c"))), (of_one - 3, 0));
        weights.rolled_back();
        assert_eq!((weights.len(), weights.remove(place("b")), weights.remove(place("a"))), (1, 0, of_one));
        weights.committed();
        weights.rolled_back();
        assert_eq!(weights.len(), 0);
    }
}
