//! Definitions: immutable tables of records, all in memory, swapped whole.
//! A command takes one snapshot and sees one version; a bad reload keeps the last good one (C6).

mod reload;

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

pub use reload::{DefinitionSource, Reloader};

use crate::record::{Record, Table};

/// One version of all definitions. By mapping id; definitions come first in the list of mappings.
#[derive(Debug, Default)]
pub struct Snapshot {
    tables: Vec<Arc<Table>>,
}

impl Snapshot {
    /// The record of `key` in mapping `id`; `None` when there is no such definition.
    #[must_use]
    pub fn get(&self, id: usize, key: &[u8]) -> Option<&Record> {
        self.tables.get(id)?.get(key)
    }

    /// The keys of mapping `id`, in no order.
    pub fn keys(&self, id: usize) -> impl Iterator<Item = &[u8]> {
        self.tables.get(id).into_iter().flat_map(|table| table.keys()).map(|key| &**key)
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

    /// The current version, to be held for long.
    pub fn shared(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts a new table in the place of mapping `id`'s.
    fn swap(&self, id: usize, table: Table) {
        let table = Arc::new(table);
        self.current.rcu(|old| {
            let mut tables = old.tables.clone();
            tables.resize_with(tables.len().max(id + 1), Arc::default);
            tables[id] = table.clone();
            Snapshot { tables }
        });
    }

    /// Forgets them all: others have taken their place.
    pub fn clear(&self) {
        self.current.store(Arc::default());
    }

    /// Definitions in memory.
    fn count(&self) -> usize {
        self.current.load().tables.iter().map(|table| table.len()).sum()
    }
}
