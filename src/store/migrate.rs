//! Migrations, and the demo world that both stores are filled with from one file.

use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, SqlitePool};

use super::triggers::{Means, Report};
use super::{StoreError, dropped, triggers};
use crate::config;
use crate::mapping::Mappings;
use crate::telemetry::Progress;

static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");
static POSTGRES_DEMO: Migrator = sqlx::migrate!("migrations/postgres/demo");
static SQLITE_DEMO: Migrator = sqlx::migrate!("migrations/sqlite/demo");
const WORLD: &str = include_str!("../../migrations/demo_world.sql");
/// Which migrations have been applied to Postgres.
const LEDGER: &str = "hearthside._sqlx_migrations";

/// How long what is made waits for a lock.
const PATIENCE: Duration = Duration::from_secs(3);

const IS_EMPTY: &str = "SELECT NOT EXISTS (SELECT 1 FROM locations)";

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// The same table of versions serves both sets, so each must overlook the other's.
fn beside_others(set: &Migrator) -> Migrator {
    let mut migrator = Migrator { migrations: set.migrations.clone(), ..Migrator::DEFAULT };
    migrator.set_ignore_missing(true);
    migrator
}

/// The same in Postgres, whose ledger stands in our own schema: an application may have one of the usual name.
fn in_our_schema(set: &Migrator) -> Migrator {
    let mut migrator = beside_others(set);
    migrator.dangerous_set_table_name(LEDGER);
    migrator
}

/// Makes the ledger, and takes over what versions before 0.3 noted in the usual place: the rows that are ours by
/// version and checksum. Where others have rows there, ours are taken out, because their migrator would refuse them.
async fn take_over_ledger(connection: &mut PgConnection) -> Result<(), StoreError> {
    let ours = POSTGRES.iter().chain(POSTGRES_DEMO.iter());
    let (versions, checksums): (Vec<i64>, Vec<&[u8]>) = ours.map(|ours| (ours.version, &*ours.checksum)).unzip();
    let make = "DO $$ BEGIN IF to_regnamespace('hearthside') IS NULL THEN CREATE SCHEMA hearthside; END IF; END $$";
    sqlx::raw_sql(make).execute(&mut *connection).await?;
    connection.ensure_migrations_table(LEDGER).await?;
    let earlier = "SELECT to_regclass('_sqlx_migrations')::text WHERE to_regclass('_sqlx_migrations') <> $1::regclass";
    let earlier: Option<String> = sqlx::query_scalar(earlier).bind(LEDGER).fetch_optional(&mut *connection).await?;
    let Some(earlier) = earlier else { return Ok(()) };
    let are_ours = "(e.version, e.checksum) IN (SELECT * FROM unnest($1::bigint[], $2::bytea[]))";
    let copy = format!("INSERT INTO {LEDGER} SELECT e.* FROM {earlier} AS e WHERE {are_ours} ON CONFLICT DO NOTHING");
    let part = format!(
        "DELETE FROM {earlier} AS e WHERE {are_ours} AND EXISTS (SELECT 1 FROM {earlier} AS e WHERE NOT {are_ours})"
    );
    for sql in [copy, part] {
        sqlx::query(AssertSqlSafe(sql)).bind(&versions).bind(&checksums).execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn postgres(pool: &PgPool, demo: bool, means: Means) -> Result<(), StoreError> {
    let progress = Progress::begin("migrate");
    let step = |words: &str| progress.advance(1, || words.to_owned());
    step("waiting for others who migrate");
    let mut connection = pool.acquire().await?;
    connection.lock().await?;
    take_over_ledger(&mut connection).await?;
    connection.unlock().await?;
    drop(connection);
    step("the schema hearthside");
    in_our_schema(&POSTGRES).run(pool).await?;
    step("what somebody has dropped of it");
    dropped::make_again(pool).await?;
    if means == Means::Outbox {
        step("the outbox");
        let mut report = Report::default();
        triggers::install_outbox(pool, PATIENCE, &mut report).await?;
        all_is_done(report)?;
    }
    if !demo {
        return Ok(());
    }
    step("the demo world");
    in_our_schema(&POSTGRES_DEMO).run(pool).await?;
    install_demo(pool, means).await?;
    let mut transaction = pool.begin().await?;
    if sqlx::query_scalar::<_, bool>(IS_EMPTY).fetch_one(&mut *transaction).await? {
        sqlx::raw_sql(WORLD).execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}

/// Makes the change triggers of the demo's mappings.
async fn install_demo(pool: &PgPool, means: Means) -> Result<(), StoreError> {
    let mut shipped = config::read("built-in config.toml", config::SHIPPED, std::iter::empty());
    let mappings = Mappings::compile(&shipped.config, &mut shipped.faults);
    all_is_done(triggers::install(pool, &mappings.list, means, PATIENCE).await?)
}

fn all_is_done(report: Report) -> Result<(), StoreError> {
    if report.failed.is_empty() { Ok(()) } else { Err(StoreError::Refused(report.failed.join("; "))) }
}

pub(super) async fn sqlite(pool: &SqlitePool, demo: bool) -> Result<(), StoreError> {
    if !demo {
        return Ok(());
    }
    beside_others(&SQLITE_DEMO).run(pool).await?;
    let mut transaction = pool.begin().await?;
    if sqlx::query_scalar::<_, bool>(IS_EMPTY).fetch_one(&mut *transaction).await? {
        sqlx::raw_sql(WORLD).execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
}
