//! Cold keys of one mapping that are wanted at the same moment share a statement, which is counted at Postgres. Each
//! gets what it would get alone.

use std::time::Duration;

use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

const TABLES: &str = "CREATE EXTENSION pg_stat_statements;
    CREATE TYPE slot AS ENUM ('head', 'hand');
    CREATE TABLE small (id smallint, kind slot, worn numeric, word text, PRIMARY KEY (id, kind, worn));
    INSERT INTO small SELECT i, 'hand', i + 0.5, 'w' || i FROM generate_series(1, 200) AS i;
    CREATE TABLE named (id uuid PRIMARY KEY, n bigint);
    INSERT INTO named SELECT lpad(i::text, 32, '0')::uuid, i FROM generate_series(1, 200) AS i;
    CREATE TABLE things (owner bigint, at int, thing text, PRIMARY KEY (owner, at));
    INSERT INTO things SELECT i, -j, i || ':' || j FROM generate_series(1, 200) AS i, generate_series(1, 3) AS j;";

const MAPPINGS: &str = r#"
[[caches]]
key = "small:{id}:{kind}:{worn}"
type = "hash"
table = "small"
ttl = "1h"
[[caches]]
key = "named:{id}"
type = "string"
value = "n"
table = "named"
ttl = "1h"
[[caches]]
key = "things:{owner:int}"
type = "list"
value = "thing"
query = """SELECT thing FROM things -- of "owner" $1, it's
    WHERE owner = $1 AND thing <> '$1' /* $1 */ ORDER BY at"""
watch = [{ table = "things", key = { owner = "owner" } }]
ttl = "1h"
[[caches]]
key = "odd:{n:int}"
type = "string"
value = "v"
query = """SELECT 100 / ($1::int - 7) AS v
    FROM pg_sleep(CASE WHEN $1::int = 9 THEN 60 WHEN $1::int >= 100 THEN 0.1 ELSE 0 END)"""
watch = []
ttl = "1h"
"#;

fn start(redis: &Redis, postgres: &Postgres) -> Sidecar {
    postgres.sql(TABLES);
    Sidecar::builder().redis(redis).postgres(postgres).config(MAPPINGS).migrated().start()
}

/// Statements that read rows of mappings.
fn loads(postgres: &Postgres) -> u64 {
    postgres.calls("%hearthside_row%")
}

/// Sends these as one pipeline; the replies.
fn pipeline(wire: &mut Wire, requests: &[String]) -> Vec<String> {
    let bytes: Vec<u8> = requests.iter().flat_map(|request| line(request)).collect();
    wire.send(&bytes);
    requests.iter().map(|_| String::from_utf8(wire.frame()).expect("text")).collect()
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

#[test]
fn a_hundred_cold_keys_of_a_pipeline_are_at_most_two_statements() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = start(&redis, &postgres);
    let mut wire = sidecar.wire();
    let before = loads(&postgres);
    let requests: Vec<String> = (1..=100).map(|i| format!("GET named:{i:08}-0000-0000-0000-000000000000")).collect();
    pipeline(&mut wire, &requests);
    assert!(loads(&postgres) - before <= 2, "{} statements", loads(&postgres) - before);
    let before = loads(&postgres);
    let keys: Vec<String> = (101..=200).map(|i| format!("named:00000000-0000-0000-0000-{i:012}")).collect();
    let values: String = (101..=200).map(|i| bulk(&i.to_string())).collect();
    assert_eq!(wire.ask(&format!("MGET {}", keys.join(" "))), format!("*100\r\n{values}"));
    assert!(loads(&postgres) - before <= 2, "{} statements", loads(&postgres) - before);
}

#[test]
fn each_key_gets_its_own_rows_whatever_its_type() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = start(&redis, &postgres);
    let before = loads(&postgres);
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for i in 1..=50 {
        requests.push(format!("HGET small:{i}:hand:{i}.5 word"));
        expected.push(bulk(&format!("w{i}")));
        // Another spelling, a text that is no label, no number of its column, and a row that is not there.
        for absent in
            [format!("{i}:hand:{i}.50"), format!("{i}:foot:{i}.5"), format!("7{i}000:hand:1"), format!("{i}:head:1")]
        {
            requests.push(format!("HGET small:{absent} word"));
            expected.push("$-1\r\n".to_owned());
        }
        requests.push(format!("LRANGE things:{i} 0 -1"));
        expected.push(format!("*3\r\n{}", [3, 2, 1].map(|j| bulk(&format!("{i}:{j}"))).concat()));
    }
    assert_eq!(pipeline(&mut sidecar.wire(), &requests), expected);
    assert!(loads(&postgres) - before < 200, "{} statements", loads(&postgres) - before);
}

#[test]
fn what_is_wrong_with_one_key_is_told_to_nobody_else() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(MAPPINGS).migrated();
    let builder = builder.set("STORE__QUERY_TIMEOUT", "1s").expect(&[warnings::LOAD_FAILED]);
    let sidecar = builder.start();
    let requests: Vec<String> = (1..=20).filter(|n| *n != 9).map(|n| format!("GET odd:{n}")).collect();
    let replies = pipeline(&mut sidecar.wire(), &requests);
    for (request, reply) in requests.iter().zip(&replies) {
        let is_error = reply.starts_with('-');
        assert_eq!(is_error, request == "GET odd:7", "{request}: {reply}");
    }
    assert!(replies[6].contains("division by zero"), "{}", replies[6]);
    let requests: Vec<String> = (30..=40).chain([9]).map(|n| format!("GET odd:{n}")).collect();
    let replies = pipeline(&mut sidecar.wire(), &requests);
    for (n, reply) in (30..=40).zip(&replies) {
        assert_eq!(reply, &bulk(&(100 / (n - 7)).to_string()));
    }
    assert!(replies[11].contains("overloaded"), "{}", replies[11]);
}

#[test]
fn keys_that_take_long_are_read_by_several_statements() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = start(&redis, &postgres);
    let before = loads(&postgres);
    let requests: Vec<String> = (100..140).map(|n| format!("GET odd:{n}")).collect();
    let expected: Vec<String> = (100..140).map(|n| bulk(&(100 / (n - 7)).to_string())).collect();
    assert_eq!(pipeline(&mut sidecar.wire(), &requests), expected);
    // Each takes a tenth of a second: one statement for all of them would take four.
    assert!(loads(&postgres) - before >= 10, "{} statements", loads(&postgres) - before);
}

#[test]
fn many_clients_share_statements_and_get_their_own_keys() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = start(&redis, &postgres);
    let mut wires: Vec<Wire> = (0..40).map(|_| sidecar.wire()).collect();
    let mut locked = postgres.session();
    locked.run("BEGIN; LOCK TABLE things;");
    for (client, wire) in wires.iter_mut().enumerate() {
        wire.send(&line(&format!("LRANGE things:{} 0 0", client + 1)));
    }
    assert!(wires[0].is_silent(Duration::from_millis(200)), "the table is locked");
    let before = loads(&postgres);
    locked.run("COMMIT;");
    for (client, wire) in wires.iter_mut().enumerate() {
        assert_eq!(String::from_utf8_lossy(&wire.frame()), format!("*1\r\n{}", bulk(&format!("{}:3", client + 1))));
    }
    assert!(loads(&postgres) - before <= 20, "{} statements", loads(&postgres) - before);
}

#[test]
fn they_share_statements_behind_a_pooler_too() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let pooler = PgBouncer::start(&postgres, "transaction");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(MAPPINGS).migrated();
    let builder = builder.set("STORE__URL", postgres.url_at(pooler.port)).set("STORE__POOLER", "transaction");
    let sidecar = builder.set("STORE__FEED_URL", postgres.url()).start();
    let before = loads(&postgres);
    let requests: Vec<String> = (1..=100).map(|i| format!("LRANGE things:{i} 0 0")).collect();
    let expected: Vec<String> = (1..=100).map(|i| format!("*1\r\n{}", bulk(&format!("{i}:3")))).collect();
    assert_eq!(pipeline(&mut sidecar.wire(), &requests), expected);
    assert!(loads(&postgres) - before <= 2, "{} statements", loads(&postgres) - before);
}

#[test]
fn between_two_statements_of_a_mapping_is_the_pause_that_was_asked_for() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(MAPPINGS).migrated();
    let sidecar = builder.set("STORE__LOAD_PAUSE", "2s").start();
    let mut wires: Vec<Wire> = (0..40).map(|_| sidecar.wire()).collect();
    assert_eq!(wires[0].ask("LRANGE things:100 0 0"), format!("*1\r\n{}", bulk("100:3")));
    let before = loads(&postgres);
    for (client, wire) in wires.iter_mut().enumerate() {
        wire.send(&line(&format!("LRANGE things:{} 0 0", client + 1)));
    }
    assert!(wires[0].is_silent(Duration::from_millis(200)), "the statement before was a moment ago");
    for (client, wire) in wires.iter_mut().enumerate() {
        assert_eq!(String::from_utf8_lossy(&wire.frame()), format!("*1\r\n{}", bulk(&format!("{}:3", client + 1))));
    }
    assert!(loads(&postgres) - before <= 2, "{} statements", loads(&postgres) - before);
}
