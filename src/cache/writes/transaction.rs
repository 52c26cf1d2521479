//! Several writes and reads as one transaction of the store: EXEC. It runs in a task of its own, which rolls back when
//! nobody tells it to commit.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::steps::{Act, AllDone, Done, Step};
use super::watched::Watched;
use crate::cache::memory::loads::WriteTurn;
use crate::cache::write_behind::expiry::Ended;
use crate::cache::{Cache, Cached};
use crate::record::{Edit, ExpireCommand, Record, TtlChange, Written};
use crate::store::{StoreError, StoreTransaction};
use crate::telemetry::clock::now_ms;
use crate::telemetry::holding::{Gathered, Holding};

/// How the steps went: `None` when a watched key has changed.
pub(crate) type Steps = Result<Option<AllDone>, StoreError>;

/// A batch that has begun.
#[derive(Debug)]
pub struct OwnedTransaction {
    done: oneshot::Receiver<Steps>,
    verdict: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), StoreError>>,
}

/// A batch whose steps have been done and are not true yet.
#[derive(Debug)]
pub struct Prepared {
    /// How they went.
    pub done: AllDone,
    verdict: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), StoreError>>,
}

fn given_up() -> StoreError {
    StoreError::Unavailable("the transaction was given up".into())
}

impl OwnedTransaction {
    /// Waits until every step has been done; `None` when a watched key has changed.
    ///
    /// # Errors
    /// The store's, after which nothing has been done.
    pub async fn prepared(self) -> Result<Option<Prepared>, StoreError> {
        let done = self.done.await.unwrap_or_else(|_| Err(given_up()))?;
        Ok(done.map(|done| Prepared { done, verdict: self.verdict, ended: self.ended }))
    }
}

impl Prepared {
    /// Makes the steps true. Dropped instead, they never happened.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] when the answer did not come.
    pub async fn commit(self) -> Result<AllDone, StoreError> {
        // A task that has ended by itself tells its end below.
        let _told = self.verdict.send(());
        self.ended.await.unwrap_or_else(|_| Err(StoreError::Ambiguous("the transaction was given up".into())))?;
        Ok(self.done)
    }
}

/// What a key holds after a batch.
pub(crate) struct After {
    pub(crate) mapping: usize,
    pub(crate) record: Option<Record>,
    pub(crate) life: TtlChange,
    pub(crate) epoch: u64,
    /// Since when it is known.
    pub(crate) begun: u64,
    /// When what is left of its life was told.
    pub(crate) now: u64,
}

/// A transaction that others were in the way of has done nothing and begins again, so often.
const ATTEMPTS: usize = 5;

impl Cache {
    /// Begins a batch, of which what is read and written counts for `client`. Its writes have queued when this returns: later
    /// reads of their keys wait for its end.
    pub fn batch(
        self: &Arc<Self>,
        steps: Vec<Step>,
        mut watched: Vec<Watched>,
        client: Arc<Holding>,
    ) -> OwnedTransaction {
        // Before its own writes queue, which is something that happens to their keys.
        watched.iter_mut().for_each(Watched::look);
        let mut keys: Vec<Bytes> =
            steps.iter().filter(|s| !matches!(s.act, Act::Read)).map(|s| s.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let rights = self.flights.queue(&keys, |key| self.shelf.take(key));
        let ((done, told), (verdict, heard), (end, ended)) =
            (oneshot::channel(), oneshot::channel(), oneshot::channel());
        let work = Work { cache: self.clone(), steps, watched, rights, client };
        self.runtime.spawn(work.run(done, heard, end));
        OwnedTransaction { done: told, verdict, ended }
    }

    /// One that cannot be rolled back in time is dropped, which undoes it too.
    async fn roll_back(&self, transaction: StoreTransaction) {
        let _undone = tokio::time::timeout(self.deadline, transaction.roll_back()).await;
    }
}

pub(crate) struct Work {
    pub(crate) cache: Arc<Cache>,
    pub(crate) steps: Vec<Step>,
    pub(crate) watched: Vec<Watched>,
    pub(crate) rights: Vec<WriteTurn>,
    client: Arc<Holding>,
}

impl Work {
    async fn run(
        mut self,
        done: oneshot::Sender<Steps>,
        verdict: oneshot::Receiver<()>,
        end: oneshot::Sender<Result<(), StoreError>>,
    ) {
        self.cache.gate.opened().await;
        for right in &mut self.rights {
            self.cache.take_turn(right).await;
        }
        match self.plan().await {
            Ok(Some(plan)) => return self.run_later(plan, done, verdict, end).await,
            Ok(None) => {}
            Err(error) => {
                let _left = done.send(Err(error));
                return self.undo();
            }
        }
        let keys: Vec<Bytes> = self.rights.iter().map(|right| right.key().clone()).collect();
        for key in &keys {
            if let Err(error) = self.cache.flush_key(key).await {
                let _left = done.send(Err(error));
                return;
            }
        }
        let origin = self.cache.origins.begin(keys);
        let begun = now_ms();
        let epochs: HashMap<usize, u64> = self.steps.iter().map(|s| (s.mapping, self.epoch(s.mapping))).collect();
        let prepared = tokio::time::timeout(self.cache.deadline, self.prepare(&origin.text())).await;
        let (transaction, steps) = match prepared.unwrap_or_else(|_| Err(given_up())) {
            Ok(Some(prepared)) => prepared,
            other => {
                self.cache.origins.end(origin, now_ms());
                self.undo();
                // Whoever asked may have left.
                let _left = done.send(other.map(|_| None));
                return;
            }
        };
        let mut after = self.after(&steps, begun, &epochs);
        if done.send(Ok(Some(steps))).is_err() || verdict.await.is_err() {
            self.cache.origins.end(origin, now_ms());
            let cache = self.cache.clone();
            self.undo();
            return cache.roll_back(transaction).await;
        }
        let committed = tokio::time::timeout(self.cache.deadline, transaction.commit()).await;
        let committed = committed.unwrap_or_else(|_| Err(StoreError::Ambiguous("the commit took too long".into())));
        if committed.is_ok() {
            self.live_on(&mut after).await;
        } else {
            self.cache.origins.disown(origin);
            after.clear();
        }
        let cache = self.cache.clone();
        self.finish(after);
        cache.origins.end(origin, now_ms());
        let _left = end.send(committed);
    }

    fn epoch(&self, mapping: usize) -> u64 {
        self.cache.cached(mapping).map_or(0, Cached::epoch)
    }

    /// What became of no step yet.
    pub(crate) fn nothing_done(&self) -> AllDone {
        AllDone::new(Gathered::new(self.client.clone()))
    }

    /// Does every step; `None` when a watched key has changed.
    async fn prepare(&self, origin: &str) -> Result<Option<(StoreTransaction, AllDone)>, StoreError> {
        let snapshot = !self.watched.is_empty();
        for attempt in 1.. {
            match self.attempt(origin, snapshot).await {
                // What was watched was changed between the look at it and the write.
                Err(StoreError::Conflict) if snapshot => return Ok(None),
                Err(StoreError::Conflict) if attempt < ATTEMPTS => {}
                other => return other,
            }
        }
        Ok(None)
    }

    async fn attempt(&self, origin: &str, snapshot: bool) -> Result<Option<(StoreTransaction, AllDone)>, StoreError> {
        let mut transaction = self.cache.store.begin(origin, snapshot).await?;
        for watched in &self.watched {
            let now = self.load(&mut transaction, watched.mapping, &watched.key).await?;
            if watched.has_changed(&self.cache, now.as_ref()) {
                self.cache.roll_back(transaction).await;
                return Ok(None);
            }
        }
        let (mut done, mut lives) = (self.nothing_done(), HashMap::new());
        for step in &self.steps {
            done.push(match &step.act {
                Act::Read => Done::Read(self.load(&mut transaction, step.mapping, &step.key).await?),
                Act::Live(lifetime) => Done::Lived(self.live(&mut transaction, step, lifetime, &mut lives).await?),
                Act::Write(edit, life) => match self.write(&mut transaction, step, edit).await {
                    Err(error) if error.is_final() => return Err(error),
                    written => {
                        self.note_life(step, &written, *life, &mut lives);
                        Done::Written(written)
                    }
                },
            })?;
        }
        Ok(Some((transaction, done)))
    }

    /// What a write makes of a key's end, for the commands behind it.
    fn note_life(
        &self,
        step: &Step,
        written: &Result<Written, StoreError>,
        asked: TtlChange,
        lives: &mut HashMap<Bytes, Option<i64>>,
    ) {
        let (Ok(written), Ok(cached)) = (written, self.cached(step.mapping)) else { return };
        match cached.life_after(asked, written.old.is_none()).filter(|_| written.applied) {
            _ if written.new.is_none() => drop(lives.remove(&step.key)),
            Some(TtlChange::Left(left)) => drop(lives.insert(step.key.clone(), Some(left))),
            Some(TtlChange::Persist) => drop(lives.insert(step.key.clone(), None)),
            Some(TtlChange::Keep) | None => {}
        }
    }

    /// EXPIRE and its kin on what the transaction sees; `lives` are the ends that it has given already.
    async fn live(
        &self,
        open: &mut StoreTransaction,
        step: &Step,
        lifetime: &ExpireCommand,
        lives: &mut HashMap<Bytes, Option<i64>>,
    ) -> Result<Ended, StoreError> {
        let Some(record) = self.load(open, step.mapping, &step.key).await? else {
            return Ok(Ended { record: None, life: Ok(None) });
        };
        let left = lives.get(&step.key).copied().unwrap_or(record.left);
        let life = lifetime.of_left(left);
        match &life {
            Ok(Some(TtlChange::Left(left))) if *left <= 0 => {
                self.write(open, step, &Edit::Delete).await?;
                lives.remove(&step.key);
            }
            Ok(Some(TtlChange::Left(left))) => drop(lives.insert(step.key.clone(), Some(*left))),
            Ok(Some(TtlChange::Persist)) => drop(lives.insert(step.key.clone(), None)),
            _ => {}
        }
        Ok(Ended { record: Some(record), life })
    }

    async fn write(&self, open: &mut StoreTransaction, step: &Step, edit: &Edit) -> Result<Written, StoreError> {
        let cached = self.cached(step.mapping)?;
        open.write(&cached.plan, &step.key, edit).await
    }

    async fn load(
        &self,
        open: &mut StoreTransaction,
        mapping: usize,
        key: &Bytes,
    ) -> Result<Option<Record>, StoreError> {
        let cached = self.cached(mapping)?;
        // Of the keys that are written nothing waits; of those that are only read it may.
        let record = open.load(&cached.plan, key).await?;
        Ok(self.cache.overlay.over(key, record))
    }

    pub(crate) fn cached(&self, mapping: usize) -> Result<&Cached, StoreError> {
        self.cache.known_mapping(mapping)
    }

    /// What each written key holds once this is true, where that is known.
    fn after(&self, done: &[Done], begun: u64, epochs: &HashMap<usize, u64>) -> HashMap<Bytes, After> {
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
                        self.cache.cached(step.mapping).and_then(|c| c.life_after(asked, written.old.is_none()));
                    let life = after_write.unwrap_or(if asked == TtlChange::Keep { kept } else { asked });
                    after.insert(step.key.clone(), new(written.new.clone(), life));
                }
                (Act::Live(_), Done::Lived(Ended { record, life: Ok(Some(life)) })) => {
                    let ended = matches!(life, TtlChange::Left(left) if *left <= 0);
                    after.insert(step.key.clone(), new(record.clone().filter(|_| !ended), *life));
                }
                (Act::Live(_), Done::Lived(Ended { record, .. })) => {
                    let kept = after.get(&step.key).map_or(TtlChange::Keep, |known| known.life);
                    after.insert(step.key.clone(), new(record.clone(), kept));
                }
                (Act::Write(..), Done::Written(Ok(_))) => drop(after.remove(&step.key)),
                _ => {}
            }
        }
        after
    }

    /// Journals when the written keys end, where a column says so.
    async fn live_on(&self, after: &mut HashMap<Bytes, After>) {
        for (key, After { mapping, record, life, .. }) in after {
            let Some(cached) = self.cache.cached(*mapping).filter(|_| record.is_some() && self.cache.ends(*mapping))
            else {
                continue;
            };
            if let Err(error) = self.cache.journal_life(cached, key, *life).await {
                tracing::warn!(%error, mapping = cached.mapping.pattern.text(), "a transaction was written, when its keys end was not");
            }
            *record = self.cache.overlay.over(key, record.take());
        }
    }

    /// Nothing has been written, and nothing will be.
    pub(crate) fn undo(self) {
        for mut right in self.rights {
            let before = right.before.take();
            self.cache.end(right, before);
        }
    }

    /// Ends the writes; memory holds what is true afterwards, where that is known.
    pub(crate) fn finish(self, mut after: HashMap<Bytes, After>) {
        for right in self.rights {
            let left = after.remove(right.key()).and_then(|After { mapping, record, life, epoch, begun, now }| {
                let span = &self.cache.cached(mapping)?.life;
                let entry = span.entry_at(record, mapping, epoch, begun, now);
                Some(Arc::new(span.replacing(entry, right.before.as_deref(), life, now)))
            });
            self.cache.end(right, left);
        }
    }
}
