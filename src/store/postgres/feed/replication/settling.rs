//! Gives a transaction's changes on when they can be seen. The server streams a commit as soon as it is in its log,
//! which is before anybody else can see it: a load that begins between the two reads the row as it was, and nothing
//! would take it out of memory again. So a change is given on only when a snapshot, taken after it arrived, sees its
//! transaction: whatever is loaded from then on sees it too.
//!
//! Such a look is a statement, and most changes concern nobody here. So it is asked first whom a transaction concerns.
//! One whose keys nobody keeps, loads or writes is put aside: it is given on with the next look that is taken for
//! another reason, for a heartbeat at the latest, or as soon as somebody is about to load or write one of its keys
//! (`aside`).
//!
//! Invariants:
//! - while anything is kept of a key, a change of it that has come is looked for until it can be seen;
//! - a sidecar's own write that has been answered can be seen, and its keys need not be looked for;
//! - `Alive` is given for a heartbeat after every transaction that came before it and can be seen: whatever could be
//!   seen when the heartbeat was sent stood in the log before it;
//! - what had committed before the slot began, and could not be seen then, is not streamed: when a transaction that ran
//!   at the first snapshot is over, and did not come through the stream, everything counts as changed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::looks::Looks;
use super::pace::Pace;
use super::transaction::Transaction;
use crate::config;
use crate::store::postgres::feed::aside::Aside;
use crate::store::postgres::feed::snapshot::Snapshot;
use crate::store::triggers::TableInterests;
use crate::store::{Change, Coming, OnChange};
use crate::telemetry::planted::is_planted;

/// Transactions that wait at most. Beyond, no more are read.
const MOST: usize = 4096;

/// Beyond so many, which concern nobody, it is looked what can be seen.
const MOST_ASIDE: usize = 1024;

/// Keys that wait at most; beyond half of them it is looked. Those of a transaction beyond are not kept: its mappings
/// count as changed as a whole.
const MOST_KEYS: usize = 100_000;

/// So many looks follow the first at once where that could not see all: what is not streamed can be seen by then.
const EARLY: u32 = 30;

/// Where changes go.
pub(super) struct Outlet {
    pub(super) interests: Arc<ArcSwap<Vec<TableInterests>>>,
    pub(super) on_change: OnChange,
    /// The keys that nobody keeps.
    pub(super) aside: Arc<Aside>,
    /// The looks that the changes are told by.
    pub(super) looks: Looks,
}

impl Outlet {
    /// Whether somebody keeps something that a transaction changes. Of what nobody keeps it is heard from now on when
    /// somebody is about to.
    fn is_kept(&self, transaction: &Transaction) -> bool {
        let ((once, often), from) = (transaction.keys(), transaction.origin());
        let is_seen = from.is_some() && self.ask(Vec::new(), from).is_seen();
        if !is_seen {
            self.aside.put(once.iter().chain(&often));
        }
        self.ask(once, from).is_kept() || self.ask(often, None).is_kept()
    }

    fn ask(&self, keys: Vec<Bytes>, from: Option<&String>) -> Arc<Coming> {
        let coming = Arc::new(Coming::new(keys, from.cloned()));
        (self.on_change)(Change::Coming(coming.clone()));
        coming
    }
}

pub(super) struct Settling {
    connection: PgConnection,
    outlet: Outlet,
    /// How long an answer may take.
    patience: Duration,
    slot: String,
    /// So many bytes of its log the server may keep for the slot.
    most_retained: u64,
    /// When that was asked last, and how often it is.
    asked_retained: Instant,
    interval: Duration,
    /// In the order of their commits.
    pending: Vec<Transaction>,
    /// How many keys they hold.
    held: usize,
    /// Transactions that ran at the first snapshot, and have not come through the stream.
    unseen: Vec<u64>,
    pace: Pace,
    /// Somebody is about to load or write what was put aside.
    is_asked: bool,
    /// Something that concerns somebody could not be seen.
    waits: bool,
    /// Looks at what may not be streamed that are still to be taken for that alone.
    early: u32,
}

impl Settling {
    /// To be called when the stream has begun: takes the first snapshot.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn begin(
        connection: PgConnection,
        outlet: Outlet,
        settings: &config::Store,
        slot: String,
    ) -> Result<Self, String> {
        let mut settling = Self {
            connection,
            outlet,
            patience: settings.heartbeat_timeout,
            slot,
            most_retained: settings.feed_max_log.0 as u64,
            asked_retained: Instant::now(),
            interval: settings.heartbeat_interval,
            pending: Vec::new(),
            held: 0,
            unseen: Vec::new(),
            pace: Pace::new(Instant::now()),
            is_asked: false,
            waits: false,
            early: EARLY,
        };
        settling.outlet.aside.clear();
        settling.look().await?;
        settling.unseen = settling.outlet.looks.last().map(|(_, first)| first.running.clone()).unwrap_or_default();
        settling.sort();
        Ok(settling)
    }

    /// Looks at what is visible.
    async fn look(&mut self) -> Result<(), String> {
        let look = self.outlet.looks.begin();
        let asking = sqlx::query_scalar("SELECT pg_current_snapshot()::text").fetch_one(&mut self.connection);
        let text: String = match tokio::time::timeout(self.patience, asking).await {
            Ok(answer) => answer.map_err(|error| format!("the change feed cannot ask what is visible: {error}"))?,
            Err(_) => return Err("the change feed was not told in time what is visible".to_owned()),
        };
        let snapshot = Snapshot::read(&text).ok_or_else(|| format!("a snapshot cannot be read: {text}"))?;
        self.outlet.looks.saw(look, snapshot);
        Ok(())
    }

    /// Gives on what comes, until something is wrong; says what.
    pub(super) async fn run(&mut self, mut coming: Receiver<Transaction>) -> String {
        let aside = self.outlet.aside.clone();
        loop {
            let (due, has_room) = (self.pace.due(self.waits), self.pending.len() < MOST);
            tokio::select! {
                biased;
                () = until(due) => {
                    while self.pending.len() < MOST
                        && let Ok(transaction) = coming.try_recv()
                    {
                        self.take(transaction);
                    }
                    if let Err(why) = self.settle().await {
                        return why;
                    }
                }
                () = aside.is_asked() => {
                    self.is_asked = true;
                    self.pace.came(Instant::now());
                }
                transaction = coming.recv(), if has_room => match transaction {
                    Some(transaction) => self.take(transaction),
                    None => return "the change feed's stream has ended".to_owned(),
                },
            }
        }
    }

    /// Gives on what can be seen by now, where anything that has come concerns somebody.
    async fn settle(&mut self) -> Result<(), String> {
        self.sort();
        let is_full = self.pending.len() > MOST_ASIDE || self.held > MOST_KEYS / 2;
        let is_asked = std::mem::take(&mut self.is_asked) && !self.pending.is_empty();
        if is_asked || self.waits || is_full {
            let (before, begun) = (self.pending.len(), Instant::now());
            self.early = self.early.saturating_sub(1);
            self.look().await?;
            self.give();
            self.pace.looked(begun, self.pending.len() < before);
            self.outlet.aside.clear();
            self.pending.iter_mut().for_each(|transaction| transaction.is_kept = None);
            self.sort();
        }
        if self.asked_retained.elapsed() >= self.interval {
            self.ask_retained().await?;
        }
        Ok(())
    }

    /// Asks whom that concerns of which nobody knows it, and puts aside what concerns nobody.
    fn sort(&mut self) {
        self.pace.sorted();
        let (outlet, now) = (&self.outlet, self.outlet.interests.load_full());
        for transaction in self.pending.iter_mut().filter(|transaction| transaction.is_kept.is_none()) {
            let is_kept = transaction.is_more_than_keys(&now) || outlet.is_kept(transaction);
            transaction.is_kept = Some(is_kept);
            if !is_kept {
                transaction.put_aside();
            }
        }
        let is_kept = self.pending.iter().any(|transaction| transaction.is_kept == Some(true));
        let may_miss = self.early > 0 && !self.unseen.is_empty();
        self.waits = is_kept || may_miss || self.pending.len() >= MOST;
    }

    fn take(&mut self, mut transaction: Transaction) {
        // The low half is enough: all of them are near.
        self.unseen.retain(|number| *number as u32 != transaction.number);
        if self.held + transaction.len() > MOST_KEYS {
            transaction.forget_keys();
        }
        self.held += transaction.len();
        self.pace.came(Instant::now());
        transaction.unseen = self.outlet.looks.unseen(transaction.number);
        self.pending.push(transaction);
    }

    /// Gives on what the last look has seen.
    fn give(&mut self) {
        let Outlet { interests, on_change, looks, .. } = &self.outlet;
        let Some((look, snapshot)) = looks.last() else { return };
        let now = interests.load_full();
        let mut heartbeat = None;
        for mut transaction in std::mem::take(&mut self.pending) {
            heartbeat = heartbeat.max(transaction.heartbeat.take());
            if snapshot.sees(transaction.number) || is_planted("fence-ignored") {
                transaction.changes(&now).into_iter().for_each(|change| on_change(change));
            } else {
                transaction.unseen = Some(look);
                self.pending.push(transaction);
            }
        }
        self.held = self.pending.iter().map(Transaction::len).sum();
        let before = self.unseen.len();
        self.unseen.retain(|number| !snapshot.is_over(*number));
        if self.unseen.len() < before {
            on_change(Change::Everything);
        }
        if let Some(sent) = heartbeat {
            on_change(Change::Alive(sent));
        }
    }

    /// Tells how much of its log the server keeps for us; too much is an error, which lets the slot go.
    async fn ask_retained(&mut self) -> Result<(), String> {
        self.asked_retained = Instant::now();
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots \
                   WHERE slot_name = $1";
        let asking = sqlx::query_scalar(sql).bind(&self.slot).fetch_optional(&mut self.connection);
        let answer: Option<Option<i64>> = match tokio::time::timeout(self.patience, asking).await {
            Ok(answer) => answer.map_err(|error| format!("the change feed cannot ask about its slot: {error}"))?,
            Err(_) => return Err("the change feed was not told in time about its slot".to_owned()),
        };
        let Some(bytes) = answer.flatten().map(i64::unsigned_abs) else { return Ok(()) };
        (self.outlet.on_change)(Change::Retained(bytes));
        match self.most_retained {
            most if most > 0 && bytes > most => Err(format!(
                "the server kept {bytes} bytes of its log for the change feed, more than store.feed_max_log: its slot \
                 was let go"
            )),
            _ => Ok(()),
        }
    }
}

/// Waits until then; for ever where there is no such moment.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
