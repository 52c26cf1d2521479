//! A table that somebody has locked holds up its own mappings alone: at start, at a reload, and when it has changed.

use std::time::{Duration, Instant};

use crate::support::admin::{metric, request};
use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

const TABLES: &str = "CREATE TABLE locked (id INT PRIMARY KEY, v TEXT, w TEXT, n BIGINT); \
    INSERT INTO locked SELECT i, 'l' FROM generate_series(1, 100) AS i; \
    CREATE TABLE free (id INT PRIMARY KEY, v TEXT, w TEXT, n BIGINT); \
    INSERT INTO free SELECT i, 'f' FROM generate_series(1, 100) AS i; \
    CREATE TABLE days (day DATE PRIMARY KEY, v TEXT); \
    INSERT INTO days SELECT DATE '2020-01-01' + i, 'd' FROM generate_series(0, 700) AS i";

/// Three mappings over the table that will be locked, and two mappings over others.
const CONFIG: &str = r#"
[[caches]]
key = "l:{id:int}"
type = "hash"
table = "locked"
write = "through"
deferred = ["n"]

[[caches]]
key = "lq:{id:int}"
type = "hash"
query = "SELECT v FROM locked WHERE id = $1"
watch = [{ table = "locked", key = { id = "id" } }]

[[caches]]
key = "lr:{id:int}"
type = "hash"
query = "SELECT v AS w FROM locked WHERE id = $1"
watch = [{ table = "locked", key = { id = "id" } }]

[[caches]]
key = "f:{id:int}"
type = "hash"
table = "free"
write = "through"
deferred = ["n"]

[[caches]]
key = "d:{day}"
type = "hash"
table = "days"
write = "through"
"#;

const DEFINITION: &str =
    "\n[[definitions]]\nkey = \"ld:{id:int}\"\ntype = \"hash\"\ntable = \"locked\"\nfields = [\"v\"]\n";

/// What holds for a mapping whose table is free, at every moment.
const SOON: Duration = Duration::from_secs(5);

fn postgres() -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(TABLES);
    postgres
}

fn builder(redis: &Redis, postgres: &Postgres, config: &str) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(config).migrated();
    builder.set("SERVER__WORKERS", "2").expect(&[warnings::LOAD_FAILED])
}

fn lock(postgres: &Postgres) -> Session {
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE;");
    session
}

/// The answer to EXEC after these commands.
fn exec(wire: &mut Wire, commands: &[String]) -> String {
    let all = std::iter::once("MULTI").chain(commands.iter().map(String::as_str)).chain(["EXEC"]);
    wire.send(&all.flat_map(line).collect::<Vec<u8>>());
    let replies: Vec<_> = (0..commands.len() + 2).map(|_| wire.frame()).collect();
    String::from_utf8_lossy(replies.last().expect("a reply")).into_owned()
}

/// Nobody took the store for dead.
fn all_else_is_well(sidecar: &Sidecar) {
    assert_eq!(metric(sidecar, "hearthside_gaps_total"), 0.0);
    assert!(!sidecar.log().contains(warnings::STORE_SILENT), "{}", sidecar.log());
}

#[test]
fn a_table_that_is_locked_at_start_is_the_outage_of_its_own_mappings_alone() {
    let (redis, postgres) = (Redis::start(), postgres());
    let config = format!("{CONFIG}{DEFINITION}");
    let expected = [warnings::UNPLANNED, warnings::NO_TRIGGERS, warnings::DEFINITIONS_NOT_LOADED];
    let builder = builder(&redis, &postgres, &config).expect(&expected);
    let mut session = lock(&postgres);
    let begun = Instant::now();
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET f:1 v"), "$1\r\nf\r\n");
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    assert_eq!(wire.ask("HSET f:1 w x n 3"), ":2\r\n");
    for key in ["l:1", "lq:1", "lr:1"] {
        let told = wire.ask(&format!("HGETALL {key}"));
        assert!(told.contains("overloaded") && told.contains("could not be looked at"), "{told}");
    }
    let told = wire.ask("HGET ld:1 v");
    assert!(told.contains("lock timeout"), "{told}");
    assert_eq!(metric(&sidecar, "hearthside_mapping_up{mapping=\"l:{id:int}\"}"), 0.0);
    let (status, body) = request(&sidecar, "GET", "/readyz");
    assert!(status == 200 && body.contains("the mapping 'l:{id:int}' has no statements yet"), "{body}");
    reload_with_another_mapping(&sidecar);
    until("the new mapping is served", || wire.ask("GET m:2") == "$1\r\nf\r\n");
    session.run("ROLLBACK;");
    for key in ["l:1", "lq:1", "ld:1"] {
        until("it is served", || wire.ask(&format!("HGET {key} v")) == "$1\r\nl\r\n");
    }
    until("nothing is missing", || request(&sidecar, "GET", "/readyz").1 == "ready\n");
    all_else_is_well(&sidecar);
}

/// A reload that brings another mapping.
fn reload_with_another_mapping(sidecar: &Sidecar) {
    let more = "\n[[caches]]\nkey = \"m:{id:int}\"\ntype = \"string\"\ntable = \"free\"\nvalue = \"v\"\nttl = \"1m\"\n";
    sidecar.configure(&(sidecar.configuration() + more));
    sidecar.signal("HUP");
}

#[test]
fn a_reload_while_a_table_is_locked_keeps_what_its_mappings_had_and_what_waits_for_it() {
    let (redis, postgres) = (Redis::start(), postgres());
    let config = format!("{CONFIG}{DEFINITION}");
    let expected =
        [warnings::DEFERRED_WAIT, warnings::DEFINITIONS_NOT_LOADED, warnings::UNPLANNED, warnings::NO_TRIGGERS];
    let sidecar = builder(&redis, &postgres, &config).expect(&expected).start();
    let mut wire = sidecar.wire();
    for key in ["l:1", "f:1", "ld:1"] {
        assert_eq!(wire.ask(&format!("EXISTS {key}")), ":1\r\n");
    }
    let mut session = lock(&postgres);
    assert_eq!([wire.ask("HSET l:1 n 5"), wire.ask("HSET f:1 n 6")], [":1\r\n", ":1\r\n"]);
    let begun = Instant::now();
    reload_with_another_mapping(&sidecar);
    until("the new mapping is served", || wire.ask("GET m:2") == "$1\r\nf\r\n");
    assert_eq!(wire.ask("HGET f:7 v"), "$1\r\nf\r\n");
    assert!(begun.elapsed() < 2 * SOON, "it took {:?}", begun.elapsed());
    assert_eq!(wire.ask("HGET ld:1 v"), "$1\r\nl\r\n", "its last good version");
    assert_eq!(metric(&sidecar, "hearthside_mapping_up{mapping=\"l:{id:int}\"}"), 1.0);
    let told = wire.ask("HGET l:2 v");
    assert!(told.contains("overloaded") && !told.contains("could not be looked at"), "{told}");
    assert_eq!(wire.ask("HSET f:1 w x n 7"), ":1\r\n");
    session.run("ROLLBACK;");
    until("what waited is saved", || postgres.sql("SELECT n FROM locked WHERE id = 1") == "5");
    assert_eq!(wire.ask("HMGET l:1 v n"), "*2\r\n$1\r\nl\r\n$1\r\n5\r\n");
    assert_eq!([wire.ask("HSET l:1 n 8"), wire.ask("HSET l:1 w x n 9")], [":0\r\n", ":1\r\n"]);
    until("it is saved", || postgres.sql("SELECT n FROM locked WHERE id = 1") == "9");
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
    all_else_is_well(&sidecar);
}

#[test]
fn a_locked_table_that_has_changed_holds_up_neither_plans_nor_transactions_of_others() {
    let (redis, postgres) = (Redis::start(), postgres());
    let sidecar = builder(&redis, &postgres, CONFIG).start();
    let mut wire = sidecar.wire();
    for key in ["l:1", "lq:1", "lr:1", "f:1", "d:2020-01-01"] {
        assert!(wire.ask(&format!("EXISTS {key}")) == ":1\r\n");
    }
    let mut session = postgres.session();
    session.run("ALTER TABLE locked ADD COLUMN z INT; BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE;");
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'locked'::regclass";
    until("somebody plans with the table", || postgres.sql(waits) != "0");
    let mut day = 0;
    for column in ["one", "two"] {
        postgres.sql(&format!("ALTER TABLE free ADD COLUMN {column} TEXT DEFAULT 'new'"));
        let begun = Instant::now();
        until("the other table's new column is served", || {
            day += 1;
            let key = format!("d:2020-{:02}-{:02}", 1 + day / 28 % 12, 1 + day % 28);
            let told = exec(&mut wire, &[format!("HSET {key} v {day}"), format!("HGET {key} v")]);
            assert!(told.starts_with("*2\r\n:0\r\n$"), "{key} after {:?}: {told}", begun.elapsed());
            wire.ask("HGETALL f:1").contains(column)
        });
        assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
    }
    session.run("ROLLBACK;");
    until("its own column is served", || wire.ask("HGET l:1 v") == "$1\r\nl\r\n");
    assert_eq!(metric(&sidecar, "hearthside_overloads_total{mapping=\"d:{day}\"}"), 0.0);
    all_else_is_well(&sidecar);
}
