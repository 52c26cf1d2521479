//! SQLite: the embedded store. Its file is watched as a whole (`feed`). Knows no cache.

mod catalog;
mod feed;
mod flush;
mod interests;
mod own_changes;
#[cfg(test)]
mod recorded;
mod statement;
mod transaction;
mod value;
mod write;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column as _, ConnectOptions, Row as _, SqlitePool, TypeInfo, ValueRef};

pub(super) use catalog::SqliteCatalog;
pub(super) use transaction::SqliteTransaction;

use super::catalog::target::Expires;
use super::change::OnChange;
use super::dialect::JSON;
use super::json::compact;
use super::listing::Listing;
use super::retirement::Retirement;
use super::row::{Cell, Row};
use super::schema::Fingerprint;
use super::{FlushRow, Flushed, Mark, Plan, StoreError, migrate};
use crate::config;
use crate::record::{RowEdit, Written};
use crate::resp::number::parse_i64;
use feed::Writer;
use interests::Interests;
use own_changes::{Listener, OwnChanges};
use value::Bind;

#[derive(Debug)]
pub(super) struct Sqlite {
    pool: SqlitePool,
    writer: Writer,
    /// Connections of the pool that were opened before are not used any more.
    retirement: Retirement,
    interests: Interests,
    listener: Listener,
}

fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    let options =
        SqliteConnectOptions::from_str(url).map_err(|error| StoreError::of_url(&error, "sqlite://folder/file.db"))?;
    Ok(options.disable_statement_logging())
}

fn path(url: &str) -> Option<PathBuf> {
    let options = options(url).ok()?;
    let path = options.get_filename();
    (!url.contains(":memory:")).then(|| path.to_path_buf())
}

/// Whether a `sqlite:` URL can be read.
pub(super) fn check_url(url: &str) -> Result<(), StoreError> {
    options(url).map(|_| ())
}

/// True when the file of a `sqlite:` URL is there.
pub(super) fn exists(url: &str) -> bool {
    path(url).is_some_and(|path| path.exists())
}

async fn pool(
    options: &SqliteConnectOptions,
    settings: &config::Store,
    retirement: Retirement,
) -> Result<SqlitePool, StoreError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(settings.connect_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .before_acquire(move |_, meta| {
            let is_retired = retirement.concerns(meta.age);
            Box::pin(async move { Ok(!is_retired) })
        })
        .connect_with(options.clone())
        .await?;
    Ok(pool)
}

impl Sqlite {
    /// Opens the file; one that is not there is made with the demo world, under another name first, so that it is there
    /// whole or not at all.
    pub(super) async fn open(settings: &config::Store) -> Result<Self, StoreError> {
        if let Some(path) = path(&settings.url).filter(|path| !path.exists()) {
            create_demo(&path, settings).await?;
        }
        let mut options = options(&settings.url)?.busy_timeout(settings.query_timeout);
        let memory = settings.url.contains(":memory:");
        if !memory {
            options = options.journal_mode(SqliteJournalMode::Wal);
        }
        let store = Self::over(options, settings, path(&settings.url)).await?;
        if memory {
            migrate::sqlite(&store.pool, true).await?;
        }
        store.ping().await?;
        Ok(store)
    }

    /// Over the file at `path`; without one, over a database in memory.
    async fn over(
        options: SqliteConnectOptions,
        settings: &config::Store,
        path: Option<PathBuf>,
    ) -> Result<Self, StoreError> {
        let retirement = Retirement::default();
        let pool = pool(&options, settings, retirement.clone()).await?;
        let writer = Writer::new(options, path, retirement.clone());
        let (interests, listener) = (Interests::default(), Listener::default());
        Ok(Self { pool, writer, retirement, interests, listener })
    }

    pub(super) const fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    pub(super) const fn catalog(&self) -> SqliteCatalog<'_> {
        SqliteCatalog { pool: &self.pool }
    }

    /// Of the schema of the whole file, and of which file it is.
    pub(super) async fn fingerprint(&self) -> Result<Fingerprint, StoreError> {
        let version: i64 = sqlx::query_scalar("PRAGMA schema_version").fetch_one(&self.pool).await?;
        Ok(Fingerprint { schema: format!("{version} {:?}", self.writer.file()), ..Fingerprint::default() })
    }

    /// Connections that are open now are closed when they are free, with the statements that they have prepared.
    pub(super) fn retire_connections(&self) {
        self.retirement.retire_all();
    }

    /// The rows of one key; none when it is no text.
    pub(super) async fn rows_of(&self, plan: &Plan, key: &[u8]) -> Result<Vec<Row>, StoreError> {
        let Ok(bound) = Bind::key(plan, key) else { return Ok(Vec::new()) };
        let query = sqlx::query(AssertSqlSafe(plan.one.clone()));
        let query = bound.iter().fold(query, |query, bind| bind.to(query));
        query.fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    pub(super) async fn each_row(
        &self,
        plan: &Plan,
        mut add: impl FnMut(Row) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let mut rows = sqlx::query(AssertSqlSafe(plan.all.clone())).fetch(&self.pool);
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
        self.interests.add(&self.pool, plan).await
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
        if matches!(&written, Err(error) if error.is_final()) {
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
    ) -> Result<Vec<Vec<String>>, StoreError> {
        // Numbers are compared as such where every column of the key holds some.
        let is_number = listing.casts.iter().all(|declared| declared.contains("INT"));
        let mut query = sqlx::query(AssertSqlSafe(listing.sql(after.is_empty(), limit)));
        for text in after {
            query = match parse_i64(text.as_bytes()) {
                Some(number) if is_number => query.bind(number),
                _ => query.bind(text),
            };
        }
        let rows = query.fetch_all(&self.pool).await?;
        let texts = |row: &SqliteRow| (0..listing.keys.len()).map(|i| row.try_get(i)).collect();
        Ok(rows.iter().map(texts).collect::<Result<_, sqlx::Error>>()?)
    }

    pub(super) async fn sweep(&self, table: &str, expires: &Expires, grace: f64) -> Result<u64, StoreError> {
        let column = &expires.column;
        let mut transaction = self.begin(None).await?;
        let sql = format!(
            "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} \
             WHERE unixepoch({column}, 'subsec') < unixepoch('now', 'subsec') - ?1 LIMIT 1000)"
        );
        let swept = sqlx::query(AssertSqlSafe(sql)).bind(grace).execute(transaction.connection()?).await?;
        transaction.commit().await?;
        Ok(swept.rows_affected())
    }

    pub(super) async fn enroll(&self, journal: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin(None).await?;
        flush::enroll(transaction.connection()?, journal).await?;
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

async fn create_demo(path: &Path, settings: &config::Store) -> Result<(), StoreError> {
    let refuse = |error: std::io::Error| StoreError::Refused(format!("{}: {error}", path.display()));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(refuse)?;
    }
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let options = SqliteConnectOptions::new().filename(&aside).create_if_missing(true).disable_statement_logging();
    let filling = pool(&options, settings, Retirement::default()).await?;
    migrate::sqlite(&filling, true).await?;
    filling.close().await;
    std::fs::rename(&aside, path).map_err(refuse)?;
    tracing::info!(file = %path.display(), "created the embedded store with the demo world");
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
