//! The replicas of a cluster's masters.

use super::moves::Readers;
use super::{LAG, calls, is_read, pass, reading};
use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::until;
use crate::support::wire::Wire;

#[test]
fn the_replicas_of_a_cluster_are_read_through_failovers() {
    let cluster = Cluster::start();
    let sidecar = reading(cluster.url()).start();
    let replicas = cluster.replicas();
    replicas.iter().for_each(|replica| is_read(&sidecar, *replica, true));
    let readers = Readers::start(sidecar.port, 9);
    readers.go_on(18);
    until("all replicas are read", || replicas.iter().all(|replica| calls(*replica, "get") > 0));
    for master in cluster.masters() {
        cluster.fail_over(master);
        readers.go_on(9);
        is_read(&sidecar, master, true);
    }
    readers.stop();
}

#[test]
fn a_key_that_is_on_its_way_is_found() {
    let cluster = Cluster::start();
    let sidecar = reading(cluster.url()).start();
    let [from, to] = [cluster.masters()[0], cluster.masters()[1]];
    let replica = cluster.replicas_of(from)[0];
    is_read(&sidecar, replica, true);
    let key =
        cluster.keys_of(from).map(|key| format!("{{page:{key}}}")).find(|key| cluster.owner(slot_of(key)) == from);
    let key = key.expect("endless");
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask(&format!("SET {key} a")), "+OK\r\n");
    assert_eq!(wire.ask(&format!("HSET {key}h f a")), ":1\r\n");
    pass(LAG);
    let before = calls(replica, "get");
    assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\na\r\n");
    assert_eq!(calls(replica, "get"), before + 1);
    let on = cluster.begin_move(slot_of(&key), to);
    assert!(cluster.carry(on, &[&key, &format!("{key}h")]));
    until("the replica does not have it any more", || {
        let mut replica = Wire::tcp(replica);
        replica.ask("READONLY");
        replica.ask(&format!("EXISTS {key}")) == ":0\r\n"
    });
    for _ in 0..20 {
        assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\na\r\n");
        assert_eq!(wire.ask(&format!("HGETALL {key}h")), "*2\r\n$1\r\nf\r\n$1\r\na\r\n");
        assert_eq!(wire.ask(&format!("TYPE {key}")), "+string\r\n");
    }
    cluster.finish_move(on);
    assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\na\r\n");
}

#[test]
fn a_transaction_that_comes_slowly_is_where_its_first_key_is() {
    let cluster = Cluster::start();
    let sidecar = reading(cluster.url()).start();
    cluster.replicas().iter().for_each(|replica| is_read(&sidecar, *replica, true));
    let mut wire = sidecar.wire();
    let keys = cluster.key_of_each().into_iter().map(|key| format!("{{page:{key}}}"));
    for key in keys {
        assert_eq!(wire.ask("MULTI"), "+OK\r\n");
        pass(LAG);
        assert_eq!(wire.ask(&format!("GET {key}")), "+QUEUED\r\n");
        let told = wire.ask("GET page:elsewhere");
        assert!(told.contains("slot"), "{told}");
        assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    }
    let asked: u64 = cluster.replicas().iter().map(|replica| calls(*replica, "get")).sum();
    assert_eq!(asked, 0);
}
