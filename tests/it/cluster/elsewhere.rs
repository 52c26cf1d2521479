//! Masters that come back with another address: the same nodes, with the same slots and epochs.

use std::collections::BTreeSet;

use super::before;
use crate::support::admin::metric;
use crate::support::clusters::Cluster;
use crate::support::redis::SERVERS;
use crate::support::until;
use crate::support::wire::Wire;

#[test]
fn a_scan_finds_the_keys_of_a_master_that_has_another_address() {
    for server in SERVERS {
        let mut cluster = Cluster::with(server, 0, &[]);
        let sidecar = before(&cluster).start();
        let mut wire = sidecar.wire();
        let keys: BTreeSet<String> = (0..300).map(|n| format!("k:{n}")).collect();
        keys.iter().for_each(|key| assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n"));
        for at in 0..3 {
            let (mut cursor, mut found) = ("0".to_owned(), BTreeSet::new());
            let mut page = |cursor: &mut String, wire: &mut Wire| {
                let told = wire.ask(&format!("SCAN {cursor} COUNT 10"));
                assert!(told.starts_with('*'), "{told}");
                *cursor = told.lines().nth(2).expect("a cursor").to_owned();
                // Definitions have keys, too, and come first.
                found.extend(told.lines().filter(|line| line.starts_with("k:")).map(str::to_owned));
                found.len()
            };
            while page(&mut cursor, &mut wire) == 0 {}
            let master = cluster.masters()[at];
            let new = cluster.readdress(master);
            let key = cluster.key_of(new);
            until("its keys are served", || wire.ask(&format!("EXISTS {key}")).starts_with(':'));
            while cursor != "0" {
                page(&mut cursor, &mut wire);
            }
            let missed = keys.iter().filter(|key| !found.contains(*key)).count();
            assert_eq!(missed, 0, "of the master at {at}");
        }
    }
}

#[test]
fn idle_connections_of_a_node_that_is_gone_are_not_counted() {
    let mut cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).set("SERVER__WORKERS", "1").start();
    let mut wire = sidecar.wire();
    for key in cluster.key_of_each() {
        ["MULTI", &format!("GET {key}")].iter().for_each(|request| drop(wire.ask(request)));
        assert_eq!(wire.ask("EXEC"), "*1\r\n$-1\r\n");
    }
    until("one lies idle at each", || metric(&sidecar, "hearthside_pinned_idle") == 3.0);
    let master = cluster.masters()[1];
    cluster.readdress(master);
    until("that of the old address is gone", || metric(&sidecar, "hearthside_pinned") == 2.0);
    until("it is not counted", || metric(&sidecar, "hearthside_pinned_idle") == 2.0);
}
