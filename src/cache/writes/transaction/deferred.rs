//! A transaction of which nothing has to go to the store now; most of these are heartbeats and renewals. Its steps are
//! computed from the records as they are, and put into the journal at once when they are committed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::outcome::{After, Left};
use super::steps::{Act, AllDone, Done, Step};
use super::{Asker, Work};
use crate::cache::source::Cached;
use crate::cache::write_behind::expiry::expiry_of;
use crate::cache::write_behind::journalling::Deferred;
use crate::cache::writes::expire::ExpireOutcome;
use crate::journal::Change;
use crate::keys::MappingId;
use crate::record::{Edit, ExpireCommand, Record, TtlChange, Written};
use crate::store::{self, StoreError};
use crate::telemetry::clock::Tick;

/// What the steps did, and what is to be journaled of it.
pub(super) struct Plan {
    done: AllDone,
    keys: HashMap<Bytes, Key>,
}

/// The state of one key between the steps.
struct Key {
    mapping: MappingId,
    plan: Arc<store::Plan>,
    record: Record,
    /// The milliseconds that it had to live before.
    left: Option<i64>,
    life: TtlChange,
    epoch: u64,
    begun: Tick,
    /// The number of the step that is done.
    step: usize,
    /// What is to be journaled, and of which step it is; of a field the last value.
    changes: Vec<(usize, Change)>,
}

impl Key {
    fn change(&mut self, change: Change) {
        self.changes.retain(|(_, earlier)| !change.replaces(earlier));
        self.changes.push((self.step, change));
    }

    /// When it expires from now on, where its row says so.
    fn change_ttl(&mut self, life: TtlChange) {
        self.life = life;
        if let Some(expiry) = expiry_of(life) {
            self.change(expiry);
            let left = if let TtlChange::Left(left) = life { Some(left) } else { None };
            self.record = self.record.clone().living(left);
        }
    }
}

impl Work {
    fn may_wait(&self) -> bool {
        let may_wait = |step: &Step| match &step.act {
            Act::Read => true,
            Act::ChangeTtl(_) => self.source().cached(step.mapping).is_some_and(Cached::expires_by_column),
            Act::Write(write) => self.source().cached(step.mapping).is_some_and(|cached| cached.may_wait(&write.edit)),
        };
        self.writer.write_behind.journal.is_some() && self.watched.is_empty() && self.steps.iter().all(may_wait)
    }

    /// What the steps do, if all of it may wait; `None` if the store must do something now: save it, or make or delete
    /// a row.
    ///
    /// # Errors
    /// The store's, of a key that is not in memory; [`StoreError::TooMuch`].
    pub(super) async fn plan(&self) -> Result<Option<Plan>, StoreError> {
        if !self.may_wait() {
            return Ok(None);
        }
        let mut keys = HashMap::with_capacity(self.turns.len());
        for turn in &self.turns {
            let Some(step) = self.steps.iter().find(|step| step.key == turn.key()) else { continue };
            let (cached, now) = (self.source().known(step.mapping)?, Tick::now());
            let (epoch, plan) = (cached.epoch(), cached.current.plan()?);
            plan.may_defer()?;
            let Some(record) = self.writer.known(cached, turn.key(), turn.present()).await? else {
                return Ok(None);
            };
            let begun = turn.present().map_or(now, |entry| entry.loaded_at);
            let (mapping, life, left) = (step.mapping, TtlChange::Keep, record.left);
            let key = Key { mapping, plan, record, left, life, epoch, begun, step: 0, changes: Vec::new() };
            keys.insert(turn.key().clone(), key);
        }
        let mut done = self.nothing_done();
        for (number, step) in self.steps.iter().enumerate() {
            let Some(key) = keys.get_mut(&step.key) else {
                done.push(Done::Read(self.glance(step).await?))?;
                continue;
            };
            key.step = number;
            let step_done = match &step.act {
                Act::Read => Some(Done::Read(Some(key.record.clone()))),
                Act::ChangeTtl(command) => {
                    change_ttl(self.source().known(key.mapping)?, key, command).map(Done::TtlChanged)
                }
                Act::Write(write) => self.write_deferred(key, &write.edit, write.life).transpose().map(Done::Written),
            };
            let Some(step_done) = step_done else { return Ok(None) };
            done.push(step_done)?;
        }
        Ok(Some(Plan { done, keys }))
    }

    /// A key that is only read. It is not waited for: whoever writes it may be waiting for us.
    async fn glance(&self, step: &Step) -> Result<Option<Record>, StoreError> {
        let (cached, before) = (self.source().known(step.mapping)?, self.writer.memory.peek(&step.key));
        self.writer.known(cached, &step.key, before.as_ref()).await
    }

    /// One write; `Ok(None)` when nothing is left of the key.
    fn write_deferred(&self, key: &mut Key, edit: &Edit, asked: TtlChange) -> Result<Option<Written>, StoreError> {
        let (cached, old) = (self.source().known(key.mapping)?, key.record.clone());
        cached.may_live(asked)?;
        let values = edit.changed(Some(&old)).map_err(StoreError::Value)?;
        let applied = values.is_some();
        let values = values.unwrap_or_default();
        for (field, value) in &values {
            if let Some(value) = value {
                key.plan.check(field, value)?;
            }
        }
        let changes: Vec<(&[u8], Option<&[u8]>)> =
            values.iter().map(|(field, value)| (&**field, value.as_deref())).collect();
        match old.with(&changes) {
            Some(record) => key.record = record,
            None => return Ok(None),
        }
        for (field, value) in values {
            key.change(Change::Field(field, value));
        }
        match cached.life_after(asked, false).filter(|_| applied) {
            Some(life) => key.change_ttl(life),
            None if applied && asked != TtlChange::Keep => key.life = asked,
            None => {}
        }
        let new = Some(key.record.clone());
        Ok(Some(Written { old: Some(old), new, applied, count: 0, tells_new: true }))
    }

    /// Journals what was planned, when it is to be committed.
    pub(super) async fn run_deferred(self, plan: Plan, asker: Asker) {
        let now = Tick::now();
        let writes = plan.done.iter().filter(|done| matches!(done, Done::Written(Ok(_)))).count();
        // This must be known before the upstream has done its part, which cannot be undone.
        if let Err(error) = self.writer.write_behind.has_room(changes(&plan.keys)) {
            let _left = asker.done.send(Err(error));
            return self.undo();
        }
        let (unchanged, news) = (self.unchanged(&plan.done), self.news(&plan.done));
        if asker.done.send(Ok(Some(plan.done))).is_err() || asker.verdict.await.is_err() {
            return self.undo();
        }
        match self.writer.write_behind.journal_all(changes(&plan.keys)).await {
            Ok(()) => {
                self.writer.write_behind.metrics.deferred.inc_by(writes as u64);
                self.hasten(&plan.keys).await;
                let after = |(name, key): (Bytes, Key)| {
                    let Key { mapping, record, life, epoch, begun, .. } = key;
                    (name, After { mapping, record: Some(record), life, epoch, begun, now })
                };
                let after = plan.keys.into_iter().map(after).collect();
                self.finish(Left { after, unchanged, news });
                let _left = asker.end.send(Ok(()));
            }
            Err(error) => {
                self.complain(&error);
                self.undo();
                let _left = asker.end.send(Err(error));
            }
        }
    }
}

impl Work {
    /// As [`Writer::hasten`](crate::cache::writes::Writer::hasten), of every key that was given another expiry.
    async fn hasten(&self, keys: &HashMap<Bytes, Key>) {
        let is_given = |key: &Key| key.changes.iter().any(|(_, change)| matches!(change, Change::Expiry(_)));
        for (name, key) in keys.iter().filter(|(_, key)| is_given(key)) {
            self.writer.hasten(name, key.left).await;
        }
    }
}

/// What is to be journaled of these keys, in the order of the steps: several keys may be one row.
fn changes(keys: &HashMap<Bytes, Key>) -> Vec<Deferred> {
    let of_key = |(name, key): (&Bytes, &Key)| {
        let deferred = |(step, change): &(usize, Change)| {
            (*step, Deferred { mapping: key.mapping, key: name.clone(), change: change.clone() })
        };
        key.changes.iter().map(deferred).collect::<Vec<_>>()
    };
    let mut changes: Vec<(usize, Deferred)> = keys.iter().flat_map(of_key).collect();
    changes.sort_by_key(|(step, _)| *step);
    changes.into_iter().map(|(_, deferred)| deferred).collect()
}

/// EXPIRE and related commands; `None` when the key expires at once.
fn change_ttl(cached: &Cached, key: &mut Key, command: &ExpireCommand) -> Option<ExpireOutcome> {
    let record = key.record.clone();
    let life = cached.life_of(command, record.left);
    match life {
        Ok(Some(TtlChange::Left(left))) if left <= 0 => return None,
        Ok(Some(life)) => key.change_ttl(life),
        _ => {}
    }
    Some(ExpireOutcome { record: Some(record), life })
}
