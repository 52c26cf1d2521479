//! Runs loads: one for all readers that ask for a key at the same time, from its query to its publication.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Memory;
use super::asking::{Asking, Begun, Traced, Wish};
use super::loads::Load;
use super::overlay::{Dirty, laid_over, living};
use super::waiting::LoadResult;
use crate::cache::entry::Entry;
use crate::cache::source::{After, Cached};
use crate::keys::MappingId;
use crate::quota::{Asker, Places};
use crate::record::Record;
use crate::store::{StoreError, Urgency};
use crate::telemetry::Traces;
use crate::telemetry::clock::{Moment, Tick};
use crate::telemetry::metrics::Outcome;
use crate::telemetry::slow::{Slow, SlowKind};
use crate::telemetry::traces::Loaded;

impl Memory {
    /// The entry of `key`, loaded if need be. The load is begun, or joined, when this returns; the future only waits.
    pub(crate) fn load(
        self: &Arc<Self>,
        id: MappingId,
        key: &Bytes,
        asker: &mut Asker,
    ) -> impl Future<Output = LoadResult> + use<> {
        let begun = self.begin(id, key, Wish::Asked, Some(asker));
        let (memory, key) = (self.clone(), key.clone());
        async move {
            let loaded = match begun {
                Ok(Begun::There(entry)) => Ok(entry),
                Ok(Begun::Joined(flight)) => flight.wait().await,
                Err(error) => Err(error),
            };
            match loaded {
                Ok(entry) => {
                    entry.is_asked_for();
                    Ok(entry)
                }
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Overloaded(_)
                    | StoreError::Transient(_)
                    | StoreError::Limited(_)
                    | StoreError::Open),
                ) => memory.stale_for_error(id, &key).ok_or(error),
                Err(error) => Err(error),
            }
        }
    }

    /// The load of `key` as it is joined or begun; what no command asks for is not limited.
    pub(super) fn begin(
        self: &Arc<Self>,
        id: MappingId,
        key: &Bytes,
        wish: Wish,
        asker: Option<&mut Asker>,
    ) -> Result<Begun, StoreError> {
        let cached = self.source.known(id)?;
        let command = asker.as_ref().and_then(|asker| asker.trace.clone());
        let traced = Traced { command: command.as_ref(), traces: Some(&self.metrics.traces) };
        let asking = Asking { epoch: cached.epoch(), wish, traced };
        let there = || self.entries.get(key).filter(|entry| self.is_usable(cached, entry, Tick::now()));
        let places = || asker.map_or_else(|| Ok(Places::default()), |asker| asker.admit(&cached.quota));
        let begun = self.flights.begin(key, asking, there, places);
        let (begun, load) = begun.map_err(|refused| StoreError::Limited(refused.told(&self.metrics.limits)))?;
        match load {
            Some(load) => {
                // A task of its own (hazard 27), on the worker that asked: the answer crosses no threads.
                tokio::spawn(self.clone().fly(id, load));
            }
            None if matches!(begun, Begun::Joined(_)) => {
                self.metrics.coalesced_waiters.inc();
            }
            None => {}
        }
        Ok(begun)
    }

    /// One load from its query to its publication.
    async fn fly(self: Arc<Self>, id: MappingId, mut load: Load) {
        self.handover.opened().await;
        let Some(cached) = self.source.cached(id) else { return };
        let result = match self.left_by_writes(cached, &mut load).await {
            Some(entry) => Ok(entry),
            None => self.ask(cached, &load).await,
        };
        self.flights.publish(load, result, |key, entry| {
            self.put(key, entry);
            self.note_end(key, Some(entry));
        });
    }

    /// Waits for the load and the writes before a load; what the last of them left is as good as a load.
    async fn left_by_writes(&self, cached: &Cached, load: &mut Load) -> Option<Arc<Entry>> {
        let left = load.comes().await;
        let is_good = self.flights.ask(load, cached.epoch());
        left.filter(|entry| is_good && self.is_usable(cached, entry, Tick::now()))
    }

    /// What the store says of the load's key, with what waits over it.
    async fn ask(&self, cached: &Cached, load: &Load) -> LoadResult {
        let _turn = self.source.store.may_begin(load.urgency()).await;
        let (started, begun) = (Tick::now(), Instant::now());
        let traced = load.trace().map(|trace| (trace, Moment::now()));
        // What waits now and is saved meanwhile may or may not be in what the query reads.
        let waiting = self.overlay.of(load.key());
        self.source.store.is_of_interest(load.key());
        let query = self.source.load(cached, load.key(), load.urgency());
        let result = match tokio::time::timeout(self.source.deadline, query).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Overloaded("the load took too long".into())),
        };
        let result = result.map(|record| self.lay_over(load.key(), waiting, record));
        let time = begun.elapsed();
        tracing::debug!(
            mapping = cached.name(),
            key = %String::from_utf8_lossy(load.key()),
            ms = time.as_secs_f64() * 1000.0,
            error = result.as_ref().err().map(tracing::field::display),
            "a key was loaded"
        );
        if let Some((trace, at)) = traced {
            let (store, found) = (self.source.traced(cached, at, result.as_ref().err()), matches!(result, Ok(Some(_))));
            trace.ended(&Loaded { store, sent: load.urgency().sent(), found });
        }
        self.count_load(cached, &result, time);
        self.note_slow(cached, SlowKind::Load, load.key(), (time, result.as_ref().err()));
        let entry = |record| {
            let as_of = load.urgency().as_of(started);
            let entry = cached.life.entry(record, cached.mapping().id, load.epoch(), as_of);
            Arc::new(match load.wish {
                Wish::Asked => entry,
                Wish::Background(used_at) => entry.used_last_at(used_at),
            })
        };
        let result = result.map(entry);
        if let Err(error) = &result
            && load.urgency().is_urgent()
        {
            self.count_overload(cached, error);
            cached.complain("a load failed", error);
        }
        result
    }

    /// The record of a key with what waits over it, and below that what waited when the store was asked.
    pub(crate) fn lay_over(&self, key: &Bytes, waited: Option<Dirty>, record: Option<Record>) -> Option<Record> {
        self.overlay.over(key, laid_over(waited, record))
    }

    /// Where traces go.
    pub(crate) fn traces(&self) -> &Arc<Traces> {
        &self.metrics.traces
    }

    /// Remembers a load or write that was slow, and how it ended.
    pub(crate) fn note_slow(
        &self,
        cached: &Cached,
        kind: SlowKind,
        key: &Bytes,
        (time, error): (Duration, Option<&StoreError>),
    ) {
        if self.metrics.slow.takes(kind, time) {
            let cause = error.map_or_else(
                || "the store took so long, with the wait for a turn and a connection".to_owned(),
                StoreError::to_string,
            );
            let (mapping, key) = (cached.name().to_owned(), key.clone());
            self.metrics.slow.add(Slow { kind, time, asked: None, mapping, key, cause });
        }
    }

    fn count_load(&self, cached: &Cached, result: &Result<Option<Record>, StoreError>, time: Duration) {
        let outcome = match result {
            Ok(Some(_)) => Outcome::Ok,
            Ok(None) => Outcome::Absent,
            Err(_) => Outcome::Error,
        };
        self.metrics.loaded(time);
        cached.counts.loaded(outcome, time.as_micros() as u64);
    }

    /// The next keys of a mapping that live, about `limit`, and where to go on; `None` when there are no more.
    pub(crate) async fn page(
        &self,
        id: MappingId,
        after: &After,
        limit: usize,
    ) -> Result<(Vec<Bytes>, Option<After>), StoreError> {
        // The end of one of these may be saved while the page is read.
        let waiting: HashSet<Bytes> = self.overlay.expiring(id).into_iter().collect();
        let (listed, next) = self.source.page(id, after, limit).await?;
        let lives = |(key, has_ended): &(Bytes, bool)| {
            self.overlay.lives(key).unwrap_or_else(|| !has_ended || waiting.contains(key))
        };
        Ok((listed.into_iter().filter(lives).map(|(key, _)| key).collect(), next))
    }

    /// The record of a key as it is now: what the store has, with what waits over it. Of what is saved while the store
    /// is asked nobody knows whether it is in what was read, or has been replaced there: the store is asked again.
    pub(crate) async fn read(&self, cached: &Cached, key: &Bytes) -> Result<Option<Record>, StoreError> {
        loop {
            let waited = self.overlay.of(key);
            let record = self.source.load(cached, key, &Urgency::of_primary()).await?;
            let waits = self.overlay.of(key);
            if waited.is_none_or(|waited| waited.is_within(waits.as_ref())) {
                return Ok(living(waits, record));
            }
        }
    }
}
