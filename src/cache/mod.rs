//! Read-through cache of records: one load per key at a time, TTLs, absent keys, invalidation, and writes through it.
//! Knows mappings and the store; never commands, clients or the upstream. `memory` holds what is known, `write_behind`
//! what the store does not have yet, `writes` writes, and `verifier` looks for stale records; each of them knows only
//! those before it.
//!
//! What must stay true (docs/CONSISTENCY.md):
//! - an entry is served only while its mapping's epoch is the one its load began in (C3, gaps);
//! - a load publishes only if it is still the key's load; an invalidation takes that away from it first (C3);
//! - a read that comes after a write has queued sees what that write left, or something newer (C1);
//! - readers join the key's load only if no invalidation came since it began (C3), one load at a time (C4);
//! - while changes may be missed nothing older than `max_staleness` is served (C2).

mod entry;
mod memory;
mod source;
mod succession;
mod tasks;
mod verifier;
mod write_behind;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

pub use entry::Entry;
pub use memory::thread_cache::ThreadCache;
pub use memory::waiting::LoadResult;
pub use source::{After, Planned};
pub use tasks::Tasks;
pub use writes::WriteResult;
pub use writes::expire::ExpireOutcome;
pub use writes::transaction::steps::{Act, AllDone, Done, Step};
pub use writes::transaction::watched::Watched;
pub use writes::transaction::{OwnedTransaction, Prepared};

use memory::Memory;
use memory::sampler::Sampler;
use source::Source;
use tasks::Sweep;
use verifier::Verifier;
use write_behind::WriteBehind;
use write_behind::expiry::Renewals;
use writes::Writer;

use crate::config;
use crate::journal::{self, Journal};
use crate::keys::MappingId;
use crate::record::{ExpireCommand, TtlChange, Write};
use crate::store::{self, Store, StoreError};
use crate::telemetry::client_memory::Holding;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::{CacheMetrics, WriteBehindMetrics};

/// The cache of one sidecar. A clone is the same cache.
#[derive(Clone, Debug)]
pub struct Cache {
    memory: Arc<Memory>,
    write_behind: Arc<WriteBehind>,
    writer: Arc<Writer>,
}

/// What a cache is made of.
#[derive(Debug)]
pub struct Parts<'s> {
    /// The cached mappings.
    pub planned: Vec<Planned>,
    /// The configuration.
    pub settings: &'s config::Settings,
    /// The journal, if some of the mappings defer writes.
    pub journal: Option<Arc<Journal>>,
    /// Where the records are.
    pub store: Arc<Store>,
    /// Where writes run.
    pub runtime: Handle,
    /// What is counted of records in memory.
    pub metrics: Arc<CacheMetrics>,
    /// What is counted of deferred writes.
    pub deferred_metrics: Arc<WriteBehindMetrics>,
}

impl Cache {
    /// An empty cache, and what is to run beside it.
    #[must_use]
    pub fn new(parts: Parts<'_>) -> (Self, Tasks) {
        let Parts { planned, settings, journal, store, runtime, metrics, deferred_metrics } = parts;
        let (sampler, chosen) = Sampler::new(&settings.verify);
        let (waiting, renewals) = Renewals::new();
        let source = Source::new(planned, settings, store);
        let memory = Arc::new(Memory::new(source, &settings.cache, sampler, metrics.clone()));
        // The notice of a longer flush would be one of the whole mapping, which nobody could tell from a stranger's.
        let rows = settings.journal.flush_rows.min(store::MOST_KEYS);
        let write_behind = Arc::new(WriteBehind::new(memory.clone(), journal, rows, waiting, deferred_metrics));
        let writer = Arc::new(Writer::new(memory.clone(), write_behind.clone(), runtime, metrics.clone()));
        let tasks = Tasks {
            memory: memory.clone(),
            write_behind: write_behind.clone(),
            renewals,
            verifier: Verifier::new(memory.clone(), chosen, settings.verify.per_second, metrics.clone()),
            flush_interval: settings.journal.flush_interval,
            sweep: Sweep::new(&settings.store, metrics),
        };
        (Self { memory, write_behind, writer }, tasks)
    }

    /// How long an answer of the store is waited for.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.memory.source.deadline
    }

    /// The entry of `key` if it may be served at `now`. One whose TTL is over
    /// and that may be served while it is loaded again is; the load is begun, once.
    #[must_use]
    pub fn get(&self, id: MappingId, key: &[u8], now: Tick) -> Option<Arc<Entry>> {
        self.memory.get(id, key, now)
    }

    /// Like [`Cache::get`], through the thread's own cache; returns what `answer` makes of the entry.
    pub fn hit<T>(
        &self,
        thread_cache: &mut ThreadCache,
        id: MappingId,
        key: &[u8],
        now: Tick,
        answer: impl FnOnce(&Arc<Entry>) -> T,
    ) -> Option<T> {
        self.memory.hit(thread_cache, id, key, now, answer)
    }

    /// The entry of `key`, loaded if need be. The load is begun, or joined, when this returns; the future only waits.
    pub fn load(&self, id: MappingId, key: &Bytes) -> impl Future<Output = LoadResult> + use<> {
        self.memory.load(id, key)
    }

    /// Starts the TTL of a read entry again where its mapping says so.
    pub fn renew(&self, key: &[u8], entry: &Entry, now: Tick) {
        if let Some(expiry) = self.memory.renew(entry, now) {
            self.write_behind.renew(entry.mapping, key, expiry);
        }
    }

    /// Gives an entry of `key` another TTL; without a limit it lives as long as its mapping allows.
    pub fn change_ttl(&self, id: MappingId, key: &[u8], entry: &Entry, life: TtlChange, now: Tick) {
        self.memory.change_ttl(id, key, entry, life, now);
    }

    /// Forgets `key`, whatever is being loaded for it. True when a record was in memory.
    pub fn invalidate(&self, key: &[u8]) -> bool {
        self.memory.invalidate(key)
    }

    /// Forgets every key that matches `glob`; the number of keys that were in memory.
    pub fn invalidate_matching(&self, glob: &[u8]) -> usize {
        self.memory.invalidate_matching(glob)
    }

    /// Forgets a key that the change feed reports, unless it reports a write of ours.
    pub fn changed(&self, key: &[u8], from: Option<&str>) {
        self.memory.changed(key, from);
    }

    /// Forgets every key of mapping `id`.
    pub fn flush(&self, id: MappingId) {
        self.memory.forget_mapping(id);
    }

    /// Forgets every key.
    pub fn flush_all(&self) {
        self.memory.forget_all();
    }

    /// A gap begins: changes may be missed. What is in memory was true a moment ago and is served until it is older
    /// than `max_staleness`; whoever ends the gap calls [`Cache::flush_all`] before [`Cache::alive`].
    pub fn lost(&self) {
        self.memory.lost();
    }

    /// Every change up to `as_of` has been applied.
    pub fn alive(&self, as_of: Tick) {
        self.memory.alive(as_of);
    }

    /// The next keys of a mapping, about `limit`, and where to go on; `None` when there are no more.
    ///
    /// # Errors
    /// The store's.
    pub async fn page(
        &self,
        id: MappingId,
        after: &After,
        limit: usize,
    ) -> Result<(Vec<Bytes>, Option<After>), StoreError> {
        self.memory.source.page(id, after, limit).await
    }

    /// Writes `key`, or journals the write, as its mapping says. The write has queued when this returns: later reads of
    /// the key wait for it. The future only waits.
    pub fn write(&self, id: MappingId, key: &Bytes, write: &Write) -> impl Future<Output = WriteResult> + use<> {
        self.writer.write(id, key, write)
    }

    /// EXPIRE and related commands on a key that expires by its column. It has queued when this returns; the future
    /// only waits.
    pub fn expire(
        &self,
        id: MappingId,
        key: &Bytes,
        command: ExpireCommand,
    ) -> impl Future<Output = Result<ExpireOutcome, StoreError>> + use<> {
        self.writer.expire(id, key, command)
    }

    /// Begins a transaction, of which what is read and written counts for `client`. Its writes have queued when this
    /// returns: later reads of their keys wait for its end.
    #[must_use]
    pub fn begin_transaction(&self, steps: Vec<Step>, watched: Vec<Watched>, client: Arc<Holding>) -> OwnedTransaction {
        self.writer.begin(steps, watched, client)
    }

    /// Watches a key. It is loaded again: what the client reads from now on is at least as new as what is watched.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be loaded.
    pub async fn watch(&self, mapping: MappingId, key: &Bytes) -> Result<Watched, StoreError> {
        self.writer.watch(mapping, key).await
    }

    /// Where deferred writes are kept, if some are.
    #[must_use]
    pub fn journal(&self) -> Option<Arc<Journal>> {
        self.write_behind.journal.clone()
    }

    /// True when deferred writes of the mapping can be judged and journaled.
    #[must_use]
    pub fn takes_deferred(&self, id: MappingId) -> bool {
        let defers = |cached: &source::Cached| cached.mapping().config.defers();
        self.write_behind.journal.is_some() && self.memory.source.cached(id).is_some_and(defers)
    }

    /// Replays what a journal held: it lies over every record from now on.
    pub fn replay(&self, id: MappingId, entries: Vec<journal::Entry>) {
        self.write_behind.replay(id, entries);
    }

    /// Shows how many keys have something that waits.
    pub fn count_waiting(&self) {
        self.write_behind.count_waiting();
    }

    /// Counts keys whose deferred writes were put aside.
    pub fn count_put_aside(&self, keys: usize) {
        self.write_behind.metrics.put_aside.inc_by(keys as u64);
    }

    /// Saves everything that waits; what comes meanwhile is for the next time.
    ///
    /// # Errors
    /// The store's, or the journal's; what has not been saved still waits.
    pub async fn flush_all_deferred(&self) -> Result<(), StoreError> {
        self.write_behind.flush_all_deferred().await
    }
}
