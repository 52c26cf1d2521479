//! What is there of the change triggers, by the catalog of Postgres: what a mapping or a table lacks.
//!
//! A trigger is judged by what it does, not by its name: by its event, whether it is enabled, and the text of the
//! function that it calls, which says whom it serves, and of which the function's name is a digest.

use sqlx::{AssertSqlSafe, FromRow, PgPool};

use super::function::Function;
use super::interest::{TableInterests, by_table};
use super::lack::{Lack, note};
use super::means::Means;
use crate::mapping::Mapping;
use crate::store::StoreError;

/// The tables of these names with their partitions and inheritance children: `$1` are the names, and `token` and
/// `earlier` go with them.
pub(super) const BELOW: &str = "WITH RECURSIVE wanted AS (SELECT to_regclass(name)::oid AS relation, token, earlier \
     FROM unnest($1::text[], $2::text[], $3::text[]) AS w (name, token, earlier)), \
     below AS (SELECT * FROM wanted WHERE relation IS NOT NULL UNION \
     SELECT i.inhrelid, b.token, b.earlier FROM below AS b JOIN pg_inherits AS i ON i.inhparent = b.relation)";

/// What they lack: `token` is what the function must be called, or hold in its text, and `earlier` what the names of
/// triggers of version 0.2 begin with that do as well.
fn lacking() -> String {
    format!(
        "{BELOW} SELECT c.oid::regclass::text AS relation, c.relkind::text AS kind, \
         EXISTS (SELECT 1 FROM pg_subscription_rel AS s WHERE s.srrelid = c.oid) AS is_subscribed, \
         (SELECT string_agg(DISTINCT d.refobjid::regclass::text, ', ') FROM pg_rewrite AS r JOIN pg_depend AS d \
         ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass \
         WHERE r.ev_class = c.oid AND d.refobjid <> c.oid AND c.relkind IN ('v', 'm')) AS behind, \
         string_agg(DISTINCT e.event, ', ') FILTER (WHERE NOT EXISTS (\
         SELECT 1 FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid WHERE t.tgrelid = c.oid \
         AND t.tgtype = e.bit AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL AND cardinality(t.tgattr::int2[]) = 0 \
         AND CASE WHEN p.proname = 'changed' THEN t.tgname = b.earlier || '_' || e.ending \
         ELSE (p.proname = b.token OR strpos(p.prosrc, b.token) > 0) AND p.proname = 'changed_' \
         || left(encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'), 16) END)) AS events \
         FROM below AS b JOIN pg_class AS c ON c.oid = b.relation \
         CROSS JOIN (VALUES ('INSERT', 'ins', 4), ('UPDATE', 'upd', 16), ('DELETE', 'del', 8), \
         ('TRUNCATE', 'trn', 32)) AS e (event, ending, bit) WHERE c.relpersistence <> 't' \
         GROUP BY c.oid, c.relkind ORDER BY c.oid"
    )
}

/// No trigger of ours helps: those for single rows would, and cost a call for each.
const REPLICATED: &str = "rows that a subscription replicates to it fire no statement triggers, with ENABLE ALWAYS \
    neither, and nothing can be installed: its keys are held to cache.max_staleness. To say that this is intended, \
    write a query over it with a ttl and without watch";

/// A table, a partition or a child, and what is not told of it.
#[derive(Debug, FromRow)]
pub(super) struct Judged {
    pub(super) relation: String,
    kind: String,
    is_subscribed: bool,
    /// The tables behind a view.
    behind: Option<String>,
    /// What it lacks a trigger for.
    events: Option<String>,
}

impl Judged {
    /// Why it can have no change triggers, if it cannot.
    pub(super) fn hindrance(&self) -> Option<String> {
        let Self { relation, behind, .. } = self;
        match self.kind.as_str() {
            "v" | "m" => Some(format!(
                "{relation} (a view has no change triggers: write a query over it, which watches the tables behind it: \
                 {})",
                behind.as_deref().unwrap_or("none")
            )),
            "f" => Some(format!("{relation} (a foreign table: what changes at its server fires no trigger here)")),
            _ => None,
        }
    }

    /// True when some of its triggers are missing or switched off.
    pub(super) fn is_lacking(&self) -> bool {
        self.events.is_some() && self.hindrance().is_none()
    }

    /// What of its changes is not told, and what to do.
    fn untold(&self) -> Option<String> {
        let Self { relation, .. } = self;
        let install = "install it with `hearthside triggers --install`";
        let hindered = self.hindrance().map(|hindrance| format!("no change is told of {hindrance}"));
        hindered
            .or_else(|| {
                let events = self.events.as_ref()?;
                Some(format!("change trigger missing on {relation} ({events}); {install}"))
            })
            .or_else(|| self.is_subscribed.then(|| format!("not every change is told of {relation} ({REPLICATED})")))
    }
}

/// What is missing for a mapping to be told of every change, a line for each table, partition and child. Tables that do
/// not exist are passed over: that has been said already.
pub(in crate::store) async fn missing(
    pool: &PgPool,
    mapping: &Mapping,
    means: Means,
) -> Result<Vec<String>, StoreError> {
    Ok(judge_all(pool, [mapping], means).await?.iter().filter_map(Judged::untold).collect())
}

/// The same of several mappings, a line for each table, however many of them it concerns.
pub(in crate::store) async fn missing_of(
    pool: &PgPool,
    mappings: &[&Mapping],
    means: Means,
) -> Result<Vec<Lack>, StoreError> {
    let mut own = Vec::new();
    for mapping in mappings {
        own.push(judge_all(pool, [*mapping], means).await?);
    }
    let mut lacks = Vec::new();
    for judged in judge_all(pool, mappings.iter().copied(), means).await? {
        let Some(text) = judged.untold() else { continue };
        let lacks_it = |own: &Judged| own.relation == judged.relation && own.untold().is_some();
        let concerned = own.iter().enumerate().filter(|(_, own)| own.iter().any(lacks_it));
        concerned.for_each(|(at, _)| note(&mut lacks, text.clone(), at));
    }
    Ok(lacks)
}

async fn judge_all<'m>(
    pool: &PgPool,
    mappings: impl IntoIterator<Item = &'m Mapping>,
    means: Means,
) -> Result<Vec<Judged>, sqlx::Error> {
    let (mut names, mut tokens, mut earlier) = (Vec::new(), Vec::new(), Vec::new());
    for table in by_table(mappings) {
        for interest in &table.interests {
            names.push(table.table.clone());
            tokens.push(interest.token(means));
            earlier.push(if means == Means::Notices { interest.earlier_prefix() } else { String::new() });
        }
    }
    let judged = sqlx::query_as(AssertSqlSafe(lacking())).bind(names).bind(tokens).bind(earlier);
    judged.fetch_all(pool).await
}

/// What a table, its partitions and its children have of its own set, whatever other sets tell; none of a table that
/// does not exist.
pub(super) async fn judge(pool: &PgPool, table: &TableInterests, means: Means) -> Result<Vec<Judged>, sqlx::Error> {
    let (names, wanted) = (vec![&table.table], vec![Function::of(table, means).name]);
    sqlx::query_as(AssertSqlSafe(lacking())).bind(names).bind(wanted).bind(vec![""]).fetch_all(pool).await
}

/// The columns that the table's mappings need to be told what changes, and that it has not; none of a table that does
/// not exist.
pub(super) async fn missing_columns(pool: &PgPool, table: &TableInterests) -> Result<Vec<String>, sqlx::Error> {
    let ask = "SELECT DISTINCT name FROM unnest($2::text[]) AS name WHERE to_regclass($1) IS NOT NULL AND NOT EXISTS \
        (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = name AND attnum > 0 \
        AND NOT attisdropped) ORDER BY 1";
    let of_key = table.interests.iter().filter_map(|interest| interest.key.as_ref()).flat_map(|key| &key.columns);
    let counted = table.interests.iter().filter_map(|interest| interest.counted.as_ref()).flatten();
    let names: Vec<&String> = of_key.chain(counted).collect();
    sqlx::query_scalar(ask).bind(&table.table).bind(names).fetch_all(pool).await
}
