//! KEYS and SCAN over owned and pass-through keys.

use std::collections::{BTreeMap, BTreeSet};

use hearthside::resp::decode;
use hearthside::resp::reply::elements;

use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::process::status;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::Wire;

const CONFIG: &str = r#"
[[definitions]]
key = "place:{id}"
type = "hash"
query = "SELECT i::text AS id, 'x' AS name FROM generate_series(1, 57) AS i"

[[caches]]
key = "pair:{a}:{b:int}"
type = "hash"
table = "pairs"
overflow = "more"
expires_column = "ends"

[[caches]]
key = "t:{id:int}"
type = "set"
table = "members"
value = "v"

[[caches]]
key = "l:{id:int}"
type = "list"
query = "SELECT v FROM members WHERE id = $1 ORDER BY v"
value = "v"
watch = [{ table = "members" }]
"#;

const TABLES: &str = "CREATE TABLE pairs (a TEXT, b BIGINT, f TEXT, more JSONB, ends TIMESTAMPTZ, PRIMARY KEY (a, b)); \
    INSERT INTO pairs SELECT 'n' || i % 7, i, 'x' FROM generate_series(1, 200) AS i; \
    INSERT INTO pairs VALUES ('none', 1, NULL, NULL, NULL), ('none', 2, NULL, '{}', NULL), ('more', 1, NULL, '{\"z\": \
    1}', NULL), \
    ('bad:name', 1, 'x', NULL, NULL), ('ended', 1, 'x', NULL, now() - interval '1 s'), \
    ('lives', 1, 'x', NULL, now() + interval '1 h'); \
    CREATE TABLE members (id BIGINT, v TEXT, PRIMARY KEY (id, v)); \
    INSERT INTO members SELECT i % 40, 'v' || i FROM generate_series(1, 120) AS i;";

fn parts(reply: &[u8]) -> Vec<String> {
    let texts = elements(reply).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(reply)));
    texts.iter().filter_map(|part| decode::bulk(part)).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// Every key that a whole iteration gives, and how often.
fn scan(wire: &mut Wire, options: &[&str]) -> BTreeMap<String, usize> {
    let (mut cursor, mut found) = ("0".to_owned(), BTreeMap::new());
    loop {
        let reply = wire.call(&[&["SCAN", &cursor], options].concat());
        let pair = elements(&reply).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(&reply)));
        cursor = String::from_utf8_lossy(decode::bulk(pair[0]).expect("a cursor")).into_owned();
        assert!(cursor.parse::<u64>().is_ok_and(|number| number < 1 << 53), "{cursor}");
        parts(pair[1]).into_iter().for_each(|key| *found.entry(key).or_default() += 1);
        if cursor == "0" {
            return found;
        }
    }
}

fn start(redis: &Redis, postgres: &Postgres) -> Sidecar {
    postgres.sql(TABLES);
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(CONFIG);
    assert!(builder.execute(&["migrate"]).status.success());
    builder.expect(&[warnings::NO_TRIGGERS]).start()
}

#[test]
fn every_key_is_listed_once_by_scan_and_keys_and_is_there() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut direct = redis.wire();
    (0..100).for_each(|i| drop(direct.call(&["SET", &format!("plain:{i}"), "x"])));
    // Left from before there was a sidecar: no client of it can see this value.
    direct.call(&["SET", "t:7", "old"]);
    let sidecar = start(&redis, &postgres);
    let mut wire = sidecar.wire();
    let mut expected: BTreeSet<String> = (0..100).map(|i| format!("plain:{i}")).collect();
    expected.extend((1..=57).map(|i| format!("place:{i}")));
    expected.extend((1..=200).map(|i| format!("pair:n{}:{i}", i % 7)));
    expected.extend(["pair:more:1".to_owned(), "pair:lives:1".to_owned()]);
    expected.extend((0..40).flat_map(|i| [format!("t:{i}"), format!("l:{i}")]));
    for options in [&[][..], &["COUNT", "1"], &["COUNT", "33"], &["COUNT", "100000"], &["MATCH", "*"]] {
        let found = scan(&mut wire, options);
        assert!(found.values().all(|times| *times == 1), "{options:?}: {found:?}");
        assert_eq!(found.into_keys().collect::<BTreeSet<_>>(), expected, "{options:?}");
    }
    assert_eq!(parts(&wire.call(&["KEYS", "*"])).into_iter().collect::<BTreeSet<_>>(), expected);
    for key in &expected {
        assert_eq!(wire.call(&["EXISTS", key]), b":1\r\n", "{key}");
    }
    for (pattern, count) in [("pair:n3:*", 29), ("t:1?", 10), ("plain:9", 1), ("p[al]*:1", 5), ("nothing*", 0)] {
        assert_eq!(scan(&mut wire, &["MATCH", pattern, "COUNT", "50"]).len(), count, "{pattern}");
        assert_eq!(parts(&wire.call(&["KEYS", pattern])).len(), count, "{pattern}");
    }
    for (kind, count) in [("hash", 57 + 202), ("set", 40), ("list", 40), ("string", 100), ("zset", 0)] {
        let found = scan(&mut wire, &["TYPE", kind]);
        assert_eq!(found.len(), count, "{kind}");
        for key in found.keys().step_by(17) {
            assert_eq!(wire.call(&["TYPE", key]), format!("+{kind}\r\n").into_bytes(), "{key}");
        }
    }
}

#[test]
fn a_scan_for_pass_through_keys_does_not_ask_the_store() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE EXTENSION pg_stat_statements");
    let sidecar = start(&redis, &postgres);
    let mut wire = sidecar.wire();
    let pages = || postgres.calls("%AS page%");
    assert!(scan(&mut wire, &["MATCH", "lock:*"]).is_empty());
    wire.call(&["KEYS", "lock:*"]);
    assert_eq!(pages(), 0);
    scan(&mut wire, &["MATCH", "t:*"]);
    assert_ne!(pages(), 0);
}

#[test]
fn what_is_wrong_is_told_as_redis_tells_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = start(&redis, &postgres);
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    for request in
        ["SCAN x", "SCAN 0 COUNT 0", "SCAN 0 COUNT x", "SCAN 0 NOPE", "SCAN 0 MATCH", "SCAN", "KEYS", "KEYS a b"]
    {
        assert_eq!(wire.ask(request), direct.ask(request), "{request}");
    }
    assert!(wire.ask("SCAN 4503599627380000").starts_with("-ERR invalid cursor; hearthside"));
    wire.ask("MULTI");
    wire.ask("KEYS t:1");
    assert_eq!(wire.ask("EXEC"), "*1\r\n*1\r\n$3\r\nt:1\r\n");
}

/// A definitions table that changes, and a tool that iterates: twenty thousand definitions of 1 KB, again and again.
#[test]
fn cursors_keep_no_definitions_that_a_reload_has_replaced() {
    let redis = Redis::start();
    let config = "[[definitions]]\nkey = \"thing:{id}\"\ntype = \"hash\"\nquery = \"WITH RECURSIVE n(i) AS (SELECT 1 \
        UNION ALL \
                  SELECT i + 1 FROM n WHERE i < 10000) SELECT i AS id, hex(zeroblob(500)) AS text FROM n\"\n";
    let sidecar = Sidecar::builder().redis(&redis).config(config).start();
    let mut wire = sidecar.wire();
    let mut reload = |cursors: usize| {
        for _ in 0..cursors {
            assert!(wire.call(&["SCAN", "0", "COUNT", "10"]).starts_with(b"*2"));
        }
        assert_eq!(request(&sidecar, "POST", "/reload").0, 200);
    };
    (0..10).for_each(|_| reload(0));
    let before = status(sidecar.pid(), "VmRSS");
    (0..20).for_each(|_| reload(3));
    let more = status(sidecar.pid(), "VmRSS").saturating_sub(before) / 1024;
    // Twenty sets are 200 MiB.
    assert!(more < 50, "{more} MiB");
    assert_eq!(metric(&sidecar, "hearthside_scan_cursors"), 60.0);
}

/// What is there from the beginning of an iteration to its end is seen, although sets are replaced under it.
#[test]
fn an_iteration_goes_on_in_the_next_set_of_definitions() {
    let redis = Redis::start();
    let config = "[[definitions]]\nkey = \"thing:{id}\"\ntype = \"hash\"\nquery = \"WITH RECURSIVE n(i) AS (SELECT 1 \
        UNION ALL \
                  SELECT i + 1 FROM n WHERE i < 500) SELECT i AS id, 'x' AS text FROM n\"\n";
    let sidecar = Sidecar::builder().redis(&redis).config(config).start();
    let mut wire = sidecar.wire();
    let (mut cursor, mut found) = ("0".to_owned(), BTreeMap::new());
    loop {
        let mut step = |cursor: &str| {
            let reply = wire.call(&["SCAN", cursor, "MATCH", "thing:*"]);
            let pair = elements(&reply).expect("a page");
            (String::from_utf8_lossy(decode::bulk(pair[0]).expect("a cursor")).into_owned(), parts(pair[1]))
        };
        let (next, keys) = step(&cursor);
        assert_eq!(step(&cursor).1, keys, "a cursor that is sent again gives the same");
        keys.into_iter().for_each(|key| *found.entry(key).or_insert(0) += 1);
        assert_eq!(request(&sidecar, "POST", "/reload").0, 200);
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    assert!(found.len() == 500 && found.values().all(|times| *times == 1), "{found:?}");
}
