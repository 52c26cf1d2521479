//! SCAN and KEYS over all masters, at rest and while slots move.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use super::before;
use super::fanout::speaking;
use super::operator::config;
use crate::operations::reload::reload;
use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Wire, line};
use crate::support::{setting, until, warnings};

/// How often a whole SCAN gives each key, each of its cursors sent over the next of these connections.
fn scanned(wires: &mut [Wire], options: &str) -> BTreeMap<String, usize> {
    let (mut cursor, mut found, mut turn) = ("0".to_owned(), BTreeMap::new(), 0);
    loop {
        let at = turn % wires.len();
        turn += 1;
        let told = wires[at].ask(format!("SCAN {cursor} {options}").trim_end());
        assert!(told.starts_with('*'), "{told}");
        let mut lines = told.lines().filter(|line| !line.starts_with(['*', '$']));
        cursor = lines.next().expect("a cursor").to_owned();
        // Definitions have keys, too.
        lines.filter(|key| key.starts_with("k:")).for_each(|key| *found.entry(key.to_owned()).or_default() += 1);
        if cursor == "0" {
            return found;
        }
    }
}

fn fill(sidecar: &Sidecar, count: usize) -> BTreeSet<String> {
    let (mut wire, keys) = (sidecar.wire(), (0..count).map(|n| format!("k:{n}")));
    let keys: BTreeSet<String> = keys.collect();
    keys.iter().for_each(|key| wire.send(&line(&format!("SET {key} 1"))));
    keys.iter().for_each(|_| assert_eq!(wire.frame(), b"+OK\r\n"));
    keys
}

#[test]
fn a_scan_of_every_server_gives_each_key_once() {
    for server in SERVERS {
        let cluster = Cluster::with(server, 0, &[]);
        let sidecar = before(&cluster).start();
        let keys = fill(&sidecar, 1500);
        for protocol in [2, 3] {
            let mut wires = [sidecar.wire(), sidecar.wire()].map(|wire| speaking(wire, protocol));
            for options in ["", "COUNT 1000", "TYPE string COUNT 100"] {
                let found = scanned(&mut wires, options);
                assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), keys, "{options}");
                assert!(found.values().all(|times| *times == 1), "{options}");
            }
            assert!(scanned(&mut wires, "TYPE list COUNT 1000").is_empty());
            assert_eq!(scanned(&mut wires, "MATCH k:77 COUNT 1000").len(), 1);
            assert_eq!(wires[0].ask("KEYS k:77"), "*1\r\n$4\r\nk:77\r\n");
            assert!(wires[0].ask("KEYS k:*").starts_with("*1500\r\n"));
        }
        assert!(sidecar.wire().ask("SCAN 12345").starts_with("-ERR"), "no cursor of a node is a client's");
    }
}

#[test]
fn a_key_that_goes_where_the_scan_has_been_is_found() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    let (mut wire, masters) = (sidecar.wire(), cluster.masters());
    fill(&sidecar, 300);
    for type_of in ["", "TYPE string"] {
        // Whichever master is the first one: the key goes there, from the one that comes last.
        for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
            let key = cluster.keys_of(masters[from]).nth(3).expect("endless");
            assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
            let told = wire.ask("SCAN 0 COUNT 10");
            let mut cursor = told.lines().nth(2).expect("a cursor").to_owned();
            let mut is_found = told.contains(&key);
            let mut pages = 1;
            while cursor != "0" {
                // When one master may have been read, and the others have not.
                if pages == 12 {
                    cluster.move_slot(slot_of(&key), masters[to]);
                }
                let told = wire.ask(format!("SCAN {cursor} COUNT 10 {type_of}").trim_end());
                cursor = told.lines().nth(2).expect("a cursor").to_owned();
                is_found |= told.contains(&format!("\r\n{key}\r\n"));
                pages += 1;
            }
            assert!(is_found, "{key} went from {from} to {to}");
            wire.ask(&format!("DEL {key}"));
        }
    }
}

#[test]
fn no_key_is_missed_while_slots_move_to_and_fro() {
    for server in SERVERS {
        let cluster = Cluster::with(server, 0, &[]);
        let sidecar = before(&cluster).set("SERVER__WORKERS", "2").start();
        let keys = fill(&sidecar, 600);
        let slots: Vec<u16> = keys.iter().take(12).map(|key| slot_of(key)).collect();
        let (nodes, is_over, moves) = (cluster.nodes(), AtomicBool::new(false), AtomicU32::new(0));
        let masters = cluster.masters();
        thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0.. {
                    for slot in &slots {
                        if is_over.load(SeqCst) {
                            return;
                        }
                        let to = masters[(usize::from(*slot) + turn) % masters.len()];
                        nodes.move_slot(*slot, to);
                        moves.fetch_add(1, SeqCst);
                    }
                }
            });
            let mut wires = [sidecar.wire(), sidecar.wire()];
            let (mut scans, least) = (0, setting("FANOUT_SCANS", 3));
            while scans < least || moves.load(SeqCst) < 6 {
                scans += 1;
                let found = scanned(&mut wires, "COUNT 20");
                let missed: Vec<&String> = keys.iter().filter(|key| !found.contains_key(*key)).collect();
                if !missed.is_empty() {
                    is_over.store(true, SeqCst);
                }
                assert!(missed.is_empty(), "{missed:?}");
                let told = wires[0].ask("KEYS k:*");
                let is_whole = told.starts_with("*600\r\n");
                if !is_whole {
                    is_over.store(true, SeqCst);
                }
                let there = wires[0].ask("DBSIZE");
                assert!(is_whole, "KEYS gives {} of {there}", told.lines().next().unwrap_or_default());
            }
            is_over.store(true, SeqCst);
        });
    }
}

#[test]
fn a_master_that_is_replaced_in_the_middle_costs_no_key() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let keys = fill(&sidecar, 300);
    let mut wire = sidecar.wire();
    for master in cluster.masters() {
        let told = wire.ask("SCAN 0 COUNT 10");
        let mut cursor = told.lines().nth(2).expect("a cursor").to_owned();
        let mut found: BTreeSet<String> = told.lines().skip(3).map(str::to_owned).collect();
        cluster.fail_over(master);
        while cursor != "0" {
            let told = wire.ask(&format!("SCAN {cursor} COUNT 10"));
            assert!(told.starts_with('*'), "{told}");
            cursor = told.lines().nth(2).expect("a cursor").to_owned();
            found.extend(told.lines().skip(3).map(str::to_owned));
        }
        let missed: Vec<&String> = keys.iter().filter(|key| !found.contains(*key)).collect();
        assert!(missed.is_empty(), "{missed:?}");
    }
}

#[test]
fn a_scan_of_a_cluster_ends_with_an_error_where_there_is_none_any_more() {
    let (cluster, alone) = (Cluster::with(SERVERS[0], 0, &[]), Redis::start());
    let builder = Sidecar::builder().config(&config(&cluster.url())).expect(warnings::UPSTREAM_AWAY);
    let sidecar = builder.expect(&[warnings::NODE_SILENT]).start();
    fill(&sidecar, 30);
    let cursor = |told: &str| told.lines().nth(2).expect("a cursor").to_owned();
    let (mut masters, mut slots) = (sidecar.wire(), sidecar.wire());
    let begun = |wire: &mut Wire, count: usize| {
        let mut told = wire.ask(&format!("SCAN 0 COUNT {count}"));
        // Definitions have keys, too, and come first.
        while !told.contains("\nk:") {
            told = wire.ask(&format!("SCAN {} COUNT {count}", cursor(&told)));
        }
        cursor(&told)
    };
    let (of_masters, mut of_slots) = (begun(&mut masters, 1), begun(&mut slots, 1000));
    // All slots of one master are read again, which takes many pages.
    let bumped = |port: &u16| Wire::tcp(*port).ask("CLUSTER BUMPEPOCH").contains("BUMPED");
    assert!(cluster.masters().iter().any(bumped));
    (0..6).for_each(|_| of_slots = cursor(&slots.ask(&format!("SCAN {of_slots} COUNT 1000"))));
    assert!(of_masters != "0" && of_slots != "0");
    reload(&sidecar, &config(&alone.url()));
    for (wire, cursor) in [(&mut masters, of_masters), (&mut slots, of_slots)] {
        until("it goes to the one server", || {
            wire.ask("SET moved 1");
            alone.wire().ask("DEL moved") == ":1\r\n"
        });
        let told = wire.ask(&format!("SCAN {cursor} COUNT 1000"));
        assert!(told.starts_with("-ERR invalid cursor"), "{told}");
        assert_eq!(wire.ask("PING"), "+PONG\r\n", "it is not closed");
    }
}
