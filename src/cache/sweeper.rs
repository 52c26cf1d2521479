//! Removes rows of keys that have ended, each mapping's beside those of the others. A row that cannot go (somebody
//! refers to it, a trigger keeps it) is found, passed over, and tried again after a pause that grows.
//!
//! Invariant: a row is left alone while its key has another end that waits in the journal, under whatever mapping.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::MissedTickBehavior;

use super::memory::Memory;
use super::resting_rows::RestingRows;
use super::source::Cached;
use super::write_behind::WriteBehind;
use crate::config;
use crate::keys::MappingId;
use crate::store::{Chosen, Plan, RowKey, StoreError};
use crate::telemetry::LogThrottle;
use crate::telemetry::metrics::CacheMetrics;

/// A round that has lasted for so long goes on at the next time.
const LONGEST: Duration = Duration::from_secs(60);

/// After so many rows one after the other that cannot go, a round goes on at the next time.
const MOST_REFUSALS: usize = 16;

/// Most keys whose new end waits that a statement passes over.
const MOST_RENEWED: usize = 10_000;

/// Removes rows of keys that have ended.
#[derive(Debug)]
pub(super) struct Sweeper {
    /// Zero: never.
    pub(super) interval: Duration,
    grace: f64,
    memory: Arc<Memory>,
    write_behind: Arc<WriteBehind>,
    metrics: Arc<CacheMetrics>,
}

/// One round over one mapping.
struct Round<'r> {
    sweeper: &'r Sweeper,
    cached: &'r Cached,
    plan: Arc<Plan>,
    /// The number of the first change that was journaled after the round began.
    until: u64,
    resting: &'r mut RestingRows,
    begun: Instant,
    removed: u64,
    /// Rows that could not go, one after the other.
    refusals: usize,
    /// Why the last of them could not.
    refusal: Option<StoreError>,
}

impl Sweeper {
    pub(super) fn new(
        settings: &config::Store,
        memory: Arc<Memory>,
        write_behind: Arc<WriteBehind>,
        metrics: Arc<CacheMetrics>,
    ) -> Self {
        let (interval, grace) = (settings.sweep_interval, settings.sweep_grace.as_secs_f64());
        Self { interval, grace, memory, write_behind, metrics }
    }

    /// Sweeps every mapping whose keys end by a column, every interval, for ever.
    pub(super) async fn run(&self) {
        let ending = self.memory.source.all().filter(|cached| cached.expires_by_column());
        join_all(ending.map(|cached| self.sweep_for_ever(cached))).await;
    }

    async fn sweep_for_ever(&self, cached: &Cached) {
        let mut ticker = tokio::time::interval(self.interval);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut resting, complaints) = (RestingRows::new(self.interval), LogThrottle::default());
        loop {
            ticker.tick().await;
            self.memory.handover.opened().await;
            if !self.memory.source.store.standing().takes_writes() || !self.write_behind.has_succeeded() {
                continue;
            }
            // Of keys that are the upstream's nobody renews the rows.
            if !self.memory.source.modes().owns_all(cached.mapping().id) {
                continue;
            }
            let refusal = self.sweep(cached, &mut resting).await;
            self.metrics.cannot_be_swept(cached.name(), resting.len());
            if let Some(error) = refusal.filter(|_| complaints.due().is_some()) {
                let (mapping, rows) = (cached.name(), resting.len());
                tracing::warn!(mapping, rows, %error, "rows of keys that have ended cannot be removed now");
            }
        }
    }

    /// One round; why something could not be removed, if that is so.
    async fn sweep(&self, cached: &Cached, resting: &mut RestingRows) -> Option<StoreError> {
        let plan = cached.current.plan().ok()?;
        let until = self.memory.overlay.upcoming();
        // What waits is saved first, and stays where that fails.
        if let Err(error) = self.write_behind.flush_expiries(cached.mapping().id).await {
            tracing::debug!(mapping = cached.name(), %error, "deferred expiries wait for the store");
        }
        let (begun, removed) = (Instant::now(), 0);
        let mut round =
            Round { sweeper: self, cached, plan, until, resting, begun, removed, refusals: 0, refusal: None };
        let ended = round.run().await;
        if round.removed > 0 {
            self.metrics.swept.inc_by(round.removed);
            tracing::debug!(mapping = cached.name(), rows = round.removed, "rows of keys that have ended were removed");
        }
        ended.err().or(round.refusal)
    }

    /// True when ends of before `until` wait of other mappings whose keys end by the same column of the same table.
    fn ends_wait_beside(&self, cached: &Cached, until: u64) -> bool {
        let Memory { source, overlay, .. } = &*self.memory;
        let column = &cached.block().expires_column;
        let is_same = |other: &MappingId| source.cached(*other).is_some_and(|c| c.block().expires_column == *column);
        let mut beside = self.write_behind.mappings_beside(cached.mapping().id).filter(is_same);
        beside.any(|other| overlay.expires_since(other, until))
    }
}

impl Round<'_> {
    /// Removes what has ended.
    ///
    /// # Errors
    /// Why the round ends before that.
    async fn run(&mut self) -> Result<(), StoreError> {
        for row in self.resting.due(MOST_REFUSALS) {
            self.remove(vec![row]).await?;
        }
        loop {
            let passed = self.passed()?;
            match self.sweep(Chosen::AllBut(&passed)).await {
                Ok(0) => return Ok(()),
                Ok(removed) => self.removed += removed,
                Err(error) if error.is_of_one_statement() => self.remove_each(&passed, error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The rows whose keys have another end that the store does not have yet. A key may be given one at any moment.
    ///
    /// # Errors
    /// Nothing is to be removed: such an end waits of a key of another mapping, and nobody can say which row that is.
    /// An end that has come since the round began is that of a key that has lived until now.
    fn renewed(&self) -> Result<HashSet<RowKey>, StoreError> {
        if self.sweeper.ends_wait_beside(self.cached, self.until) {
            let why = "deferred expiries of another mapping of the table wait to be saved";
            return Err(StoreError::Overloaded(why.into()));
        }
        let waiting = self.sweeper.memory.overlay.expiring(self.cached.mapping().id);
        if waiting.len() > MOST_RENEWED {
            return Err(StoreError::Overloaded("too many deferred expiries of this mapping wait to be saved".into()));
        }
        Ok(waiting.iter().filter_map(|key| self.plan.row_key(key)).collect())
    }

    /// The rows that a statement over the whole table leaves alone.
    fn passed(&self) -> Result<Vec<RowKey>, StoreError> {
        Ok(self.resting.keys().cloned().chain(self.renewed()?).collect())
    }

    async fn sweep(&self, chosen: Chosen<'_>) -> Result<u64, StoreError> {
        self.sweeper.memory.source.store.sweep(&self.plan, self.sweeper.grace, chosen).await
    }

    /// Finds among those that a statement would have removed the rows that cannot go, and removes the others.
    async fn remove_each(&mut self, passed: &[RowKey], error: StoreError) -> Result<(), StoreError> {
        let (store, grace) = (&self.sweeper.memory.source.store, self.sweeper.grace);
        let rows = store.expired(&self.plan, grace, Chosen::AllBut(passed)).await?;
        if rows.is_empty() {
            return Err(error);
        }
        self.remove(rows).await
    }

    /// Removes these rows but for renewed ones; where that is refused, they are halved until the row at fault is alone,
    /// which rests.
    async fn remove(&mut self, rows: Vec<RowKey>) -> Result<(), StoreError> {
        let mut parts = vec![rows];
        while let Some(mut rows) = parts.pop() {
            let renewed = self.renewed()?;
            rows.retain(|row| !renewed.contains(row));
            if rows.is_empty() {
                continue;
            }
            match self.sweep(Chosen::Only(&rows)).await {
                Ok(removed) => {
                    (self.removed, self.refusals) = (self.removed + removed, 0);
                    self.resting.forget(&rows);
                }
                Err(error) if error.is_of_one_statement() => {
                    let right = rows.split_off(rows.len() / 2);
                    match rows.is_empty() {
                        true => self.rest(right, error)?,
                        false => parts.extend([right, rows]),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Rows that cannot go rest.
    ///
    /// # Errors
    /// Why, where it is time to end the round.
    fn rest(&mut self, rows: Vec<RowKey>, error: StoreError) -> Result<(), StoreError> {
        let has_room = rows.into_iter().all(|row| self.resting.rest(row));
        self.refusals += 1;
        if !has_room || self.refusals >= MOST_REFUSALS || self.begun.elapsed() > LONGEST {
            return Err(error);
        }
        self.refusal = Some(error);
        Ok(())
    }
}
