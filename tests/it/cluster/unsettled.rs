//! A cluster that cannot take some requests now, or whose nodes do not agree: what is asked for waits once, nobody is
//! kept busy with it, and what a script says is not taken for a node's word.

use super::before;
use crate::support::clusters::Cluster;
use crate::support::nodes::{order, slot_of, told};
use crate::support::redis::SERVERS;
use crate::support::until;
use crate::support::wire::{Wire, line};

/// A cluster of three nodes that serves the slots that have an owner.
fn partly() -> Cluster {
    Cluster::with(SERVERS[0], 0, &["--cluster-require-full-coverage", "no"])
}

/// How often a node has answered with this error.
fn refused(port: u16, code: &str) -> u32 {
    let told = told(port, "INFO errorstats").expect("it answers");
    let count = told.lines().find_map(|line| line.strip_prefix(&format!("errorstat_{code}:count=")));
    count.map_or(0, |count| count.parse().expect("a number"))
}

#[test]
fn a_pipeline_waits_once_for_a_slot_that_nobody_has() {
    let cluster = partly();
    let sidecar = before(&cluster).set("UPSTREAM__QUEUE_TIMEOUT", "500ms").start();
    let (masters, mut wire) = (cluster.masters(), sidecar.wire());
    let keys: Vec<String> = cluster.keys_of(masters[0]).take(2).collect();
    for port in &masters {
        order(*port, &format!("CLUSTER DELSLOTS {}", slot_of(&keys[0])));
    }
    let get = line(&format!("GET {}", keys[0]));
    wire.send(&[get.repeat(20), line(&format!("SET {} 1", keys[1]))].concat());
    for _ in 0..20 {
        assert!(wire.frame().starts_with(b"-CLUSTERDOWN"));
    }
    assert_eq!(wire.frame(), b"+OK\r\n");
    // Half a second with a pause of 20 ms after each question, and not twenty times that.
    let asked: u32 = masters.iter().map(|port| refused(*port, "CLUSTERDOWN")).sum();
    assert!(asked < 100, "{asked} questions");
}

/// The answer to the second command is older than the wait for the first one.
#[test]
fn what_was_said_of_a_slot_before_a_long_wait_is_asked_again() {
    let cluster = partly();
    let sidecar = before(&cluster).set("UPSTREAM__QUEUE_TIMEOUT", "1s").start();
    let (masters, mut wire) = (cluster.masters(), sidecar.wire());
    let keys: Vec<String> = cluster.keys_of(masters[0]).take(2).collect();
    for port in &masters {
        order(*port, &format!("CLUSTER DELSLOTS {} {}", slot_of(&keys[0]), slot_of(&keys[1])));
    }
    wire.send(format!("GET {}\r\nGET {}\r\n", keys[0], keys[1]).as_bytes());
    until("the nodes have refused both", || masters.iter().map(|port| refused(*port, "CLUSTERDOWN")).sum::<u32>() > 3);
    order(masters[0], &format!("CLUSTER ADDSLOTS {}", slot_of(&keys[1])));
    assert!(wire.frame().starts_with(b"-CLUSTERDOWN"));
    assert_eq!(wire.frame(), b"$-1\r\n");
}

#[test]
fn nodes_that_name_each_other_are_not_asked_without_a_pause() {
    let cluster = partly();
    let sidecar = before(&cluster).set("UPSTREAM__QUEUE_TIMEOUT", "500ms").start();
    let (masters, mut wire) = (cluster.masters(), sidecar.wire());
    let key = cluster.key_of(masters[0]);
    let other = cluster.id(masters[1]);
    assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
    order(masters[0], &format!("CLUSTER SETSLOT {} MIGRATING {other}", slot_of(&key)));
    Wire::tcp(masters[0]).ask(&format!("DEL {key}"));
    order(masters[0], &format!("CLUSTER SETSLOT {} NODE {other}", slot_of(&key)));
    let told = "-TRYAGAIN hearthside: the nodes of the upstream's cluster do not agree";
    for command in [format!("GET {key}"), format!("BLPOP {key} 1"), format!("EVAL return{{}} 1 {key}")] {
        let answer = wire.ask(&command);
        assert!(answer.starts_with(told), "{command}: {answer}");
    }
    wire.send(format!("MULTI\r\nGET {key}\r\nEXEC\r\n").as_bytes());
    let queued: Vec<_> = (0..3).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert!(queued.iter().all(|reply| !reply.contains("MOVED")), "{queued:?}");
    assert!(queued[2].starts_with("-EXECABORT") || queued[2].starts_with("-TRYAGAIN"), "{queued:?}");
    let asked: u32 = masters.iter().map(|port| refused(*port, "MOVED")).sum();
    assert!(asked < 200, "{asked} questions");
}

#[test]
fn what_a_script_says_is_not_taken_for_a_redirection() {
    let cluster = partly();
    let sidecar = before(&cluster).start();
    let (mut wire, key) = (sidecar.wire(), cluster.key_of(cluster.masters()[0]));
    let (slot, foreign) = (slot_of(&key), crate::support::free_port());
    let texts = [
        "TRYAGAIN later".to_owned(),
        "CLUSTERDOWN says who".to_owned(),
        "READONLY today".to_owned(),
        format!("MOVED {} 127.0.0.1:{}", slot + 1, cluster.masters()[1]),
    ];
    for (count, text) in (1..).zip(&texts) {
        let script = format!("redis.call('INCR',KEYS[1]) return redis.error_reply('{text}')");
        let told = String::from_utf8_lossy(&wire.call(&["EVAL", &script, "1", &key])).into_owned();
        assert_eq!(told, format!("-{text}\r\n"));
        assert_eq!(wire.ask(&format!("GET {key}")), format!("$1\r\n{count}\r\n"), "{text}: it is run once");
    }
    // Nor is a host believed of which no node knows.
    let listener = std::net::TcpListener::bind(("127.0.0.1", foreign)).expect("a free port");
    listener.set_nonblocking(true).expect("a listener");
    let moved = format!("return redis.error_reply('MOVED {slot} 127.0.0.1:{foreign}')");
    assert!(wire.call(&["EVAL", &moved, "1", &key]).starts_with(b"-MOVED"));
    assert_eq!(listener.accept().expect_err("nobody comes").kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n4\r\n");
}
