//! A transaction of which nothing has to go to the store now: heartbeats and renewals, most of them. Its steps are computed
//! from the records as they are, and journaled at once when they are to be true.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::deferred::Wait;
use super::expiry::{ENDS, Ended, ends_at};
use crate::cache::writes::steps::{Act, AllDone, Done, Step};
use crate::cache::writes::transaction::{After, Steps, Work};
use crate::record::{Edit, ExpireCommand, Record, TtlChange, Written};
use crate::store::StoreError;
use crate::telemetry::clock::now_ms;

/// What the steps did, and what is to be journaled of it.
pub(crate) struct Plan {
    done: AllDone,
    keys: HashMap<Bytes, Key>,
}

/// One key on its way through the steps.
struct Key {
    mapping: usize,
    record: Record,
    life: TtlChange,
    epoch: u64,
    begun: u64,
    /// The last value of each field.
    waits: Vec<(Bytes, Option<Bytes>)>,
}

impl Key {
    fn wait(&mut self, field: Bytes, value: Option<Bytes>) {
        self.waits.retain(|(known, _)| *known != field);
        self.waits.push((field, value));
    }

    /// When it ends from now on, where its row says so.
    fn live(&mut self, life: TtlChange) {
        self.life = life;
        if let Some(value) = ends_at(life) {
            self.wait(Bytes::from_static(ENDS), value);
            let left = if let TtlChange::Left(left) = life { Some(left) } else { None };
            self.record = self.record.clone().living(left);
        }
    }
}

impl Work {
    fn may_wait(&self) -> bool {
        let may_wait = |step: &Step| match &step.act {
            Act::Read => true,
            Act::Live(_) => self.cache.ends(step.mapping),
            Act::Write(edit, _) => self.cache.cached(step.mapping).is_some_and(|cached| cached.may_wait(edit)),
        };
        self.cache.journal.is_some() && self.watched.is_empty() && self.steps.iter().all(may_wait)
    }

    /// What the steps do, if all of it may wait; `None` if the store must be told now, or has to make or delete a row.
    ///
    /// # Errors
    /// The store's, of a key that is not in memory; [`StoreError::TooMuch`].
    pub(crate) async fn plan(&self) -> Result<Option<Plan>, StoreError> {
        if !self.may_wait() {
            return Ok(None);
        }
        let mut keys = HashMap::with_capacity(self.rights.len());
        for right in &self.rights {
            let Some(step) = self.steps.iter().find(|step| step.key == right.key()) else { continue };
            let (cached, now) = (self.cached(step.mapping)?, now_ms());
            let epoch = cached.epoch();
            let Some(record) = self.cache.known(cached, right.key(), right.before.as_ref()).await? else {
                return Ok(None);
            };
            let begun = right.before.as_ref().map_or(now, |entry| entry.loaded_at);
            let key = Key { mapping: step.mapping, record, life: TtlChange::Keep, epoch, begun, waits: Vec::new() };
            keys.insert(right.key().clone(), key);
        }
        let mut done = self.nothing_done();
        for step in &self.steps {
            let Some(key) = keys.get_mut(&step.key) else {
                done.push(Done::Read(self.glance(step).await?))?;
                continue;
            };
            let step_done = match &step.act {
                Act::Read => Some(Done::Read(Some(key.record.clone()))),
                Act::Live(lifetime) => live(key, lifetime).map(Done::Lived),
                Act::Write(edit, life) => self.write_later(key, edit, *life).transpose().map(Done::Written),
            };
            let Some(step_done) = step_done else { return Ok(None) };
            done.push(step_done)?;
        }
        Ok(Some(Plan { done, keys }))
    }

    /// A key that is only read. It is not waited for: whoever writes it may be waiting for us.
    async fn glance(&self, step: &Step) -> Result<Option<Record>, StoreError> {
        let (cached, before) = (self.cached(step.mapping)?, self.cache.shelf.get(&step.key));
        self.cache.known(cached, &step.key, before.as_ref()).await
    }

    /// One write; `Ok(None)` when nothing is left of the key.
    fn write_later(&self, key: &mut Key, edit: &Edit, asked: TtlChange) -> Result<Option<Written>, StoreError> {
        let (cached, old) = (self.cached(key.mapping)?, key.record.clone());
        let values = edit.changed(Some(&old)).map_err(StoreError::Value)?;
        let applied = values.is_some();
        let values = values.unwrap_or_default();
        for (field, value) in &values {
            if let Some(value) = value {
                cached.plan.check(field, value)?;
            }
        }
        let changes: Vec<(&[u8], Option<&[u8]>)> =
            values.iter().map(|(field, value)| (&**field, value.as_deref())).collect();
        match old.with(&changes) {
            Some(record) => key.record = record,
            None => return Ok(None),
        }
        for (field, value) in values {
            key.wait(field, value);
        }
        match cached.life_after(asked, false).filter(|_| applied) {
            Some(life) => key.live(life),
            None if applied && asked != TtlChange::Keep => key.life = asked,
            None => {}
        }
        let new = Some(key.record.clone());
        Ok(Some(Written { old: Some(old), new, applied, count: 0, tells_new: true }))
    }

    /// Journals what was planned, when it is to be true.
    pub(crate) async fn run_later(
        self,
        plan: Plan,
        done: oneshot::Sender<Steps>,
        verdict: oneshot::Receiver<()>,
        end: oneshot::Sender<Result<(), StoreError>>,
    ) {
        let now = now_ms();
        let writes = plan.done.iter().filter(|done| matches!(done, Done::Written(Ok(_)))).count();
        // Known before the upstream has done its part, which nothing takes back.
        if let Err(error) = self.room(&plan.keys) {
            let _left = done.send(Err(error));
            return self.undo();
        }
        if done.send(Ok(Some(plan.done))).is_err() || verdict.await.is_err() {
            return self.undo();
        }
        match self.journal(&plan.keys).await {
            Ok(()) => {
                self.cache.metrics.deferred.inc_by(writes as u64);
                let after = |(name, key): (Bytes, Key)| {
                    let Key { mapping, record, life, epoch, begun, .. } = key;
                    (name, After { mapping, record: Some(record), life, epoch, begun, now })
                };
                self.finish(plan.keys.into_iter().map(after).collect());
                let _left = end.send(Ok(()));
            }
            Err(error) => {
                self.undo();
                let _left = end.send(Err(error));
            }
        }
    }

    /// Puts every key's last values into the journal, all or none, and over what is loaded from now on.
    async fn journal(&self, keys: &HashMap<Bytes, Key>) -> Result<(), StoreError> {
        let Some(journal) = &self.cache.journal else { return Ok(()) };
        self.cache.journal_all(journal, waits(keys)).await
    }

    /// Sees whether the journal has room for it now.
    fn room(&self, keys: &HashMap<Bytes, Key>) -> Result<(), StoreError> {
        let Some(journal) = &self.cache.journal else { return Ok(()) };
        Ok(journal.would_take(&self.cache.entries(waits(keys))?)?)
    }
}

/// What is to be journaled of these keys.
fn waits(keys: &HashMap<Bytes, Key>) -> Vec<Wait> {
    let waits = |(name, key): (&Bytes, &Key)| {
        let wait = |(field, value): &(Bytes, Option<Bytes>)| (key.mapping, name.clone(), field.clone(), value.clone());
        key.waits.iter().map(wait).collect::<Vec<_>>()
    };
    keys.iter().flat_map(waits).collect()
}

/// EXPIRE and its kin; `None` when the key ends at once.
fn live(key: &mut Key, lifetime: &ExpireCommand) -> Option<Ended> {
    let record = key.record.clone();
    let life = lifetime.of_left(record.left);
    match life {
        Ok(Some(TtlChange::Left(left))) if left <= 0 => return None,
        Ok(Some(life)) => key.live(life),
        _ => {}
    }
    Some(Ended { record: Some(record), life })
}
