//! How loads and writes end: what they leave is put into memory while the key is locked, if it still counts, and who
//! keeps the key is told behind that lock, and so is who is subscribed to its events.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;

use super::loads::{Flights, Load, WriteTurn};
use super::slot::tidy;
use super::waiting::LoadResult;
use crate::cache::entry::Entry;
use crate::quota::Places;
use crate::telemetry::planted::is_planted;

/// What a write has done to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is not what it was, or that is not known: whoever watches the key hears of it.
    MayHaveChanged,
    /// Nothing: nobody hears of it.
    Unchanged,
}

impl Flights {
    /// Ends a load: its waiters get the result; `put` gets the entry if the load still counts.
    pub(super) fn publish(&self, mut load: Load, result: LoadResult, put: impl FnOnce(&Bytes, &Arc<Entry>)) {
        // Whoever has the answer may ask for the next key.
        load.places = Places::default();
        if is_planted("no-generation-check")
            && let Ok(entry) = &result
        {
            put(load.key(), entry);
        } else if self.publishes(&load, |key| result.as_ref().map_or((), |entry| put(key, entry)))
            && let Ok(entry) = &result
        {
            self.found(load.key(), entry);
        }
        load.flight.end(|| result);
    }

    /// Takes a load out of the map, and does `put` in the same step, if it still counts.
    fn publishes(&self, load: &Load, put: impl FnOnce(&Bytes)) -> bool {
        let mut shard = self.shard(load.key());
        let flight = shard.get_mut(load.key()).map(|slot| &mut slot.flight);
        let Some(flight) = flight.filter(|f| f.as_ref().is_some_and(|f| Arc::ptr_eq(f, &load.flight))) else {
            return false;
        };
        *flight = None;
        put(load.key());
        tidy(&mut shard, load.key());
        true
    }

    /// This is in memory of a key that nobody is known to have changed. Who keeps something else is told.
    fn found(&self, key: &[u8], entry: &Entry) {
        if !is_planted("tracked-print-ignored") {
            self.tracking.found(key, || entry.print());
        }
    }

    /// Ends a write, as [`WriteTurn::end`].
    pub(super) fn end(
        &self,
        ended: &WriteTurn,
        outcome: Outcome,
        left: Option<Arc<Entry>>,
        put: impl FnOnce(&Bytes, Option<&Arc<Entry>>),
    ) {
        let (key, is_changed) = (ended.key(), outcome == Outcome::MayHaveChanged);
        if is_changed {
            self.written.note(key);
        }
        let (unheard, is_last, left) = {
            let mut shard = self.shard(key);
            let Some(slot) = shard.get_mut(key) else { return };
            let Some(at) = slot.turns.iter().position(|turn| Arc::ptr_eq(turn, &ended.turn)) else { return };
            let is_last = at + 1 == slot.turns.len();
            slot.turns.remove(at);
            if is_changed {
                slot.watchers.touch();
            }
            tidy(&mut shard, key);
            let is_overtaken = ended.turn.overtaken.load(SeqCst);
            // Since the write queued nobody is given what the key held before it: who has read that is noted by now, or
            // sees that it is gone.
            let unheard = (is_changed || is_overtaken).then(|| self.tracking.take(key));
            let left = left.filter(|_| !is_overtaken);
            if is_last {
                put(key, left.as_ref());
            }
            (unheard, is_last, left)
        };
        match unheard {
            Some(unheard) if is_changed => {
                self.tracking.tell_changed(key, &unheard, ended.author.as_ref().map(|author| author.client));
            }
            Some(unheard) => self.tracking.tell_doubted(key, &unheard),
            None if is_last => left.iter().for_each(|entry| self.found(key, entry)),
            None => {}
        }
        self.tell_events(ended, is_changed);
        ended.turn.end(left);
    }

    /// Tells those who are subscribed to events what a write has done.
    fn tell_events(&self, ended: &WriteTurn, is_changed: bool) {
        match &ended.news {
            Some(news) => news.iter().for_each(|(key, event)| self.events.tell(key, event.name, &event.fields)),
            None if is_changed => self.events.changed(ended.key()),
            None => {}
        }
    }
}
