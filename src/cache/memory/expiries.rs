//! When keys end by a column of their rows, of those that were in memory while somebody is told of such ends (keyspace
//! notifications). What has changed since is doubted: that it is gone when its time comes is no news then.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::keys::MappingId;
use crate::telemetry::clock::Tick;
use crate::telemetry::locked;

/// Of so many keys it is known at most when they end.
const MOST: usize = 1_000_000;

/// The end of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) mapping: MappingId,
    pub(super) at: Tick,
    /// Somebody has changed the key since this was known.
    pub(super) is_doubted: bool,
}

#[derive(Debug, Default)]
struct Ends {
    of_keys: HashMap<Bytes, End>,
    in_order: BTreeSet<(Tick, Bytes)>,
}

impl Ends {
    fn remove(&mut self, key: &[u8]) -> Option<(Bytes, End)> {
        let (key, end) = self.of_keys.remove_entry(key)?;
        self.in_order.remove(&(end.at, key.clone()));
        Some((key, end))
    }
}

#[derive(Debug, Default)]
pub(super) struct Expiries {
    ends: Mutex<Ends>,
    /// Notified when one comes earlier than all others.
    sooner: Notify,
}

impl Expiries {
    /// A key ends then, whatever was known before.
    pub(super) fn add(&self, key: &[u8], end: End) {
        let mut ends = locked(&self.ends);
        let known = ends.remove(key).map(|(key, _)| key);
        if known.is_none() && ends.of_keys.len() >= MOST {
            return;
        }
        let is_first = ends.in_order.first().is_none_or(|(first, _)| end.at < *first);
        let key = known.unwrap_or_else(|| Bytes::copy_from_slice(key));
        ends.of_keys.insert(key.clone(), end);
        ends.in_order.insert((end.at, key));
        drop(ends);
        if is_first {
            // There are two who wait while one cache takes the place of another.
            self.sooner.notify_waiters();
        }
    }

    /// A key does not end by itself any more.
    pub(super) fn remove(&self, key: &[u8]) {
        locked(&self.ends).remove(key);
    }

    /// Somebody has changed a key, it is not known how.
    pub(super) fn doubt(&self, key: &[u8]) {
        if let Some(end) = locked(&self.ends).of_keys.get_mut(key) {
            end.is_doubted = true;
        }
    }

    /// One whose time has come.
    pub(super) fn due(&self, now: Tick) -> Option<(Bytes, End)> {
        let mut ends = locked(&self.ends);
        let (_, key) = ends.in_order.first().filter(|(at, _)| *at <= now)?.clone();
        ends.remove(&key)
    }

    /// Returns when one may be due.
    pub(super) async fn come(&self) {
        loop {
            let mut sooner = std::pin::pin!(self.sooner.notified());
            // Whatever comes after the look is heard of.
            sooner.as_mut().enable();
            let next = locked(&self.ends).in_order.first().map(|(at, _)| *at);
            match next {
                None => sooner.await,
                Some(at) => {
                    let left = at.since(Tick::now());
                    if left == 0 || tokio::time::timeout(Duration::from_millis(left), sooner).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        locked(&self.ends).of_keys.len()
    }

    pub(super) fn clear(&self) {
        *locked(&self.ends) = Ends::default();
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Expiries, MOST, MappingId, Tick};

    fn end(at: u64) -> End {
        End { mapping: MappingId::default(), at: Tick::from_ms(at), is_doubted: false }
    }

    #[test]
    fn each_key_ends_once_at_the_last_time_that_was_known() {
        let expiries = Expiries::default();
        for (key, at) in [("a", 10), ("b", 20), ("a", 30), ("c", 5), ("b", 6)] {
            expiries.add(key.as_bytes(), end(at));
        }
        expiries.remove(b"c");
        expiries.doubt(b"a");
        assert_eq!(expiries.len(), 2);
        let due = |now| expiries.due(Tick::from_ms(now)).map(|(key, end)| (key, end.is_doubted));
        assert_eq!(due(29), Some(("b".into(), false)));
        assert_eq!(due(29), None);
        assert_eq!(due(30), Some(("a".into(), true)));
        assert_eq!((due(99), expiries.len()), (None, 0));
    }

    #[test]
    fn of_more_keys_than_a_bound_nothing_is_known() {
        let expiries = Expiries::default();
        (0..MOST + 10).for_each(|number| expiries.add(format!("k:{number}").as_bytes(), end(number as u64)));
        assert_eq!(expiries.len(), MOST);
        expiries.add(b"k:0", end(7));
        assert_eq!(expiries.len(), MOST, "of one that is known it is known again");
    }
}
