//! Commands about expiries in one pipeline, which are journaled together: each is answered as if it had come alone.

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

const CONFIG: &str = r#"
[[caches]]
key = "s:{id:int}"
type = "string"
table = "sessions"
value = "v"
expires_column = "ends"
write = "deferred"
delete = "row"
"#;

const TABLES: &str = "CREATE TABLE sessions (id BIGINT PRIMARY KEY, v TEXT, ends TIMESTAMPTZ); \
    INSERT INTO sessions SELECT i, 'v' || i, now() + interval '1 hour' FROM generate_series(1, 1000) AS i;";

struct Place {
    redis: Redis,
    postgres: Postgres,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place =
            Self { redis: Redis::start(), postgres: Postgres::start(), folder: tempfile::tempdir().expect("a folder") };
        place.postgres.sql(TABLES);
        place.builder().migrated();
        place
    }

    /// One that saves nothing by itself.
    fn builder(&self) -> Builder {
        let journal = self.folder.path().join("journal.db").display().to_string();
        let builder = Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(CONFIG);
        builder.set("JOURNAL__PATH", journal).set("JOURNAL__FLUSH_INTERVAL", "1h")
    }
}

/// One pipeline of these, in which `#` is each of the numbers in turn; the answers, as text.
fn pipeline(wire: &mut Wire, numbers: std::ops::RangeInclusive<u32>, lines: &[&str]) -> Vec<String> {
    let requests = numbers.flat_map(|i| lines.iter().map(move |text| line(&text.replace('#', &i.to_string()))));
    let requests: Vec<Vec<u8>> = requests.collect();
    wire.send(&requests.concat());
    requests.iter().map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect()
}

/// The seconds of a TTL.
fn seconds(told: &str) -> i64 {
    told.trim_start_matches(':').trim_end().parse().unwrap_or_else(|_| panic!("a number, not {told}"))
}

#[test]
fn a_pipeline_is_answered_as_one_after_the_other() {
    let place = Place::new();
    let sidecar = place.builder().start();
    let mut wire = sidecar.wire();
    // The first time every key is loaded first, the second time all are in memory.
    for _ in 0..2 {
        let told = pipeline(
            &mut wire,
            1..=300,
            &[
                "EXPIRE s:# 5000",
                "TTL s:#",
                "EXPIRE s:# 9000",
                "TTL s:#",
                "EXPIRE s:# 7000 GT",
                "GET s:#",
                "PERSIST s:#",
                "TTL s:#",
                "EXPIRE s:1000# 100",
                "EXPIRE s:# soon",
                "EXPIREAT s:# 4000000000",
            ],
        );
        for (i, told) in told.chunks(11).enumerate() {
            assert!((4900..=5000).contains(&seconds(&told[1])), "an expiry is seen too late, or too early: {told:?}");
            assert!((8900..=9000).contains(&seconds(&told[3])), "{told:?}");
            let value = format!("v{}", i + 1);
            let expected = [
                ":1\r\n",
                &told[1],
                ":1\r\n",
                &told[3],
                ":0\r\n",
                &format!("${}\r\n{value}\r\n", value.len()),
                ":1\r\n",
                ":-1\r\n",
                ":0\r\n",
                "-ERR value is not an integer or out of range\r\n",
                ":1\r\n",
            ];
            assert_eq!(told, expected);
        }
    }
    // What ends at once is deleted, with others before and behind it.
    let told = pipeline(&mut wire, 301..=303, &["GET s:#", "EXPIRE s:# 4000"]);
    assert_eq!(told.iter().filter(|told| *told == ":1\r\n").count(), 3);
    let told = pipeline(&mut wire, 301..=303, &["EXPIRE s:# 4000", "EXPIRE s:# 0", "EXPIRE s:# 4000", "EXISTS s:#"]);
    assert_eq!(told, [":1\r\n", ":1\r\n", ":0\r\n", ":0\r\n"].repeat(3));
}

#[test]
fn what_was_acknowledged_together_survives_a_kill() {
    let place = Place::new();
    let mut sidecar = place.builder().start();
    let mut wire = sidecar.wire();
    pipeline(&mut wire, 1..=1000, &["GET s:#"]);
    assert_eq!(pipeline(&mut wire, 1..=1000, &["EXPIRE s:# 7000"]), vec![":1\r\n"; 1000]);
    assert_eq!(pipeline(&mut wire, 1..=999, &["EXPIRE s:# 9000"]), vec![":1\r\n"; 999]);
    sidecar.kill();
    let sidecar = place.builder().set("JOURNAL__FLUSH_INTERVAL", "50ms").start();
    let mut wire = sidecar.wire();
    for (i, told) in (1..).zip(pipeline(&mut wire, 1..=1000, &["TTL s:#"])) {
        let given = if i == 1000 { 7000 } else { 9000 };
        assert!((given - 100..=given).contains(&seconds(&told)), "s:{i}: {told}");
    }
    until("all are saved", || {
        place.postgres.sql("SELECT count(*) FROM sessions WHERE ends > now() + interval '8800 seconds'") == "999"
    });
    until("the journal is empty", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
}

#[test]
fn where_there_is_no_room_for_all_there_is_for_some() {
    let place = Place::new();
    let builder = place.builder().set("JOURNAL__MAX_BYTES", "50kb").set("JOURNAL__FLUSH_INTERVAL", "50ms");
    let sidecar = builder.expect(&[warnings::DEFERRED_WAIT, warnings::JOURNAL_FULL]).start();
    let mut wire = sidecar.wire();
    pipeline(&mut wire, 1..=1000, &["GET s:#"]);
    let mut lock = place.postgres.session();
    lock.run("BEGIN; LOCK TABLE sessions;");
    let told = pipeline(&mut wire, 1..=1000, &["EXPIRE s:# 9000"]);
    let taken: Vec<u32> = (1..).zip(&told).filter(|(_, told)| *told == ":1\r\n").map(|(i, _)| i).collect();
    assert!((300..800).contains(&taken.len()), "{} of them were taken", taken.len());
    assert!(told.iter().all(|told| told == ":1\r\n" || told.contains("the journal is full")), "{told:?}");
    lock.run("ROLLBACK;");
    // Those that were refused are as they were.
    for (told, ttl) in told.iter().zip(pipeline(&mut wire, 1..=1000, &["TTL s:#"])) {
        let given = if told == ":1\r\n" { 9000 } else { 3600 };
        assert!((given - 200..=given).contains(&seconds(&ttl)), "{told}: {ttl}");
    }
    until("all are saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    let saved = "SELECT count(*) FROM sessions WHERE ends > now() + interval '8000 seconds'";
    assert_eq!(place.postgres.sql(saved), taken.len().to_string());
    assert_eq!(pipeline(&mut wire, 1..=200, &["EXPIRE s:# 9000"]), vec![":1\r\n"; 200]);
}

#[test]
fn what_the_disk_has_no_room_for_is_refused_and_changes_nothing() {
    let place = Place::new();
    let builder = place.builder().on_a_small_disk(400_000).expect(&[warnings::JOURNAL_NOT_WRITTEN]);
    let mut sidecar = builder.start();
    let mut wire = sidecar.wire();
    pipeline(&mut wire, 1..=1000, &["GET s:#"]);
    let mut given = 9000;
    let told = loop {
        let told = pipeline(&mut wire, 1..=1000, &[&format!("EXPIRE s:# {}", given + 200)]);
        if told.iter().any(|told| told != ":1\r\n") {
            break told;
        }
        given += 200;
        assert!(given < 50_000, "the disk never became full");
    };
    let refused = |told: &String| told.starts_with("-ERR hearthside: ") && told.contains("the journal's file");
    assert!(told.iter().all(|told| told == ":1\r\n" || refused(told)), "{told:?}");
    for (told, ttl) in told.iter().zip(pipeline(&mut wire, 1..=1000, &["TTL s:#"])) {
        let (least, most) = if told == ":1\r\n" { (given + 1, given + 200) } else { (3000, given) };
        assert!((least..=most).contains(&seconds(&ttl)), "{told}: {ttl}");
    }
    let before = pipeline(&mut wire, 1..=1000, &["TTL s:#"]);
    sidecar.kill();
    let sidecar = place.builder().start();
    let mut wire = sidecar.wire();
    for (before, after) in before.iter().zip(pipeline(&mut wire, 1..=1000, &["TTL s:#"])) {
        assert!((seconds(before) - 100..=seconds(before)).contains(&seconds(&after)), "{before} {after}");
    }
}
