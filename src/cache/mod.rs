//! Read-through cache of records: one load per key at a time, TTLs, absent keys, invalidation, writes through it.
//! Knows mappings and the store; never commands, clients or the upstream.
//!
//! What must stay true (docs/CONSISTENCY.md):
//! - an entry is served only while its mapping's epoch is the one its load began in (C3, gaps);
//! - a load publishes only if it is still the key's load; an invalidation takes that away from it first (C3);
//! - a read that comes after a write has queued sees what that write left, or something newer (C1);
//! - readers join the key's load only if no invalidation came since it began (C3), one load at a time (C4);
//! - while changes may be missed nothing older than `max_staleness` is served (C2).

mod listing;
mod memory;
mod verifier;
mod write_behind;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

pub use listing::After;
pub use memory::entry::Entry;
pub use memory::loads::LoadResult;
pub use memory::thread_cache::ThreadCache;
pub use write_behind::expiry::Ended;
pub use writes::WriteResult;
pub use writes::steps::{Act, AllDone, Done, Step};
pub use writes::transaction::{OwnedTransaction, Prepared};
pub use writes::watched::Watched;

use memory::entries::Entries;
use memory::entry::Span;
use memory::feed::Feed;
use memory::handover::Handover;
use memory::loads::{Begun, Flights, Load};
use verifier::{Sample, Sampler};
use write_behind::expiry::Renewal;
use write_behind::flush::Flusher;
use write_behind::overlay::Overlay;
use writes::own_writes::OwnWrites;

use crate::config;
use crate::journal::Journal;
use crate::keys::glob_match;
use crate::mapping::Mapping;
use crate::record::{Record, TtlChange};
use crate::store::{Plan, Store, StoreError};
use crate::telemetry::clock::{millis, now_ms};
use crate::telemetry::metrics::{Outcome, OutcomeLabel};
use crate::telemetry::planted::is_planted;
use crate::telemetry::{Metrics, Seldom};

/// One cached mapping at work.
#[derive(Debug)]
struct Cached {
    mapping: Mapping,
    plan: Plan,
    life: Span,
    /// Raised to forget every key of the mapping at once.
    epoch: AtomicU64,
    /// True when the store tells of every change of the mapping's tables.
    watched: bool,
    /// Log lines about loads and writes that failed.
    complaints: Seldom,
}

/// Failed loads of one mapping are told this often at most, in milliseconds; the metric counts them all.
const COMPLAIN_EVERY: u64 = 1000;

impl Cached {
    fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    fn complain(&self, what: &str, error: &StoreError) {
        // The breaker has told why it is open.
        if *error != StoreError::Open && self.complaints.due().is_some() {
            tracing::warn!(mapping = self.mapping.pattern.text(), %error, "{what}");
        }
    }
}

/// A mapping, its statements, and whether its changes are told.
#[derive(Debug)]
pub struct Planned {
    /// The mapping.
    pub mapping: Mapping,
    /// Its statements.
    pub plan: Plan,
    /// True when the store tells of every change.
    pub watched: bool,
}

/// The cache of one sidecar.
#[derive(Debug)]
pub struct Cache {
    /// By mapping id; definitions have none.
    mappings: Vec<Option<Cached>>,
    shelf: Entries,
    flights: Arc<Flights>,
    origins: OwnWrites,
    overlay: Overlay,
    journal: Option<Arc<Journal>>,
    sampler: Sampler,
    chosen: tokio::sync::Mutex<Option<mpsc::Receiver<Sample>>>,
    renewals: mpsc::Sender<Renewal>,
    renewed: tokio::sync::Mutex<Option<mpsc::Receiver<Renewal>>>,
    flusher: tokio::sync::Mutex<Flusher>,
    flush_now: tokio::sync::Notify,
    /// Most keys of one flush.
    flush_rows: usize,
    feed: Feed,
    /// Shut while the cache that this one replaces still works.
    gate: Handover,
    /// `cache.max_staleness`, in milliseconds.
    max_staleness: u64,
    store: Arc<Store>,
    /// Writes run here, not in a client's task: a client that leaves does not cut a query short (hazard 27).
    runtime: Handle,
    deadline: Duration,
    metrics: Arc<Metrics>,
}

impl Cache {
    /// An empty cache of these mappings. `journal` is there if some of them defer writes.
    #[must_use]
    pub fn new(
        planned: Vec<Planned>,
        settings: &config::Settings,
        journal: Option<Arc<Journal>>,
        store: Arc<Store>,
        runtime: Handle,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (renewals, renewed) = write_behind::expiry::channel();
        let (sampler, chosen) = Sampler::new(&settings.verify);
        let (timeouts, life) = (&settings.store, &settings.cache);
        let mut mappings = Vec::new();
        for Planned { mapping, plan, watched } in planned {
            let id = mapping.id.index();
            mappings.resize_with(mappings.len().max(id + 1), || None);
            let life = Span::new(&mapping.config, life);
            mappings[id] = Some(Cached {
                mapping,
                plan,
                life,
                epoch: AtomicU64::new(0),
                watched,
                complaints: Seldom::every(COMPLAIN_EVERY),
            });
        }
        Self {
            mappings,
            shelf: Entries::new(&settings.cache),
            flights: Arc::default(),
            origins: OwnWrites::default(),
            overlay: Overlay::default(),
            journal,
            sampler,
            chosen: tokio::sync::Mutex::new(Some(chosen)),
            renewals,
            renewed: tokio::sync::Mutex::new(Some(renewed)),
            flusher: tokio::sync::Mutex::default(),
            flush_now: tokio::sync::Notify::new(),
            flush_rows: settings.journal.flush_rows,
            feed: Feed::default(),
            gate: Handover::default(),
            max_staleness: millis(settings.cache.max_staleness),
            store,
            runtime,
            deadline: timeouts.connect_timeout + timeouts.query_timeout + Duration::from_secs(1),
            metrics,
        }
    }

    /// After so long an answer of the store is not waited for any more.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    fn cached(&self, id: usize) -> Option<&Cached> {
        self.mappings.get(id).and_then(Option::as_ref)
    }

    fn known_mapping(&self, id: usize) -> Result<&Cached, StoreError> {
        self.cached(id).ok_or_else(|| StoreError::Refused("no such cached mapping".into()))
    }

    /// The entry of `key` if it may be served at `now` (milliseconds of the process's clock). One whose TTL is over
    /// and that may be served while it is loaded anew is; the load is begun, once.
    pub fn get(self: &Arc<Self>, id: usize, key: &[u8], now: u64) -> Option<Arc<Entry>> {
        let cached = self.cached(id)?;
        let entry = self.shelf.get(key)?;
        if self.is_usable(cached, &entry, now) {
            self.sampler.saw(id, key, &entry);
            return Some(entry);
        }
        let serves = entry.ended_within(cached.life.stale, now) && self.vouches(cached, &entry, now);
        serves.then(|| {
            self.metrics.stale_served.inc();
            // Whether it can be loaded is the next reader's business.
            drop(self.begin(id, &Bytes::copy_from_slice(key)));
            entry
        })
    }

    fn is_usable(&self, cached: &Cached, entry: &Entry, now: u64) -> bool {
        !entry.is_expired(now) && self.vouches(cached, entry, now)
    }

    /// True while nothing is known to have changed since the entry was loaded, and not too much may have been missed.
    fn vouches(&self, cached: &Cached, entry: &Entry, now: u64) -> bool {
        let most = cached.life.max_staleness;
        entry.epoch == cached.epoch()
            && (cached.watched && self.feed.is_fresh(most, now) || now.saturating_sub(entry.loaded_at) <= most)
    }

    /// The entry that may be served for want of a better one: its TTL is over, and the store cannot be asked.
    fn stale_for_error(&self, id: usize, key: &[u8]) -> Option<Arc<Entry>> {
        let (cached, now) = (self.cached(id)?, now_ms());
        let entry = self.shelf.get(key)?;
        let serves = entry.ended_within(cached.life.stale_if_error, now) && self.vouches(cached, &entry, now);
        serves.then(|| {
            self.metrics.stale_served.inc();
            entry
        })
    }

    /// The entry of `key`, loaded if need be. The load is begun, or joined, when this returns; the future only waits.
    pub fn load(self: &Arc<Self>, id: usize, key: &Bytes) -> impl Future<Output = LoadResult> + use<> {
        let begun = self.begin(id, key);
        let (cache, key) = (self.clone(), key.clone());
        async move {
            let loaded = match begun? {
                Begun::There(entry) => Ok(entry),
                Begun::Joined(flight) => flight.wait().await,
            };
            match loaded {
                Err(error @ (StoreError::Unavailable(_) | StoreError::Open)) => {
                    cache.stale_for_error(id, &key).ok_or(error)
                }
                other => other,
            }
        }
    }

    fn begin(self: &Arc<Self>, id: usize, key: &Bytes) -> Result<Begun, StoreError> {
        let cached = self.known_mapping(id)?;
        let epoch = cached.epoch();
        let (begun, lead) = self
            .flights
            .begin(key, epoch, || self.shelf.get(key).filter(|entry| self.is_usable(cached, entry, now_ms())));
        match lead {
            Some(lead) => {
                // A task of its own (hazard 27), on the worker that asked: the answer crosses no threads.
                tokio::spawn(self.clone().fly(id, lead));
            }
            None if matches!(begun, Begun::Joined(_)) => {
                self.metrics.coalesced_waiters.inc();
            }
            None => {}
        }
        Ok(begun)
    }

    /// One load from its query to its publication.
    async fn fly(self: Arc<Self>, id: usize, mut lead: Load) {
        self.gate.opened().await;
        if let Some(entry) = self.left_by_writes(id, &mut lead).await {
            self.flights.publish(lead, Ok(entry), |key, entry| self.shelf.put(key, entry));
            return;
        }
        let started = now_ms();
        // What waits now and is saved meanwhile may or may not be in what the query reads.
        let waiting = self.overlay.of(lead.key());
        let result = match tokio::time::timeout(self.deadline, self.query(id, &lead)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("the load took too long".into())),
        };
        let outcome = match &result {
            Ok(Some(_)) => Outcome::Ok,
            Ok(None) => Outcome::Absent,
            Err(_) => Outcome::Error,
        };
        self.metrics.loads.get_or_create(&OutcomeLabel { outcome }).inc();
        self.metrics.load_seconds.observe((now_ms() - started) as f64 / 1000.0);
        let Some(cached) = self.cached(id) else { return };
        let over = |record: Option<Record>| {
            let record = match &waiting {
                Some(dirty) => dirty.over(record),
                None => record,
            };
            self.overlay.over(lead.key(), record)
        };
        let result = result.map(over).map(|record| Arc::new(cached.life.entry(record, id, lead.epoch(), started)));
        if let Err(error) = &result {
            cached.complain("a load failed", error);
        }
        self.flights.publish(lead, result, |key, entry| self.shelf.put(key, entry));
    }

    /// Waits for the writes before a load; what the last of them left is as good as a load.
    async fn left_by_writes(&self, id: usize, lead: &mut Load) -> Option<Arc<Entry>> {
        let entry = lead.after.take()?.ended().await?;
        let cached = self.cached(id)?;
        self.is_usable(cached, &entry, now_ms()).then_some(entry)
    }

    async fn query(&self, id: usize, lead: &Load) -> Result<Option<Record>, StoreError> {
        let Some(cached) = self.cached(id) else { return Ok(None) };
        self.store.load(&cached.plan, lead.key()).await
    }

    /// Forgets `key`, whatever is being loaded for it. True when a record was in memory.
    pub fn invalidate(&self, key: &[u8]) -> bool {
        self.flights.detach(key, || self.shelf.remove(key))
    }

    /// Forgets every key that matches `glob`; the number of keys that were in memory.
    pub fn invalidate_matching(&self, glob: &[u8]) -> usize {
        let loading = self.flights.keys();
        let keys = self.shelf.keys().chain(loading).filter(|key| glob_match(glob, key));
        keys.filter(|key| self.invalidate(key)).count()
    }

    /// Forgets every key of mapping `id`.
    pub fn flush(&self, id: usize) {
        if let Some(cached) = self.cached(id) {
            cached.epoch.fetch_add(1, SeqCst);
            self.shelf.sweep(|entry| entry.mapping == id);
        }
    }

    /// Forgets every key.
    pub fn flush_all(&self) {
        if is_planted("no-flush-on-gap") {
            return;
        }
        for cached in self.mappings.iter().flatten() {
            cached.epoch.fetch_add(1, SeqCst);
        }
        self.shelf.clear();
    }

    /// A gap begins: changes may be missed. What is in memory was true a moment ago and is served until it is older
    /// than `max_staleness`; whoever ends the gap calls [`Cache::flush_all`] before [`Cache::alive`].
    pub fn lost(&self) {
        self.feed.lost();
        self.metrics.change_feed_up.set(0);
    }

    /// Every change up to `as_of` has been applied.
    pub fn alive(&self, as_of: u64) {
        self.feed.alive(as_of);
        self.metrics.change_feed_up.set(1);
    }

    /// Starts the TTL of a read entry anew where its mapping says so.
    pub fn renew(&self, key: &[u8], entry: &Entry, now: u64) {
        if let Some(cached) = self.cached(entry.mapping)
            && let Some(end) = cached.life.renew(entry, now)
        {
            self.renewed(entry.mapping, key, end);
        }
    }

    /// Gives an entry of `key` another time to live; one without end lives as long as its mapping lets it.
    pub fn live(&self, id: usize, key: &[u8], entry: &Entry, life: TtlChange, now: u64) {
        if let Some(cached) = self.cached(id) {
            cached.life.live(entry, life, now);
            // A look at the entry tells the shelf that its end has moved.
            self.shelf.get(key);
        }
    }

    /// Does the shelf's housekeeping and takes its measures; to be called a few times a second.
    pub fn tidy(&self) {
        let (entries, bytes) = self.shelf.tidy();
        self.metrics.cache_entries.set(entries as i64);
        self.metrics.cache_bytes.set(bytes as i64);
        self.metrics.own_writes.set(self.origins.tidy(now_ms()) as i64);
        self.flights.tidy();
        self.metrics
            .change_feed_up
            .set(i64::from(self.feed.is_connected() && self.feed.is_fresh(self.max_staleness, now_ms())));
    }
}

/// How long an entry stays, in milliseconds; `None`: until it changes.
fn ttl_ms(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(millis)
}
