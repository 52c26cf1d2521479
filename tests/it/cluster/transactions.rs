//! MULTI and WATCH behind a cluster: a transaction is at the node of its keys, whatever came before the first of them,
//! and goes on at another one when the slot moves.

use super::before;
use crate::support::clusters::Cluster;
use crate::support::nodes::{order, slot_of};
use crate::support::postgres::Postgres;
use crate::support::redis::SERVERS;
use crate::support::sidecar::demo_of;
use crate::support::wire::{Wire, line};

/// Sends all at once, as a client's pipeline does.
fn at_once(wire: &mut Wire, requests: &[&str]) -> Vec<String> {
    wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<_>>());
    requests.iter().map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect()
}

/// Sends one after the other.
fn one_by_one(wire: &mut Wire, requests: &[&str]) -> Vec<String> {
    requests.iter().map(|request| wire.ask(request)).collect()
}

type Way = fn(&mut Wire, &[&str]) -> Vec<String>;

const WAYS: [Way; 2] = [at_once, one_by_one];

#[test]
fn a_transaction_runs_at_the_node_of_its_keys() {
    for server in SERVERS {
        let cluster = Cluster::of(server);
        let sidecar = before(&cluster).start();
        let mut wire = sidecar.wire();
        for (master, way) in cluster.masters().into_iter().flat_map(|master| WAYS.map(|way| (master, way))) {
            let key = cluster.key_of(master);
            let [set, get] = [format!("SET {key} 1"), format!("GET {key}")];
            let told = way(&mut wire, &["MULTI", &set, "ECHO x", &get, "EXEC"]);
            assert_eq!(told[..4], ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", "+QUEUED\r\n"]);
            assert_eq!(told[4], "*3\r\n+OK\r\n$1\r\nx\r\n$1\r\n1\r\n");
            let told = way(&mut wire, &["MULTI", "ECHO y", "EVAL return(7) 0", &get, "EXEC"]);
            assert!(told[4].starts_with("*3\r\n$1\r\ny\r\n") && told[4].ends_with(":7\r\n$1\r\n1\r\n"), "{told:?}");
            assert_eq!(way(&mut wire, &["MULTI", "EVAL return(7) 0", "EXEC"])[2], "*1\r\n:7\r\n");
            assert_eq!(way(&mut wire, &["MULTI", &set, "NOSUCH", "EXEC"])[3][..10], *"-EXECABORT");
            assert_eq!(way(&mut wire, &["MULTI", "EVAL", &get, "EXEC"])[3][..10], *"-EXECABORT");
            assert_eq!(way(&mut wire, &["MULTI", &set, "DISCARD"])[2], "+OK\r\n");
            assert_eq!(Wire::tcp(master).ask(&get), "$1\r\n1\r\n");
        }
    }
}

#[test]
fn keys_of_several_slots_are_refused_and_nothing_is_done() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    // Also where both are at one node.
    let (first, second) = (cluster.keys_of(cluster.masters()[0]).take(2).collect(), cluster.key_of_each());
    for keys in [first, second] {
        let sets: [String; 2] = [0, 1].map(|at: usize| format!("SET {} x", keys[at]));
        for way in WAYS {
            let told = way(&mut wire, &["MULTI", &sets[0], &sets[1], "EXEC", "PING"]);
            assert!(told[2].starts_with("-CROSSSLOT hearthside: the keys of SET"), "{told:?}");
            assert!(told[3].starts_with("-EXECABORT"), "{told:?}");
            assert_eq!(told[4], "+PONG\r\n");
            let told = way(&mut wire, &[&format!("WATCH {}", keys[0]), "MULTI", &sets[1], "EXEC"]);
            assert!(told[2].starts_with("-CROSSSLOT") && told[3].starts_with("-EXECABORT"), "{told:?}");
            let told = way(&mut wire, &[&format!("WATCH {} {}", keys[0], keys[1]), "PING"]);
            assert!(told[0].starts_with("-CROSSSLOT"), "{told:?}");
        }
        assert_eq!(wire.ask(&format!("EXISTS {}", keys[0])), ":0\r\n");
    }
}

#[test]
fn what_is_watched_decides_where_a_transaction_is() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    for key in cluster.key_of_each() {
        let [watch, set] = [format!("WATCH {key}"), format!("SET {key} 1")];
        assert_eq!(one_by_one(&mut wire, &[&watch, "MULTI", &set, "EXEC"])[3], "*1\r\n+OK\r\n");
        one_by_one(&mut wire, &[&watch, &format!("GET {key}"), "MULTI", &set]);
        other.ask(&format!("SET {key} 2"));
        assert_eq!(wire.ask("EXEC"), "*-1\r\n");
        one_by_one(&mut wire, &[&watch, "MULTI"]);
        other.ask(&format!("SET {key} 3"));
        assert_eq!(wire.ask("EXEC"), "*-1\r\n");
        assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n3\r\n");
    }
}

/// Where else a slot may go.
fn other_than(cluster: &Cluster, owner: u16) -> u16 {
    cluster.masters().into_iter().find(|master| *master != owner).expect("three")
}

#[test]
fn a_transaction_goes_on_where_its_slot_has_gone() {
    for server in SERVERS {
        let cluster = Cluster::of(server);
        let sidecar = before(&cluster).start();
        let mut wire = sidecar.wire();
        let source = cluster.masters()[0];
        let key = cluster.key_of(source);
        let [incr, get] = [format!("INCR {key}"), format!("GET {key}")];
        assert_eq!(one_by_one(&mut wire, &["MULTI", &incr, "ECHO x"])[2], "+QUEUED\r\n");
        cluster.move_slot(slot_of(&key), other_than(&cluster, source));
        assert_eq!(wire.ask(&get), "+QUEUED\r\n");
        assert_eq!(wire.ask("EXEC"), "*3\r\n:1\r\n$1\r\nx\r\n$1\r\n1\r\n");
        one_by_one(&mut wire, &["MULTI", &incr, &get]);
        cluster.move_slot(slot_of(&key), source);
        assert_eq!(wire.ask("EXEC"), "*2\r\n:2\r\n$1\r\n2\r\n", "EXEC itself is sent on");
        // Nobody has seen whether somebody has changed what it watches.
        assert_eq!(one_by_one(&mut wire, &[&format!("WATCH {key}"), "MULTI", &incr])[2], "+QUEUED\r\n");
        cluster.move_slot(slot_of(&key), other_than(&cluster, source));
        assert_eq!(wire.ask(&get), "+QUEUED\r\n");
        assert_eq!(wire.ask("EXEC"), "*-1\r\n");
        one_by_one(&mut wire, &[&format!("WATCH {key}"), "MULTI", &incr]);
        cluster.move_slot(slot_of(&key), source);
        assert_eq!(wire.ask("EXEC"), "*-1\r\n");
        assert_eq!(one_by_one(&mut wire, &["MULTI", &get, "EXEC"])[2], "*1\r\n$1\r\n2\r\n");
    }
}

#[test]
fn a_transaction_follows_a_slot_that_is_on_its_way() {
    for server in SERVERS {
        let cluster = Cluster::of(server);
        let sidecar = before(&cluster).start();
        let mut wire = sidecar.wire();
        let source = cluster.masters()[0];
        let key = cluster.key_of(source);
        let [incr, get, watch] = [format!("INCR {key}"), format!("GET {key}"), format!("WATCH {key}")];
        let on = cluster.begin_move(slot_of(&key), other_than(&cluster, source));
        for (n, way) in (0..).step_by(3).zip(WAYS) {
            assert_eq!(
                way(&mut wire, &["MULTI", "ECHO x", &incr, "EXEC"])[3],
                format!("*2\r\n$1\r\nx\r\n:{}\r\n", n + 1)
            );
            assert_eq!(
                way(&mut wire, &["MULTI", &incr, "ECHO x", &get, "EXEC"])[4][..8],
                format!("*3\r\n:{}\r\n", n + 2)
            );
            assert_eq!(way(&mut wire, &[&watch, "MULTI", &incr, "EXEC"])[3], format!("*1\r\n:{}\r\n", n + 3));
        }
        assert_eq!(Wire::tcp(source).ask(&get)[..4], *"-ASK", "the key is on the other side");
        cluster.finish_move(on);
        assert_eq!(one_by_one(&mut wire, &["MULTI", &get, "EXEC"])[2], "*1\r\n$1\r\n6\r\n");
    }
}

#[test]
fn owned_keys_are_in_transactions_with_keys_of_any_node() {
    let (cluster, postgres) = (Cluster::start(), Postgres::start());
    let sidecar = demo_of(before(&cluster), &postgres).start();
    let mut wire = sidecar.wire();
    let owned = "GET player:1:session";
    let alone = wire.ask(owned);
    for (key, way) in cluster.key_of_each().into_iter().flat_map(|key| WAYS.map(|way| (key.clone(), way))) {
        let set = format!("SET {key} 1");
        let told = way(&mut wire, &["MULTI", owned, &set, owned, "EXEC"]);
        assert_eq!(told[4], format!("*3\r\n{alone}+OK\r\n{alone}"), "{told:?}");
        let told = way(&mut wire, &[&format!("WATCH player:1:session {key}"), "MULTI", owned, &set, "EXEC"]);
        assert_eq!(told[4], format!("*2\r\n{alone}+OK\r\n"), "{told:?}");
    }
    let source = cluster.masters()[0];
    let key = cluster.key_of(source);
    one_by_one(&mut wire, &["MULTI", owned, &format!("SET {key} 2")]);
    cluster.move_slot(slot_of(&key), other_than(&cluster, source));
    assert_eq!(wire.ask("EXEC"), format!("*2\r\n{alone}+OK\r\n"));
    assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n2\r\n");
}

#[test]
fn what_stands_behind_a_refused_multi_is_done_once_though_the_slot_moves() {
    let cluster = Cluster::start();
    let (sidecar, masters) = (before(&cluster).start(), cluster.masters());
    let mut wire = sidecar.wire();
    let key = cluster.key_of(masters[0]);
    let gone = format!("{{{key}}}");
    wire.ask(&format!("SET {key} 1"));
    cluster.begin_move(slot_of(&key), masters[1]);
    for port in &masters {
        assert_eq!(Wire::tcp(*port).ask("ACL SETUSER default -multi"), "+OK\r\n");
    }
    let told = at_once(&mut wire, &["MULTI", &format!("INCR {key}"), &format!("INCR {gone}"), "EXEC"]);
    assert!(told[0].starts_with("-NOPERM") && told[2].starts_with("-ASK") && told[3].starts_with('-'), "{told:?}");
    assert_eq!(told[1], ":2\r\n");
    assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n2\r\n");
}

#[test]
fn a_watch_that_a_node_refuses_ties_its_client_to_no_slot() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let (mut wire, keys) = (sidecar.wire(), cluster.key_of_each());
    cluster.ports.iter().for_each(|port| order(*port, &format!("ACL SETUSER default resetkeys ~{}", keys[0])));
    let told = wire.ask(&format!("WATCH {}", keys[1]));
    assert!(told.starts_with("-NOPERM"), "{told}");
    assert_eq!(wire.ask(&format!("WATCH {}", keys[0])), "+OK\r\n");
    let told = wire.ask(&format!("WATCH {}", keys[1]));
    assert!(told.starts_with("-CROSSSLOT"), "{told}");
    assert_eq!(Wire::tcp(cluster.masters()[0]).ask(&format!("SET {} x", keys[0])), "+OK\r\n");
    let told = one_by_one(&mut wire, &["MULTI", &format!("SET {} y", keys[0]), "EXEC"]);
    assert_eq!(told[2], "*-1\r\n");
}
