//! Columns that are added, dropped, renamed and given another type.

use super::{over, soon};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;

const ROWS: &str = "CREATE TABLE a (id INT PRIMARY KEY, hp INT, note TEXT); INSERT INTO a VALUES (1, 5, 'n');";

const A: &str = "[[caches]]\nkey = \"a:{id:int}\"\ntype = \"hash\"\ntable = \"a\"\nwrite = \"through\"\n";

#[test]
fn a_column_that_is_dropped_is_not_asked_for_any_more() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    // The watch comes too late: the errors of the store are what is followed.
    let sidecar = over(&redis, &postgres, A).set("STORE__SCHEMA_INTERVAL", "1h").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 note"), "$1\r\nn\r\n");
    postgres.sql("INSERT INTO a SELECT i, i, 'n' FROM generate_series(2, 100) AS i; ALTER TABLE a DROP COLUMN note");
    assert_eq!(wire.ask("HGETALL a:2"), "*2\r\n$2\r\nhp\r\n$1\r\n2\r\n", "the read that meets it is tried again");
    postgres.sql("ALTER TABLE a ADD COLUMN mp INT, ADD COLUMN xp INT");
    assert!(wire.ask("HSET a:3 hp x").contains("refuses the value"));
    sidecar.signal("HUP");
    soon("the columns are known", || wire.ask("HSET a:3 mp 2 xp 2") == ":2\r\n");
    postgres.sql("ALTER TABLE a DROP COLUMN mp");
    assert_eq!(wire.ask("HSET a:3 hp 7"), ":0\r\n", "and so is the write");
    assert_eq!(postgres.sql("SELECT hp FROM a WHERE id = 3"), "7");
    postgres.sql("ALTER TABLE a RENAME COLUMN xp TO mp");
    assert_eq!(wire.ask("MULTI"), "+OK\r\n");
    wire.ask("HINCRBY a:3 hp 1");
    wire.ask("HGET a:3 hp");
    assert_eq!(wire.ask("EXEC"), "*2\r\n:8\r\n$1\r\n8\r\n", "and so is the transaction");
}

#[test]
fn a_column_that_is_added_is_shown_and_written() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    let sidecar = over(&redis, &postgres, A).start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("HSET a:1 mp 3").contains("no such column"));
    postgres.sql("ALTER TABLE a ADD COLUMN mp INT DEFAULT 9");
    soon("the column is shown", || wire.ask("HGET a:1 mp") == "$1\r\n9\r\n");
    assert_eq!(wire.ask("HSET a:1 mp 3"), ":0\r\n");
    assert_eq!(postgres.sql("SELECT mp FROM a"), "3");
}

#[test]
fn a_key_or_a_field_that_becomes_wider_takes_more() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    let sidecar = over(&redis, &postgres, A).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 hp"), "$1\r\n5\r\n");
    postgres.sql("ALTER TABLE a ALTER id TYPE BIGINT, ALTER hp TYPE BIGINT; INSERT INTO a VALUES (3000000000, 6, 'n')");
    soon("the row is found", || wire.ask("HGET a:3000000000 hp") == "$1\r\n6\r\n");
    assert_eq!(wire.ask("HSET a:3000000001 hp 99999999999"), ":1\r\n");
    assert_eq!(wire.ask("HGET a:1 hp"), "$1\r\n5\r\n");
    // And another type altogether.
    postgres.sql("ALTER TABLE a ALTER id TYPE TEXT");
    soon("the row is found by its text", || wire.ask("HGET a:3000000000 hp") == "$1\r\n6\r\n");
    postgres.sql("ALTER TABLE a ALTER id TYPE BIGINT USING id::bigint");
    soon("and by its number", || wire.ask("HGET a:3000000000 hp") == "$1\r\n6\r\n");
    assert_eq!(wire.ask("HINCRBY a:3000000000 hp 1"), ":7\r\n");
}

#[test]
fn values_that_a_rewrite_of_the_table_changes_are_seen() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    let sidecar = over(&redis, &postgres, A).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 note"), "$1\r\nn\r\n");
    // The same type as before, and no trigger tells of it.
    postgres.sql("ALTER TABLE a ALTER note TYPE TEXT USING upper(note)");
    soon("the new value shows", || wire.ask("HGET a:1 note") == "$1\r\nN\r\n");
    assert!(!sidecar.log().contains("statements were made again"), "a rewrite is no other schema: {}", sidecar.log());
}

#[test]
fn a_reload_of_any_kind_looks_at_the_schema() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    let sidecar = over(&redis, &postgres, A).set("STORE__SCHEMA_INTERVAL", "1h").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 hp"), "$1\r\n5\r\n");
    let loads = || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    let before = loads();
    sidecar.signal("HUP");
    soon("it is reloaded", || sidecar.log().contains("the configuration is reloaded"));
    assert_eq!(wire.ask("HGET a:1 hp"), "$1\r\n5\r\n");
    assert_eq!(loads(), before, "where nothing has changed nothing is forgotten");
    for (i, how) in ["HUP", "POST", "RELOAD"].into_iter().enumerate() {
        let column = format!("c{i}");
        assert_eq!(wire.ask("HGET a:1 hp"), "$1\r\n5\r\n");
        postgres.sql(&format!("ALTER TABLE a ADD COLUMN {column} INT DEFAULT {i}"));
        match how {
            "HUP" => sidecar.signal("HUP"),
            "POST" => {
                let answer = request(&sidecar, "POST", "/reload");
                assert_eq!(answer, (200, "reloaded\n".into()));
            }
            _ => assert_eq!(wire.ask("HEARTHSIDE RELOAD"), "+OK\r\n"),
        }
        soon(how, || wire.ask(&format!("HGET a:1 {column}")) == format!("$1\r\n{i}\r\n"));
    }
}

#[test]
fn deferred_writes_wait_for_a_column_and_are_saved_when_it_is_there_again() {
    let (redis, postgres, folder) = (Redis::start(), Postgres::start(), tempfile::tempdir().expect("a folder"));
    postgres.sql(ROWS);
    let config = format!("{A}fields = [\"hp\", \"note\"]\ndeferred = [\"hp\"]\n");
    let journal = folder.path().join("journal.db").display().to_string();
    drop(over(&redis, &postgres, &config));
    let start = || {
        let expected = [warnings::UNFIT, warnings::DEFERRED_WAIT, warnings::DEFERRED_STAY, warnings::LOAD_FAILED];
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).expect(&expected);
        builder.set("JOURNAL__PATH", journal.clone()).set("JOURNAL__FLUSH_INTERVAL", "200ms")
    };
    let mut sidecar = start().start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 hp"), "$1\r\n5\r\n");
    let mut session = postgres.session();
    session.run("BEGIN; ALTER TABLE a RENAME COLUMN hp TO health;");
    assert_eq!(wire.ask("HSET a:1 hp 77"), ":0\r\n", "acknowledged from the journal while the table is locked");
    session.run("COMMIT;");
    soon("it is said that they wait", || sidecar.log().contains("does not fit the store's schema"));
    assert!(wire.ask("HGET a:1 hp").starts_with("-ERR hearthside: the mapping 'a:{id:int}' does not fit"));
    assert_eq!(sidecar.stop(), Some(0));
    // A start with the faulty mapping: what waits goes on waiting.
    let sidecar = start().start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("HGET a:1 hp").contains("has no column 'hp'"));
    postgres.sql("ALTER TABLE a RENAME COLUMN health TO hp");
    soon("it is saved", || postgres.sql("SELECT hp FROM a WHERE id = 1") == "77");
    assert_eq!(wire.ask("HGET a:1 hp"), "$2\r\n77\r\n");
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
}

#[test]
fn a_name_that_becomes_a_column_leaves_the_overflow_column() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE a (id INT PRIMARY KEY, hp INT, kept TEXT DEFAULT 'k', more JSONB); \
         INSERT INTO a VALUES (1, 5, 'k', '{\"mana\": \"3\", \"luck\": \"8\"}')",
    );
    let config = format!("{A}overflow = \"more\"\n");
    let sidecar = over(&redis, &postgres, &config).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 mana"), "$1\r\n3\r\n");
    postgres.sql("ALTER TABLE a ADD COLUMN mana INT");
    soon("the column wins, NULL as it is", || wire.ask("HGET a:1 mana") == "$-1\r\n");
    assert_eq!(wire.ask("HSET a:1 mana 4 luck 9"), ":1\r\n");
    assert_eq!(postgres.sql("SELECT mana, more->>'luck' FROM a"), "4|9");
    assert_eq!(wire.ask("HDEL a:1 mana"), ":1\r\n");
    assert_eq!(wire.ask("HEXISTS a:1 mana"), ":0\r\n");
    // What no field shows is still a column: the key, and the overflow column itself.
    for column in ["id", "more"] {
        let told = wire.ask(&format!("HSET a:1 {column} 7"));
        assert!(told.contains("a column that is not written through this mapping"), "{told}");
    }
    postgres.sql("ALTER TABLE a DROP COLUMN mana");
    soon("the member shows again", || wire.ask("HGET a:1 mana") == "$1\r\n3\r\n");
}

#[test]
fn an_error_that_no_other_plan_cures_forgets_nothing() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    postgres.sql(
        "INSERT INTO a VALUES (2, 6, 'm'); CREATE FUNCTION look(id int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN \
         IF id = 2 THEN RETURN EXISTS (SELECT FROM nowhere); END IF; RETURN true; END $$",
    );
    let config = "[[caches]]\nkey = \"q:{id:int}\"\ntype = \"hash\"\nwatch = [{ table = \"a\", key = { id = \"id\" } }]\n\
        query = \"SELECT id, hp FROM a WHERE id = $1 AND look(id)\"\n";
    let sidecar = over(&redis, &postgres, config).expect(&[warnings::LOAD_FAILED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET q:1 hp"), "$1\r\n5\r\n");
    let loads = || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    let before = loads();
    for _ in 0..2 {
        assert!(wire.ask("HGET q:2 hp").contains("\"nowhere\" does not exist"));
        assert_eq!(wire.ask("HGET q:1 hp"), "$1\r\n5\r\n");
    }
    assert_eq!(loads(), before, "it is still in memory");
}
