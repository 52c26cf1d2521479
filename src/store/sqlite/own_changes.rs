//! What this process's own transactions change in SQLite. The file's version does not say it: they run over the
//! connection that is asked for the version. Temporary triggers, which exist on that connection only, note the keys of
//! the rows that change, by our statements, by the owner's triggers and by foreign keys alike (decision 0024).
//!
//! Source: <https://www.sqlite.org/lang_createtrigger.html>, "TEMP Triggers on Non-TEMP Tables"

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::interests::{Interest, Interests};
use crate::store::catalog::relation::quote;
use crate::store::{Change, MOST_KEYS, OnChange, StoreError};
use crate::telemetry::planted::is_planted;

/// Receives the changes, from the moment the feed is watched.
#[derive(Clone, Default)]
pub(super) struct Listener(Arc<OnceLock<OnChange>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Listener {
    pub(super) fn set(&self, on_change: OnChange) {
        // A feed is watched once.
        let _first = self.0.set(on_change);
    }
}

/// What a transaction has changed so far, to be told when it is committed.
#[derive(Debug)]
pub(super) struct OwnChanges {
    listener: Listener,
    /// What comes back with the notices of keys whose records the writer knows.
    origin: Option<String>,
    /// By mapping: the keys, and whether the last change of the key was a write of it, whose result the writer has.
    /// The empty key stands for the whole mapping.
    keys: BTreeMap<String, BTreeMap<Vec<u8>, bool>>,
    /// Mappings that any write may concern.
    others: Vec<String>,
}

impl OwnChanges {
    pub(super) fn new(listener: &Listener, origin: Option<&str>, interests: &Interests) -> Self {
        let (listener, origin) = (listener.clone(), origin.map(str::to_owned));
        Self { listener, origin, keys: BTreeMap::new(), others: interests.concerned_by_any_write() }
    }

    /// Takes what has been noted since the last time; `written` is the key that was written meanwhile.
    pub(super) async fn take(
        &mut self,
        connection: &mut SqliteConnection,
        written: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let take = "DELETE FROM temp.hearthside_changed RETURNING mapping, CAST(key AS BLOB)";
        let changed: Vec<(String, Option<Vec<u8>>)> = sqlx::query_as(take).fetch_all(connection).await?;
        for (mapping, key) in changed {
            // A row without a value in a column of the key has no key.
            let Some(key) = key else { continue };
            let is_written = written == Some(&key[..]);
            self.keys.entry(mapping).or_default().insert(key, is_written);
        }
        Ok(())
    }

    /// Tells what has changed: it is committed.
    pub(super) fn tell(&mut self) {
        let Some(on_change) = self.listener.0.get() else { return };
        if is_planted("own-sqlite-write-not-told") {
            return;
        }
        for (mapping, keys) in std::mem::take(&mut self.keys) {
            if keys.len() > MOST_KEYS || keys.contains_key(&[][..]) {
                on_change(Change::Mapping(mapping));
                continue;
            }
            let (written, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(|(_, is_written)| *is_written);
            for (keys, origin) in [(written, self.origin.clone()), (others, None)] {
                if !keys.is_empty() {
                    on_change(Change::Keys(keys.into_iter().map(|(key, _)| Bytes::from(key)).collect(), origin));
                }
            }
        }
        self.others.drain(..).for_each(|mapping| on_change(Change::Mapping(mapping)));
    }
}

/// Which triggers a connection has: the edition of the interests, and the file's schema.
pub(super) type Installed = (u64, i64);

/// Installs the triggers that the interests ask for, unless the connection has them; which these are.
pub(super) async fn install(
    connection: &mut SqliteConnection,
    interests: &Interests,
    has: Option<Installed>,
) -> Result<Installed, StoreError> {
    let schema: i64 = sqlx::query_scalar("PRAGMA schema_version").fetch_one(&mut *connection).await?;
    if has == Some((interests.edition(), schema)) {
        return Ok((interests.edition(), schema));
    }
    let (edition, all) = interests.all();
    let mut script = String::from(
        "PRAGMA temp_store = MEMORY; CREATE TEMP TABLE IF NOT EXISTS hearthside_changed (mapping TEXT, key TEXT);\n",
    );
    let old = "SELECT name FROM sqlite_temp_schema WHERE type = 'trigger'";
    for name in sqlx::query_scalar::<_, String>(old).fetch_all(&mut *connection).await? {
        // Writing to a String cannot fail.
        let _ = writeln!(script, "DROP TRIGGER temp.{};", quote(&name));
    }
    let may_replace = all.values().any(|interest| interest.may_replace) || replaces(connection).await?;
    let wanted: BTreeSet<String> =
        all.values().flat_map(|interest| &interest.tables).map(|(table, _)| table.to_ascii_lowercase()).collect();
    for (number, name) in wanted.iter().enumerate() {
        if let Some(table) = table(connection, name, may_replace).await? {
            table.triggers(number, &all, &mut script);
        }
    }
    sqlx::raw_sql(AssertSqlSafe(script)).execute(connection).await?;
    Ok((edition, schema))
}

/// Whether a table or trigger may displace rows by REPLACE, of which no trigger is told.
async fn replaces(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    let ask = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'trigger') AND sql LIKE '%REPLACE%')";
    Ok(sqlx::query_scalar(ask).fetch_one(connection).await?)
}

/// A table that triggers can be on.
struct Table {
    name: String,
    /// In small letters, as all names of columns here.
    columns: Vec<String>,
    /// The columns of each unique index and of the primary key; none where an index is over an expression.
    unique: Vec<Vec<Option<String>>>,
    may_replace: bool,
}

async fn table(connection: &mut SqliteConnection, name: &str, may_replace: bool) -> Result<Option<Table>, StoreError> {
    let ask = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE \
        AND sql NOT LIKE 'CREATE VIRTUAL%' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let found: Option<String> = sqlx::query_scalar(ask).bind(name).fetch_optional(&mut *connection).await?;
    let Some(name) = found else { return Ok(None) };
    let ask = "SELECT lower(name) FROM pragma_table_xinfo(?1)";
    let columns = sqlx::query_scalar(ask).bind(&name).fetch_all(&mut *connection).await?;
    let ask = "SELECT json_group_array(lower(i.name)) FROM pragma_index_list(?1) AS l, pragma_index_info(l.name) AS i \
        WHERE l.\"unique\" GROUP BY l.name \
        UNION ALL SELECT json_group_array(lower(name)) FROM pragma_table_info(?1) WHERE pk > 0 GROUP BY pk > 0";
    let sets: Vec<String> = sqlx::query_scalar(ask).bind(&name).fetch_all(connection).await?;
    let unique = sets.iter().filter_map(|set| serde_json::from_str(set).ok()).collect();
    Ok(Some(Table { name, columns, unique, may_replace }))
}

impl Table {
    /// Adds the triggers that note the changes of this table's rows for each mapping that is told of them.
    fn triggers(&self, number: usize, all: &BTreeMap<String, Interest>, script: &mut String) {
        for (event, rows) in [("INSERT", &["new"][..]), ("UPDATE", &["old", "new"]), ("DELETE", &["old"])] {
            let name = format!("hearthside_{number}_{}", event.to_ascii_lowercase());
            let on = quote(&self.name);
            let _ = writeln!(script, "CREATE TEMP TRIGGER {name} AFTER {event} ON main.{on} BEGIN");
            for (pattern, interest) in all {
                let told = interest.tables.iter().filter(|(table, _)| table.eq_ignore_ascii_case(&self.name));
                for (key, row) in told.flat_map(|(_, columns)| rows.iter().map(move |row| (columns, row))) {
                    let key = self.key(row, key.as_deref(), &interest.literals);
                    let _ = writeln!(script, "INSERT INTO hearthside_changed VALUES ({}, {key});", text(pattern));
                }
            }
            script.push_str("END;\n");
        }
    }

    /// True when the table has these columns, and a row that REPLACE displaces holds the same in them as the new one.
    fn says(&self, columns: &[String]) -> bool {
        let mut names = columns.iter().map(|column| column.to_lowercase());
        let is_in_all = |name: &String| self.unique.iter().all(|set| set.contains(&Some(name.clone())));
        names.all(|name| self.columns.contains(&name) && (!self.may_replace || is_in_all(&name)))
    }

    /// The key of a row, as an expression; the empty text for the whole mapping.
    fn key(&self, row: &str, columns: Option<&[String]>, literals: &[String]) -> String {
        let Some(columns) = columns.filter(|columns| self.says(columns)) else { return text("") };
        let mut literals = literals.iter();
        let mut key = literals.next().map_or_else(|| text(""), |literal| text(literal));
        for (column, literal) in columns.iter().zip(literals) {
            let _ = write!(key, " || CAST({row}.{} AS TEXT) || {}", quote(column), text(literal));
        }
        key
    }
}

/// A text as SQL writes it.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
