//! What becomes of clients while a mapping changes over to another mode.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::place::{NOTES, Place};
use crate::support::admin::metric;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn pipelined(wire: &mut Wire, requests: impl Iterator<Item = String>) -> Vec<String> {
    let requests: Vec<String> = requests.collect();
    wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
    requests.iter().map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect()
}

#[test]
fn a_percentage_is_of_the_keys_and_a_larger_one_only_adds() {
    let place = Place::new();
    let sidecar = place.builder("percent = 10").start();
    let mut wire = sidecar.wire();
    let mut owned = |percent: u32| {
        wire.ask(&format!("HEARTHSIDE MODE {NOTES} on {percent}"));
        let there = pipelined(&mut wire, (1..=2000).map(|id| format!("EXISTS note:{id}")));
        let there: Vec<usize> = (0..2000).filter(|at| there[*at] == ":1\r\n").collect();
        let listed = wire.ask("KEYS note:*");
        assert!(listed.starts_with(&format!("*{}\r\n", there.len())), "the same keys are listed");
        there
    };
    let ten = owned(10);
    assert!((150..250).contains(&ten.len()), "{}", ten.len());
    let thirty = owned(30);
    assert!((500..700).contains(&thirty.len()) && ten.iter().all(|key| thirty.contains(key)), "{}", thirty.len());
    assert_eq!(owned(0).len(), 0);
    assert_eq!(owned(10), ten, "the same ones again");
    assert_eq!(owned(100).len(), 2000);
}

#[test]
fn writes_that_were_taken_are_in_the_store_before_the_upstream_answers() {
    let place = Place::new();
    let sidecar = place.builder("").set("JOURNAL__FLUSH_INTERVAL", "1h").start();
    let mut wire = sidecar.wire();
    let told = pipelined(&mut wire, (1..=200).map(|id| format!("HSET note:{id} text b seen 7")));
    assert!(told.iter().all(|reply| reply == ":0\r\n"), "{told:?}");
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} off"));
    assert_eq!(place.sql("SELECT count(*) FROM notes WHERE text = 'b' AND seen = 7"), "200", "deferred ones, too");
    assert_eq!(wire.ask("EXISTS note:1"), ":0\r\n");
}

#[test]
fn a_write_that_is_under_way_ends_before_the_mode_is_another() {
    let place = Place::new();
    let sidecar = place.builder("").start();
    let (mut lock, mut writer, mut other) = (place.session(), sidecar.wire(), sidecar.wire());
    lock.run("BEGIN; UPDATE notes SET text = 'locked' WHERE id = 1;");
    writer.send(&line("HSET note:1 text written"));
    place.until_one_waits();
    let mut operator = sidecar.wire();
    operator.send(&line(&format!("HEARTHSIDE MODE {NOTES} off")));
    until("it is changing over", || other.ask("PING") == "+PONG\r\n" && is_held(&mut sidecar.wire()));
    lock.run("COMMIT;");
    assert_eq!(writer.frame(), b":0\r\n");
    assert!(String::from_utf8_lossy(&operator.frame()).contains("off"));
    assert_eq!(place.text(1), "written");
    assert_eq!(writer.ask("HGET note:1 text"), "$-1\r\n", "the upstream has no such key");
}

/// True when a request for a note is not answered at once.
fn is_held(wire: &mut Wire) -> bool {
    wire.send(&line("HGET note:2 text"));
    wire.is_silent(Duration::from_millis(50))
}

#[test]
fn the_upstream_is_back_though_the_store_does_not_answer() {
    let place = Place::new();
    let sidecar = place.builder("").set("STORE__QUERY_TIMEOUT", "30s").expect(&[warnings::OTHER_MODE]).start();
    let (mut lock, mut wire, mut writer) = (place.session(), sidecar.wire(), sidecar.wire());
    lock.run("BEGIN; UPDATE notes SET text = 'locked' WHERE id = 1;");
    writer.send(&line("HSET note:1 text b"));
    place.until_one_waits();
    let told = wire.ask("HEARTHSIDE MODE ALL off");
    assert!(told.contains("the store has not ended within 2 s"), "{told}");
    assert_eq!(wire.ask("HSET note:1 text c"), ":1\r\n");
    assert_eq!(sidecar.wire().ask("HGET note:1 text"), "$1\r\nc\r\n");
    lock.run("COMMIT;");
    assert_eq!(writer.frame(), b":0\r\n", "it is answered when the store has it");
    assert_eq!(place.text(1), "b");
}

#[test]
fn a_transaction_of_before_is_not_run_by_the_other_one() {
    let place = Place::new();
    let sidecar = place.builder("").start();
    let [mut queued, mut watching, mut elsewhere, mut plain] = [(); 4].map(|()| sidecar.wire());
    queued.ask("MULTI");
    assert_eq!(queued.ask("HSET note:1 text b"), "+QUEUED\r\n");
    watching.ask("WATCH note:1");
    elsewhere.ask("MULTI");
    assert_eq!(elsewhere.ask("HGET place:1 name"), "+QUEUED\r\n");
    plain.ask("MULTI");
    plain.ask("SET plain 1");
    sidecar.wire().ask(&format!("HEARTHSIDE MODE {NOTES} off"));
    assert!(queued.ask("EXEC").starts_with("-EXECABORT"));
    watching.ask("MULTI");
    watching.ask("SET plain 2");
    assert!(watching.ask("EXEC").starts_with("-EXECABORT"), "the store's key is watched no more");
    assert_eq!(elsewhere.ask("EXEC"), "*1\r\n$4\r\nhere\r\n", "the other mapping is as it was");
    assert_eq!(plain.ask("EXEC"), "*1\r\n+OK\r\n");
    assert_eq!(place.text(1), "a");
    // And in the other direction.
    queued.ask("MULTI");
    assert_eq!(queued.ask("HSET note:1 text b"), "+QUEUED\r\n");
    sidecar.wire().ask(&format!("HEARTHSIDE MODE {NOTES} on"));
    assert!(queued.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(place.redis.wire().ask("EXISTS note:1"), ":0\r\n");
}

#[test]
fn a_client_that_tracks_is_told_to_forget_what_it_keeps() {
    let place = Place::new();
    let sidecar = place.builder("mode = \"off\"").start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("HELLO 3").starts_with('%'));
    assert_eq!(wire.ask("CLIENT TRACKING ON"), "+OK\r\n");
    wire.ask("HGET note:1 text");
    sidecar.wire().ask(&format!("HEARTHSIDE MODE {NOTES} on"));
    assert_eq!(wire.frame(), b">2\r\n$10\r\ninvalidate\r\n_\r\n");
    assert_eq!(wire.ask("HGET note:1 text"), "$1\r\na\r\n");
}

#[test]
fn a_client_that_tracks_is_told_behind_what_the_upstream_has_been_asked() {
    let place = Place::new();
    place.redis.wire().ask("HSET note:1 text theirs");
    let sidecar = place.builder("mode = \"off\"").start();
    let (mut wire, mut operator) = (sidecar.wire(), sidecar.wire());
    assert!(wire.ask("HELLO 3").starts_with('%'));
    assert_eq!(wire.ask("CLIENT TRACKING ON"), "+OK\r\n");
    assert_eq!(operator.ask("PING"), "+PONG\r\n");
    place.redis.pause(true);
    wire.send(&line("HGET note:1 text"));
    until("it is asked", || operator.ask("CLIENT LIST").contains("cmd=hget"));
    let told = operator.ask(&format!("HEARTHSIDE MODE {NOTES} on"));
    assert!(told.starts_with('*'), "{told}");
    assert!(wire.is_silent(Duration::from_millis(500)), "nothing overtakes the reply");
    place.redis.pause(false);
    assert_eq!(wire.frame(), b"$6\r\ntheirs\r\n");
    assert_eq!(wire.frame(), b">2\r\n$10\r\ninvalidate\r\n_\r\n", "what it was just answered, too");
    assert_eq!(wire.ask("HGET note:1 text"), "$1\r\na\r\n");
}

#[test]
fn under_load_no_reply_is_an_error() {
    const ROUNDS: usize = 20;
    let place = Place::new();
    let sidecar = place.builder("").start();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (is_over, done) = (|| stop.load(SeqCst), &done);
    thread::scope(|scope| {
        let clients: Vec<_> = (1..=8)
            .map(|id| {
                let mut wire = sidecar.wire();
                scope.spawn(move || {
                    let mut round = 0;
                    while !is_over() {
                        round += 1;
                        let set = wire.ask(&format!("HSET note:{id} text {round}"));
                        let added = wire.ask(&format!("HINCRBY counts:{id} {round} 1"));
                        assert!(set.starts_with(':') && added == ":1\r\n", "{set} {added}");
                        let got = wire.ask(&format!("HGET note:{id} text"));
                        assert!(got.starts_with('$'), "{got}");
                        done.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let mut operator = sidecar.wire();
        for round in 0..ROUNDS {
            let mode = if round % 2 == 0 { "off" } else { "on" };
            let told = operator.ask(&format!("HEARTHSIDE MODE {NOTES} {mode}"));
            assert!(told.starts_with('*'), "{told}");
            let before = done.load(SeqCst);
            until("clients go on", || done.load(SeqCst) >= before + 40);
        }
        stop.store(true, SeqCst);
        clients.into_iter().for_each(|client| client.join().expect("a client without an error"));
    });
}

#[test]
fn a_scan_that_began_here_does_not_go_on_at_the_upstream() {
    let place = Place::new();
    let sidecar = place.builder("").start();
    let mut wire = sidecar.wire();
    let mut scan = |cursor: &str| {
        let told = wire.ask(&format!("SCAN {cursor} COUNT 1000"));
        (told.split("\r\n").nth(2).expect("a cursor").to_owned(), told)
    };
    let (mut cursor, _) = scan("0");
    sidecar.wire().ask("HEARTHSIDE MODE ALL off");
    place.redis.wire().ask("SET plain 1");
    let mut seen = String::new();
    while cursor != "0" {
        let (next, told) = scan(&cursor);
        (cursor, seen) = (next, seen + &told);
    }
    assert!(seen.contains("plain"), "the upstream's own iteration is not left out: {seen}");
}

#[test]
fn a_deferred_write_that_rests_is_waited_for() {
    let place = Place::new();
    let sidecar = place
        .builder("")
        .set("JOURNAL__FLUSH_INTERVAL", "10ms")
        .set("STORE__QUERY_TIMEOUT", "200ms")
        .expect(&[warnings::OTHER_MODE, warnings::DEFERRED_WAIT])
        .start();
    let (mut lock, mut wire) = (place.session(), sidecar.wire());
    lock.run("BEGIN; UPDATE notes SET text = 'locked' WHERE id = 1;");
    assert_eq!(wire.ask("HSET note:1 seen 7"), ":0\r\n");
    let refused = "hearthside_flushes_total{outcome=\"error\"}";
    until("the store has not taken it", || metric(&sidecar, refused) > 0.0);
    let told = wire.ask(&format!("HEARTHSIDE MODE {NOTES} off"));
    assert!(told.contains("the store has not ended within 2 s"), "{told}");
    lock.run("COMMIT;");
    until("it is saved", || place.sql("SELECT seen FROM notes WHERE id = 1") == "7");
}
