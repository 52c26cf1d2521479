//! Keys whose new end waits in the journal while the old one passes in their row: what waits says whether they live.

use super::model::ENDING;
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

const TABLES: &str = "CREATE TABLE hashes (id BIGINT PRIMARY KEY, f TEXT, n BIGINT, more JSON, ends TIMESTAMP); \
    CREATE TABLE strings (id TEXT PRIMARY KEY, v TEXT, ends TIMESTAMP);";

/// A store, and a journal that outlives its sidecars.
struct World<'w> {
    start: &'w dyn Fn(&str) -> Sidecar,
    sql: &'w dyn Fn(&str) -> String,
    /// A moment that has passed, and one that has not, as SQL.
    past: &'w str,
    future: &'w str,
}

fn deferred() -> String {
    ENDING.replace("write = \"through\"", "write = \"deferred\"")
}

fn with_journal(builder: Builder, folder: &tempfile::TempDir, interval: &str) -> Builder {
    let journal = folder.path().join("journal.db").display().to_string();
    // A sweep saves what waits first.
    let builder = builder.set("JOURNAL__PATH", journal).set("STORE__SWEEP_INTERVAL", "0");
    builder.set("JOURNAL__FLUSH_INTERVAL", interval)
}

fn on_postgres(config: &str, test: impl Fn(&World<'_>)) {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let folder = tempfile::tempdir().expect("a folder");
    let start = |interval: &str| {
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(config).migrated();
        with_journal(builder, &folder, interval).start()
    };
    test(&World {
        start: &start,
        sql: &|text| postgres.sql(text),
        past: "localtimestamp - interval '1 hour'",
        future: "localtimestamp + interval '1 minute'",
    });
}

fn on_sqlite(config: &str, test: impl Fn(&World<'_>)) {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("store.db").display().to_string();
    let sql = |text: &str| {
        let told = std::process::Command::new("sqlite3").args([&file, text]).output().expect("sqlite3 is installed");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8_lossy(&told.stdout).trim().to_owned()
    };
    sql(TABLES);
    let start = |interval: &str| {
        let builder = Sidecar::builder().redis(&redis).config(config).set("STORE__URL", format!("sqlite://{file}"));
        with_journal(builder, &folder, interval).start()
    };
    test(&World {
        start: &start,
        sql: &sql,
        past: "datetime('now', '-1 hour')",
        future: "datetime('now', '+1 minute')",
    });
}

/// Asks for each of these, when memory has forgotten the keys, and compares the replies.
fn all_are(sidecar: &Sidecar, replies: &[(&str, &str)]) {
    let mut wire = sidecar.wire();
    for (asked, told) in replies {
        for key in KEYS {
            request(sidecar, "POST", &format!("/invalidate?key={key}"));
        }
        assert_eq!(wire.ask(asked), *told, "{asked}");
    }
}

const KEYS: [&str; 6] = ["s:a", "s:b", "s:over", "s:none", "h:1", "h:2"];

/// Reads of keys that live by what waits, of one that has ended by it (`s:over`), and of one for which nothing waits.
const READS: [(&str, &str); 8] = [
    ("GET s:a", "$1\r\n1\r\n"),
    ("MGET s:a s:over s:none s:b", "*4\r\n$1\r\n1\r\n$-1\r\n$-1\r\n$1\r\n1\r\n"),
    ("HGETALL h:1", "*2\r\n$1\r\nn\r\n$1\r\n5\r\n"),
    ("EXISTS s:a s:b s:over s:none h:1 h:2", ":4\r\n"),
    ("TTL h:1", ":-1\r\n"),
    ("TTL s:over", ":-2\r\n"),
    ("KEYS s:*", "*2\r\n$3\r\ns:a\r\n$3\r\ns:b\r\n"),
    ("KEYS h:*", "*2\r\n$3\r\nh:1\r\n$3\r\nh:2\r\n"),
];

/// Writes whose conditions look at the key, and what they are told of it.
const WRITES: [(&str, &str); 11] = [
    ("SET s:a 2 NX KEEPTTL", "$-1\r\n"),
    ("SETNX s:b 2", ":0\r\n"),
    ("SET s:a 2 XX KEEPTTL", "+OK\r\n"),
    ("APPEND s:b 2", ":2\r\n"),
    ("HSETNX h:1 n 6", ":0\r\n"),
    ("HINCRBY h:1 n 2", ":7\r\n"),
    ("HSET h:2 f a other b", ":2\r\n"),
    ("GET s:a", "$1\r\n2\r\n"),
    ("GET s:b", "$2\r\n12\r\n"),
    ("HMGET h:2 f n other", "*3\r\n$1\r\na\r\n$1\r\n5\r\n$1\r\nb\r\n"),
    ("TTL h:1", ":-1\r\n"),
];

/// True when the key has nearly an hour to live.
fn lives_for_an_hour(wire: &mut Wire, key: &str) -> bool {
    let told = wire.ask(&format!("TTL {key}"));
    told.trim_start_matches(':').trim_end().parse().is_ok_and(|left| (3500..=3600).contains(&left))
}

fn exec(wire: &mut Wire, commands: &[&str]) -> String {
    for command in std::iter::once(&"MULTI").chain(commands) {
        assert!(wire.ask(command).starts_with('+'), "{command}");
    }
    wire.ask("EXEC")
}

/// Keys whose rows end before the journal's entries about them are saved.
fn outlive(world: &World<'_>) {
    let World { start, sql, past, future } = world;
    sql("INSERT INTO strings SELECT v.column1, '1', NULL FROM (VALUES ('a'), ('b'), ('over'), ('none')) AS v");
    sql(&format!("INSERT INTO hashes (id, n, ends) SELECT v.column1, 5, {future} FROM (VALUES (1), (2)) AS v"));
    let mut sidecar = start("1h");
    let mut wire = sidecar.wire();
    let given = ["EXPIRE s:a 3600", "PEXPIRE s:over 1", "PERSIST h:1", "EXPIRE h:2 3600"];
    given.iter().for_each(|given| assert_eq!(wire.ask(given), ":1\r\n", "{given}"));
    assert_eq!(wire.ask("GETEX s:b EX 3600"), "$1\r\n1\r\n");
    sql(&format!("UPDATE strings SET ends = {past} WHERE id <> 'over'; UPDATE hashes SET ends = {past}"));
    until("the row's end is seen", || wire.ask("GET s:none") == "$-1\r\n");
    all_are(&sidecar, &READS);
    let scanned = wire.ask("SCAN 0 COUNT 100 TYPE hash");
    assert!(scanned.ends_with("*2\r\n$3\r\nh:1\r\n$3\r\nh:2\r\n"), "{scanned}");
    assert!(lives_for_an_hour(&mut wire, "s:a"));
    sidecar.kill();
    let mut sidecar = start("1h");
    all_are(&sidecar, &READS);
    let mut wire = sidecar.wire();
    // Another key of the transaction is written: the store does it.
    let told = exec(&mut wire, &["SET s:new 1", "GET s:a", "HGET h:1 n"]);
    assert_eq!(told, "*3\r\n+OK\r\n$1\r\n1\r\n$1\r\n5\r\n");
    assert_eq!(wire.ask("DEL s:new"), ":1\r\n");
    all_are(&sidecar, &WRITES);
    assert!(lives_for_an_hour(&mut wire, "s:a") && lives_for_an_hour(&mut wire, "h:2"));
    sidecar.kill();
    let sidecar = start("50ms");
    until("everything is saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    let living = format!("ends > {future}");
    assert_eq!(sql(&format!("SELECT count(*) FROM strings WHERE id IN ('a', 'b') AND {living}")), "2");
    assert_eq!(sql(&format!("SELECT count(*) FROM hashes WHERE id = 2 AND n = 5 AND {living}")), "1");
    assert_eq!(sql("SELECT count(*) FROM hashes WHERE id = 1 AND n = 7 AND ends IS NULL"), "1");
    all_are(&sidecar, &WRITES[7..]);
}

#[test]
fn a_key_lives_by_the_end_that_waits_whatever_its_row_says() {
    on_postgres(ENDING, outlive);
}

#[test]
fn with_deferred_writes_too() {
    on_postgres(&deferred(), outlive);
}

#[test]
fn and_in_sqlite() {
    on_sqlite(ENDING, outlive);
    on_sqlite(&deferred(), outlive);
}

/// Reads the table may be, but not written.
#[test]
fn an_end_that_waits_for_a_locked_table_outlives_the_one_before_and_a_kill() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let folder = tempfile::tempdir().expect("a folder");
    let start = || {
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(ENDING).migrated();
        let builder = builder.set("STORE__QUERY_TIMEOUT", "500ms").expect(&[warnings::DEFERRED_WAIT]);
        with_journal(builder, &folder, "100ms").start()
    };
    postgres.sql("INSERT INTO strings VALUES ('a', '1', localtimestamp + interval '4 s')");
    let mut sidecar = start();
    let (mut wire, mut session) = (sidecar.wire(), postgres.session());
    assert_eq!(wire.ask("GET s:a"), "$1\r\n1\r\n");
    session.run("BEGIN; LOCK TABLE strings IN SHARE MODE;");
    assert_eq!(wire.ask("EXPIRE s:a 3600"), ":1\r\n");
    until("the end has passed", || postgres.sql("SELECT count(*) FROM strings WHERE ends < localtimestamp") == "1");
    request(&sidecar, "POST", "/invalidate?key=s:a");
    assert_eq!(wire.ask("GET s:a"), "$1\r\n1\r\n");
    sidecar.kill();
    let sidecar = start();
    let mut wire = sidecar.wire();
    assert!(lives_for_an_hour(&mut wire, "s:a"));
    session.run("COMMIT;");
    assert_eq!(wire.ask("APPEND s:a 2"), ":2\r\n");
    until("it is saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    request(&sidecar, "POST", "/invalidate?key=s:a");
    assert_eq!(wire.ask("GET s:a"), "$2\r\n12\r\n");
    assert!(lives_for_an_hour(&mut wire, "s:a"));
}
