//! Gives a transaction's changes on when they can be seen. The server streams a commit as soon as it is in its log,
//! which is before anybody else can see it: a load that begins between the two reads the row as it was, and nothing
//! would take it out of memory again. So a change is given on only when a snapshot, taken after it arrived, sees its
//! transaction: whatever is loaded from then on sees it too.
//!
//! Invariants:
//! - `Alive` is given for a heartbeat after every transaction that came before it and can be seen: whatever could be
//!   seen when the heartbeat was sent stood in the log before it;
//! - what had committed before the slot began, and could not be seen then, is not streamed: when a transaction that ran
//!   at the first snapshot is over, and did not come through the stream, everything counts as changed.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::looks::Looks;
use super::snapshot::Snapshot;
use super::transaction::Transaction;
use crate::config;
use crate::store::triggers::TableInterests;
use crate::store::{Change, OnChange};
use crate::telemetry::planted::is_planted;

/// While much is written, snapshots are begun so far apart.
const PACE: Duration = Duration::from_millis(2);

/// So many follow at once when nothing can be seen yet: most commits are a moment away.
const EAGER: u32 = 2;

/// So many go by at that pace before it slows down: on a busy machine a commit may stand still for a moment.
const STEADY: u32 = 100;

/// While something cannot be seen for longer, and nothing else comes, the next snapshot is taken after so long at most.
const LONGEST_PACE: Duration = Duration::from_millis(50);

/// Transactions that wait at most. Beyond, no more are read.
const MOST: usize = 4096;

/// Keys that wait at most. Those of a transaction beyond are not kept: its mappings count as changed as a whole.
const MOST_KEYS: usize = 100_000;

/// Where changes go.
pub(super) struct Outlet {
    pub(super) interests: Arc<ArcSwap<Vec<TableInterests>>>,
    pub(super) on_change: OnChange,
    /// The looks that the changes are told by.
    pub(super) looks: Looks,
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
        };
        settling.look().await?;
        settling.unseen = settling.outlet.looks.last().map(|(_, first)| first.running.clone()).unwrap_or_default();
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
        // Snapshots since one has shown something.
        let (mut futile, mut begun) = (0, Instant::now());
        loop {
            if self.wait(&mut coming, begun, futile).await.is_none() {
                return "the change feed's stream has ended".to_owned();
            }
            while self.pending.len() < MOST
                && let Ok(transaction) = coming.try_recv()
            {
                self.take(transaction);
            }
            let before = self.pending.len();
            begun = Instant::now();
            if let Err(why) = self.look().await {
                return why;
            }
            self.give();
            futile = if self.pending.len() < before { 0 } else { futile + 1 };
            if self.asked_retained.elapsed() >= self.interval
                && let Err(why) = self.ask_retained().await
            {
                return why;
            }
        }
    }

    /// Waits until another snapshot is worth while: something has come, or may be seen by now. The last one was begun
    /// then, and so many have shown nothing. `None` when the stream has ended.
    async fn wait(&mut self, coming: &mut Receiver<Transaction>, begun: Instant, futile: u32) -> Option<()> {
        if (1..=EAGER).contains(&futile) {
            return Some(());
        }
        let doubled = 2_u32.saturating_pow(futile.saturating_sub(STEADY));
        let until = begun + LONGEST_PACE.min(PACE.saturating_mul(doubled));
        let (is_waiting, has_room) = (!self.pending.is_empty(), self.pending.len() < MOST);
        tokio::select! {
            () = tokio::time::sleep_until(until), if is_waiting => {}
            transaction = coming.recv(), if has_room => self.take(transaction?),
        }
        tokio::time::sleep_until(begun + PACE).await;
        Some(())
    }

    fn take(&mut self, mut transaction: Transaction) {
        // The low half is enough: all of them are near.
        self.unseen.retain(|number| *number as u32 != transaction.number);
        if self.held + transaction.len() > MOST_KEYS {
            transaction.forget_keys();
        }
        self.held += transaction.len();
        transaction.unseen = self.outlet.looks.unseen(transaction.number);
        self.pending.push(transaction);
    }

    /// Gives on what the last look has seen.
    fn give(&mut self) {
        let Outlet { interests, on_change, looks } = &self.outlet;
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
