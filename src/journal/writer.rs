//! The one task that writes the journal: all appends that wait are one commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::condition::{Condition, Trial};
use super::file::{File, Taken};
use super::mending::Mender;
use super::{Entry, JournalError};
use crate::config::JournalSync;
use crate::telemetry::LogThrottle;
use crate::telemetry::planted::is_planted_once;

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
    PutAside(Vec<Entry>, String, Done<(u64, u64)>),
}

pub(super) struct Writer {
    file: File,
    mender: Mender,
    /// A file that cannot be written makes every order fail.
    faults: LogThrottle,
    /// Whether the files are as they should be, as seen last.
    seen: Result<(), JournalError>,
    /// Why the last commit of appends, or the last one of all, has failed, and how many bytes were appended.
    failed: Option<(JournalError, u64)>,
    condition: Arc<Condition>,
    trial: Trial,
    /// It has come while a commit was under way that it could not be part of.
    left: Option<Order>,
}

/// Most orders of one commit.
const MOST: usize = 4096;

/// So often a commit takes in what has come while it was written: nobody waits for it longer than that.
const ROUNDS: usize = 8;

impl Writer {
    pub(super) fn new(file: File, condition: Arc<Condition>) -> Self {
        let (mender, faults) = (Mender::default(), LogThrottle::default());
        Self { file, mender, faults, seen: Ok(()), failed: None, condition, trial: Trial::default(), left: None }
    }

    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            let mut waiting: Vec<Order> = self.left.take().into_iter().collect();
            if waiting.is_empty() {
                tokio::select! {
                    // Nobody is left to order anything.
                    n = orders.recv_many(&mut waiting, MOST) => if n == 0 { break },
                    _ = second.tick() => self.each_second().await,
                }
            }
            if !waiting.is_empty() {
                gather(&mut waiting, &mut orders).await;
                self.take_in(merged(waiting), &mut orders).await;
            }
        }
        self.sync_now().await;
    }

    /// What waits may have been acknowledged long ago: its files are looked after also while nothing is ordered.
    async fn each_second(&mut self) {
        // Its error is logged, and told to whoever orders something.
        let looked = self.look_after().await;
        match (looked, &self.failed) {
            (Ok(()), Some((_, bytes))) => {
                if self.trial.goes_on(&mut self.file, *bytes).await {
                    self.failed = None;
                    self.show();
                }
            }
            (_, Some(_)) => {}
            (_, None) => self.trial = Trial::default(),
        }
        if self.file.sync == JournalSync::Everysec {
            self.sync_now().await;
        }
    }

    /// Sees that the files are there that are open.
    async fn look_after(&mut self) -> Result<(), JournalError> {
        self.seen = self.mender.look_after(&mut self.file).await;
        self.show();
        self.seen.clone()
    }

    /// Shows whether an append would be refused.
    fn show(&self) {
        let failed = self.failed.as_ref().map_or(Ok(()), |(error, _)| Err(error.clone()));
        self.condition.set(self.seen.clone().and(failed));
    }

    /// Notes how a commit went, of so many bytes of appends.
    fn note(&mut self, committed: &Result<(), JournalError>, bytes: u64) {
        match committed {
            Err(error) => self.failed = Some((error.clone(), bytes)),
            Ok(()) if bytes > 0 => self.failed = None,
            Ok(()) => {}
        }
        self.show();
    }

    /// Carries out what may be: while the files are not at their path, what is to be acknowledged is refused. What is
    /// known goes on to the store, and is noted in the files that are open.
    async fn take_in(&mut self, mut orders: Vec<Order>, more: &mut mpsc::UnboundedReceiver<Order>) {
        let whole = self.look_after().await;
        let may_write = match &whole {
            Err(error @ JournalError::InUse(_)) => Err(error.clone()),
            _ => Ok(()),
        };
        if let Err(error) = whole {
            orders = without_appends(orders, &error);
        }
        if !orders.is_empty() {
            self.commit(orders, may_write, more).await;
        }
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

    /// One commit for all that waits, and for the appends that come while they are written; where a part cannot be
    /// written, nothing is.
    async fn commit(
        &mut self,
        mut orders: Vec<Order>,
        may_write: Result<(), JournalError>,
        more: &mut mpsc::UnboundedReceiver<Order>,
    ) {
        let acknowledges = orders.iter().any(|order| matches!(order, Order::Append(..)));
        assert!(!acknowledges || !is_planted_once("panic-in-append"), "a planted bug");
        let mut answers: Vec<(bool, Answer)> = Vec::with_capacity(orders.len());
        // What is sent to the store is known on disk before, also where a second of writes may be lost.
        let is_sent = |order: &Order| matches!(order, Order::Take(..) | Order::Announce(..) | Order::Succeed(..));
        let takes = self.file.sync == JournalSync::Everysec && orders.iter().any(is_sent);
        let mut bytes = 0;
        let mut written = may_write;
        if takes && written.is_ok() {
            written = self.file.sync_commits(true).await;
        }
        if written.is_ok() {
            written = self.file.begin().await;
        }
        for further in (0..ROUNDS).rev() {
            for order in orders {
                bytes += appended(&order);
                let acknowledges = matches!(order, Order::Append(..));
                let (answer, fault) = self.carry_out(order, written.is_ok()).await;
                answers.push((acknowledges, answer));
                written = written.and(fault);
            }
            let takes_more = further > 0 && acknowledges && written.is_ok();
            orders = if takes_more { self.appends(more) } else { Vec::new() };
            if orders.is_empty() {
                break;
            }
        }
        let committed = match written {
            Ok(()) => self.file.commit().await,
            Err(error) => Err(error),
        };
        if let Err(error) = &committed {
            self.undo(error).await;
        }
        self.note(&committed, bytes);
        if takes && let Err(error) = self.file.sync_commits(false).await {
            tracing::warn!(%error, "the journal goes on to sync every commit");
        }
        let kept = self.kept(&committed).await;
        answers.into_iter().for_each(|(acknowledges, answer)| answer(if acknowledges { &kept } else { &committed }));
    }

    /// The appends that have come, as one. Another order waits, with what is behind it.
    fn appends(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Vec<Order> {
        let mut come = Vec::new();
        while self.left.is_none()
            && come.len() < MOST
            && let Ok(order) = orders.try_recv()
        {
            match order {
                append @ Order::Append(..) => come.push(append),
                other => self.left = Some(other),
            }
        }
        merged(come)
    }

    async fn undo(&mut self, error: &JournalError) {
        if let Some(unlogged) = self.faults.due() {
            tracing::error!(%error, unlogged, "the journal cannot be written: deferred writes are refused");
        }
        self.file.rollback().await;
    }

    /// Whether what was committed stands in files that somebody finds: they may have been removed meanwhile.
    async fn kept(&mut self, committed: &Result<(), JournalError>) -> Result<(), JournalError> {
        committed.clone()?;
        self.look_after().await.map_err(|error| JournalError::Unsure(error.to_string()))
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
            Order::Take(taken, done) => tell(self.file.take(&taken).await, done),
            Order::Applied(batch, done) => tell(self.file.applied(batch).await, done),
            Order::GiveBack(batch, done) => tell(self.file.give_back(batch).await, done),
            Order::Remember(columns, done) => tell(self.file.remember(&columns).await, done),
            Order::Announce(heir, done) => tell(self.file.announce(&heir).await, done),
            Order::Succeed(heir, done) => tell(self.file.succeed(&heir).await, done),
            Order::PutAside(entries, reason, done) => tell(self.file.put_aside(&entries, &reason).await, done),
        }
    }
}

/// The bytes that an order appends.
fn appended(order: &Order) -> u64 {
    match order {
        Order::Append(entries, _) => entries.iter().map(Entry::weight).sum(),
        _ => 0,
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

/// The same orders without appends, which are refused.
fn without_appends(orders: Vec<Order>, error: &JournalError) -> Vec<Order> {
    let (appends, others): (Vec<_>, Vec<_>) = orders.into_iter().partition(|order| matches!(order, Order::Append(..)));
    for append in appends {
        if let Order::Append(_, all) = append {
            // Whoever ordered may have been dropped.
            all.into_iter().for_each(|done| drop(done.send(Err(error.clone()))));
        }
    }
    others
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
