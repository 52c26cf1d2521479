//! Saves the deferred writes of one strand: one statement for many keys of a mapping, repeated until the store says
//! what became of it.
//!
//! Invariants:
//! - one flush of a strand at a time, so a key's values reach the store in their order;
//! - a batch whose answer did not come is sent again as the same batch, which the store applies once (C5);
//! - a batch gets another number only when it is certain that nothing of it was applied, or will be, under the old one;
//! - nothing of the strand is taken before the journal knows how its batch before ended;
//! - whoever flushes may be dropped at any await: a batch that was taken stands in [`Flusher`] until it has been
//!   judged.
//!
//! What the store says otherwise than "applied" is judged in `fenced.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::WriteBehind;
use super::flush_log::FlushLog;
use super::flusher::{Flusher, Pending, Settled};
use super::pace::{Next, Pace};
use super::strands::Strand;
use crate::cache::memory::order::Choice;
use crate::cache::memory::overlay::{Rows, fields_of, left_of};
use crate::cache::source::Cached;
use crate::journal::{Entry, Held};
use crate::keys::MappingId;
use crate::record::Record;
use crate::store::{FlushRow, Flushed, Mark, Plan, StoreError};
use crate::telemetry::clock::{Moment, Tick};
use crate::telemetry::metrics::Outcome;
use crate::telemetry::slow::SlowKind;

/// Keys, and their records as a flush has left them.
type Records = Vec<(Bytes, Option<Record>)>;

impl WriteBehind {
    /// Saves what waits in a strand; what comes meanwhile is for the next time. A mapping whose statements the store
    /// refuses does not hold up the others of the strand.
    ///
    /// # Errors
    /// The store's, or the journal's; what has not been saved still waits.
    pub(super) async fn flush_strand(&self, strand: &Strand) -> Result<(), StoreError> {
        self.flush_mappings(strand, strand.mappings.clone()).await
    }

    /// The same of some mappings of a strand.
    pub(super) async fn flush_mappings(&self, strand: &Strand, able: Vec<MappingId>) -> Result<(), StoreError> {
        let mut flusher = strand.flusher.lock().await;
        if self.is_given_over() {
            return Ok(());
        }
        let flushed = self.flush_every(strand, &mut flusher, able).await;
        flusher.has_failed = flushed.is_err();
        flusher.log.write();
        flushed
    }

    async fn flush_every(
        &self,
        strand: &Strand,
        flusher: &mut Flusher,
        mut able: Vec<MappingId>,
    ) -> Result<(), StoreError> {
        self.resolve(strand, flusher).await?;
        let mut failed = Ok(());
        // What is journaled at this moment, and waits from the next on, is for the next flush.
        let until = self.memory.overlay.upcoming();
        flusher.pace.keep(|key| self.memory.overlay.of(key).is_some());
        while let Some((mapping, rows)) = self.next(strand, &flusher.pace, until, &able) {
            let next = match self.flush_rows(strand, flusher, mapping, rows.clone()).await {
                Ok(()) => {
                    flusher.pace.passed(mapping, &rows);
                    continue;
                }
                // No row is at fault: the mapping's rows wait until its statements fit again.
                Err(error @ StoreError::Faulty(_)) => (Next::Waits, error),
                Err(error) if error.is_of_one_statement() || matches!(error, StoreError::ReadOnly(_)) => {
                    (flusher.pace.refused(mapping, &rows), error)
                }
                Err(error) => return Err(error),
            };
            // What takes long, or may be the whole store's trouble, is tried once in a flush.
            if matches!(next, (Next::Waits, _) | (_, StoreError::Overloaded(_) | StoreError::ReadOnly(_))) {
                able.retain(|other| *other != mapping);
            }
            failed = Err(next.1);
        }
        failed
    }

    /// The rows of the next batch: of those that were not refused as they are, or else one that has rested.
    fn next(&self, strand: &Strand, pace: &Pace, until: u64, able: &[MappingId]) -> Option<(MappingId, Rows)> {
        let (memory, table) = (&self.memory, &strand.mappings);
        let choice = Choice { most: self.flush_rows, until, able };
        let fresh = memory.next_rows(table, choice, |key, entries| pace.is_fresh(key, entries));
        if let Some((mapping, mut rows)) = fresh {
            rows.truncate(pace.most(mapping));
            return Some((mapping, rows));
        }
        let now = Instant::now();
        memory.next_rows(table, Choice { most: 1, ..choice }, |key, _| pace.is_due(key, now))
    }

    /// Saves what waits for some keys of a strand, in its order, whether or not they rest.
    ///
    /// # Errors
    /// The first of the store's, or the journal's, and the mapping that it is about, if it is about one.
    pub(super) async fn flush_keys(
        &self,
        strand: &Strand,
        flusher: &mut Flusher,
        keys: &HashSet<Bytes>,
    ) -> Result<(), (Option<MappingId>, StoreError)> {
        self.resolve(strand, flusher).await.map_err(|error| (None, error))?;
        let (begun, until) = (Instant::now(), self.memory.overlay.upcoming());
        let choice = Choice { most: self.flush_rows, until, able: &strand.mappings };
        while let Some((mapping, rows)) = self.memory.next_rows(&strand.mappings, choice, |key, _| keys.contains(key)) {
            if begun.elapsed() > self.memory.source.deadline {
                return Err((Some(mapping), StoreError::Overloaded("there are many of them".into())));
            }
            self.flush_rows(strand, flusher, mapping, rows).await.map_err(|error| (Some(mapping), error))?;
        }
        Ok(())
    }

    /// What was left over: an outcome that the journal does not know yet, a batch whose result is not known. Nothing
    /// else of the strand is taken before both are settled.
    async fn resolve(&self, strand: &Strand, flusher: &mut Flusher) -> Result<(), StoreError> {
        if !self.journal()?.has_succeeded() {
            return Err(StoreError::ReadOnly("the deferred writes of before the start go first".into()));
        }
        self.settle_inherited().await?;
        self.note(flusher).await?;
        match flusher.unknown.is_some() {
            true => self.finish(strand, flusher).await,
            false => Ok(()),
        }
    }

    /// Notes in the journal how the last batch ended; it is tried again before anything else if it cannot be noted now.
    pub(super) async fn note(&self, flusher: &mut Flusher) -> Result<(), StoreError> {
        let (journal, Flusher { ended, suppressed, log, .. }) = (self.journal()?, &mut *flusher);
        if let Some(rows) = suppressed {
            self.put_aside(log, rows, &StoreError::suppressed()).await?;
            *suppressed = None;
        }
        match ended {
            Some(Settled::Saved(batch)) => journal.applied(batch.number).await?,
            Some(Settled::NotSaved(batch)) => journal.give_back(batch.number).await?,
            Some(Settled::PutAside(pending, error)) => self.put_aside(log, pending, error).await?,
            None => {}
        }
        flusher.ended = None;
        Ok(())
    }

    async fn flush_rows(
        &self,
        strand: &Strand,
        flusher: &mut Flusher,
        mapping: MappingId,
        rows: Rows,
    ) -> Result<(), StoreError> {
        self.memory.source.known(mapping)?.current.plan()?;
        self.take(strand, flusher, mapping, rows).await?;
        self.finish(strand, flusher).await
    }

    /// Marks rows as taken by a new batch.
    async fn take(
        &self,
        strand: &Strand,
        flusher: &mut Flusher,
        mapping: MappingId,
        rows: Rows,
    ) -> Result<(), StoreError> {
        let held = self.answer(StoreError::Unavailable, self.hold(strand, flusher)).await?;
        let entries: Vec<Entry> = rows.iter().flat_map(|(_, entries)| entries.clone()).collect();
        let batch = Arc::new(self.journal()?.take(held, &strand.name, &entries).await?);
        (flusher.unknown, flusher.was_sent) = (Some(Arc::new(Pending { batch, mapping, rows })), false);
        Ok(())
    }

    /// The incarnation under which the next batch of a strand is taken. Another one is waited for until every batch of
    /// the one before is settled.
    async fn hold(&self, strand: &Strand, flusher: &mut Flusher) -> Result<Held, StoreError> {
        let journal = self.journal()?;
        if let Some(former) = &flusher.collided {
            journal.renew(former).await?;
            flusher.collided = None;
        }
        let held = journal.hold().await;
        // Before the store has a note of the strand it would let nothing of it through.
        if !journal.is_enrolled(&strand.name) {
            self.memory.source.store.enroll(held.incarnation(), &held.note(&strand.name)).await?;
            journal.set_enrolled(&strand.name);
        }
        Ok(held)
    }

    /// Sends the batch that was taken, and then the parts that are to be tried again.
    async fn finish(&self, strand: &Strand, flusher: &mut Flusher) -> Result<(), StoreError> {
        let Some(mapping) = flusher.unknown.as_ref().map(|pending| pending.mapping) else { return Ok(()) };
        let mut parts = self.send(flusher).await?;
        while let Some(rows) = parts.pop() {
            self.take(strand, flusher, mapping, rows).await?;
            parts.extend(self.send(flusher).await?);
        }
        Ok(())
    }

    /// Sends the batch that was taken; what of it has to be sent again, in other batches. Where no answer came it is
    /// kept, to be sent again as the same batch.
    async fn send(&self, flusher: &mut Flusher) -> Result<Vec<Rows>, StoreError> {
        let Some(pending) = flusher.unknown.clone() else { return Ok(Vec::new()) };
        let Some(cached) = self.memory.source.cached(pending.mapping) else {
            flusher.unknown = None;
            return Ok(Vec::new());
        };
        let own_write = self.memory.own_writes.write(pending.rows.iter().map(|(key, _)| key.clone()).collect());
        let origin = own_write.text();
        let mark = Mark { journal: &pending.batch.note, batch: pending.batch.number, origin: &origin };
        let rows = rows_of(&pending.rows);
        // From here on it may be applied, whoever waits for the answer.
        let (sent, was_sent) = (Tick::now(), std::mem::replace(&mut flusher.was_sent, true));
        let (store, rows) = (&self.memory.source.store, &rows);
        let flush = |plan: Arc<Plan>| async move { store.flush(&plan, rows, mark).await };
        let flushing = self.memory.source.with_plan(cached, flush);
        let (began, begun) = (Instant::now(), Moment::now());
        let flushed = self.answer(StoreError::Ambiguous, flushing).await;
        if let Some((key, _)) = pending.rows.first() {
            self.memory.note_slow(cached, SlowKind::Flush, key, (began.elapsed(), flushed.as_ref().err()));
        }
        self.trace(cached, &pending.rows, begun, flushed.as_ref().err());
        self.metrics.flush_ended(Outcome::of(&flushed));
        match &flushed {
            Ok(_) => own_write.end(Tick::now()),
            Err(error) => self.memory.count_overload(cached, error),
        }
        match flushed {
            Ok(Flushed::Now { records, suppressed }) => {
                let (suppressed, pending) = divided(&pending, &suppressed);
                flusher.suppressed = suppressed;
                self.saved(flusher, &pending, Some((sent, records))).await
            }
            Ok(Flushed::Fenced(note)) => {
                flusher.was_sent = was_sent;
                self.fenced(flusher, &pending, note).await
            }
            // What was answered has not been done.
            Err(error)
                if !error.is_final() || error.is_of_one_statement() || matches!(error, StoreError::ReadOnly(_)) =>
            {
                flusher.was_sent = was_sent;
                self.refused(flusher, &pending, error).await
            }
            Err(error) => {
                flusher.was_sent = was_sent || error != StoreError::Open;
                Err(error)
            }
        }
    }

    /// A statement that was to save these rows has ended.
    fn trace(&self, cached: &Cached, rows: &Rows, begun: Moment, error: Option<&StoreError>) {
        let traces = self.memory.traces();
        if traces.are_on() {
            let of = self.traced.of(rows.iter().map(|(key, _)| key), error.is_none());
            traces.flushed(&self.memory.source.traced(cached, begun, error), rows.len(), of);
        }
    }

    /// The store has a batch: memory takes it, and the journal notes it. `answer` is when it was sent, and the rows
    /// that were there; `None`: it was lost.
    pub(super) async fn saved(
        &self,
        flusher: &mut Flusher,
        pending: &Pending,
        answer: Option<(Tick, Records)>,
    ) -> Result<Vec<Rows>, StoreError> {
        let without_row = answer.as_ref().map_or(0, |(_, records)| without_row(&pending.rows, records));
        if let Some(cached) = self.memory.source.cached(pending.mapping).filter(|_| without_row > 0) {
            self.metrics.without_row(cached.name(), without_row);
            flusher.log.without_row(cached.name(), without_row);
        }
        // Its notices may have come earlier, or from another attempt: what is in memory is compared.
        let mut answer: Option<(Tick, HashMap<Bytes, Option<Record>>)> =
            answer.map(|(sent, records)| (sent, records.into_iter().collect()));
        for (key, entries) in &pending.rows {
            let told = answer.as_mut().map(|(sent, records)| (*sent, records.remove(key).flatten()));
            self.memory.settle(key, entries, told);
        }
        self.metrics.flushed.inc_by(pending.rows.len() as u64 - without_row);
        self.count_waiting();
        flusher.renewals = 0;
        flusher.end(Settled::Saved(pending.batch.clone()));
        self.note(flusher).await.map(|()| Vec::new())
    }

    /// The store has not applied a batch, and never will under this number: the journal notes that.
    pub(super) async fn not_saved(&self, flusher: &mut Flusher, pending: &Pending) -> Result<(), StoreError> {
        flusher.end(Settled::NotSaved(pending.batch.clone()));
        self.note(flusher).await
    }

    /// Puts one row's values aside, which the store refuses.
    async fn put_aside(&self, log: &mut FlushLog, pending: &Pending, error: &StoreError) -> Result<(), StoreError> {
        let entries: Vec<Entry> = pending.rows.iter().flat_map(|(_, entries)| entries.clone()).collect();
        self.journal()?.put_aside(&entries, &error.in_full()).await?;
        log.put_aside(entries.first().map_or("", |entry| &entry.mapping), error);
        self.metrics.put_aside.inc();
        self.audit_aside(&pending.rows, &error.to_string());
        for (key, entries) in &pending.rows {
            self.memory.give_up(key, entries);
        }
        self.count_waiting();
        Ok(())
    }
}

/// The rows of a batch that were suppressed, if some were, and the others.
fn divided(pending: &Pending, suppressed: &[Bytes]) -> (Option<Pending>, Pending) {
    let of = |is_suppressed: bool| {
        let is_meant = |(key, _): &&(Bytes, _)| suppressed.contains(key) == is_suppressed;
        Pending { rows: pending.rows.iter().filter(is_meant).cloned().collect(), ..pending.clone() }
    };
    ((!suppressed.is_empty()).then(|| of(true)), of(false))
}

/// How many keys had values for a row that is not there. An expiry for a missing row does not count.
fn without_row(rows: &Rows, records: &[(Bytes, Option<Record>)]) -> u64 {
    let there: HashSet<&Bytes> = records.iter().map(|(key, _)| key).collect();
    let is_lost = |(key, entries): &&(Bytes, Vec<Entry>)| !there.contains(key) && fields_of(entries).next().is_some();
    rows.iter().filter(is_lost).count() as u64
}

fn rows_of(rows: &Rows) -> Vec<FlushRow> {
    let row = |(key, entries): &(Bytes, Vec<Entry>)| FlushRow {
        key: key.clone(),
        fields: fields_of(entries).map(|(name, value)| (name.clone(), value.cloned())).collect(),
        left: left_of(entries),
    };
    rows.iter().map(row).collect()
}
