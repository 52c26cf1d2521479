//! The one task that writes the journal: all appends that wait are one commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::file::File;
use super::{Entry, JournalError};
use crate::config::JournalSync;
use crate::telemetry::LogThrottle;

type Done<T> = oneshot::Sender<Result<T, JournalError>>;

/// Something to be written.
pub(super) enum Order {
    /// The first is answered with the weight of what was replaced, the others with 0.
    Append(Vec<Entry>, Vec<Done<u64>>),
    Take(Taken, Done<()>),
    /// Answered with the weight of what was freed.
    Applied(u64, Done<u64>),
    GiveBack(u64, Done<()>),
    Remember(Vec<(String, String)>, Done<()>),
    /// An heir asks the store for what the file's incarnation left.
    Announce(Arc<str>, Done<()>),
    /// What waits is this incarnation's.
    Succeed(Arc<str>, Done<()>),
    /// Answered with the weight of what was freed, and of what lies aside instead.
    PutAside(Vec<u64>, String, Done<(u64, u64)>),
}

/// What a flush takes.
pub(super) struct Taken {
    pub(super) incarnation: Arc<str>,
    pub(super) batch: u64,
    pub(super) seqs: Vec<u64>,
}

pub(super) struct Writer {
    pub(super) file: File,
    pub(super) sync: JournalSync,
    /// A file that cannot be written makes every order fail.
    pub(super) faults: LogThrottle,
}

/// Most orders of one commit.
const MOST: usize = 4096;

impl Writer {
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                // Nobody is left to order anything.
                n = orders.recv_many(&mut waiting, MOST) => if n == 0 { break },
                _ = second.tick(), if self.sync == JournalSync::Everysec => self.sync_now().await,
            }
            if !waiting.is_empty() {
                gather(&mut waiting, &mut orders).await;
                self.commit(merged(waiting)).await;
            }
        }
        self.sync_now().await;
    }

    async fn sync_now(&mut self) {
        if let Err(error) = self.file.sync().await
            && let Some(unlogged) = self.faults.due()
        {
            tracing::error!(
                %error,
                unlogged,
                "the journal cannot be synced: deferred writes of the last second are not on disk"
            );
        }
    }

    /// One commit for all that waits; where a part cannot be written, nothing is.
    async fn commit(&mut self, orders: Vec<Order>) {
        let mut answers: Vec<Answer> = Vec::with_capacity(orders.len());
        // What is sent to the store is known on disk before, also where a second of writes may be lost.
        let is_sent = |order: &Order| matches!(order, Order::Take(..) | Order::Announce(..) | Order::Succeed(..));
        let takes = self.sync == JournalSync::Everysec && orders.iter().any(is_sent);
        let mut written = match takes {
            true => self.file.sync_commits(true).await,
            false => Ok(()),
        };
        if written.is_ok() {
            written = self.file.begin().await;
        }
        for order in orders {
            let (answer, fault) = self.carry_out(order, written.is_ok()).await;
            answers.push(answer);
            written = written.and(fault);
        }
        let committed = match written {
            Ok(()) => self.file.commit().await,
            Err(error) => Err(error),
        };
        if let Err(error) = &committed {
            if let Some(unlogged) = self.faults.due() {
                tracing::error!(%error, unlogged, "the journal cannot be written: deferred writes are refused");
            }
            self.file.rollback().await;
        }
        if takes && let Err(error) = self.file.sync_commits(false).await {
            tracing::warn!(%error, "the journal goes on to sync every commit");
        }
        answers.into_iter().for_each(|answer| answer(&committed));
    }

    async fn carry_out(&mut self, order: Order, goes_on: bool) -> (Answer, Result<(), JournalError>) {
        if !goes_on {
            return match order {
                Order::Append(_, all) => tell_all(Ok(0), all),
                Order::Applied(_, done) => tell(Ok(0), done),
                Order::PutAside(_, _, done) => tell(Ok((0, 0)), done),
                Order::Take(_, done) | Order::GiveBack(_, done) | Order::Remember(_, done) => tell(Ok(()), done),
                Order::Announce(_, done) | Order::Succeed(_, done) => tell(Ok(()), done),
            };
        }
        match order {
            Order::Append(entries, all) => tell_all(self.file.append(entries).await, all),
            Order::Take(Taken { incarnation, batch, seqs }, done) => {
                tell(self.file.take(&incarnation, batch, &seqs).await, done)
            }
            Order::Applied(batch, done) => tell(self.file.applied(batch).await, done),
            Order::GiveBack(batch, done) => tell(self.file.give_back(batch).await, done),
            Order::Remember(columns, done) => tell(self.file.remember(&columns).await, done),
            Order::Announce(heir, done) => tell(self.file.announce(&heir).await, done),
            Order::Succeed(heir, done) => tell(self.file.succeed(&heir).await, done),
            Order::PutAside(seqs, reason, done) => tell(self.file.put_aside(&seqs, &reason).await, done),
        }
    }
}

/// What a pipeline orders comes in a moment: it is waited for as long as more comes.
async fn gather(waiting: &mut Vec<Order>, orders: &mut mpsc::UnboundedReceiver<Order>) {
    let mut before = 0;
    while waiting.len() > before && waiting.len() < MOST {
        before = waiting.len();
        tokio::task::yield_now().await;
        while waiting.len() < MOST
            && let Ok(order) = orders.try_recv()
        {
            waiting.push(order);
        }
    }
}

/// The same orders; appends with nothing between them are one.
fn merged(orders: Vec<Order>) -> Vec<Order> {
    let mut merged: Vec<Order> = Vec::new();
    for order in orders {
        match (merged.last_mut(), order) {
            (Some(Order::Append(entries, all)), Order::Append(more, done)) => {
                entries.extend(more);
                all.extend(done);
            }
            (_, order) => merged.push(order),
        }
    }
    merged
}

/// Tells who ordered, once it is known whether the commit went through.
type Answer = Box<dyn FnOnce(&Result<(), JournalError>) + Send>;

fn tell_all(result: Result<u64, JournalError>, all: Vec<Done<u64>>) -> (Answer, Result<(), JournalError>) {
    let fault = result.as_ref().map(|_| ()).map_err(Clone::clone);
    let results = std::iter::once(result).chain(std::iter::repeat_with(|| Ok(0)));
    let answers: Vec<Answer> = results.zip(all).map(|(result, done)| tell(result, done).0).collect();
    (Box::new(move |committed| answers.into_iter().for_each(|answer| answer(committed))), fault)
}

fn tell<T: Send + 'static>(result: Result<T, JournalError>, done: Done<T>) -> (Answer, Result<(), JournalError>) {
    let fault = result.as_ref().map(|_| ()).map_err(Clone::clone);
    let answer = move |committed: &Result<(), JournalError>| {
        // Whoever ordered may have been dropped; what was written stays written.
        let _gone = done.send(committed.clone().and(result));
    };
    (Box::new(answer), fault)
}
