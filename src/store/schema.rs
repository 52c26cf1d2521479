//! What the schema watch compares: of every table that a mapping names a fingerprint of its schema, and one of its
//! storage. Knows no engine.

use std::collections::BTreeSet;

use super::words::names_in;
use super::{Engine, Store, StoreError};
use crate::mapping::Mapping;

/// What an engine's catalog says of the tables of one mapping; two that are equal were taken of the same schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Which tables they are, their columns, indexes, triggers, partitions and policies.
    pub(super) schema: String,
    /// Where their rows are: another place after a rewrite or TRUNCATE. In Postgres also when the catalog last changed:
    /// at another time after something that was changed back.
    pub(super) storage: String,
}

/// How two fingerprints differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Not at all.
    None,
    /// The rows may be others, and nothing else.
    Storage,
    /// Statements may have to be made again.
    Schema,
}

impl Fingerprint {
    /// How a later one differs.
    #[must_use]
    pub fn compare(&self, now: &Self) -> Difference {
        match () {
            () if self.schema != now.schema => Difference::Schema,
            () if self.storage != now.storage => Difference::Storage,
            () => Difference::None,
        }
    }
}

/// Where deferred writes are noted.
const NOTES: [&str; 2] = ["hearthside.flushed", "hearthside.journals"];

/// The names by which a mapping's tables can be found: those of its block, every word of its SQL that may be one, and
/// the tables of notes where it defers writes.
pub(super) fn names(mapping: &Mapping) -> BTreeSet<String> {
    let block = &mapping.config;
    let watched = mapping.watched().into_iter().map(|(table, _)| table);
    let sql = [&block.query, &block.push, &block.remove].into_iter().flatten();
    let notes = NOTES.iter().filter(|_| block.defers()).map(|&name| name.to_owned());
    watched.chain(sql.flat_map(|sql| names_in(sql))).chain(notes).collect()
}

impl Store {
    /// The fingerprints of the tables of each of these mappings. No table's lock is waited for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fingerprints(&self, mappings: &[&Mapping]) -> Result<Vec<Fingerprint>, StoreError> {
        match &self.engine {
            Engine::Postgres(store) => store.fingerprints(mappings).await,
            Engine::Sqlite(store) => Ok(vec![store.fingerprint().await?; mappings.len()]),
            Engine::Away(away) => Err(away.error()),
        }
    }

    /// From now on no statement that was prepared before is used: connections of before are closed when they are free.
    pub(super) fn retire_connections(&self) {
        match &self.engine {
            Engine::Postgres(store) => store.retire_connections(),
            Engine::Sqlite(store) => store.retire_connections(),
            Engine::Away(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference, Fingerprint};

    #[test]
    fn a_rewrite_is_no_change_of_the_schema() {
        let print = |schema: &str, storage: &str| Fingerprint { schema: schema.into(), storage: storage.into() };
        assert_eq!(print("a", "1").compare(&print("a", "1")), Difference::None);
        assert_eq!(print("a", "1").compare(&print("a", "2")), Difference::Storage);
        assert_eq!(print("a", "1").compare(&print("b", "2")), Difference::Schema);
    }
}
