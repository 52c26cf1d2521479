//! A client that keeps what it reads (CLIENT TRACKING), while slots move and masters are replaced: what it keeps is what
//! is there, or it has been told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use super::Cluster;
use super::tracking::in_front_of;
use crate::support::nodes::slot_of;
use crate::support::redis::{SERVERS, Server};
use crate::support::until;
use crate::support::wire::{Wire, line};

const KEYS: u64 = 60;
const REDIRECTED: &str = "__redis__:invalidate";

fn key(number: u64) -> String {
    format!("key:{number}")
}

/// The other threads end with this.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// What a client of RESP3 keeps.
#[derive(Default)]
struct Cache {
    kept: HashMap<String, String>,
    forgotten: u64,
    heard: u64,
}

impl Cache {
    /// Takes in a push message; false for a reply.
    fn hears(&mut self, frame: &str) -> bool {
        if !frame.starts_with('>') {
            return false;
        }
        let words: Vec<&str> = frame.lines().collect();
        assert_eq!(words[2], "invalidate", "{frame}");
        if words[3] == "_" {
            self.kept.clear();
            self.forgotten += 1;
        }
        words.iter().skip(5).step_by(2).for_each(|key| {
            self.kept.remove(*key);
            self.heard += 1;
        });
        true
    }

    /// Reads keys that are not kept, in one pipeline.
    fn read(&mut self, wire: &mut Wire, keys: &[String]) {
        let missing: Vec<&String> = keys.iter().filter(|key| !self.kept.contains_key(*key)).collect();
        let bytes: Vec<u8> = missing.iter().flat_map(|key| line(&format!("GET {key}"))).collect();
        wire.send(&bytes);
        for key in missing {
            let mut told = wire.text();
            while self.hears(&told) {
                told = wire.text();
            }
            if !told.starts_with('-') {
                self.kept.insert(key.clone(), told);
            }
        }
    }

    /// Hears what is there.
    fn listen(&mut self, wire: &mut Wire) {
        wire.send(&line("PING"));
        while self.hears(&wire.text()) {}
    }
}

#[test]
fn what_a_client_keeps_is_what_is_there_while_slots_move_and_masters_are_replaced() {
    SERVERS.into_iter().for_each(keeps_what_is_there);
}

fn keeps_what_is_there(server: Server) {
    let cluster = Cluster::of(server);
    let sidecar = in_front_of(&cluster);
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let (sidecar, stop, written, keys) = (&sidecar, &stop, &written, &keys);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut writer = sidecar.wire();
            for number in 0.. {
                if stop.load(Relaxed) {
                    break;
                }
                let told = writer.ask(&format!("SET {} {number}", key(number * 7 % KEYS)));
                written.fetch_add(u64::from(told == "+OK\r\n"), Relaxed);
            }
        });
        for options in ["", " BCAST PREFIX key:", " BCAST"] {
            scope.spawn(move || {
                let (mut wire, mut cache) = (sidecar.wire(), Cache::default());
                wire.ask("HELLO 3");
                assert_eq!(wire.ask(&format!("CLIENT TRACKING ON{options}")), "+OK\r\n");
                while !stop.load(Relaxed) {
                    keys.chunks(10).for_each(|keys| cache.read(&mut wire, keys));
                }
                let mut truth = sidecar.wire();
                until("what is kept is what is there", || {
                    cache.listen(&mut wire);
                    let is_there = |(key, value): (&String, &String)| truth.ask(&format!("GET {key}")) == *value;
                    cache.kept.iter().all(is_there)
                });
                cache.read(&mut wire, keys);
                assert!(cache.kept.len() as u64 == KEYS && cache.heard > 0 && cache.forgotten > 0);
            });
        }
        let _ends = AtEnd(stop);
        let masters = cluster.masters();
        for (slot, to) in keys.iter().map(|key| slot_of(key)).take(6).zip(masters.iter().cycle()) {
            for to in [*to, masters[1]] {
                cluster.move_slot(slot, to);
                cluster.healthy();
            }
        }
        for master in &masters {
            cluster.fail_over(*master);
        }
        let before = written.load(Relaxed);
        until("it is written again", || written.load(Relaxed) > before + 100);
    });
}

#[test]
fn a_client_of_resp2_keeps_nothing_that_is_not_there_when_a_master_is_killed() {
    let mut cluster = Cluster::start();
    let sidecar = in_front_of(&cluster);
    let (mut ear, mut data, mut writer) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    let id = ear.ask("CLIENT ID")[1..].trim_end().to_owned();
    ear.ask(&format!("SUBSCRIBE {REDIRECTED}"));
    assert_eq!(data.ask(&format!("CLIENT TRACKING ON REDIRECT {id}")), "+OK\r\n");
    let victim = cluster.masters()[1];
    let victims = cluster.key_of(victim);
    for key in cluster.key_of_each() {
        writer.ask(&format!("SET {key} 1"));
        data.ask(&format!("GET {key}"));
    }
    cluster.kill(victim);
    let told = ear.text();
    assert!(told.ends_with("invalidate\r\n$-1\r\n"), "{told}");
    cluster.replaced(&victims);
    let mut fresh = String::new();
    until("it is read again", || {
        fresh = data.ask(&format!("GET {victims}"));
        !fresh.starts_with('-')
    });
    until("it is written again", || writer.ask(&format!("SET {victims} 2")) == "+OK\r\n");
    while !ear.text().contains(&victims) {}
    assert_eq!(data.ask(&format!("GET {victims}")), "$1\r\n2\r\n");
    assert!(Wire::tcp(cluster.owner(slot_of(&victims))).ask(&format!("GET {victims}")).contains('2'));
}
