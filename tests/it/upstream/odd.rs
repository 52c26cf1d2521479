//! A server that answers and is perhaps not the one that is meant: `check --connect` and the log say so.

use crate::support::clusters::node_alone;
use crate::support::redis::Redis;
use crate::support::sentinels::Sentinel;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;

#[test]
fn a_node_a_sentinel_and_a_replica_are_told_of() {
    let (primary, replica, node) = (Redis::start(), Redis::start(), node_alone(&[]));
    let sentinel = Sentinel::start(primary.port, 1, "");
    assert_eq!(replica.wire().ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port)), "+OK\r\n");
    let cases = [
        (node.port, warnings::UPSTREAM_IS_A_NODE),
        (sentinel.port, warnings::UPSTREAM_IS_A_SENTINEL),
        (replica.port, warnings::UPSTREAM_IS_A_REPLICA),
    ];
    for (port, expected) in cases {
        let builder = || Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{port}"));
        let done = builder().execute(&["check", "--connect"]);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && told.contains(expected), "{told}");
        let mut sidecar = builder().expect(&[expected]).expect(warnings::UPSTREAM_AWAY).spawn();
        sidecar.wait_ready();
        until("it is logged", || sidecar.log().contains(expected));
    }
}

#[test]
fn two_primaries_of_one_url_are_told_of() {
    let (one, other) = (Redis::start(), Redis::start());
    let url = format!("redis://127.0.0.1:{},127.0.0.1:{}", one.port, other.port);
    let done = Sidecar::builder().set("UPSTREAM__URL", url).execute(&["check", "--connect"]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && told.contains("say that they are primaries"), "{told}");
}
