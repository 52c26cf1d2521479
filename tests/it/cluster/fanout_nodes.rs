//! Commands without keys that all nodes of a cluster must answer, and what a client is told that asks for the nodes.

use super::before;
use super::fanout::speaking;
use crate::support::clusters::Cluster;
use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, array, line};

/// A number of an INFO.
fn number(info: &str, name: &str) -> u64 {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} of {info}"))
}

#[test]
fn every_server_is_one_server_to_whoever_administers_it() {
    for server in SERVERS {
        let cluster = Cluster::with(server, 0, &[]);
        let sidecar = before(&cluster).start();
        for protocol in [2, 3] {
            let mut wire = speaking(sidecar.wire(), protocol);
            assert_eq!(wire.ask("CONFIG SET slowlog-max-len 77"), "+OK\r\n");
            for port in &cluster.ports {
                assert!(Wire::tcp(*port).ask("CONFIG GET slowlog-max-len").contains("77"));
            }
            assert_eq!(wire.ask("SLOWLOG RESET"), "+OK\r\n");
            assert_eq!(wire.ask("SLOWLOG LEN"), ":0\r\n");
            assert!(wire.ask("CONFIG SET nosuch 1").starts_with("-ERR"));
            let keys = cluster.key_of_each();
            keys.iter().for_each(|key| assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n"));
            wire.ask(&format!("EXPIRE {} 1000", keys[1]));
            let info = wire.ask("INFO");
            assert!(info.contains("\r\ndb0:keys=3,expires=1,"), "{info}");
            assert!(info.contains("cluster_enabled:0") && !info.contains(":cluster\r\n"), "{info}");
            assert_eq!(number(&info, "connected_clients"), 1);
            let memory = number(&Wire::tcp(cluster.ports[0]).ask("INFO memory"), "used_memory");
            assert!(number(&info, "used_memory") > 2 * memory, "of three servers");
            assert!(wire.ask("INFO server").contains("redis_version"));
            assert_eq!(wire.ask("FLUSHDB"), "+OK\r\n");
            assert!(!wire.ask("INFO keyspace").contains("db0"));
            assert_eq!(wire.ask("PING"), "+PONG\r\n");
        }
    }
}

#[test]
fn random_keys_come_from_every_node() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    let keys = cluster.key_of_each();
    keys.iter().for_each(|key| assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n"));
    let mut left: Vec<&String> = keys.iter().collect();
    until("each has been drawn", || {
        let told = wire.ask("RANDOMKEY");
        assert!(keys.iter().any(|key| told.contains(key.as_str())), "{told}");
        left.retain(|key| !told.contains(key.as_str()));
        left.is_empty()
    });
}

#[test]
fn replicas_know_scripts_and_settings_and_one_that_is_away_is_left_out() {
    let mut cluster = Cluster::with(SERVERS[0], 1, &[]);
    let sidecar = before(&cluster).expect(&[warnings::NODE_SILENT, warnings::NODE_FAILED]).start();
    let mut wire = sidecar.wire();
    let told = wire.call(&["SCRIPT", "LOAD", "return 1"]);
    let digest = String::from_utf8_lossy(&told).lines().nth(1).expect("a digest").to_owned();
    for port in &cluster.ports {
        assert_eq!(Wire::tcp(*port).ask(&format!("SCRIPT EXISTS {digest}")), "*1\r\n:1\r\n");
    }
    for key in cluster.key_of_each() {
        assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
        assert_eq!(wire.ask("WAIT 1 5000"), ":1\r\n", "every master has a replica");
    }
    let replica = cluster.replicas()[0];
    cluster.kill(replica);
    assert_eq!(wire.ask("CONFIG SET slowlog-max-len 88"), "+OK\r\n");
    assert_eq!(wire.ask("DBSIZE"), ":3\r\n");
}

#[test]
fn what_keeps_any_node_busy_is_told_and_ended() {
    let cluster = Cluster::with(SERVERS[0], 0, &["--busy-reply-threshold", "50"]);
    let sidecar = before(&cluster).start();
    let (mut wire, mut busy) = (sidecar.wire(), sidecar.wire());
    assert!(wire.ask("SCRIPT KILL").starts_with("-NOTBUSY"));
    for key in cluster.key_of_each() {
        busy.send(&array(&["EVAL", "while true do end", "1", &key]));
        until("it is ended", || wire.ask("SCRIPT KILL") == "+OK\r\n");
        let told = String::from_utf8_lossy(&busy.frame()).into_owned();
        assert!(told.starts_with('-') && told.contains("script"), "{told}");
    }
}

#[test]
fn a_function_that_runs_at_any_node_is_told_of_and_ended() {
    let cluster = Cluster::with(SERVERS[0], 0, &["--busy-reply-threshold", "50"]);
    let sidecar = before(&cluster).start();
    let (mut wire, mut busy) = (sidecar.wire(), sidecar.wire());
    let library = "#!lua name=slow\nredis.register_function('forever', function() while true do end end)";
    assert_eq!(wire.call(&["FUNCTION", "LOAD", library]), b"$4\r\nslow\r\n");
    assert!(wire.ask("FUNCTION STATS").starts_with("*4\r\n$14\r\nrunning_script\r\n$-1\r\n"));
    for key in cluster.key_of_each() {
        busy.send(&line(&format!("FCALL forever 1 {key}")));
        until("it is told of", || wire.ask("FUNCTION STATS").contains("$7\r\nforever\r\n"));
        assert_eq!(wire.ask("FUNCTION KILL"), "+OK\r\n");
        assert!(busy.frame().starts_with(b"-"));
    }
    assert!(wire.ask("FUNCTION KILL").starts_with("-NOTBUSY"));
}

#[test]
fn whoever_asks_for_nodes_hears_what_a_single_server_says() {
    for server in SERVERS {
        let (cluster, single) = (Cluster::with(server, 0, &[]), Redis::of(server, &[]));
        let sidecar = before(&cluster).start();
        for protocol in [2, 3] {
            let (mut wire, mut direct) = (speaking(sidecar.wire(), protocol), speaking(single.wire(), protocol));
            wire.ask("CLIENT SETNAME aware");
            let knows = |told: String, name: &str| told.contains(&format!("server\r\n${}\r\n{name}", name.len()));
            let name = ["redis", "valkey"].into_iter().find(|name| knows(direct.ask("HELLO"), name)).expect("a name");
            until("the sidecar knows which server it is", || knows(wire.ask("HELLO"), name));
            let subcommands = ["SLOTS", "SHARDS", "NODES", "MYID", "NOSUCH", "KEYSLOT a", "COUNTKEYSINSLOT 1"];
            let of_cluster = subcommands.iter().map(|subcommand| format!("CLUSTER {subcommand}"));
            for request in of_cluster.chain(["CLUSTER", "READONLY", "READWRITE", "ASKING"].map(str::to_owned)) {
                let (told, wanted) = (wire.ask(&request), direct.ask(&request));
                let begun = wanted.trim_end();
                assert!(told.starts_with(begun), "{request}: {told} {wanted}");
            }
            let told = wire.ask("CLUSTER SLOTS");
            assert!(told.contains("plain client"), "{told}");
            assert!(wire.ask("CLUSTER INFO").contains("cluster_enabled:0"));
            assert_eq!(wire.ask("PING"), "+PONG\r\n");
        }
        let said = sidecar.log().matches("a client asks for the nodes of a cluster").count();
        assert_eq!(said, 1, "once for each name");
    }
}

#[test]
fn what_concerns_all_nodes_is_not_answered_by_one_before_they_are_known() {
    let builder = Sidecar::builder().set("UPSTREAM__URL", "redis+cluster://127.0.0.1:1");
    let builder = builder.set("UPSTREAM__QUEUE_TIMEOUT", "300ms");
    let sidecar = builder.expect(&[warnings::NODE_SILENT]).expect(warnings::UPSTREAM_AWAY).start_guarded();
    let mut wire = sidecar.wire();
    for request in ["DBSIZE", "CONFIG SET slowlog-max-len 77", "SCRIPT LOAD return", "KEYS *", "MGET a b"] {
        let told = wire.ask(request);
        assert!(told.starts_with("-LOADING hearthside: the nodes of the upstream's cluster are not known"), "{told}");
    }
}
