//! Keys that are read together with one that takes long, or whose table is locked: how long each waits, and for what.

use std::time::{Duration, Instant};

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;
use crate::support::wire::{Wire, line};

const TABLES: &str = "CREATE TABLE nap (id INT PRIMARY KEY, v TEXT, seconds FLOAT);
    INSERT INTO nap SELECT i, 'v' || i, CASE WHEN i IN (20, 30, 40) THEN 1 ELSE 0 END FROM generate_series(1, 300) AS i;
    CREATE TABLE parted (id INT PRIMARY KEY, v TEXT) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (11);
    CREATE TABLE high PARTITION OF parted FOR VALUES FROM (11) TO (1000);
    INSERT INTO parted SELECT i, 'v' || i FROM generate_series(1, 300) AS i;";

const MAPPINGS: &str = r#"
[[caches]]
key = "nap:{id:int}"
type = "string"
value = "v"
query = "SELECT v || pg_sleep(seconds) AS v FROM nap WHERE id = $1"
watch = [{ table = "nap", key = { id = "id" } }]
[[caches]]
key = "parted:{id:int}"
type = "string"
value = "v"
table = "parted"
"#;

fn builder(redis: &Redis, postgres: &Postgres) -> Builder {
    postgres.sql(TABLES);
    Sidecar::builder().redis(redis).postgres(postgres).config(MAPPINGS).migrated()
}

/// Asks for these keys of a mapping by one pipeline; the replies.
fn read(wire: &mut Wire, mapping: &str, ids: std::ops::RangeInclusive<u32>) -> Vec<String> {
    wire.send(&ids.clone().flat_map(|id| line(&format!("GET {mapping}:{id}"))).collect::<Vec<u8>>());
    ids.map(|_| String::from_utf8(wire.frame()).expect("text")).collect()
}

fn value(id: usize) -> String {
    let text = format!("v{id}");
    format!("${}\r\n{text}\r\n", text.len())
}

#[test]
fn time_in_a_statement_that_did_not_come_to_a_key_is_not_time_in_the_queue() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).set("STORE__QUEUE_TIMEOUT", "700ms").start();
    let replies = read(&mut sidecar.wire(), "nap", 1..=300);
    for (id, reply) in replies.iter().enumerate() {
        assert_eq!(reply, &value(id + 1));
    }
    assert_eq!(metric(&sidecar, "hearthside_overloads_total{mapping=\"nap:{id:int}\"}"), 0.0);
}

#[test]
fn keys_of_a_locked_table_are_told_so_after_one_statement() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = builder(&redis, &postgres).set("STORE__QUERY_TIMEOUT", "1s").set("STORE__QUEUE_TIMEOUT", "20s");
    let sidecar = builder.expect(&[warnings::LOAD_FAILED]).start();
    let mut locked = postgres.session();
    locked.run("BEGIN; LOCK TABLE nap;");
    let began = Instant::now();
    let replies = read(&mut sidecar.wire(), "nap", 51..=300);
    let took = began.elapsed();
    assert!(replies.iter().all(|reply| reply.contains("overloaded")), "{replies:?}");
    // Each alone, six at once, would take the whole of store.queue_timeout.
    assert!(took < Duration::from_secs(10), "{took:?}");
    locked.run("COMMIT;");
    assert_eq!(read(&mut sidecar.wire(), "nap", 60..=60), [value(60)]);
}

#[test]
fn keys_of_a_free_partition_are_read_beside_those_of_a_locked_one() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = builder(&redis, &postgres).set("STORE__QUERY_TIMEOUT", "1s").set("STORE__QUEUE_TIMEOUT", "20s");
    let sidecar = builder.expect(&[warnings::LOAD_FAILED]).start();
    let mut locked = postgres.session();
    locked.run("BEGIN; LOCK TABLE low;");
    let replies = read(&mut sidecar.wire(), "parted", 9..=14);
    assert!(replies[..2].iter().all(|reply| reply.contains("overloaded")), "{replies:?}");
    assert_eq!(replies[2..], [11, 12, 13, 14].map(value));
    locked.run("COMMIT;");
    assert_eq!(read(&mut sidecar.wire(), "parted", 9..=10), [9, 10].map(value));
}
