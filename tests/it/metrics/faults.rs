//! Alerts that fire because something has really gone wrong, and end when it is mended.

use super::{MAPPINGS, NEAR, over};
use crate::support::clusters::Cluster;
use crate::support::postgres::Postgres;
use crate::support::prometheus::Prometheus;
use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;
use crate::support::{until, warnings};

#[test]
fn they_fire_while_the_store_is_down() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, MAPPINGS).expect(warnings::STORE_AWAY).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    postgres.stop();
    let mut wire = sidecar.wire();
    until("loads fail", || wire.ask("GET n:1").starts_with('-'));
    prometheus.until_fires(&["HearthsideStoreDown", "HearthsideChangeFeedDown", "HearthsideLoadsFail"]);
    postgres.launch();
    until("only what lasts for minutes fires", || {
        prometheus.firing().iter().all(|alert| alert == "HearthsideLoadsFail")
    });
}

#[test]
fn they_fire_while_the_upstream_is_down() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, MAPPINGS).expect(warnings::UPSTREAM_AWAY).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    redis.kill();
    prometheus.until_fires(&["HearthsideUpstreamDown", "HearthsideEndpointDown"]);
    redis.launch();
    prometheus.until_calm();
}

#[test]
fn one_fires_while_the_upstream_does_not_tell_what_changes_of_kept_keys() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut direct = redis.wire();
    direct.ask("ACL SETUSER default -client|tracking");
    let sidecar = over(&redis, &postgres, &[MAPPINGS, NEAR].concat()).expect(&[warnings::NEAR_SILENT]).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_fires(&["HearthsideNearCacheUnused"]);
    direct.ask("ACL SETUSER default +client|tracking");
    prometheus.until_calm();
}

#[test]
fn one_fires_when_the_sidecar_is_gone() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut sidecar = over(&redis, &postgres, MAPPINGS).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    sidecar.kill();
    prometheus.until_fires(&["HearthsideDown"]);
}

#[test]
fn they_fire_when_the_schema_does_not_fit_or_a_right_is_lost() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let allowed = &[warnings::UNFIT, warnings::NO_TRIGGERS, warnings::DEFERRED_REFUSED, warnings::LOAD_FAILED];
    let sidecar = over(&redis, &postgres, MAPPINGS).expect(allowed).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    postgres.sql("ALTER TABLE p RENAME TO q");
    let mut wire = sidecar.wire();
    until("its keys are refused", || wire.ask("HGET p:1 hp").contains("does not fit the store's schema"));
    prometheus.until_fires(&["HearthsideMappingDown", "HearthsideDeferredWritesRefused"]);
}

#[test]
fn they_fire_when_the_journal_fills_and_what_is_refused_is_put_aside() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder =
        over(&redis, &postgres, MAPPINGS).set("JOURNAL__MAX_BYTES", "20kb").set("JOURNAL__FLUSH_INTERVAL", "50ms");
    let sidecar = builder
        .expect(&[warnings::PUT_ASIDE, warnings::DEFERRED_WAIT, warnings::NO_ROW, warnings::JOURNAL_FULL])
        .expect(warnings::STORE_AWAY)
        .start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET p:1 seen -5"), ":0\r\n", "the table takes no such number");
    prometheus.until_fires(&["HearthsideWritesPutAside"]);
    assert_eq!(wire.ask("HGET p:2 hp"), "$1\r\n2\r\n");
    postgres.stop();
    for id in 2.. {
        let told = wire.ask(&format!("HSET p:{id} seen 5"));
        if told.contains("the journal is full") {
            break;
        }
        assert!(told.starts_with(':') && id < 10_000, "{told}");
    }
    prometheus.until_fires(&["HearthsideJournalFilling"]);
    postgres.launch();
    until("it is emptied", || !prometheus.firing().contains(&"HearthsideJournalFilling".to_owned()));
    prometheus.until_fires(&["HearthsideWritesWithoutRow"]);
}

#[test]
fn they_fire_when_clients_are_refused_and_a_faulty_configuration_is_not_taken() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = over(&redis, &postgres, MAPPINGS).set("LIMITS__CLIENTS", "1");
    let sidecar = builder.expect(&[warnings::NO_ROOM, warnings::FAULTY_RELOAD]).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    let mut first = sidecar.wire();
    assert_eq!(first.ask("PING"), "+PONG\r\n");
    assert!(String::from_utf8_lossy(&sidecar.wire().frame()).starts_with("-ERR max number of clients reached"));
    sidecar.configure("[[caches]]\nkey = \"p\"\n");
    sidecar.signal("HUP");
    prometheus.until_fires(&["HearthsideClientsRefused", "HearthsideReloadFailed"]);
}

#[test]
fn one_fires_while_slots_of_the_cluster_belong_to_nobody() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let builder = Sidecar::builder().set("UPSTREAM__URL", cluster.url()).expect(warnings::UPSTREAM_AWAY);
    let expected = [warnings::SLOTS_UNOWNED, warnings::NODE_SILENT, warnings::NODE_FAILED];
    let sidecar = builder.expect(&expected).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    let port = cluster.ports[0];
    assert_eq!(Wire::tcp(port).ask("CLUSTER DELSLOTSRANGE 0 99"), "+OK\r\n");
    prometheus.until_fires(&["HearthsideSlotsUncovered"]);
    assert_eq!(Wire::tcp(port).ask("CLUSTER ADDSLOTSRANGE 0 99"), "+OK\r\n");
    prometheus.until_calm();
}
