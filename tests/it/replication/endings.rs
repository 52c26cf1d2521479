//! How a stream ends: what the log says of it, and that nothing is left behind at the server, however the sidecar ends.

use super::{logical, over, replicated, shows};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::{until, warnings};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";

const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";

/// Whoever is silent for so long is let go by the server.
fn impatient() -> Postgres {
    let postgres = Postgres::start_with("-c wal_level=logical -c wal_sender_timeout=1s");
    postgres.sql(TABLE);
    postgres
}

#[test]
fn nothing_is_left_behind_when_it_is_killed() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let mut sidecar = replicated(&redis, &postgres, &over("t", "t", "")).start();
    assert_eq!(postgres.sql(SLOTS), "1");
    sidecar.kill();
    until("the slot is gone", || postgres.sql(SLOTS) == "0");
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename IS NOT NULL AND \
                    backend_type IN ('client backend', 'walsender')";
    until("its sessions are gone", || postgres.sql(sessions) == "0");
}

#[test]
fn nothing_is_left_behind_by_one_that_stands_still_with_its_connections_open() {
    let (redis, postgres) = (Redis::start(), impatient());
    let builder = replicated(&redis, &postgres, &over("t", "t", ""));
    let mut sidecar = builder.expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    sidecar.signal("STOP");
    until("the server has let the slot go", || postgres.sql(SLOTS) == "0");
    postgres.sql("UPDATE t SET v = 'b'");
    sidecar.signal("CONT");
    shows(&mut wire, "HGET t:1 v", "$1\r\nb\r\n");
    until("it has another slot", || postgres.sql(SLOTS) == "1");
    sidecar.signal("STOP");
    sidecar.kill();
    until("that one is gone as well", || postgres.sql(SLOTS) == "0");
}

#[test]
fn the_server_is_answered_while_nothing_is_written() {
    let (redis, postgres) = (Redis::start(), impatient());
    let builder = replicated(&redis, &postgres, &over("t", "t", ""));
    // Its own heartbeats come more seldom than the server asks.
    let builder = builder.set("STORE__HEARTBEAT_INTERVAL", "20s").set("STORE__HEARTBEAT_TIMEOUT", "60s");
    let sidecar = builder.start();
    until("the feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
    let (pid, gaps) = ("SELECT active_pid FROM pg_replication_slots", metric(&sidecar, "hearthside_gaps_total"));
    let first = postgres.sql(pid);
    let lives = "SELECT now() - backend_start > '4 s' FROM pg_stat_replication";
    until("the stream has lived for four times as long", || postgres.sql(lives) != "f");
    assert_eq!((postgres.sql(pid), metric(&sidecar, "hearthside_gaps_total")), (first, gaps));
}

#[test]
fn the_log_says_in_the_servers_words_why_a_stream_ended_and_readyz_why_there_is_none() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql("CREATE ROLE side LOGIN REPLICATION; GRANT SELECT ON t TO side");
    let builder = replicated(&redis, &postgres, &over("t", "t", ""));
    let builder = builder.set("STORE__URL", postgres.url().replace("postgres@", "side@"));
    let sidecar = builder.expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let ready = || request(&sidecar, "GET", "/readyz?verbose").1;
    postgres.sql("ALTER ROLE side NOREPLICATION");
    postgres.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots");
    let words = "the change feed failed: terminating connection due to administrator command (57P01)";
    until("the log says why", || sidecar.log().contains(words));
    let why = "the change feed is down, and keys are held to cache.max_staleness: the change feed could not connect: ";
    until("it is not let in", || ready().contains(why) && ready().contains("(42501)"));
    postgres.sql("ALTER ROLE side REPLICATION");
    shows(&mut sidecar.wire(), "HGET t:1 v", "$1\r\na\r\n");
    until("the feed is back", || !ready().contains("feed"));
}
