//! SQLite: the embedded store. Its file is watched as a whole (`feed`). Knows no cache.

mod adopt;
mod catalog;
mod database_file;
mod feed;
mod flush;
mod interests;
mod own_changes;
mod readers;
#[cfg(test)]
mod recorded;
mod removed_log;
mod statement;
mod sweep;
mod transaction;
mod value;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions, Row as _, SqlitePool, TypeInfo, ValueRef};

pub(super) use catalog::SqliteCatalog;
pub(super) use database_file::is_to_be_made;
pub(super) use transaction::SqliteTransaction;

use super::change::OnChange;
use super::dialect::JSON;
use super::json::compact;
use super::listing::{Listed, Listing};
use super::row::{Cell, Row};
use super::schema::Fingerprint;
use super::sweep::{Chosen, Ending, RowKey};
use super::{FlushRow, Flushed, Mark, Plan, StoreError, migrate};
use crate::config;
use crate::record::{RowEdit, Written};
use crate::resp::number::parse_i64;
use interests::Interests;
use own_changes::{Listener, OwnChanges};
use readers::{Pooling, Readers, reader};
use value::Bind;
use writer::Writer;

#[derive(Debug)]
pub(super) struct Sqlite {
    readers: Arc<Readers>,
    writer: Writer,
    interests: Interests,
    listener: Listener,
}

/// Whether a `sqlite:` URL can be read.
pub(super) fn check_url(url: &str) -> Result<(), StoreError> {
    database_file::options(url).map(|_| ())
}

impl Sqlite {
    /// Opens the file. The built-in demo's, where it is not there, is made with the demo world.
    ///
    /// # Errors
    /// [`StoreError::Refused`] of a file that is not there, or is no database: its path, and what to do.
    pub(super) async fn open(settings: &config::Store) -> Result<Self, StoreError> {
        let options =
            database_file::options(&settings.url)?.busy_timeout(settings.query_timeout).create_if_missing(false);
        let Some(path) = database_file::of(&settings.url) else {
            return Self::in_memory(options, settings, true).await;
        };
        if database_file::is_to_be_made(settings) {
            make(&path, settings, database_file::is_demo(settings)).await?;
        }
        database_file::check(&path)?;
        let opened = async {
            let store = Self::over(options.journal_mode(SqliteJournalMode::Wal), settings, Some(path.clone())).await?;
            store.ping().await.map(|()| store)
        };
        match opened.await {
            Err(StoreError::Refused(text)) => Err(database_file::refused(&path, &text)),
            opened => opened,
        }
    }

    /// What stands in for a file that is to be made, so that mappings can be checked against it.
    pub(super) async fn stand_in(settings: &config::Store) -> Result<Self, StoreError> {
        let one = config::Store { max_connections: 1, ..settings.clone() };
        Self::in_memory(database_file::options("sqlite::memory:")?, &one, database_file::is_demo(settings)).await
    }

    async fn in_memory(
        options: SqliteConnectOptions,
        settings: &config::Store,
        with_demo: bool,
    ) -> Result<Self, StoreError> {
        let store = Self::over(options, settings, None).await?;
        migrate::sqlite(&store.pool().await?, with_demo).await?;
        Ok(store)
    }

    /// Makes an empty file, where there is none.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub(super) async fn make_empty(settings: &config::Store) -> Result<(), StoreError> {
        match database_file::of(&settings.url).filter(|path| !path.exists()) {
            Some(path) => make(&path, settings, false).await,
            None => Ok(()),
        }
    }

    /// Over the file at `path`; without one, over a database in memory.
    async fn over(
        options: SqliteConnectOptions,
        settings: &config::Store,
        path: Option<PathBuf>,
    ) -> Result<Self, StoreError> {
        let readers = Arc::new(Readers::open(Pooling::new(&options, settings)).await?);
        let writer = Writer::new(options, path, readers.clone());
        let (interests, listener) = (Interests::default(), Listener::default());
        Ok(Self { readers, writer, interests, listener })
    }

    /// The connections that read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] while the file is not at its path, or may not be opened.
    pub(super) async fn pool(&self) -> Result<SqlitePool, StoreError> {
        self.writer.is_there()?;
        self.readers.pool().await
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let mut reader = match reader(&self.pool().await?).await {
            // It is there, and busy.
            Err(StoreError::Overloaded(_)) => return Ok(()),
            reader => reader?,
        };
        sqlx::query("SELECT 1").execute(&mut *reader).await?;
        Ok(())
    }

    pub(super) async fn catalog(&self) -> Result<SqliteCatalog, StoreError> {
        Ok(SqliteCatalog { pool: self.pool().await? })
    }

    /// Of the schema of the whole file, and of which file it is.
    pub(super) async fn fingerprint(&self) -> Result<Fingerprint, StoreError> {
        // The table of notes is our own, and made with the first flush.
        let ask = "SELECT coalesce(group_concat(concat_ws(' ', type, name, rootpage, sql)), '') FROM sqlite_schema \
            WHERE tbl_name NOT LIKE 'hearthside\\_%' ESCAPE '\\'";
        let schema: String = sqlx::query_scalar(ask).fetch_one(&mut *reader(&self.pool().await?).await?).await?;
        Ok(Fingerprint { schema: format!("{schema} {:?}", self.writer.file()), ..Fingerprint::default() })
    }

    /// Connections that are open now are closed when they are free, with the statements that they have prepared.
    pub(super) fn retire_connections(&self) {
        self.readers.retire();
    }

    /// The rows of one key; none when it is no text.
    pub(super) async fn rows_of(&self, plan: &Plan, key: &[u8]) -> Result<Vec<Row>, StoreError> {
        let Ok(bound) = Bind::key(plan, key) else { return Ok(Vec::new()) };
        let query = sqlx::query(AssertSqlSafe(plan.one.clone()));
        let query = bound.iter().fold(query, |query, bind| bind.to(query));
        query.fetch_all(&mut *reader(&self.pool().await?).await?).await?.iter().map(read).collect()
    }

    /// The library's plan of the statement of one key; none where a part of the key cannot be a value of its column.
    pub(super) async fn explain(&self, plan: &Plan, key: &[u8]) -> Result<Vec<String>, StoreError> {
        let Ok(bound) = Bind::key(plan, key) else { return Ok(Vec::new()) };
        let query = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", plan.one)));
        let query = bound.iter().fold(query, |query, bind| bind.to(query));
        let rows = query.fetch_all(&mut *reader(&self.pool().await?).await?).await?;
        rows.iter().map(|row| Ok(row.try_get("detail")?)).collect()
    }

    pub(super) async fn each_row(
        &self,
        plan: &Plan,
        mut add: impl FnMut(Row) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let pool = self.pool().await?;
        let mut reader = reader(&pool).await?;
        let mut rows = sqlx::query(AssertSqlSafe(plan.all.clone())).fetch(&mut *reader);
        while let Some(row) = rows.try_next().await? {
            add(read(&row)?)?;
        }
        Ok(())
    }

    pub(super) async fn watch(&self, settings: &config::Store, on_change: OnChange) {
        self.listener.set(on_change.clone());
        feed::watch(&self.writer, settings, on_change).await;
    }

    /// From now on the mapping of this plan is told what this process changes in the tables that it reads.
    pub(super) async fn follow(&self, plan: &Plan) -> Result<(), StoreError> {
        self.interests.add(&self.pool().await?, plan).await
    }

    pub(super) async fn write(
        &self,
        plan: &Plan,
        key: &[u8],
        edit: RowEdit<'_>,
        origin: &str,
    ) -> Result<Written, StoreError> {
        let mut transaction = self.begin(Some(origin)).await?;
        let written = transaction.write(plan, key, edit).await;
        if transaction.is_undone() || matches!(&written, Err(error) if error.is_final()) {
            return written;
        }
        // One that was refused has changed nothing: there is nothing to roll back.
        transaction.commit().await?;
        written
    }

    pub(super) async fn flush(&self, plan: &Plan, rows: &[FlushRow], mark: Mark<'_>) -> Result<Flushed, StoreError> {
        flush::flush(self.begin(Some(mark.origin)).await?, plan, rows, mark).await
    }

    pub(super) async fn page(
        &self,
        listing: &Listing,
        after: &[String],
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        // Numbers are compared as such where every column of the key holds some.
        let is_number = listing.casts.iter().all(|declared| declared.contains("INT"));
        let mut query = sqlx::query(AssertSqlSafe(listing.sql(after.is_empty(), limit)));
        for text in after {
            query = match parse_i64(text.as_bytes()) {
                Some(number) if is_number => query.bind(number),
                _ => query.bind(text),
            };
        }
        let rows = query.fetch_all(&mut *reader(&self.pool().await?).await?).await?;
        let count = listing.keys.len();
        let listed = |row: &SqliteRow| {
            let texts = (0..count).map(|i| row.try_get(i)).collect::<Result<_, _>>()?;
            Ok(Listed { texts, has_ended: row.try_get(count)? })
        };
        Ok(rows.iter().map(listed).collect::<Result<_, sqlx::Error>>()?)
    }

    pub(super) async fn sweep(&self, ending: Ending<'_>, chosen: Chosen<'_>) -> Result<u64, StoreError> {
        let mut transaction = self.begin(None).await?;
        match sweep::sweep(transaction.connection()?, ending, chosen).await {
            Ok(swept) => transaction.commit().await.map(|()| swept),
            Err(error) => {
                transaction.undo().await;
                Err(error)
            }
        }
    }

    pub(super) async fn expired(&self, ending: Ending<'_>, chosen: Chosen<'_>) -> Result<Vec<RowKey>, StoreError> {
        sweep::keys(&mut *reader(&self.pool().await?).await?, ending, chosen).await
    }

    pub(super) async fn enroll(&self, journal: &str, strand: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin(None).await?;
        flush::enroll(transaction.connection()?, journal, strand).await?;
        transaction.commit().await
    }

    pub(super) async fn fence(&self, fence: super::Fence<'_>) -> Result<super::Raised, StoreError> {
        let mut transaction = self.begin(None).await?;
        let raised = flush::fence(transaction.connection()?, fence).await?;
        transaction.commit().await?;
        Ok(raised)
    }

    /// Begins a transaction; `origin` comes back with the notices of the keys that it writes.
    pub(super) async fn begin(&self, origin: Option<&str>) -> Result<SqliteTransaction, StoreError> {
        let guard = self.writer.lock_to_write(&self.interests).await?;
        SqliteTransaction::begin(guard, OwnChanges::new(&self.listener, origin, &self.interests)).await
    }
}

/// Makes a file, under another name first, so that it is there whole or not at all. The demo's folder is made, too.
async fn make(path: &Path, settings: &config::Store, with_demo: bool) -> Result<(), StoreError> {
    match database_file::is_demo(settings) {
        true => database_file::make_folder(path)?,
        false => database_file::check_folder(path)?,
    }
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let options = SqliteConnectOptions::new().filename(&aside).create_if_missing(true).disable_statement_logging();
    let filled = async {
        let filling = Pooling::new(&options, settings).open().await?;
        migrate::sqlite(&filling, with_demo).await?;
        filling.close().await;
        Ok(())
    };
    match filled.await {
        Err(StoreError::Refused(text)) => return Err(database_file::refused(path, &text)),
        other => other?,
    }
    std::fs::rename(&aside, path).map_err(|error| database_file::refused(path, &error))?;
    let with = if with_demo { "the demo world" } else { "no tables" };
    tracing::info!(file = %path.display(), "created the file of the embedded store with {with}");
    Ok(())
}

fn read(row: &SqliteRow) -> Result<Row, StoreError> {
    let cells = row.columns().iter().enumerate().map(|(i, column)| {
        let (name, json) = match column.name().strip_prefix(JSON) {
            Some(name) => (name, true),
            None => (column.name(), false),
        };
        Ok((name.to_owned(), cell(row, i, column.type_info().name() == "BOOLEAN", json)?))
    });
    cells.collect::<Result<_, StoreError>>().map(Row)
}

fn cell(row: &SqliteRow, i: usize, boolean: bool, json: bool) -> Result<Cell, StoreError> {
    let value = row.try_get_raw(i)?;
    if value.is_null() {
        return Ok(Cell::Null);
    }
    let stored = value.type_info().name().to_owned();
    Ok(match stored.as_str() {
        "INTEGER" | "BOOLEAN" if boolean => Cell::Json((row.try_get_unchecked::<i64, _>(i)? != 0).to_string()),
        "INTEGER" => Cell::Json(row.try_get_unchecked::<i64, _>(i)?.to_string()),
        "REAL" => Cell::Json(row.try_get_unchecked::<f64, _>(i)?.to_string()),
        "BLOB" => Cell::Text(String::from_utf8_lossy(&row.try_get_unchecked::<Vec<u8>, _>(i)?).into_owned()),
        _ => {
            let text = row.try_get_unchecked::<String, _>(i)?;
            if json { Cell::Json(compact(&text)) } else { Cell::Text(text) }
        }
    })
}
