//! One cache takes over from another, at a reload or when the store answers for the first time.

use std::time::Duration;

use super::Cache;
use crate::telemetry::clock::Tick;

/// How often the old cache is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(1);

/// How long the store may take to save what was deferred for mappings that change, while clients are still served.
const SAVING: Duration = Duration::from_secs(3);

/// The same of what has come since, while cold keys wait.
const LAST_SAVING: Duration = Duration::from_secs(1);

impl Cache {
    /// Before anybody asks it: it waits for [`Cache::succeed`] or [`Cache::inherit`]. Changes are reported to it from
    /// now on.
    pub fn wait_for(&self, old: &Self) {
        self.memory.handover.close();
        if old.memory.feed.is_connected() {
            self.memory.alive(Tick::now());
        }
    }

    /// Saves what was deferred in `old` for mappings that change, as far as the store takes it now, while clients still
    /// ask `old`.
    pub async fn prepare(&self, old: &Self) {
        old.write_behind.save_changing(&self.write_behind, SAVING).await;
    }

    /// Replaces `old`, which nobody asks any more, once its writes have ended; what it deferred waits here now.
    pub async fn succeed(&self, old: &Self) {
        old.writes_ended().await;
        old.write_behind.save_changing(&self.write_behind, LAST_SAVING).await;
        old.write_behind.hand_over(&self.write_behind).await;
        self.inherit_written(old);
        // Those who keep something of it were told when they came over.
        old.memory.clear();
        self.memory.handover.open();
    }

    /// Replaces `old`, which nobody asks any more and whose store was never reached: what it deferred waits
    /// here now, over what the journal held before.
    pub async fn inherit(&self, old: &Self) {
        old.writes_ended().await;
        self.write_behind.inherit(&old.write_behind);
        self.inherit_written(old);
        self.memory.handover.open();
    }

    async fn writes_ended(&self) {
        while self.memory.writes() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}
