//! Alerts that fire because somebody was held back, refused or not seen: limits, rights, files, the audit log, a bug.

use std::process::Command;

use super::{MAPPINGS, over};
use crate::support::postgres::Postgres;
use crate::support::process::descriptors;
use crate::support::prometheus::Prometheus;
use crate::support::redis::Redis;
use crate::support::sentinels::Group;
use crate::support::sidecar::Sidecar;
use crate::support::wire::line;
use crate::support::{until, warnings};

#[test]
fn they_fire_when_lines_of_the_audit_log_are_lost_and_commands_are_held_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    // Every write to it fails as on a full disk.
    let builder = over(&redis, &postgres, MAPPINGS).set("AUDIT__FILE", "/dev/full");
    let sidecar = builder.expect(&[warnings::AUDIT_LOST, warnings::HELD_BACK]).start();
    let prometheus = Prometheus::over(&sidecar);
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET plain 1"), "+OK\r\n", "there is a lane");
    assert_eq!(wire.ask("SET n:1 b"), "+OK\r\n");
    assert_eq!(wire.ask("HEARTHSIDE PAUSE 60000"), "+OK\r\n");
    prometheus.until_fires(&["HearthsideAuditLost", "HearthsideCommandsHeldBack"]);
    assert_eq!(wire.ask("HEARTHSIDE RESUME"), "+OK\r\n");
    until("it ends", || !prometheus.firing().contains(&"HearthsideCommandsHeldBack".to_owned()));
}

#[test]
fn they_fire_when_clients_are_cut_and_connections_of_their_own_are_refused() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    redis.wire().call(&["SET", "long", &"v".repeat(1 << 20)]);
    let builder = over(&redis, &postgres, MAPPINGS)
        .set("UPSTREAM__PINNED_MAX", "1")
        .set("UPSTREAM__PINNED_TIMEOUT", "100ms")
        .set("LIMITS__CLIENT_OUTPUT_SOFT", "1mb")
        .set("LIMITS__CLIENT_OUTPUT_SOFT_TIME", "300ms");
    let sidecar = builder.expect(&[warnings::DOES_NOT_READ]).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    let (mut one, mut two, mut deaf) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    one.ask("SUBSCRIBE a");
    assert!(two.ask("BLPOP nosuch 1").contains("upstream.pinned_max"));
    deaf.send(&line("GET long").repeat(40));
    prometheus.until_fires(&["HearthsidePinnedRefused", "HearthsideClientsCut"]);
}

#[test]
fn they_fire_when_the_store_takes_reads_only_or_a_right_is_missing() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = over(&redis, &postgres, MAPPINGS);
    postgres.sql("CREATE ROLE side LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO side");
    postgres.sql("GRANT USAGE ON SCHEMA hearthside TO side; GRANT ALL ON ALL TABLES IN SCHEMA hearthside TO side");
    let builder = builder.set("STORE__URL", postgres.url().replace("postgres@", "side@"));
    let expected = [warnings::NOT_WRITABLE, warnings::DEFERRED_REFUSED, warnings::FEED_LOST];
    let sidecar = builder
        .set("STORE__SCHEMA_INTERVAL", "100ms")
        .expect(&expected)
        .expect(warnings::READS_ONLY)
        .expect(warnings::STORE_AWAY)
        .start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    postgres.sql("REVOKE UPDATE ON n FROM side");
    prometheus.until_fires(&["HearthsideMappingNotWritable"]);
    postgres.sql("GRANT UPDATE ON n TO side");
    prometheus.until_calm();
    postgres.sql("ALTER ROLE side SET default_transaction_read_only = on");
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'side'");
    prometheus.until_fires(&["HearthsideStoreReadOnly"]);
}

#[test]
fn one_fires_when_no_sentinel_answers() {
    let mut group = Group::start();
    let expected = [warnings::SENTINEL_SILENT, warnings::SENTINELS_SILENT];
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", group.url()).expect(&expected).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    group.sentinels.iter_mut().for_each(crate::support::sentinels::Sentinel::kill);
    prometheus.until_fires(&["HearthsideSentinelsSilent"]);
}

#[test]
fn one_fires_when_a_part_ends_in_a_panic() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = over(&redis, &postgres, MAPPINGS).environment("HEARTHSIDE_PLANTED", "panic-in-change");
    let sidecar = builder.expect(&[warnings::PANICKED, warnings::FEED_LOST]).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    assert_eq!(sidecar.wire().ask("HGET p:1 hp"), "$1\r\n1\r\n");
    postgres.sql("UPDATE p SET hp = 6 WHERE id = 1");
    prometheus.until_fires(&["HearthsidePanic"]);
}

#[test]
fn one_fires_when_loads_find_no_turn_in_time() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = over(&redis, &postgres, MAPPINGS)
        .set("STORE__MAX_CONNECTIONS", "1")
        .set("STORE__QUEUE_TIMEOUT", "100ms")
        .set("STORE__QUERY_TIMEOUT", "60s");
    let expected = [warnings::LOAD_FAILED, warnings::UNPLANNED];
    let sidecar = builder.expect(&expected).expect(warnings::STORE_LATE).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE p IN ACCESS EXCLUSIVE MODE;");
    let (mut first, mut second) = (sidecar.wire(), sidecar.wire());
    first.send(&line("HGET p:1 hp"));
    until("it waits in the database", || postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0");
    until("others find no turn", || second.ask("HGET p:2 hp").starts_with('-'));
    prometheus.until_fires(&["HearthsideOverloaded"]);
    session.run("COMMIT;");
    assert_eq!(first.frame(), b"$1\r\n1\r\n");
}

#[test]
fn one_fires_while_nearly_as_many_files_are_open_as_may_be() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let prometheus = Prometheus::over(&sidecar);
    let most = 2 * descriptors(sidecar.pid());
    let limit = [format!("--pid={}", sidecar.pid()), format!("--nofile={most}:{most}")];
    assert!(Command::new("prlimit").args(limit).status().expect("util-linux").success());
    until("the limit is seen", || {
        !prometheus.ask(&format!("process_max_fds{{job=\"hearthside\"}} == {most}")).is_empty()
    });
    prometheus.until_calm();
    let mut clients = Vec::new();
    until("few files are left", || {
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask("PING"), "+PONG\r\n", "nobody is refused yet");
        clients.push(wire);
        descriptors(sidecar.pid()) * 20 >= most * 19
    });
    prometheus.until_fires(&["HearthsideFilesRunOut"]);
    drop(clients);
    prometheus.until_calm();
}
