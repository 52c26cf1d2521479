//! The ledger of our migrations beside an application's own.

use super::text;
use crate::support::postgres::Postgres;
use crate::support::sidecar::Sidecar;

const THEIRS: &str = "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
    installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL, checksum BYTEA NOT NULL, \
    execution_time BIGINT NOT NULL)";

#[test]
fn an_application_with_migrations_of_its_own_is_not_disturbed_and_does_not_disturb() {
    let postgres = Postgres::start();
    postgres.sql(THEIRS);
    postgres.sql(
        "INSERT INTO _sqlx_migrations SELECT i, 'theirs', now(), true, '\\x00', 1 FROM generate_series(1, 7) AS i",
    );
    let builder = Sidecar::builder().postgres(&postgres);
    for _ in 0..2 {
        let done = builder.execute(&["migrate", "--demo"]);
        assert!(done.status.success(), "{}", text(&done));
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM _sqlx_migrations WHERE description = 'theirs'"), "7");
    assert_eq!(postgres.sql("SELECT count(*) FROM _sqlx_migrations"), "7");
    assert_eq!(postgres.sql("SELECT count(*) FROM hearthside._sqlx_migrations"), "9");
}

#[test]
fn what_earlier_versions_noted_in_the_usual_place_is_taken_over() {
    for theirs in [0, 1] {
        let postgres = Postgres::start();
        let builder = Sidecar::builder().postgres(&postgres);
        assert!(builder.execute(&["migrate"]).status.success());
        // As version 0.2 leaves it.
        postgres.sql(THEIRS);
        postgres.sql(
            "INSERT INTO _sqlx_migrations SELECT * FROM hearthside._sqlx_migrations WHERE version < 6; \
             DROP TABLE hearthside._sqlx_migrations",
        );
        postgres.sql(&format!(
            "INSERT INTO _sqlx_migrations SELECT 100, 'theirs', now(), true, '\\x00', 1 FROM generate_series(1, {theirs})"
        ));
        let done = builder.execute(&["migrate"]);
        assert!(done.status.success(), "{}", text(&done));
        assert_eq!(postgres.sql("SELECT count(*) FROM hearthside._sqlx_migrations"), "6");
        let left = postgres.sql("SELECT string_agg(version::text, ',' ORDER BY version) FROM _sqlx_migrations");
        assert_eq!(left, if theirs == 0 { "1,2,3,4,5" } else { "100" });
    }
}
