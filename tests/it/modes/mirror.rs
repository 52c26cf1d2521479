//! `mirror = true`: what is written while a mapping is on is at the upstream when it is switched off.

use super::crowd::reads_what_it_wrote;
use super::place::{NOTES, Place, config};
use crate::support::admin::metric;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;

fn mirrored(place: &Place) -> Builder {
    place
        .builder("")
        .config(&config("").replace("write = \"through\"", "write = \"through\"\nmirror = true\nttl = \"1h\""))
}

fn off(sidecar: &Sidecar) -> String {
    sidecar.wire().ask(&format!("HEARTHSIDE MODE {NOTES} off"))
}

#[test]
fn what_was_written_is_there_when_the_mapping_is_switched_off() {
    let place = Place::new();
    let mut redis = place.redis.wire();
    redis.ask("HSET note:1 text old more x");
    redis.ask("HSET note:2 text old");
    let sidecar = mirrored(&place).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET note:1 text b seen 5"), ":0\r\n");
    assert_eq!(wire.ask("DEL note:2"), ":1\r\n");
    wire.ask("MULTI");
    wire.ask("HSET note:3 text c");
    wire.ask("HINCRBY note:3 seen 7");
    assert!(wire.ask("EXEC").starts_with("*2\r\n"));
    assert_eq!(wire.ask("HSET note:9000 text new"), ":1\r\n");
    assert!(!off(&sidecar).contains("mirror"));
    assert_eq!(wire.ask("HGETALL note:1"), "*4\r\n$4\r\ntext\r\n$1\r\nb\r\n$4\r\nseen\r\n$1\r\n5\r\n");
    assert_eq!(wire.ask("EXISTS note:2"), ":0\r\n", "what was deleted is gone");
    assert_eq!(wire.ask("HMGET note:3 text seen"), "*2\r\n$1\r\nc\r\n$1\r\n7\r\n");
    assert_eq!(wire.ask("HGET note:9000 text"), "$3\r\nnew\r\n");
    assert_eq!(wire.ask("TTL note:1"), ":-1\r\n", "its row has no end, however long memory keeps it");
    assert_eq!(wire.ask("EXISTS note:4"), ":0\r\n", "what nobody wrote is as it was");
}

#[test]
fn it_is_brought_there_in_the_background_and_again_when_the_upstream_is_back() {
    let place = Place::new();
    let sidecar = mirrored(&place).start();
    let (mut wire, mut redis) = (sidecar.wire(), place.redis.wire());
    wire.ask("HSET note:1 text b");
    until("it is there", || redis.ask("HGET note:1 text") == "$1\r\nb\r\n");
    until("nothing waits", || metric(&sidecar, "hearthside_mirror_waiting") == 0.0);
    // A key that cannot be written there now.
    redis.ask("CONFIG SET maxmemory 1");
    wire.ask("HSET note:1 text c");
    until("it waits", || metric(&sidecar, "hearthside_mirror_waiting") == 1.0);
    redis.ask("CONFIG SET maxmemory 0");
    until("it is there", || redis.ask("HGET note:1 text") == "$1\r\nc\r\n");
}

#[test]
fn all_sidecars_of_the_store_bring_what_was_written_through_them() {
    let place = Place::new();
    let [one, other] = [(); 2].map(|()| mirrored(&place).start());
    assert_eq!(one.wire().ask("HSET note:1 text b"), ":0\r\n");
    assert_eq!(other.wire().ask("HSET note:2 text c"), ":0\r\n");
    off(&one);
    let mut redis = place.redis.wire();
    assert_eq!(redis.ask("HGET note:1 text"), "$1\r\nb\r\n");
    until("the other one has brought its own", || redis.ask("HGET note:2 text") == "$1\r\nc\r\n");
    until("and is off", || other.wire().ask("HSET note:3 extra 1") == ":1\r\n");
}

#[test]
fn without_it_the_answer_says_what_is_missing() {
    let place = Place::new();
    let sidecar = place.builder("").start();
    sidecar.wire().ask("HSET note:1 text b");
    assert!(off(&sidecar).contains("is in the store, and not at the upstream"));
}

/// C1 over the way back: every client reads what it has written, whoever answers.
#[test]
fn every_client_reads_what_it_has_written_while_mappings_are_switched_off() {
    let place = Place::new();
    reads_what_it_wrote(&mirrored(&place).start(), (8, 1), &["off", "on"], |_, _, _| ());
}
