//! Who waits for a key: its readers wait for the load in flight, and whoever comes after a write waits for the end of
//! that write.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::cache::entry::Entry;
use crate::store::{StoreError, Urgency};
use crate::telemetry::traces::LoadTrace;

/// What a load ends with.
pub type LoadResult = Result<Arc<Entry>, StoreError>;

/// One load.
#[derive(Debug)]
pub(super) struct Flight {
    /// The epoch in which it asks the store; none before it does.
    epoch: OnceLock<u64>,
    /// The feed reported a change before it asked: what the write before it left may be older than that.
    is_late: AtomicBool,
    /// Whether somebody waits for it.
    pub(super) urgency: Arc<Urgency>,
    /// What of it is traced.
    pub(super) trace: Option<LoadTrace>,
    done: watch::Sender<Option<LoadResult>>,
}

/// One write's place in its key's queue.
#[derive(Debug)]
pub(super) struct Turn {
    /// The feed has reported a change since it queued: what the write learns about the key may be older than that.
    pub(super) overtaken: AtomicBool,
    /// Made when somebody comes behind it: under the lock of its key, and before it has ended.
    ended: OnceLock<watch::Sender<Option<WriteOutcome>>>,
}

impl Turn {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { overtaken: AtomicBool::new(false), ended: OnceLock::new() })
    }

    /// Somebody comes behind it.
    pub(super) fn followed(&self) -> Predecessor {
        Predecessor(self.ended.get_or_init(|| watch::Sender::new(None)).subscribe())
    }

    /// Nobody comes behind it any more; those who did are told what it left.
    pub(super) fn end(&self, left: WriteOutcome) {
        if let Some(ended) = self.ended.get() {
            ended.send_replace(Some(left));
        }
    }
}

/// What a write leaves for those who waited: the entry, where it is known.
pub(super) type WriteOutcome = Option<Arc<Entry>>;

/// Waits for a flight.
#[derive(Debug)]
pub(super) struct Waiter(watch::Receiver<Option<LoadResult>>);

impl Waiter {
    pub(super) async fn wait(mut self) -> LoadResult {
        match self.0.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or_else(|| Err(given_up())),
            Err(_) => Err(given_up()),
        }
    }
}

/// The writes that a load or write must wait for.
#[derive(Debug)]
pub(super) struct Predecessor(watch::Receiver<Option<WriteOutcome>>);

impl Predecessor {
    /// Waits for the end of the last of them; what it left.
    pub(super) async fn ended(mut self) -> WriteOutcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(left) => left.clone().flatten(),
            Err(_) => None,
        }
    }
}

pub(super) fn given_up() -> StoreError {
    StoreError::Unavailable("the load was given up".into())
}

impl Flight {
    pub(super) fn new(urgency: Arc<Urgency>, trace: Option<LoadTrace>) -> Arc<Self> {
        let (epoch, is_late, done) = (OnceLock::new(), AtomicBool::new(false), watch::Sender::new(None));
        Arc::new(Self { epoch, is_late, urgency, trace, done })
    }

    /// Somebody waits for its result.
    pub(super) fn joined(&self) -> Waiter {
        Waiter(self.done.subscribe())
    }

    pub(super) fn is_joinable(&self, epoch: u64) -> bool {
        self.epoch.get().is_none_or(|asks_in| *asks_in == epoch) && !self.has_ended()
    }

    /// From now on what it learns may be older than a change that is reported. True if what the write before it left
    /// is not.
    pub(super) fn ask(&self, epoch: u64) -> bool {
        self.epoch.get_or_init(|| epoch);
        !self.is_late.load(SeqCst)
    }

    /// The epoch in which it asks.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.get().copied().unwrap_or_default()
    }

    /// A change is reported. True when what it learns may be older.
    pub(super) fn is_overtaken(&self) -> bool {
        self.is_late.store(true, SeqCst);
        self.epoch.get().is_some()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.done.borrow().is_some()
    }

    /// Those who wait get the result, unless they have had one.
    pub(super) fn end(&self, result: impl FnOnce() -> LoadResult) {
        self.done.send_if_modified(|done| {
            let is_first = done.is_none();
            done.get_or_insert_with(result);
            is_first
        });
        if let Some(trace) = &self.trace {
            trace.is_over();
        }
    }
}
