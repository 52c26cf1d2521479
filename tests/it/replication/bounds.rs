//! What the feed may hold in memory, and the server for it.

use std::fs;

use super::{logical, over, replicated, shows, whole_mappings};
use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";

/// The most that it has ever had in memory, in bytes.
fn peak(sidecar: &Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_large_transaction_is_a_notice_of_the_whole_mapping_and_fills_no_memory() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let sidecar = replicated(&redis, &postgres, &over("t", "t", "")).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("EXISTS t:100000"), ":0\r\n");
    let (before, whole) = (peak(&sidecar), whole_mappings(&sidecar));
    postgres.sql("INSERT INTO t SELECT i, repeat('x', 1500) FROM generate_series(2, 100000) AS i");
    shows(&mut wire, "HSTRLEN t:100000 v", ":1500\r\n");
    assert!(whole_mappings(&sidecar) > whole);
    let grown = peak(&sidecar).saturating_sub(before);
    assert!(grown < 40 << 20, "150 MB of changes took {grown} bytes of memory");
}

#[test]
fn a_row_that_is_too_long_is_not_read_and_its_mapping_is_told() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql("CREATE TABLE u (id int PRIMARY KEY, w int, v text); INSERT INTO u VALUES (1, 1, '')");
    let config = over("t", "t", "") + &over("u", "u", "fields = [\"w\"]");
    let sidecar = replicated(&redis, &postgres, &config).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET u:1 w"), "$1\r\n1\r\n");
    let (before, whole) = (peak(&sidecar), whole_mappings(&sidecar));
    postgres.sql("UPDATE u SET w = 2, v = repeat('x', 200000000)");
    shows(&mut wire, "HGET u:1 w", "$1\r\n2\r\n");
    assert_eq!(whole_mappings(&sidecar), whole + 1.0);
    let grown = peak(&sidecar).saturating_sub(before);
    assert!(grown < 40 << 20, "a row of 200 MB took {grown} bytes of memory");
    // The stream goes on behind it.
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql("UPDATE t SET v = 'b'");
    shows(&mut wire, "HGET t:1 v", "$1\r\nb\r\n");
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
}

#[test]
fn a_slot_that_keeps_too_much_of_the_log_is_let_go() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql("CREATE TABLE other (v text)");
    let builder = replicated(&redis, &postgres, &over("t", "t", "")).set("STORE__FEED_MAX_LOG", "1mb");
    let builder = builder.set("STORE__HEARTBEAT_INTERVAL", "100ms");
    let sidecar = builder.expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    // The server keeps its log from where this began.
    let mut open = postgres.session();
    open.run("BEGIN; INSERT INTO other VALUES ('open');");
    let slot = "SELECT slot_name FROM pg_replication_slots";
    let first = postgres.sql(slot);
    postgres.sql("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
    until("it is let go", || sidecar.log().contains("more than store.feed_max_log: its slot was let go"));
    assert!(metric(&sidecar, "hearthside_gaps_total") >= 1.0);
    until("it is gone", || postgres.sql(slot) != first);
    open.run("ROLLBACK;");
    until("the feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
    postgres.sql("UPDATE t SET v = 'b'");
    shows(&mut wire, "HGET t:1 v", "$1\r\nb\r\n");
    assert!(metric(&sidecar, "hearthside_change_feed_retained_bytes") < f64::from(1 << 20));
}

#[test]
fn a_slot_that_the_server_ended_is_a_gap() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql("CREATE TABLE other (v text)");
    postgres.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    postgres.sql("SELECT pg_reload_conf()");
    let builder = replicated(&redis, &postgres, &over("t", "t", ""));
    let sidecar = builder.expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    let mut open = postgres.session();
    open.run("BEGIN; INSERT INTO other VALUES ('open');");
    for _ in 0..3 {
        postgres.sql("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 10000)");
        postgres.sql("SELECT pg_switch_wal()");
        postgres.sql("CHECKPOINT");
    }
    until("it is a gap", || metric(&sidecar, "hearthside_gaps_total") >= 1.0);
    postgres.sql("UPDATE t SET v = 'b'");
    open.run("ROLLBACK;");
    shows(&mut wire, "HGET t:1 v", "$1\r\nb\r\n");
    until("the feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
}
