//! The audit log: a line for each write of an owned key and each act of administration.

use std::path::PathBuf;

use serde_json::Value;

use crate::operations::reload::reload;
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::line;
use crate::support::{until, warnings};

const CONFIG: &str = concat!(
    r#"
[audit]
file = "audit.log"
"#,
    include_str!("../support/heroes.toml"),
    r#"
[[caches]]
key = "fixed:{id:int}"
type = "string"
table = "fixed"
value = "text"
"#
);

pub(super) fn builder(redis: &Redis, postgres: &Postgres) -> Builder {
    postgres.sql(
        "CREATE TABLE hero (id int PRIMARY KEY, name text, age int CHECK (age < 1000)); \
         CREATE TABLE tally (id int PRIMARY KEY, n int CHECK (n < 1000)); \
         CREATE TABLE fixed (id int PRIMARY KEY, text text); \
         INSERT INTO tally SELECT id, 0 FROM generate_series(1, 9) id",
    );
    Sidecar::builder().config(CONFIG).redis(redis).postgres(postgres).migrated()
}

pub(super) fn file(sidecar: &Sidecar) -> PathBuf {
    sidecar.folder.path().join("audit.log")
}

pub(super) fn lines(path: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// A line as `event key-or-nothing command outcome`.
pub(super) fn brief(line: &Value) -> String {
    let words = ["event", "key", "command", "outcome"].map(|name| line[name].as_str().unwrap_or("-"));
    words.join(" ")
}

/// Waits for these among the lines, in this order.
pub(super) fn has(sidecar: &Sidecar, expected: &[&str]) {
    let mut seen = Vec::new();
    until(&format!("the lines are {expected:?}"), || {
        seen = lines(&file(sidecar)).iter().map(brief).collect();
        let mut rest = seen.iter();
        expected.iter().all(|wanted| rest.any(|line| line == wanted))
    });
}

#[test]
fn every_write_of_an_owned_key_has_a_line_and_no_value_stands_there() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    wire.ask("CLIENT SETNAME shop");
    assert_eq!(wire.ask("HSET hero:1 name topsecret age 5"), ":2\r\n");
    assert!(wire.ask("HSET hero:1 age 5000").starts_with("-ERR hearthside: "));
    assert!(wire.ask("SET fixed:1 topsecret").starts_with("-ERR hearthside: "));
    assert!(wire.ask("RENAME hero:1 hero:2").starts_with("-"));
    assert!(wire.ask("MSET fixed:8 topsecret fixed:9 topsecret").starts_with("-"));
    wire.ask("HGET hero:1 name");
    wire.ask("SET plain topsecret");
    wire.send(
        &["MULTI", "HSET hero:2 name topsecret", "SET plain 2", "HINCRBY hero:2 age 3", "EXEC"].map(line).concat(),
    );
    (0..5).for_each(|_| drop(wire.frame()));
    wire.send(&["MULTI", "HSET hero:3 name topsecret", "DISCARD"].map(line).concat());
    (0..3).for_each(|_| drop(wire.frame()));
    wire.send(&["MULTI", "HSET hero:4 name topsecret", "LPUSH hero:4 x", "EXEC"].map(line).concat());
    (0..3).for_each(|_| drop(wire.frame()));
    assert!(wire.frame().starts_with(b"-EXECABORT "));
    assert_eq!(wire.ask("DEL hero:1 hero:2 plain"), ":3\r\n");
    has(
        &sidecar,
        &[
            "write hero:1 HSET ok",
            "write hero:1 HSET error",
            "write fixed:1 SET error",
            "write hero:1 RENAME error",
            "write fixed:8 MSET error",
            "write fixed:9 MSET error",
            "write hero:2 HSET ok",
            "write hero:2 HINCRBY ok",
            "write hero:4 LPUSH error",
            "write hero:4 HSET error",
            "write hero:1 DEL ok",
            "write hero:2 DEL ok",
        ],
    );
    let lines = lines(&file(&sidecar));
    assert_eq!((lines[0]["command"].as_str(), lines[0]["event"].as_str()), (Some("start"), Some("admin")));
    assert_eq!(lines[1]["fields"], serde_json::json!(["name", "age"]));
    assert_eq!((&lines[1]["mapping"], &lines[1]["client"]["name"]), (&"hero:{id:int}".into(), &"shop".into()));
    let text = std::fs::read_to_string(file(&sidecar)).expect("a file");
    assert!(!text.contains("topsecret") && !text.contains("plain") && !text.contains("hero:3"), "{text}");
    assert_eq!(metric(&sidecar, "hearthside_audit_lost_total{reason=\"queue\"}"), 0.0);
}

#[test]
fn the_write_of_a_client_that_has_left_has_its_outcome() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).set("STORE__QUERY_TIMEOUT", "60s").start();
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE hero IN EXCLUSIVE MODE;");
    let mut wire = sidecar.wire();
    wire.send(&line("HSET hero:1 name a"));
    until("it waits in the database", || postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0");
    drop(wire);
    session.run("COMMIT;");
    has(&sidecar, &["write hero:1 HSET ok"]);
    assert_eq!(postgres.sql("SELECT name FROM hero"), "a");
}

#[test]
fn what_the_store_refuses_of_an_acknowledged_write_has_a_line_of_its_own() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).expect(&[warnings::PUT_ASIDE]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET tally:1 n 5"), ":0\r\n");
    assert_eq!(wire.ask("HSET tally:2 n 5000"), ":0\r\n");
    has(&sidecar, &["write tally:1 HSET ok", "write tally:2 HSET ok", "put_aside tally:2 - -"]);
}

#[test]
fn administration_has_its_lines_and_the_file_is_opened_again() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).start();
    let (mut wire, victim) = (sidecar.wire(), sidecar.wire());
    for command in ["HEARTHSIDE INVALIDATE hero:*", "HEARTHSIDE STATUS", "CONFIG GET maxmemory", "CLIENT LIST", "INFO"]
    {
        wire.ask(command);
    }
    wire.ask("CONFIG SET slowlog-max-len 99");
    wire.ask("CLIENT KILL ID 99999");
    request(&sidecar, "POST", "/invalidate?key=hero:7");
    request(&sidecar, "GET", "/api/status");
    drop(victim);
    let expected = [
        "admin hero:* HEARTHSIDE INVALIDATE ok",
        "admin - CONFIG SET sent",
        "admin - CLIENT KILL ok",
        "admin hero:7 POST /invalidate ok",
    ];
    has(&sidecar, &expected);
    let seen = lines(&file(&sidecar)).iter().map(brief).collect::<Vec<_>>();
    assert_eq!(seen.len(), 5, "those, and the start: {seen:?}");
    let set = lines(&file(&sidecar)).into_iter().find(|line| line["command"] == "CONFIG SET").expect("a line");
    assert_eq!(set["about"], serde_json::json!(["slowlog-max-len"]), "no values");
    let old = sidecar.folder.path().join("audit.log.1");
    std::fs::rename(file(&sidecar), &old).expect("renamed");
    reload(&sidecar, CONFIG);
    has(&sidecar, &["admin - SIGHUP ok"]);
    wire.ask("HSET hero:1 name a");
    has(&sidecar, &["write hero:1 HSET ok"]);
    reload(&sidecar, &CONFIG.replace("file = \"audit.log\"", ""));
    wire.ask("HSET hero:1 name b");
    assert_eq!(lines(&file(&sidecar)).iter().filter(|line| line["event"] == "write").count(), 1);
}
