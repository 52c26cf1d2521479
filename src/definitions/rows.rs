//! Definitions that change by the rows which the change feed brings, one commit at a time, instead of being loaded
//! again as a whole.
//!
//! Invariant: a version by rows is the one before and one whole commit that came after it. So no row is taken while the
//! mapping is loaded or is to be loaded, nor a part of what a commit changed of a mapping (C6).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Definitions;
use super::reload::{DefinitionSource, Reloader};
use crate::keys::MappingId;
use crate::record::Record;
use crate::store::RowChange;

/// So many definitions of a mapping stand beside its table at most; with more, it is loaded again.
const MOST: usize = 256;

/// What became of definitions; `None`: there is none any more.
pub(super) type Rows = Vec<(Bytes, Option<Arc<Record>>)>;

impl Reloader {
    /// Takes what one commit has left behind definitions. A mapping of which that is not certain is loaded again.
    pub fn changed_rows(&self, changes: &[(MappingId, &RowChange)]) {
        let mut mappings: BTreeMap<MappingId, Vec<&RowChange>> = BTreeMap::new();
        changes.iter().for_each(|(id, change)| mappings.entry(*id).or_default().push(change));
        let Ok(_place) = self.place.try_read() else { return mappings.into_keys().for_each(|id| self.request(id)) };
        let (mut turns, mut next) = (Vec::new(), Vec::new());
        for (id, changes) in mappings {
            let source = self.sources().iter().find(|source| source.mapping.id == id);
            let turn = source.and_then(|source| source.turn.try_lock().ok().zip(Some(source)));
            let taken = turn.and_then(|(turn, source)| Some((turn, self.rows(source, &changes)?)));
            match taken {
                Some((turn, rows)) => {
                    turns.push(turn);
                    next.push((id, rows));
                }
                None => self.request(id),
            }
        }
        let count: usize = next.iter().map(|(_, rows)| rows.len()).sum();
        self.definitions.change(next);
        self.metrics.changed.inc_by(count as u64);
        self.metrics.definitions.set(self.definitions.count() as i64);
    }

    /// What these changes make of a mapping that nobody loads now; none where that is not certain.
    fn rows(&self, source: &DefinitionSource, changes: &[&RowChange]) -> Option<Rows> {
        let (id, current) = (source.mapping.id, source.plan.as_ref()?);
        let plan = current.plan().ok()?;
        let is_told = current.is_watched() && !self.is_doubted(id);
        let known = self.definitions.known_at(id).filter(|_| is_told)?;
        let row = |change: &&RowChange| {
            let record = plan.left_by(change).filter(|_| change.is_all && known < change.unseen.number)?;
            Some((change.key.clone(), record.map(Arc::new)))
        };
        let rows: Rows = changes.iter().map(row).collect::<Option<_>>()?;
        self.definitions.has_room(id, rows.len(), MOST).then_some(rows)
    }
}

impl Definitions {
    /// How many looks at what is visible in the store had begun when mapping `id` was loaded.
    fn known_at(&self, id: MappingId) -> Option<u64> {
        self.snapshot().set(id).map(|set| set.known_at)
    }

    fn has_room(&self, id: MappingId, more: usize, most: usize) -> bool {
        self.snapshot().set(id).is_some_and(|set| set.changed.len() + more <= most)
    }

    /// Puts the next version of these mappings in the place of this one.
    fn change(&self, next: Vec<(MappingId, Rows)>) {
        if next.is_empty() {
            return;
        }
        self.current.rcu(|old| {
            let mut sets = old.sets.clone();
            for (id, rows) in &next {
                if let Some(Some(set)) = sets.get_mut(id.index()) {
                    *set = Arc::new(set.with(rows));
                }
            }
            super::Snapshot { sets }
        });
        for (key, record) in next.iter().flat_map(|(_, rows)| rows) {
            self.tracking.changed(key, None);
            self.tell_event(key, record.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use bytes::Bytes;

    use super::super::{Definitions, Set};
    use crate::keys::MappingId;
    use crate::record::{Record, Table};

    #[test]
    fn a_version_by_rows_is_the_one_before_with_a_commit() {
        let (definitions, id) = (Definitions::default(), MappingId::new(0));
        let record = |text: &str| Record::string(text.as_bytes()).expect("a record");
        let mut table = Table::default();
        for key in ["a", "b"] {
            table.insert(key.as_bytes().into(), record(key));
        }
        definitions.swap(id, Set::read(table, Instant::now(), 0));
        let before = definitions.snapshot().clone();
        let row = |key: &'static str, text: Option<&str>| (Bytes::from(key), text.map(|text| Arc::new(record(text))));
        definitions.change(vec![(id, vec![row("a", Some("x")), row("b", None), row("c", Some("y")), row("d", None)])]);
        let after = definitions.snapshot();
        assert_eq!((before.get(id, b"a"), before.get(id, b"c")), (Some(&record("a")), None));
        assert_eq!((after.get(id, b"a"), after.get(id, b"b")), (Some(&record("x")), None));
        let mut keys: Vec<&[u8]> = after.keys(id).collect();
        keys.sort_unstable();
        assert_eq!(keys, [b"a", b"c"]);
        assert_eq!(after.keys_after(id, Some(&Bytes::from("a"))).collect::<Vec<_>>(), ["c"]);
        assert_eq!(definitions.count(), 2);
    }
}
