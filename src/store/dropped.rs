//! What the migrations made and somebody has dropped: what of it is missing, and how it is made again. The ledger says
//! for ever that it was made.

use sqlx::{AssertSqlSafe, PgPool};

use super::StoreError;

/// Something that a migration made.
struct Made {
    name: &'static str,
    /// True in SQL where it is there.
    is_there: &'static str,
    /// Makes it as the latest migration leaves it.
    make: &'static str,
}

/// What deferred writes need.
const NOTES: [Made; 4] = [
    Made {
        name: "the table hearthside.flushed",
        is_there: "to_regclass('hearthside.flushed') IS NOT NULL",
        make: include_str!("../../migrations/postgres/0003_flushed.sql"),
    },
    Made {
        name: "the column at of hearthside.flushed",
        is_there: "EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('hearthside.flushed') \
            AND attname = 'at' AND NOT attisdropped)",
        make: "ALTER TABLE hearthside.flushed ADD COLUMN IF NOT EXISTS at timestamptz NOT NULL DEFAULT now()",
    },
    Made {
        name: "the table hearthside.journals",
        is_there: "to_regclass('hearthside.journals') IS NOT NULL",
        make: "CREATE TABLE hearthside.journals (journal text PRIMARY KEY, applied bigint NOT NULL, \
            fence bigint NOT NULL, at timestamptz NOT NULL DEFAULT now(), successor text, CHECK (fence >= applied))",
    },
    Made {
        name: "the column successor of hearthside.journals",
        is_there: "EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('hearthside.journals') \
            AND attname = 'successor' AND NOT attisdropped)",
        make: "ALTER TABLE hearthside.journals ADD COLUMN IF NOT EXISTS successor text",
    },
];

/// What makes the change triggers, and what those of version 0.2 call.
const FUNCTIONS: [Made; 2] = [
    Made {
        name: "the function hearthside.attach",
        is_there: "to_regprocedure('hearthside.attach(regclass, text)') IS NOT NULL",
        make: include_str!("../../migrations/postgres/0006_triggers.sql"),
    },
    Made {
        name: "the function hearthside.changed",
        is_there: "to_regprocedure('hearthside.changed()') IS NOT NULL",
        make: include_str!("../../migrations/postgres/0006_triggers.sql"),
    },
];

/// Who may note in one of the two tables may note in both.
const GRANT: &str = "DO $$ DECLARE one text; BEGIN FOR one IN SELECT DISTINCT \
    CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END FROM pg_class, aclexplode(relacl) AS acl \
    WHERE pg_class.oid IN ('hearthside.flushed'::regclass, 'hearthside.journals'::regclass) \
    AND acl.grantee <> relowner AND acl.privilege_type = 'INSERT' LOOP \
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON hearthside.journals TO %s', one); \
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON hearthside.flushed TO %s', one); END LOOP; END $$";

/// What is missing of what deferred writes need.
pub(super) async fn of_notes(pool: &PgPool) -> Result<Vec<&'static str>, StoreError> {
    Ok(missing(pool, NOTES.iter()).await?.into_iter().map(|made| made.name).collect())
}

/// What is missing of what makes change triggers; nothing in a database that was never migrated, or for a role that may
/// not see it.
pub(super) async fn of_triggers(pool: &PgPool) -> Result<Vec<&'static str>, StoreError> {
    let is_seen = "SELECT has_schema_privilege(n.oid, 'USAGE') FROM pg_namespace AS n JOIN pg_class AS c \
        ON c.relnamespace = n.oid AND c.relname = '_sqlx_migrations' WHERE n.nspname = 'hearthside'";
    match sqlx::query_scalar(is_seen).fetch_optional(pool).await? {
        Some(true) => Ok(missing(pool, FUNCTIONS.iter()).await?.into_iter().map(|made| made.name).collect()),
        Some(false) | None => Ok(Vec::new()),
    }
}

/// Makes again what is missing, after the migrations.
///
/// # Errors
/// [`StoreError`]; nothing was made then.
pub(super) async fn make_again(pool: &PgPool) -> Result<(), StoreError> {
    let mut transaction = pool.begin().await?;
    let lock = "SELECT pg_advisory_xact_lock(hashtext('hearthside.dropped'))";
    sqlx::query(lock).execute(&mut *transaction).await?;
    let missing = missing(&mut *transaction, NOTES.iter().chain(&FUNCTIONS)).await?;
    for made in &missing {
        tracing::info!("{} was dropped, and is made again", made.name);
        sqlx::raw_sql(made.make).execute(&mut *transaction).await?;
    }
    if !missing.is_empty() {
        sqlx::raw_sql(GRANT).execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

async fn missing<'m>(
    executor: impl sqlx::PgExecutor<'_>,
    all: impl Iterator<Item = &'m Made> + Clone,
) -> Result<Vec<&'m Made>, StoreError> {
    let asked: Vec<&str> = all.clone().map(|made| made.is_there).collect();
    let ask = format!("SELECT ARRAY[{}]", asked.join(", "));
    let there: Vec<bool> = sqlx::query_scalar(AssertSqlSafe(ask)).fetch_one(executor).await?;
    Ok(all.zip(there).filter(|(_, is_there)| !is_there).map(|(made, _)| made).collect())
}
