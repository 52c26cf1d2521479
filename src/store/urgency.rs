//! Whether somebody waits for a load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tokio::sync::Notify;

/// That of one key's load, shared by all who want it: a load in the background becomes urgent when somebody asks for
/// its key, and stays so.
#[derive(Debug, Default)]
pub struct Urgency {
    is_urgent: AtomicBool,
    raised: Notify,
}

impl Urgency {
    /// Of a load that somebody waits for.
    #[must_use]
    pub fn urgent() -> Arc<Self> {
        let urgency = Self::default();
        urgency.raise();
        Arc::new(urgency)
    }

    /// Of one that nobody has asked for.
    #[must_use]
    pub fn background() -> Arc<Self> {
        Arc::default()
    }

    /// True when somebody waits for it.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.is_urgent.load(SeqCst)
    }

    /// From now on somebody waits for it.
    pub fn raise(&self) {
        if !self.is_urgent.swap(true, SeqCst) {
            self.raised.notify_one();
        }
    }

    /// Waits until somebody waits for it. For one task.
    pub(super) async fn comes(&self) {
        while !self.is_urgent() {
            self.raised.notified().await;
        }
    }
}
