//! Behind sentinels, and in a cluster: every server that has keys tells what changes, and whoever takes its place.

use super::{bulk, hits, keep, keeping, told};
use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::sentinels::Group;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

/// A key of a block that the node of `key` has.
fn of(key: &str) -> String {
    format!("cfg:{{{key}}}")
}

#[test]
fn every_node_of_a_cluster_tells_what_changes() {
    let cluster = Cluster::start();
    let sidecar = keeping(&cluster.url()).start();
    told(&sidecar);
    let [mut wire, mut other] = super::two(&sidecar);
    for (port, key) in cluster.masters().into_iter().zip(cluster.key_of_each()) {
        let (key, mut direct) = (of(&key), Wire::tcp(port));
        assert_eq!(direct.ask(&format!("SET {key} 0")), "+OK\r\n");
        for i in 1..50 {
            let value = i.to_string();
            keep(&sidecar, &mut wire, &format!("GET {key}"));
            direct.ask(&format!("SET {key} {value}"));
            until("somebody else's write is read", || wire.ask(&format!("GET {key}")) == bulk(&value));
            keep(&sidecar, &mut wire, &format!("GET {key}"));
            assert_eq!(other.ask(&format!("SET {key} own{value}")), "+OK\r\n");
            assert_eq!(wire.ask(&format!("GET {key}")), bulk(&format!("own{value}")));
        }
        assert_eq!(other.ask(&format!("MSET {key} a {key}:b b")), "+OK\r\n");
        assert_eq!(keep(&sidecar, &mut wire, &format!("MGET {key} {key}:b")), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    }
    let keys: Vec<String> = cluster.key_of_each().iter().map(|key| of(key)).collect();
    keys.iter().for_each(|key| drop(keep(&sidecar, &mut wire, &format!("GET {key}"))));
    other.ask(&format!("DEL {}", keys.join(" ")));
    keys.iter().for_each(|key| assert_eq!(wire.ask(&format!("GET {key}")), "$-1\r\n"));
}

#[test]
fn slots_that_move_and_masters_that_are_replaced_leave_nothing_old() {
    let mut cluster = Cluster::start();
    let builder = keeping(&cluster.url()).expect(&[warnings::NEAR_SILENT]).expect(warnings::UPSTREAM_AWAY);
    let of_nodes = [warnings::NODE_SILENT, warnings::NODE_FAILED, warnings::SLOTS_UNOWNED];
    let sidecar = builder.expect(&of_nodes).start();
    told(&sidecar);
    let mut wire = sidecar.wire();
    let [first, second] = [cluster.masters()[0], cluster.masters()[1]];
    let key = of(&cluster.key_of(first));
    wire.ask(&format!("SET {key} 0"));
    keep(&sidecar, &mut wire, &format!("GET {key}"));
    cluster.move_slot(slot_of(&key), second);
    Wire::tcp(second).ask(&format!("SET {key} 1"));
    until("what is written at the new owner is read", || wire.ask(&format!("GET {key}")) == bulk("1"));
    keep(&sidecar, &mut wire, &format!("GET {key}"));
    let third = cluster.fail_over(second);
    until("it is written there", || Wire::tcp(third).ask(&format!("SET {key} 2")) == "+OK\r\n");
    until("what is written at the new master is read", || sidecar.wire().ask(&format!("GET {key}")) == bulk("2"));
    told(&sidecar);
    let mut wire = sidecar.wire();
    keep(&sidecar, &mut wire, &format!("GET {key}"));
    cluster.kill(third);
    let fourth = cluster.replaced(&key);
    until("it is written there", || Wire::tcp(fourth).ask(&format!("SET {key} 3")) == "+OK\r\n");
    until("what is written after a kill is read", || sidecar.wire().ask(&format!("GET {key}")) == bulk("3"));
    told(&sidecar);
    let before = hits(&sidecar);
    assert_eq!(keep(&sidecar, &mut sidecar.wire(), &format!("GET {key}")), bulk("3"));
    assert!(hits(&sidecar) > before);
}

#[test]
fn the_master_that_sentinels_name_tells_what_changes() {
    let group = Group::start();
    let builder = keeping(&group.url()).expect(&[warnings::NEAR_SILENT, warnings::SENTINEL_SILENT]);
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    told(&sidecar);
    let mut wire = sidecar.wire();
    wire.ask("SET cfg:a 0");
    keep(&sidecar, &mut wire, "GET cfg:a");
    for value in ["1", "2"] {
        group.settled();
        group.fail_over();
        let mut master = Wire::tcp(group.master());
        until("it takes writes", || master.ask(&format!("SET cfg:a {value}")) == "+OK\r\n");
        until("what is written at the new master is read", || sidecar.wire().ask("GET cfg:a") == bulk(value));
        told(&sidecar);
        let mut wire = sidecar.wire();
        keep(&sidecar, &mut wire, "GET cfg:a");
        master.ask(&format!("SET cfg:a again{value}"));
        until("and what is written then", || wire.ask("GET cfg:a") == bulk(&format!("again{value}")));
    }
}
