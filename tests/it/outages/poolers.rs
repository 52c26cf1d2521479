//! A PgBouncer between the sidecar and its store: everything works over sessions that are lent for a transaction.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use crate::support::admin::metric;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

const CONFIG: &str = r#"
[[caches]]
key = "p:{id:int}"
type = "hash"
table = "players"
overflow = "more"
write = "through"
delete = "row"
deferred = ["seen"]

[[caches]]
key = "u:{id}"
type = "string"
table = "tokens"
value = "v"
write = "through"
delete = "row"
expires_column = "ends"

[[caches]]
key = "m:{id:int}"
type = "set"
table = "members"
value = "member"
write = "through"

[[caches]]
key = "bag:{id:int}"
type = "list"
value = "item"
query = "SELECT item FROM bags WHERE id = $1 ORDER BY at"
watch = [{ table = "bags", key = { id = "id" } }]
write = "through"
push = "INSERT INTO bags (id, item) VALUES ($1, $2)"
remove = """
DELETE FROM bags WHERE at IN (SELECT at FROM bags WHERE id = $1 AND item = $2 ORDER BY at LIMIT nullif($3::bigint, 0))"""

[[definitions]]
key = "def:{id}"
type = "hash"
table = "items"
"#;

const TABLES: &str = "CREATE TABLE players (id BIGINT PRIMARY KEY, name TEXT, hp INTEGER, weight FLOAT8, seen BIGINT, \
    more JSONB); INSERT INTO players SELECT i, 'p' || i, 10, 0.1, 0, NULL FROM generate_series(1, 1000) AS i; \
    CREATE TABLE tokens (id UUID PRIMARY KEY, v TEXT, ends TIMESTAMPTZ); \
    CREATE TABLE members (id BIGINT, member TEXT, PRIMARY KEY (id, member)); \
    CREATE TABLE bags (at SERIAL PRIMARY KEY, id BIGINT, item TEXT); \
    CREATE TABLE items (id TEXT PRIMARY KEY, name TEXT); INSERT INTO items VALUES ('sword', 'Sword')";

const TOKEN: &str = "0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11";

/// A store whose role has settings of its own, under which texts would be others.
fn store() -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(TABLES);
    postgres.sql(
        "ALTER ROLE postgres SET extra_float_digits = -8; ALTER ROLE postgres SET bytea_output = 'escape'; \
         ALTER ROLE postgres SET default_transaction_isolation = 'serializable'",
    );
    postgres
}

fn builder(redis: &Redis, postgres: &Postgres, pooler: &PgBouncer) -> Builder {
    let builder = Sidecar::builder().redis(redis).config(CONFIG).set("STORE__URL", postgres.url_at(pooler.port));
    let builder = builder.set("STORE__POOLER", "transaction").set("STORE__FEED_URL", postgres.url());
    builder.set("JOURNAL__FLUSH_INTERVAL", "20ms").set("STORE__SWEEP_INTERVAL", "50ms").migrated()
}

/// Everything that a sidecar asks of a store.
fn everything_works(sidecar: &Sidecar, postgres: &Postgres) {
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HMGET p:1 name weight"), "*2\r\n$2\r\np1\r\n$3\r\n0.1\r\n");
    assert_eq!(wire.ask("HINCRBY p:1 hp 5"), ":15\r\n");
    assert_eq!(wire.ask("HSET p:1 colour red"), ":1\r\n");
    assert!(wire.ask("HSET p:1 hp many").starts_with("-ERR"), "a refused value");
    assert_eq!(wire.ask("HGET p:1 hp"), "$2\r\n15\r\n");
    assert_eq!(wire.ask("HSET p:5000 name new"), ":1\r\n");
    assert_eq!(wire.ask("DEL p:5000"), ":1\r\n");
    assert_eq!(wire.ask(&format!("SET u:{TOKEN} a EX 100")), "+OK\r\n");
    assert_eq!(wire.ask(&format!("GET u:{TOKEN}")), "$1\r\na\r\n");
    assert_eq!(wire.ask("GET u:no-uuid"), "$-1\r\n");
    assert_eq!(wire.ask("SADD m:1 a b"), ":2\r\n");
    assert_eq!(wire.ask("HGET def:sword name"), "$5\r\nSword\r\n");
    for command in ["MULTI", "HINCRBY p:2 hp 1", "SADD m:2 x", "HGET p:3 hp"] {
        wire.ask(command);
    }
    assert_eq!(wire.ask("EXEC"), "*3\r\n:11\r\n:1\r\n$2\r\n10\r\n");
    lists_and_listings_work(&mut wire);
    assert_eq!(wire.ask("HSET p:3 seen 7"), ":0\r\n");
    until("it is saved", || postgres.sql("SELECT seen FROM players WHERE id = 3") == "7");
    assert_eq!(wire.ask("HGET p:4 hp"), "$2\r\n10\r\n");
    postgres.sql("UPDATE players SET hp = 99 WHERE id = 4");
    until("a change is seen", || wire.ask("HGET p:4 hp") == "$2\r\n99\r\n");
    postgres.sql("INSERT INTO items VALUES ('axe', 'Axe')");
    until("a definition is seen", || wire.ask("HGET def:axe name") == "$3\r\nAxe\r\n");
    let ended = "INSERT INTO tokens VALUES (gen_random_uuid(), 'b', now() - interval '1 day')";
    postgres.sql(ended);
    until("it is swept", || postgres.sql("SELECT count(*) FROM tokens WHERE v = 'b'") == "0");
    // A new column: everything is planned again.
    postgres.sql("ALTER TABLE players ADD COLUMN clan TEXT DEFAULT 'none'");
    until("the column is seen", || wire.ask("HGET p:6 clan") == "$4\r\nnone\r\n");
}

/// What a mapping's own statements write, and what is listed page by page.
fn lists_and_listings_work(wire: &mut Wire) {
    for (request, reply) in [
        ("RPUSH bag:1 rope lamp rope rope", ":4\r\n"),
        ("LREM bag:1 1 rope", ":1\r\n"),
        ("LRANGE bag:1 0 -1", "*3\r\n$4\r\nlamp\r\n$4\r\nrope\r\n$4\r\nrope\r\n"),
        ("LREM bag:1 0 rope", ":2\r\n"),
        ("MULTI", "+OK\r\n"),
        ("RPUSH bag:2 axe", "+QUEUED\r\n"),
        ("LREM bag:1 0 lamp", "+QUEUED\r\n"),
        ("EXEC", "*2\r\n:1\r\n:1\r\n"),
        ("LLEN bag:1", ":0\r\n"),
        ("KEYS bag:*", "*1\r\n$5\r\nbag:2\r\n"),
    ] {
        assert_eq!(wire.ask(request), reply, "{request}");
    }
    assert_eq!(wire.ask("KEYS p:*").matches("p:").count(), 1000);
    let (mut cursor, mut keys) = ("0".to_owned(), HashSet::new());
    loop {
        let page = wire.ask(&format!("SCAN {cursor} MATCH p:* COUNT 100"));
        keys.extend(page.lines().filter(|line| line.starts_with("p:")).map(str::to_owned));
        page.lines().nth(2).expect("a cursor").clone_into(&mut cursor);
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(keys.len(), 1000);
}

/// Many clients load and write at once, more than the pooler has sessions.
fn crowd(sidecar: &Sidecar) {
    let clients = (0..16).map(|client| {
        let mut wire = sidecar.wire();
        thread::spawn(move || {
            for id in client * 50 + 1..=client * 50 + 50 {
                assert_eq!(
                    wire.ask(&format!("HGET p:{id} name")),
                    format!("${}\r\np{id}\r\n", id.to_string().len() + 1)
                );
                assert_eq!(wire.ask(&format!("HSET p:{id} name p{id}")), ":0\r\n");
            }
        })
    });
    clients.collect::<Vec<_>>().into_iter().for_each(|client| client.join().expect("a client ends well"));
}

#[test]
fn everything_works_over_sessions_that_are_lent_for_a_transaction() {
    let (redis, postgres) = (Redis::start(), store());
    let pooler = PgBouncer::start(&postgres, "transaction");
    let sidecar = builder(&redis, &postgres, &pooler).start();
    crowd(&sidecar);
    everything_works(&sidecar, &postgres);
    let direct = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hearthside' AND query LIKE '%players%' \
        AND query LIKE '%row_to_json%'";
    assert!(postgres.sql(direct).parse::<u32>().expect("a number") <= 3, "loads go through the pooler");
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
}

#[test]
fn everything_works_over_sessions_that_are_lent_for_a_connection() {
    let (redis, postgres) = (Redis::start(), store());
    let pooler = PgBouncer::start(&postgres, "session");
    let sidecar = builder(&redis, &postgres, &pooler).start();
    crowd(&sidecar);
    everything_works(&sidecar, &postgres);
}

#[test]
fn everything_works_without_a_pooler() {
    let (redis, postgres) = (Redis::start(), store());
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(CONFIG);
    let builder = builder.set("JOURNAL__FLUSH_INTERVAL", "20ms").set("STORE__SWEEP_INTERVAL", "50ms").migrated();
    let sidecar = builder.start();
    crowd(&sidecar);
    everything_works(&sidecar, &postgres);
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
}

#[test]
fn a_pooler_that_is_restarted_or_paused_under_load_loses_nothing() {
    let (redis, postgres) = (Redis::start(), store());
    let mut pooler = PgBouncer::start(&postgres, "transaction");
    let builder = builder(&redis, &postgres, &pooler).expect(warnings::STORE_AWAY).expect(&[warnings::DEFERRED_WAIT]);
    let sidecar = builder.start();
    let ended = AtomicBool::new(false);
    let acknowledged = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut wire, mut last, mut value) = (sidecar.wire(), 0_u32, 0);
            while !ended.load(SeqCst) {
                value += 1;
                if wire.ask(&format!("HSET p:7 hp {value}")) == ":0\r\n" {
                    last = value;
                }
            }
            (last, value)
        });
        let mut wire = sidecar.wire();
        for id in 100..103 {
            pooler.stop();
            let _ = wire.ask(&format!("HSET p:{id} seen 8"));
            pooler.launch();
            until("a load goes", || wire.ask(&format!("HGET p:{id} hp")) == "$2\r\n10\r\n");
        }
        assert!(pooler.tell("PAUSE") && pooler.tell("RESUME"));
        until("a load goes", || wire.ask("HGET p:200 hp") == "$2\r\n10\r\n");
        until("a write goes", || wire.ask("HSET p:201 hp 1") == ":0\r\n");
        ended.store(true, SeqCst);
        writer.join().expect("the writer ends")
    });
    let held: u32 = postgres.sql("SELECT hp FROM players WHERE id = 7").parse().expect("a number");
    assert!((acknowledged.0..=acknowledged.1).contains(&held), "{acknowledged:?} were written, {held} is there");
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0, "the feed goes past the pooler");
}

#[test]
fn a_pooler_that_no_setting_names_is_found_out_at_the_start() {
    let (redis, postgres) = (Redis::start(), store());
    let pooler = PgBouncer::start(&postgres, "transaction");
    let told = |builder: Builder| {
        let done = builder.execute(&["check", "--connect"]);
        assert!(!done.status.success());
        String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout)
    };
    let url = |setting: &str, url: String| builder(&redis, &postgres, &pooler).set(setting, url);
    let unnamed = told(Sidecar::builder().redis(&redis).config(CONFIG).set("STORE__URL", postgres.url_at(pooler.port)));
    assert!(unnamed.contains("store.pooler = \"transaction\""), "{unnamed}");
    let looped = told(url("STORE__FEED_URL", postgres.url_at(pooler.port)));
    assert!(looped.contains("store.feed_url leads to a pooler"), "{looped}");
    postgres.sql("CREATE DATABASE other");
    let elsewhere = told(url("STORE__FEED_URL", postgres.url().replace("/postgres", "/other")));
    assert!(elsewhere.contains("store.feed_url"), "{elsewhere}");
    let lacking = told(url("STORE__FEED_URL", String::new()));
    assert!(lacking.contains("store.feed_url: is needed behind a pooler"), "{lacking}");
}
