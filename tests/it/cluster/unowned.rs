//! A cluster none of whose nodes has slots yet.

use super::before;
use super::fanout::speaking;
use crate::support::admin::{metric, request};
use crate::support::clusters::{Cluster, node_alone};
use crate::support::redis::SERVERS;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

#[test]
fn every_command_is_answered_before_anybody_owns_slots() {
    let node = node_alone(&[]);
    let url = format!("redis+cluster://127.0.0.1:{}", node.port);
    let builder = Sidecar::builder().set("UPSTREAM__URL", url).expect(warnings::UPSTREAM_AWAY);
    let sidecar = builder.expect(&[warnings::SLOTS_UNOWNED]).start();
    for protocol in [2, 3] {
        let mut wire = speaking(sidecar.wire(), protocol);
        let is_told = |told: String, expected: &str| assert!(told.starts_with(expected), "{told}");
        is_told(wire.ask("SCRIPT KILL"), "-NOTBUSY");
        is_told(wire.ask("FUNCTION KILL"), "-NOTBUSY");
        assert!(wire.ask("FUNCTION STATS").contains("running_script"));
        is_told(wire.ask("WAIT 0 10"), ":0");
        is_told(wire.ask("DBSIZE"), ":0");
        is_told(wire.ask("SCRIPT EXISTS abc"), "*1\r\n:0");
        is_told(wire.ask("CONFIG SET slowlog-max-len 70"), "+OK");
        is_told(wire.ask("FLUSHALL"), "+OK");
        is_told(wire.ask("KEYS *"), "*");
        is_told(wire.ask("SCAN 0"), "*2");
        is_told(wire.ask("PING"), "+PONG");
    }
    let told = node.wire().ask("CONFIG GET slowlog-max-len");
    assert!(told.contains("70"), "{told}");
}

#[test]
fn nobody_has_slots_any_more() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).set("UPSTREAM__QUEUE_TIMEOUT", "200ms").start();
    let mut wire = sidecar.wire();
    cluster.ports.iter().for_each(|port| drop(Wire::tcp(*port).ask("CLUSTER FLUSHSLOTS")));
    until("the sidecar knows", || metric(&sidecar, "hearthside_upstream_slots_unowned") == 16_384.0);
    let (_, told) = request(&sidecar, "GET", "/readyz?verbose");
    assert!(told.contains("upstream: 16384 slots have no owner"), "{told}");
    for request in ["SCRIPT KILL", "FUNCTION STATS", "WAIT 0 10", "DBSIZE", "LASTSAVE", "RANDOMKEY", "INFO keyspace"] {
        let told = wire.ask(request);
        assert!(!told.contains("hearthside:"), "{request}: {told}");
    }
    let told = wire.ask("GET a");
    assert!(told.starts_with("-CLUSTERDOWN"), "{told}");
    assert!(sidecar.log().contains(warnings::SLOTS_UNOWNED));
    cluster.rebuild();
    until("all slots are owned", || metric(&sidecar, "hearthside_upstream_slots_unowned") == 0.0);
    until("that is logged", || sidecar.log().contains("every slot of the cluster has an owner again"));
}
