//! Makes the publication, and adds what it lacks, table by table. A table whose old rows cannot be told apart is not
//! added: nobody could update or delete its rows any more, which is Postgres's rule.
//! Source: <https://www.postgresql.org/docs/current/logical-replication-publication.html>

use std::time::Duration;

use sqlx::PgPool;

use super::coverage::lacking;
use crate::mapping::Mapping;
use crate::store::StoreError;
use crate::store::catalog::relation::quote;
use crate::store::triggers::{Report, TableInterests, by_table, constant, run_locked};

/// SQL that makes the publication for every mapping, to be run as often as one likes.
#[must_use]
pub fn script<'m>(mappings: impl IntoIterator<Item = &'m Mapping>, publication: &str) -> String {
    let mut script = String::from(
        "-- The publication for Hearthside (store.feed = \"replication\"). To be run as often as one likes, by the \
         owner\n-- of the tables, with CREATE on the database.\n",
    );
    for table in by_table(mappings) {
        script.push_str(&format!("\n-- {}\n{}", table.table.replace(['\n', '\r'], " "), of_table(&table, publication)));
    }
    script
}

/// Adds a table with its children. Partitions come with the table that they are of, and keep their own identity.
fn of_table(table: &TableInterests, publication: &str) -> String {
    let (name, quoted, table) = (constant(publication), quote(publication), constant(&table.table));
    let add = constant(&format!("ALTER PUBLICATION {} ADD TABLE ONLY %s", quoted.replace('%', "%%")));
    format!(
        "DO LANGUAGE plpgsql $hearthside$
DECLARE
    one regclass;
    nameless regclass;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = {name}) THEN
        CREATE PUBLICATION {quoted};
    END IF;
    WITH RECURSIVE below AS (
        SELECT {table}::regclass::oid AS relation
        UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN below AS b ON i.inhparent = b.relation
    ) SELECT c.oid INTO nameless FROM below AS b JOIN pg_class AS c ON c.oid = b.relation
    WHERE c.relkind = 'r' AND c.relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_index AS i
        WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END);
    IF nameless IS NOT NULL THEN
        RAISE EXCEPTION '% has no primary key: published, nobody could update its rows', nameless
            USING HINT = 'ALTER TABLE ... REPLICA IDENTITY FULL';
    END IF;
    FOR one IN WITH RECURSIVE below AS (
        SELECT {table}::regclass::oid AS relation
        UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN below AS b ON i.inhparent = b.relation
    ) SELECT c.oid FROM below AS b JOIN pg_class AS c ON c.oid = b.relation
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_publication AS p
        WHERE p.pubname = {name} AND (p.puballtables OR EXISTS (SELECT FROM pg_publication_rel AS r
            WHERE r.prpubid = p.oid AND r.prrelid = c.oid)))
    LOOP
        -- A transaction that has changed it already would not be told.
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', one);
        EXECUTE format({add}, one);
    END LOOP;
END
$hearthside$;
"
    )
}

/// Makes what these mappings lack. `patience` is how long one attempt waits for a table's lock.
///
/// # Errors
/// The catalog cannot be asked. What concerns one table is in the report.
pub(in crate::store) async fn install(
    pool: &PgPool,
    mappings: &[Mapping],
    publication: &str,
    patience: Duration,
) -> Result<Report, StoreError> {
    let mut report = Report::default();
    for table in by_table(mappings) {
        if lacking(pool, &table, publication).await?.is_empty() {
            continue;
        }
        match run_locked(pool, &table.table, &of_table(&table, publication), patience).await {
            Ok(_) => report.done.push(format!("{} is in the publication {publication}", table.table)),
            Err(error) => report.fail(&table.table, error, ""),
        }
        // What is lacking still is not for this command to do.
        report.failed.extend(lacking(pool, &table, publication).await?);
    }
    Ok(report)
}
