//! A store that has no place for the notes of deferred writes, or a role that may not use it: those writes are refused,
//! and everything else is served.

use super::place::{Place, until_saved};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

const DEFERS: &str = "hearthside_mapping_defers{mapping=\"p:{id:int}\"}";

const REFUSED: &str = "deferred writes are refused: ";

fn is_refused(wire: &mut Wire, request: &str) -> bool {
    let told = wire.ask(request);
    told.starts_with("-ERR hearthside: ") && told.contains(REFUSED)
}

fn exec(wire: &mut Wire, requests: &[&str]) -> String {
    wire.ask("MULTI");
    requests.iter().for_each(|request| assert_eq!(wire.ask(request), "+QUEUED\r\n"));
    wire.ask("EXEC")
}

#[test]
fn without_the_migration_reads_and_writes_through_are_served() {
    let place = Place::new();
    place.postgres.sql(
        "DROP TABLE hearthside.journals; ALTER TABLE hearthside.flushed DROP COLUMN at; \
         DELETE FROM hearthside._sqlx_migrations WHERE version >= 4",
    );
    let checked = place.builder("1s").execute(&["check", "--connect"]);
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(
        checked.status.code() == Some(2) && told.contains("caches[0].deferred: needs `hearthside migrate`"),
        "{told}"
    );
    let sidecar = place.builder("20ms").expect(&[warnings::DEFERRED_REFUSED]).start();
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("HGET p:1 hp"), wire.ask("GET n:1")], ["$2\r\n10\r\n", "$1\r\na\r\n"]);
    assert_eq!([wire.ask("HSET p:1 hp 3"), wire.ask("HSET p:2000 hp 1")], [":0\r\n", ":1\r\n"]);
    for refused in ["HSET p:1 seen 5", "HSET p:1 hp 4 seen 5", "HINCRBY p:1 seen 1", "SET n:1 b", "HSET p:3000 seen 1"]
    {
        assert!(is_refused(&mut wire, refused), "{refused}");
    }
    let told = exec(&mut wire, &["HSET p:1 seen 5", "SET a 1"]);
    assert!(told.contains("nothing of the transaction was done") && told.contains(REFUSED), "{told}");
    assert_eq!(
        [wire.ask("HGET p:1 hp"), wire.ask("HGET p:1 seen"), wire.ask("GET a")],
        ["$1\r\n3\r\n", "$1\r\n0\r\n", "$-1\r\n"]
    );
    assert_eq!(place.postgres.sql("SELECT hp, seen FROM players WHERE id = 1"), "3|0");
    assert_eq!(
        (metric(&sidecar, DEFERS), metric(&sidecar, "hearthside_mapping_up{mapping=\"p:{id:int}\"}")),
        (0.0, 1.0)
    );
    let (status, body) = request(&sidecar, "GET", "/readyz");
    let why = "deferred writes of the mapping 'p:{id:int}' are refused: needs `hearthside migrate`";
    assert!(status == 200 && body.contains(why), "{body}");
    assert!(place.builder("1s").execute(&["migrate"]).status.success());
    until("they are taken again", || wire.ask("HSET p:1 seen 7") == ":0\r\n");
    until_saved(&sidecar);
    assert_eq!((place.seen(1), metric(&sidecar, DEFERS)), ("7".into(), 1.0));
    assert_eq!(request(&sidecar, "GET", "/readyz").1, "ready\n");
}

const ENDING: &str = "[[caches]]\nkey = \"s:{id}\"\ntype = \"string\"\ntable = \"texts\"\nvalue = \"v\"\n\
    expires_column = \"ends\"\nwrite = \"through\"\ndelete = \"row\"\n";

/// A role that may not do what noting needs: what keeps it from that, and what gives it back.
const RIGHTS: [(&str, &str); 3] = [
    ("REVOKE UPDATE ON hearthside.journals FROM side", "GRANT UPDATE ON hearthside.journals TO side"),
    ("REVOKE SELECT ON hearthside.flushed FROM side", "GRANT SELECT ON hearthside.flushed TO side"),
    ("REVOKE USAGE ON SCHEMA hearthside FROM side", "GRANT USAGE ON SCHEMA hearthside TO side"),
];

#[test]
fn a_role_without_the_rights_reads_and_writes_what_needs_no_notes() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE texts (id TEXT PRIMARY KEY, v TEXT, ends TIMESTAMPTZ); CREATE ROLE side LOGIN; \
         INSERT INTO texts VALUES ('a', '1', now() + interval '1 hour')",
    );
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(ENDING).migrated();
    postgres
        .sql("GRANT USAGE ON SCHEMA hearthside TO side; GRANT ALL ON ALL TABLES IN SCHEMA public, hearthside TO side");
    let builder = builder.set("STORE__URL", postgres.url().replace("postgres@", "side@"));
    let sidecar =
        builder.expect(&[warnings::DEFERRED_REFUSED, warnings::OLD_NOTES_STAY, warnings::DEFERRED_WAIT]).start();
    let mut wire = sidecar.wire();
    for (taken, given) in RIGHTS {
        assert_eq!(wire.ask("EXPIRE s:a 5000"), ":1\r\n");
        until("it is saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
        postgres.sql(taken);
        until("it is seen", || metric(&sidecar, "hearthside_mapping_defers{mapping=\"s:{id}\"}") == 0.0);
        for refused in ["EXPIRE s:a 9000", "PERSIST s:a", "SET s:a 2 EX 9000", "GETEX s:a EX 9000", "SET s:a 2"] {
            assert!(is_refused(&mut wire, refused), "{refused}, after {taken}");
        }
        let told = exec(&mut wire, &["EXPIRE s:a 9000", "APPEND s:a x"]);
        assert!(told.contains("nothing of the transaction was done") && told.contains(REFUSED), "{told}");
        assert_eq!(
            [wire.ask("GET s:a"), wire.ask("SET s:a 2 KEEPTTL"), wire.ask("GET s:a")],
            ["$1\r\n1\r\n", "+OK\r\n", "$1\r\n2\r\n"]
        );
        assert_eq!(
            [wire.ask("APPEND s:new x"), wire.ask("DEL s:new"), wire.ask("SET s:a 1 KEEPTTL")],
            [":1\r\n", ":1\r\n", "+OK\r\n"]
        );
        let left: u32 = wire.ask("TTL s:a").trim_start_matches(':').trim_end().parse().expect("a number");
        assert!((4000..=5000).contains(&left), "{left}");
        postgres.sql(given);
        until("it is taken again", || wire.ask("EXPIRE s:a 5000") == ":1\r\n");
    }
}
