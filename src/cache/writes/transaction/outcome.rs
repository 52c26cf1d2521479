//! What the keys that a transaction writes hold once it is committed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::Work;
use super::steps::{Act, Done, Step};
use crate::cache::memory::key_events::News;
use crate::cache::write_behind::journalling::Deferred;
use crate::cache::writes::expire::{ExpireOutcome, Lasting};
use crate::keys::MappingId;
use crate::record::{Record, TtlChange};
use crate::store::StoreError;
use crate::telemetry::clock::Tick;

/// What a transaction leaves once it is committed.
pub(super) struct Left {
    pub(super) after: HashMap<Bytes, After>,
    /// The keys of which no step has changed anything.
    pub(super) unchanged: HashSet<Bytes>,
    pub(super) news: News,
}

/// What a key holds after a transaction.
pub(super) struct After {
    pub(super) mapping: MappingId,
    pub(super) record: Option<Record>,
    pub(super) life: TtlChange,
    pub(super) epoch: u64,
    /// Since when it is known.
    pub(super) begun: Tick,
    /// From when what is left of its life is counted.
    pub(super) now: Tick,
}

impl Work {
    /// What each written key holds once this is committed, where that is known.
    pub(super) fn after(&self, done: &[Done], begun: Tick, epochs: &HashMap<MappingId, u64>) -> HashMap<Bytes, After> {
        let mut after: HashMap<Bytes, After> = HashMap::new();
        for (step, done) in self.steps.iter().zip(done) {
            let epoch = epochs.get(&step.mapping).copied().unwrap_or(0);
            let new = |record, life| After { mapping: step.mapping, record, life, epoch, begun, now: begun };
            match (&step.act, done) {
                (Act::Write(write), Done::Written(Ok(written))) if written.tells_new => {
                    let asked = if written.applied { write.life } else { TtlChange::Keep };
                    let kept = after
                        .get(&step.key)
                        .filter(|_| written.old.is_some())
                        .map_or(TtlChange::Keep, |known| known.life);
                    let after_write =
                        self.source().cached(step.mapping).and_then(|c| c.life_after(asked, written.old.is_none()));
                    let life = after_write.unwrap_or(if asked == TtlChange::Keep { kept } else { asked });
                    // A key that is gone has no expiry.
                    let life = if written.new.is_some() { life } else { TtlChange::Keep };
                    after.insert(step.key.clone(), new(written.new.clone(), life));
                }
                (Act::ChangeTtl(_), Done::TtlChanged(ExpireOutcome { record, life: Ok(Some(life)) })) => {
                    let ended = matches!(life, TtlChange::Left(left) if *left <= 0);
                    let (record, life) = if ended { (None, TtlChange::Keep) } else { (record.clone(), *life) };
                    after.insert(step.key.clone(), new(record, life));
                }
                (Act::ChangeTtl(_), Done::TtlChanged(ExpireOutcome { record, .. })) => {
                    let known = after.get(&step.key).filter(|_| record.is_some());
                    let kept = known.map_or(TtlChange::Keep, |known| known.life);
                    after.insert(step.key.clone(), new(record.clone(), kept));
                }
                (Act::Write(..), Done::Written(Ok(_))) => drop(after.remove(&step.key)),
                _ => {}
            }
        }
        after
    }

    /// The keys of which no step has changed anything.
    pub(super) fn unchanged(&self, done: &[Done]) -> HashSet<Bytes> {
        let mut unchanged: HashSet<Bytes> = self.turns.iter().map(|turn| turn.key().clone()).collect();
        for (step, _) in self.steps.iter().zip(done).filter(|(step, done)| done.has_changed(&step.act)) {
            unchanged.remove(&step.key);
        }
        unchanged
    }

    /// What is told of the steps once they are committed, in their order.
    pub(super) fn news(&self, done: &[Done]) -> News {
        let of_step = |(step, done): (&Step, &Done)| {
            let key = step.key.clone();
            done.events(&step.act).into_iter().map(move |event| (key.clone(), event))
        };
        self.writer.memory.is_heard().then(|| self.steps.iter().zip(done).flat_map(of_step).collect())
    }

    /// What is to be journaled of when the written keys expire, where a column says so: in the order of their last
    /// steps, because several keys may be one row.
    pub(super) fn expiries(&self, after: &HashMap<Bytes, After>) -> Vec<Deferred> {
        let expiry = |(key, after): (&Bytes, &After)| {
            self.writer.write_behind.expiry(self.source().cached(after.mapping)?, key, after.life)
        };
        let mut expiries: Vec<Deferred> = after.iter().filter_map(expiry).collect();
        let is_write = |step: &&Step| !matches!(step.act, Act::Read);
        let writes: Vec<&Bytes> = self.steps.iter().filter(is_write).map(|step| &step.key).collect();
        expiries.sort_by_key(|expiry| writes.iter().rposition(|key| **key == expiry.key));
        expiries
    }

    /// Sees whether what is to be journaled then can be, and saved.
    ///
    /// # Errors
    /// [`StoreError::Journal`].
    pub(super) fn may_live_on(&self, after: &HashMap<Bytes, After>) -> Result<(), StoreError> {
        let expiries = self.expiries(after);
        expiries.iter().try_for_each(|expiry| self.source().known(expiry.mapping)?.may_defer())?;
        self.writer.write_behind.has_room(expiries)
    }

    /// Journals when the written keys expire, now that their values are committed.
    ///
    /// # Errors
    /// As [`Writer::live_on`](crate::cache::writes::Writer::live_on).
    pub(super) async fn live_on(&self, after: &mut HashMap<Bytes, After>) -> Result<(), StoreError> {
        let expiries = self.expiries(after);
        let is_given = |key: &Bytes| expiries.iter().any(|expiry| expiry.key == key);
        let given = after.iter_mut().filter(|(key, _)| is_given(key));
        let mut keys: Vec<Lasting<'_>> = given.map(|(key, After { record, .. })| Lasting { key, record }).collect();
        self.writer.live_on(expiries.clone(), &mut keys).await?;
        // Of one that had ended in the store by then, only the store knows what it holds.
        after.retain(|key, after| after.record.is_some() || !is_given(key));
        Ok(())
    }

    /// Ends the writes; memory then holds what was committed, where that is known. What is told of them comes behind
    /// the last of them, when all can be read: others who write one of these keys have not ended by then, because the
    /// store or the journal must answer them first.
    pub(super) fn finish(self, left: Left) {
        let Left { mut after, unchanged, mut news } = left;
        let last = self.turns.len().saturating_sub(1);
        for (at, mut turn) in self.turns.into_iter().enumerate() {
            turn.news = match &mut news {
                Some(_) if at < last => Some(Vec::new()),
                news => news.take(),
            };
            let left = after.remove(turn.key()).and_then(|After { mapping, record, life, epoch, begun, now }| {
                let span = &self.writer.memory.source.cached(mapping)?.life;
                let entry = span.entry_at(record, mapping, epoch, begun, now);
                Some(Arc::new(span.replacing(entry, turn.before.as_deref(), life, now)))
            });
            match unchanged.contains(turn.key()) {
                true => self.writer.memory.end_unchanged(turn, left),
                false => self.writer.memory.end(turn, left),
            }
        }
    }
}
