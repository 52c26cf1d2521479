//! Hosts of `upstream.url` that are nodes of another cluster, or of none any more.

use super::before;
use crate::support::clusters::{Cluster, node_alone};
use crate::support::nodes::order;
use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::Builder;
use crate::support::wire::Wire;
use crate::support::{until, warnings};

/// A node that claims all slots, more newly than anybody else.
fn stranger() -> Redis {
    let node = node_alone(&[]);
    order(node.port, "CLUSTER SET-CONFIG-EPOCH 100");
    order(node.port, "CLUSTER ADDSLOTSRANGE 0 16383");
    until("it serves", || node.wire().ask("CLUSTER INFO").contains("cluster_state:ok"));
    node
}

/// Before these ports.
fn at(cluster: &Cluster, ports: &[u16]) -> Builder {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let builder = before(cluster).set("UPSTREAM__URL", format!("redis+cluster://{}", hosts.join(",")));
    builder.expect(&[warnings::STRANGER])
}

#[test]
fn a_node_of_another_cluster_gets_nothing() {
    for server in SERVERS {
        let (cluster, stranger) = (Cluster::with(server, 0, &[]), stranger());
        let [a, b, _] = cluster.masters()[..] else { panic!("three masters") };
        // One that is named first, and those that are more.
        for hosts in [vec![a, stranger.port], vec![stranger.port, a, b]] {
            let sidecar = at(&cluster, &hosts).start();
            let mut wire = sidecar.wire();
            until("it is warned about", || sidecar.log().contains(warnings::STRANGER));
            for key in cluster.key_of_each() {
                assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
            }
            assert_eq!(wire.ask("CONFIG SET slowlog-max-len 77"), "+OK\r\n");
            assert_eq!(wire.ask("DBSIZE"), ":3\r\n");
            assert_eq!(stranger.wire().ask("DBSIZE"), ":0\r\n");
            assert!(!stranger.wire().ask("CONFIG GET slowlog-max-len").contains("77"));
            assert_eq!(wire.ask("FLUSHALL"), "+OK\r\n");
            let warned = sidecar.log().lines().filter(|line| line.contains(warnings::STRANGER)).count();
            assert_eq!(warned, 1, "{}", sidecar.log());
        }
        let done = at(&cluster, &[a, stranger.port]).execute(&["check", "--connect"]);
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && told.contains("another cluster"), "{told}");
        assert!(told.contains(&stranger.port.to_string()), "{told}");
    }
}

#[test]
fn a_node_that_was_reset_gets_nothing_until_it_is_a_node_again() {
    let cluster = Cluster::start();
    for reset in ["HARD", "SOFT"] {
        let sidecar = at(&cluster, &cluster.ports).start();
        let mut wire = sidecar.wire();
        let (replica, master) = (cluster.replicas()[0], cluster.masters()[0]);
        let id = cluster.id(replica);
        order(replica, &format!("CLUSTER RESET {reset}"));
        let of_it = format!("node=127.0.0.1:{replica}");
        let is_left_out = |line: &str| line.contains(warnings::STRANGER) && line.contains(&of_it);
        until("it is warned about", || sidecar.log().lines().any(is_left_out));
        assert_eq!(wire.ask("FLUSHALL"), "+OK\r\n");
        assert_eq!(wire.ask("CONFIG SET slowlog-max-len 71"), "+OK\r\n");
        assert!(!Wire::tcp(replica).ask("CONFIG GET slowlog-max-len").contains("71"), "{reset}");
        if reset == "HARD" {
            let others = cluster.ports.iter().filter(|port| **port != replica);
            others.for_each(|port| order(*port, &format!("CLUSTER FORGET {id}")));
        }
        cluster.introduce(replica, master);
        until("it is a node again", || {
            assert_eq!(wire.ask("CONFIG SET slowlog-max-len 72"), "+OK\r\n");
            Wire::tcp(replica).ask("CONFIG GET slowlog-max-len").contains("72")
        });
        drop(sidecar);
        until("all know each other", || cluster.views().is_some_and(|views| views.iter().all(|view| view.len() == 6)));
        until("it has a master again", || {
            Wire::tcp(replica).ask(&format!("CLUSTER REPLICATE {}", cluster.id(master))) == "+OK\r\n"
        });
        cluster.healthy();
    }
}

#[test]
fn a_cluster_that_was_built_again_is_taken() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = at(&cluster, &cluster.ports).start();
    let mut wire = sidecar.wire();
    let keys = cluster.key_of_each();
    keys.iter().for_each(|key| assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n"));
    cluster.rebuild();
    for key in &keys {
        until("it serves again", || wire.ask(&format!("SET {key} 2")) == "+OK\r\n");
    }
    assert_eq!(wire.ask("DBSIZE"), ":3\r\n");
    until("all slots are owned", || sidecar.log().contains("another cluster has taken the place"));
}
