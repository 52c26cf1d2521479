//! Deferred writes of one key: acknowledged when they are in the journal, and applied to every record until the store
//! has them.

use std::sync::Arc;

use bytes::Bytes;

use super::{WriteResult, Writer};
use crate::cache::memory::loads::WriteTurn;
use crate::cache::source::Cached;
use crate::cache::write_behind::journalling::Deferred;
use crate::config::WriteMode;
use crate::journal;
use crate::record::{Change, Condition, Edit, Record, RowEdit, TtlChange, Write, Written};
use crate::store::StoreError;
use crate::telemetry::clock::{Moment, Tick};
use crate::telemetry::traces::StoreSpan;

/// Fields and what they become.
type Changes = Vec<(Bytes, Change)>;

impl Cached {
    /// True when something of an edit is deferred.
    pub(super) fn defers_some(&self, edit: &Edit) -> bool {
        self.block().defers() && !self.divide(edit).1.is_empty()
    }

    /// Refuses deferred writes that the store could never save.
    pub(super) fn may_defer(&self) -> Result<(), StoreError> {
        self.current.plan()?.may_defer()
    }

    fn is_deferred(&self, field: &[u8]) -> bool {
        let block = self.block();
        block.write == WriteMode::Deferred || block.deferred.iter().any(|name| name.as_bytes() == field)
    }

    /// True when nothing of an edit has to go to the store now.
    pub(super) fn may_wait(&self, edit: &Edit) -> bool {
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

impl Writer {
    /// One write with deferred fields, whose turn it is.
    pub(super) async fn defer(&self, cached: &Cached, mut turn: WriteTurn, write: &Write) -> WriteResult {
        if let Err(error) = cached.may_defer() {
            self.memory.undo(turn);
            return Err(error);
        }
        self.write_behind.journal()?;
        let epoch = cached.epoch();
        let loaded_at = turn.present().map_or_else(Tick::now, |entry| entry.loaded_at);
        let before = match self.known(cached, turn.key(), turn.present()).await {
            Ok(Some(record)) => Some(record),
            Ok(None) => {
                // The row must be created; what waits for a row that is gone must not be applied to the new one.
                Box::pin(self.write_behind.flush_key(turn.key())).await?;
                return Box::pin(self.write_now(cached, turn, write)).await;
            }
            // Values that are given do not depend on the present record.
            Err(error) if error.keeps_from_reading() && gives_values(&write.edit) => None,
            Err(error) => {
                self.memory.undo(turn);
                return Err(error);
            }
        };
        match self.journal_write(cached, &turn, write, before).await {
            Ok(written) => {
                turn.news = self.memory.news(turn.key(), || write.events(&written));
                let entry = written.new.clone().map(|record| {
                    let now = Tick::now();
                    let entry = cached.life.entry_at(Some(record), cached.mapping().id, epoch, loaded_at, now);
                    let life = if written.applied { write.life } else { TtlChange::Keep };
                    Arc::new(cached.life.replacing(entry, turn.before.as_deref(), life, now))
                });
                match written.has_changed(&write.edit) {
                    true => self.memory.end(turn, entry),
                    false => self.memory.end_unchanged(turn, entry),
                }
                self.write_behind.metrics.deferred.inc();
                Ok(written)
            }
            Err(error @ StoreError::Value(_)) => {
                self.memory.undo(turn);
                Err(error)
            }
            Err(error) => {
                let before = turn.before.take().filter(|_| !error.may_have_changed());
                self.memory.end(turn, before);
                Err(error)
            }
        }
    }

    /// Writes what does not wait, and journals what does.
    async fn journal_write(
        &self,
        cached: &Cached,
        turn: &WriteTurn,
        write: &Write,
        before: Option<Record>,
    ) -> WriteResult {
        let (through, waits) = cached.divide(&write.edit);
        let Some(after) = write.edit.changed(before.as_ref()).map_err(StoreError::Value)? else {
            return Ok(Written { old: before.clone(), new: before, applied: false, count: 0, tells_new: true });
        };
        let mut waiting = what_waits(cached, turn.key(), &waits, &after)?;
        let expiry =
            cached.life_after(write.life, false).and_then(|life| self.write_behind.expiry(cached, turn.key(), life));
        let left = before.as_ref().filter(|_| expiry.is_some()).and_then(|record| record.left);
        waiting.extend(expiry);
        let stored = match through.is_empty() {
            true => {
                self.journal(cached, turn, waiting).await?;
                before.clone()
            }
            false => {
                let edit = Edit::Fields(through, Condition::Always);
                let row = cached.row_edit(&edit, write.life);
                Box::pin(self.store_and_journal(cached, turn, row, waiting)).await?
            }
        };
        let new = self.memory.overlay.over(turn.key(), stored);
        self.hasten(turn.key(), left).await;
        Ok(Written { old: before, new, applied: true, count: 0, tells_new: true })
    }

    /// Journals what waits.
    async fn journal(&self, cached: &Cached, turn: &WriteTurn, waiting: Vec<Deferred>) -> Result<(), StoreError> {
        let Some(trace) = &turn.trace else { return self.write_behind.journal_all(waiting).await };
        let begun = Moment::now();
        let journaled = self.write_behind.journal_all(waiting).await;
        let part = self.memory.source.traced(cached, begun, journaled.as_ref().err());
        trace.stored(StoreSpan::Journal, &part);
        if let (Ok(()), Some(reference)) = (&journaled, trace.reference()) {
            self.write_behind.traced.note(turn.key(), reference);
        }
        journaled
    }

    /// Writes some fields through, and journals the rest; the record as the store has it.
    ///
    /// # Errors
    /// As a write; [`StoreError::Partly`] when the journal refuses what has to wait.
    async fn store_and_journal(
        &self,
        cached: &Cached,
        turn: &WriteTurn,
        row: RowEdit<'_>,
        waiting: Vec<Deferred>,
    ) -> Result<Option<Record>, StoreError> {
        // What has been stored cannot be undone.
        self.write_behind.has_room(waiting.clone())?;
        self.flush_before(cached, turn.key(), row.edit).await?;
        let stored = self.store_write(cached, turn, row).await?;
        let partly = |error| {
            StoreError::Partly(format!("the fields that go through are stored, the deferred ones are not: {error}"))
        };
        self.journal(cached, turn, waiting).await.map_err(partly)?;
        Ok(stored.new)
    }
}

fn gives_values(edit: &Edit) -> bool {
    matches!(edit, Edit::Fields(changes, Condition::Always)
        if changes.iter().all(|(_, change)| matches!(change, Change::Put(_) | Change::Clear)))
}

/// What is to be journaled of the fields that wait, of which `after` says what they become.
fn what_waits(
    cached: &Cached,
    key: &Bytes,
    waits: &Changes,
    after: &[(Bytes, Option<Bytes>)],
) -> Result<Vec<Deferred>, StoreError> {
    let plan = cached.current.plan()?;
    let deferred = |(field, _): &(Bytes, Change)| {
        let value = after.iter().find(|(name, _)| name == field).and_then(|(_, value)| value.clone());
        if let Some(value) = &value {
            plan.check(field, value)?;
        }
        let change = journal::Change::Field(field.clone(), value);
        Ok(Deferred { mapping: cached.mapping().id, key: key.clone(), change })
    };
    waits.iter().map(deferred).collect()
}
