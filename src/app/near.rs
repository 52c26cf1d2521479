//! What is kept of the upstream's keys (`[[near]]`), from one reading of the configuration to the next.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::NearConfig;
use crate::near::Near;
use crate::telemetry::metrics::NearMetrics;

/// What is kept, and who follows its changes at the upstream.
#[derive(Debug)]
pub(super) struct KeptNear {
    now: Option<Arc<Near>>,
    followed: watch::Sender<Option<Arc<Near>>>,
}

impl KeptNear {
    pub(super) fn new(blocks: &[NearConfig], metrics: &Arc<NearMetrics>) -> Self {
        let now = Near::new(blocks, metrics);
        Self { followed: watch::Sender::new(now.clone()), now }
    }

    /// For an edition.
    pub(super) fn now(&self) -> Option<Arc<Near>> {
        self.now.clone()
    }

    /// For whoever listens to the upstream.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Arc<Near>>> {
        self.followed.subscribe()
    }

    /// Another reading has these blocks instead of the old ones. What was kept is answered no more, because clients
    /// that have changed over do not tell there what they write.
    pub(super) fn change(&mut self, old: &[NearConfig], new: &[NearConfig], metrics: &Arc<NearMetrics>) {
        if old == new {
            return;
        }
        self.now.iter().for_each(|near| near.close());
        old.iter().filter(|block| new.iter().all(|other| other.keys != block.keys)).for_each(|block| {
            metrics.forget(&block.keys);
        });
        self.now = Near::new(new, metrics);
    }

    /// The upstream is another one from now on: what was kept of the one before holds no more.
    pub(super) fn is_elsewhere(&self) {
        self.now.iter().for_each(|near| near.gap());
    }

    /// Every client has changed over: what is kept from now on may be answered when the upstream tells what changes.
    pub(super) fn follow(&self) {
        self.followed.send_if_modified(|followed| {
            let is_another = followed.as_ref().map(Arc::as_ptr) != self.now.as_ref().map(Arc::as_ptr);
            if is_another {
                followed.clone_from(&self.now);
            }
            is_another
        });
    }
}
