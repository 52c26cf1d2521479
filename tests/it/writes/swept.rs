//! Rows of keys that have ended and cannot be removed, or whose keys were given another end that still waits.

use std::time::{Duration, Instant};

use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

const CONFIG: &str = r#"
[[caches]]
key = "a:{id:int}"
type = "hash"
table = "a"
expires_column = "ends"
write = "through"
delete = "row"

[[caches]]
key = "b:{id:int}:{part}"
type = "hash"
table = "b"
expires_column = "ends"
write = "through"
delete = "row"
"#;

/// Rows of `a` that are referred to (7, 1700), and one that a trigger keeps (2900); `b` is in nobody's way.
const TABLES: &str = "CREATE TABLE a (id BIGINT PRIMARY KEY, v TEXT, ends TIMESTAMPTZ); \
    CREATE TABLE b (id BIGINT, part TEXT, v TEXT, ends TIMESTAMPTZ, PRIMARY KEY (id, part)); \
    CREATE TABLE child (a BIGINT CONSTRAINT child_of_a REFERENCES a (id)); \
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF OLD.v = 'kept' THEN RAISE EXCEPTION 'kept' USING ERRCODE = '57P01'; END IF; RETURN OLD; END $$; \
    CREATE TRIGGER keep BEFORE DELETE ON a FOR EACH ROW EXECUTE FUNCTION keep(); \
    INSERT INTO a SELECT i, CASE i WHEN 2900 THEN 'kept' END, now() - interval '1 hour' \
    FROM generate_series(1, 3000) i; INSERT INTO child VALUES (7), (1700)";

fn builder(redis: &Redis, postgres: &Postgres) -> Builder {
    Sidecar::builder().redis(redis).postgres(postgres).config(CONFIG).migrated()
}

fn unswept(sidecar: &Sidecar, mapping: &str) -> String {
    let (_, metrics) = request(sidecar, "GET", "/metrics");
    let name = format!("hearthside_unswept_rows{{mapping=\"{mapping}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("none").to_owned()
}

#[test]
fn a_row_that_cannot_be_removed_keeps_none_of_the_others_and_is_tried_again() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let builder = builder(&redis, &postgres).set("STORE__SWEEP_INTERVAL", "100ms").expect(&[warnings::NOT_SWEPT]);
    let sidecar = builder.start();
    let left = || postgres.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM a");
    until("all others are gone", || left() == "7,1700,2900");
    until("they are counted", || unswept(&sidecar, "a:{id:int}") == "3");
    assert_eq!(metric(&sidecar, "hearthside_swept_total"), 2997.0);
    let log = sidecar.log();
    // The first line comes with the first of them, and the next ten seconds later.
    assert!(log.contains("mapping=\"a:{id:int}\" rows="), "{log}");
    assert!(log.matches(warnings::NOT_SWEPT).count() < 10, "{log}");
    // What ends meanwhile goes.
    postgres.sql("INSERT INTO a VALUES (5000, 'late', now() - interval '1 hour')");
    until("it is gone", || left() == "7,1700,2900");
    postgres.sql("DELETE FROM child WHERE a = 7; UPDATE a SET v = 'free' WHERE id = 2900");
    until("those that may go now are gone", || left() == "1700");
    until("one is left", || unswept(&sidecar, "a:{id:int}") == "1");
    postgres.sql("UPDATE a SET ends = now() + interval '1 hour' WHERE id = 1700");
    until("it lives", || unswept(&sidecar, "a:{id:int}") == "0");
    assert_eq!(left(), "1700");
}

#[test]
fn a_locked_table_holds_up_the_sweep_of_no_other() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    postgres.sql("INSERT INTO b SELECT i, 'x', NULL, now() - interval '1 hour' FROM generate_series(1, 2000) i");
    let builder = builder(&redis, &postgres).set("STORE__SWEEP_INTERVAL", "100ms").set("STORE__QUERY_TIMEOUT", "60s");
    let _sidecar = builder.expect(&[warnings::NOT_SWEPT, warnings::UNPLANNED]).start();
    until("the first has been", || postgres.sql("SELECT count(*) FROM b") == "0");
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE a IN SHARE MODE;");
    postgres.sql("INSERT INTO b SELECT i, 'x', NULL, now() - interval '1 hour' FROM generate_series(1, 2000) i");
    until("those of the other are gone", || postgres.sql("SELECT count(*) FROM b") == "0");
    session.run("ROLLBACK;");
    until("the first goes on", || postgres.sql("SELECT count(*) FROM a") == "3");
}

#[test]
fn in_sqlite_a_row_that_cannot_be_removed_keeps_none_of_the_others() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("swept.db").display().to_string();
    let sql = |text: &str| {
        let told = std::process::Command::new("sqlite3").args([&file, text]).output().expect("sqlite3 is installed");
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    };
    sql("PRAGMA journal_mode = WAL; CREATE TABLE a (id INTEGER PRIMARY KEY, v TEXT, ends TEXT); \
         CREATE TABLE b (id INTEGER, part TEXT, v TEXT, ends TEXT, PRIMARY KEY (id, part)); \
         CREATE TABLE child (a INTEGER REFERENCES a (id), b INTEGER REFERENCES a (id) DEFERRABLE INITIALLY DEFERRED); \
         CREATE TRIGGER keep BEFORE DELETE ON b WHEN OLD.v IN ('abort', 'fail', 'rollback') BEGIN \
         SELECT CASE OLD.v WHEN 'abort' THEN RAISE(ABORT, 'kept') WHEN 'fail' THEN RAISE(FAIL, 'kept') \
         ELSE RAISE(ROLLBACK, 'kept') END; END; \
         WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 3000) \
         INSERT INTO a SELECT i, NULL, datetime('now', '-1 hour') FROM i; INSERT INTO child VALUES (7, 1700); \
         INSERT INTO b SELECT id, 'x', CASE id WHEN 8 THEN 'abort' WHEN 1800 THEN 'fail' WHEN 2900 THEN 'rollback' END, \
         ends FROM a");
    let builder = Sidecar::builder().redis(&redis).config(CONFIG).set("STORE__URL", format!("sqlite://{file}"));
    let builder = builder.set("STORE__SWEEP_INTERVAL", "100ms").expect(&[warnings::NOT_SWEPT]);
    let sidecar = builder.start();
    let left = |table: &str| sql(&format!("SELECT group_concat(id) FROM (SELECT id FROM {table} ORDER BY id)"));
    until("all others of the first are gone", || left("a") == "7,1700");
    until("and of the second", || left("b") == "8,1800,2900");
    until("they are counted", || unswept(&sidecar, "b:{id:int}:{part}") == "3");
    sql("DELETE FROM child; UPDATE b SET v = 'free'");
    until("those that may go now are gone", || left("a").is_empty() && left("b").is_empty());
}

/// A key of which the store says that it ended long ago, and its journal that it lives.
#[test]
fn a_row_whose_new_end_waits_in_the_journal_is_not_swept_at_the_start() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    postgres.sql(
        "DELETE FROM child; DELETE FROM a WHERE v IS NULL; UPDATE a SET v = 'x', ends = now() + interval '1 hour'",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal.db").display().to_string();
    let builder = |sweeps: &str| {
        let builder = builder(&redis, &postgres).set("JOURNAL__PATH", journal.clone());
        builder.set("JOURNAL__FLUSH_INTERVAL", "60s").set("STORE__SWEEP_INTERVAL", sweeps)
    };
    let mut sidecar = builder("1h").start();
    assert_eq!(sidecar.wire().ask("EXPIRE a:2900 7200"), ":1\r\n");
    sidecar.kill();
    postgres
        .sql("UPDATE a SET ends = now() - interval '1 hour'; INSERT INTO a VALUES (1, 'x', now() - interval '1 hour')");
    let sidecar = builder("50ms").start();
    until("the other is swept", || metric(&sidecar, "hearthside_swept_total") >= 1.0);
    assert_eq!(postgres.sql("SELECT string_agg(id::text, ',') FROM a"), "2900");
    until("the end is saved", || postgres.sql("SELECT count(*) FROM a WHERE ends > now() + interval '1 hour'") == "1");
}

#[test]
fn a_row_whose_new_end_waited_while_the_store_was_away_is_not_swept_when_it_is_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    postgres
        .sql("DELETE FROM child; DELETE FROM a WHERE v IS NULL; UPDATE a SET v = 'x', ends = now() + interval '7 s'");
    let builder = builder(&redis, &postgres).set("JOURNAL__FLUSH_INTERVAL", "60s").expect(warnings::STORE_AWAY);
    let builder = builder.set("STORE__QUERY_TIMEOUT", "500ms").set("STORE__CONNECT_TIMEOUT", "500ms");
    let builder = builder.set("STORE__QUEUE_TIMEOUT", "100ms").set("STORE__SWEEP_INTERVAL", "50ms");
    let sidecar = builder.set("STORE__SWEEP_GRACE", "10ms").expect(&[warnings::NOT_SWEPT]).start();
    let mut wire = sidecar.wire();
    let begun = Instant::now();
    assert_eq!(wire.ask("HGET a:2900 v"), "$1\r\nx\r\n");
    postgres.stop();
    assert_eq!(wire.ask("EXPIRE a:2900 7200"), ":1\r\n");
    until("the old end has passed", || begun.elapsed() > Duration::from_secs(8));
    assert_eq!(wire.ask("HGET a:2900 v"), "$1\r\nx\r\n", "it lives");
    postgres.launch();
    until("the end is saved", || postgres.sql("SELECT count(*) FROM a WHERE ends > now() + interval '1 hour'") == "1");
    until("it is read", || wire.ask("HGET a:2900 v") == "$1\r\nx\r\n");
}

/// A round has begun, and waits in the middle of it.
#[test]
fn a_row_that_is_given_a_new_end_during_a_round_is_not_swept_by_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    postgres.sql(
        "DROP TRIGGER keep ON a; DELETE FROM child; DELETE FROM a WHERE id > 2; CREATE FUNCTION hold() \
         RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN OLD; END $$; \
         CREATE TRIGGER hold BEFORE DELETE ON a FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION hold()",
    );
    let mut session = postgres.session();
    session.run("SELECT pg_advisory_lock(7);");
    postgres.sql("UPDATE a SET v = 'x', ends = now() + interval '7 s' WHERE id = 2");
    let begun = Instant::now();
    let builder = builder(&redis, &postgres).set("JOURNAL__FLUSH_INTERVAL", "60s").set("STORE__QUERY_TIMEOUT", "60s");
    let sidecar = builder.set("STORE__SWEEP_INTERVAL", "50ms").set("STORE__SWEEP_GRACE", "10ms").start();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    until("the round waits", || postgres.sql(waiting) == "1");
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("HGET a:2 v"), wire.ask("EXPIRE a:2 7200")], ["$1\r\nx\r\n", ":1\r\n"]);
    until("the old end has passed", || begun.elapsed() > Duration::from_secs(8));
    session.run("SELECT pg_advisory_unlock(7);");
    until("the first is swept", || metric(&sidecar, "hearthside_swept_total") >= 1.0);
    postgres.sql("INSERT INTO a VALUES (3, 'x', now() - interval '1 hour')");
    until("another round has been", || postgres.sql("SELECT count(*) FROM a WHERE id = 3") == "0");
    assert_eq!(postgres.sql("SELECT string_agg(id::text, ',') FROM a"), "2");
}

/// The row is given its new end under one of two keys, which the table does not take for now.
#[test]
fn a_row_is_not_swept_while_its_new_end_waits_under_a_key_of_another_mapping() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    postgres.sql(
        "DELETE FROM child; DROP TRIGGER keep ON a; DELETE FROM a; \
         INSERT INTO a VALUES (1, 'x', now() + interval '1 hour'); \
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.ends > now() THEN \
         RAISE EXCEPTION 'not now' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER refuse BEFORE UPDATE ON a FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    let (first, _) = CONFIG.split_at(CONFIG.rfind("[[caches]]").expect("two mappings"));
    let both = format!("{first}{}", first.replace("a:{id:int}", "c:{id:int}"));
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&both).migrated();
    let builder = builder.set("STORE__SWEEP_INTERVAL", "50ms");
    let sidecar = builder.expect(&[warnings::NOT_SWEPT, warnings::DEFERRED_WAIT]).start();
    assert_eq!(sidecar.wire().ask("EXPIRE c:1 7200"), ":1\r\n");
    let gone = "now() - interval '1 hour'";
    postgres.sql(&format!("UPDATE a SET ends = {gone}; INSERT INTO a VALUES (2, 'y', {gone})"));
    until("the other is swept", || metric(&sidecar, "hearthside_swept_total") == 1.0);
    until("the sweep of the other mapping rests", || sidecar.log().contains("of another mapping of the table wait"));
    postgres.sql("DROP TRIGGER refuse ON a");
    until("the end is saved", || postgres.sql("SELECT id FROM a WHERE ends > now() + interval '1 hour'") == "1");
}

#[test]
fn rows_of_keys_that_are_the_upstreams_stay() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    postgres.sql("DROP TABLE child; INSERT INTO b VALUES (1, 'x', 'v', now() - interval '1 hour')");
    let off = CONFIG.replacen("delete = \"row\"", "delete = \"row\"\nmode = \"off\"", 1);
    let builder = builder(&redis, &postgres).config(&off).set("STORE__SWEEP_INTERVAL", "20ms");
    let sidecar = builder.expect(&[warnings::NOT_SWEPT]).start();
    let rows = |table: &str| postgres.sql(&format!("SELECT count(*) FROM {table}"));
    until("the others are gone", || rows("b") == "0");
    postgres.sql("INSERT INTO b VALUES (2, 'x', 'v', now() - interval '1 hour')");
    until("there was another round", || rows("b") == "0");
    assert_eq!(rows("a"), "3000");
    // A part of the keys is not all of them.
    for (mode, is_swept) in [("on 50", false), ("on 100", true)] {
        sidecar.wire().ask(&format!("HEARTHSIDE MODE a:{{id:int}} {mode}"));
        postgres.sql("INSERT INTO b VALUES (3, 'x', 'v', now() - interval '1 hour')");
        until("there was another round", || rows("b") == "0" && (!is_swept || rows("a") == "1"));
        assert_eq!(rows("a") == "3000", !is_swept, "{mode}");
    }
}
