//! What is there for changes to be told by logical replication, and what a mapping or a table lacks: it must be in the
//! publication, with everything that can happen to it, and old rows must come with the columns that keys are made of.

use sqlx::{AssertSqlSafe, FromRow, PgPool};

use crate::mapping::Mapping;
use crate::store::StoreError;
use crate::store::triggers::{Interest, Lack, TableInterests, by_table, note_lack};

/// What is known of a table that rows are in: a mapping's, a partition or a child. `$1` is a table, `$2` the
/// publication. Row filters and lists of columns came with Postgres 15.
const ASK: &str = "WITH RECURSIVE below AS (SELECT to_regclass($1)::oid AS relation UNION \
    SELECT i.inhrelid FROM pg_inherits AS i JOIN below AS b ON i.inhparent = b.relation), \
    published AS (SELECT format('%I.%I', t.schemaname, t.tablename)::regclass::oid AS relation, \
    to_jsonb(t) ->> 'rowfilter' IS NOT NULL AS is_filtered, to_jsonb(t) -> 'attnames' AS columns \
    FROM pg_publication_tables AS t WHERE t.pubname = $2) \
    SELECT c.oid::regclass::text AS relation, c.relkind::text AS kind, c.relpersistence::text AS persistence, \
    p.oid IS NOT NULL AS has_publication, \
    COALESCE(p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, false) AS tells_everything, \
    COALESCE(p.pubviaroot, false) AND c.relispartition AS is_through_root, \
    t.relation IS NOT NULL AS is_published, COALESCE(t.is_filtered, false) AS is_filtered, \
    ARRAY(SELECT a.attname::text FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 \
    AND NOT a.attisdropped AND a.attgenerated = '' \
    AND (t.columns IS NULL OR t.columns = 'null' OR t.columns ? a.attname::text)) AS sent, \
    CASE c.relreplident WHEN 'f' THEN NULL ELSE ARRAY(SELECT a.attname::text FROM pg_index AS i \
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = c.oid \
    AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END) END \
    AS identity \
    FROM below AS b JOIN pg_class AS c ON c.oid = b.relation LEFT JOIN pg_publication AS p ON p.pubname = $2 \
    LEFT JOIN published AS t ON t.relation = c.oid WHERE c.relkind <> 'p' AND c.relpersistence <> 't' ORDER BY c.oid";

#[derive(Debug, FromRow)]
struct Covered {
    relation: String,
    kind: String,
    persistence: String,
    has_publication: bool,
    tells_everything: bool,
    is_through_root: bool,
    is_published: bool,
    is_filtered: bool,
    /// The columns that are sent of a new row.
    sent: Vec<String>,
    /// Those that are sent of an old one; none: all.
    identity: Option<Vec<String>>,
}

impl Covered {
    /// What it lacks to tell these interests of every change, with what to do.
    fn lack(&self, interests: &[Interest], publication: &str) -> Option<String> {
        let install = "`hearthside triggers --install` adds it";
        let why = match self {
            Self { kind, .. } if kind != "r" => "it is no table, and has no changes of its own: watch the tables \
                 behind it"
                .to_owned(),
            Self { persistence, .. } if persistence == "u" => "it is UNLOGGED: its changes are in no log".to_owned(),
            // A table that could not be updated any more is not added.
            Self { identity: Some(columns), .. } if columns.is_empty() => self.identity_needed(interests),
            Self { has_publication: false, .. } => {
                format!("there is no publication {publication}: `hearthside triggers --install` makes it")
            }
            Self { is_through_root: true, .. } => format!(
                "the publication {publication} tells no TRUNCATE of a partition: ALTER PUBLICATION {publication} SET \
                 (publish_via_partition_root = false)"
            ),
            Self { is_published: false, .. } => format!("it is not in the publication {publication}; {install}"),
            Self { tells_everything: false, .. } => format!(
                "the publication {publication} does not tell everything: ALTER PUBLICATION {publication} SET (publish \
                 = 'insert, update, delete, truncate')"
            ),
            Self { is_filtered: true, .. } => format!("the publication {publication} has a row filter for it"),
            _ => return self.untold_key(interests, publication),
        };
        Some(self.untold(&why))
    }

    /// A column of a key that does not come with a new row, or not with an old one.
    fn untold_key(&self, interests: &[Interest], publication: &str) -> Option<String> {
        let mut columns = interests.iter().filter_map(|interest| interest.key.as_ref()).flat_map(|key| &key.columns);
        let column = columns.find(|column| {
            let is_identity = self.identity.as_ref().is_none_or(|identity| identity.contains(column));
            !is_identity || !self.sent.contains(column)
        })?;
        let why = match self.sent.contains(column) {
            false => format!("the publication {publication} does not send the column '{column}' (a generated one?)"),
            true => self.identity_needed(interests),
        };
        Some(self.untold(&why))
    }

    fn untold(&self, why: &str) -> String {
        format!("not every change is told of {}: {why}", self.relation)
    }

    fn identity_needed(&self, interests: &[Interest]) -> String {
        let keys = interests.iter().filter_map(|interest| interest.key.as_ref());
        let mut columns: Vec<&str> = keys.flat_map(|key| &key.columns).map(String::as_str).collect();
        columns.sort_unstable();
        columns.dedup();
        format!(
            "an old row does not come with what its key is made of ({}): ALTER TABLE {relation} REPLICA IDENTITY \
             FULL, or USING INDEX of a unique index with these columns, or make them part of the primary key",
            columns.join(", "),
            relation = self.relation
        )
    }
}

async fn covered(pool: &PgPool, table: &str, publication: &str) -> Result<Vec<Covered>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(ASK)).bind(table).bind(publication).fetch_all(pool).await
}

/// What is missing for a mapping to be told of every change, a line for each table, partition and child. Tables that do
/// not exist are passed over: that has been said already.
///
/// # Errors
/// The catalog cannot be asked.
pub(in crate::store) async fn missing(
    pool: &PgPool,
    mapping: &Mapping,
    publication: &str,
) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    for table in by_table([mapping]) {
        lines.extend(lacking(pool, &table, publication).await?);
    }
    Ok(lines)
}

/// The same of several mappings, a line for each table, however many of them it concerns.
///
/// # Errors
/// As [`missing`].
pub(in crate::store) async fn missing_of(
    pool: &PgPool,
    mappings: &[&Mapping],
    publication: &str,
) -> Result<Vec<Lack>, StoreError> {
    let mut lacks = Vec::new();
    for (at, mapping) in mappings.iter().enumerate() {
        missing(pool, mapping, publication).await?.into_iter().for_each(|text| note_lack(&mut lacks, text, at));
    }
    Ok(lacks)
}

/// What one table, its partitions and children lack.
pub(super) async fn lacking(
    pool: &PgPool,
    table: &TableInterests,
    publication: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let covered = covered(pool, &table.table, publication).await?;
    Ok(covered.iter().filter_map(|covered| covered.lack(&table.interests, publication)).collect())
}
