//! The tasks that run beside a cache for as long as it is used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::memory::Memory;
use super::refresher::Refresher;
use super::sweeper::Sweeper;
use super::verifier::Verifier;
use super::warm::Warmth;
use super::write_behind::WriteBehind;
use super::write_behind::expiry::Renewal;
use crate::telemetry::metrics::PanicMetrics;
use crate::telemetry::{LastingPart, joined, lasting};

/// How often memory is tidied and measured.
const TIDY_EVERY: Duration = Duration::from_millis(250);

/// Removing the entries of mappings that were forgotten takes at most one part in so many of the time of one core.
const SHARE: u32 = 10;

/// The tasks of one cache, which have not begun.
#[derive(Debug)]
pub struct Tasks {
    pub(super) memory: Arc<Memory>,
    pub(super) write_behind: Arc<WriteBehind>,
    pub(super) renewals: mpsc::Receiver<Renewal>,
    pub(super) verifier: Verifier,
    pub(super) refresher: Refresher,
    pub(super) flush_interval: Duration,
    pub(super) sweeper: Sweeper,
    pub(super) warmth: Option<Arc<Warmth>>,
}

impl Tasks {
    /// Begins them; they end with `tasks`.
    pub fn begin(self, tasks: &mut JoinSet<()>, panics: &Arc<PanicMetrics>) {
        let Self { memory, write_behind, mut renewals, mut verifier, mut refresher, sweeper, warmth, .. } = self;
        let (flushing, interval, bugs) = (write_behind.clone(), self.flush_interval, panics.clone());
        let flush = async move || flushing.flush_for_ever(interval, &bugs).await;
        tasks.spawn(lasting(LastingPart::Flushing, panics.clone(), flush));
        let renew = async move || write_behind.renew_for_ever(&mut renewals).await;
        tasks.spawn(lasting(LastingPart::Renewals, panics.clone(), renew));
        let bugs = panics.clone();
        tasks.spawn(lasting(LastingPart::Verifier, panics.clone(), async move || verifier.run(&bugs).await));
        tasks.spawn(lasting(LastingPart::Refresher, panics.clone(), async move || refresher.run().await));
        if !sweeper.interval.is_zero() {
            tasks.spawn(lasting(LastingPart::Sweeper, panics.clone(), async move || sweeper.run().await));
        }
        if let Some(warmth) = warmth {
            tasks.spawn(lasting(LastingPart::WarmStart, panics.clone(), async move || warmth.run().await));
        }
        let ending = memory.clone();
        tasks.spawn(lasting(LastingPart::Tidying, panics.clone(), async move || tell_of_ends(&ending).await));
        let expiring = memory.clone();
        tasks.spawn(lasting(LastingPart::Tidying, panics.clone(), async move || tell_of_expired(&expiring).await));
        let outdated = memory.clone();
        tasks.spawn(lasting(LastingPart::Tidying, panics.clone(), async move || remove_outdated(&outdated).await));
        tasks.spawn(lasting(LastingPart::Tidying, panics.clone(), async move || tidy(&memory).await));
    }
}

/// Tells those who keep keys of each that ends by itself.
async fn tell_of_ends(memory: &Memory) {
    loop {
        memory.tell_of_ends().await;
    }
}

/// Tells those who are subscribed to events of each key that ends by a column of its row.
async fn tell_of_expired(memory: &Arc<Memory>) {
    loop {
        memory.tell_of_expired().await;
    }
}

async fn tidy(memory: &Memory) {
    let mut ticker = tokio::time::interval(TIDY_EVERY);
    loop {
        ticker.tick().await;
        memory.tidy();
    }
}

/// Gives back the memory of mappings that were forgotten: once for all of them that were forgotten meanwhile, however
/// often, on a thread where nobody waits.
async fn remove_outdated(memory: &Arc<Memory>) {
    loop {
        memory.forgot_a_mapping().await;
        let (begun, removing) = (Instant::now(), memory.clone());
        joined(tokio::task::spawn_blocking(move || removing.remove_outdated()).await);
        tokio::time::sleep(TIDY_EVERY.max(begun.elapsed() * (SHARE - 1))).await;
    }
}
