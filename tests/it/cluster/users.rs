//! Users of the nodes (`auth.mode = "upstream"`): each node has its own.

use super::before;
use crate::support::clusters::Cluster;
use crate::support::nodes::order;
use crate::support::redis::SERVERS;
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;
use crate::support::{until, warnings};

/// A sidecar whose clients come in as users of the nodes, and the port of its home.
fn started(cluster: &Cluster) -> (Sidecar, u16) {
    let builder = before(cluster).set("AUTH__MODE", "upstream");
    let sidecar = builder.expect(&[warnings::LOGIN_REFUSED, warnings::LOGIN_UNKNOWN]).start();
    let log = sidecar.log();
    let home = log.lines().find_map(|line| line.split_once("home=127.0.0.1:")?.1.split(' ').next());
    let home = home.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no home: {log}"));
    (sidecar, home)
}

fn has_user(port: u16) {
    order(port, "ACL SETUSER bob on >secret ~* +@all &*");
}

fn bob(sidecar: &Sidecar) -> Wire {
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("AUTH bob secret"), "+OK\r\n");
    wire
}

#[test]
fn a_node_that_lacks_a_user_closes_nobody() {
    for server in SERVERS {
        let cluster = Cluster::with(server, 0, &[]);
        let (sidecar, home) = started(&cluster);
        let masters = cluster.masters();
        let lacking = *masters.iter().find(|port| **port != home).expect("another master");
        masters.iter().filter(|port| **port != lacking).for_each(|port| has_user(*port));
        let (mut asks, mut other) = (bob(&sidecar), bob(&sidecar));
        let (key, theirs) = (cluster.key_of(home), cluster.key_of(lacking));
        assert_eq!(other.ask(&format!("SET {key} 1")), "+OK\r\n");
        for turn in 0..3 {
            let told = asks.ask(&format!("GET {theirs}"));
            assert!(told.starts_with("-WRONGPASS"), "{turn}: {told}");
            assert_eq!(asks.ask(&format!("GET {key}")), "$1\r\n1\r\n");
            assert_eq!(other.ask(&format!("GET {key}")), "$1\r\n1\r\n");
        }
        let names = format!("127.0.0.1:{lacking}");
        until("the log names the node", || {
            sidecar.log().lines().any(|line| line.contains(warnings::LOGIN_UNKNOWN) && line.contains(&names))
        });
        assert_eq!(other.ask(&format!("GET {key}")), "$1\r\n1\r\n");
        has_user(lacking);
        until("the node takes it", || asks.ask(&format!("GET {theirs}")) == "$-1\r\n");
    }
}

#[test]
fn the_clients_of_a_user_that_all_nodes_have_deleted_are_closed() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let (sidecar, home) = started(&cluster);
    let masters = cluster.masters();
    masters.iter().for_each(|port| has_user(*port));
    let other = *masters.iter().find(|port| **port != home).expect("another master");
    let mut wire = bob(&sidecar);
    assert_eq!(wire.ask(&format!("GET {}", cluster.key_of(other))), "$-1\r\n");
    let mut silent = bob(&sidecar);
    masters.iter().for_each(|port| drop(Wire::tcp(*port).ask("ACL DELUSER bob")));
    // Nobody has a lane to the home.
    assert!(silent.rest().is_empty() && wire.rest().is_empty(), "they are closed");
}

#[test]
fn connections_of_a_user_are_used_again_at_every_node() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let (sidecar, _) = started(&cluster);
    let masters = cluster.masters();
    masters.iter().for_each(|port| has_user(*port));
    let mut wire = bob(&sidecar);
    let connections = |port: &u16| {
        let list = Wire::tcp(*port).ask("CLIENT LIST");
        let of_bob = list.lines().filter(|line| line.contains("user=bob"));
        of_bob
            .filter_map(|line| line.split(' ').find(|word| word.contains("id=")))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let transact = |wire: &mut Wire, port: &u16| {
        let key = cluster.key_of(*port);
        ["MULTI", &format!("GET {key}")].iter().for_each(|request| drop(wire.ask(request)));
        assert_eq!(wire.ask("EXEC"), "*1\r\n$-1\r\n");
    };
    masters.iter().for_each(|port| transact(&mut wire, port));
    until("one lies idle at each", || masters.iter().all(|port| !connections(port).is_empty()));
    let before: Vec<_> = masters.iter().map(connections).collect();
    (0..3).for_each(|_| masters.iter().for_each(|port| transact(&mut wire, port)));
    assert_eq!(masters.iter().map(connections).collect::<Vec<_>>(), before);
    drop(wire);
    until("nothing is left of the last client", || masters.iter().all(|port| connections(port).is_empty()));
}
