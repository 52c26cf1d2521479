//! One table under several names: its deferred writes are one strand, whatever the mappings call it.

use super::embedded;
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;

fn block(key: &str, table: &str, more: &str) -> String {
    format!(
        "[[caches]]\nkey = \"{key}:{{id:int}}\"\ntype = \"hash\"\ntable = '{table}'\nwrite = \"deferred\"\n{more}\n"
    )
}

#[test]
fn a_table_is_one_strand_under_all_its_names() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int); CREATE TABLE other (id int PRIMARY KEY, a int); \
         INSERT INTO t VALUES (1, 0, 0); INSERT INTO other VALUES (1, 0)",
    );
    let names = ["t", "public.t", "\"t\"", "T", "public.\"t\""];
    let blocks = names.iter().enumerate().map(|(i, name)| block(&format!("m{i}"), name, "")).collect::<String>();
    let config = blocks + &block("o", "other", "");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).migrated();
    let sidecar = builder.set("JOURNAL__FLUSH_INTERVAL", "20ms").start();
    let mut wire = sidecar.wire();
    for i in 0..names.len() {
        assert_eq!(wire.ask(&format!("HSET m{i}:1 a {i}")), ":0\r\n");
    }
    wire.ask("HSET o:1 a 7");
    until("everything is saved", || metric(&sidecar, "hearthside_deferred_keys") == 0.0);
    assert_eq!(postgres.sql("SELECT a FROM t"), "4");
    let strands = "SELECT string_agg(split_part(journal, ':', 2), ' ' ORDER BY split_part(journal, ':', 2)) \
        FROM hearthside.journals WHERE journal LIKE '%:%'";
    assert_eq!(postgres.sql(strands), "public.other public.t");
}

const CAPITALS: &str = "[[caches]]\nkey = \"a:{id:int}\"\ntype = \"hash\"\ntable = \"players\"\nwrite = \"deferred\"\n\
    [[caches]]\nkey = \"b:{id:int}\"\ntype = \"hash\"\ntable = \"PLAYERS\"\nwrite = \"deferred\"\n";

#[test]
fn a_table_of_sqlite_is_one_strand_in_capitals_too() {
    let tables = "CREATE TABLE players (id INTEGER PRIMARY KEY, seen INTEGER); INSERT INTO players VALUES (1, 0)";
    let place = embedded::Place::of(tables, CAPITALS);
    let sidecar = place.builder().start();
    let mut wire = sidecar.wire();
    for (key, seen) in [("a:1", 1), ("b:1", 2)] {
        assert_eq!(wire.ask(&format!("HSET {key} seen {seen}")), ":0\r\n");
        until("it is saved", || metric(&sidecar, "hearthside_deferred_keys") == 0.0);
    }
    assert_eq!(place.sql("SELECT count(*) FROM hearthside_journals WHERE journal LIKE '%:%'"), "1");
    assert_eq!(place.sql("SELECT seen FROM players"), "2");
}

#[test]
fn two_mappings_that_defer_one_column_are_saved_in_the_order_of_their_writes() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE t (id int PRIMARY KEY, x int, y int); INSERT INTO t SELECT i, 0, 0 FROM generate_series(1, 50) AS i",
    );
    let config = block("a", "t", "") + &block("b", "public.t", "");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).migrated();
    let sidecar = builder.set("JOURNAL__FLUSH_INTERVAL", "500ms").start();
    let mut wire = sidecar.wire();
    for round in 0..6 {
        let (first, second) = if round % 2 == 0 { ("a", "b") } else { ("b", "a") };
        let row = 10 + round;
        // The older key of the first one makes its mapping the one whose turn it is.
        for (key, value) in [(format!("{first}:50"), 1), (format!("{second}:{row}"), 1), (format!("{first}:{row}"), 2)]
        {
            assert_eq!(wire.ask(&format!("HSET {key} x {value} y {value}")), ":0\r\n");
        }
        until("everything is saved", || metric(&sidecar, "hearthside_deferred_keys") == 0.0);
        assert_eq!(postgres.sql(&format!("SELECT x, y FROM t WHERE id = {row}")), "2|2");
    }
}
