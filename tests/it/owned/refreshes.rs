//! What was read and has changed since is loaded again before somebody asks, many keys by one statement.

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::Wire;

const MAPPINGS: &str = r#"
[[caches]]
key = "hero:{id:int}"
type = "string"
value = "v"
table = "hero"
[[caches]]
key = "bag:{id:int}"
type = "list"
value = "thing"
query = "SELECT thing FROM bag WHERE id = $1 ORDER BY thing"
watch = [{ table = "bag", key = { id = "id" } }]
write = "fill"
"#;

fn builder(redis: &Redis, postgres: &Postgres) -> Builder {
    Sidecar::builder().redis(redis).postgres(postgres).config(MAPPINGS).migrated()
}

fn postgres() -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(
        "CREATE EXTENSION pg_stat_statements; CREATE TABLE hero (id INT PRIMARY KEY, v TEXT); \
         CREATE TABLE bag (id INT, thing TEXT); INSERT INTO hero SELECT i, 'old' FROM generate_series(1, 200) AS i; \
         INSERT INTO bag SELECT i, 'old' FROM generate_series(1, 200) AS i",
    );
    postgres
}

fn loads(postgres: &Postgres) -> u64 {
    postgres.calls("%hearthside_row%")
}

fn refreshed(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_refreshed_total")
}

/// Reads keys of both mappings, so often.
fn read(wire: &mut Wire, ids: std::ops::RangeInclusive<u32>, times: usize, value: &str) {
    for _ in 0..times {
        for id in ids.clone() {
            assert_eq!(wire.ask(&format!("GET hero:{id}")), format!("${}\r\n{value}\r\n", value.len()));
            assert_eq!(wire.ask(&format!("LINDEX bag:{id} 0")), format!("${}\r\n{value}\r\n", value.len()));
        }
    }
}

/// So often that some of it is after the millisecond of the load, and not only in the cache of a thread, where most
/// hits leave no trace.
fn read_often(wire: &mut Wire, request: &str) {
    (0..50).for_each(|_| assert_eq!(wire.ask(request), "$3\r\nold\r\n"));
}

const CHANGE: &str = "UPDATE hero SET v = 'new'; UPDATE bag SET thing = 'new'";

#[test]
fn what_was_read_and_has_changed_is_loaded_again_by_few_statements() {
    let (redis, postgres) = (Redis::start(), postgres());
    let sidecar = builder(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    read(&mut wire, 1..=50, 2, "old");
    read(&mut wire, 101..=110, 1, "old");
    let before = loads(&postgres);
    postgres.sql(CHANGE);
    until("they are loaded again", || refreshed(&sidecar) >= 100.0);
    let statements = loads(&postgres) - before;
    assert!(statements <= 6, "{statements} statements for a hundred keys");
    let before = loads(&postgres);
    read(&mut wire, 1..=50, 1, "new");
    assert_eq!(loads(&postgres), before, "all of them are hits");
    read(&mut wire, 101..=110, 1, "new");
    assert_eq!((loads(&postgres) - before, refreshed(&sidecar)), (20, 100.0), "these nobody had read again");
}

#[test]
fn a_key_that_a_client_has_thrown_away_is_there_again() {
    let (redis, postgres) = (Redis::start(), postgres());
    let sidecar = builder(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    read(&mut wire, 1..=20, 2, "old");
    for id in 1..=20 {
        assert_eq!(wire.ask(&format!("DEL bag:{id}")), ":1\r\n");
    }
    until("they are loaded again", || refreshed(&sidecar) == 20.0);
    let before = loads(&postgres);
    read(&mut wire, 1..=20, 1, "old");
    assert_eq!(loads(&postgres), before, "all of them are hits");
}

#[test]
fn where_it_is_switched_off_the_next_reader_loads() {
    let (redis, postgres) = (Redis::start(), postgres());
    let sidecar = builder(&redis, &postgres).set("CACHE__REFRESH", "0s").start();
    let mut wire = sidecar.wire();
    read(&mut wire, 1..=10, 2, "old");
    let before = loads(&postgres);
    postgres.sql(CHANGE);
    until("the change is seen", || wire.ask("GET hero:1") == "$3\r\nnew\r\n");
    until("the change is seen", || wire.ask("LINDEX bag:10 0") == "$3\r\nnew\r\n");
    read(&mut wire, 1..=10, 1, "new");
    assert_eq!((loads(&postgres) - before, refreshed(&sidecar)), (20, 0.0));
}

#[test]
fn a_locked_table_holds_up_what_is_loaded_again_of_no_other() {
    let (redis, postgres) = (Redis::start(), postgres());
    let builder = builder(&redis, &postgres).set("STORE__QUERY_TIMEOUT", "60s");
    let sidecar = builder.set("CACHE__REFRESH", "3s").start();
    let mut wire = sidecar.wire();
    read_often(&mut wire, "GET hero:1");
    let mut lock = postgres.session();
    postgres.sql("UPDATE hero SET v = 'new' WHERE id = 1");
    lock.run("BEGIN; LOCK TABLE hero;");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    until("the first is being loaded", || postgres.sql(waiting) == "1");
    read_often(&mut wire, "LINDEX bag:1 0");
    postgres.sql("UPDATE bag SET thing = 'new' WHERE id = 1");
    until("the other is loaded meanwhile", || refreshed(&sidecar) == 1.0);
    assert_eq!(postgres.sql(waiting), "1");
    lock.run("COMMIT;");
    until("the first is there, too", || refreshed(&sidecar) == 2.0);
}

/// Each load takes a while, and all of them far longer than a statement may.
#[test]
fn in_sqlite_none_is_given_up_because_it_waits_for_the_others() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("slow.db").display().to_string();
    let sql = |text: &str| {
        let told = std::process::Command::new("sqlite3").args([&file, text]).output().expect("sqlite3 is installed");
        assert!(told.status.success(), "{told:?}");
    };
    sql("PRAGMA journal_mode = WAL; CREATE TABLE slow (id INTEGER PRIMARY KEY, v TEXT); \
         WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 40) \
         INSERT INTO slow SELECT i, 'old' FROM i");
    let config = "[[caches]]\nkey = \"slow:{id:int}\"\ntype = \"list\"\nvalue = \"v\"\nquery = \"SELECT v FROM slow \
        WHERE id = $1 AND (WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 700000) \
        SELECT max(i) FROM i) > 0 ORDER BY v\"\n\
        watch = [{ table = \"slow\", key = { id = \"id\" } }]\nwrite = \"fill\"\n";
    let builder = Sidecar::builder().redis(&redis).config(config).set("STORE__URL", format!("sqlite://{file}"));
    let builder = builder.set("STORE__QUEUE_TIMEOUT", "100ms").set("STORE__CONNECT_TIMEOUT", "100ms");
    let sidecar = builder.set("STORE__QUERY_TIMEOUT", "100ms").start();
    let mut wire = sidecar.wire();
    for id in (1..=40).chain(1..=40) {
        assert_eq!(wire.ask(&format!("LINDEX slow:{id} 0")), "$3\r\nold\r\n");
    }
    for id in 1..=40 {
        assert_eq!(wire.ask(&format!("DEL slow:{id}")), ":1\r\n");
    }
    until("all of them are loaded again", || refreshed(&sidecar) == 40.0);
}
