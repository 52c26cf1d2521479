//! What an operator may look at: how much of each mapping is in memory, the plan it has, and what is known of one key.

use std::sync::Arc;

use bytes::Bytes;

use super::Cache;
use super::entry::Entry;
use super::memory::residents::Room;
use super::traces::Trace;
use crate::keys::MappingId;
use crate::record::Record;
use crate::store::{CurrentPlan, Plan, StoreError};
use crate::telemetry::clock::Tick;

/// What is known of one key.
#[derive(Clone, Debug)]
pub struct KeyLook {
    /// What is in memory of it, if anything is.
    pub held: Option<Held>,
    /// It is being loaded or written.
    pub is_under_way: bool,
    /// Deferred writes of it wait for the store.
    pub waits: bool,
    /// The epoch of its mapping.
    pub epoch: u64,
    /// Why it was last forgotten, if that is known.
    pub forgotten: Option<Trace>,
}

/// One key in memory and in the store.
#[derive(Clone, Debug)]
pub struct Both {
    /// What is in memory, if anything is.
    pub memory: Option<Arc<Entry>>,
    /// What the store has.
    pub store: Option<Record>,
}

/// What is in memory of a key.
#[derive(Clone, Debug)]
pub struct Held {
    /// The entry. What it holds is not shown.
    pub entry: Arc<Entry>,
    /// Whether it may be served.
    pub served: Served,
    /// The epoch that its load began in.
    pub epoch: u64,
    /// When its load began.
    pub loaded_at: Tick,
    /// Its bytes, and those of the key.
    pub bytes: usize,
}

/// Whether what is in memory may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "see the words of each")]
pub enum Served {
    Yes,
    Expired,
    /// Everything of its mapping was forgotten.
    Outdated,
    /// Changes may have been missed, and it is older than `max_staleness`.
    Doubtful,
}

impl Cache {
    /// What is in memory of all mappings.
    #[must_use]
    pub fn room(&self) -> Room {
        let rooms = self.memory.source.all().map(|cached| self.memory.room(cached.mapping().id));
        rooms.fold(Room::default(), |sum, room| Room {
            entries: sum.entries + room.entries,
            bytes: sum.bytes + room.bytes,
        })
    }

    /// What is in memory of one.
    #[must_use]
    pub fn room_of(&self, id: MappingId) -> Room {
        self.memory.room(id)
    }

    /// `cache.max_bytes`.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        self.memory.most_bytes()
    }

    /// The plan of a mapping, as it stands now.
    #[must_use]
    pub fn plan_of(&self, id: MappingId) -> Option<&CurrentPlan> {
        self.memory.source.cached(id).map(|cached| &cached.current)
    }

    /// What is known of a key of mapping `id`.
    #[must_use]
    pub fn look(&self, id: MappingId, key: &[u8]) -> Option<KeyLook> {
        let (cached, now) = (self.memory.source.cached(id)?, Tick::now());
        // What has expired, or had to go, goes now, and says so.
        self.memory.tidy();
        let held = self.memory.peek(key).map(|entry| {
            let served = match () {
                () if entry.epoch != cached.epoch() => Served::Outdated,
                () if entry.is_expired(now) => Served::Expired,
                () if self.memory.is_usable(cached, &entry, now) => Served::Yes,
                () => Served::Doubtful,
            };
            let bytes = key.len() + entry.weight();
            Held { served, epoch: entry.epoch, loaded_at: entry.loaded_at, bytes, entry }
        });
        Some(KeyLook {
            held,
            is_under_way: self.memory.is_under_way(key),
            waits: self.memory.overlay.of(key).is_some(),
            epoch: cached.epoch(),
            forgotten: cached.traces.last(key),
        })
    }

    /// What is in memory of a key, whether or not it may be served, and what the store has now, with the deferred
    /// writes that it does not have yet; nothing for what is no cached mapping.
    ///
    /// # Errors
    /// The store's.
    pub async fn both(&self, id: MappingId, key: &Bytes) -> Option<Result<Both, StoreError>> {
        let cached = self.memory.source.cached(id)?;
        let memory = self.memory.peek(key);
        Some(self.memory.read(cached, key).await.map(|store| Both { memory, store }))
    }

    /// How the store would load a key: the lines of its own plan.
    ///
    /// # Errors
    /// The store's.
    pub async fn explain(&self, plan: &Plan, key: &[u8]) -> Result<Vec<String>, StoreError> {
        self.memory.source.store.explain(plan, key).await
    }
}
