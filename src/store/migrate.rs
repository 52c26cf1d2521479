//! Migrations, and the demo world that both stores are filled with from one file.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

use super::StoreError;
use crate::telemetry::planted::is_planted;

static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");
static POSTGRES_DEMO: Migrator = sqlx::migrate!("migrations/postgres/demo");
static SQLITE_DEMO: Migrator = sqlx::migrate!("migrations/sqlite/demo");
const WORLD: &str = include_str!("../../migrations/demo_world.sql");
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

pub(super) async fn postgres(pool: &PgPool, demo: bool) -> Result<(), StoreError> {
    beside_others(&POSTGRES).run(pool).await?;
    if is_planted("old-key-ignored") {
        let changed = include_str!("../../migrations/postgres/0002_origin.sql");
        sqlx::raw_sql(AssertSqlSafe(changed.replace("FROM old_rows UNION", "FROM old_rows WHERE false UNION")))
            .execute(pool)
            .await?;
    }
    if !demo {
        return Ok(());
    }
    beside_others(&POSTGRES_DEMO).run(pool).await?;
    let mut transaction = pool.begin().await?;
    if sqlx::query_scalar::<_, bool>(IS_EMPTY).fetch_one(&mut *transaction).await? {
        sqlx::raw_sql(WORLD).execute(&mut *transaction).await?;
    }
    Ok(transaction.commit().await?)
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
