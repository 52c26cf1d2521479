//! Read-through cache of records: one load per key at a time, TTLs, absent keys, invalidation, and writes through it.
//! Knows mappings and the store; never commands, clients or the upstream. `memory` holds what is known, `write_behind`
//! what the store does not have yet, `writes` writes, `verifier` looks for stale records, `refresher` loads again what
//! was read and has changed, and `warm` brings back what a process before had in memory; each of them knows only those
//! before it. `parts` puts them together. `invalidation` and `deferred` are methods of the cache, too.
//!
//! What must stay true (docs/CONSISTENCY.md):
//! - an entry is served only while its mapping's epoch is the one its load began in (C3, gaps);
//! - a load publishes only if it is still the key's load; an invalidation takes that away from it first (C3);
//! - a read that comes after a write has queued sees what that write left, or something newer (C1);
//! - readers join the key's load only if no invalidation came since it began (C3), one load at a time (C4);
//! - while changes may be missed nothing older than `max_staleness` is served (C2).

mod cause;
mod deferred;
mod entry;
mod invalidation;
mod leaving;
mod looks;
mod memory;
mod parts;
mod refresher;
mod replanning;
mod resting_rows;
mod source;
mod succession;
mod sweeper;
mod tasks;
mod traces;
mod verifier;
mod warm;
mod write_behind;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use cause::{Author, By, Cause};
pub use entry::Entry;
pub use looks::{Both, Held, KeyLook, Served};
pub use memory::thread_cache::ThreadCache;
pub use memory::waiting::LoadResult;
pub use parts::Parts;
pub use source::After;
pub use tasks::Tasks;
pub use traces::Trace;
pub use writes::WriteResult;
pub use writes::expire::ExpireOutcome;
pub use writes::together::Together;
pub use writes::transaction::steps::{Act, AllDone, Done, Step};
pub use writes::transaction::watched::Watched;
pub use writes::transaction::{OwnedTransaction, Prepared};

use memory::Memory;
use warm::Warmth;
use write_behind::WriteBehind;
use writes::Writer;

use crate::keys::MappingId;
use crate::mapping::Mappings;
use crate::quota::{Allowance, Asker, Quota};
use crate::record::{ExpireCommand, Record, TtlChange, Write};
use crate::store::StoreError;
use crate::telemetry::client_memory::Holding;
use crate::telemetry::clock::Tick;
use crate::tracking::Reader;

/// The cache of one sidecar. A clone is the same cache.
#[derive(Clone, Debug)]
pub struct Cache {
    memory: Arc<Memory>,
    write_behind: Arc<WriteBehind>,
    writer: Arc<Writer>,
    /// Where hot keys are noted, if they are.
    warmth: Option<Arc<Warmth>>,
}

impl Cache {
    /// How long an answer of the store is waited for.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.memory.source.deadline
    }

    /// A cache for the hits of this thread.
    #[must_use]
    pub fn thread_cache(&self) -> ThreadCache {
        self.memory.thread_cache()
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
    /// A limit of its `asker`, or of the mapping, may refuse a load that would begin.
    pub fn load(&self, id: MappingId, key: &Bytes, asker: &mut Asker) -> impl Future<Output = LoadResult> + use<> {
        self.memory.load(id, key, asker)
    }

    /// What each mapping may take, and what of it is taken.
    pub fn quotas(&self) -> Vec<Arc<Quota>> {
        self.memory.source.all().map(|cached| cached.quota.clone()).collect()
    }

    /// Goes by the limits of those of these mappings that it has.
    pub fn limit(&self, mappings: &Mappings) {
        for cached in self.memory.source.all() {
            if let Some(mapping) = mappings.list.iter().find(|mapping| mapping.pattern.text() == cached.name()) {
                cached.quota.allow(Allowance::of_mapping(&mapping.config));
            }
        }
    }

    /// Starts the TTL of a read entry again where its mapping says so.
    pub fn renew(&self, key: &[u8], entry: &Entry, now: Tick) {
        if let Some(expiry) = self.memory.renew(entry, now) {
            self.write_behind.renew(entry.mapping, key, expiry);
            self.memory.written().renewed(key);
        }
    }

    /// A client that tracks is given `entry` of `key`: it is told when that is not what the key holds any more.
    pub fn reads(&self, reader: &Reader, key: &[u8], entry: &Arc<Entry>) {
        self.memory.reads(reader, key, entry);
    }

    /// The same of a client that is given what a transaction has read.
    pub fn reads_record(&self, reader: &Reader, id: MappingId, key: &Bytes, record: Option<&Record>) {
        self.memory.reads_record(reader, id, key, record);
    }

    /// Gives an entry of `key` another TTL; without a limit it lives as long as its mapping allows.
    pub fn change_ttl(&self, id: MappingId, key: &[u8], entry: &Entry, life: TtlChange, now: Tick) {
        self.memory.change_ttl(id, key, entry, life, now);
    }

    /// Notes which keys are hot, for the next start.
    pub async fn note_hot_keys(&self) {
        if let Some(warmth) = &self.warmth {
            warmth.save().await;
        }
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
        self.memory.page(id, after, limit).await
    }

    /// Writes `key`, or journals the write, as its mapping says. The write has queued when this returns: later reads of
    /// the key wait for it. The future only waits.
    pub fn write(
        &self,
        id: MappingId,
        key: &Bytes,
        write: &Write,
        by: By,
    ) -> impl Future<Output = WriteResult> + use<> {
        self.writer.write(id, key, write, by)
    }

    /// EXPIRE and related commands on a key that expires by its column; `together` are those of this thread, for this
    /// cache. It has queued when this returns; the future only waits. To be called in a task that stays on its thread.
    pub fn expire(
        &self,
        together: &Together,
        (id, key): (MappingId, &Bytes),
        command: ExpireCommand,
        author: Option<Arc<Author>>,
    ) -> impl Future<Output = Result<ExpireOutcome, StoreError>> + use<> {
        self.writer.expire(together, (id, key), command, author)
    }

    /// Begins a transaction, of which what is read and written counts for `client`. Its writes have queued when this
    /// returns: later reads of their keys wait for its end.
    #[must_use]
    pub fn begin_transaction(
        &self,
        steps: Vec<Step>,
        watched: Vec<Watched>,
        client: Arc<Holding>,
        author: &Arc<Author>,
    ) -> OwnedTransaction {
        self.writer.begin(steps, watched, client, author)
    }

    /// Watches a key. It is loaded again: what the client reads from now on is at least as new as what is watched.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be loaded.
    pub async fn watch(&self, mapping: MappingId, key: &Bytes, asker: &mut Asker) -> Result<Watched, StoreError> {
        self.writer.watch(mapping, key, asker).await
    }
}
