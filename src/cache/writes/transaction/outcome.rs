//! What the keys that a transaction writes hold once it is committed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::Work;
use super::steps::{Act, Done};
use crate::cache::writes::expire::ExpireOutcome;
use crate::keys::MappingId;
use crate::record::{Record, TtlChange};
use crate::telemetry::clock::Tick;

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
                (Act::Write(_, asked), Done::Written(Ok(written))) if written.tells_new => {
                    let asked = if written.applied { *asked } else { TtlChange::Keep };
                    let kept = after
                        .get(&step.key)
                        .filter(|_| written.old.is_some())
                        .map_or(TtlChange::Keep, |known| known.life);
                    let after_write =
                        self.source().cached(step.mapping).and_then(|c| c.life_after(asked, written.old.is_none()));
                    let life = after_write.unwrap_or(if asked == TtlChange::Keep { kept } else { asked });
                    after.insert(step.key.clone(), new(written.new.clone(), life));
                }
                (Act::ChangeTtl(_), Done::TtlChanged(ExpireOutcome { record, life: Ok(Some(life)) })) => {
                    let ended = matches!(life, TtlChange::Left(left) if *left <= 0);
                    after.insert(step.key.clone(), new(record.clone().filter(|_| !ended), *life));
                }
                (Act::ChangeTtl(_), Done::TtlChanged(ExpireOutcome { record, .. })) => {
                    let kept = after.get(&step.key).map_or(TtlChange::Keep, |known| known.life);
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

    /// Journals when the written keys expire, where a column says so.
    pub(super) async fn live_on(&self, after: &mut HashMap<Bytes, After>) {
        for (key, After { mapping, record, life, .. }) in after {
            let Some(cached) = self.source().cached(*mapping).filter(|c| record.is_some() && c.expires_by_column())
            else {
                continue;
            };
            if let Err(error) = self.writer.write_behind.journal_life(cached, key, *life).await {
                tracing::warn!(%error, mapping = cached.name(), "a transaction was written, when its keys end was not");
            }
            *record = self.writer.memory.overlay.over(key, record.take());
        }
    }

    /// Ends the writes; memory then holds what was committed, where that is known.
    pub(super) fn finish(self, mut after: HashMap<Bytes, After>, unchanged: &HashSet<Bytes>) {
        for turn in self.turns {
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
