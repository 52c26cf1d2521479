//! Slots move from one master to another while they are used.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use super::before;
use super::one::scanned;
use crate::support::admin::metric;
use crate::support::clusters::Cluster;
use crate::support::nodes::{order, slot_of};
use crate::support::redis::{SERVERS, Server};
use crate::support::until;
use crate::support::wire::{Wire, line};

/// A cluster without replicas, a key of its first master, and another master.
fn of(server: usize) -> (Cluster, String, u16) {
    let cluster = Cluster::with(SERVERS[server], 0, &[]);
    let masters = cluster.masters();
    let (key, other) = (cluster.key_of(masters[0]), masters[1]);
    (cluster, key, other)
}

/// How often nodes have answered by sending a request elsewhere.
fn redirections(cluster: &Cluster) -> u64 {
    let of_node = |port: &u16| {
        let told = Wire::tcp(*port).ask("INFO errorstats");
        let counts = told.lines().filter_map(|line| line.strip_prefix("errorstat_MOVED:count="));
        counts.filter_map(|count| count.parse::<u64>().ok()).sum::<u64>()
    };
    cluster.ports.iter().map(of_node).sum()
}

#[test]
fn a_slot_that_has_moved_is_followed_and_remembered() {
    for server in 0..SERVERS.len() {
        let (cluster, key, other) = of(server);
        let sidecar = before(&cluster).start();
        let mut wire = sidecar.wire();
        let (a, b) = (format!("{{{key}}}a"), format!("{{{key}}}b"));
        assert_eq!(wire.ask(&format!("MSET {a} 1 {b} 2")), "+OK\r\n");
        let owned = format!("hearthside_upstream_endpoint_slots{{endpoint=\"redis://127.0.0.1:{other}\"}}");
        until("the map is known", || metric(&sidecar, &owned) > 0.0);
        let had = metric(&sidecar, &owned);
        cluster.move_slot(slot_of(&key), other);
        assert_eq!(wire.ask(&format!("MGET {a} {b}")), "*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
        assert_eq!(wire.ask(&format!("INCR {a}")), ":2\r\n");
        let told = wire.call(&["EVAL", "return redis.call('INCR', KEYS[1])", "1", &b]);
        assert_eq!(String::from_utf8_lossy(&told), ":3\r\n");
        assert_eq!(wire.ask("MULTI"), "+OK\r\n");
        assert_eq!(wire.ask(&format!("INCR {a}")), "+QUEUED\r\n");
        assert_eq!(wire.ask("EXEC"), "*1\r\n:3\r\n");
        // What nodes said before the move may be looked at behind it, until the new owner has been heard.
        until("the move is in the map", || metric(&sidecar, &owned) > had);
        let before = redirections(&cluster);
        for _ in 0..20 {
            wire.ask(&format!("GET {a}"));
        }
        assert_eq!(redirections(&cluster), before, "the owner is asked at once");
    }
}

#[test]
fn a_slot_that_is_half_moved_is_served_by_both() {
    for server in 0..SERVERS.len() {
        let (cluster, key, other) = of(server);
        let sidecar = before(&cluster).start();
        let mut wire = sidecar.wire();
        let [stays, goes, new] = ["stays", "goes", "new"].map(|name| format!("{{{key}}}{name}"));
        assert_eq!(wire.ask(&format!("MSET {stays} 1 {goes} 2")), "+OK\r\n");
        let on = cluster.begin_move(slot_of(&key), other);
        assert!(cluster.carry(on, &[&goes]));
        for _ in 0..3 {
            assert_eq!(wire.ask(&format!("GET {stays}")), "$1\r\n1\r\n");
            assert_eq!(wire.ask(&format!("GET {goes}")), "$1\r\n2\r\n");
            assert_eq!(wire.ask(&format!("GET {new}")), "$-1\r\n");
        }
        assert_eq!(wire.ask(&format!("INCR {goes}")), ":3\r\n");
        assert_eq!(wire.ask(&format!("RPUSH {new} x")), ":1\r\n");
        let mut at_other = Wire::tcp(other);
        at_other.ask("ASKING");
        assert_eq!(at_other.ask(&format!("LLEN {new}")), ":1\r\n", "what is new is made where the slot goes");
        assert_eq!(wire.ask("MULTI"), "+OK\r\n");
        assert_eq!(wire.ask(&format!("INCR {stays}")), "+QUEUED\r\n");
        assert_eq!(wire.ask("EXEC"), "*1\r\n:2\r\n");
        // One is here and one is there: no node can answer until the slot has moved.
        let mut both = sidecar.wire();
        both.send(&line(&format!("SUNIONSTORE {new} {stays}x {goes}x")));
        both.send(&line(&format!("MGET {stays} {goes}")));
        cluster.finish_move(on);
        assert_eq!(both.frame(), b":0\r\n");
        assert_eq!(String::from_utf8_lossy(&both.frame()), "*2\r\n$1\r\n2\r\n$1\r\n3\r\n");
    }
}

#[test]
fn a_client_that_waits_is_served_where_its_key_has_gone() {
    let (cluster, key, other) = of(0);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    let mut waiting = sidecar.wire();
    waiting.send(&line(&format!("BLPOP {key} 0")));
    let blocked = |port: u16| Wire::tcp(port).ask("INFO clients").contains("blocked_clients:1");
    until("it waits", || blocked(cluster.owner(slot_of(&key))));
    cluster.move_slot(slot_of(&key), other);
    until("it waits at the other one", || blocked(other));
    assert_eq!(wire.ask(&format!("RPUSH {key} x")), ":1\r\n");
    assert!(String::from_utf8_lossy(&waiting.frame()).ends_with("\r\nx\r\n"));
}

#[test]
fn subscribers_of_a_shard_channel_hear_it_where_its_slot_has_gone() {
    let (cluster, key, other) = of(0);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    for protocol in ["2", "3"] {
        let mut listening = sidecar.wire();
        listening.ask(&format!("HELLO {protocol}"));
        assert!(listening.ask(&format!("SSUBSCRIBE {key}")).contains("ssubscribe"));
        let from = cluster.owner(slot_of(&key));
        cluster.move_slot(slot_of(&key), if from == other { cluster.masters()[0] } else { other });
        until("it is subscribed there", || wire.ask(&format!("SPUBLISH {key} hello")) == ":1\r\n");
        let told = String::from_utf8_lossy(&listening.frame()).into_owned();
        assert!(told.contains("smessage") && told.contains("hello"), "{told}");
        drop(listening);
        until("nobody listens", || wire.ask(&format!("SPUBLISH {key} bye")) == ":0\r\n");
    }
}

/// A client pushes numbers without waiting for replies while its list is moved from master to master by `to_master`.
fn keeps_order(cluster: &Cluster, key: &str, to_master: impl Fn(u16) + Sync) {
    const BURST: usize = 200;
    let sidecar = before(cluster).set("SERVER__WORKERS", "2").start();
    let mut wire = sidecar.wire();
    let masters = cluster.masters();
    for (round, to) in masters.iter().cycle().skip(1).take(30).enumerate() {
        thread::scope(|scope| {
            scope.spawn(|| to_master(*to));
            // Many are under way, of which some are sent elsewhere.
            let numbers = round * BURST..(round + 1) * BURST;
            for n in numbers.clone() {
                wire.send(&line(&format!("RPUSH {key} {n}")));
            }
            for n in numbers {
                assert_eq!(String::from_utf8_lossy(&wire.frame()), format!(":{}\r\n", n + 1));
            }
        });
    }
    let told = wire.ask(&format!("LRANGE {key} 0 -1"));
    let numbers: Vec<&str> = told.lines().filter(|line| !line.starts_with(['*', '$'])).collect();
    assert_eq!(numbers.len(), 30 * BURST);
    assert!(numbers.iter().zip(0..).all(|(line, n)| **line == n.to_string()), "elements changed places");
}

#[test]
fn commands_of_a_client_keep_their_order_while_their_slot_moves() {
    let (cluster, key, _) = of(0);
    keeps_order(&cluster, &key, |to| cluster.move_slot(slot_of(&key), to));
}

#[test]
fn commands_keep_their_order_while_a_server_moves_their_slot_all_at_once() {
    let cluster = Cluster::with(Server::Valkey91, 0, &[]);
    let key = cluster.key_of(cluster.masters()[0]);
    let slot = slot_of(&key);
    keeps_order(&cluster, &key, |to| {
        let words = format!("CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {}", cluster.id(to));
        order(cluster.owner(slot), &words);
        until("it is there", || cluster.owner(slot) == to);
    });
}

#[test]
fn a_scan_misses_nothing_while_slots_move() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    let keys: BTreeSet<String> = (0..600).map(|n| format!("key:{n}")).collect();
    for key in &keys {
        assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let masters = cluster.masters();
            for (key, to) in keys.iter().zip(masters.iter().cycle()).cycle() {
                if cluster.owner(slot_of(key)) != *to {
                    cluster.move_slot(slot_of(key), *to);
                }
                if is_over.load(SeqCst) {
                    return;
                }
            }
        });
        for _ in 0..10 {
            let found: BTreeSet<String> = scanned(&mut wire, "MATCH key:* COUNT 20").into_iter().collect();
            if found != keys {
                is_over.store(true, SeqCst);
            }
            let missing: Vec<&String> = keys.difference(&found).collect();
            assert!(found == keys, "missing: {missing:?}");
        }
        is_over.store(true, SeqCst);
    });
}

#[test]
fn a_transaction_whose_slot_moves_is_done_or_refused_as_a_whole() {
    let (cluster, key, _) = of(0);
    let sidecar = before(&cluster).start();
    let (mut wire, is_over) = (sidecar.wire(), AtomicBool::new(false));
    let (a, b) = (format!("{{{key}}}a"), format!("{{{key}}}b"));
    let requests = ["MULTI".to_owned(), format!("INCR {a}"), format!("INCR {b}"), "EXEC".to_owned()];
    let done = AtomicU32::new(0);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !is_over.load(SeqCst) {
                wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<_>>());
                let replies = [0; 4].map(|_| String::from_utf8_lossy(&wire.frame()).into_owned());
                if replies[3].starts_with('*') {
                    let done = done.fetch_add(1, SeqCst) + 1;
                    assert_eq!(replies[3], format!("*2\r\n:{done}\r\n:{done}\r\n"));
                } else {
                    assert!(replies[3].starts_with("-EXECABORT"), "{replies:?}");
                }
            }
        });
        for (moves, to) in cluster.masters().iter().cycle().enumerate() {
            if moves >= 10 && done.load(SeqCst) >= 10 || client.is_finished() {
                break;
            }
            cluster.move_slot(slot_of(&key), *to);
        }
        is_over.store(true, SeqCst);
    });
    assert_eq!(wire.ask(&format!("GET {a}")), wire.ask(&format!("GET {b}")));
}
