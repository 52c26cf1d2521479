//! `hearthside triggers --prune` and `--remove`: drops triggers, and then the functions that nothing calls any more.
//! Dropping a trigger waits for whoever reads the table, and they for it: it is tried for a short time, several times.

use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow, PgPool};

use super::advice::to_drop;
use super::function::Function;
use super::install::Report;
use super::interest::by_table;
use super::locked::run;
use super::means::Means;
use super::outbox;
use super::present::{BELOW, judge};
use crate::mapping::Mapping;
use crate::store::{StoreError, dropped};

/// The functions `p` that change triggers of this version and the one before call.
const OURS: &str = "p.prorettype = 'trigger'::regtype AND p.pronamespace = to_regnamespace('hearthside') \
    AND (p.proname = 'changed' OR p.proname ~ '^changed_[0-9a-f]{16}$')";

/// Triggers of one table that nobody needs.
#[derive(Debug, FromRow)]
struct Superfluous {
    relation: String,
    /// Quoted.
    names: Vec<String>,
}

/// What no table of these mappings has as its own set. Without mappings these are all.
async fn superfluous(pool: &PgPool, mappings: &[Mapping], means: Means) -> Result<Vec<Superfluous>, sqlx::Error> {
    let ask = format!(
        "{BELOW} SELECT t.tgrelid::regclass::text AS relation, \
         array_agg(quote_ident(t.tgname) ORDER BY t.tgname) AS names \
         FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid WHERE {OURS} AND NOT t.tgisinternal AND NOT EXISTS \
         (SELECT 1 FROM below AS b WHERE b.relation = t.tgrelid AND b.token = p.proname) GROUP BY t.tgrelid ORDER BY 1"
    );
    let tables = by_table(mappings);
    let names: Vec<&String> = tables.iter().map(|table| &table.table).collect();
    let functions: Vec<String> = tables.iter().map(|table| Function::of(table, means).name).collect();
    let earlier = vec![""; names.len()];
    sqlx::query_as(AssertSqlSafe(ask)).bind(names).bind(functions).bind(earlier).fetch_all(pool).await
}

/// Triggers that serve none of these mappings, or serve them beside their table's own set, a line for each table; and
/// whether somebody may want to prepare a transaction, which Postgres refuses after a notice.
/// Source: <https://www.postgresql.org/docs/current/sql-prepare-transaction.html>
///
/// # Errors
/// The catalog cannot be asked.
pub(in crate::store) async fn doubts(
    pool: &PgPool,
    mappings: &[Mapping],
    means: Means,
) -> Result<Vec<String>, StoreError> {
    let line = |found: Superfluous| {
        format!(
            "change triggers of {} serve no mapping of this configuration, or another set does the same ({}): \
             `hearthside triggers --prune` drops them",
            found.relation,
            found.names.join(", ")
        )
    };
    let mut lines: Vec<String> = superfluous(pool, mappings, means).await?.into_iter().map(line).collect();
    let most = "SELECT current_setting('max_prepared_transactions') <> '0'";
    if !mappings.is_empty() && sqlx::query_scalar::<_, bool>(most).fetch_one(pool).await? {
        let text = "the server takes PREPARE TRANSACTION (max_prepared_transactions), and will refuse it to \
                    transactions that change a watched table, because a trigger has sent a notice in them";
        lines.push(text.to_owned());
    }
    let missing = dropped::of_triggers(pool).await?;
    if !missing.is_empty() {
        lines.push(format!("{} is missing: run `hearthside migrate`", missing.join(", ")));
    }
    let all = "SELECT has_function_privilege('public', 'pg_catalog.pg_notify(text, text)', 'EXECUTE')";
    if !mappings.is_empty() && !sqlx::query_scalar::<_, bool>(all).fetch_one(pool).await? {
        let text = "not every role may call pg_notify: what the others change in a watched table is told as the whole \
                    mapping; GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO PUBLIC";
        lines.push(text.to_owned());
    }
    Ok(lines)
}

/// Drops what serves none of these mappings: of another configuration, too. Nothing is dropped where a
/// table's own set is not whole, or a table does not exist.
///
/// # Errors
/// The catalog cannot be asked. What concerns one table is in the report.
pub(in crate::store) async fn prune(
    pool: &PgPool,
    mappings: &[Mapping],
    means: Means,
    patience: Duration,
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    for table in by_table(mappings) {
        let judged = judge(pool, &table, means).await?;
        if judged.is_empty() {
            // Under a mistyped name, the triggers that are needed would look like nobody's.
            report.failed.push(format!("there is no table '{}': nothing was dropped", table.table));
        }
        let lacking = judged.into_iter().filter(|judged| judged.is_lacking());
        let first = "its own triggers are not complete; run `hearthside triggers --install` first";
        report.failed.extend(lacking.map(|judged| format!("{}: {first}", judged.relation)));
    }
    if report.failed.is_empty() { drop_superfluous(pool, mappings, means, patience).await } else { Ok(report) }
}

/// Drops every trigger and generated function, and the outbox. What the migrations made stays, with the notes of
/// deferred writes.
///
/// # Errors
/// As [`prune`].
pub(in crate::store) async fn remove(pool: &PgPool, patience: Duration) -> Result<Report, StoreError> {
    let mut report = drop_superfluous(pool, &[], Means::Notices, patience).await?;
    if report.failed.is_empty() {
        outbox::remove(pool, patience, &mut report).await?;
    }
    Ok(report)
}

async fn drop_superfluous(
    pool: &PgPool,
    mappings: &[Mapping],
    means: Means,
    patience: Duration,
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    for Superfluous { relation, names } in superfluous(pool, mappings, means).await? {
        let drops = names.iter().map(|name| format!("DROP TRIGGER IF EXISTS {name} ON {relation};\n"));
        let script = drops.collect::<String>();
        let dropped = run(pool, &relation, &script, patience).await;
        let line = format!("dropped {} of {relation}", names.join(", "));
        note(pool, &mut report, &relation, dropped.map(|_| line)).await;
    }
    let unused = format!(
        "SELECT p.proname::text FROM pg_proc AS p WHERE {OURS} AND p.proname <> 'changed' AND p.proname <> ALL ($1) \
         AND NOT EXISTS (SELECT 1 FROM pg_trigger AS t WHERE t.tgfoid = p.oid)"
    );
    let wanted: Vec<String> = by_table(mappings).iter().map(|table| Function::of(table, means).name).collect();
    let unused: Vec<String> = sqlx::query_scalar(AssertSqlSafe(unused)).bind(wanted).fetch_all(pool).await?;
    for name in unused {
        let script = format!("DROP FUNCTION IF EXISTS hearthside.{name}();");
        let dropped = run(pool, &name, &script, patience).await;
        note(pool, &mut report, &name, dropped.map(|_| format!("dropped hearthside.{name}()"))).await;
    }
    Ok(report)
}

/// Notes what became of one thing that was to be dropped.
async fn note(pool: &PgPool, report: &mut Report, about: &str, outcome: Result<String, sqlx::Error>) {
    match outcome {
        Ok(done) => report.done.push(done),
        Err(error) => {
            let advice = to_drop(pool, about, &error).await;
            report.fail(about, error, &advice);
        }
    }
}
