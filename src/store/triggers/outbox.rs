//! The tables that triggers write to while somebody reads them, and what empties them: what makes them, what is missing
//! of them, who may use them, and how they go.

use std::time::Duration;

use sqlx::PgPool;

use super::install::Report;
use super::locked::run;
use crate::store::StoreError;

/// Makes what is missing.
pub(super) const MAKE: &str = include_str!("outbox.sql");

/// What is lacking, a line each, with what to do.
const LACKS: &str = "WITH tables AS (SELECT count(*) AS many, bool_and(has_table_privilege(oid, 'SELECT')) AS are_read \
    FROM pg_class WHERE relnamespace = to_regnamespace('hearthside') AND relkind = 'r' \
    AND relname IN ('outbox_0', 'outbox_1', 'outbox_2')), \
    cleaner AS (SELECT count(*) AS many, bool_and(has_function_privilege(oid, 'EXECUTE')) AS is_called FROM pg_proc \
    WHERE pronamespace = to_regnamespace('hearthside') AND proname = 'clean_outbox') \
    SELECT array_remove(ARRAY[ \
    CASE WHEN current_setting('server_version_num')::int < 140000 THEN 'Postgres is older than version 14' END, \
    CASE WHEN tables.many < 3 OR cleaner.many < 1 THEN 'there is no outbox: `hearthside migrate` makes it, by the \
    owner of the schema hearthside' END, \
    CASE WHEN NOT are_read THEN format('the role %1$s may not read the outbox: GRANT SELECT ON hearthside.outbox_0, \
    hearthside.outbox_1, hearthside.outbox_2 TO %1$I', current_user) END, \
    CASE WHEN NOT is_called THEN format('the role %1$s may not clean the outbox: GRANT EXECUTE ON FUNCTION \
    hearthside.clean_outbox(pg_snapshot, int) TO %1$I', current_user) END], NULL) FROM tables, cleaner";

/// Whether every role may write to it.
const IS_OPEN: &str = "SELECT bool_and(has_table_privilege('public', oid, 'INSERT') \
    AND has_schema_privilege('public', relnamespace, 'USAGE')) FROM pg_class \
    WHERE relnamespace = to_regnamespace('hearthside') AND relname IN ('outbox_0', 'outbox_1', 'outbox_2')";

const NOT_OPEN: &str = "not every role may write to the outbox: what the others change in a watched table is told as \
    the whole mapping; GRANT USAGE ON SCHEMA hearthside TO PUBLIC; GRANT INSERT ON hearthside.outbox_0, \
    hearthside.outbox_1, hearthside.outbox_2 TO PUBLIC";

/// What a sidecar's role needs.
const GRANTS: &str = "SELECT format('-- For the outbox, by the owner of the schema hearthside:\nGRANT SELECT ON \
    hearthside.outbox_0, hearthside.outbox_1, hearthside.outbox_2 TO %1$I;\nGRANT EXECUTE ON FUNCTION \
    hearthside.clean_outbox(pg_snapshot, int) TO %1$I;\n', $1)";

/// Whether nothing of it is there.
const IS_GONE: &str = "SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('hearthside') \
    AND relname IN ('outbox_0', 'outbox_1', 'outbox_2'))";

const DROP: &str = "DROP FUNCTION IF EXISTS hearthside.clean_outbox(pg_snapshot, int);
    DROP TABLE IF EXISTS hearthside.outbox_0, hearthside.outbox_1, hearthside.outbox_2";

/// What the server, the schema and the role lack for changes to be told so, a line each.
///
/// # Errors
/// The catalog cannot be asked.
pub(in crate::store) async fn lacks(executor: impl sqlx::PgExecutor<'_>) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(LACKS).fetch_one(executor).await?)
}

/// What an operator should know, a line each.
///
/// # Errors
/// As [`lacks`].
pub(in crate::store) async fn doubts(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    let is_open: Option<bool> = sqlx::query_scalar(IS_OPEN).fetch_one(pool).await?;
    Ok(if is_open == Some(false) { vec![NOT_OPEN.to_owned()] } else { Vec::new() })
}

/// The statements that let a role read it.
pub(super) async fn grants(pool: &PgPool, role: &str) -> Result<String, StoreError> {
    Ok(sqlx::query_scalar(GRANTS).bind(role).fetch_one(pool).await?)
}

/// Makes it where it is not whole.
///
/// # Errors
/// The catalog cannot be asked. What goes wrong otherwise is in the report.
pub(in crate::store) async fn install(
    pool: &PgPool,
    patience: Duration,
    report: &mut Report,
) -> Result<(), StoreError> {
    let is_whole = "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('hearthside') \
        AND relkind IN ('r', 'i') AND relname ~ '^outbox_[012](_xid)?$') = 6 AND EXISTS (SELECT FROM pg_proc \
        WHERE pronamespace = to_regnamespace('hearthside') AND proname = 'clean_outbox' AND prosrc = $1)";
    // The function may be an older version's.
    let cleaner = MAKE.split("$body$").nth(1);
    if sqlx::query_scalar::<_, bool>(is_whole).bind(cleaner).fetch_one(pool).await? {
        return Ok(());
    }
    match run(pool, "the outbox", MAKE, patience).await {
        Ok(_) => report.done.push("made the outbox".to_owned()),
        Err(error) => {
            let advice =
                "; run `hearthside migrate` as the owner of the schema hearthside, with store.feed = \"outbox\"";
            report.fail("the outbox", error, advice);
        }
    }
    Ok(())
}

/// Drops it, when nothing writes to it any more.
///
/// # Errors
/// As [`install`].
pub(super) async fn remove(pool: &PgPool, patience: Duration, report: &mut Report) -> Result<(), StoreError> {
    if sqlx::query_scalar::<_, bool>(IS_GONE).fetch_one(pool).await? {
        return Ok(());
    }
    match run(pool, "the outbox", DROP, patience).await {
        Ok(_) => report.done.push("dropped the outbox".to_owned()),
        Err(error) => report.fail("the outbox", error, "; run this as the owner of the schema hearthside"),
    }
    Ok(())
}
