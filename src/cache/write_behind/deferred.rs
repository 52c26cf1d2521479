//! Deferred writes: acknowledged when they are in the journal, and over every record until the store has them.

use std::sync::Arc;

use bytes::Bytes;

use crate::cache::memory::loads::WriteTurn;
use crate::cache::{Cache, Cached, Entry, WriteResult};
use crate::config::WriteMode;
use crate::journal::{self, Journal, JournalError};
use crate::record::{Change, Condition, Edit, Record, TtlChange, Write, Written};
use crate::store::StoreError;
use crate::telemetry::clock::now_ms;

impl From<JournalError> for StoreError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error.to_string())
    }
}

/// What waits for the store: mapping, key, field and its value.
pub(crate) type Wait = (usize, Bytes, Bytes, Option<Bytes>);

/// Fields and what they become.
type Changes = Vec<(Bytes, Change)>;

impl Cached {
    /// True when some field of the mapping may be deferred.
    fn defers(&self) -> bool {
        self.mapping.config.defers()
    }

    fn is_deferred(&self, field: &[u8]) -> bool {
        let block = &self.mapping.config;
        block.write == WriteMode::Deferred || block.deferred.iter().any(|name| name.as_bytes() == field)
    }

    /// True when nothing of an edit has to go to the store now.
    pub(crate) fn may_wait(&self, edit: &Edit) -> bool {
        let (through, waits) = self.divide(edit);
        through.is_empty() && !waits.is_empty()
    }

    /// What of an edit goes to the store now, and what waits.
    fn divide(&self, edit: &Edit) -> (Changes, Changes) {
        match edit {
            Edit::Fields(changes, _) => changes.iter().cloned().partition(|(field, _)| !self.is_deferred(field)),
            _ => (Vec::new(), Vec::new()),
        }
    }
}

impl Cache {
    /// Writes `key`, or journals the write, as its mapping says. The write has queued when this returns: later reads of
    /// the key wait for it. The future only waits.
    pub fn write(self: &Arc<Self>, id: usize, key: &Bytes, write: &Write) -> impl Future<Output = WriteResult> + use<> {
        let right = self.queue_one(key);
        let (cache, write) = (self.clone(), write.clone());
        let task = self.runtime.spawn(async move {
            cache.gate.opened().await;
            let cached = cache.known_mapping(id)?;
            if cached.defers() && !cached.divide(&write.edit).1.is_empty() {
                cache.defer(cached, right, &write).await
            } else {
                cache.write_through(cached, right, &write.edit, write.life).await
            }
        });
        async move { task.await.unwrap_or_else(|_| Err(StoreError::Ambiguous("the write was given up".into()))) }
    }

    /// One write with deferred fields, from its turn to its end.
    async fn defer(&self, cached: &Cached, mut right: WriteTurn, write: &Write) -> WriteResult {
        self.take_turn(&mut right).await;
        let Some(journal) = &self.journal else {
            return Err(StoreError::Refused("there is no journal".into()));
        };
        let epoch = cached.epoch();
        let known = self.known(cached, right.key(), right.before.as_ref()).await;
        let before = match known {
            Ok(record) => Some(record),
            // Values that are given need no look at what is there.
            Err(error) if error.is_final() && gives_values(&write.edit) => None,
            Err(error) => {
                let before = right.before.take();
                self.end(right, before);
                return Err(error);
            }
        };
        if let Some(None) = before {
            // Somebody has to make the row; what waits for one that is gone must not come over it.
            self.flush_key(&right.key().clone()).await?;
            return self.write_now(cached, right, &write.edit, write.life).await;
        }
        let result = self.journal_fields(cached, journal, &right, write, before.flatten()).await;
        match result {
            Ok((written, record, loaded_at)) => {
                let entry = record.map(|record| {
                    let now = now_ms();
                    let entry = cached.life.entry_at(Some(record), cached.mapping.id.index(), epoch, loaded_at, now);
                    let life = if written.applied { write.life } else { TtlChange::Keep };
                    Arc::new(cached.life.replacing(entry, right.before.as_deref(), life, now))
                });
                self.end(right, entry);
                self.metrics.deferred.inc();
                Ok(written)
            }
            Err(error) => {
                let before = right.before.take().filter(|_| !matches!(error, StoreError::Ambiguous(_)));
                self.end(right, before);
                Err(error)
            }
        }
    }

    /// The record as it is: from memory if it may be used, else from the store.
    pub(in crate::cache) async fn known(
        &self,
        cached: &Cached,
        key: &Bytes,
        before: Option<&Arc<Entry>>,
    ) -> Result<Option<Record>, StoreError> {
        if let Some(entry) = before.filter(|entry| self.is_usable(cached, entry, now_ms())) {
            let left = entry
                .left(now_ms())
                .map(|left| left.as_millis() as i64)
                .filter(|_| self.ends(cached.mapping.id.index()));
            return Ok(entry.record.clone().map(|record| record.living(left)));
        }
        let record = self.store.load(&cached.plan, key).await?;
        Ok(self.overlay.over(key, record))
    }

    /// Writes what does not wait, journals what does; what is true then, and since when it is known.
    async fn journal_fields(
        &self,
        cached: &Cached,
        journal: &Journal,
        right: &WriteTurn,
        write: &Write,
        before: Option<Record>,
    ) -> Result<(Written, Option<Record>, u64), StoreError> {
        let loaded_at = right.before.as_ref().map_or_else(now_ms, |entry| entry.loaded_at);
        let (through, waits) = cached.divide(&write.edit);
        let Some(after) = write.edit.changed(before.as_ref()).map_err(StoreError::Value)? else {
            let written =
                Written { old: before.clone(), new: before.clone(), applied: false, count: 0, tells_new: true };
            return Ok((written, before, loaded_at));
        };
        let value_of =
            |field: &Bytes| after.iter().find(|(name, _)| name == field).and_then(|(_, value)| value.clone());
        for (field, _) in &waits {
            if let Some(value) = value_of(field) {
                cached.plan.check(field, &value)?;
            }
        }
        let mut base = before.clone();
        if !through.is_empty() {
            let edit = Edit::Fields(through, Condition::Always);
            base = self.store_write(cached, right, &edit).await?.new;
        }
        let wait = |(field, _): (Bytes, Change)| {
            (cached.mapping.id.index(), right.key().clone(), field.clone(), value_of(&field))
        };
        self.journal_all(journal, waits.into_iter().map(wait).collect()).await?;
        if let Some(life) = cached.life_after(write.life, false) {
            self.journal_life(cached, right.key(), life).await?;
        }
        let new = self.overlay.over(right.key(), base);
        let written = Written { old: before, new: new.clone(), applied: true, count: 0, tells_new: true };
        Ok((written, new, loaded_at))
    }

    /// Puts values into the journal, all or none, and over what is loaded from then on: they are acknowledged.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) async fn journal_all(&self, journal: &Journal, waits: Vec<Wait>) -> Result<(), StoreError> {
        if waits.is_empty() {
            return Ok(());
        }
        let ids: Vec<usize> = waits.iter().map(|wait| wait.0).collect();
        let (entries, mut at) = (journal.append(self.entries(waits)?).await?, 0);
        for of_one_key in entries.chunk_by(|a, b| a.key == b.key) {
            self.overlay.put(ids[at], &of_one_key[0].key, of_one_key);
            at += of_one_key.len();
        }
        self.wake_flusher();
        Ok(())
    }

    /// What the journal is given of `waits`.
    pub(crate) fn entries(&self, waits: Vec<Wait>) -> Result<Vec<journal::Entry>, StoreError> {
        let entry = |(id, key, field, value): Wait| {
            let mapping = self.known_mapping(id)?.mapping.pattern.text().to_owned();
            Ok(journal::Entry { seq: 0, mapping, key, field, value })
        };
        waits.into_iter().map(entry).collect()
    }

    /// Replays what a journal held: it lies over every record from now on.
    pub fn replay(&self, id: usize, entries: Vec<journal::Entry>) {
        for entry in entries {
            let key = entry.key.clone();
            self.overlay.put(id, &key, &[entry]);
        }
    }
}

fn gives_values(edit: &Edit) -> bool {
    matches!(edit, Edit::Fields(changes, Condition::Always)
        if changes.iter().all(|(_, change)| matches!(change, Change::Put(_) | Change::Clear)))
}
