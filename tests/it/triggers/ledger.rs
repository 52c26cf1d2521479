//! The ledger of our migrations beside an application's own.

use super::{installed, over, text};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

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

/// What somebody drops, and what the check says of it.
const DROPPED: [(&str, &str); 5] = [
    ("DROP TABLE hearthside.journals", "which makes the table hearthside.journals, the column successor of"),
    ("DROP TABLE hearthside.flushed", "which makes the table hearthside.flushed, the column at of hearthside.flushed"),
    (
        "ALTER TABLE hearthside.journals DROP COLUMN successor",
        "which makes the column successor of hearthside.journals",
    ),
    ("DROP FUNCTION hearthside.attach", "the function hearthside.attach is missing: run `hearthside migrate`"),
    (
        "DROP TABLE hearthside.journals; DROP FUNCTION hearthside.attach, hearthside.changed",
        "which makes the table hearthside.journals, the column successor of hearthside.journals",
    ),
];

#[test]
fn what_was_dropped_is_named_and_made_again() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'); CREATE ROLE side LOGIN; \
         GRANT ALL ON t TO side",
    );
    let config = over("t", "write = \"through\"\ndeferred = [\"v\"]");
    let builder = installed(&postgres, &config).redis(&redis);
    postgres
        .sql("GRANT USAGE ON SCHEMA hearthside TO side; GRANT ALL ON hearthside.journals, hearthside.flushed TO side");
    let side = postgres.url().replace("postgres@", "side@");
    let owner = postgres.url();
    let sidecar = installed(&postgres, &config)
        .redis(&redis)
        .set("STORE__URL", &side)
        .set("JOURNAL__FLUSH_INTERVAL", "20ms")
        .expect(&[warnings::DEFERRED_REFUSED, warnings::OLD_NOTES_STAY, warnings::DEFERRED_WAIT])
        .start();
    let mut wire = sidecar.wire();
    for (i, (drop, expected)) in DROPPED.into_iter().enumerate() {
        postgres.sql(drop);
        let told = text(&builder.execute_with("STORE__URL", &side, &["check", "--connect"]));
        assert!(told.contains(expected), "{drop}: missing {expected:?} in {told}");
        let done = builder.execute_with("STORE__URL", &owner, &["migrate"]);
        assert!(done.status.success(), "{drop}: {}", text(&done));
        let checked = builder.execute_with("STORE__URL", &side, &["check", "--connect"]);
        assert!(checked.status.success() && !text(&checked).contains("missing"), "{drop}: {}", text(&checked));
        // The role may use again what it could use before, and what is deferred is saved.
        until("deferred writes are taken again", || wire.ask(&format!("HSET r:1 v {i}")) == ":0\r\n");
        until("it is saved", || postgres.sql("SELECT v FROM t WHERE id = 1") == i.to_string());
    }
}
