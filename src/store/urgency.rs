//! Whether somebody waits for a load, and whether a hot standby may answer it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::telemetry::clock::{Moment, Tick};

/// That of one key's load, shared by all who want it: a load in the background becomes urgent when somebody asks for
/// its key, and stays so.
#[derive(Debug, Default)]
pub struct Urgency {
    is_urgent: AtomicBool,
    raised: Notify,
    is_of_primary: bool,
    /// What a standby showed may be as old as that: one more than a [`Tick`], 0 where none has answered.
    as_of: AtomicU64,
    /// When its statement is sent is noted.
    is_timed: bool,
    /// When that was, and with how many keys.
    sent: OnceLock<(Moment, u64)>,
}

impl Urgency {
    /// Of a load that somebody waits for, or nobody; `is_timed` where it is to be known when its statement is sent.
    #[must_use]
    pub fn of(is_asked: bool, is_timed: bool) -> Arc<Self> {
        let urgency = Self { is_timed, ..Self::default() };
        if is_asked {
            urgency.raise();
        }
        Arc::new(urgency)
    }

    /// Its statement is sent, with so many keys.
    pub(super) fn is_sent(&self, keys: usize) {
        if self.is_timed {
            self.sent.get_or_init(|| (Moment::now(), keys as u64));
        }
    }

    /// When that was, where it is known.
    #[must_use]
    pub fn sent(&self) -> Option<(Moment, u64)> {
        self.sent.get().copied()
    }

    /// Of a load that somebody waits for.
    #[must_use]
    pub fn urgent() -> Arc<Self> {
        Self::of(true, false)
    }

    /// The same, of a load of what the primary has, and no standby.
    #[must_use]
    pub fn of_primary() -> Arc<Self> {
        let urgency = Self { is_of_primary: true, ..Self::default() };
        urgency.raise();
        Arc::new(urgency)
    }

    pub(super) const fn may_be_of_standby(&self) -> bool {
        !self.is_of_primary
    }

    /// A standby has answered, with what is no older than that.
    pub(super) fn is_as_of(&self, moment: Tick) {
        self.as_of.store(moment.as_ms() + 1, SeqCst);
    }

    /// Nothing that the load began with `begun` gives is older than this.
    #[must_use]
    pub fn as_of(&self, begun: Tick) -> Tick {
        match self.as_of.load(SeqCst) {
            0 => begun,
            as_of => begun.min(Tick::from_ms(as_of - 1)),
        }
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
