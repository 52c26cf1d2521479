//! Looks for what must never be: a sample of what was served is read from the store again and compared. A difference that
//! the change feed does not explain, once it has vouched for the time since, is a stale read, counted and told.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Cache, Entry};
use crate::config;
use crate::record::Record;
use crate::store::StoreError;
use crate::telemetry::clock::now_ms;
use crate::telemetry::metrics::MappingLabel;

/// Hits that wait to be verified; more are let go.
const WAITING: usize = 64;

/// A hit that was chosen.
pub(super) type Sample = (usize, Bytes, Arc<Entry>);

/// Chooses hits.
#[derive(Debug)]
pub(super) struct Sampler {
    every: u32,
    samples: mpsc::Sender<Sample>,
}

thread_local! {
    /// Hits of this thread until the next that is chosen; none before the first.
    static COUNTDOWN: Cell<Option<u32>> = const { Cell::new(None) };
}

impl Sampler {
    pub(super) fn new(settings: &config::Verify) -> (Self, mpsc::Receiver<Sample>) {
        let (samples, chosen) = mpsc::channel(WAITING);
        (Self { every: settings.sample, samples }, chosen)
    }

    /// Counts a hit, and perhaps chooses it.
    pub(super) fn saw(&self, id: usize, key: &[u8], entry: &Arc<Entry>) {
        if self.every == 0 {
            return;
        }
        // The first is chosen at random, so that short lives are not all looked at in the same way.
        let left = COUNTDOWN.get().unwrap_or_else(|| fastrand::u32(..self.every));
        COUNTDOWN.set(Some(left.checked_sub(1).unwrap_or(self.every - 1)));
        if left == 0 {
            // Too many at once: one of the next will do.
            let _full = self.samples.try_send((id, Bytes::copy_from_slice(key), entry.clone()));
        }
    }
}

impl Cache {
    /// Verifies what the sampler chooses, `per_second` at most, for ever.
    pub async fn verify_for_ever(self: Arc<Self>, per_second: u32) {
        let Some(mut chosen) = self.chosen.lock().await.take() else { return };
        let mut ticker = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
        while let Some((id, key, entry)) = chosen.recv().await {
            ticker.tick().await;
            match self.differs(id, &key, &entry).await {
                Ok(false) => {}
                // It waits for the feed; the others do not wait for it.
                Ok(true) => drop(tokio::spawn(self.clone().accuse(id, key, entry))),
                Err(error) => tracing::debug!(%error, "a sample could not be verified"),
            }
        }
    }

    /// True when the store now holds something else than `entry`.
    async fn differs(&self, id: usize, key: &Bytes, entry: &Entry) -> Result<bool, StoreError> {
        let Some(cached) = self.cached(id) else { return Ok(false) };
        let record = self.store.load(&cached.plan, key).await?;
        let record = self.overlay.over(key, record);
        self.metrics.verified.inc();
        Ok(match (&entry.record, &record) {
            (Some(served), Some(now)) => !Record::same(served, now),
            (served, now) => served.is_some() != now.is_some(),
        })
    }

    /// Waits until the feed has told everything that was committed before the difference was seen. What is still served
    /// then, and still differs, is stale.
    async fn accuse(self: Arc<Self>, id: usize, key: Bytes, entry: Arc<Entry>) {
        let Some(cached) = self.cached(id) else { return };
        let seen = now_ms();
        while !self.feed.has_vouched_for(seen) && now_ms() < seen + cached.life.max_staleness {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let is_served = || self.shelf.get(&key).is_some_and(|now| Arc::ptr_eq(&now, &entry));
        let is_usable = self.is_usable(cached, &entry, now_ms());
        if !is_served() || !is_usable || !self.differs(id, &key, &entry).await.unwrap_or(false) || !is_served() {
            return;
        }
        let mapping = cached.mapping.pattern.text();
        self.metrics.stale_reads.get_or_create(&MappingLabel { mapping: mapping.to_owned() }).inc();
        tracing::error!(
            mapping,
            age_ms = now_ms() - entry.loaded_at,
            "a stale record was served: the store holds something else and no change was told; \
             check the triggers (`hearthside check --connect`). It is forgotten"
        );
        self.invalidate(&key);
    }
}
