//! Puts deferred changes into the journal, and then into the overlay until the store has them.

use bytes::Bytes;

use super::WriteBehind;
use crate::journal::{Change, Entry, Journal, JournalError};
use crate::keys::MappingId;
use crate::store::StoreError;

impl From<JournalError> for StoreError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Unsure(_) | JournalError::Unanswered => Self::Ambiguous(error.to_string()),
            _ => Self::Journal(error.to_string()),
        }
    }
}

/// A change that is to wait for the store.
#[derive(Clone, Debug)]
pub(crate) struct Deferred {
    pub(crate) mapping: MappingId,
    pub(crate) key: Bytes,
    pub(crate) change: Change,
}

impl WriteBehind {
    /// The journal.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn journal(&self) -> Result<&Journal, StoreError> {
        self.journal.as_deref().ok_or_else(|| StoreError::Refused("there is no journal".into()))
    }

    /// Puts changes into the journal, all or none and in this order, and over what is loaded from then on: they are
    /// acknowledged.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) async fn journal_all(&self, changes: Vec<Deferred>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mappings: Vec<MappingId> = changes.iter().map(|deferred| deferred.mapping).collect();
        let (entries, mut at) = (self.journal()?.append(self.entries(changes)?).await?, 0);
        for of_one_key in entries.chunk_by(|a, b| a.key == b.key) {
            self.memory.overlay.put(mappings[at], &of_one_key[0].key, of_one_key);
            at += of_one_key.len();
        }
        self.wake_flusher();
        Ok(())
    }

    /// Sees whether the journal has room for these changes now.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) fn has_room(&self, changes: Vec<Deferred>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        Ok(self.journal()?.would_take(&self.entries(changes)?)?)
    }

    /// What the journal is given of these changes.
    pub(crate) fn entries(&self, changes: Vec<Deferred>) -> Result<Vec<Entry>, StoreError> {
        let entry = |Deferred { mapping, key, change }: Deferred| {
            let mapping = self.memory.source.known(mapping)?.text.clone();
            Ok(Entry { seq: 0, mapping, key, change })
        };
        changes.into_iter().map(entry).collect()
    }

    /// What a journal held when it was opened lies over every record from now on.
    pub(crate) fn replay(&self, mapping: MappingId, entries: Vec<Entry>) {
        for entry in entries {
            let key = entry.key.clone();
            self.memory.overlay.put(mapping, &key, &[entry]);
        }
    }

    /// What `old` has journaled and not saved waits here from now on, over what the journal held before.
    pub(crate) fn inherit(&self, old: &Self) {
        for (key, dirty) in old.memory.overlay.all() {
            self.memory.overlay.put(dirty.mapping, &key, &dirty.entries);
        }
        self.wake_flusher();
    }

    /// Notes that something waits, and wakes the flusher if there is not room for as much again.
    pub(crate) fn wake_flusher(&self) {
        self.count_waiting();
        if self.is_urgent() {
            self.flush_now.notify_one();
        }
    }

    /// True when there is not room in the journal for as much again as waits.
    pub(super) fn is_urgent(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.is_half_full())
    }

    /// How many keys have something that waits.
    pub(crate) fn waiting(&self) -> usize {
        self.memory.overlay.len() + self.journal.as_ref().map_or(0, |journal| journal.held())
    }

    /// Shows how many they are.
    pub(crate) fn count_waiting(&self) {
        self.metrics.deferred_keys.set(self.waiting() as i64);
    }
}
