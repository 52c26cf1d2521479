//! Very long requests behind a cluster, and commands that the table does not know.

use super::before;
use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::redis::{Server, odd_module};
use crate::support::until;
use crate::support::wire::{Wire, array, line};

#[test]
fn a_long_request_reaches_the_node_of_its_key() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    let long = "x".repeat(3 << 20);
    for key in cluster.key_of_each() {
        assert_eq!(wire.call(&["SET", &key, &long]), b"+OK\r\n");
        // Gathered: its key comes last.
        assert_eq!(wire.call(&["EVAL", &format!("return 7 -- {long}"), "1", &key]), b":7\r\n");
        assert_eq!(wire.ask(&format!("STRLEN {key}")), format!(":{}\r\n", long.len()));
        let whole = [array(&["MULTI"]), array(&["APPEND", &key, &long]), array(&["EXEC"])].concat();
        wire.send(&whole);
        let told: Vec<_> = (0..3).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
        assert_eq!(told[2], format!("*1\r\n:{}\r\n", long.len() * 2));
    }
}

#[test]
fn long_lists_reach_a_client_that_waits_for_another_node() {
    let mut cluster = Cluster::with(Server::Installed, 0, &[]);
    let sidecar = before(&cluster).start();
    let (mut wire, masters) = (sidecar.wire(), cluster.masters());
    let [slow, list] = [masters[0], masters[1]].map(|master| cluster.key_of(master));
    let words: Vec<String> = (0..20_000).map(|n| format!("element {n}")).collect();
    let push: Vec<&str> = ["RPUSH", &list].into_iter().chain(words.iter().map(String::as_str)).collect();
    assert_eq!(wire.call(&push), b":20000\r\n");
    let whole = wire.ask(&format!("LRANGE {list} 0 -1"));
    cluster.hang(masters[0]);
    wire.send(&[line(&format!("GET {slow}")), line(&format!("LRANGE {list} 0 -1")).repeat(40)].concat());
    until("the lists are sent", || Wire::tcp(masters[1]).ask("INFO commandstats").contains("lrange:calls=41"));
    cluster.wake(masters[0]);
    assert_eq!(wire.frame(), b"$-1\r\n");
    (0..40).for_each(|_| assert!(wire.frame() == whole.as_bytes()));
    assert_eq!(sidecar.wire().ask("PING"), "+PONG\r\n");
}

#[test]
fn a_long_request_that_came_to_the_wrong_node_succeeds_when_it_is_sent_again() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    let masters = cluster.masters();
    let long = "x".repeat(3 << 20);
    let key = cluster.key_of(masters[0]);
    // The key is not at its owner any more, and its owner is not another one yet.
    let on = cluster.begin_move(slot_of(&key), masters[1]);
    let told = String::from_utf8_lossy(&wire.call(&["SET", &key, &long])).into_owned();
    assert!(told.starts_with("-TRYAGAIN hearthside:") && told.contains("send it again"), "{told}");
    assert_eq!(wire.call(&["SET", &key, &long]), b"+OK\r\n");
    assert_eq!(wire.ask(&format!("STRLEN {key}")), format!(":{}\r\n", long.len()));
    cluster.finish_move(on);
    let mut other = sidecar.wire();
    let mut refused = 0;
    until("it is taken", || {
        let told = other.call(&["SET", &key, &long]);
        refused += usize::from(told != b"+OK\r\n");
        told == b"+OK\r\n"
    });
    assert!(refused <= 1, "the map is corrected by the first");
}

#[test]
fn a_command_that_the_table_does_not_know_reaches_the_node_of_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = odd_module(folder.path());
    let cluster = Cluster::with(Server::Installed, 0, &["--loadmodule", &module]);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    let keys = cluster.key_of_each();
    for key in keys.iter().chain(&keys) {
        assert_eq!(wire.ask(&format!("ODD.LAST x {key}")), ":3\r\n");
        assert_eq!(wire.ask(&format!("ODD.WAITS {key}")), "$-1\r\n");
        assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
        assert!(wire.ask(&format!("NOSUCH {key}")).starts_with("-ERR unknown command"));
    }
    cluster.move_slot(slot_of(&keys[0]), cluster.masters()[1]);
    assert_eq!(wire.ask(&format!("ODD.LAST x {}", keys[0])), ":3\r\n");
    assert_eq!(wire.ask(&format!("ODD.WAITS {}", keys[0])), "$-1\r\n");
}
