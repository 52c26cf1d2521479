//! Other masters take the places of those that are replaced, killed or hung.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::before;
use crate::faults::load::{Ask, Load, Seen};
use crate::support::clusters::Cluster;
use crate::support::nodes::{order, slot_of, told};
use crate::support::redis::SERVERS;
use crate::support::until;
use crate::support::wire::{Wire, line};

/// No reply went astray, and every error says what became of the command.
fn judge(seen: &[Seen], may_see: &[&str]) {
    for seen in seen {
        assert!(seen.wrong.is_empty(), "wrong replies: {:#?}", seen.wrong);
        for error in seen.errors.keys() {
            assert!(may_see.iter().any(|text| error.contains(text)), "client {} saw {error:?}", seen.id);
        }
    }
}

const UNCLEAR: &[&str] = &["may have been applied", "was not sent", "was lost", "CLUSTERDOWN"];

#[test]
fn a_failover_in_order_loses_nothing() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).set("SERVER__WORKERS", "2").start();
    let load = Load::start(sidecar.port, 6, &[Ask::Through]);
    load.go_on(10);
    for master in cluster.masters() {
        cluster.fail_over(master);
        load.go_on(10);
        cluster.healthy();
    }
    let seen = load.stop();
    judge(&seen, UNCLEAR);
    let mut wire = sidecar.wire();
    for seen in &seen {
        let count = wire.ask(&format!("GET count:{}", seen.id));
        let count: u64 = count.lines().nth(1).map_or(0, |text| text.parse().expect("a number"));
        let may_be = seen.counted..=seen.counted + seen.ambiguous;
        assert!(may_be.contains(&count), "client {}: {may_be:?} increments acknowledged, {count} kept", seen.id);
    }
}

/// Asks this again and again while each master is replaced in order.
fn while_failing_over(question: &[&str], is_right: impl Fn(&str) -> bool + Sync) {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let (mut wire, is_over) = (sidecar.wire(), AtomicBool::new(false));
    for n in 0..300 {
        wire.ask(&format!("SET key:{n} 1"));
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                let told = String::from_utf8_lossy(&wire.call(question)).into_owned();
                assert!(is_right(&told), "{told}");
            }
        });
        // A key of the new master's teaches the sidecar that one slot has moved.
        let mut other = sidecar.wire();
        for master in cluster.masters() {
            let key = cluster.key_of(master);
            cluster.fail_over(master);
            assert!(!other.ask(&format!("GET {key}")).starts_with('-'));
            cluster.healthy();
        }
        is_over.store(true, SeqCst);
    });
}

#[test]
fn no_shard_is_counted_twice_while_its_master_is_replaced() {
    while_failing_over(&["DBSIZE"], |told| told == ":300\r\n");
}

#[test]
fn what_all_masters_must_do_is_done_by_those_that_replace_others() {
    let library = "#!lua name=f\nredis.register_function('f', function() return 1 end)";
    while_failing_over(&["FUNCTION", "LOAD", "REPLACE", library], |told| !told.starts_with('-'));
}

#[test]
fn a_master_that_dies_is_replaced_and_nobody_has_to_connect_again() {
    let mut cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let master = cluster.masters()[0];
    let keys: Vec<String> = cluster.keys_of(master).take(3).collect();
    let [kept, queue, channel] = &keys[..] else { panic!("three names") };
    let (mut waiting, mut listening, mut wire) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    assert_eq!(wire.ask(&format!("SET {kept} 1")), "+OK\r\n");
    listening.send(&line(&format!("SUBSCRIBE {channel} __hearthside__:gap")));
    (0..2).for_each(|_| drop(listening.frame()));
    waiting.send(&line(&format!("BLPOP {queue} 0")));
    until("it waits", || Wire::tcp(master).ask("INFO clients").contains("blocked_clients:1"));
    cluster.kill(master);
    let told = String::from_utf8_lossy(&waiting.frame()).into_owned();
    assert!(told.contains("was lost while waiting"), "{told}");
    cluster.replaced(kept);
    let begun = Instant::now();
    until("writes are taken", || wire.ask(&format!("SET {kept} 2")) == "+OK\r\n");
    eprintln!("writes are taken {:?} after the switch", begun.elapsed());
    until("subscriptions are restored", || wire.ask(&format!("PUBLISH {channel} hello")) == ":1\r\n");
    until("it is heard", || String::from_utf8_lossy(&listening.frame()).contains("hello"));
    assert_eq!(waiting.ask(&format!("LPUSH {queue} x")), ":1\r\n");
}

#[test]
fn a_master_that_hangs_is_left() {
    let mut cluster = Cluster::start();
    let sidecar = before(&cluster).set("UPSTREAM__COMMAND_TIMEOUT", "60s").start();
    let master = cluster.masters()[1];
    let key = cluster.key_of(master);
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
    cluster.hang(master);
    wire.send(&line(&format!("INCR {key}")));
    let told = String::from_utf8_lossy(&wire.frame()).into_owned();
    assert!(told.contains("may have been applied"), "{told}");
    cluster.replaced(&key);
    until("writes are taken", || wire.ask(&format!("SET {key} 2")) == "+OK\r\n");
    cluster.wake(master);
    // It believes for a moment that it is the master.
    for _ in 0..50 {
        assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n2\r\n");
    }
    cluster.healthy();
    assert_eq!(wire.ask(&format!("GET {key}")), "$1\r\n2\r\n");
}

/// A node that takes the failed one for the owner of a slot, as some do until they have heard of its successor.
#[test]
fn a_node_that_has_failed_is_not_taken_for_the_owner_of_a_slot() {
    let mut cluster = Cluster::with(SERVERS[0], 1, &["--cluster-require-full-coverage", "no"]);
    let sidecar = before(&cluster).set("UPSTREAM__QUEUE_TIMEOUT", "20s").start();
    let master = cluster.masters()[1];
    let (key, failed) = (cluster.key_of(master), cluster.id(master));
    let mut clients = [(); 4].map(|()| sidecar.wire());
    cluster.kill(master);
    let successor = cluster.replaced(&key);
    until("it is left", || sidecar.log().contains("has failed, and another one has its slots"));
    let own = cluster.id(successor);
    order(successor, &format!("CLUSTER SETSLOT {} NODE {failed}", slot_of(&key)));
    for (client, command) in clients.iter_mut().zip(["GET KEY", "SET KEY 1", "EVAL return{} 1 KEY", "BLPOP KEY 1"]) {
        client.send(format!("{}\r\n", command.replace("KEY", &key)).as_bytes());
    }
    until("they are sent there", || {
        let told = told(successor, "INFO errorstats").expect("it answers");
        told.contains("errorstat_MOVED")
    });
    for client in &mut clients {
        assert!(client.is_silent(Duration::from_millis(50)), "{:?}", String::from_utf8_lossy(&client.frame()));
    }
    order(successor, &format!("CLUSTER SETSLOT {} NODE {own}", slot_of(&key)));
    for client in &mut clients {
        let told = String::from_utf8_lossy(&client.frame()).into_owned();
        assert!(!told.contains("hearthside"), "{told}");
    }
}

#[test]
fn the_other_masters_serve_while_one_is_missing() {
    let mut cluster = Cluster::with(SERVERS[0], 0, &["--cluster-require-full-coverage", "no"]);
    let sidecar = before(&cluster).set("UPSTREAM__QUEUE_TIMEOUT", "200ms").start();
    let masters = cluster.masters();
    let keys = cluster.key_of_each();
    let mut wire = sidecar.wire();
    cluster.kill(masters[0]);
    let mut other = sidecar.wire();
    until("its keys are refused", || other.ask(&format!("GET {}", keys[0])).starts_with('-'));
    for _ in 0..20 {
        for key in &keys[1..] {
            assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
        }
        // What waits for the missing one holds up nobody else.
        let begun = Instant::now();
        other.send(&line(&format!("GET {}", keys[0])));
        assert_eq!(wire.ask(&format!("GET {}", keys[1])), "$1\r\n1\r\n");
        let told = String::from_utf8_lossy(&other.frame()).into_owned();
        assert!(told.starts_with('-') && begun.elapsed() < Duration::from_secs(5), "{told} {:?}", begun.elapsed());
    }
    let told = wire.ask(&format!("MGET {} {}", keys[1], keys[0]));
    assert!(told.starts_with('-'), "half an answer is none: {told}");
    cluster.launch(masters[0]);
    until("all are served", || wire.ask(&format!("SET {} 1", keys[0])) == "+OK\r\n");
    assert_eq!(cluster.owner(slot_of(&keys[0])), masters[0]);
}
