//! Keys of several slots in one command: split and joined, or refused.

use super::before;
use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::postgres::Postgres;
use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::demo;
use crate::support::warnings;
use crate::support::wire::{Wire, array};

/// The client speaks this protocol from now on.
pub fn speaking(mut wire: Wire, protocol: u8) -> Wire {
    wire.ask(&format!("HELLO {protocol}"));
    wire
}

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).into_owned()
}

fn values(words: &[&str]) -> String {
    text(&array(words))
}

#[test]
fn many_keys_of_one_slot_stay_in_one_command() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    let [a, b] = [0, 1].map(|i| cluster.key_of(cluster.masters()[i]));
    let mset = ["MSET", &format!("{{{a}}}1"), "1", &format!("{{{a}}}2"), "2"];
    assert_eq!(text(&wire.call(&mset)), "+OK\r\n");
    let keys = [format!("{{{a}}}1"), b.clone(), format!("{{{a}}}2")];
    let calls = |port: u16| {
        let told = Wire::tcp(port).ask("INFO commandstats");
        let line = told.lines().find_map(|line| line.strip_prefix("cmdstat_mget:calls="));
        line.map_or(0, |line| line.split(',').next().and_then(|calls| calls.parse::<u64>().ok()).expect("a number"))
    };
    let owner = cluster.owner(slot_of(&a));
    let before = calls(owner);
    wire.ask(&format!("SET {b} 3"));
    assert_eq!(wire.ask(&format!("MGET {}", keys.join(" "))), values(&["1", "3", "2"]));
    assert_eq!(calls(owner), before + 1);
}

#[test]
fn an_error_of_one_part_is_the_reply() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).set("UPSTREAM__CLUSTER_SPLIT", "true").start();
    let keys = cluster.key_of_each();
    let owner = cluster.owner(slot_of(&keys[1]));
    let full = Wire::tcp(owner).ask("CONFIG SET maxmemory 1");
    assert_eq!(full, "+OK\r\n");
    let mut wire = sidecar.wire();
    let told = wire.ask(&format!("MSET {} 1 {} 2 {} 3", keys[0], keys[1], keys[2]));
    assert!(told.starts_with("-OOM"), "{told}");
    assert_eq!(wire.ask(&format!("EXISTS {}", keys.join(" "))), ":2\r\n", "the others were set");
}

#[test]
fn what_cannot_be_split_says_so() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let keys = cluster.key_of_each();
    let [a, b] = [&keys[0], &keys[1]];
    for is_split in [false, true] {
        let sidecar = before(&cluster).set("UPSTREAM__CLUSTER_SPLIT", is_split.to_string()).start();
        let mut wire = sidecar.wire();
        let told = wire.ask(&format!("MSET {a} 1 {b} 2"));
        assert_eq!(told.contains("upstream.cluster_split = true"), !is_split, "{told}");
        for command in [format!("MSETNX {a} 1 {b} 2"), format!("RENAME {a} {b}"), format!("SINTERSTORE {a} {a} {b}")] {
            let told = wire.ask(&command);
            assert!(told.starts_with("-CROSSSLOT hearthside: ") && told.contains("cannot be split"), "{told}");
        }
        wire.ask("MULTI");
        assert!(wire.ask(&format!("DEL {a} {b}")).starts_with("-CROSSSLOT"));
        assert!(wire.ask("DBSIZE").starts_with("-ERR hearthside: DBSIZE concerns several nodes"));
        wire.ask("DISCARD");
    }
}

#[test]
fn every_part_follows_its_slot() {
    let cluster = Cluster::with(SERVERS[0], 0, &[]);
    let sidecar = before(&cluster).start();
    let (mut wire, masters) = (sidecar.wire(), cluster.masters());
    let keys: Vec<String> = masters.iter().map(|master| cluster.key_of(*master)).collect();
    for key in &keys {
        wire.ask(&format!("SET {key} {key}"));
    }
    // One has moved, of another one the key has, and the sidecar's map is the one before.
    cluster.move_slot(slot_of(&keys[0]), masters[1]);
    let on = cluster.begin_move(slot_of(&keys[1]), masters[2]);
    assert!(cluster.carry(on, &[&keys[1]]));
    let words: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(wire.ask(&format!("MGET {}", keys.join(" "))), values(&words));
    assert_eq!(wire.ask(&format!("DEL {} nosuch", keys.join(" "))), ":3\r\n");
    cluster.finish_move(on);
    assert_eq!(wire.ask(&format!("EXISTS {}", keys.join(" "))), ":0\r\n");
}

#[test]
fn owned_keys_stand_among_those_of_several_slots() {
    let (cluster, redis, postgres) = (Cluster::with(SERVERS[0], 0, &[]), Redis::start(), Postgres::start());
    let demo = demo(&redis, &postgres).set("UPSTREAM__URL", cluster.url()).expect(warnings::UPSTREAM_AWAY);
    let sidecar = demo.start();
    let keys = cluster.key_of_each();
    for protocol in [2, 3] {
        let (mut wire, nil) = (speaking(sidecar.wire(), protocol), if protocol == 3 { "_\r\n" } else { "$-1\r\n" });
        keys.iter().for_each(|key| assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n"));
        let all = format!("{} location:castle:cache {} nosuch {}", keys[0], keys[1], keys[2]);
        let one = "$1\r\n1\r\n";
        assert_eq!(wire.ask(&format!("MGET {all}")), format!("*5\r\n{one}{nil}{one}{nil}{one}"));
        let there: u32 =
            wire.ask("EXISTS location:castle:cache").trim_matches([':', '\r', '\n']).parse().expect("a count");
        assert_eq!(wire.ask(&format!("EXISTS {all}")), format!(":{}\r\n", 3 + there));
    }
}
