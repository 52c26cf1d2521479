//! The stream: its gaps, its end, and what it may be read before.

use super::{Held, is_held, logical, over, replicated, shows};
use crate::support::admin::metric;
use crate::support::certificates::Authority;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::line;
use crate::support::{until, warnings};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')";

const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";

#[test]
fn what_is_in_the_log_and_cannot_be_seen_yet_is_not_given_on() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let sidecar = replicated(&redis, &postgres, &over("t", "t", "")).set("CACHE__REFRESH", "0s").start();
    let mut wire = sidecar.wire();
    assert_eq!([1, 2].map(|id| wire.ask(&format!("HGET t:{id} v"))), ["$1\r\na\r\n", "$1\r\nb\r\n"]);
    std::thread::scope(|scope| {
        let held = Held::begin(&postgres);
        let writing = scope.spawn(|| postgres.sql("UPDATE t SET v = 'x' WHERE id = 1"));
        is_held(&postgres, "UPDATE");
        let loads = || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
        // A change of another row that is committed later, and can be seen at once, has come.
        postgres.sql("SET synchronous_commit = local; UPDATE t SET v = 'y' WHERE id = 2");
        shows(&mut wire, "HGET t:2 v", "$1\r\ny\r\n");
        let before = loads();
        assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
        assert_eq!(loads(), before, "the key that cannot be seen yet was not forgotten");
        drop(held);
        writing.join().expect("it was committed");
    });
    shows(&mut wire, "HGET t:1 v", "$1\r\nx\r\n");
}

#[test]
fn a_cut_stream_empties_the_cache_when_it_is_back() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let builder = replicated(&redis, &postgres, &over("t", "t", ""));
    let sidecar = builder.expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    for round in 1..=3 {
        postgres.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots");
        postgres.sql(&format!("UPDATE t SET v = '{round}' WHERE id = 1"));
        shows(&mut wire, "HGET t:1 v", &format!("$1\r\n{round}\r\n"));
        until("the feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
        assert!(metric(&sidecar, "hearthside_gaps_total") >= f64::from(round));
    }
    assert_eq!(postgres.sql(SLOTS), "1");
}

#[test]
fn keys_of_one_statement_that_began_before_their_changes_do_not_fill_the_cache() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres
        .sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'a' FROM generate_series(1, 3) i");
    // Reads the row as it is, then waits for a lock that the last key alone needs.
    let slow = "[[caches]]\nkey = \"slow:{id:int}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1h\"\n\
                query = \"SELECT v FROM (SELECT v, pg_advisory_xact_lock_shared(id) FROM t WHERE id = $1 OFFSET 0) AS s\"\n\
                watch = [{ table = \"t\", key = { id = \"id\" } }]\n";
    let sidecar = replicated(&redis, &postgres, slow).start();
    let (mut early, mut late, mut lock) = (sidecar.wire(), sidecar.wire(), postgres.session());
    lock.run("SELECT pg_advisory_lock(3);");
    let keys = 1..=3;
    let together: Vec<u8> = keys.clone().flat_map(|id| line(&format!("GET slow:{id}"))).collect();
    early.send(&together);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%unnest%'";
    until("one statement waits", || postgres.sql(waiting) == "1");
    postgres.sql("UPDATE t SET v = 'b'");
    until("the changes have come", || metric(&sidecar, "hearthside_invalidations_total{reason=\"change\"}") >= 3.0);
    // A reader after a change does not join the load that began before it.
    late.send(&together);
    lock.run("SELECT pg_advisory_unlock(3);");
    for id in keys {
        assert_eq!(early.frame(), b"$1\r\na\r\n", "{id}: it was asked for before the change");
        assert_eq!(late.frame(), b"$1\r\nb\r\n", "{id}");
        assert_eq!(sidecar.wire().ask(&format!("GET slow:{id}")), "$1\r\nb\r\n", "{id}: the old load stayed");
    }
}

#[test]
fn a_silent_stream_is_a_gap() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let proxy = Proxy::to(postgres.port);
    let builder = replicated(&redis, &postgres, &over("t", "t", "")).set("STORE__HEARTBEAT_INTERVAL", "100ms");
    let builder = builder.set("STORE__HEARTBEAT_TIMEOUT", "500ms").set("CACHE__MAX_STALENESS", "1s");
    let feed_url = postgres.url_at(proxy.port);
    let expected = [warnings::FEED_LOST, warnings::FEED_CLOSED];
    let sidecar = builder.set("STORE__FEED_URL", feed_url).expect(&expected).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    proxy.hold(true);
    postgres.sql("UPDATE t SET v = 'x' WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", "$1\r\nx\r\n");
    until("it is a gap", || metric(&sidecar, "hearthside_gaps_total") >= 1.0);
    proxy.hold(false);
    until("the feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
}

#[test]
fn the_servers_log_is_given_back_while_nothing_concerns_it() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql("CREATE TABLE other (v text)");
    let builder = replicated(&redis, &postgres, &over("t", "t", ""));
    let _sidecar = builder.set("STORE__HEARTBEAT_INTERVAL", "100ms").start();
    let confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
    postgres.sql("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
    let position = postgres.sql("SELECT pg_current_wal_lsn()");
    until("it has been confirmed", || postgres.sql(&format!("SELECT ({confirmed}) > '{position}'")) == "t");
}

#[test]
fn the_login_is_the_drivers_with_a_password_over_tls() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let authority = Authority::new(folder.path(), "ca");
    let postgres = Postgres::start_with_tls(&authority.sign(folder.path(), "server"));
    postgres.sql("ALTER SYSTEM SET wal_level = logical");
    postgres.stop();
    postgres.launch();
    postgres.sql(TABLE);
    postgres.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN REPLICATION PASSWORD 'p@ss /%'");
    postgres.sql("GRANT SELECT ON t TO app");
    replicated(&redis, &postgres, &over("t", "t", ""));
    let rules = "'hostssl all app all scram-sha-256', 'host all postgres all trust', 'local all all trust'";
    postgres.sql(&format!("COPY (SELECT unnest(ARRAY[{rules}])) TO PROGRAM 'cat > pg_hba.conf'"));
    postgres.sql("SELECT pg_reload_conf()");
    let url = format!("postgres://app:p%40ss%20%2F%25@localhost:{}/postgres?sslmode=require", postgres.port);
    let builder = Sidecar::builder().redis(&redis).config(&over("t", "t", "")).set("STORE__FEED", "replication");
    let sidecar = builder.set("STORE__URL", url).set("STORE__CA_FILE", &authority.file).start();
    let encrypted = "SELECT s.ssl FROM pg_stat_ssl AS s JOIN pg_replication_slots AS r ON r.active_pid = s.pid";
    assert_eq!(postgres.sql(encrypted), "t");
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql("UPDATE t SET v = 'x' WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", "$1\r\nx\r\n");
}
