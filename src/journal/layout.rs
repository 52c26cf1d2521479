//! The layout of the journal's file: created in an empty file, brought up to date from earlier versions, and refused
//! where it is unknown.

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::JournalError;

/// The layout's number, kept as `PRAGMA user_version`. Files of before have 0.
const VERSION: i64 = 4;

/// Batches that are marked in `waiting` were taken under `about.incarnation`; `since` was the last batch when that
/// began. `heirs` are openings that asked the store for what it left, and may have got the answer that it is theirs.
/// `appended` counts the entries that were ever taken.
const SCHEMA: &str = "
CREATE TABLE about (incarnation TEXT NOT NULL, last INTEGER NOT NULL, since INTEGER NOT NULL,
    appended INTEGER NOT NULL);
CREATE TABLE heirs (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE waiting (
    key BLOB NOT NULL, field BLOB NOT NULL, seq INTEGER NOT NULL, mapping TEXT NOT NULL, value BLOB,
    weight INTEGER NOT NULL, batch INTEGER, PRIMARY KEY (key, field)
) WITHOUT ROWID;
CREATE INDEX waiting_by_batch ON waiting (batch) WHERE batch IS NOT NULL;
CREATE TABLE known_columns (mapping TEXT PRIMARY KEY, columns TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE refused (
    seq INTEGER PRIMARY KEY, at TEXT NOT NULL, mapping TEXT NOT NULL, key BLOB NOT NULL, field BLOB NOT NULL,
    value BLOB, reason TEXT NOT NULL
);
INSERT INTO about VALUES ('', 0, 0, 0);";

/// The columns of each table, by its name, in the order of both.
const TABLES: &str = "about(incarnation,last,since,appended) heirs(name) known_columns(mapping,columns) \
    refused(seq,at,mapping,key,field,value,reason) waiting(key,field,seq,mapping,value,weight,batch)";

/// Layout 0: one name for all openings of the file.
const FIRST: &str =
    "about(id,last) refused(seq,at,mapping,key,field,value,reason) waiting(key,field,seq,mapping,value,weight,batch)";
const FROM_FIRST: &str = "ALTER TABLE about RENAME COLUMN id TO incarnation;
    CREATE TABLE known_columns (mapping TEXT PRIMARY KEY, columns TEXT NOT NULL) WITHOUT ROWID;";

/// Layout 1: it did not say whether anything was taken under its incarnation, nor who asked for it.
const SECOND: &str = "about(incarnation,last) known_columns(mapping,columns) \
    refused(seq,at,mapping,key,field,value,reason) waiting(key,field,seq,mapping,value,weight,batch)";
const FROM_SECOND: &str = "ALTER TABLE about ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE heirs (name TEXT PRIMARY KEY) WITHOUT ROWID;";

/// Layout 2: it did not count.
const THIRD: &str = "about(incarnation,last,since) heirs(name) known_columns(mapping,columns) \
    refused(seq,at,mapping,key,field,value,reason) waiting(key,field,seq,mapping,value,weight,batch)";
const FROM_THIRD: &str = "ALTER TABLE about ADD COLUMN appended INTEGER NOT NULL DEFAULT 0;";

/// Versions before looked for entries by their numbers. To keep this index up to date took a fifth of an append; those
/// versions do without it, only slower.
const DROP_FORMER: &str = "DROP INDEX IF EXISTS waiting_by_seq";

/// Layout 3 had the same tables: its batches were all of one strand, and programs of before look for no others.
const SINGLE: i64 = 3;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Empty,
    First,
    Second,
    Third,
    Fourth,
    Latest,
}

async fn find(connection: &mut SqliteConnection) -> Result<Layout, JournalError> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    if version > VERSION {
        return Err(JournalError::Layout(format!(
            "it was written by a newer version of Hearthside (layout {version}, this one knows {VERSION})"
        )));
    }
    // Others may stand beside ours: statistics (ANALYZE), what an operator noted.
    let list = "SELECT coalesce(group_concat(columns, ' '), '') FROM (SELECT t.name || '(' || group_concat(c.name) \
        || ')' AS columns FROM (SELECT name FROM sqlite_schema WHERE type = 'table' \
        AND name IN ('about', 'heirs', 'known_columns', 'refused', 'waiting')) AS t, pragma_table_info(t.name) \
        AS c GROUP BY t.name ORDER BY t.name)";
    let tables: String = sqlx::query_scalar(list).fetch_one(&mut *connection).await?;
    let count = "SELECT count(*) FROM sqlite_schema";
    let is_empty = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut *connection).await? == 0;
    match (version, tables.as_str()) {
        (0, "") if is_empty => Ok(Layout::Empty),
        (0, FIRST) => Ok(Layout::First),
        (1, SECOND) => Ok(Layout::Second),
        (2, THIRD) => Ok(Layout::Third),
        (SINGLE, TABLES) => Ok(Layout::Fourth),
        (VERSION, TABLES) => Ok(Layout::Latest),
        _ => Err(JournalError::Layout("it is no journal of Hearthside; give journal.path a file of its own".into())),
    }
}

/// Refuses a file that is no journal that this version can read; false when it is empty.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<bool, JournalError> {
    find(connection).await.map(|layout| layout != Layout::Empty)
}

/// Brings the file to the latest layout, in one transaction.
pub(super) async fn prepare(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    let change = match find(connection).await? {
        Layout::Latest => return drop_former(connection).await,
        Layout::Empty => SCHEMA.to_owned(),
        Layout::First => format!("{FROM_FIRST}{FROM_SECOND}{FROM_THIRD}"),
        Layout::Second => format!("{FROM_SECOND}{FROM_THIRD}"),
        Layout::Third => FROM_THIRD.to_owned(),
        Layout::Fourth => String::new(),
    };
    let script = format!("BEGIN IMMEDIATE; {change} PRAGMA user_version = {VERSION}; COMMIT;");
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *connection).await?;
    drop_former(connection).await
}

/// Nothing is written where there is no such index.
async fn drop_former(connection: &mut SqliteConnection) -> Result<(), JournalError> {
    sqlx::raw_sql(DROP_FORMER).execute(connection).await?;
    Ok(())
}
