//! The journal's file and its statements.

use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::chunks::{chunks, insert, last_of_each, mark};
use super::place::{Place, failed, has_one_name, lock, lock_of};
use super::tally::Tally;
use super::weights::Weights;
use super::{Change, Entry, JournalError, Waiting, layout};
use crate::config::JournalSync;
use crate::telemetry::metrics::JournalMetrics;
use crate::telemetry::sqlite_files::{SqliteFiles, in_the_way};

/// What a file says of itself.
pub(super) struct About {
    /// Under which incarnation was taken last.
    pub(super) incarnation: String,
    /// The number of the last batch.
    pub(super) last: u64,
    /// True when something may have been taken under the incarnation.
    pub(super) is_used: bool,
    /// Who asked the store for what it left.
    pub(super) heirs: Vec<String>,
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) connection: SqliteConnection,
    /// Held, so that no second process writes the same journal. It holds the tally.
    pub(super) lock: std::fs::File,
    pub(super) place: Place,
    pub(super) sync: JournalSync,
    weights: Weights,
    pub(super) tally: Tally,
    /// The tally of what has been committed.
    committed: Tally,
}

/// What a flush takes.
pub(super) struct Taken {
    pub(super) incarnation: Arc<str>,
    pub(super) batch: u64,
    pub(super) entries: Vec<Entry>,
}

/// One field's value that the store refused.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Refused {
    /// When, as RFC 3339.
    pub at: String,
    /// The mapping's key pattern.
    pub mapping: String,
    /// The key.
    pub key: Vec<u8>,
    /// The field.
    pub field: Vec<u8>,
    /// The value; `None`: the field was to go.
    pub value: Option<Vec<u8>>,
    /// What the store said.
    pub reason: String,
}

/// Opens a journal's database; `may_make` says whether it is made where there is none.
pub(super) async fn connect(path: &Path, sync: JournalSync, may_make: bool) -> Result<SqliteConnection, JournalError> {
    // FULL syncs every commit; with NORMAL only `sync` does.
    let synchronous = match sync {
        JournalSync::Always => SqliteSynchronous::Full,
        JournalSync::Everysec => SqliteSynchronous::Normal,
    };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(may_make)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        // What undoes a statement of many rows would be written into a file of its own.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging();
    opened(path, &options).await
}

async fn opened(path: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, JournalError> {
    let connection = SqliteConnection::connect_with(options).await;
    connection.map_err(|error| in_the_way(path).map_or_else(|| error.into(), JournalError::File))
}

/// How many entries the file has taken, and how many wait.
async fn counted(connection: &mut SqliteConnection) -> Result<(u64, u64), JournalError> {
    let count = "SELECT appended, (SELECT count(*) FROM waiting) FROM about";
    let (appended, waiting): (i64, i64) = sqlx::query_as(count).fetch_one(connection).await?;
    Ok((appended.unsigned_abs(), waiting.unsigned_abs()))
}

/// What was refused by the store, and how many entries are missing.
pub(super) async fn refused(path: &Path) -> Result<(Vec<Refused>, u64), JournalError> {
    // Before the file is looked at, which may be in use: it is written first.
    let tally = Tally::read(&std::fs::read_to_string(lock_of(path)).unwrap_or_default());
    if !path.exists() {
        return Ok((Vec::new(), tally.found(0, 0).missing));
    }
    let options = SqliteConnectOptions::new().filename(path).disable_statement_logging();
    let mut connection = opened(path, &options).await?;
    if !layout::check(&mut connection).await? {
        return Ok((Vec::new(), tally.found(0, 0).missing));
    }
    let select = "SELECT at, mapping, key, field, value, reason FROM refused ORDER BY seq";
    let refused = sqlx::query_as(select).fetch_all(&mut connection).await?;
    // A file of an earlier layout has not counted, and its tally says nothing.
    let missing = counted(&mut connection).await.map_or(tally.missing, |(all, wait)| tally.found(all, wait).missing);
    Ok((refused, missing))
}

type Row = (i64, String, Vec<u8>, Vec<u8>, Option<Vec<u8>>, Option<i64>);

impl File {
    pub(super) async fn open(path: &Path, sync: JournalSync) -> Result<Self, JournalError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        }
        has_one_name(path)?;
        let (lock, before) = (lock(path)?, SqliteFiles::at(path));
        let mut connection = connect(path, sync, true).await?;
        layout::prepare(&mut connection).await?;
        let place = Place::opened(&before, &lock)?;
        let (appended, waiting) = counted(&mut connection).await?;
        let weights = Weights::read(&mut connection).await?;
        let text = std::fs::read_to_string(lock_of(path)).unwrap_or_default();
        let tally = Tally::read(&text).found(appended, waiting);
        let file = Self { connection, lock, place, sync, weights, tally, committed: tally };
        file.note_tally();
        Ok(file)
    }

    pub(super) fn note_tally(&self) {
        if let Err(error) = self.committed.write(&self.lock) {
            tracing::debug!(%error, "the journal's tally cannot be written");
        }
    }

    /// Tells how many entries are missing, at every start until an operator has taken note of it.
    pub(super) fn tell_missing(&self, metrics: &JournalMetrics) {
        let missing = self.tally.missing;
        metrics.missing.set(missing.cast_signed());
        if missing > 0 {
            tracing::error!(
                missing,
                "acknowledged deferred writes are missing in the journal: it was damaged, or an older file put back"
            );
        }
    }

    /// Whose what waits is.
    pub(super) async fn about(&mut self) -> Result<About, JournalError> {
        let select = "SELECT incarnation, last, since FROM about";
        let about: (String, i64, i64) = sqlx::query_as(select).fetch_one(&mut self.connection).await?;
        let (incarnation, last, since) = about;
        let heirs = sqlx::query_scalar("SELECT name FROM heirs").fetch_all(&mut self.connection).await?;
        Ok(About { incarnation, last: last.unsigned_abs(), is_used: last > since, heirs })
    }

    /// Notes who is about to ask the store for what the incarnation left.
    pub(super) async fn announce(&mut self, heir: &str) -> Result<(), JournalError> {
        sqlx::query("INSERT OR IGNORE INTO heirs VALUES (?1)").bind(heir).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Everything that waits is this incarnation's from now on.
    pub(super) async fn succeed(&mut self, heir: &str) -> Result<(), JournalError> {
        let succeed = "UPDATE about SET incarnation = ?1, since = last";
        sqlx::query(succeed).bind(heir).execute(&mut self.connection).await?;
        self.run("DELETE FROM heirs").await
    }

    pub(super) async fn waiting(&mut self) -> Result<Waiting, JournalError> {
        let select = "SELECT seq, mapping, key, field, value, batch FROM waiting ORDER BY batch, seq";
        let rows: Vec<Row> = sqlx::query_as(select).fetch_all(&mut self.connection).await?;
        let columns = "SELECT mapping, columns FROM known_columns";
        let columns: Vec<(String, String)> = sqlx::query_as(columns).fetch_all(&mut self.connection).await?;
        let mut waiting = Waiting { columns: columns.into_iter().collect(), ..Waiting::default() };
        for (seq, mapping, key, field, value, batch) in rows {
            let change = Change::from_stored(field, value);
            let entry = Entry { seq: seq.unsigned_abs(), mapping: mapping.into(), key: key.into(), change };
            match batch.map(i64::unsigned_abs) {
                None => waiting.entries.push(entry),
                Some(batch) => match waiting.taken.last_mut().filter(|(last, _)| *last == batch) {
                    Some((_, entries)) => entries.push(entry),
                    None => waiting.taken.push((batch, vec![entry])),
                },
            }
        }
        Ok(waiting)
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), JournalError> {
        sqlx::query(sql).execute(&mut self.connection).await?;
        Ok(())
    }

    pub(super) async fn begin(&mut self) -> Result<(), JournalError> {
        self.run("BEGIN IMMEDIATE").await
    }

    /// Every commit notes how many entries the file has taken, so that there is none that writes nothing.
    pub(super) async fn commit(&mut self) -> Result<(), JournalError> {
        let commit = "UPDATE about SET appended = ?1; COMMIT";
        sqlx::query(commit).bind(self.tally.appended.cast_signed()).execute(&mut self.connection).await?;
        self.weights.committed();
        self.committed = self.tally;
        self.note_tally();
        Ok(())
    }

    pub(super) async fn rollback(&mut self) {
        // Without a transaction there is nothing to roll back.
        let _none = self.run("ROLLBACK").await;
        self.weights.rolled_back();
        self.tally = self.committed;
    }

    /// From the next commit on each is synced, with all before it, or none is. Not within a transaction.
    /// Source: <https://www.sqlite.org/pragma.html#pragma_synchronous>
    pub(super) async fn sync_commits(&mut self, each: bool) -> Result<(), JournalError> {
        self.run(if each { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" }).await
    }

    /// Syncs what has been committed (a checkpoint syncs the log first).
    /// Source: <https://www.sqlite.org/pragma.html#pragma_wal_checkpoint>
    pub(super) async fn sync(&mut self) -> Result<(), JournalError> {
        self.run("PRAGMA wal_checkpoint(PASSIVE)").await
    }

    /// Copies what is committed into a new file, which is not synced.
    /// Source: <https://www.sqlite.org/lang_vacuum.html#vacuuminto>
    pub(super) async fn copy_to(&mut self, path: &Path) -> Result<(), JournalError> {
        let path = path.display().to_string();
        sqlx::query("VACUUM INTO ?1").bind(path).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Moves what the log holds into the database.
    pub(super) async fn empty_log(&mut self) -> Result<(), JournalError> {
        self.run("PRAGMA wal_checkpoint(TRUNCATE)").await
    }

    /// Goes on with another connection, to a copy.
    pub(super) async fn replace(&mut self, mut copy: SqliteConnection) -> Result<(), JournalError> {
        // The copy's log is there once it has been read.
        let (appended, waiting) = counted(&mut copy).await?;
        if (appended, waiting) != (self.committed.appended, self.committed.waiting) {
            return Err(JournalError::File(format!(
                "a copy of it holds {waiting} entries of {}",
                self.committed.waiting
            )));
        }
        let old = std::mem::replace(&mut self.connection, copy);
        if let Err(error) = old.close().await {
            tracing::debug!(%error, "the journal's old file cannot be closed");
        }
        Ok(())
    }

    /// Keeps the last value of each field; the weight of what was replaced.
    pub(super) async fn append(&mut self, entries: Vec<Entry>) -> Result<u64, JournalError> {
        let (entries, replaced) = last_of_each(entries);
        for (some, rows) in chunks(&entries) {
            self.append_some(some, rows).await?;
        }
        let replaced = replaced + entries.iter().map(|entry| self.weights.put(entry)).sum::<u64>();
        self.tally.appended += entries.len() as u64;
        self.tally.waiting = self.weights.len() as u64;
        Ok(replaced)
    }

    /// The same of entries that differ, as one statement of so many rows, or more: a statement costs more than a row.
    async fn append_some(&mut self, entries: &[Entry], rows: usize) -> Result<(), JournalError> {
        let keep = entries.iter().fold(sqlx::query(AssertSqlSafe(insert(rows))), |query, entry| {
            query
                .bind(&entry.key[..])
                .bind(entry.change.field())
                .bind(entry.seq.cast_signed())
                .bind(entry.mapping.clone())
                .bind(entry.change.stored_value())
                .bind(entry.weight().cast_signed())
        });
        keep.execute(&mut self.connection).await?;
        Ok(())
    }

    pub(super) async fn take(&mut self, taken: &Taken) -> Result<(), JournalError> {
        let batch = taken.batch.cast_signed();
        self.mark(&taken.entries, batch).await?;
        let last = sqlx::query("UPDATE about SET last = max(last, ?1), incarnation = ?2").bind(batch);
        last.bind(&*taken.incarnation).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Marks entries with a batch; of a field that has a newer value by now, nothing.
    pub(super) async fn mark(&mut self, entries: &[Entry], batch: i64) -> Result<(), JournalError> {
        for (some, rows) in chunks(entries) {
            let mark = some.iter().fold(sqlx::query(AssertSqlSafe(mark(rows))).bind(batch), |query, entry| {
                query.bind(&entry.key[..]).bind(entry.change.field()).bind(entry.seq.cast_signed())
            });
            mark.execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// The weight of what is freed.
    pub(super) async fn applied(&mut self, batch: u64) -> Result<u64, JournalError> {
        Ok(self.remove_batch(batch.cast_signed()).await?.1)
    }

    /// What has this mark waits no more; how many entries that are, and their weight.
    pub(super) async fn remove_batch(&mut self, batch: i64) -> Result<(u64, u64), JournalError> {
        let free = sqlx::query_as("DELETE FROM waiting WHERE batch = ?1 RETURNING key, field");
        let freed: Vec<(Vec<u8>, Vec<u8>)> = free.bind(batch).fetch_all(&mut self.connection).await?;
        let count = freed.len() as u64;
        let weight = freed.into_iter().map(|(key, field)| self.weights.remove((key.into(), field.into()))).sum();
        self.tally.waiting = self.weights.len() as u64;
        Ok((count, weight))
    }

    /// Replaces what was known of the columns of these mappings.
    pub(super) async fn remember(&mut self, columns: &[(String, String)]) -> Result<(), JournalError> {
        for (mapping, columns) in columns {
            sqlx::query(
                "INSERT INTO known_columns VALUES (?1, ?2) ON CONFLICT DO UPDATE SET columns = excluded.columns",
            )
            .bind(mapping)
            .bind(columns)
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    pub(super) async fn give_back(&mut self, batch: u64) -> Result<(), JournalError> {
        sqlx::query("UPDATE waiting SET batch = NULL WHERE batch = ?1")
            .bind(batch.cast_signed())
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}
