//! Loads in flight: at most one that counts per key.
//!
//! Invariants, each under the key's shard lock:
//! - a reader joins a key's flight only while the flight is in the map and of the current epoch;
//! - `detach` takes the flight out, and with it its right to publish, in one step with forgetting the key (hazards 1, 2, 25);
//! - `publish` puts an entry on the shelf only if its own flight is still in the map;
//! - a flight that is dropped unpublished tells its waiters so: nobody waits for ever.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::Entry;
use crate::store::StoreError;

/// What a load ends with.
pub type LoadResult = Result<Arc<Entry>, StoreError>;

const SHARDS: usize = 64;

type Shard = HashMap<Bytes, Arc<Flight>>;

#[derive(Debug)]
pub(super) struct Flights {
    hasher: foldhash::quality::RandomState,
    shards: Vec<Mutex<Shard>>,
}

/// One load.
#[derive(Debug)]
pub(super) struct Flight {
    epoch: u64,
    done: watch::Sender<Option<LoadResult>>,
}

/// A reader's part in a load.
pub(super) enum Begun {
    /// It was loaded in the meantime.
    There(Arc<Entry>),
    /// It is being loaded.
    Joined(Waiter),
}

/// Waits for a flight.
pub(super) struct Waiter(watch::Receiver<Option<LoadResult>>);

impl Waiter {
    pub(super) async fn wait(mut self) -> LoadResult {
        match self.0.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or_else(|| Err(given_up())),
            Err(_) => Err(given_up()),
        }
    }
}

/// The right to run a key's load, and perhaps to publish it.
#[derive(Debug)]
pub(super) struct Lead {
    key: Bytes,
    flight: Arc<Flight>,
}

impl Lead {
    pub(super) const fn key(&self) -> &Bytes {
        &self.key
    }

    pub(super) fn epoch(&self) -> u64 {
        self.flight.epoch
    }
}

impl Drop for Lead {
    /// A load that ends without a result (its task was stopped) must not keep its key's readers waiting.
    fn drop(&mut self) {
        self.flight.done.send_if_modified(|done| {
            let unpublished = done.is_none();
            done.get_or_insert_with(|| Err(given_up()));
            unpublished
        });
    }
}

fn given_up() -> StoreError {
    StoreError::Unavailable("the load was given up".into())
}

impl Flight {
    fn is_joinable(&self, epoch: u64) -> bool {
        self.epoch == epoch && self.done.borrow().is_none()
    }
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            hasher: foldhash::quality::RandomState::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Flights {
    fn shard(&self, key: &[u8]) -> MutexGuard<'_, Shard> {
        let at = self.hasher.hash_one(key) as usize % SHARDS;
        // Nothing panics while a shard is held; its map is whole even so.
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the key's flight, or begins one and gives its lead. `there` is asked again under the lock, so that a
    /// reader that just missed a publication does not load once more.
    pub(super) fn begin(
        &self,
        key: &Bytes,
        epoch: u64,
        there: impl FnOnce() -> Option<Arc<Entry>>,
    ) -> (Begun, Option<Lead>) {
        let mut shard = self.shard(key);
        if let Some(flight) = shard.get(key).filter(|flight| flight.is_joinable(epoch)) {
            return (Begun::Joined(Waiter(flight.done.subscribe())), None);
        }
        if let Some(entry) = there() {
            return (Begun::There(entry), None);
        }
        // The key may be a slice of a client's buffer: the map must not pin that.
        let key = Bytes::copy_from_slice(key);
        let flight = Arc::new(Flight { epoch, done: watch::Sender::new(None) });
        let waiter = Waiter(flight.done.subscribe());
        shard.insert(key.clone(), flight.clone());
        (Begun::Joined(waiter), Some(Lead { key, flight }))
    }

    /// Ends a load: its waiters get the result; `put` gets the entry if the load still counts.
    pub(super) fn publish(&self, lead: Lead, result: LoadResult, put: impl FnOnce(&Bytes, &Arc<Entry>)) {
        {
            let mut shard = self.shard(&lead.key);
            if shard.get(&lead.key).is_some_and(|flight| Arc::ptr_eq(flight, &lead.flight)) {
                shard.remove(&lead.key);
                if let Ok(entry) = &result {
                    put(&lead.key, entry);
                }
            }
        }
        lead.flight.done.send_replace(Some(result));
    }

    /// Takes the right to publish from the key's load and does `forget` in the same step.
    pub(super) fn detach<T>(&self, key: &[u8], forget: impl FnOnce() -> T) -> T {
        let mut shard = self.shard(key);
        shard.remove(key);
        forget()
    }

    /// The keys that are being loaded.
    pub(super) fn keys(&self) -> Vec<Bytes> {
        let locked = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        locked.flat_map(|shard| shard.keys().cloned().collect::<Vec<_>>()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::entry::Life;
    use super::{Begun, Flights, Lead, LoadResult};
    use crate::config;
    use crate::record::Record;
    use crate::store::StoreError;

    fn entry(text: &str) -> LoadResult {
        let block: config::MappingConfig = serde_json::from_str(r#"{"key":"k:{x}","type":"string"}"#).expect("a block");
        let life = Life::new(&block, &config::Cache::default());
        Ok(Arc::new(life.entry(Record::string(text.as_bytes()).ok(), 0, 0, 0)))
    }

    fn lead(flights: &Flights, epoch: u64) -> (Begun, Option<Lead>) {
        flights.begin(&Bytes::from_static(b"k"), epoch, || None)
    }

    fn published(flights: &Flights, lead: Option<Lead>, result: LoadResult) -> bool {
        let mut put = false;
        flights.publish(lead.expect("a lead"), result, |_, _| put = true);
        put
    }

    #[test]
    fn a_load_that_an_invalidation_passed_never_fills_the_cache() {
        let flights = Flights::default();
        let (_, old) = lead(&flights, 0);
        flights.detach(b"k", || ());
        let (_, new) = lead(&flights, 0);
        assert!(new.is_some(), "a reader after the invalidation must not join the old load");
        assert!(!published(&flights, old, entry("old")));
        assert!(published(&flights, new, entry("new")));
    }

    #[test]
    fn a_load_of_another_epoch_is_not_joined() {
        let flights = Flights::default();
        let (_, old) = lead(&flights, 0);
        let (_, new) = lead(&flights, 1);
        assert!(new.is_some());
        assert!(!published(&flights, old, entry("old")));
        assert!(published(&flights, new, entry("new")));
    }

    #[tokio::test]
    async fn waiters_share_one_result_and_a_failure_is_not_for_ever() {
        let flights = Flights::default();
        let (first, leads) = lead(&flights, 0);
        let (second, none) = lead(&flights, 0);
        assert!(none.is_none());
        assert!(!published(&flights, leads, Err(StoreError::Unavailable("away".into()))));
        for begun in [first, second] {
            let Begun::Joined(waiter) = begun else { panic!("joined") };
            assert!(waiter.wait().await.is_err());
        }
        assert!(lead(&flights, 0).1.is_some(), "the next reader tries again");
    }

    #[tokio::test]
    async fn a_lead_that_is_dropped_leaves_nobody_waiting() {
        let flights = Flights::default();
        let (begun, leads) = lead(&flights, 0);
        drop(leads);
        assert!(lead(&flights, 0).1.is_some(), "the next reader tries again");
        let Begun::Joined(waiter) = begun else { panic!("joined") };
        assert!(waiter.wait().await.is_err());
    }
}
