//! Writes through the cache: one at a time per key, in the order in which they came. What the store returns is what
//! memory holds next. Knows memory and how a write is deferred; never commands or clients.

mod deferred;
pub(super) mod expire;
pub(super) mod together;
pub(super) mod transaction;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::runtime::Handle;

use expire::Lasting;

use super::cause::By;
use super::entry::Entry;
use super::memory::Memory;
use super::memory::loads::WriteTurn;
use super::memory::order::Touched;
use super::memory::overlay::{fields_of, left_of};
use super::source::Cached;
use super::write_behind::WriteBehind;
use crate::keys::MappingId;
use crate::record::{Edit, Record, RowEdit, TtlChange, Write, Written};
use crate::store::{Plan, StoreError};
use crate::telemetry::clock::{Moment, Tick};
use crate::telemetry::metrics::{CacheMetrics, Outcome};
use crate::telemetry::slow::SlowKind;
use crate::telemetry::traces::StoreSpan;

/// The result of a write.
pub type WriteResult = Result<Written, StoreError>;

/// True unless a write is known to have changed nothing.
fn may_have_changed(edit: &Edit, result: &WriteResult) -> bool {
    match result {
        Ok(written) => written.has_changed(edit),
        Err(error) => error.may_have_changed(),
    }
}

/// Carries out the writes of one sidecar.
#[derive(Debug)]
pub(super) struct Writer {
    memory: Arc<Memory>,
    write_behind: Arc<WriteBehind>,
    /// Writes run here, not in a client's task: a client that leaves does not cut a query short (hazard 27).
    runtime: Handle,
    metrics: Arc<CacheMetrics>,
}

/// What a trace calls the statement that an edit becomes.
const fn span_of(edit: &Edit) -> StoreSpan {
    match edit {
        Edit::Fields(..) => StoreSpan::Upsert,
        Edit::Push(_) | Edit::Members(_, true) => StoreSpan::Insert,
        Edit::Delete | Edit::Pull(..) | Edit::Members(_, false) => StoreSpan::Delete,
    }
}

impl Writer {
    pub(super) fn new(
        memory: Arc<Memory>,
        write_behind: Arc<WriteBehind>,
        runtime: Handle,
        metrics: Arc<CacheMetrics>,
    ) -> Self {
        Self { memory, write_behind, runtime, metrics }
    }

    /// Writes `key`, or journals the write, as its mapping says. The write has queued when this returns: later reads of
    /// the key wait for it. The future only waits.
    pub(super) fn write(
        self: &Arc<Self>,
        id: MappingId,
        key: &Bytes,
        write: &Write,
        by: By,
    ) -> impl Future<Output = WriteResult> + use<> {
        let mut turn = self.memory.queue_one(key);
        (turn.author, turn.trace) = (Some(by.author), by.trace);
        let (writer, write) = (self.clone(), write.clone());
        let task = self.runtime.spawn(async move {
            writer.memory.handover.opened().await;
            let cached = writer.memory.source.known(id)?;
            turn.comes().await;
            if let Err(error) = cached.may_live(write.life) {
                writer.memory.undo(turn);
                return Err(error);
            }
            if cached.defers_some(&write.edit) {
                writer.defer(cached, turn, &write).await
            } else {
                Box::pin(writer.write_now(cached, turn, &write)).await
            }
        });
        async move { task.await.unwrap_or_else(|_| Err(StoreError::Ambiguous("the write was given up".into()))) }
    }

    /// One write through to the store, whose turn it is.
    async fn write_now(&self, cached: &Cached, mut turn: WriteTurn, write: &Write) -> WriteResult {
        let (edit, life) = (&write.edit, write.life);
        if let Err(error) = self.flush_before(cached, turn.key(), edit).await {
            self.memory.undo(turn);
            return Err(error);
        }
        let (epoch, started) = (cached.epoch(), Tick::now());
        let mut result = self.store_and_live_on(cached, &turn, edit, life).await;
        if let Ok(written) = &mut result {
            self.see_what_is_left(cached, turn.key(), edit, written).await;
            turn.news = self.memory.news(turn.key(), || write.events(written));
        }
        let left = match &result {
            Ok(written) if written.tells_new => {
                let entry = cached.life.entry(written.new.clone(), cached.mapping().id, epoch, started);
                let life = if written.applied { life } else { TtlChange::Keep };
                Some(Arc::new(cached.life.replacing(entry, turn.before.as_deref(), life, started)))
            }
            Err(error) if !error.may_have_changed() => turn.before.take(),
            // It may have been applied, or may still be: what was in memory cannot be relied on (hazard 10).
            Ok(_) | Err(_) => None,
        };
        match may_have_changed(edit, &result) {
            true => self.memory.end(turn, left),
            false => self.memory.end_unchanged(turn, left),
        }
        result
    }

    /// A statement that removes members of a set does not say whether some are left: that is seen where somebody is
    /// told that the key is gone.
    async fn see_what_is_left(&self, cached: &Cached, key: &Bytes, edit: &Edit, written: &mut Written) {
        let is_asked = matches!(edit, Edit::Members(_, false)) && written.count > 0 && self.memory.is_heard();
        if is_asked && let Ok(record) = Box::pin(self.memory.read(cached, key)).await {
            (written.new, written.tells_new) = (record, true);
        }
    }

    /// Stores a write, and journals the expiry that it leaves, of a key that expires by its column.
    async fn store_and_live_on(&self, cached: &Cached, turn: &WriteTurn, edit: &Edit, asked: TtlChange) -> WriteResult {
        // What has been stored cannot be undone: room for the expiry is looked for first.
        let expiry = |is_new| {
            let life = cached.life_after(asked, is_new)?;
            self.write_behind.expiry(cached, turn.key(), life)
        };
        let (asked_for, may_defer) = (expiry(false), cached.may_defer());
        if asked_for.is_some() {
            may_defer.clone()?;
        }
        self.write_behind.has_room(asked_for.into_iter().collect())?;
        let mut written = self.store_write(cached, turn, cached.row_edit(edit, asked)).await?;
        let is_to_wait = written.applied && written.new.is_some() && may_defer.is_ok();
        // A new row has its expiry already.
        let expiry = expiry(written.old.is_none()).filter(|_| is_to_wait);
        if let Some(expiry) = expiry {
            let record = &mut written.new;
            self.live_on(vec![expiry], &mut [Lasting { key: turn.key(), record }]).await?;
        }
        Ok(written)
    }

    /// The statement of one write, and its record with what waits over it.
    async fn store_write(&self, cached: &Cached, turn: &WriteTurn, edit: RowEdit<'_>) -> WriteResult {
        let (started, memory) = (Instant::now(), &self.memory);
        let begun = turn.trace.is_some().then(Moment::now);
        let row = RowEdit { lives: memory.overlay.lives(turn.key()).unwrap_or(false), ..edit };
        let own_write = memory.own_writes.begin(vec![turn.key().clone()]);
        let (store, origin, key) = (&memory.source.store, &own_write.text(), turn.key());
        let write = |plan: Arc<Plan>| async move { store.write(&plan, key, row, origin).await };
        let writing = memory.source.with_plan(cached, write);
        let mut result = match tokio::time::timeout(memory.source.deadline, writing).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Ambiguous("the write took too long".into())),
        };
        match &mut result {
            Err(error) if error.may_have_changed() => memory.own_writes.disown(own_write),
            Ok(written) if written.tells_new => {
                written.old = memory.overlay.over(turn.key(), written.old.take());
                written.new = memory.overlay.over(turn.key(), written.new.take());
            }
            _ => {}
        }
        memory.own_writes.end(own_write, Tick::now());
        let time = started.elapsed();
        if let (Some(trace), Some(begun)) = (&turn.trace, begun) {
            trace.stored(span_of(edit.edit), &memory.source.traced(cached, begun, result.as_ref().err()));
        }
        self.metrics.written(Outcome::of(&result), time);
        memory.note_slow(cached, SlowKind::Write, turn.key(), (time, result.as_ref().err()));
        if let Err(
            error @ (StoreError::Ambiguous(_)
            | StoreError::Unavailable(_)
            | StoreError::Overloaded(_)
            | StoreError::Transient(_)),
        ) = &result
        {
            memory.count_overload(cached, error);
            cached.complain("a write failed", error);
        }
        result
    }

    /// Saves what must not come after an edit that goes through: what waits for the key, and what waits through other
    /// mappings of its table.
    ///
    /// # Errors
    /// As a flush: the edit must not be done.
    async fn flush_before(&self, cached: &Cached, key: &Bytes, edit: &Edit) -> Result<(), StoreError> {
        if self.must_flush_before(key, edit) {
            Box::pin(self.write_behind.flush_key(key)).await?;
        }
        let mapping = cached.mapping();
        self.write_behind.flush_before(mapping.id, key, || Touched::by(mapping, edit)).await
    }

    /// True when what waits for a key must be saved first: it would come after this write otherwise. So would an expiry
    /// that has passed, or may have when the statement ends: when the row has it, the store alone decides, by its own
    /// clock, whether this write finds the old key or makes a new one.
    fn must_flush_before(&self, key: &[u8], edit: &Edit) -> bool {
        self.memory.overlay.of(key).is_some_and(|dirty| match edit {
            Edit::Fields(changes, _) => {
                self.is_near(left_of(&dirty.entries).flatten())
                    || changes.iter().any(|(field, _)| fields_of(&dirty.entries).any(|(waiting, _)| waiting == field))
            }
            _ => true,
        })
    }

    /// The record as it is: from memory if `before` may be used, else from the store.
    async fn known(
        &self,
        cached: &Cached,
        key: &Bytes,
        before: Option<&Arc<Entry>>,
    ) -> Result<Option<Record>, StoreError> {
        let now = Tick::now();
        let Some(entry) = before.filter(|entry| self.memory.is_usable(cached, entry, now)) else {
            return Box::pin(self.memory.read(cached, key)).await;
        };
        let left = entry.left(now).map(|left| left.as_millis() as i64);
        let left = left.filter(|_| cached.expires_by_column());
        Ok(entry.record.clone().map(|record| record.living(left)))
    }
}
