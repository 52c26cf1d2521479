//! The rights that the role of `store.url` needs for the mappings, and those that it lacks. Who changes the tables, and
//! fires the triggers, needs none of them.

use std::collections::BTreeMap;

use sqlx::PgPool;

use super::lack::{Lack, note};
use super::names::qualified;
use super::statement;
use crate::config::{DeleteMode, Shape};
use crate::mapping::Mapping;
use crate::store::StoreError;

/// The rights that a role needs on each table, by its name as SQL takes it.
pub(super) type Needs = BTreeMap<String, Vec<&'static str>>;

/// Where deferred writes are noted.
const NOTES: [(&str, &[&str]); 2] = [
    ("hearthside.journals", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("hearthside.flushed", &["SELECT", "INSERT", "DELETE"]),
];

/// What nothing can be deferred without.
const NOTED: [(&str, &[&str]); 2] =
    [("hearthside.journals", &["SELECT", "INSERT", "UPDATE"]), ("hearthside.flushed", &["SELECT", "INSERT"])];

pub(super) fn add(needs: &mut Needs, table: &str, rights: &[&'static str]) {
    let known = needs.entry(table.to_owned()).or_default();
    for right in rights {
        if !known.contains(right) {
            known.push(right);
        }
    }
}

/// What a mapping needs of the tables that it names.
fn of_tables(mapping: &Mapping) -> Needs {
    let (block, mut needs) = (&mapping.config, Needs::new());
    if let Some(table) = &block.table {
        add(&mut needs, table, &["SELECT"]);
        if block.writes_table() {
            add(&mut needs, table, &["INSERT", "UPDATE"]);
        }
        let removes = block.delete == DeleteMode::Row || block.writes_table() && block.shape == Shape::Set;
        if removes || block.expires_column.is_some() {
            add(&mut needs, table, &["UPDATE", "DELETE"]);
        }
    }
    needs
}

/// What a mapping's own SQL needs.
///
/// # Errors
/// The connected role may not run it (42501), or it is faulty.
async fn of_statements(pool: &PgPool, mapping: &Mapping) -> Result<Needs, sqlx::Error> {
    let mut needs = Needs::new();
    let block = &mapping.config;
    for sql in [&block.query, &block.push, &block.remove].into_iter().flatten() {
        let found = statement::needs(pool, as_statement(sql)).await?;
        found.iter().for_each(|(table, rights)| add(&mut needs, table, rights));
    }
    Ok(needs)
}

fn as_statement(sql: &str) -> &str {
    sql.trim().trim_end_matches(';')
}

/// The statements that give `role` what these mappings need, and what whoever migrates needs.
///
/// # Errors
/// [`StoreError`]; the connected role must have these rights itself.
pub(in crate::store) async fn grants(pool: &PgPool, mappings: &[Mapping], role: &str) -> Result<String, StoreError> {
    let mut needs = Needs::new();
    for mapping in mappings {
        for (table, rights) in of_tables(mapping).into_iter().chain(of_statements(pool, mapping).await?) {
            add(&mut needs, &as_shown(pool, &table).await?, &rights);
        }
    }
    let (mut schemas, mut tables) = (Vec::new(), Vec::new());
    for (table, rights) in &needs {
        let asked = sqlx::query_as::<_, (String, String, Vec<String>)>(GRANT).bind(table).bind(role).bind(rights);
        let Some((schema, grant, sequences)) = asked.fetch_optional(pool).await? else { continue };
        schemas.push(schema);
        tables.push(grant);
        tables.extend(sequences);
    }
    schemas.sort();
    schemas.dedup();
    tables.dedup();
    let mut lines = vec![
        "-- What the role of store.url needs; whoever writes the tables otherwise needs nothing for the".to_owned(),
        "-- change triggers. By the owner of the tables:".to_owned(),
    ];
    lines.extend(schemas);
    lines.extend(tables);
    lines.extend(grants_for_import(pool, &needs, role).await?);
    if mappings.iter().any(|mapping| mapping.config.defers()) {
        lines.extend(grants_for_notes(pool, role).await?);
    }
    lines.push(
        "-- Whoever runs `hearthside migrate` needs CREATE on the database, or to own the schema hearthside;".into(),
    );
    lines.push("-- for `hearthside triggers --install` TRIGGER on the watched tables, for --prune to own them.".into());
    Ok(lines.join("\n") + "\n")
}

/// The statements that give rights on a table and on its schema, and on the sequences that an INSERT asks.
const GRANT: &str = "SELECT format('GRANT USAGE ON SCHEMA %I TO %I;', n.nspname, $2), \
    format('GRANT %s ON %I.%I TO %I;', array_to_string($3, ', '), n.nspname, c.relname, $2), \
    ARRAY(SELECT format('GRANT USAGE ON SEQUENCE %s.%I TO %I;', s.relnamespace::regnamespace, s.relname, $2) \
    FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S' \
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'a' AND 'INSERT' = ANY ($3)) \
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";

/// What `hearthside import` needs besides, as notes: it takes back a row whose key has been deleted meanwhile.
async fn grants_for_import(pool: &PgPool, needs: &Needs, role: &str) -> Result<Vec<String>, StoreError> {
    let is_short = |rights: &[&str]| rights.contains(&"INSERT") && !rights.contains(&"DELETE");
    let mut lines = Vec::new();
    for (table, _) in needs.iter().filter(|(_, rights)| is_short(rights)) {
        let asked = sqlx::query_as::<_, (String, String, Vec<String>)>(GRANT).bind(table).bind(role).bind(["DELETE"]);
        lines.extend(asked.fetch_optional(pool).await?.map(|(_, grant, _)| format!("-- {grant}")));
    }
    if !lines.is_empty() {
        lines.insert(0, "-- For `hearthside import` besides, until it is done:".to_owned());
    }
    Ok(lines)
}

/// The statements for the notes of deferred writes. The owner of the application's tables may not look at these.
async fn grants_for_notes(pool: &PgPool, role: &str) -> Result<Vec<String>, StoreError> {
    let mut lines = vec!["-- By the owner of the schema hearthside, who ran `hearthside migrate`:".to_owned()];
    let asked = sqlx::query_scalar("SELECT format('GRANT USAGE ON SCHEMA hearthside TO %I;', $1)");
    lines.push(asked.bind(role).fetch_one(pool).await?);
    for (table, rights) in NOTES {
        let asked = sqlx::query_scalar("SELECT format('GRANT %s ON %s TO %I;', $1, $2, $3)");
        lines.push(asked.bind(rights.join(", ")).bind(table).bind(role).fetch_one(pool).await?);
    }
    Ok(lines)
}

/// What a mapping's own SQL is likely to need, where the role may not ask: to read what is watched, and what `push` and
/// `remove` say first.
fn likely(mapping: &Mapping) -> Needs {
    let (block, mut needs) = (&mapping.config, Needs::new());
    if block.query.is_some() {
        mapping.watched().iter().for_each(|(table, _)| add(&mut needs, table, &["SELECT"]));
    }
    for sql in [&block.push, &block.remove].into_iter().flatten() {
        let mut words = sql.split(|c: char| c.is_whitespace() || c == '(').filter(|word| !word.is_empty());
        let rights: &[&'static str] = match words.next().map(str::to_ascii_lowercase).as_deref() {
            Some("insert") => &["INSERT"],
            Some("update") => &["UPDATE", "SELECT"],
            Some("delete") => &["DELETE", "SELECT"],
            _ => continue,
        };
        let mut names = words.filter(|word| !["into", "from", "only"].contains(&&*word.to_ascii_lowercase()));
        names.next().into_iter().for_each(|table| add(&mut needs, table, rights));
    }
    needs
}

/// A mapping's needs, and why the role may not run one of its statements.
///
/// # Errors
/// The server does not answer.
async fn of_mapping(pool: &PgPool, mapping: &Mapping) -> Result<(Needs, Option<String>), StoreError> {
    let mut needs = of_tables(mapping);
    let mut include = |more: Needs| more.iter().for_each(|(table, rights)| add(&mut needs, table, rights));
    if mapping.config.defers() {
        include(NOTED.iter().map(|(table, rights)| ((*table).to_owned(), rights.to_vec())).collect());
    }
    let denied = match of_statements(pool, mapping).await {
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "42501") => {
            include(likely(mapping));
            Some(error.message().to_owned())
        }
        // What is wrong with a query otherwise has been said.
        Err(sqlx::Error::Database(_)) | Ok(_) => None,
        Err(error) => return Err(error.into()),
    };
    let mut named = Needs::new();
    for (table, rights) in &needs {
        add(&mut named, &as_shown(pool, table).await?, rights);
    }
    Ok((named, denied))
}

/// A table's name with its schema, however a mapping spells it.
async fn as_shown(pool: &PgPool, table: &str) -> Result<String, StoreError> {
    Ok(qualified(pool, table).await?.unwrap_or_else(|| table.to_owned()))
}

/// What is lacking on the schema that a name says, or in which the search path would find its table.
const ON_SCHEMA: &str = "WITH named AS (SELECT parse_ident($1) AS parts), path AS (SELECT i, \
    CASE btrim(s, ' \"') WHEN '$user' THEN current_user ELSE btrim(s, ' \"') END AS name \
    FROM regexp_split_to_table(current_setting('search_path'), ',') WITH ORDINALITY AS s (s, i)) \
    SELECT format('the role %1$s lacks USAGE on the schema %2$I: GRANT USAGE ON SCHEMA %2$I TO %1$I', current_user, \
    n.nspname) FROM named CROSS JOIN pg_namespace AS n LEFT JOIN path ON path.name = n.nspname \
    WHERE NOT has_schema_privilege(n.oid, 'USAGE') \
    AND CASE WHEN cardinality(parts) > 1 THEN n.nspname = parts[cardinality(parts) - 1] \
    ELSE to_regclass($1) IS NULL AND path.i IS NOT NULL AND EXISTS (SELECT FROM pg_class AS c \
    WHERE c.relnamespace = n.oid AND c.relname = parts[1] AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) END \
    ORDER BY path.i LIMIT 1";

/// What is lacking of these rights on a table.
const ON_TABLE: &str = "SELECT format('the role %1$s lacks %2$s on %3$I.%4$I: GRANT %2$s ON %3$I.%4$I TO %1$I', \
    current_user, string_agg(needed, ', '), n.nspname, c.relname) FROM unnest($2::text[]) AS needed, pg_class AS c \
    JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1) \
    AND NOT has_table_privilege(c.oid, needed) GROUP BY n.nspname, c.relname";

/// What the connected role lacks of these rights on one table, or first on its schema, and the statement that gives it.
/// A name that no table can have lacks none: that has been said.
///
/// # Errors
/// [`StoreError`].
pub(in crate::store) async fn lacking_on(
    pool: &PgPool,
    table: &str,
    rights: &[&'static str],
) -> Result<Option<String>, StoreError> {
    let asked = match sqlx::query_scalar(ON_SCHEMA).bind(table).fetch_optional(pool).await {
        Ok(None) => sqlx::query_scalar(ON_TABLE).bind(table).bind(rights).fetch_optional(pool).await,
        other => other,
    };
    match asked {
        Err(sqlx::Error::Database(_)) => Ok(None),
        other => Ok(other?),
    }
}

/// Why the connected role may not run a statement that reads a mapping, with the key of its block; what else is wrong
/// with it is said elsewhere.
///
/// # Errors
/// The server does not answer.
pub(in crate::store) async fn denied(
    pool: &PgPool,
    mapping: &Mapping,
    sql: &str,
) -> Result<Option<(&'static str, String)>, StoreError> {
    let Some(message) = refusal(pool, sql).await? else { return Ok(None) };
    let (key, lack) = match &mapping.config.table {
        Some(table) => ("table", lacking_on(pool, table, &["SELECT"]).await?),
        None => ("query", None),
    };
    Ok(Some((key, lack.unwrap_or_else(|| format!("{message}: {GRANT_IT}")))))
}

/// Why the connected role may not run a statement, in the server's words.
async fn refusal(pool: &PgPool, sql: &str) -> Result<Option<String>, StoreError> {
    match statement::plan(pool, sql).await {
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "42501") => {
            Ok(Some(error.message().to_owned()))
        }
        Err(sqlx::Error::Database(_)) | Ok(_) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Why the connected role may not write a mapping, with keys of its block: what it lacks on the table, and which of the
/// block's own statements it may not run.
///
/// # Errors
/// The server does not answer.
pub(in crate::store) async fn denied_to_write(
    pool: &PgPool,
    mapping: &Mapping,
) -> Result<Vec<(&'static str, String)>, StoreError> {
    let (block, mut faults) = (&mapping.config, Vec::new());
    for (table, mut rights) in of_tables(mapping) {
        rights.retain(|right| *right != "SELECT");
        if !rights.is_empty() {
            faults.extend(lacking_on(pool, &table, &rights).await?.map(|lack| ("table", lack)));
        }
    }
    for (key, sql) in [("push", &block.push), ("remove", &block.remove)] {
        let Some(sql) = sql else { continue };
        let message = refusal(pool, as_statement(sql)).await?;
        faults.extend(message.map(|message| (key, format!("{message}: {GRANT_IT}"))));
    }
    Ok(faults)
}

/// What to do where no table is known that a right is lacking on.
const GRANT_IT: &str = "GRANT it to the role of store.url: `hearthside triggers --grants ROLE`, run by the owner";

/// What the connected role lacks, and must not, to defer anything, a line for each table.
///
/// # Errors
/// [`StoreError`].
pub(in crate::store) async fn lacking_for_notes(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    for (table, rights) in NOTED {
        lines.extend(lacking_on(pool, table, rights).await?);
    }
    Ok(lines)
}

/// What the connected role lacks for these mappings, a line for each table, with the statement that gives it.
///
/// # Errors
/// [`StoreError`].
pub(in crate::store) async fn lacking(pool: &PgPool, mappings: &[Mapping]) -> Result<Vec<Lack>, StoreError> {
    let (mut all, mut together) = (Vec::new(), Needs::new());
    for mapping in mappings {
        let (needs, denied) = of_mapping(pool, mapping).await?;
        needs.iter().for_each(|(table, rights)| add(&mut together, table, rights));
        all.push((needs, denied));
    }
    let mut lacks = Vec::new();
    for (table, rights) in &together {
        let Some(text) = lacking_on(pool, table, rights).await? else { continue };
        for (at, (needs, _)) in all.iter().enumerate() {
            let own = needs.get(table).map_or(&[][..], Vec::as_slice);
            if !own.is_empty() && lacking_on(pool, table, own).await?.is_some() {
                note(&mut lacks, text.clone(), at);
            }
        }
    }
    // Of a statement that may not be run, the table is known by the message alone.
    for (at, (_, denied)) in all.into_iter().enumerate() {
        let is_said = lacks.iter().any(|lack| lack.mappings.contains(&at));
        if let Some(message) = denied.filter(|_| !is_said) {
            note(&mut lacks, format!("{message}: {GRANT_IT}"), at);
        }
    }
    Ok(lacks)
}
