//! Strands: the deferred writes of one table are saved one batch after the other, and those of another table beside
//! them (decision 0026). A table that is locked, or slow, holds up its own strand alone.

use std::collections::HashSet;

use tokio::sync::Mutex;

use super::flusher::Flusher;
use crate::cache::source::{Cached, Source};
use crate::keys::MappingId;

/// The mappings that write to one table.
#[derive(Debug, Default)]
pub(super) struct Strand {
    /// The table, with its schema where that was known when the strand was made: else as the mappings name it.
    pub(super) name: String,
    pub(super) mappings: Vec<MappingId>,
    /// Held during a flush.
    pub(super) flusher: Mutex<Flusher>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Strands(Vec<Strand>);

impl Strands {
    pub(super) fn of(source: &Source) -> Self {
        let mut strands: Vec<Strand> = Vec::new();
        for cached in source.all() {
            let (name, id) = (table(cached), cached.mapping().id);
            match strands.iter_mut().find(|strand| strand.name == name) {
                Some(strand) => strand.mappings.push(id),
                None => strands.push(Strand { name, mappings: vec![id], ..Strand::default() }),
            }
        }
        Self(strands)
    }

    pub(super) fn all(&self) -> &[Strand] {
        &self.0
    }

    pub(super) fn of_table(&self, name: &str) -> Option<&Strand> {
        self.0.iter().find(|strand| strand.name == name)
    }

    pub(super) fn get(&self, at: usize) -> Option<&Strand> {
        self.0.get(at)
    }

    pub(super) fn of_mapping(&self, id: MappingId) -> Option<&Strand> {
        self.0.iter().find(|strand| strand.mappings.contains(&id))
    }

    /// Those that have something to be saved, or to be settled: for one of these mappings something waits.
    pub(super) fn due(&self, waiting: &HashSet<MappingId>) -> impl Iterator<Item = (usize, &Strand)> {
        self.0.iter().enumerate().filter(|(_, strand)| {
            let waits = strand.mappings.iter().any(|id| waiting.contains(id));
            waits || strand.flusher.try_lock().is_ok_and(|flusher| flusher.is_unsettled())
        })
    }
}

/// The table that a mapping's writes go to, in the same words for all mappings, however their blocks spell it. Where
/// the store could not be asked it is the block's word for it. A mapping that names none has no writes.
fn table(cached: &Cached) -> String {
    let plan = cached.current.plan().ok();
    let known = plan.as_ref().and_then(|plan| plan.table());
    known.or(cached.block().table.as_deref()).unwrap_or_else(|| cached.name()).to_owned()
}
