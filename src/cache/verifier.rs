//! Looks for stale records: reads a sample of what was served from the store again and compares. A difference that the
//! change feed does not explain, once it has reported everything up to then, is a stale read, which is counted and
//! logged.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::memory::Memory;
use super::memory::sampler::Sample;
use super::source::Cached;
use crate::record::Record;
use crate::store::StoreError;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::CacheMetrics;

/// How often the verifier looks whether the feed has reported everything up to what was seen.
const LOOK: Duration = Duration::from_millis(20);

/// Verifies what the sampler has chosen.
#[derive(Debug)]
pub(super) struct Verifier {
    court: Arc<Court>,
    chosen: mpsc::Receiver<Sample>,
    /// Between two samples.
    pause: Duration,
}

/// What a sample is compared with.
#[derive(Debug)]
struct Court {
    memory: Arc<Memory>,
    metrics: Arc<CacheMetrics>,
}

impl Verifier {
    /// Verifies `per_second` of the chosen at most.
    pub(super) fn new(
        memory: Arc<Memory>,
        chosen: mpsc::Receiver<Sample>,
        per_second: u32,
        metrics: Arc<CacheMetrics>,
    ) -> Self {
        let court = Arc::new(Court { memory, metrics });
        Self { court, chosen, pause: Duration::from_secs(1) / per_second.max(1) }
    }

    /// Verifies for ever.
    pub(super) async fn run(mut self) {
        let mut ticker = tokio::time::interval(self.pause);
        while let Some(sample) = self.chosen.recv().await {
            ticker.tick().await;
            let Some(cached) = self.court.memory.source.cached(sample.mapping) else { continue };
            match self.court.differs(cached, &sample).await {
                Ok(false) => {}
                // It waits for the feed; other samples do not wait for it.
                Ok(true) => drop(tokio::spawn(self.court.clone().judge(sample))),
                Err(error) => tracing::debug!(%error, "a sample could not be verified"),
            }
        }
    }
}

impl Court {
    /// True when the store now holds something else than the sample.
    async fn differs(&self, cached: &Cached, sample: &Sample) -> Result<bool, StoreError> {
        let record = self.memory.read(cached, &sample.key).await?;
        self.metrics.verified.inc();
        Ok(match (&sample.entry.record, &record) {
            (Some(served), Some(now)) => !Record::same(served, now),
            (served, now) => served.is_some() != now.is_some(),
        })
    }

    fn is_served(&self, sample: &Sample) -> bool {
        self.memory.peek(&sample.key).is_some_and(|now| Arc::ptr_eq(&now, &sample.entry))
    }

    /// Waits until the feed has reported everything that was committed before the difference was seen. What is still
    /// served then, and still differs, is stale.
    async fn judge(self: Arc<Self>, sample: Sample) {
        let Some(cached) = self.memory.source.cached(sample.mapping) else { return };
        let seen = Tick::now();
        let given_up = seen.plus(cached.life.max_staleness);
        while !self.memory.feed.has_vouched_for(seen) && Tick::now() < given_up {
            tokio::time::sleep(LOOK).await;
        }
        let is_usable = self.memory.is_usable(cached, &sample.entry, Tick::now());
        if !self.is_served(&sample)
            || !is_usable
            || !self.differs(cached, &sample).await.unwrap_or(false)
            || !self.is_served(&sample)
        {
            return;
        }
        let mapping = cached.name();
        self.metrics.stale_read(mapping);
        tracing::error!(
            mapping,
            age_ms = Tick::now().since(sample.entry.loaded_at),
            "a stale record was served: the store holds something else and no change was told; \
             check the triggers (`hearthside check --connect`). It is forgotten"
        );
        self.memory.invalidate(&sample.key);
    }
}
