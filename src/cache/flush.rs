//! Saves deferred writes: one statement for many keys of a mapping, again and again until the store says how it went.
//!
//! Invariants:
//! - one flush at a time, so a key's values reach the store in their order;
//! - a batch whose answer did not come is sent again as the same batch, which the store applies once (C5);
//! - values that the store refuses are halved until the row at fault is alone, which is put aside; the others go on;
//! - a statement that the store refuses (no such table, no permission) is no row's fault: the mapping's rows wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::ends::{ENDS, left_of};
use super::overlay::Rows;
use super::{Cache, Cached};
use crate::journal::{Entry, Journal};
use crate::record::Record;
use crate::store::{FlushRow, Mark, StoreError};
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::{Outcome, OutcomeLabel};

/// A batch whose end is not known.
#[derive(Debug)]
pub(super) struct Pending {
    number: u64,
    mapping: usize,
    rows: Rows,
}

/// The one place from which is flushed.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    unknown: Option<Pending>,
}

impl Cache {
    /// Notes that something waits, and wakes the flusher if there is not room for as much again.
    pub(super) fn wake_flusher(&self) {
        self.metrics.deferred_keys.set(self.overlay.len() as i64);
        if self.journal.as_ref().is_some_and(|journal| journal.is_half_full()) {
            self.flush_now.notify_one();
        }
    }

    /// Saves what waits, every `interval` and whenever the journal is half full, for ever.
    pub async fn flush_for_ever(self: Arc<Self>, interval: Duration) {
        let mut ticker = tokio::time::interval(interval);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticker.tick() => {}
                () = self.flush_now.notified() => {}
            }
            if let Err(error) = self.flush_all_deferred().await {
                tracing::warn!(%error, keys = self.overlay.len(), "deferred writes wait: the store does not take them");
                tokio::time::sleep(interval).await;
            }
        }
    }

    /// Saves everything that waits; what comes meanwhile is for the next time. A mapping whose table the store cannot write to does not hold up the others.
    ///
    /// # Errors
    /// The store's, or the journal's; what has not been saved still waits.
    pub async fn flush_all_deferred(&self) -> Result<(), StoreError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let mut flusher = self.flusher.lock().await;
        self.resolve(journal, &mut flusher).await?;
        let (mut stuck, mut failed) = (Vec::new(), Ok(()));
        let until = journal.upcoming();
        while let Some((mapping, rows)) = self.overlay.oldest(self.flush_rows, until, &stuck) {
            match self.flush_rows(journal, &mut flusher, mapping, rows).await {
                Err(error @ StoreError::Refused(_)) => {
                    stuck.push(mapping);
                    failed = Err(error);
                }
                other => other?,
            }
        }
        failed
    }

    /// Saves what waits for one key, before something that must come after it.
    pub(super) async fn flush_key(&self, key: &Bytes) -> Result<(), StoreError> {
        let Some(journal) = self.journal.as_ref().filter(|_| self.overlay.of(key).is_some()) else { return Ok(()) };
        let mut flusher = self.flusher.lock().await;
        self.resolve(journal, &mut flusher).await?;
        match self.overlay.of(key) {
            Some(dirty) => {
                let rows = vec![(key.clone(), dirty.entries)];
                self.flush_rows(journal, &mut flusher, dirty.mapping, rows).await
            }
            None => Ok(()),
        }
    }

    /// Sends a batch again whose end is not known.
    async fn resolve(&self, journal: &Journal, flusher: &mut Flusher) -> Result<(), StoreError> {
        match flusher.unknown.take() {
            Some(pending) => self.send(journal, flusher, pending).await,
            None => Ok(()),
        }
    }

    async fn flush_rows(
        &self,
        journal: &Journal,
        flusher: &mut Flusher,
        mapping: usize,
        rows: Rows,
    ) -> Result<(), StoreError> {
        // Halves that still have to be tried.
        let mut parts = vec![rows];
        while let Some(rows) = parts.pop() {
            let pending = Pending { number: journal.batch(), mapping, rows };
            let entries: Vec<Entry> = pending.rows.iter().flat_map(|(_, entries)| entries.clone()).collect();
            journal.take(pending.number, &entries).await?;
            let (number, rows) = (pending.number, pending.rows.clone());
            match self.send(journal, flusher, pending).await {
                Ok(()) => {}
                Err(error) if error.is_final() => return Err(error),
                Err(error) if !error.is_about_values() => {
                    journal.give_back(number).await?;
                    return Err(error);
                }
                Err(error) if rows.len() == 1 => self.put_aside(journal, number, mapping, &rows, &error).await?,
                Err(_) => {
                    journal.give_back(number).await?;
                    let (left, right) = rows.split_at(rows.len() / 2);
                    parts.extend([right.to_vec(), left.to_vec()]);
                }
            }
        }
        Ok(())
    }

    /// Sends one batch. After an error that is final it is kept, to be sent again.
    async fn send(&self, journal: &Journal, flusher: &mut Flusher, pending: Pending) -> Result<(), StoreError> {
        let Some(cached) = self.cached(pending.mapping) else { return Ok(()) };
        let origin_number = self.origins.begin(pending.rows.iter().map(|(key, _)| key.clone()).collect());
        let origin = self.origins.text(origin_number);
        let mark = Mark { journal: &journal.id, batch: pending.number, origin: &origin };
        let rows = rows_of(cached, &pending.rows);
        let flushing = self.store.flush(&cached.mapping, &cached.plan, &rows, mark);
        let flushed = tokio::time::timeout(self.deadline, flushing).await;
        let flushed = flushed.unwrap_or_else(|_| Err(StoreError::Ambiguous("the flush took too long".into())));
        let outcome = if flushed.is_ok() { Outcome::Ok } else { Outcome::Error };
        self.metrics.flushes.get_or_create(&OutcomeLabel { outcome }).inc();
        match flushed {
            Ok(records) => {
                // Its notices may have come before, or come from another attempt: what is in memory is compared.
                self.settle(&pending.rows, records.unwrap_or_default());
                self.origins.end(origin_number, now_ms());
                self.metrics.flushed.inc_by(pending.rows.len() as u64);
                self.metrics.deferred_keys.set(self.overlay.len() as i64);
                // Should this fail, the store still knows that the batch was applied.
                Ok(journal.applied(pending.number).await?)
            }
            Err(error) => {
                self.origins.disown(origin_number);
                if error.is_final() {
                    flusher.unknown = Some(pending);
                }
                Err(error)
            }
        }
    }

    /// The store has these rows: nothing lies over them any more. A load that began before may have read the rows of
    /// before, and memory must hold what the store made of the values.
    fn settle(&self, rows: &Rows, records: Vec<(Bytes, Option<Record>)>) {
        let mut records: HashMap<Bytes, Option<Record>> = records.into_iter().collect();
        for (key, entries) in rows {
            let now = records.remove(key).flatten();
            self.flights.settle(key, || {
                self.overlay.settle(key, entries);
                let expected = self.overlay.over(key, now);
                let is_same = self.shelf.get(key).is_none_or(|entry| entry.record == expected);
                if !is_same {
                    self.shelf.remove(key);
                }
            });
        }
    }

    async fn put_aside(
        &self,
        journal: &Journal,
        number: u64,
        mapping: usize,
        rows: &Rows,
        error: &StoreError,
    ) -> Result<(), StoreError> {
        journal.put_aside(number, &error.to_string()).await?;
        let mapping = self.cached(mapping).map_or("", |cached| cached.mapping.pattern.text());
        tracing::error!(mapping, %error, "a deferred write is put aside: the store refuses it; `hearthside journal` shows it");
        self.metrics.put_aside.inc();
        for (key, entries) in rows {
            self.flights.detach(key, || {
                self.overlay.settle(key, entries);
                self.shelf.remove(key)
            });
        }
        Ok(())
    }
}

fn rows_of(cached: &Cached, rows: &Rows) -> Vec<FlushRow> {
    let row = |(key, entries): &(Bytes, Vec<Entry>)| FlushRow {
        values: cached
            .mapping
            .pattern
            .captures(key)
            .unwrap_or_default()
            .into_iter()
            .map(Bytes::copy_from_slice)
            .collect(),
        fields: entries.iter().filter(|e| e.field != ENDS).map(|e| (e.field.clone(), e.value.clone())).collect(),
        left: entries.iter().find(|entry| entry.field == ENDS).map(|entry| left_of(entry.value.as_ref())),
    };
    rows.iter().map(row).collect()
}
