//! The column that says when a row expires: infinity, and columns that may not be NULL.

use std::path::Path;

use super::{hash, over};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::Wire;

const STRINGS: &str = "type = \"string\"\nvalue = \"v\"\nexpires_column = \"ends\"\nwrite = \"through\"\n\
    delete = \"row\"\n";

fn ttl(wire: &mut Wire, key: &str) -> i64 {
    wire.ask(&format!("TTL {key}")).trim_start_matches(':').trim_end().parse().expect("a number")
}

#[test]
fn infinity_is_no_end_and_minus_infinity_has_passed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tables = "CREATE DOMAIN moment AS timestamptz; \
        CREATE TABLE a (id text PRIMARY KEY, v text, ends timestamptz NOT NULL DEFAULT 'infinity'); \
        CREATE TABLE b (id text PRIMARY KEY, v text, ends timestamp); CREATE TABLE c (id text PRIMARY KEY, v text, \
        ends moment); \
        INSERT INTO a VALUES ('never', 'x', 'infinity'), ('past', 'x', '-infinity'), ('soon', 'x', now() + interval '1 h'); \
        INSERT INTO b SELECT * FROM a; INSERT INTO c SELECT * FROM a";
    let block = |name: &str| format!("[[caches]]\nkey = \"{name}:{{id}}\"\ntable = \"{name}\"\n{STRINGS}\n");
    let config: String = ["a", "b", "c"].map(block).concat();
    let builder = over(&redis, &postgres, tables, &config).set("STORE__TIMEZONE", "UTC");
    let sidecar = builder.set("STORE__SWEEP_INTERVAL", "50ms").start();
    let mut wire = sidecar.wire();
    for table in ["a", "b", "c"] {
        let key = |id: &str| format!("{table}:{id}");
        assert_eq!(wire.ask(&format!("GET {}", key("never"))), "$1\r\nx\r\n", "{table}");
        assert_eq!((ttl(&mut wire, &key("never")), ttl(&mut wire, &key("past"))), (-1, -2), "{table}");
        assert!((3500..=3600).contains(&ttl(&mut wire, &key("soon"))), "{table}");
        assert_eq!(wire.ask(&format!("GET {}", key("past"))), "$-1\r\n");
        assert_eq!(wire.ask(&format!("EXISTS {}", key("never"))), ":1\r\n");
        let listed = wire.ask(&format!("KEYS {table}:*"));
        assert!(listed.starts_with("*2\r\n") && listed.contains("never") && !listed.contains("past"), "{listed}");
        until("what has ended is swept", || postgres.sql(&format!("SELECT count(*) FROM {table}")) == "2");
        // A value is written, and its end with it.
        assert_eq!(wire.ask(&format!("SET {} y EX 60", key("never"))), "+OK\r\n");
        until("the end is saved", || {
            postgres.sql(&format!("SELECT isfinite(ends) FROM {table} WHERE id = 'never'")) == "t"
        });
    }
}

#[test]
fn a_column_that_may_not_be_null_is_given_its_end_by_the_insert() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tables = "CREATE TABLE s (sid text PRIMARY KEY, v text NOT NULL, ends timestamptz NOT NULL); \
        CREATE TABLE h (sid text PRIMARY KEY, v text, w text, seen text, ends timestamptz NOT NULL)";
    let strings = format!("[[caches]]\nkey = \"s:{{sid}}\"\ntable = \"s\"\n{STRINGS}\n");
    let hashes = hash("h:{sid}", "h", "expires_column = \"ends\"\nttl = \"1h\"\ndeferred = [\"seen\"]");
    let sidecar = over(&redis, &postgres, tables, &(strings + &hashes)).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET s:1 v EX 60"), "+OK\r\n");
    assert_eq!(postgres.sql("SELECT ends - now() BETWEEN interval '50 s' AND interval '60 s' FROM s"), "t");
    for refused in ["SET s:2 v", "SET s:1 v", "GETSET s:1 v"] {
        let told = wire.ask(refused);
        assert!(told.contains("the field 'ends'") && told.contains("give the key a TTL (EX)"), "{refused}: {told}");
    }
    for refused in ["PERSIST s:1", "GETEX s:1 PERSIST"] {
        assert!(wire.ask(refused).contains("cannot be without an expiry"), "{refused}");
    }
    assert_eq!((wire.ask("SETEX s:3 60 v"), wire.ask("SET s:1 w KEEPTTL")), ("+OK\r\n".into(), "+OK\r\n".into()));
    // A hash has the TTL of its mapping.
    assert_eq!(wire.ask("HSET h:1 v a w b"), ":2\r\n");
    assert_eq!(postgres.sql("SELECT ends - now() BETWEEN interval '59 min' AND interval '1 h' FROM h"), "t");
    assert_eq!(wire.ask("HSET h:2 seen now"), ":1\r\n");
    assert_eq!(wire.ask("HSET h:2 seen then"), ":0\r\n");
    assert_eq!((wire.ask("EXPIRE h:2 7200"), wire.ask("TTL h:2")), (":1\r\n".into(), ":7200\r\n".into()));
    assert!(wire.ask("PERSIST h:2").contains("cannot be without an expiry"));
    // In a transaction the others go on.
    for (request, answer) in [
        ("MULTI", "+OK"),
        ("HSET h:1 v c", "+QUEUED"),
        ("PERSIST h:1", "+QUEUED"),
        ("SET s:9 v", "+QUEUED"),
        ("SET s:9 v EX 60", "+QUEUED"),
    ] {
        assert!(wire.ask(request).starts_with(answer), "{request}");
    }
    let told = wire.ask("EXEC");
    assert!(told.contains(":0\r\n-ERR hearthside: the key cannot be") && told.ends_with("+OK\r\n"), "{told}");
    for (request, answer) in [("MULTI", "+OK"), ("PERSIST h:1", "+QUEUED")] {
        assert!(wire.ask(request).starts_with(answer), "{request}");
    }
    assert!(wire.ask("EXEC").contains("cannot be without an expiry"));
    until("all is saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
    assert_eq!(postgres.sql("SELECT count(*) FROM s WHERE sid = '9'"), "1");
}

/// Runs SQL on a file of SQLite.
pub(super) fn sqlite(file: &Path, sql: &str) -> String {
    let mut sqlite3 = std::process::Command::new("sqlite3");
    let output = sqlite3.args(["-cmd", ".timeout 5000"]).arg(file).arg(sql).output().expect("sqlite3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn the_embedded_store_gives_a_new_row_its_end_too() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("store.db");
    sqlite(&file, "CREATE TABLE s (sid TEXT PRIMARY KEY, v TEXT, ends TIMESTAMP NOT NULL)");
    let config = format!("[[caches]]\nkey = \"s:{{sid}}\"\ntable = \"s\"\n{STRINGS}\n");
    let sidecar = Sidecar::builder().redis(&redis).config(&config).set("JOURNAL__FLUSH_INTERVAL", "20ms");
    let sidecar = sidecar.set("STORE__URL", format!("sqlite://{}", file.display())).start();
    let mut wire = sidecar.wire();
    assert_eq!((wire.ask("SET s:1 v EX 60"), wire.ask("TTL s:1")), ("+OK\r\n".into(), ":60\r\n".into()));
    assert!(wire.ask("SET s:1 v").contains("give the key a TTL (EX)"));
    assert!(wire.ask("PERSIST s:1").contains("cannot be without an expiry"));
    until("all is saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    assert_eq!(sqlite(&file, "SELECT count(*) FROM s WHERE unixepoch(ends) - unixepoch() BETWEEN 50 AND 60"), "1");
}
