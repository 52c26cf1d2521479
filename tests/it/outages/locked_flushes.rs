//! Deferred writes to a table that is locked, or slow, hold up those to no other table, and are saved once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::admin::metric;
use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// What a deferred write may wait whose table is free, on a busy machine: less than a statement that waits for a lock.
const SOON: Duration = Duration::from_secs(4);

const CONFIG: &str = r#"
[[caches]]
key = "l:{id:int}"
type = "hash"
table = "locked"
write = "deferred"

[[caches]]
key = "m:{id:int}"
type = "hash"
table = "locked"
write = "deferred"

[[caches]]
key = "f:{id:int}"
type = "hash"
table = "free"
write = "through"
delete = "row"
deferred = ["n"]
"#;

struct Place {
    redis: Redis,
    postgres: Postgres,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let postgres = Postgres::start();
        for table in ["locked", "free"] {
            postgres.sql(&format!(
                "CREATE TABLE {table} (id INT PRIMARY KEY, n BIGINT, w TEXT); \
                 INSERT INTO {table} SELECT i, 0, '' FROM generate_series(1, 100) AS i"
            ));
        }
        Self { redis: Redis::start(), postgres, folder: tempfile::tempdir().expect("a folder") }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal.db")
    }

    fn builder(&self) -> Builder {
        let builder = Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(CONFIG).migrated();
        let builder = builder.set("JOURNAL__PATH", self.journal().display().to_string());
        let builder = builder.set("JOURNAL__FLUSH_INTERVAL", "100ms");
        builder.expect(&[warnings::DEFERRED_WAIT, warnings::LOAD_FAILED])
    }

    /// A sidecar that has the first rows of every mapping in memory.
    fn start(&self) -> Sidecar {
        let sidecar = self.builder().start();
        let mut wire = sidecar.wire();
        for key in ["l:1", "l:2", "m:3", "f:1"] {
            assert_eq!(wire.ask(&format!("HGET {key} n")), "$1\r\n0\r\n");
        }
        sidecar
    }

    fn lock(&self, sql: &str) -> Session {
        let mut session = self.postgres.session();
        session.run(&format!("BEGIN; {sql};"));
        session
    }

    fn n(&self, table: &str, id: u32) -> String {
        self.postgres.sql(&format!("SELECT n FROM {table} WHERE id = {id}"))
    }

    fn until_a_statement_waits(&self) {
        let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("a statement waits for a lock", || self.postgres.sql(waits) == "t");
    }

    /// For so long, what is written to the free table is saved soon, in the background and before a write-through.
    fn others_are_saved_for(&self, sidecar: &Sidecar, duration: Duration) {
        let (begun, mut wire, mut slowest) = (Instant::now(), sidecar.wire(), Duration::ZERO);
        let mut value = 0;
        while begun.elapsed() < duration {
            value += 1;
            let (asked, id) = (Instant::now(), 1 + value % 90);
            assert!(wire.ask(&format!("HSET f:{id} n {value}")).starts_with(':'));
            if value % 2 == 0 {
                assert!(wire.ask(&format!("HSET f:{id} n 7 w {value}")).starts_with(':'), "it is written through");
            } else {
                until("it is saved", || self.n("free", id) == value.to_string());
            }
            slowest = slowest.max(asked.elapsed());
        }
        assert!(slowest < SOON, "the slowest took {slowest:?}");
    }
}

fn all_is_well(sidecar: &Sidecar) {
    until("nothing waits", || metric(sidecar, "hearthside_journal_bytes") == 0.0);
    for name in ["hearthside_put_aside_total", "hearthside_journal_collisions_total", "hearthside_gaps_total"] {
        assert_eq!(metric(sidecar, name), 0.0, "{name}");
    }
    assert!(!sidecar.log().contains(warnings::STORE_SILENT), "{}", sidecar.log());
}

#[test]
fn a_locked_table_holds_up_the_flushes_of_no_other() {
    let place = Place::new();
    let sidecar = place.start();
    let mut session = place.lock("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE");
    let mut wire = sidecar.wire();
    for (key, value) in [("l:1", 5), ("l:2", 6), ("m:3", 7)] {
        assert_eq!(wire.ask(&format!("HSET {key} n {value}")), ":0\r\n");
    }
    place.until_a_statement_waits();
    place.others_are_saved_for(&sidecar, Duration::from_secs(12));
    assert_eq!(wire.ask("HSET l:1 n 8"), ":0\r\n", "it is deferred, too");
    session.run("ROLLBACK;");
    until("all of it is saved", || [1, 2, 3].map(|id| place.n("locked", id)) == ["8", "6", "7"]);
    all_is_well(&sidecar);
}

#[test]
fn a_row_that_somebody_holds_and_a_slow_trigger_hold_up_the_flushes_of_no_other_table() {
    let place = Place::new();
    let sidecar = place.start();
    let mut session = place.lock("SELECT FROM locked WHERE id = 1 FOR UPDATE");
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET l:1 n 5"), ":0\r\n");
    place.until_a_statement_waits();
    place.others_are_saved_for(&sidecar, Duration::from_secs(8));
    session.run("ROLLBACK;");
    until("it is saved", || place.n("locked", 1) == "5");
    place.postgres.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(4); RETURN NEW; END $$; \
         CREATE TRIGGER slow BEFORE UPDATE ON locked FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    assert_eq!(wire.ask("HSET l:1 n 6"), ":0\r\n");
    let sleeps = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    until("the trigger sleeps", || place.postgres.sql(sleeps) == "t");
    place.others_are_saved_for(&sidecar, Duration::from_secs(3));
    until("it is saved", || place.n("locked", 1) == "6");
    all_is_well(&sidecar);
}

#[test]
fn writes_that_come_after_what_waits_for_a_locked_table_do_not_wait_for_each_other() {
    let place = Place::new();
    let builder = place.builder().set("STORE__QUERY_TIMEOUT", "500ms").set("STORE__QUEUE_TIMEOUT", "500ms");
    let sidecar = builder.set("JOURNAL__FLUSH_INTERVAL", "1h").start();
    let mut wire = sidecar.wire();
    (1..=30).for_each(|id| assert_eq!(wire.ask(&format!("HSET f:{id} n 5")), ":0\r\n"));
    let mut session = place.lock("LOCK TABLE free IN ACCESS EXCLUSIVE MODE");
    let mut clients: Vec<Wire> = (1..=30).map(|_| sidecar.wire()).collect();
    let asked = Instant::now();
    for (id, client) in (1..).zip(&mut clients) {
        client.send(&line(&format!("DEL f:{id}")));
    }
    for client in &mut clients {
        let told = String::from_utf8_lossy(&client.frame()).into_owned();
        assert!(told.starts_with('-') && told.contains("overloaded"), "{told}");
    }
    assert!(asked.elapsed() < SOON, "the last one was answered after {:?}", asked.elapsed());
    session.run("ROLLBACK;");
    assert_eq!(wire.ask("DEL f:1"), ":1\r\n");
}

#[test]
fn what_was_under_way_to_two_tables_at_a_crash_is_saved_once() {
    let place = Place::new();
    let mut sidecar = place.start();
    let mut session = place.lock("SELECT FROM locked WHERE id = 1 FOR UPDATE");
    let mut other = place.lock("SELECT FROM free WHERE id = 1 FOR UPDATE");
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("HSET l:1 n 5"), wire.ask("HSET f:1 n 6")], [":0\r\n", ":0\r\n"]);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%fence%'";
    until("both flushes wait", || place.postgres.sql(waits) == "2");
    // One of them is applied, of which the sidecar does not learn; the other is not.
    sidecar.signal("STOP");
    other.run("ROLLBACK;");
    until("the one is applied", || place.n("free", 1) == "6");
    sidecar.kill();
    place.postgres.sql("UPDATE free SET n = 100 WHERE id = 1");
    let sidecar = place.builder().expect(&[warnings::WAITING_FOR_THE_NOTE]).spawn();
    until("its statement has ended", || place.postgres.sql(waits) == "0");
    session.run("ROLLBACK;");
    until("the other is saved", || place.n("locked", 1) == "5");
    all_is_well(&sidecar);
    assert_eq!(place.n("free", 1), "100", "what was applied is not applied again");
}
