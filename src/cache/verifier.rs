//! Looks for stale records: reads a sample of what was served from the store again and compares. A difference that the
//! change feed does not explain, once it has reported everything up to then, is a stale read, which is counted and
//! logged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::Cause;
use super::memory::Memory;
use super::memory::sampler::Sample;
use super::source::Cached;
use crate::record::Record;
use crate::store::StoreError;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::{CacheMetrics, PanicMetrics};
use crate::telemetry::{LastingPart, caught};

/// How often the verifier looks whether the feed has reported everything up to what was seen.
const LOOK: Duration = Duration::from_millis(20);

/// How long samples are collected behind the first: those of one mapping then share a statement.
const COLLECTED: Duration = Duration::from_secs(1);

/// Most samples that are taken at once.
const MOST: usize = 8192;

/// Most that are verified together: those of one mapping share a statement of Postgres.
const TOGETHER: usize = 256;

/// Verifies what the sampler has chosen.
#[derive(Debug)]
pub(super) struct Verifier {
    court: Arc<Court>,
    chosen: mpsc::Receiver<Sample>,
    /// Behind each sample.
    pause: Duration,
    /// Most that are verified together.
    together: usize,
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
        let per_second = per_second.max(1);
        let (pause, together) = (Duration::from_secs(1) / per_second, TOGETHER.min(per_second as usize));
        Self { court, chosen, pause, together }
    }

    /// Verifies for ever: together what was chosen meanwhile.
    pub(super) async fn run(&mut self, panics: &Arc<PanicMetrics>) {
        let mut samples = Vec::new();
        while self.chosen.recv_many(&mut samples, MOST).await > 0 {
            tokio::time::sleep(COLLECTED).await;
            samples.extend(std::iter::from_fn(|| self.chosen.try_recv().ok()).take(MOST));
            let mut suspects = of_one_record(samples.drain(..)).peekable();
            while suspects.peek().is_some() {
                let verified =
                    join_all(suspects.by_ref().take(self.together).map(|suspect| self.verify(suspect, panics))).await;
                tokio::time::sleep(self.pause * verified.len() as u32).await;
            }
        }
    }

    async fn verify(&self, suspect: Suspect, panics: &Arc<PanicMetrics>) {
        let court = &self.court;
        let Some(cached) = court.memory.source.cached(suspect.sample.mapping) else { return };
        match court.differs(cached, &suspect.sample).await {
            Ok(differs) => {
                court.metrics.consistency.verified(suspect.hits);
                // It waits for the feed; other samples do not wait for it.
                if differs {
                    let (court, panics) = (court.clone(), panics.clone());
                    drop(tokio::spawn(
                        async move { caught(LastingPart::Verifier, &panics, court.judge(suspect)).await },
                    ));
                }
            }
            Err(error) => tracing::debug!(%error, "a sample could not be verified"),
        }
    }
}

/// A record, and how many of the chosen hits were answered from it.
#[derive(Debug)]
struct Suspect {
    sample: Sample,
    hits: u64,
}

/// Hits that were answered from one record are verified by one read, which begins after all of them.
fn of_one_record(samples: impl Iterator<Item = Sample>) -> impl Iterator<Item = Suspect> {
    let mut suspects = HashMap::new();
    for sample in samples {
        suspects.entry(Arc::as_ptr(&sample.entry).addr()).or_insert(Suspect { sample, hits: 0 }).hits += 1;
    }
    suspects.into_values()
}

impl Court {
    /// True when the store now holds something else than the sample.
    async fn differs(&self, cached: &Cached, sample: &Sample) -> Result<bool, StoreError> {
        let record = self.memory.read(cached, &sample.key).await?;
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
    async fn judge(&self, suspect: Suspect) {
        let Suspect { sample, hits } = suspect;
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
        let (mapping, age) = (cached.name(), seen.since(sample.entry.loaded_at));
        self.metrics.stale_read(mapping);
        self.metrics.consistency.stale(hits, age);
        tracing::error!(
            mapping,
            age_ms = age,
            "a stale record was served: the store holds something else and no change was told; \
             check the triggers (`hearthside check --connect`). It is forgotten"
        );
        self.memory.invalidate(&sample.key, Cause::Stale);
    }
}
