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
    pub fn spawn(self, tasks: &mut JoinSet<()>) {
        tasks.spawn(self.write_behind.clone().flush_for_ever(self.flush_interval));
        tasks.spawn(self.write_behind.renew_for_ever(self.renewals));
        tasks.spawn(self.verifier.run());
        tasks.spawn(self.refresher.run());
        if !self.sweeper.interval.is_zero() {
            tasks.spawn(self.sweeper.run());
        }
        if let Some(warmth) = self.warmth {
            tasks.spawn(warmth.run());
        }
        tasks.spawn(remove_outdated(self.memory.clone()));
        tasks.spawn(tidy(self.memory));
    }
}

async fn tidy(memory: Arc<Memory>) {
    let mut ticker = tokio::time::interval(TIDY_EVERY);
    loop {
        ticker.tick().await;
        memory.tidy();
    }
}

/// Gives back the memory of mappings that were forgotten: once for all of them that were forgotten meanwhile, however
/// often, on a thread where nobody waits.
async fn remove_outdated(memory: Arc<Memory>) {
    loop {
        memory.forgot_a_mapping().await;
        let (begun, removing) = (Instant::now(), memory.clone());
        let _done = tokio::task::spawn_blocking(move || removing.remove_outdated()).await;
        tokio::time::sleep(TIDY_EVERY.max(begun.elapsed() * (SHARE - 1))).await;
    }
}
