//! Definitions: immutable tables of records, all in memory, replaced as a whole. A command takes one snapshot and sees
//! one version; a reload that fails keeps the last good one (C6).

mod reload;

use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;

pub use reload::{DefinitionSource, Reloader};

use crate::keys::MappingId;
use crate::record::{Record, Table};

/// One version of all definitions, by mapping; definitions come first in the list of mappings.
#[derive(Debug, Default)]
pub struct Snapshot {
    sets: Vec<Arc<Set>>,
}

/// The definitions of one mapping.
#[derive(Debug, Default)]
struct Set {
    table: Table,
    /// Its keys in their order, from the first time that it is asked for.
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
    pub fn get(&self, id: MappingId, key: &[u8]) -> Option<&Record> {
        self.sets.get(id.index())?.table.get(key)
    }

    /// The keys of mapping `id`, in no order.
    pub fn keys(&self, id: MappingId) -> impl Iterator<Item = &[u8]> {
        self.sets.get(id.index()).into_iter().flat_map(|set| set.table.keys()).map(|key| &**key)
    }

    /// The keys of mapping `id` behind `key`, in their order. The order is the same in every version: an iteration that
    /// goes on in the next version misses nothing that is in both.
    pub fn keys_after(&self, id: MappingId, key: Option<&Bytes>) -> impl Iterator<Item = &Bytes> {
        let ordered = self.sets.get(id.index()).map_or(&[][..], |set| set.ordered());
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
    fn swap(&self, id: MappingId, table: Table) {
        self.set(id, &Arc::new(Set { table, ordered: OnceLock::new() }));
    }

    fn set(&self, id: MappingId, set: &Arc<Set>) {
        self.current.rcu(|old| {
            let mut sets = old.sets.clone();
            sets.resize_with(sets.len().max(id.index() + 1), Arc::default);
            sets[id.index()] = set.clone();
            Snapshot { sets }
        });
    }

    /// Takes for mapping `id` what `others` have for their mapping `theirs`, if they have it.
    fn take(&self, id: MappingId, others: &Self, theirs: MappingId) {
        if let Some(set) = others.current.load().sets.get(theirs.index()).cloned() {
            self.set(id, &set);
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

    use super::{Definitions, MappingId};

    #[test]
    fn definitions_that_are_taken_over_are_the_very_same() {
        let (old, new) = (Definitions::default(), Definitions::default());
        let id = MappingId::new;
        old.swap(id(1), Default::default());
        new.swap(id(0), Default::default());
        new.take(id(0), &old, id(1));
        new.take(id(2), &old, id(7));
        assert!(Arc::ptr_eq(&old.snapshot().sets[1], &new.snapshot().sets[0]));
        assert_eq!(new.snapshot().sets.len(), 1, "what the others do not have is not taken");
    }
}
