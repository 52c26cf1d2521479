//! What the journal held at the start for mappings that are not configured: it stays in the journal, and waits for a
//! reload that configures them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::WriteBehind;
use crate::journal::{Entry, Journal};

#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Vec<Entry>>);

impl Kept {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WriteBehind {
    /// Entries whose mapping is not configured.
    pub(crate) fn keep(&self, entries: Vec<Entry>) {
        self.kept.entries().extend(entries);
    }

    /// These do not wait any more.
    pub(crate) fn forget_kept(&self, entries: &[Entry]) {
        self.kept.entries().retain(|kept| entries.iter().all(|entry| entry.seq != kept.seq));
    }

    /// What is kept here waits in `new` from now on, like all others where its mapping is configured there.
    pub(super) fn hand_over_kept(&self, journal: &Journal, new: &Self) {
        for entry in std::mem::take(&mut *self.kept.entries()) {
            match new.successor(&entry.mapping) {
                Some(mapping) => {
                    journal.let_go(std::iter::once(&entry));
                    new.replay(mapping, vec![entry]);
                }
                None => new.keep(vec![entry]),
            }
        }
    }
}
