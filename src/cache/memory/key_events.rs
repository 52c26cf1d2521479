//! What those are told who are subscribed to events of keys (keyspace notifications): what a write has done, and that a
//! key has ended by a column of its row. That memory lets a key go is no event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Memory;
use super::expiries::End;
use crate::cache::entry::{Entry, Use};
use crate::cache::source::Cached;
use crate::keys::MappingId;
use crate::record::KeyEvent;
use crate::telemetry::clock::Tick;
use crate::telemetry::planted::is_planted;

/// What is told of a write when it has ended, of which keys; `None`: that its key has changed.
pub(crate) type News = Option<Vec<(Bytes, KeyEvent)>>;

/// So many ends are looked at before others have their turn.
const TOGETHER: usize = 256;

/// After so many milliseconds the store is asked again whether a key has ended.
const AGAIN: u64 = 1000;

impl Memory {
    /// True when somebody is told of events.
    pub(crate) fn is_heard(&self) -> bool {
        !self.events.is_idle()
    }

    /// Keys may have changed, it is not known which.
    pub(crate) fn misses_events(&self) {
        self.events.missed();
    }

    /// A planted bug: those who listen hear of a change by SQL while memory still has what was there before it.
    pub(super) fn tell_early(&self, key: &[u8]) {
        if is_planted("event-told-early") && self.is_heard() {
            self.events.changed(key);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What is told of a write of a key that has done this, if somebody listens: who begins to listen before it has
    /// ended is told that the key has changed.
    pub(crate) fn news(&self, key: &Bytes, events: impl FnOnce() -> Vec<KeyEvent>) -> News {
        self.is_heard().then(|| events().into_iter().map(|event| (key.clone(), event)).collect())
    }

    /// Notes when a key ends of which this is known now, whether or not memory keeps that.
    pub(super) fn note_end(&self, key: &[u8], entry: Option<&Entry>) {
        let Some(entry) = entry.filter(|_| self.is_heard()) else { return };
        if !self.source.cached(entry.mapping).is_some_and(Cached::expires_by_column) {
            return;
        }
        match (&entry.record, entry.expires_at()) {
            (None, _) | (_, Tick::NEVER) => self.expiries.remove(key),
            (Some(_), at) => self.expiries.add(key, End { mapping: entry.mapping, at, is_doubted: false }),
        }
    }

    /// Notes when each key ends that is in memory.
    fn note_all_ends(&self) {
        self.entries.records().for_each(|(key, entry)| self.note_end(&key, Some(&entry)));
    }

    /// Waits until keys end, and tells those who listen of them. Whether one is gone the store says, by its own clock:
    /// whoever reads it when it is told finds nothing.
    pub(crate) async fn tell_of_expired(self: &Arc<Self>) {
        tokio::select! {
            () = self.expiries.come() => {}
            () = self.events.begin() => return self.note_all_ends(),
        }
        if !self.is_heard() {
            return self.expiries.clear();
        }
        for (mapping, keys) in self.due() {
            self.tell_if_gone(mapping, keys).await;
        }
        tokio::task::yield_now().await;
    }

    /// Keys whose time has come, by their mappings. One that was given more time since is looked at again then.
    fn due(&self) -> HashMap<MappingId, Vec<(Bytes, End)>> {
        let (now, mut due) = (Tick::now(), HashMap::<MappingId, Vec<(Bytes, End)>>::new());
        for (key, end) in std::iter::from_fn(|| self.expiries.due(now)).take(TOGETHER) {
            match self.entries.get(&key).filter(|entry| entry.record.is_some() && !entry.is_expired(now)) {
                Some(renewed) => self.note_end(&key, Some(&renewed)),
                None => due.entry(end.mapping).or_default().push((key, end)),
            }
        }
        due
    }

    async fn tell_if_gone(self: &Arc<Self>, mapping: MappingId, ended: Vec<(Bytes, End)>) {
        let keys: Vec<(Bytes, Use)> = ended.iter().map(|(key, _)| (key.clone(), Use::before(0))).collect();
        let loaded = self.load_in_background(mapping, &keys).await;
        for ((key, end), loaded) in ended.into_iter().zip(loaded) {
            match loaded {
                // What is there still has another end, which is noted.
                Ok(entry) if entry.record.is_some() => {}
                // Its end was told when somebody else brought it about.
                Ok(_) if end.is_doubted => {}
                Ok(_) => self.events.expired(&key),
                Err(_) => self.expiries.add(&key, End { at: Tick::now().plus(AGAIN), ..end }),
            }
        }
    }
}
