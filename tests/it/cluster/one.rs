//! A plain client sees one Redis, whichever node has its keys.

use std::collections::BTreeSet;
use std::time::Duration;

use super::before;
use crate::support::clusters::Cluster;
use crate::support::redis::{Redis, SERVERS, Server};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::{Wire, array, line};

/// A client of either protocol.
fn client(sidecar: &Sidecar, protocol: u8) -> Wire {
    let mut wire = sidecar.wire();
    if protocol == 3 {
        wire.ask("HELLO 3");
    }
    wire
}

/// An array of bulk strings, as it is sent.
fn texts(all: &[&str]) -> String {
    String::from_utf8(array(all)).expect("text")
}

#[test]
fn a_plain_client_sees_one_redis_of_every_server() {
    for server in SERVERS {
        let cluster = Cluster::with(server, 0, &[]);
        let sidecar = before(&cluster).start();
        for protocol in [2, 3] {
            let mut wire = client(&sidecar, protocol);
            let keys = cluster.key_of_each();
            for key in &keys {
                assert_eq!(wire.ask(&format!("SET {key} value-of-{key}")), "+OK\r\n");
                assert_eq!(wire.ask(&format!("GET {key}")), format!("${}\r\nvalue-of-{key}\r\n", key.len() + 9));
            }
            let (all, nil) = (keys.join(" "), if protocol == 3 { "_\r\n" } else { "$-1\r\n" });
            let values: Vec<String> = keys.iter().map(|key| format!("value-of-{key}")).collect();
            let [a, b, c] = [0, 1, 2].map(|i| format!("${}\r\n{}\r\n", values[i].len(), values[i]));
            assert_eq!(
                wire.ask(&format!("MGET {} nosuch {} {}", keys[2], keys[0], keys[1])),
                format!("*4\r\n{c}{nil}{a}{b}")
            );
            assert_eq!(wire.ask(&format!("EXISTS {all} nosuch {}", keys[0])), ":4\r\n");
            assert_eq!(wire.ask(&format!("TOUCH {all}")), ":3\r\n");
            assert_eq!(wire.ask("DBSIZE"), ":3\r\n");
            assert_eq!(wire.ask(&format!("UNLINK {} nosuch {}", keys[0], keys[1])), ":2\r\n");
            assert_eq!(wire.ask("KEYS key:*"), texts(&[&keys[2]]));
            assert!(wire.ask("RANDOMKEY").contains(keys[2].as_str()), "the only key that is left");
            assert_eq!(wire.ask(&format!("DEL {all}")), ":1\r\n");
            assert_eq!(wire.ask("RANDOMKEY"), nil);
            assert!(wire.ask("INFO cluster").contains("cluster_enabled:0"));
            assert_eq!(wire.ask(&format!("SET {} 1", keys[0])), "+OK\r\n");
            assert_eq!(wire.ask(&format!("SET {} 1", keys[1])), "+OK\r\n");
            assert_eq!(wire.ask("FLUSHALL"), "+OK\r\n");
            assert_eq!(wire.ask("DBSIZE"), ":0\r\n");
        }
    }
}

#[test]
fn pipelines_of_keys_on_all_nodes_are_answered_in_order() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).set("SERVER__WORKERS", "2").start();
    let keys: Vec<String> = (0..500).map(|n| format!("key:{n}")).collect();
    for protocol in [2, 3] {
        let mut wire = client(&sidecar, protocol);
        let requests = keys.iter().map(|key| format!("SET {key} {key} GET|GET {key}|ECHO {key}|EXISTS {key} nosuch"));
        let bytes: Vec<u8> = requests.flat_map(|all| all.split('|').flat_map(line).collect::<Vec<u8>>()).collect();
        wire.send(&bytes);
        for key in &keys {
            let value = format!("${}\r\n{key}\r\n", key.len());
            let before = String::from_utf8_lossy(&wire.frame()).into_owned();
            assert!([value.as_str(), "$-1\r\n", "_\r\n"].contains(&before.as_str()), "{before}");
            for wanted in [value.as_str(), &value, ":1\r\n"] {
                assert_eq!(String::from_utf8_lossy(&wire.frame()), wanted);
            }
        }
    }
}

#[test]
fn what_no_node_can_do_alone_is_refused_unless_it_may_be_split() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let keys = cluster.key_of_each();
    let [a, b] = [&keys[0], &keys[1]];
    let refused = [format!("SINTER {a} {b}"), format!("RENAME {a} {b}"), format!("EVAL return~1 2 {a} {b}")];
    for is_split in ["false", "true"] {
        let sidecar = before(&cluster).set("UPSTREAM__CLUSTER_SPLIT", is_split).start();
        let mut wire = sidecar.wire();
        let told = wire.ask(&format!("MSET {a} 1 {b} 2"));
        if is_split == "true" {
            assert_eq!(told, "+OK\r\n");
            assert_eq!(wire.ask(&format!("MGET {a} {b}")), texts(&["1", "2"]));
        } else {
            assert!(told.starts_with("-CROSSSLOT") && told.contains("cluster_split"), "{told}");
        }
        for request in &refused {
            let words: Vec<String> = request.split(' ').map(|word| word.replace('~', " ")).collect();
            let told = String::from_utf8_lossy(&wire.call(&words)).into_owned();
            assert!(told.starts_with("-CROSSSLOT"), "{request}: {told}");
        }
        assert_eq!(wire.ask("MSET {tag}a 1 {tag}b 2"), "+OK\r\n");
    }
}

#[test]
fn transactions_of_one_slot_are_transactions() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    for key in cluster.key_of_each() {
        let (a, b) = (format!("{{{key}}}a"), format!("{{{key}}}b"));
        assert_eq!(wire.ask(&format!("WATCH {a} {b}")), "+OK\r\n");
        assert_eq!(wire.ask("MULTI"), "+OK\r\n");
        assert_eq!(wire.ask(&format!("INCR {a}")), "+QUEUED\r\n");
        assert_eq!(wire.ask(&format!("INCRBY {b} 5")), "+QUEUED\r\n");
        assert_eq!(wire.ask("EXEC"), "*2\r\n:1\r\n:5\r\n");
        assert_eq!(wire.ask(&format!("WATCH {a}")), "+OK\r\n");
        assert_eq!(other.ask(&format!("INCR {a}")), ":2\r\n");
        assert_eq!(wire.ask("MULTI"), "+OK\r\n");
        assert_eq!(wire.ask(&format!("INCR {a}")), "+QUEUED\r\n");
        assert_eq!(wire.ask("EXEC"), "*-1\r\n");
        assert_eq!(wire.ask(&format!("GET {a}")), "$1\r\n2\r\n");
    }
    let keys = cluster.key_of_each();
    assert_eq!(wire.ask("MULTI"), "+OK\r\n");
    assert_eq!(wire.ask(&format!("INCR {}", keys[0])), "+QUEUED\r\n");
    let told = wire.ask(&format!("INCR {}", keys[1]));
    assert!(told.starts_with("-CROSSSLOT"), "{told}");
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(wire.ask(&format!("EXISTS {} {}", keys[0], keys[1])), ":0\r\n");
}

#[test]
fn scripts_and_functions_are_known_on_every_node() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    let told = wire.call(&["SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])"]);
    let digest = String::from_utf8_lossy(&told).lines().nth(1).expect("a digest").to_owned();
    let library = "#!lua name=mine\nredis.register_function('add', function(k) return redis.call('INCR', k[1]) end)";
    assert_eq!(wire.call(&["FUNCTION", "LOAD", library]), b"$4\r\nmine\r\n");
    for key in cluster.key_of_each() {
        assert_eq!(wire.ask(&format!("EVALSHA {digest} 1 {key}")), ":1\r\n");
        assert_eq!(wire.ask(&format!("FCALL add 1 {key}")), ":2\r\n");
    }
    assert_eq!(wire.ask(&format!("SCRIPT EXISTS {digest}")), "*1\r\n:1\r\n");
    assert_eq!(wire.ask("SCRIPT FLUSH"), "+OK\r\n");
    assert_eq!(wire.ask("FUNCTION FLUSH"), "+OK\r\n");
    for key in cluster.key_of_each() {
        assert!(wire.ask(&format!("EVALSHA {digest} 1 {key}")).starts_with("-NOSCRIPT"));
        assert!(wire.ask(&format!("FCALL add 1 {key}")).starts_with('-'));
    }
}

#[test]
fn messages_reach_whoever_subscribed_wherever_they_are_published() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    for protocol in [2, 3] {
        for channel in cluster.key_of_each() {
            let mut listening = [client(&sidecar, protocol), client(&sidecar, protocol), client(&sidecar, protocol)];
            for (wire, subscribe) in listening.iter_mut().zip(["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"]) {
                let told = wire.ask(&format!("{subscribe} {channel}"));
                assert!(told.contains(&subscribe.to_lowercase()), "{told}");
            }
            let mut wire = sidecar.wire();
            assert_eq!(wire.ask(&format!("PUBLISH {channel} hello")), ":2\r\n");
            assert_eq!(wire.ask(&format!("SPUBLISH {channel} hello")), ":1\r\n");
            // A node of the cluster hears it from another one.
            let mut direct = Wire::tcp(cluster.masters()[1]);
            direct.ask(&format!("PUBLISH {channel} there"));
            for (i, wire) in listening.iter_mut().enumerate() {
                assert!(String::from_utf8_lossy(&wire.frame()).contains("hello"));
                if i < 2 {
                    assert!(String::from_utf8_lossy(&wire.frame()).contains("there"));
                }
                assert!(wire.is_silent(Duration::from_millis(20)), "heard twice");
            }
        }
    }
}

#[test]
fn commands_that_block_wait_where_their_keys_are() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    for key in cluster.key_of_each() {
        let mut waiting = sidecar.wire();
        waiting.send(&line(&format!("BLPOP {{{key}}}other {key} 0")));
        let owner = cluster.owner(crate::support::nodes::slot_of(&key));
        until("it waits", || Wire::tcp(owner).ask("INFO clients").contains("blocked_clients:1"));
        assert_eq!(wire.ask(&format!("RPUSH {key} x")), ":1\r\n");
        assert_eq!(String::from_utf8_lossy(&waiting.frame()), texts(&[&key, "x"]));
    }
    let keys = cluster.key_of_each();
    let told = wire.ask(&format!("BLPOP {} {} 1", keys[0], keys[1]));
    assert!(told.starts_with("-CROSSSLOT"), "{told}");
}

/// What a whole scan finds, as it comes.
pub fn scanned(wire: &mut Wire, more: &str) -> Vec<String> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let told = wire.ask(&format!("SCAN {cursor} {more}"));
        let mut lines = told.lines().filter(|line| !line.starts_with(['*', '$']));
        cursor = lines.next().expect("a cursor").to_owned();
        found.extend(lines.map(str::to_owned));
        if cursor == "0" {
            return found;
        }
    }
}

#[test]
fn a_scan_at_rest_finds_every_key_once() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    for n in 0..2000 {
        wire.send(&line(&format!("SET key:{n} 1")));
    }
    (0..2000).for_each(|_| assert_eq!(wire.frame(), b"+OK\r\n"));
    for more in ["MATCH key:* COUNT 10", "MATCH key:* COUNT 1000", "MATCH key:1* COUNT 50", "TYPE string"] {
        let found = scanned(&mut wire, more);
        let keys: BTreeSet<&String> = found.iter().collect();
        assert_eq!(keys.len(), found.len(), "{more}: some are found twice");
        assert_eq!(keys.len(), if more.contains("key:1*") { 1111 } else { 2000 }, "{more}");
    }
    assert_eq!(scanned(&mut wire, "MATCH {tag}* COUNT 1000"), Vec::<String>::new());
}

#[test]
fn databases_are_several_where_the_server_has_them() {
    let cluster = Cluster::with(Server::Valkey91, 0, &["--cluster-databases", "4"]);
    let sidecar = before(&cluster).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    assert_eq!(other.ask("SELECT 3"), "+OK\r\n");
    for key in cluster.key_of_each() {
        assert_eq!(wire.ask(&format!("SET {key} zero")), "+OK\r\n");
        assert_eq!(other.ask(&format!("SET {key} three")), "+OK\r\n");
        assert_eq!(wire.ask(&format!("GET {key}")), "$4\r\nzero\r\n");
        assert_eq!(other.ask(&format!("GET {key}")), "$5\r\nthree\r\n");
    }
    assert_eq!(other.ask("DBSIZE"), ":3\r\n");
    let cluster = Cluster::with(Server::Installed, 0, &[]);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    let told = wire.ask("SELECT 1");
    assert!(told.starts_with('-') && told.contains("cluster"), "{told}");
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n", "it goes on in its database");
}

#[test]
fn a_client_that_knows_clusters_is_told_that_there_is_none() {
    let cluster = Cluster::with(Server::Installed, 0, &[]);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    // As one Redis says it, and with what to do.
    let alone = Redis::start();
    let info = wire.ask("CLUSTER INFO");
    assert!(info.contains("cluster_enabled:0") || info.starts_with("-ERR"), "{info}");
    for request in ["CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER NODES"] {
        let told = wire.ask(request);
        assert!(alone.wire().ask(request).starts_with("-ERR") && told.starts_with("-ERR"), "{request}: {told}");
        assert!(told.contains("plain client"), "it needs none: {told}");
    }
    assert!(wire.ask("HELLO 3").contains("standalone"));
}
