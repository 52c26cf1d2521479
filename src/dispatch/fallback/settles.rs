//! Which keys are being settled: one at a time for each key, and none of a mapping when that is in another mode.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;

use crate::keys::MappingId;

/// How often it is looked whether they have ended.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct Waiting {
    pattern: String,
    /// The mapping has another mode: nothing more is written for it.
    is_over: Arc<AtomicBool>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The keys that are being settled.
#[derive(Debug, Default)]
pub struct Settles {
    keys: Mutex<HashMap<Bytes, Waiting>>,
}

/// The right to settle a key. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    settles: Arc<Settles>,
    key: Bytes,
    is_over: Arc<AtomicBool>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Turn {
    /// True when the mapping has another mode: nothing more may be written for it.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut keys = self.settles.keys();
        drop(self.turn.take());
        // Nobody else waits for it.
        if keys.get(&self.key).is_some_and(|waiting| Arc::strong_count(&waiting.turn) == 1) {
            keys.remove(&self.key);
        }
    }
}

impl Settles {
    fn keys(&self) -> MutexGuard<'_, HashMap<Bytes, Waiting>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a key of the mapping with this pattern.
    pub(super) async fn turn(self: &Arc<Self>, key: &Bytes, pattern: &str) -> Turn {
        let (turn, is_over) = {
            let mut keys = self.keys();
            let new = || Waiting { pattern: pattern.to_owned(), is_over: Arc::default(), turn: Arc::default() };
            let waiting = keys.entry(key.clone()).or_insert_with(new);
            (waiting.turn.clone(), waiting.is_over.clone())
        };
        // The place is given back also by one who is dropped while it waits.
        let mut waits = Turn { settles: self.clone(), key: key.clone(), is_over, turn: None };
        waits.turn = Some(turn.lock_owned().await);
        waits
    }

    /// Those of a mapping that `is_meant` write nothing more.
    pub fn give_up(&self, is_meant: impl Fn(&str) -> bool) {
        let keys = self.keys();
        keys.values().filter(|waiting| is_meant(&waiting.pattern)).for_each(|one| one.is_over.store(true, SeqCst));
    }

    /// Returns when no key of a mapping that `is_meant` is being settled any more.
    pub async fn ended(&self, is_meant: impl Fn(&str) -> bool) {
        while self.keys().values().any(|waiting| is_meant(&waiting.pattern)) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The number of a mapping and one of its keys.
pub(super) type OfMapping = (MappingId, Bytes);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::Settles;

    #[tokio::test]
    async fn a_key_is_settled_by_one_at_a_time_and_forgotten_behind_the_last() {
        let (settles, key) = (Arc::new(Settles::default()), Bytes::from("a:1"));
        let first = settles.turn(&key, "a:{x}").await;
        let second = tokio::spawn({
            let (settles, key) = (settles.clone(), key.clone());
            async move { drop(settles.turn(&key, "a:{x}").await) }
        });
        let given_up = tokio::time::timeout(Duration::from_millis(1), settles.turn(&key, "a:{x}")).await;
        assert!(given_up.is_err() && !second.is_finished());
        assert!(tokio::time::timeout(Duration::from_millis(1), settles.ended(|_| true)).await.is_err());
        settles.ended(|pattern| pattern == "b:{x}").await;
        assert!(!first.is_over());
        settles.give_up(|pattern| pattern == "a:{x}");
        assert!(first.is_over());
        drop(first);
        second.await.expect("its turn");
        settles.ended(|_| true).await;
        assert!(settles.keys().is_empty());
    }
}
