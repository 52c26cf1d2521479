//! The session that reads the outbox, and holds the lock that says so. What it reads each time are the rows of those
//! transactions that can be seen now and could not the time before: the ones that ran then and are over, and all that
//! began since. Their order is no matter.
//!
//! Invariant: a row says what was emptied from a table, as a snapshot. A reader whose last snapshot does not cover it
//! may have missed something, and says so.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

use crate::config;
use crate::store::StoreError;
use crate::store::postgres::feed::snapshot::Snapshot;
use crate::store::triggers::{Means, READS, lacks_of_outbox};
use crate::telemetry::planted::is_planted;

/// What is sent to the others when the lock is taken.
pub(super) const AWAKE: &str = "awake";

/// Of a table that was emptied.
const CLEANED: &str = "{\"cleaned\":\"";

/// `insufficient_privilege`.
const DENIED: &str = "42501";

/// What the session needs: no plan for a table that was small once, no wait for a standby while a table is emptied, and
/// an end if the sidecar falls silent, since rows are added and nobody empties the tables while the lock is held.
const SET_UP: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; \
    SET max_parallel_workers_per_gather = 0; SET synchronous_commit = off; SET idle_session_timeout = '30s'";

/// The statement that reads; `$1` is the snapshot of the time before. With `beat` it sends a heartbeat, too.
fn reading(beat: &str) -> String {
    // The rows of transactions that run on are not looked at.
    let mut sql = format!(
        "WITH over AS MATERIALIZED (SELECT ARRAY(SELECT x FROM pg_snapshot_xip($1::text::pg_snapshot) AS x \
         WHERE pg_visible_in_snapshot(x, pg_current_snapshot())) AS xids) \
         SELECT pg_current_snapshot()::text, {beat}"
    );
    for table in 0..3 {
        sql.push_str(&format!(
            " UNION ALL SELECT NULL, told FROM hearthside.outbox_{table} \
             WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)"
        ));
        if !is_planted("outbox-running-ignored") {
            sql.push_str(&format!(
                " UNION ALL SELECT NULL, told FROM hearthside.outbox_{table} \
                 WHERE xid = ANY ((SELECT xids FROM over)::xid8[])"
            ));
        }
    }
    sql
}

const NO_BEAT: &str = "NULL::text";

/// `$2` is its name, `$3` when it is sent.
const BEAT: &str = "CASE WHEN pg_notify($2, $3) IS NULL THEN NULL::text END";

pub(super) struct Reader {
    connection: PgConnection,
    /// How long an answer may take.
    patience: Duration,
    /// What could be seen the time before.
    before: String,
    holds_lock: bool,
    /// The role may not call `pg_notify`.
    is_denied: bool,
    reading: String,
    reading_with_beat: String,
}

impl Reader {
    /// One that reads what cannot be seen yet; a hot standby has none.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn connect(options: &PgConnectOptions, settings: &config::Store) -> Result<Option<Self>, String> {
        let opening = tokio::time::timeout(settings.connect_timeout, Self::open(options, settings.heartbeat_timeout));
        match opening.await {
            Err(_) => Err("the outbox could not be read in time".to_owned()),
            Ok(opened) => opened.map_err(|error| format!("the outbox cannot be read: {error}")),
        }
    }

    async fn open(options: &PgConnectOptions, patience: Duration) -> Result<Option<Self>, StoreError> {
        let mut connection = options.connect().await?;
        if sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await? {
            return Ok(None);
        }
        let lacks = lacks_of_outbox(&mut connection).await?;
        if !lacks.is_empty() {
            return Err(StoreError::Refused(lacks.join("; ")));
        }
        sqlx::raw_sql(SET_UP).execute(&mut connection).await?;
        let before = sqlx::query_scalar("SELECT pg_current_snapshot()::text").fetch_one(&mut connection).await?;
        let (reading, reading_with_beat) = (reading(NO_BEAT), reading(BEAT));
        let (holds_lock, is_denied) = (false, false);
        Ok(Some(Self { connection, patience, before, holds_lock, is_denied, reading, reading_with_beat }))
    }

    /// What can be seen so far.
    pub(super) fn before(&self) -> &str {
        &self.before
    }

    /// Gives on what can be seen now and could not before, and sends a heartbeat of this name and moment.
    ///
    /// # Errors
    /// What went wrong: something may have been missed.
    pub(super) async fn read(
        &mut self,
        heartbeat: Option<(&str, String)>,
        mut give: impl FnMut(&str),
    ) -> Result<(), String> {
        let patience = self.patience;
        let reading = async {
            match &heartbeat {
                Some((name, sent)) if !self.is_denied => match self.stream(Some((name, sent)), &mut give).await {
                    Err(Missed::Failed(error)) if is_denied(&error) => self.is_denied = true,
                    read => return read,
                },
                _ => {}
            }
            self.stream(None, &mut give).await?;
            match heartbeat {
                Some((name, sent)) => Ok(self.run(format!("NOTIFY {name}, '{sent}'")).await?),
                None => Ok(()),
            }
        };
        match tokio::time::timeout(patience, reading).await {
            Err(_) => Err("the outbox was not read in time".to_owned()),
            Ok(Err(Missed::Failed(error))) => Err(format!("the outbox cannot be read: {}", StoreError::from(error))),
            Ok(Err(Missed::Emptied)) => Err("the outbox was emptied before this sidecar had read it".to_owned()),
            Ok(Ok(())) => Ok(()),
        }
    }

    async fn stream(&mut self, heartbeat: Option<(&str, &str)>, give: &mut impl FnMut(&str)) -> Result<(), Missed> {
        let sql = if heartbeat.is_some() { &self.reading_with_beat } else { &self.reading };
        let mut query = sqlx::query(AssertSqlSafe(sql.clone())).bind(&self.before);
        if let Some((name, sent)) = heartbeat {
            query = query.bind(name).bind(sent);
        }
        let (mut now, mut is_emptied) = (None, false);
        let mut rows = query.fetch(&mut self.connection);
        while let Some(row) = rows.try_next().await? {
            if let Some(snapshot) = row.try_get::<Option<String>, _>(0)? {
                now = Some(snapshot);
            } else if let Some(told) = row.try_get::<Option<&str>, _>(1)? {
                match told.strip_prefix(CLEANED).and_then(|rest| rest.strip_suffix("\"}")) {
                    Some(emptied) => is_emptied |= !covers(&self.before, emptied),
                    None => give(told),
                }
            }
        }
        drop(rows);
        self.before = now.unwrap_or_default();
        if is_emptied && !is_planted("outbox-emptied-ignored") { Err(Missed::Emptied) } else { Ok(()) }
    }

    /// From now on triggers add rows, if no other sidecar has seen to that.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn take(&mut self) -> Result<(), String> {
        if !self.holds_lock {
            self.holds_lock = self.ask(format!("SELECT pg_try_advisory_lock({READS})")).await?;
            if self.holds_lock {
                let told = self.run(format!("NOTIFY {}, '{AWAKE}'", Means::Outbox.channel())).await;
                told.map_err(|error| format!("the outbox cannot be read: {}", StoreError::from(error)))?;
            }
        }
        Ok(())
    }

    /// Whether triggers send notices again, as far as this sidecar has a say in it.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn is_let_go(&mut self) -> Result<bool, String> {
        if self.holds_lock {
            self.holds_lock = false;
            return self.ask(format!("SELECT pg_advisory_unlock({READS})")).await;
        }
        let is_free = "SELECT pg_try_advisory_lock_shared({}) AND pg_advisory_unlock_shared({})";
        self.ask(is_free.replace("{}", READS)).await
    }

    /// Empties the table whose turn is next, if this snapshot sees all that it holds.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn clean(&mut self, seen: &str) -> Result<(), String> {
        let cleaning = sqlx::query_scalar("SELECT hearthside.clean_outbox($1::text::pg_snapshot)").bind(seen);
        let cleaned = tokio::time::timeout(self.patience, cleaning.fetch_one(&mut self.connection)).await;
        let is_emptied: bool = match cleaned {
            Err(_) => return Err("the outbox was not cleaned in time".to_owned()),
            Ok(cleaned) => {
                cleaned.map_err(|error| format!("the outbox cannot be cleaned: {}", StoreError::from(error)))?
            }
        };
        tracing::debug!(is_emptied, "the outbox was cleaned");
        Ok(())
    }

    async fn ask(&mut self, sql: String) -> Result<bool, String> {
        let asking = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.connection);
        match tokio::time::timeout(self.patience, asking).await {
            Err(_) => Err("the outbox was not read in time".to_owned()),
            Ok(answer) => answer.map_err(|error| format!("the outbox cannot be read: {}", StoreError::from(error))),
        }
    }

    async fn run(&mut self, sql: String) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.connection).await.map(drop)
    }
}

/// Why changes may have been missed.
enum Missed {
    Failed(sqlx::Error),
    /// Rows are gone that have not been read.
    Emptied,
}

impl From<sqlx::Error> for Missed {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

fn is_denied(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == DENIED)
}

/// Whether a reader that has read all that `before` sees has read all that was emptied.
fn covers(before: &str, emptied: &str) -> bool {
    let (before, emptied) = (Snapshot::read(before), Snapshot::read(emptied));
    before.zip(emptied).is_some_and(|(before, emptied)| before.covers(&emptied))
}
