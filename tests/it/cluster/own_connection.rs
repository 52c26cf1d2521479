//! Clients with a connection of their own, behind a cluster: they reach every node.

use std::time::Duration;

use super::before;
use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::redis::SERVERS;
use crate::support::until;
use crate::support::wire::{Wire, line};

/// How many clients of a node have these flags.
fn with_flags(port: u16, flag: char) -> usize {
    let list = Wire::tcp(port).ask("CLIENT LIST");
    let flags = |line: &str| line.split(' ').find_map(|word| word.strip_prefix("flags=").map(str::to_owned));
    list.lines().filter_map(flags).filter(|flags| flags.contains(flag)).count()
}

#[test]
fn what_a_client_has_set_holds_at_every_node_that_it_uses() {
    for server in SERVERS {
        let cluster = Cluster::of(server);
        let sidecar = before(&cluster).start();
        let mut wire = sidecar.wire();
        let (masters, keys) = (cluster.masters(), cluster.key_of_each());
        assert_eq!(wire.ask("CLIENT NO-EVICT ON"), "+OK\r\n");
        for key in &keys {
            assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
            assert_eq!(wire.ask("PING"), "+PONG\r\n");
        }
        let all: Vec<u8> = keys.iter().flat_map(|key| line(&format!("GET {key}"))).collect();
        wire.send(&all);
        keys.iter().for_each(|_| assert_eq!(wire.frame(), b"$1\r\n1\r\n"));
        for master in &masters {
            assert_eq!(with_flags(*master, 'e'), 1, "its connection there");
        }
        // It waits, and has transactions, at each of them.
        for key in &keys {
            wire.send(&line(&format!("BLPOP {key}:{{{key}}} 0")));
            let owner = cluster.owner(slot_of(key));
            until("it waits", || Wire::tcp(owner).ask("INFO clients").contains("blocked_clients:1"));
            assert_eq!(Wire::tcp(owner).ask(&format!("RPUSH {key}:{{{key}}} x")), ":1\r\n");
            assert!(wire.frame().ends_with(b"$1\r\nx\r\n"));
            let told: Vec<_> =
                ["MULTI".to_owned(), format!("INCR {key}"), "EXEC".into()].iter().map(|text| wire.ask(text)).collect();
            assert_eq!(told[2], "*1\r\n:2\r\n");
            wire.ask(&format!("WATCH {key}"));
            wire.ask(&format!("SET {key} 1"));
            wire.ask("MULTI");
            assert_eq!(wire.ask("EXEC"), "*-1\r\n");
        }
        cluster.move_slot(slot_of(&keys[0]), masters[1]);
        assert_eq!(wire.ask(&format!("GET {}", keys[0])), "$1\r\n1\r\n");
        assert_eq!(wire.ask("CLIENT NO-EVICT OFF"), "+OK\r\n");
        until("nobody is set apart any more", || masters.iter().all(|master| with_flags(*master, 'e') == 0));
        for key in &keys {
            assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n1\r\n");
        }
    }
}

/// The ids of the lanes to a node, the last command on which was one of these.
fn lanes(port: u16) -> Vec<String> {
    let list = Wire::tcp(port).ask("CLIENT LIST");
    let lanes = list.lines().filter(|line| line.contains("cmd=get ") || line.contains("cmd=set "));
    lanes.filter_map(|line| line.split(' ').find(|word| word.starts_with("id="))).map(str::to_owned).collect()
}

#[test]
fn who_reads_very_long_replies_keeps_the_lanes_for_that_while_slots_move() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).set("SERVER__WORKERS", "1").start();
    let mut wire = sidecar.wire();
    let [a, b, c] = cluster.masters()[..] else { panic!("three masters") };
    let (long, short) = (cluster.key_of(a), cluster.keys_of(b).nth(1).expect("endless"));
    let value = "v".repeat(4 << 20);
    assert_eq!(wire.call(&["SET", &long, &value]), b"+OK\r\n");
    let mut read = || {
        assert!(wire.call(&["GET", &long]).len() > value.len());
        assert_eq!(wire.ask(&format!("SET {short} 1")), "+OK\r\n");
    };
    (0..3).for_each(|_| read());
    let before = lanes(a);
    for to in [c, b, c] {
        cluster.move_slot(slot_of(&short), to);
        (0..2).for_each(|_| read());
    }
    assert_eq!(lanes(a), before);
}

#[test]
fn who_needs_a_further_connection_pays_for_its_request_once() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).set("LIMITS__REQUESTS_PER_SECOND", "4").start();
    let mut wire = sidecar.wire();
    let asked: Vec<u8> = cluster.key_of_each().iter().flat_map(|key| line(&format!("SET {key} 1"))).collect();
    wire.send(&[line("CLIENT NO-EVICT ON"), asked].concat());
    for _ in 0..4 {
        assert_eq!(String::from_utf8_lossy(&wire.frame()), "+OK\r\n");
    }
}

#[test]
fn what_newer_servers_set_for_a_client_holds_at_every_node_that_it_uses() {
    let mut known = 0;
    for server in SERVERS {
        let cluster = Cluster::with(server, 0, &[]);
        // Only the server that knows it knows the setting.
        cluster.ports.iter().for_each(|port| drop(Wire::tcp(*port).ask("CONFIG SET import-mode yes")));
        let sidecar = before(&cluster).start();
        for (what, flag) in [("NO-TOUCH", 'T'), ("IMPORT-SOURCE", 'I')] {
            let mut wire = sidecar.wire();
            if Wire::tcp(cluster.ports[0]).ask(&format!("CLIENT {what} ON")) != "+OK\r\n" {
                assert!(wire.ask(&format!("CLIENT {what} ON")).starts_with('-'), "{what}");
                continue;
            }
            known += 1;
            assert_eq!(wire.ask(&format!("CLIENT {what} ON")), "+OK\r\n");
            for key in cluster.key_of_each() {
                assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
                assert_eq!(with_flags(cluster.owner(slot_of(&key)), flag), 1, "{what}");
            }
            assert_eq!(wire.ask(&format!("CLIENT {what} OFF")), "+OK\r\n");
            until("nobody is set apart any more", || cluster.ports.iter().all(|port| with_flags(*port, flag) == 0));
        }
    }
    assert!(known >= 3, "two servers know the one, and one of them the other");
}

#[test]
fn a_subscriber_with_a_connection_of_its_own_reaches_every_node() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).set("PUBSUB__MODE", "exact").start();
    let mut wire = sidecar.wire();
    wire.ask("HELLO 3");
    wire.send(&line("SUBSCRIBE news"));
    assert!(wire.frame().starts_with(b">3"));
    for key in cluster.key_of_each() {
        assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
        assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n1\r\n");
    }
}

#[test]
fn a_plain_client_sees_no_cluster_and_follows_none() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).set("SECURITY__DENY", "").start();
    let mut wire = sidecar.wire();
    for request in ["READONLY", "READWRITE", "ASKING"] {
        assert!(wire.ask(request).starts_with("-ERR This instance has cluster support disabled"), "{request}");
    }
    for request in ["PSYNC ? -1", "SYNC", "REPLCONF listening-port 1"] {
        assert!(wire.ask(request).contains("connect to each node itself"), "{request}");
    }
    assert_eq!(wire.ask("PING"), "+PONG\r\n");
}

/// The connections that are lent are counted for all nodes together.
#[test]
fn a_node_that_takes_no_connections_leaves_some_for_the_others() {
    let mut cluster = Cluster::with(SERVERS[0], 0, &["--cluster-require-full-coverage", "no"]);
    let builder = before(&cluster).set("UPSTREAM__PINNED_MAX", "4").set("UPSTREAM__PINNED_TIMEOUT", "300ms");
    let builder = builder.set("UPSTREAM__QUEUE_TIMEOUT", "60s").set("UPSTREAM__BREAKER_AFTER", "60s");
    let sidecar = builder.set("UPSTREAM__CONNECT_TIMEOUT", "60s").start();
    let masters = cluster.masters();
    let (missing, other) = (cluster.key_of(masters[0]), cluster.key_of(masters[1]));
    cluster.hang(masters[0]);
    let mut waiting = [(); 6].map(|()| sidecar.wire());
    for client in &mut waiting {
        client.send(&line(&format!("BLPOP {missing} 0.1")));
        assert!(client.is_silent(Duration::from_millis(50)), "{:?}", client.text());
    }
    let mut wire = sidecar.wire();
    for _ in 0..5 {
        assert_eq!(wire.ask(&format!("BLPOP {other} 0.01")), "*-1\r\n");
        assert_eq!(sidecar.wire().ask(&format!("BLPOP {other} 0.01")), "*-1\r\n");
    }
    cluster.wake(masters[0]);
    for client in &mut waiting {
        assert_eq!(client.text(), "*-1\r\n");
    }
}
