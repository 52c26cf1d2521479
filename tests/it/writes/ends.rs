//! Keys that end by a column of their row.

use std::time::{Duration, Instant};

use super::journals::{LAYOUT_OF_0_1_0, sqlite};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::{Wire, line};

const CONFIG: &str = r#"
[[caches]]
key = "p:{id:int}"
type = "hash"
table = "sessions"
expires_column = "ends"
ttl = "30m"
renew = true
write = "through"
delete = "row"

[[caches]]
key = "s:{id}"
type = "string"
table = "texts"
value = "v"
expires_column = "ends"
write = "through"
delete = "row"
"#;

const TABLES: &str = "CREATE TABLE sessions (id BIGINT PRIMARY KEY, name TEXT, hp BIGINT, ends TIMESTAMPTZ); \
    INSERT INTO sessions SELECT i, 'p' || i, 10, now() + interval '10 minutes' FROM generate_series(1, 1000) AS i; \
    CREATE TABLE texts (id TEXT PRIMARY KEY, v TEXT, ends TIMESTAMP);";

fn builder(redis: &Redis, postgres: &Postgres) -> Builder {
    postgres.sql(TABLES);
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(CONFIG);
    builder.set("JOURNAL__FLUSH_INTERVAL", "100ms").migrated()
}

/// True when the key's TTL is this, less what a busy machine has used of it.
fn lives(wire: &mut Wire, key: &str, seconds: i64) -> bool {
    let told = wire.ask(&format!("TTL {key}"));
    let left: i64 = told.trim_start_matches(':').trim_end().parse().expect("a number");
    (seconds - 60..=seconds).contains(&left)
}

fn left(postgres: &Postgres, id: u32) -> i64 {
    let told = postgres.sql(&format!("SELECT round(extract(epoch FROM ends - now())) FROM sessions WHERE id = {id}"));
    told.parse().expect("a number")
}

#[test]
fn a_thousand_renewals_are_one_update() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).set("JOURNAL__FLUSH_INTERVAL", "2s").start();
    postgres.sql("CREATE EXTENSION pg_stat_statements");
    let mut wire = sidecar.wire();
    let all = |text: &str| (1..=1000).flat_map(|i| line(&text.replace('#', &i.to_string()))).collect::<Vec<u8>>();
    wire.send(&all("EXPIRE p:# 3600"));
    (0..1000).for_each(|_| assert_eq!(wire.frame(), b":1\r\n"));
    assert!(lives(&mut wire, "p:500", 3600));
    until("all are saved", || {
        postgres.sql("SELECT count(*) FROM sessions WHERE ends > now() + interval '50 minutes'") == "1000"
    });
    until("the journal is empty", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    let calls = postgres.sql("SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE '%UPDATE %sessions%'");
    // One more if a flush began while they came in.
    assert!(["1", "2"].contains(&calls.as_str()), "{calls}");
}

#[test]
fn what_has_ended_is_absent_at_once_and_made_again_by_a_write() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    postgres.sql("UPDATE sessions SET ends = now() - interval '1 second' WHERE id = 2");
    until("the change shows", || wire.ask("EXISTS p:2") == ":0\r\n");
    assert_eq!((wire.ask("HGETALL p:2"), wire.ask("TTL p:2")), ("*0\r\n".into(), ":-2\r\n".into()));
    assert_eq!(wire.ask("EXPIRE p:2 100"), ":0\r\n");
    assert_eq!(wire.ask("HSET p:2 hp 1"), ":1\r\n");
    assert_eq!(wire.ask("HGETALL p:2"), "*2\r\n$2\r\nhp\r\n$1\r\n1\r\n", "nothing of the old session is left");
    assert!(lives(&mut wire, "p:2", 1800));
    // By its own clock, without a notice.
    let begun = Instant::now();
    assert_eq!(wire.ask("SET s:a v PX 3000"), "+OK\r\n");
    assert_eq!(wire.ask("GET s:a"), "$1\r\nv\r\n");
    until("it ends", || wire.ask("GET s:a") == "$-1\r\n");
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(wire.ask("SET s:a w NX"), "+OK\r\n");
    assert_eq!(wire.ask("TTL s:a"), ":-1\r\n");
    assert_eq!(wire.ask("EXPIRE p:3 0"), ":1\r\n");
    assert_eq!(
        (wire.ask("EXISTS p:3"), postgres.sql("SELECT count(*) FROM sessions WHERE id = 3")),
        (":0\r\n".into(), "0".into())
    );
}

#[test]
fn the_column_is_what_the_commands_say() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    let ends = |id: &str| {
        postgres.sql(&format!(
            "SELECT coalesce(round(extract(epoch FROM ends - now()))::text, 'never') FROM texts WHERE id = '{id}'"
        ))
    };
    let near =
        |told: String, seconds: i64| told.parse::<i64>().is_ok_and(|told| (seconds - 60..=seconds + 2).contains(&told));
    assert_eq!(wire.ask("SET s:a v EX 1000"), "+OK\r\n");
    until("it is saved", || near(ends("a"), 1000));
    assert_eq!(wire.ask("SET s:a w KEEPTTL"), "+OK\r\n");
    assert!(lives(&mut wire, "s:a", 1000));
    assert_eq!(wire.ask("APPEND s:a x"), ":2\r\n");
    assert_eq!(wire.ask("GETEX s:a EX 2000"), "$2\r\nwx\r\n");
    until("it is saved", || near(ends("a"), 2000));
    assert_eq!(wire.ask("PERSIST s:a"), ":1\r\n");
    assert_eq!((wire.ask("PERSIST s:a"), wire.ask("TTL s:a")), (":0\r\n".into(), ":-1\r\n".into()));
    until("it is saved", || ends("a") == "never");
    for (command, told) in [
        ("EXPIRE s:a 100 XX", ":0\r\n"),
        ("EXPIRE s:a 100 GT", ":0\r\n"),
        ("EXPIRE s:a 100 NX", ":1\r\n"),
        ("EXPIRE s:a 50 GT", ":0\r\n"),
        ("EXPIRE s:a 50 LT", ":1\r\n"),
        ("EXPIRE s:a 100 NX", ":0\r\n"),
        ("EXPIRE s:a 400 XX", ":1\r\n"),
        ("EXPIRE s:b 100", ":0\r\n"),
        ("EXPIRE s:a x", "-ERR value is not an integer or out of range\r\n"),
    ] {
        assert_eq!(wire.ask(command), told, "{command}");
    }
    assert!(lives(&mut wire, "s:a", 400));
    until("it is saved", || near(ends("a"), 400));
    assert_eq!(wire.ask("SET s:a plain"), "+OK\r\n");
    assert_eq!(wire.ask("TTL s:a"), ":-1\r\n");
    until("it is saved", || ends("a") == "never");
    // Inside a transaction.
    for command in ["MULTI", "SET s:a v EX 70", "EXPIRE p:9 7000"] {
        wire.ask(command);
    }
    assert_eq!(wire.ask("EXEC"), "*2\r\n+OK\r\n:1\r\n");
    until("it is saved", || near(ends("a"), 70) && left(&postgres, 9) > 6000);
}

#[test]
fn reads_and_writes_renew_a_session_and_another_sidecar_hears_of_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).start();
    let second = Sidecar::builder().redis(&redis).postgres(&postgres).config(CONFIG).start();
    let (mut wire, mut other) = (sidecar.wire(), second.wire());
    assert!(left(&postgres, 5) <= 600);
    assert!(lives(&mut wire, "p:5", 600) && lives(&mut wire, "p:5", 600), "asking for the TTL does not renew it");
    assert_eq!(wire.ask("HGET p:5 hp"), "$2\r\n10\r\n");
    assert!(lives(&mut wire, "p:5", 1800));
    until("the renewal is saved", || left(&postgres, 5) > 1700);
    assert_eq!(wire.ask("HINCRBY p:6 hp 1"), ":11\r\n");
    until("the renewal is saved", || left(&postgres, 6) > 1700);
    until("the other sidecar has heard", || lives(&mut other, "p:6", 1800));
    // Reads in the same second cost nothing more.
    let begun = Instant::now();
    until("another second has begun", || begun.elapsed() > Duration::from_millis(1100));
    let before = metric(&sidecar, "hearthside_flushed_total");
    (0..500).for_each(|_| assert_eq!(wire.ask("HGET p:5 hp"), "$2\r\n10\r\n"));
    until("it is saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    assert!(metric(&sidecar, "hearthside_flushed_total") - before <= 2.0);
}

#[test]
fn a_renewal_survives_a_kill() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal.db").display().to_string();
    let start = |interval: &str| {
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(CONFIG);
        builder.set("JOURNAL__PATH", journal.clone()).set("JOURNAL__FLUSH_INTERVAL", interval).start()
    };
    drop(builder(&redis, &postgres));
    let mut sidecar = start("1h");
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("EXPIRE p:1 5000"), ":1\r\n");
    assert_eq!(wire.ask("EXPIRE p:2 1"), ":1\r\n");
    sidecar.signal("KILL");
    until("it is gone", || sidecar.has_ended());
    let begun = Instant::now();
    until("the second has passed", || begun.elapsed() > Duration::from_millis(1100));
    let sidecar = start("100ms");
    let mut wire = sidecar.wire();
    assert!(lives(&mut wire, "p:1", 5000));
    until("it is saved", || left(&postgres, 1) > 4900);
    until("the other has ended", || wire.ask("EXISTS p:2") == ":0\r\n");
}

#[test]
fn the_sweeper_removes_what_has_ended_long_ago_and_nothing_else() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = builder(&redis, &postgres);
    postgres.sql(
        "UPDATE sessions SET ends = now() - interval '1 hour' WHERE id <= 900; \
         UPDATE sessions SET ends = now() - interval '1 minute' WHERE id BETWEEN 901 AND 950; \
         INSERT INTO sessions SELECT i, 'x', 1, now() - interval '2 hours' FROM generate_series(2001, 5000) AS i; \
         UPDATE sessions SET ends = NULL WHERE id = 1000",
    );
    let sidecar = builder.set("STORE__SWEEP_INTERVAL", "100ms").start();
    until("they are gone", || postgres.sql("SELECT count(*) FROM sessions") == "100");
    until("they are counted", || metric(&sidecar, "hearthside_swept_total") == 3900.0);
    assert_eq!(sidecar.wire().ask("EXISTS p:1000"), ":1\r\n");
}

/// Expiries as version 0.1.0 journals them: a field with a name of their own, and the moment in digits.
const EXPIRIES_OF_0_1_0: &str = "INSERT INTO about VALUES ('0123456789abcdef', 0);
    INSERT INTO waiting VALUES
        (CAST('p:1' AS BLOB), X'00656E6473', 1, 'p:{id:int}', CAST((unixepoch() + 3600) || '000' AS BLOB), 95, NULL),
        (CAST('p:2' AS BLOB), X'00656E6473', 2, 'p:{id:int}', NULL, 82, NULL),
        (CAST('p:3' AS BLOB), X'00656E6473', 3, 'p:{id:int}', CAST((unixepoch() + 3600) || '000' AS BLOB), 95, NULL);";

#[test]
fn expiries_that_the_version_before_journaled_are_in_force_and_saved() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("journal.db");
    sqlite(&file, LAYOUT_OF_0_1_0);
    sqlite(&file, EXPIRIES_OF_0_1_0);
    let sidecar = builder(&redis, &postgres).set("JOURNAL__PATH", file.display().to_string());
    let sidecar = sidecar.set("JOURNAL__FLUSH_INTERVAL", "1h").start();
    let mut wire = sidecar.wire();
    assert!(lives(&mut wire, "p:1", 3600) && lives(&mut wire, "p:3", 3600));
    assert_eq!(wire.ask("TTL p:2"), ":-1\r\n");
    until("all are saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    assert!((3000..=3600).contains(&left(&postgres, 1)) && (3000..=3600).contains(&left(&postgres, 3)));
    assert_eq!(postgres.sql("SELECT ends IS NULL FROM sessions WHERE id = 2"), "t");
    // What is journaled now stands in the file as that version reads it.
    assert_eq!(wire.ask("EXPIRE p:3 7200"), ":1\r\n");
    assert_eq!(wire.ask("PERSIST p:1"), ":1\r\n");
    let waiting =
        "SELECT CAST(key AS TEXT), hex(field), typeof(value), length(value), weight FROM waiting ORDER BY key";
    assert_eq!(sqlite(&file, waiting), "p:1|00656E6473|null||82\np:3|00656E6473|blob|13|95");
    let later = "SELECT CAST(CAST(value AS TEXT) AS INTEGER) / 1000 - unixepoch() BETWEEN 7100 AND 7200 FROM waiting";
    assert_eq!(sqlite(&file, &format!("{later} WHERE CAST(key AS TEXT) = 'p:3'")), "1");
}

#[test]
fn a_renewal_by_a_read_never_replaces_an_expiry_that_was_given_after_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).start();
    let (mut reader, mut wire) = (sidecar.wire(), sidecar.wire());
    let all = |text: &str| (1..=1000).flat_map(|i| line(&text.replace('#', &i.to_string()))).collect::<Vec<u8>>();
    let (gets, expires) = (all("HGET p:# hp"), all("EXPIRE p:# 100"));
    for round in 0..10 {
        reader.send(&gets);
        (0..1000).for_each(|_| assert_eq!(reader.frame(), b"$2\r\n10\r\n"));
        wire.send(&expires);
        (0..1000).for_each(|_| assert_eq!(wire.frame(), b":1\r\n"));
        until("the journal is empty", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
        let longer = postgres.sql("SELECT count(*) FROM sessions WHERE ends > now() + interval '200 seconds'");
        assert_eq!(longer, "0", "keys outlive what they were given, in round {round}");
    }
}
