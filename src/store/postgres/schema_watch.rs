//! Fingerprints of tables from the catalog of Postgres, over a connection of their own: who reads catalogs waits for no
//! table's lock, and must not wait for other statements either. Knows of a mapping only which tables it names.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Row as _};
use tokio::sync::Mutex;

use super::way::Way;
use crate::mapping::Mapping;
use crate::store::StoreError;
use crate::store::schema::{Fingerprint, names};

/// For each name: two digests of what is known of its table, of its partitions and the tables that inherit from it, and
/// of what a view is made of, down to the tables. The second holds which transactions last changed the rows of the
/// catalog (`xmin`), so that what was changed and changed back since the last look is seen, too: meanwhile triggers may
/// have been off, and rows loaded that are not right now.
const ASK: &str = "WITH RECURSIVE tree (name, oid, joined) AS ( \
    SELECT name, to_regclass(name)::oid, '' FROM unnest($1::text[]) AS name \
    UNION SELECT tree.name, below.oid, below.joined FROM tree CROSS JOIN LATERAL ( \
        SELECT i.inhrelid, i.xmin::text FROM pg_inherits i WHERE i.inhparent = tree.oid \
        UNION ALL SELECT d.refobjid, '' FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid \
            AND d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass \
            WHERE r.ev_class = tree.oid) AS below (oid, joined)), \
    digests (name, schema, storage) AS (SELECT tree.name, hashtextextended(string_agg(concat_ws(' ', \
        c.oid, c.relnamespace, c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relpartbound, \
        c.relacl, has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'), \
        has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE'), c.relreplident, \
        (SELECT string_agg(concat_ws(',', p.pubname, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, \
            p.pubviaroot, p.puballtables, r.oid), ';' ORDER BY p.oid, r.oid) \
         FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND (r.prrelid = c.oid \
            OR r.prrelid IN (SELECT relid FROM pg_partition_ancestors(c.oid))) \
         WHERE p.puballtables OR r.oid IS NOT NULL), \
        (SELECT string_agg(concat_ws(',', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated, \
            a.attidentity, a.attcollation, a.attacl, d.adbin, \
            (SELECT string_agg(e.enumlabel, '/' ORDER BY e.enumsortorder) FROM pg_enum e \
             WHERE e.enumtypid IN (t.oid, t.typelem, t.typbasetype)), \
            (SELECT string_agg(concat_ws(':', m.attname, m.atttypid), '/' ORDER BY m.attnum) FROM pg_attribute m \
             WHERE m.attrelid = t.typrelid AND m.attnum > 0 AND NOT m.attisdropped)), ';' ORDER BY a.attnum) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
        (SELECT string_agg(concat_ws(',', t.tgname, t.tgfoid, t.tgenabled), ';' ORDER BY t.tgname) \
         FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal), \
        (SELECT string_agg(concat_ws(',', x.indkey, x.indnkeyatts, x.indisvalid, x.indisreplident, x.indpred), ';' \
            ORDER BY x.indkey::text) \
         FROM pg_index x WHERE x.indrelid = c.oid AND x.indisunique), \
        (SELECT string_agg(concat_ws(',', p.oid, p.xmin), ';' ORDER BY p.oid) FROM pg_policy p \
         WHERE p.polrelid = c.oid), \
        (SELECT string_agg(r.ev_action::text, ';' ORDER BY r.oid) FROM pg_rewrite r WHERE r.ev_class = c.oid) \
    ), ' ' ORDER BY c.oid), 0)::text, hashtextextended(string_agg(concat_ws(' ', c.relfilenode, c.xmin, tree.joined, \
        (SELECT string_agg(a.xmin::text, ',' ORDER BY a.attnum) FROM pg_attribute a \
         WHERE a.attrelid = c.oid AND a.attnum > 0), \
        (SELECT string_agg(t.xmin::text, ',' ORDER BY t.oid) FROM pg_trigger t \
         WHERE t.tgrelid = c.oid AND NOT t.tgisinternal), \
        (SELECT string_agg(p.xmin::text, ',' ORDER BY p.oid) FROM pg_publication p \
         WHERE p.puballtables OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid \
            AND (r.prrelid = c.oid OR r.prrelid IN (SELECT relid FROM pg_partition_ancestors(c.oid))))) \
    ), ' ' ORDER BY c.oid), 0)::text \
    FROM tree JOIN pg_class c ON c.oid = tree.oid GROUP BY tree.name) \
    SELECT current_setting('search_path'), (SELECT coalesce(string_agg( \
        concat_ws(' ', setdatabase, setrole, setconfig), ' ' ORDER BY setdatabase, setrole), '') \
        FROM pg_db_role_setting \
        WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
        AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))), \
    digests.* FROM (SELECT) AS always LEFT JOIN digests ON true";

/// What is known of each name's table; none of a name that no table has.
type Digests = HashMap<String, (String, String)>;

/// A connection whose session has what a new one would have.
#[derive(Debug)]
struct Watching {
    connection: PgConnection,
    /// The settings that it began with.
    settings: String,
    /// How it was opened.
    options: Arc<PgConnectOptions>,
}

/// The connection.
#[derive(Debug)]
pub(super) struct SchemaWatch {
    way: Way,
    /// How long an answer is waited for.
    patience: Duration,
    open: Mutex<Option<Watching>>,
}

impl SchemaWatch {
    pub(super) fn new(way: Way, patience: Duration) -> Self {
        Self { way, patience, open: Mutex::default() }
    }

    /// The fingerprint of each mapping's tables, and the search path of a new session.
    pub(super) async fn fingerprints(&self, mappings: &[&Mapping]) -> Result<(Vec<Fingerprint>, String), StoreError> {
        let names: Vec<BTreeSet<String>> = mappings.iter().map(|mapping| names(mapping)).collect();
        let all: BTreeSet<&String> = names.iter().flatten().collect();
        let all: Vec<String> = all.into_iter().cloned().collect();
        let asked = tokio::time::timeout(self.patience, self.digests(&all)).await;
        let digests = asked.unwrap_or_else(|_| Err(StoreError::Unavailable("the catalog was not read in time".into())));
        let (digests, search_path) = digests?;
        let fingerprints = names.iter().map(|names| fingerprint(names, &digests, &search_path)).collect();
        Ok((fingerprints, search_path))
    }

    async fn digests(&self, names: &[String]) -> Result<(Digests, String), StoreError> {
        let mut open = self.open.lock().await;
        // A connection on which the waiting for an answer was given up is dropped.
        if let Some(mut watching) = open.take().filter(|watching| self.way.is_by(&watching.options)) {
            let answer = ask_all(&mut watching.connection, names).await?;
            if answer.settings == watching.settings {
                *open = Some(watching);
                return Ok((answer.digests, answer.search_path));
            }
        }
        // A new session may have another search path, with other tables of the same names.
        let options = self.way.get();
        let mut connection = options.connect().await?;
        let Seen { digests, search_path, settings } = ask_all(&mut connection, names).await?;
        *open = Some(Watching { connection, settings, options });
        Ok((digests, search_path))
    }
}

/// What the catalog holds, and what a session has and a new one would begin with.
#[derive(Default)]
struct Seen {
    search_path: String,
    settings: String,
    digests: Digests,
}

async fn ask_all(connection: &mut PgConnection, names: &[String]) -> Result<Seen, StoreError> {
    match ask(connection, names).await {
        Err(error) if error.is_final() => Err(error),
        // Some name cannot be looked up: no table's, or in a schema that may not be used. It keeps none of the others
        // from being seen.
        Err(_) => ask_one_by_one(connection, names).await,
        Ok(answer) => Ok(answer),
    }
}

async fn ask(connection: &mut PgConnection, names: &[String]) -> Result<Seen, StoreError> {
    let mut answer = Seen::default();
    for row in sqlx::query(ASK).bind(names).fetch_all(connection).await? {
        (answer.search_path, answer.settings) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(name) = row.try_get(2)? {
            answer.digests.insert(name, (row.try_get(3)?, row.try_get(4)?));
        }
    }
    Ok(answer)
}

async fn ask_one_by_one(connection: &mut PgConnection, names: &[String]) -> Result<Seen, StoreError> {
    let mut answer = ask(connection, &[]).await?;
    for name in names {
        match ask(connection, std::slice::from_ref(name)).await {
            Ok(one) => answer.digests.extend(one.digests),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => drop(answer.digests.insert(name.clone(), (error.to_string(), String::new()))),
        }
    }
    Ok(answer)
}

fn fingerprint(names: &BTreeSet<String>, digests: &Digests, search_path: &str) -> Fingerprint {
    let mut fingerprint = Fingerprint { schema: format!("{search_path} "), ..Fingerprint::default() };
    for (name, (schema, storage)) in names.iter().filter_map(|name| digests.get_key_value(name)) {
        fingerprint.schema.push_str(&format!("{name}={schema} "));
        fingerprint.storage.push_str(&format!("{name}={storage} "));
    }
    fingerprint
}
