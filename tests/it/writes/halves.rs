//! Writes of two steps, of which the journal refuses the second: what the store has is shown, and the reply says what
//! was done.

use super::place::Place;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;
use crate::support::wire::Wire;

const ENDING: &str = r#"
[[caches]]
key = "s:{id}"
type = "string"
table = "texts"
value = "v"
expires_column = "ends"
write = "through"
delete = "row"

[[caches]]
key = "w:{id:int}"
type = "string"
table = "notes"
value = "v"
write = "deferred"

[[caches]]
key = "m:{id:int}"
type = "set"
table = "members"
value = "v"
write = "through"
"#;

const TABLES: &str = "CREATE TABLE texts (id TEXT PRIMARY KEY, v TEXT, ends TIMESTAMPTZ); \
    CREATE TABLE notes (id BIGINT PRIMARY KEY, v TEXT); INSERT INTO notes SELECT i, 'a' FROM generate_series(1, 5000) i; \
    CREATE TABLE members (id BIGINT, v TEXT, PRIMARY KEY (id, v));";

fn ending(redis: &Redis, postgres: &Postgres) -> Builder {
    postgres.sql(TABLES);
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(ENDING).migrated();
    builder.set("JOURNAL__FLUSH_INTERVAL", "1h")
}

/// Writes until the journal's disk is full.
fn fill(wire: &mut Wire, write: &str) {
    let is_full = (1..4000).any(|id| wire.ask(&write.replace('#', &id.to_string())).starts_with('-'));
    assert!(is_full, "the disk never became full");
}

#[test]
fn nothing_of_a_write_is_stored_whose_deferred_part_is_more_than_the_journal_may_hold() {
    let place = Place::new();
    let sidecar = place.builder("1h").set("JOURNAL__MAX_BYTES", "4kb").start();
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("HGET p:1 hp"), wire.ask("HGET p:1 mood")], ["$2\r\n10\r\n", "$4\r\ncalm\r\n"]);
    let told = wire.ask(&format!("HSET p:1 hp 5 mood {}", "x".repeat(5000)));
    assert!(told.contains("was not written") && told.contains("the journal is full"), "{told}");
    assert_eq!(place.postgres.sql("SELECT hp FROM players WHERE id = 1"), "10");
    assert_eq!([wire.ask("HGET p:1 hp"), wire.ask("HGET p:1 mood")], ["$2\r\n10\r\n", "$4\r\ncalm\r\n"]);
}

#[test]
fn what_was_stored_of_a_write_is_shown_when_the_rest_meets_a_full_disk() {
    let place = Place::new();
    let builder = place.builder("1h").on_a_small_disk(400_000);
    let sidecar = builder.expect(&[warnings::JOURNAL_NOT_WRITTEN]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1000 hp"), "$2\r\n10\r\n");
    fill(&mut wire, "HSET p:# seen #");
    let told = wire.ask("HSET p:1000 hp 5 seen 7");
    assert_eq!(place.postgres.sql("SELECT hp, seen FROM players WHERE id = 1000"), "5|0");
    assert!(told.contains("written in part") && told.contains("the journal's file"), "{told}");
    assert_eq!([wire.ask("HGET p:1000 hp"), wire.ask("HGET p:1000 seen")], ["$1\r\n5\r\n", "$1\r\n0\r\n"]);
    // Nobody was told that it was done.
    sidecar.free_disk();
    assert_eq!(wire.ask("HSET p:1000 hp 6 seen 7"), ":0\r\n");
    assert_eq!([wire.ask("HGET p:1000 hp"), wire.ask("HGET p:1000 seen")], ["$1\r\n6\r\n", "$1\r\n7\r\n"]);
}

#[test]
fn a_value_whose_expiry_meets_a_full_disk_is_shown_as_the_store_has_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = ending(&redis, &postgres).on_a_small_disk(400_000);
    let sidecar = builder.expect(&[warnings::JOURNAL_NOT_WRITTEN]).start();
    let mut wire = sidecar.wire();
    postgres.sql("INSERT INTO texts VALUES ('a', '1', now() + interval '5000 seconds')");
    fill(&mut wire, "SET w:# x");
    let told = wire.ask("SET s:a 2 EX 9000");
    assert!(told.contains("written in part") && told.contains("the journal's file"), "{told}");
    assert_eq!([wire.ask("GET s:a"), wire.ask("EXPIRE s:a 9000").chars().take(1).collect()], ["$1\r\n2\r\n", "-"]);
    let left: i64 = wire.ask("TTL s:a").trim_start_matches(':').trim_end().parse().expect("a number");
    assert!((4000..=5000).contains(&left), "{left}");
    sidecar.free_disk();
}

#[test]
fn an_exec_whose_expiries_meet_a_full_disk_does_not_say_that_they_are_set() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = ending(&redis, &postgres).on_a_small_disk(400_000);
    let sidecar = builder.expect(&[warnings::JOURNAL_NOT_WRITTEN, warnings::COMMIT_FAILED]).start();
    let mut wire = sidecar.wire();
    postgres.sql("INSERT INTO texts VALUES ('a', '1'), ('b', '1')");
    fill(&mut wire, "SET w:# x");
    ["MULTI", "SADD m:1 x", "EXPIRE s:a 5000", "SET s:b 2 EX 5000"].iter().for_each(|request| drop(wire.ask(request)));
    let told = wire.ask("EXEC");
    assert_eq!(told.matches("written in part").count(), 3, "{told}");
    assert_eq!([wire.ask("TTL s:a"), wire.ask("TTL s:b"), wire.ask("GET s:b")], [":-1\r\n", ":-1\r\n", "$1\r\n2\r\n"]);
    sidecar.free_disk();
}

#[test]
fn nothing_of_a_transaction_is_done_whose_expiries_are_more_than_the_journal_may_hold() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = ending(&redis, &postgres).set("JOURNAL__MAX_BYTES", "4kb").expect(&[warnings::JOURNAL_FULL]).start();
    let mut wire = sidecar.wire();
    let keys: Vec<String> = (0..60).map(|i| format!("s:{i}")).collect();
    wire.ask("MULTI");
    wire.ask("SADD m:1 x");
    keys.iter().for_each(|key| drop(wire.ask(&format!("SET {key} 1 EX 5000"))));
    let told = wire.ask("EXEC");
    assert!(told.contains("nothing of the transaction was done") && told.contains("the journal is full"), "{told}");
    assert_eq!(postgres.sql("SELECT (SELECT count(*) FROM texts), (SELECT count(*) FROM members)"), "0|0");
    assert_eq!([wire.ask("EXISTS s:0"), wire.ask("SCARD m:1")], [":0\r\n"; 2]);
    // A single one, too.
    let long = format!("SET s:{} 1 EX 5000", "y".repeat(4100));
    let told = wire.ask(&long);
    assert!(told.contains("was not written") && told.contains("the journal is full"), "{told}");
    assert_eq!(postgres.sql("SELECT count(*) FROM texts"), "0");
}
