//! EXEC over cached keys: several writes and reads as one transaction of the store. It runs in its own task, which
//! rolls back unless it is told to commit.

mod attempt;
mod deferred;
mod outcome;
pub(in crate::cache) mod steps;
pub(in crate::cache) mod watched;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use outcome::Left;
use steps::{Act, AllDone, Step};
use watched::Watched;

use super::Writer;
use crate::cache::cause::Author;
use crate::cache::memory::loads::WriteTurn;
use crate::cache::memory::order::Touched;
use crate::cache::memory::own_writes::OwnWrite;
use crate::cache::source::{Cached, Source};
use crate::keys::MappingId;
use crate::store::{StoreError, StoreTransaction};
use crate::telemetry::client_memory::{Gathered, Holding};
use crate::telemetry::clock::Tick;

/// The results of the steps; `None` when a watched key has changed.
type Steps = Result<Option<AllDone>, StoreError>;

/// A transaction that has begun.
#[derive(Debug)]
pub struct OwnedTransaction {
    done: oneshot::Receiver<Steps>,
    verdict: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), StoreError>>,
}

/// A transaction whose steps have been done but not committed.
#[derive(Debug)]
pub struct Prepared {
    /// Their results.
    pub done: AllDone,
    verdict: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), StoreError>>,
}

fn given_up() -> StoreError {
    StoreError::Unavailable("the transaction was given up".into())
}

/// The one who asked for a transaction, as its task sees it.
struct Asker {
    /// Receives the results of the steps.
    done: oneshot::Sender<Steps>,
    /// Says that they are to be committed.
    verdict: oneshot::Receiver<()>,
    /// Receives whether they are committed.
    end: oneshot::Sender<Result<(), StoreError>>,
}

impl OwnedTransaction {
    fn new() -> (Self, Asker) {
        let ((done_sender, done), (verdict, verdict_receiver), (end, ended)) =
            (oneshot::channel(), oneshot::channel(), oneshot::channel());
        (Self { done, verdict, ended }, Asker { done: done_sender, verdict: verdict_receiver, end })
    }

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
    /// Commits the steps. When it is dropped instead, they are rolled back.
    ///
    /// # Errors
    /// [`StoreError::Ambiguous`] when the answer did not come.
    pub async fn commit(self) -> Result<AllDone, StoreError> {
        // A task that has ended by itself reports its result below.
        let _told = self.verdict.send(());
        self.ended.await.unwrap_or_else(|_| Err(StoreError::Ambiguous("the transaction was given up".into())))?;
        Ok(self.done)
    }
}

impl Writer {
    /// Begins a transaction, of which what is read and written counts for `client`. Its writes have queued when this
    /// returns: later reads of their keys wait for its end.
    pub(crate) fn begin(
        self: &Arc<Self>,
        steps: Vec<Step>,
        watched: Vec<Watched>,
        client: Arc<Holding>,
        author: &Arc<Author>,
    ) -> OwnedTransaction {
        let mut keys: Vec<Bytes> =
            steps.iter().filter(|s| !matches!(s.act, Act::Read)).map(|s| s.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut turns = self.memory.queue(&keys);
        turns.iter_mut().for_each(|turn| turn.author = Some(author.clone()));
        let work = Work { writer: self.clone(), steps, watched, turns, client };
        let (transaction, asker) = OwnedTransaction::new();
        self.runtime.spawn(work.run(asker));
        transaction
    }

    /// One that cannot be rolled back in time is dropped, which undoes it too.
    async fn roll_back(&self, transaction: StoreTransaction) {
        let _undone = tokio::time::timeout(self.memory.source.deadline, transaction.roll_back()).await;
    }
}

/// A transaction on its way: its steps, and the turns of the keys that it writes.
struct Work {
    writer: Arc<Writer>,
    steps: Vec<Step>,
    watched: Vec<Watched>,
    turns: Vec<WriteTurn>,
    client: Arc<Holding>,
}

impl Work {
    async fn run(mut self, asker: Asker) {
        self.writer.memory.handover.opened().await;
        for turn in &mut self.turns {
            turn.comes().await;
        }
        match self.plan().await {
            Ok(Some(plan)) => self.run_deferred(plan, asker).await,
            Ok(None) => self.run_through(asker).await,
            Err(error) => {
                let _left = asker.done.send(Err(error));
                self.undo();
            }
        }
    }

    /// One of which the store must do something now.
    async fn run_through(self, asker: Asker) {
        let keys: Vec<Bytes> = self.turns.iter().map(|turn| turn.key().clone()).collect();
        if let Err(error) = self.flush_before().await {
            let _left = asker.done.send(Err(error));
            return self.undo();
        }
        let (writer, memory) = (self.writer.clone(), self.writer.memory.clone());
        let own_write = memory.own_writes.begin(keys);
        let begun = Tick::now();
        let epochs: HashMap<MappingId, u64> = self.steps.iter().map(|s| (s.mapping, self.epoch(s.mapping))).collect();
        let prepared = tokio::time::timeout(memory.source.deadline, self.prepare(&own_write.text())).await;
        let (transaction, steps) = match prepared.unwrap_or_else(|_| Err(given_up())) {
            Ok(Some(prepared)) => prepared,
            other => {
                if let (Err(error), Some(cached)) = (&other, self.first()) {
                    memory.count_overload(cached, error);
                }
                memory.own_writes.end(own_write, Tick::now());
                self.undo();
                // The one who asked may have left.
                let _left = asker.done.send(other.map(|_| None));
                return;
            }
        };
        let (after, unchanged) = (self.after(&steps, begun, &epochs), self.unchanged(&steps));
        let left = Left { after, unchanged, news: self.news(&steps) };
        // What has been committed cannot be undone: room for the expiries is looked for first.
        let steps = self.may_live_on(&left.after).map(|()| Some(steps));
        let has_room = steps.is_ok();
        if asker.done.send(steps).is_err() || !has_room || asker.verdict.await.is_err() {
            memory.own_writes.end(own_write, Tick::now());
            self.undo();
            return writer.roll_back(transaction).await;
        }
        let ended = self.commit(transaction, own_write, left).await;
        let _left = asker.end.send(ended);
    }

    /// Saves what must not come after its writes: what waits for their keys, and what waits through other mappings of
    /// the same tables.
    async fn flush_before(&self) -> Result<(), StoreError> {
        for turn in &self.turns {
            self.writer.write_behind.flush_key(turn.key()).await?;
        }
        let writes = self.steps.iter().filter(|step| !matches!(step.act, Act::Read));
        for Step { mapping, key, act } in writes {
            let known = self.source().known(*mapping)?.mapping();
            let touched = || match act {
                Act::Write(write) => Touched::by(known, &write.edit),
                // One that ends at once is deleted.
                Act::ChangeTtl(_) | Act::Read => Touched::Everything,
            };
            self.writer.write_behind.flush_before(*mapping, key, touched).await?;
        }
        Ok(())
    }

    /// Commits what was prepared, and ends its writes, which left their keys so.
    async fn commit(
        self,
        transaction: StoreTransaction,
        own_write: OwnWrite,
        mut left: Left,
    ) -> Result<(), StoreError> {
        let memory = self.writer.memory.clone();
        let committed = tokio::time::timeout(memory.source.deadline, transaction.commit()).await;
        let mut ended = committed.unwrap_or_else(|_| Err(StoreError::Ambiguous("the commit took too long".into())));
        match ended {
            Ok(()) => ended = self.live_on(&mut left.after).await,
            Err(_) => memory.own_writes.disown(own_write),
        }
        if let Err(error) = &ended {
            self.complain(error);
            left = Left { after: HashMap::new(), unchanged: HashSet::new(), news: None };
        }
        self.finish(left);
        memory.own_writes.end(own_write, Tick::now());
        ended
    }

    /// The mapping in whose name it asks the store.
    fn first(&self) -> Option<&Cached> {
        let written = self.steps.iter().map(|step| step.mapping);
        let watched = self.watched.iter().map(|watched| watched.mapping);
        written.chain(watched).find_map(|mapping| self.source().cached(mapping))
    }

    /// Logs, now and then, that what was prepared has not been committed, though the upstream's part has run.
    fn complain(&self, error: &StoreError) {
        if let Some(cached) = self.first() {
            cached.complain("the store's part of a transaction failed", error);
        }
    }

    fn epoch(&self, mapping: MappingId) -> u64 {
        self.source().cached(mapping).map_or(0, Cached::epoch)
    }

    /// No results yet.
    fn nothing_done(&self) -> AllDone {
        AllDone::new(Gathered::new(self.client.clone()))
    }

    fn source(&self) -> &Source {
        &self.writer.memory.source
    }

    /// Nothing has been written, and nothing will be.
    fn undo(self) {
        for turn in self.turns {
            self.writer.memory.undo(turn);
        }
    }
}
