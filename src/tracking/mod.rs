//! Which clients keep which owned keys (CLIENT TRACKING), and who is told when one has changed. `table.rs` remembers
//! who has read what, `listeners.rs` who tracks and how, `ends.rs` when keys end by themselves. Pure of sockets and of
//! what keys hold: memory and the definitions say that a key has changed, when what it has become can be read, and a
//! client is told through its [`Ear`].
//!
//! Invariants (docs/CONSISTENCY.md, C8):
//! - whoever is to be told of a key is in the table before it is looked at whether what was read is still what can be
//!   read: a change that comes after that look finds it there (`Reader::reads`, and those who call it);
//! - a change is told when what it left can be read, never before;
//! - what the table does not remember any more, somebody has been told.

mod ends;
mod listeners;
mod readers;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;

use crate::config;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::TrackingMetrics;
use ends::Ends;
use listeners::Listeners;
pub use listeners::{Ear, Manner};
use readers::{EVERYBODY, Readers};
use table::{Given, Table};

/// What the clients of the process track of owned keys.
#[derive(Debug)]
pub struct Tracking {
    /// How many clients track.
    count: AtomicUsize,
    table: Table,
    listeners: Listeners,
    ends: Ends,
    /// The number that was given last; no two who track have the same.
    last: AtomicU32,
    metrics: Arc<TrackingMetrics>,
}

/// So many ends are told before others have their turn.
const TOGETHER: usize = 256;

/// Who has read a key that changes, and is to be told when it has. They are not in the table any more.
#[derive(Debug)]
#[must_use]
pub struct Unheard(Option<Readers>);

/// One client that tracks, as those know it who answer its reads. A reply that is being made may outlive that.
#[derive(Debug)]
pub struct Reader {
    tracking: Arc<Tracking>,
    number: u32,
}

impl Tracking {
    /// Nobody tracks yet.
    #[must_use]
    pub fn new(settings: &config::Tracking, metrics: Arc<TrackingMetrics>) -> Self {
        Self {
            count: AtomicUsize::new(0),
            table: Table::new(settings, metrics.clone()),
            listeners: Listeners::default(),
            ends: Ends::default(),
            last: AtomicU32::new(EVERYBODY),
            metrics,
        }
    }

    /// True while no client tracks: there is nobody to tell.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    /// True when some client hears of keys that it has not read (BCAST).
    pub fn broadcasts(&self) -> bool {
        !self.is_idle() && self.listeners.broadcasts()
    }

    /// One more client tracks, in this manner.
    pub fn enter(self: &Arc<Self>, ear: Arc<dyn Ear>, manner: Manner) -> Arc<Reader> {
        // Before it can read anything.
        self.count.fetch_add(1, SeqCst);
        let number = self.listeners.enter(|| self.last.fetch_add(1, SeqCst).wrapping_add(1), ear, manner);
        self.metrics.clients.inc();
        Arc::new(Reader { tracking: self.clone(), number })
    }

    /// True when somebody would hear of a change of `key`.
    pub fn has(&self, key: &[u8]) -> bool {
        !self.is_idle() && (self.table.has(key) || self.listeners.hear_of(key))
    }

    /// A key has changed, by this client if that is known, and what it has become can be read.
    pub fn changed(&self, key: &[u8], by: Option<u64>) {
        self.tell_changed(key, &self.take(key), by);
    }

    /// Whoever has read a key that is about to change, where nobody is given any more what it held: one who reads what
    /// it becomes need not hear of that. They are told by [`Tracking::tell_changed`] when that can be read.
    pub fn take(&self, key: &[u8]) -> Unheard {
        Unheard(if self.is_idle() { None } else { self.table.take(key) })
    }

    /// A key has changed, which these have read, and what it has become can be read.
    pub fn tell_changed(&self, key: &[u8], unheard: &Unheard, by: Option<u64>) {
        if !self.is_idle() {
            self.tell(key, unheard.0.as_ref(), by);
        }
    }

    /// These may have read something else than a key holds.
    pub fn tell_doubted(&self, key: &[u8], unheard: &Unheard) {
        if let Some(readers) = &unheard.0 {
            self.tell_readers(key, readers);
        }
    }

    fn tell(&self, key: &[u8], readers: Option<&Readers>, by: Option<u64>) {
        let numbers = readers.map(Readers::numbers).unwrap_or_default();
        self.metrics.invalidations.inc_by(self.listeners.tell(key, numbers, by));
    }

    /// Whoever has read a key may have read something else than it holds; that it has changed nobody knows.
    pub fn doubted(&self, key: &[u8]) {
        self.tell_doubted(key, &self.take(key));
    }

    /// Tells those who have read a key, and nobody else.
    fn tell_readers(&self, key: &[u8], readers: &Readers) {
        if readers.numbers().contains(&EVERYBODY) {
            return self.tell(key, Some(readers), None);
        }
        self.metrics.invalidations.inc_by(self.listeners.tell_readers(key, readers.numbers()));
    }

    /// Every key of which this is true may have changed; those that nobody has read are not known, but that they begin
    /// with these bytes.
    pub fn changed_where(&self, begin: &[u8], is_meant: impl Fn(&[u8]) -> bool) {
        if self.is_idle() {
            return;
        }
        // Nearly all that is tracked is told from these by its beginning.
        for (key, readers) in self.table.take_where(|key| key.starts_with(begin) && is_meant(key)) {
            self.metrics.invalidations.inc_by(self.listeners.tell_readers(&key, readers.numbers()));
        }
        self.metrics.invalidations.inc_by(self.listeners.tell_of_some(begin));
    }

    /// Any key may have changed: everybody is to forget everything.
    pub fn everything(&self) {
        if self.is_idle() {
            return;
        }
        self.forget();
        self.metrics.invalidations.inc_by(self.listeners.tell_all());
    }

    /// Nobody has read anything. The ends go first: what is read meanwhile, and noted where the table is empty already,
    /// has its end still, and an end without a key does no harm.
    fn forget(&self) {
        self.ends.clear();
        self.table.clear();
    }

    /// A key was loaded, and holds now what has this print: whoever has read something else is told.
    pub fn found(&self, key: &[u8], print: impl FnOnce() -> u32) {
        if !self.is_idle()
            && let Some(readers) = self.table.take_unless(key, print)
        {
            self.tell(key, Some(&readers), None);
        }
    }

    /// Waits until some key is to end, then tells of those that have, or of some of them. `lives` says when one that is
    /// still there ends instead.
    pub async fn end_next(&self, lives: impl Fn(&[u8]) -> Option<Tick>) {
        self.ends.come().await;
        let now = Tick::now();
        for _ in 0..TOGETHER {
            let Some((key, end)) = self.ends.due(now) else { return };
            if !self.table.disarm(&key, end) {
                continue;
            }
            match lives(&key).filter(|end| *end > now) {
                Some(Tick::NEVER) => {}
                Some(end) => self.arm(&key, end),
                None => self.changed(&key, None),
            }
        }
        tokio::task::yield_now().await;
    }

    /// A key ends at `end` instead, unless it ends earlier.
    fn arm(&self, key: &[u8], end: Tick) {
        if self.table.arm(key, end) {
            self.ends_at(key, end);
        }
    }

    /// A key ends by itself at `end`, as the table knows: then whoever has read it is told.
    fn ends_at(&self, key: &[u8], end: Tick) {
        self.ends.add(key, end);
        self.ends.tidy(self.table.len(), |key, end| self.table.is_armed(key, end));
    }
}

impl Reader {
    /// The client is given what a key holds now, which ends at `end`, and has this print. Whoever calls this sees
    /// afterwards whether the key holds that still.
    pub fn reads(&self, key: &[u8], end: Tick, print: impl FnOnce() -> u32) {
        let tracking = &self.tracking;
        let Some(number) = tracking.listeners.reads_as(self.number, key) else { return };
        let is_alive = |number| tracking.listeners.may_have(number);
        let given = Given { number, print: print(), end };
        let (ends_earlier, pushed_out) = tracking.table.add(key, given, is_alive);
        if ends_earlier {
            tracking.ends_at(key, end);
        }
        for (key, readers) in pushed_out {
            tracking.metrics.evicted.inc();
            tracking.tell_readers(&key, &readers);
        }
    }

    /// The client is told that this key has changed, whoever else may have read it.
    pub fn forgets(&self, key: &[u8]) {
        self.tracking.metrics.invalidations.inc_by(self.tracking.listeners.tell_one(self.number, key));
    }

    /// The client is told to forget everything.
    pub fn forgets_all(&self) {
        self.tracking.metrics.invalidations.inc_by(self.tracking.listeners.tell_one_all(self.number));
    }

    /// From now on it tracks in this manner.
    pub fn changes(&self, manner: Manner) {
        self.tracking.listeners.change(self.number, manner);
    }

    /// It does not track any more.
    pub fn leaves(&self) {
        if self.tracking.listeners.leave(self.number, || self.tracking.forget()) {
            self.tracking.count.fetch_sub(1, SeqCst);
            self.tracking.metrics.clients.dec();
        }
    }
}

impl Default for Tracking {
    /// For what is tested without clients.
    fn default() -> Self {
        Self::new(&config::Tracking::default(), Arc::default())
    }
}

/// The prefix of a message's key, for those who hear of all with it.
type Prefix = Bytes;

#[cfg(test)]
mod tests;
