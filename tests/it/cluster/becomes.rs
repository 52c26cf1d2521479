//! An upstream of one server that becomes a cluster by a reload, and back: what waits, watches or is paused meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::before;
use super::operator::config;
use crate::operations::reload::reload;
use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// A sidecar in front of this upstream, which a reload may change.
fn at(url: &str) -> Sidecar {
    let silent = [warnings::NODE_SILENT, warnings::NODE_FAILED, warnings::HELD_BACK];
    Sidecar::builder().config(&config(url)).expect(warnings::UPSTREAM_AWAY).expect(&silent).start()
}

/// The node that has this key.
fn there(cluster: &Cluster, key: &str) -> Wire {
    Wire::tcp(cluster.owner(slot_of(key)))
}

#[test]
fn what_waits_for_one_server_is_not_sent_to_a_node_of_a_cluster() {
    let (cluster, alone) = (Cluster::with(SERVERS[0], 0, &[]), Redis::start());
    for key in cluster.key_of_each() {
        assert_eq!(there(&cluster, &key).ask(&format!("SET {key} 1")), "+OK\r\n");
    }
    let sidecar = at(&alone.url());
    assert!(sidecar.wire().ask("HEARTHSIDE PAUSE 600000").starts_with("+OK"));
    let keys = cluster.key_of_each();
    let sets = keys.iter().map(|key| format!("SET {key} 2"));
    let others = [format!("MGET {}", keys.join(" ")), "DBSIZE".into(), "KEYS *".into(), "SCRIPT LOAD return(1)".into()];
    let mut waiting: Vec<Wire> = sets.chain(others).map(|request| waits(&sidecar, &request)).collect();
    reload(&sidecar, &config(&cluster.url()));
    until("the cluster takes commands", || sidecar.log().contains("the cluster answers"));
    assert_eq!(sidecar.wire().ask("HEARTHSIDE RESUME"), "+OK\r\n");
    for wire in &mut waiting {
        let told = String::from_utf8_lossy(&wire.frame()).into_owned();
        assert!(told.starts_with("-LOADING hearthside: the upstream has become a cluster"), "{told}");
        until("the next ones find their nodes", || wire.ask("DBSIZE") == ":3\r\n");
        assert_eq!(wire.ask(&format!("EXISTS {}", keys.join(" "))), ":3\r\n");
    }
}

/// A client that has sent this, and is not answered.
fn waits(sidecar: &Sidecar, request: &str) -> Wire {
    let mut wire = sidecar.wire();
    wire.send(&line(request));
    assert!(wire.is_silent(Duration::from_millis(50)), "{request}");
    wire
}

#[test]
fn what_one_server_watched_is_not_taken_for_unchanged_in_a_cluster() {
    let (cluster, alone) = (Cluster::with(SERVERS[0], 0, &[]), Redis::start());
    let sidecar = at(&alone.url());
    for key in cluster.key_of_each() {
        reload(&sidecar, &config(&alone.url()));
        let (mut watches, mut writes) = (sidecar.wire(), sidecar.wire());
        until("it is there", || watches.ask(&format!("WATCH {key}")) == "+OK\r\n");
        reload(&sidecar, &config(&cluster.url()));
        until("it is written there", || {
            assert_eq!(writes.ask(&format!("SET {key} other")), "+OK\r\n");
            there(&cluster, &key).ask(&format!("GET {key}")) == "$5\r\nother\r\n"
        });
        let told = ["MULTI", &format!("SET {key} 2"), "EXEC"].map(|request| watches.ask(request));
        assert!(told[2] == "*-1\r\n" || told[2].starts_with("-EXECABORT"), "{told:?}");
        assert_eq!(writes.ask(&format!("GET {key}")), "$5\r\nother\r\n");
    }
}

#[test]
fn a_pause_that_ends_elsewhere_ends_for_clients_that_need_a_connection_of_their_own() {
    let (cluster, alone) = (Cluster::with(SERVERS[0], 0, &[]), Redis::start());
    let sidecar = at(&cluster.url());
    until("the nodes are known", || sidecar.wire().ask("DBSIZE") == ":0\r\n");
    assert!(sidecar.wire().ask("HEARTHSIDE PAUSE 600000").starts_with("+OK"));
    let mut waiting: Vec<Wire> =
        cluster.key_of_each().iter().map(|key| waits(&sidecar, &format!("WATCH {key}"))).collect();
    waiting.push(waits(&sidecar, "BLPOP nothing 0.01"));
    reload(&sidecar, &config(&alone.url()));
    assert_eq!(sidecar.wire().ask("HEARTHSIDE RESUME"), "+OK\r\n");
    for wire in &mut waiting {
        let told = wire.frame();
        assert!(told == b"+OK\r\n" || told == b"*-1\r\n", "{}", String::from_utf8_lossy(&told));
    }
}

#[test]
fn wait_asks_who_has_taken_the_place_of_a_master() {
    let cluster = Cluster::of(SERVERS[1]);
    let sidecar = before(&cluster).start();
    let (mut wire, is_over) = (sidecar.wire(), AtomicBool::new(false));
    thread::scope(|scope| {
        let asks = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                for request in ["WAIT 0 10", "WAITAOF 0 0 10"] {
                    let told = wire.ask(request);
                    assert!(!told.contains("replica instances"), "{told}");
                }
            }
        });
        {
            // Also where one of them does not succeed.
            let _over = Over(&is_over);
            for master in cluster.masters() {
                cluster.fail_over(master);
            }
        }
        asks.join().expect("each is answered");
    });
}

/// Says that it is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
