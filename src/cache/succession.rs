//! One cache takes over from another, at a reload or when the store answers for the first time.

use std::time::Duration;

use super::Cache;
use crate::telemetry::clock::Tick;

/// How often the old cache is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(1);

/// The pause before what could not be saved is tried again.
const PAUSE: Duration = Duration::from_secs(1);

impl Cache {
    /// Before anybody asks it: it waits for [`Cache::succeed`] or [`Cache::inherit`]. Changes are reported to it from
    /// now on.
    pub fn wait_for(&self, old: &Self) {
        self.memory.handover.close();
        if old.memory.feed.is_connected() {
            self.memory.alive(Tick::now());
        }
    }

    /// Replaces `old`, which nobody asks any more, once its writes have ended and what it deferred is saved, or waits
    /// here because a table is locked.
    pub async fn succeed(&self, old: &Self) {
        loop {
            old.writes_ended().await;
            match old.write_behind.hand_over(&self.write_behind).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "the reload waits: deferred writes of before cannot be saved"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        old.flush_all();
        self.memory.handover.open();
    }

    /// Replaces `old`, which nobody asks any more and whose store was never reached: what it deferred waits
    /// here now, over what the journal held before.
    pub async fn inherit(&self, old: &Self) {
        old.writes_ended().await;
        self.write_behind.inherit(&old.write_behind);
        self.memory.handover.open();
    }

    async fn writes_ended(&self) {
        while self.memory.writes() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}
