//! Mappings are not asked any more for a while, or are asked again: they change over to another mode.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Cache, Cause};
use crate::keys::MappingId;
use crate::mapping::{Mappings, Modes};
use crate::record::Record;
use crate::store::{Adopted, StoreError};
use crate::telemetry::clock::Tick;
use crate::telemetry::planted::is_planted;

/// What the change feed says of who has put a key into the store that somebody else had.
const ADOPTED: &str = "adopted";

/// How often it is looked whether writes have ended.
const LOOK: Duration = Duration::from_millis(1);

impl Cache {
    /// Waits until no write of these mappings is under way, and saves what waits for them. Nobody asks for another.
    ///
    /// # Errors
    /// The store's, or the journal's; what has not been saved still waits.
    pub async fn leave(&self, mappings: &[MappingId]) -> Result<(), StoreError> {
        let source = &self.memory.source;
        let is_left = |key: &[u8]| {
            let patterns = mappings.iter().filter_map(|id| source.cached(*id)).map(|cached| &cached.mapping().pattern);
            patterns.into_iter().any(|pattern| pattern.matches(key))
        };
        while self.memory.writes_some(is_left) && !is_planted("mode-waits-for-nothing") {
            tokio::time::sleep(LOOK).await;
        }
        self.write_behind.flush_all_of(mappings).await
    }

    /// Only keys that are owned by these modes are loaded, or their rows removed, without anybody asking for it.
    pub fn is_in(&self, modes: &Arc<Modes>) {
        self.memory.source.set_modes(modes.clone());
    }

    /// Notes which keys are written from now on, of those mappings of which this is true, by their numbers.
    pub fn note_written(&self, mappings: &Arc<Mappings>, is_noted: Vec<bool>) {
        self.memory.written().want(mappings, is_noted);
    }

    /// Puts into the store what somebody else has of a key, if it has none. What was in memory, or is being loaded, is
    /// forgotten.
    ///
    /// # Errors
    /// [`StoreError`]; it may be there all the same.
    pub async fn adopt(&self, mapping: MappingId, key: &Bytes, record: Record) -> Result<(), StoreError> {
        let source = &self.memory.source;
        let Some(cached) = source.cached(mapping) else { return Ok(()) };
        let told = source.store.adopt(&*cached.current.plan()?, &[(key.clone(), record)], ADOPTED).await;
        self.memory.invalidate(key, Cause::Mode);
        match told?.pop() {
            Some(Adopted::Refused(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Notes that a key is not at the upstream as it is here.
    pub fn note_written_key(&self, key: &Bytes) {
        self.memory.written().note(key);
    }

    /// Takes at most so many of the keys that were written and are meant, to bring them to the upstream.
    pub fn take_written(&self, most: usize, is_meant: impl Fn(&[u8]) -> bool) -> Vec<Bytes> {
        self.memory.written().take(most, is_meant)
    }

    /// A key that was taken is there.
    pub fn written_arrived(&self, key: &Bytes) {
        self.memory.written().arrived(key, Tick::now());
    }

    /// Keys that could not be brought there: they wait again.
    pub fn give_back_written(&self, keys: &[Bytes]) {
        self.memory.written().give_back(keys);
    }

    /// Forgets that these keys were written; how many there were.
    pub fn forget_written(&self, is_meant: impl Fn(&[u8]) -> bool) -> usize {
        self.memory.written().forget(is_meant)
    }

    /// True if more keys of these mappings were written than are remembered; from now on that is forgotten.
    #[must_use]
    pub fn take_lost_written(&self, mappings: &[MappingId]) -> bool {
        self.memory.written().take_lost(mappings)
    }

    /// What was noted of another cache, which nobody asks any more, is noted here.
    pub(super) fn inherit_written(&self, old: &Self) {
        self.memory.written().inherit(old.memory.written());
    }

    /// How many keys wait for that.
    #[must_use]
    pub fn count_written(&self) -> usize {
        self.memory.written().count(Tick::now())
    }

    /// Forgets what was in memory, or is being loaded, of a mapping whose keys may be changed by others meanwhile.
    pub fn forget_by_mode(&self, mapping: MappingId) {
        self.memory.forget_mapping(mapping, Cause::Mode);
    }
}
