//! What concerns several mappings at once: a transaction over two of them, definitions that are loaded, a start. The
//! trouble of one mapping is not that of the others there either.

use crate::support::admin::request;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn hashes(names: &[&str]) -> String {
    let block = |name: &&str| {
        format!("[[caches]]\nkey = \"{name}:{{id:int}}\"\ntype = \"hash\"\ntable = \"{name}\"\nwrite = \"through\"\n")
    };
    names.iter().map(block).collect()
}

fn definitions(name: &str, source: &str) -> String {
    format!("[[definitions]]\nkey = \"{name}:{{id}}\"\ntype = \"string\"\n{source}\nvalue = \"v\"\n")
}

fn over(redis: &Redis, postgres: &Postgres, config: &str) -> Builder {
    Sidecar::builder().redis(redis).postgres(postgres).config(config).migrated()
}

fn send_transaction(wire: &mut Wire, requests: &[String]) {
    let all = std::iter::once("MULTI").chain(requests.iter().map(String::as_str)).chain(["EXEC"]);
    wire.send(&all.flat_map(line).collect::<Vec<u8>>());
}

fn waiting(postgres: &Postgres, kind: &str) -> usize {
    let told =
        postgres.sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type || wait_event ~ '{kind}'"));
    told.parse().expect("a number")
}

#[test]
fn transactions_take_a_turn_of_every_mapping_that_they_concern() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let names = ["a1", "a2", "a3", "a4", "b", "c"];
    for name in names {
        postgres.sql(&format!(
            "CREATE TABLE {name} (id BIGINT PRIMARY KEY, v BIGINT); \
             INSERT INTO {name} SELECT i, 0 FROM generate_series(1, 100) i"
        ));
    }
    let builder = over(&redis, &postgres, &hashes(&names)).set("STORE__MAX_CONNECTIONS", "4");
    let sidecar = builder.set("STORE__QUERY_TIMEOUT", "60s").set("STORE__QUEUE_TIMEOUT", "2s").start();
    let mut session = postgres.session();
    session.run("BEGIN; SELECT FROM b FOR UPDATE;");
    let mut stuck: Vec<Wire> = (1..=4).map(|_| sidecar.wire()).collect();
    for (i, wire) in (1..).zip(&mut stuck) {
        send_transaction(wire, &[format!("HSET a{i}:1 v 1"), format!("HSET b:{i} v 1")]);
    }
    until("three wait for the rows", || waiting(&postgres, "^Lock") >= 3);
    let mut wire = sidecar.wire();
    for id in 1..=30 {
        send_transaction(&mut wire, &[format!("HINCRBY c:{id} v 1")]);
        let told: Vec<String> = (0..3).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
        assert_eq!(told[2], "*1\r\n:1\r\n", "the {id}. of another mapping");
    }
    assert_eq!(waiting(&postgres, "^Lock"), 3, "one turn is left to mappings that have none");
    session.run("ROLLBACK;");
    let done = stuck.iter_mut().map(|wire| (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).last());
    let done: Vec<String> = done.flatten().collect();
    assert!(done.iter().all(|told| told == "*2\r\n:0\r\n:0\r\n" || told.contains("no turn")), "{done:?}");
}

#[test]
fn a_transaction_over_two_mappings_needs_one_turn_in_sqlite() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("two.db");
    let tables =
        "CREATE TABLE a (id INTEGER PRIMARY KEY, v INTEGER); CREATE TABLE b (id INTEGER PRIMARY KEY, v INTEGER)";
    let made = std::process::Command::new("sqlite3").arg(&file).arg(tables).status().expect("sqlite3 is installed");
    assert!(made.success());
    let builder = Sidecar::builder().redis(&redis).config(&hashes(&["a", "b"]));
    let sidecar = builder.set("STORE__URL", format!("sqlite://{}", file.display())).start();
    let mut wire = sidecar.wire();
    send_transaction(&mut wire, &["HSET b:1 v 1".into(), "HSET a:1 v 1".into(), "HGET b:1 v".into()]);
    let told = (0..5).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).last();
    assert_eq!(told.as_deref(), Some("*3\r\n:1\r\n:1\r\n$1\r\n1\r\n"));
}

/// Waits for an advisory lock in each load.
const GATED: &str = "query = \"SELECT id, v FROM gate WHERE pg_advisory_xact_lock_shared(7)::text IS NOT NULL\"";

#[test]
fn definitions_are_loaded_at_once_as_many_as_there_are_turns_and_a_slow_one_holds_up_no_other() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for table in ["gate", "two"] {
        postgres
            .sql(&format!("CREATE TABLE {table} (id TEXT PRIMARY KEY, v TEXT); INSERT INTO {table} VALUES ('a', '1')"));
    }
    let gated: String = (1..=6).map(|i| definitions(&format!("slow{i}"), GATED)).collect();
    let config = gated + &definitions("two", "table = \"two\"");
    let builder = over(&redis, &postgres, &config).set("STORE__MAX_CONNECTIONS", "3");
    let sidecar = builder.set("STORE__QUERY_TIMEOUT", "60s").start();
    let mut wire = sidecar.wire();
    let mut session = postgres.session();
    session.run("BEGIN; SELECT pg_advisory_xact_lock(7);");
    postgres.sql("UPDATE gate SET v = '2'");
    assert_eq!(request(&sidecar, "POST", "/invalidate?key=slow1:a").0, 200);
    until("it is being loaded", || waiting(&postgres, "advisory") == 1);
    postgres.sql("UPDATE two SET v = '2'");
    until("the change of another shows", || wire.ask("GET two:a") == "$1\r\n2\r\n");
    (2..=6).for_each(|i| drop(request(&sidecar, "POST", &format!("/invalidate?key=slow{i}:a"))));
    until("three are being loaded", || waiting(&postgres, "advisory") == 3);
    session.run("COMMIT;");
    for i in 1..=6 {
        until("it is loaded again", || wire.ask(&format!("GET slow{i}:a")) == "$1\r\n2\r\n");
    }
}

#[test]
fn a_start_with_locked_tables_serves_everything_else() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for table in ["one", "two"] {
        postgres
            .sql(&format!("CREATE TABLE {table} (id TEXT PRIMARY KEY, v TEXT); INSERT INTO {table} VALUES ('a', '1')"));
    }
    postgres.sql("CREATE TABLE c (id BIGINT PRIMARY KEY, v BIGINT); CREATE TABLE d (id BIGINT PRIMARY KEY, v BIGINT)");
    let sources = ["one", "two"].map(|name| definitions(name, &format!("table = \"{name}\""))).concat();
    let builder = over(&redis, &postgres, &(sources + &hashes(&["c", "d"]))).set("STORE__QUERY_TIMEOUT", "300ms");
    let builder = builder.expect(&[
        warnings::DEFINITIONS_NOT_LOADED,
        warnings::UNPLANNED,
        warnings::LOAD_FAILED,
        warnings::WRITE_FAILED,
    ]);
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE one, c;");
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    assert_eq!(
        [wire.ask("GET two:a"), wire.ask("HSET d:1 v 1"), wire.ask("SET plain x")],
        ["$1\r\n1\r\n", ":1\r\n", "+OK\r\n"]
    );
    for (request, names) in [("GET one:a", "one:{id}"), ("HGET c:1 v", "c:{id:int}")] {
        let told = wire.ask(request);
        assert!(told.starts_with("-ERR hearthside: ") && told.contains(names), "{request}: {told}");
    }
    let (status, body) = request(&sidecar, "GET", "/readyz");
    assert!(status == 200 && body.contains("'one:{id}'") && body.contains("'c:{id:int}'"), "{body}");
    assert!(!body.contains("'two:{id}'") && !body.contains("'d:{id:int}'"), "{body}");
    session.run("COMMIT;");
    until("the definitions are served", || wire.ask("GET one:a") == "$1\r\n1\r\n");
    until("the cached keys are, too", || wire.ask("HSET c:1 v 1") == ":1\r\n");
    until("all is well", || request(&sidecar, "GET", "/readyz").1 == "ready\n");
}
