//! Definitions: immutable tables of records, all in memory, swapped whole.
//! A command takes one snapshot and sees one version; a bad reload keeps the last good one (C6).

mod reload;

use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;

pub use reload::{DefinitionSource, Reloader};

use crate::record::{Record, Table};

/// One version of all definitions. By mapping id; definitions come first in the list of mappings.
#[derive(Debug, Default)]
pub struct Snapshot {
    sets: Vec<Arc<Set>>,
}

/// The definitions of one mapping.
#[derive(Debug, Default)]
struct Set {
    table: Table,
    /// Its keys in their order, once somebody has asked for it.
    ordered: OnceLock<Vec<Bytes>>,
}

impl Set {
    fn ordered(&self) -> &[Bytes] {
        self.ordered.get_or_init(|| {
            let mut keys: Vec<Bytes> = self.table.keys().map(|key| Bytes::copy_from_slice(key)).collect();
            keys.sort_unstable();
            keys
        })
    }
}

impl Snapshot {
    /// The record of `key` in mapping `id`; `None` when there is no such definition.
    #[must_use]
    pub fn get(&self, id: usize, key: &[u8]) -> Option<&Record> {
        self.sets.get(id)?.table.get(key)
    }

    /// The keys of mapping `id`, in no order.
    pub fn keys(&self, id: usize) -> impl Iterator<Item = &[u8]> {
        self.sets.get(id).into_iter().flat_map(|set| set.table.keys()).map(|key| &**key)
    }

    /// The keys of mapping `id` behind `key`, in their order: the same in every version, so that who has seen some of one version
    /// goes on in the next and misses nothing that is in both.
    pub fn keys_after(&self, id: usize, key: Option<&Bytes>) -> impl Iterator<Item = &Bytes> {
        let ordered = self.sets.get(id).map_or(&[][..], |set| set.ordered());
        let from = key.map_or(0, |key| ordered.partition_point(|other| other <= key));
        ordered[from..].iter()
    }
}

/// The current version.
#[derive(Debug, Default)]
pub struct Definitions {
    current: ArcSwap<Snapshot>,
}

impl Definitions {
    /// The current version, to be held for one command.
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Puts a new table in the place of mapping `id`'s.
    fn swap(&self, id: usize, table: Table) {
        self.put(id, &Arc::new(Set { table, ordered: OnceLock::new() }));
    }

    fn put(&self, id: usize, set: &Arc<Set>) {
        self.current.rcu(|old| {
            let mut sets = old.sets.clone();
            sets.resize_with(sets.len().max(id + 1), Arc::default);
            sets[id] = set.clone();
            Snapshot { sets }
        });
    }

    /// Takes for mapping `id` what others have for their mapping `theirs`, if they have.
    fn take(&self, id: usize, others: &Self, theirs: usize) {
        if let Some(set) = others.current.load().sets.get(theirs).cloned() {
            self.put(id, &set);
        }
    }

    /// Forgets them all: others have taken their place.
    pub fn clear(&self) {
        self.current.store(Arc::default());
    }

    /// Definitions in memory.
    fn count(&self) -> usize {
        self.current.load().sets.iter().map(|set| set.table.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Definitions;

    #[test]
    fn who_takes_definitions_over_shows_the_very_same() {
        let (old, new) = (Definitions::default(), Definitions::default());
        old.swap(1, Default::default());
        new.swap(0, Default::default());
        new.take(0, &old, 1);
        new.take(2, &old, 7);
        assert!(Arc::ptr_eq(&old.snapshot().sets[1], &new.snapshot().sets[0]));
        assert_eq!(new.snapshot().sets.len(), 1, "what the others do not have is not taken");
    }
}
