//! Commands that all masters must answer wait as those of one slot do: for nodes that are away, for the successor of one
//! that has failed, and until the nodes are known.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::before;
use crate::support::clusters::{Cluster, node_alone};
use crate::support::nodes::order;
use crate::support::redis::SERVERS;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::{Wire, line};

const KEYS: usize = 300;

/// What they answer while the keys are there.
const ALL: &[(&str, &str)] = &[
    ("DBSIZE", ":300\r\n"),
    ("KEYS key:*", "*300\r\n"),
    ("SCAN 0 COUNT 100 MATCH key:*", "*2\r\n"),
    ("RANDOMKEY", "$"),
    ("INFO keyspace", "db0:keys=300,"),
    ("SCRIPT EXISTS nosuch", "*1\r\n:0\r\n"),
    ("MGET key:1 key:2 key:3", "*3\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n"),
];

/// Its keys outlive its servers.
fn lasting(replicas: u16) -> Cluster {
    Cluster::with(SERVERS[0], replicas, &["--appendonly", "yes"])
}

fn patient(cluster: &Cluster) -> Builder {
    before(cluster).set("UPSTREAM__QUEUE_TIMEOUT", "18s").set("UPSTREAM__BREAKER_AFTER", "60s")
}

/// Makes the keys, of which every replica knows.
fn fill(sidecar: &Sidecar, replicas: u16) {
    let mut wire = sidecar.wire();
    (0..KEYS).for_each(|n| assert_eq!(wire.ask(&format!("SET key:{n} 1")), "+OK\r\n"));
    assert_eq!(wire.ask(&format!("WAIT {replicas} 5000")), format!(":{replicas}\r\n"));
}

/// Asks all of them, none of which may be answered before `meanwhile` has ended.
fn wait_for(sidecar: &Sidecar, meanwhile: impl FnOnce()) {
    let mut clients: Vec<Wire> = ALL.iter().map(|_| sidecar.wire()).collect();
    for (client, (command, _)) in clients.iter_mut().zip(ALL) {
        client.send(&line(command));
        assert!(client.is_silent(Duration::from_millis(50)), "{command}: {:?}", client.text());
    }
    meanwhile();
    for (client, (command, expected)) in clients.iter_mut().zip(ALL) {
        let told = client.text();
        assert!(!told.starts_with('-') && told.contains(expected), "{command}: {told}");
    }
}

#[test]
fn what_is_asked_while_all_nodes_are_away_waits_for_them() {
    let mut cluster = lasting(1);
    let sidecar = patient(&cluster).start();
    fill(&sidecar, 1);
    let ports = cluster.ports.clone();
    for _ in 0..2 {
        ports.iter().for_each(|port| cluster.kill(*port));
        wait_for(&sidecar, || ports.iter().for_each(|port| cluster.launch(*port)));
        cluster.healthy();
    }
    ports.iter().for_each(|port| cluster.kill(*port));
    let mut wire = sidecar.wire();
    wire.send(&line("FLUSHALL"));
    ports.iter().for_each(|port| cluster.launch(*port));
    assert_eq!(wire.text(), "+OK\r\n");
    assert_eq!(wire.ask("DBSIZE"), ":0\r\n");
}

#[test]
fn what_is_asked_before_any_node_has_answered_waits_for_all_of_them() {
    let mut cluster = lasting(0);
    let sidecar = patient(&cluster).start();
    fill(&sidecar, 0);
    drop(sidecar);
    let ports = cluster.ports.clone();
    ports.iter().for_each(|port| cluster.kill(*port));
    let sidecar = patient(&cluster).start_guarded();
    let mut pipelined = sidecar.wire();
    pipelined.send(&[line("FLUSHDB x"), line("DBSIZE"), line("SET key:1 1"), line("GET key:1")].concat());
    wait_for(&sidecar, || ports.iter().for_each(|port| cluster.launch(*port)));
    let told: Vec<String> = (0..4).map(|_| pipelined.text()).collect();
    assert!(told[0].starts_with("-ERR syntax"), "{told:?}");
    assert_eq!(told[1..], [":300\r\n", "+OK\r\n", "$1\r\n1\r\n"]);
}

/// A whole SCAN, or the error of a page.
fn scanned(wire: &mut Wire) -> Result<Vec<String>, String> {
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let told = wire.ask(&format!("SCAN {cursor} COUNT 20"));
        if told.starts_with('-') {
            return Err(told);
        }
        let lines: Vec<&str> = told.lines().collect();
        cursor = lines[2].to_owned();
        found.extend(lines.iter().skip(4).filter(|line| line.starts_with("key:")).map(|line| (*line).to_owned()));
        if cursor == "0" {
            found.sort();
            found.dedup();
            return Ok(found);
        }
    }
}

#[test]
fn a_scan_goes_on_where_a_master_is_replaced() {
    let mut cluster = lasting(1);
    let sidecar = patient(&cluster).start();
    fill(&sidecar, 1);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let scans: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut wire = sidecar.wire();
                    while !is_over.load(SeqCst) {
                        assert_eq!(scanned(&mut wire).map(|found| found.len()), Ok(KEYS));
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            let master = cluster.masters()[0];
            let key = cluster.key_of(master);
            cluster.kill(master);
            cluster.replaced(&key);
            cluster.launch(master);
            cluster.healthy();
        }
        is_over.store(true, SeqCst);
        scans.into_iter().for_each(|scan| scan.join().expect("no page was an error"));
    });
}

/// A master without slots, of which the sidecar knows.
fn bare_master(cluster: &Cluster, sidecar: &Sidecar) -> crate::support::redis::Redis {
    let node = node_alone(&["--cluster-require-full-coverage", "no"]);
    cluster.introduce(node.port, cluster.ports[0]);
    let mut wire = sidecar.wire();
    until("the sidecar knows of it", || {
        let told = wire.ask("SCRIPT LOAD return");
        let digest = told.lines().nth(1).expect("a digest").to_owned();
        node.wire().ask(&format!("SCRIPT EXISTS {digest}")) == "*1\r\n:1\r\n"
    });
    node
}

#[test]
fn a_master_without_slots_that_is_away_keeps_nothing_from_being_answered() {
    let cluster = lasting(0);
    let sidecar = before(&cluster).set("UPSTREAM__QUEUE_TIMEOUT", "300ms").start();
    fill(&sidecar, 0);
    let mut node = bare_master(&cluster, &sidecar);
    node.kill();
    let mut wire = sidecar.wire();
    for (command, expected) in ALL {
        let told = wire.ask(command);
        assert!(!told.starts_with('-') && told.contains(expected), "{command}: {told}");
    }
}

#[test]
fn a_master_that_has_become_a_replica_does_not_hold_up_what_all_masters_do() {
    let cluster = lasting(0);
    let sidecar = before(&cluster).set("UPSTREAM__QUEUE_TIMEOUT", "10s").start();
    let node = bare_master(&cluster, &sidecar);
    let mut wire = sidecar.wire();
    let master = cluster.id(cluster.ports[0]);
    order(node.port, &format!("CLUSTER REPLICATE {master}"));
    let begun = Instant::now();
    assert_eq!(wire.ask("FLUSHALL"), "+OK\r\n");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
