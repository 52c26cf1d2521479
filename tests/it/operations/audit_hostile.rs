//! The audit log where somebody does not want to be seen in it, or wants others not to be.

use super::audit::{builder, file, has, lines};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::wire::line;
use crate::support::{until, warnings};

/// A trigger that quotes what it is given, and one that waits at COMMIT for whoever holds the lock.
const TRIGGERS: &str = "
    CREATE FUNCTION quotes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'no %', NEW.name USING ERRCODE = '42501'; END $$;
    CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
    CREATE TRIGGER quotes BEFORE INSERT ON hero FOR EACH ROW WHEN (NEW.name = 'topsecret') EXECUTE FUNCTION quotes();
    CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON hero DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION waits();";

#[test]
fn a_client_that_is_killed_while_the_store_commits_is_seen() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).set("STORE__QUERY_TIMEOUT", "60s").start();
    postgres.sql(TRIGGERS);
    let mut session = postgres.session();
    session.run("BEGIN; SELECT pg_advisory_xact_lock(7);");
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    let id = wire.ask("CLIENT ID");
    wire.send(&["MULTI", "HSET hero:1 name a", "HGET hero:2 name", "HSET hero:3 name b", "EXEC"].map(line).concat());
    until("it commits", || postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0");
    assert_eq!(other.ask(&format!("CLIENT KILL ID {}", id[1..].trim())), ":1\r\n");
    session.run("COMMIT;");
    has(&sidecar, &["admin - CLIENT KILL ok", "write hero:1 HSET ok", "write hero:3 HSET ok"]);
    assert_eq!(postgres.sql("SELECT count(*) FROM hero"), "2");
}

#[test]
fn what_the_store_says_of_values_is_for_the_client_alone() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let expected = [warnings::PUT_ASIDE];
    let sidecar = builder(&redis, &postgres).expect(&expected).start();
    postgres.sql(TRIGGERS);
    postgres.sql("ALTER TABLE tally ADD day date");
    let mut wire = sidecar.wire();
    until("the new column is known", || wire.ask("HSET tally:1 day 2026-11-28").starts_with(':'));
    let told = wire.ask("HSET hero:1 name topsecret");
    assert!(told.contains("the store refused: no topsecret (42501)"), "{told}");
    wire.send(&["MULTI", "HSET hero:1 name topsecret", "EXEC"].map(line).concat());
    (0..2).for_each(|_| drop(wire.frame()));
    assert!(String::from_utf8_lossy(&wire.frame()).contains("no topsecret"), "the client asked");
    assert_eq!(wire.ask("HSET tally:2 day topsecret"), ":1\r\n");
    has(&sidecar, &["write hero:1 HSET error", "write hero:1 HSET error", "put_aside tally:2 - -"]);
    let audit = std::fs::read_to_string(file(&sidecar)).expect("a file");
    assert!(audit.contains("the store refused: (42501)"), "{audit}");
    for path in ["/api/events", "/api/mappings", "/api/slowlog", "/api/status"] {
        let shown = request(&sidecar, "GET", path).1;
        assert!(!shown.contains("topsecret"), "{path}: {shown}");
    }
    let log = sidecar.log();
    assert!(!audit.contains("topsecret") && !log.contains("topsecret"), "{audit}{log}");
}

#[test]
fn refusals_and_long_commands_do_not_push_others_out() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).start();
    let (mut wire, mut stranger) = (sidecar.wire(), sidecar.wire());
    stranger.ask(&format!("CLIENT SETNAME {}", "n".repeat(5000)));
    stranger.send(&line("SHUTDOWN").repeat(2000));
    (0..2000).for_each(|_| assert!(stranger.frame().starts_with(b"-")));
    let keys: Vec<String> = (1..=200).map(|id| format!("hero:{id}")).collect();
    assert_eq!(stranger.ask(&format!("DEL {}", keys.join(" "))), ":0\r\n");
    assert_eq!(wire.ask("HSET hero:1 name a"), ":1\r\n");
    has(&sidecar, &["admin - SHUTDOWN error", "write hero:64 DEL ok", "write hero:1 HSET ok"]);
    let seen = lines(&file(&sidecar));
    let (of_client, last) = (|line: &&serde_json::Value| line["command"] == "DEL", "hero:64");
    let deleted: Vec<_> = seen.iter().filter(of_client).collect();
    assert_eq!((deleted.len(), &deleted[63]["key"], &deleted[63]["more"]), (64, &last.into(), &136.into()));
    assert_eq!(deleted[0]["client"]["name"].as_str().map(str::len), Some(515));
    let refused = seen.iter().filter(|line| line["command"] == "SHUTDOWN").count();
    let lost = metric(&sidecar, "hearthside_audit_lost_total{reason=\"refusals\"}");
    assert_eq!((refused as f64 + lost, refused < 500), (2000.0, true), "{refused}");
    let told: u64 = seen.iter().filter_map(|line| line["lines"].as_u64()).sum();
    assert_eq!(told as f64, lost);
}

#[test]
fn what_changes_the_code_and_the_logs_of_the_upstream_is_administration() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    let scripts = ["SCRIPT FLUSH", "SCRIPT EXISTS x", "FUNCTION FLUSH", "FUNCTION LIST", "ACL LOG", "ACL LOG RESET"];
    scripts.iter().for_each(|command| drop(wire.ask(command)));
    wire.ask("HEARTHSIDE SLOWLOG RESET");
    let long = [&b"*5\r\n$7\r\nRESTORE\r\n$4\r\ncopy\r\n$1\r\n0\r\n$3000000\r\n"[..], &vec![b'x'; 1 << 20]].concat();
    wire.send(&long);
    has(&sidecar, &["admin - RESTORE sent"]);
    wire.send(&[vec![b'x'; 3_000_000 - (1 << 20)], b"\r\n$7\r\nREPLACE\r\n".to_vec()].concat());
    assert!(wire.frame().starts_with(b"-"), "it is no dump");
    let seen: Vec<String> = lines(&file(&sidecar)).iter().map(super::audit::brief).collect();
    let expected = [
        "admin - start ok",
        "admin - SCRIPT FLUSH sent",
        "admin - FUNCTION FLUSH sent",
        "admin - ACL LOG RESET sent",
        "admin - HEARTHSIDE SLOWLOG RESET ok",
        "admin - RESTORE sent",
    ];
    assert_eq!(seen, expected);
}
