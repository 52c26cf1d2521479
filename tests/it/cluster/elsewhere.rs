//! Masters that come back with another address: the same nodes, with the same slots and epochs.

use super::before;
use crate::support::admin::metric;
use crate::support::clusters::Cluster;
use crate::support::redis::SERVERS;
use crate::support::until;

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
