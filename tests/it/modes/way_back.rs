//! The way back from the mode `fallback`: what is not at the upstream is said, and keys go back to the database that
//! they came from.

use super::place::{NOTES, Place, config};
use crate::operations::reload::reload;
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;
use crate::support::{until, warnings};

fn mode(wire: &mut Wire, words: &str) -> String {
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} {words}"))
}

/// That keys may be missing at the upstream.
const UNKNOWN: &str = "which keys were taken from the upstream is not known of all of that time";

/// That what is deleted may be there.
const OLD: &str = "keys that were deleted, or have ended, while the mapping was on";

#[test]
fn what_is_not_known_of_the_time_before_is_said_on_the_way_back() {
    let place = Place::new();
    let fallen = || place.builder("mode = \"fallback\"").start();
    let taken = |sidecar: &Sidecar, key: &str| {
        place.redis.wire().ask(&format!("HSET {key} text theirs"));
        assert_eq!(sidecar.wire().ask(&format!("HSET {key} text ours")), ":0\r\n");
    };
    let before = fallen();
    taken(&before, "note:5000");
    drop(before);
    let sidecar = fallen();
    let mut wire = sidecar.wire();
    let told = mode(&mut wire, "off");
    assert!(told.contains(UNKNOWN), "{told}");
    assert_eq!(wire.ask("HGET note:5000 text"), "$-1\r\n", "as it says");
    // From here on everything is known.
    mode(&mut wire, "fallback");
    taken(&sidecar, "note:5001");
    let told = mode(&mut wire, "off");
    assert!(!told.contains(UNKNOWN), "{told}");
    assert_eq!(wire.ask("HGET note:5001 text"), "$4\r\nours\r\n");
    // While it was on nobody noted what was written.
    mode(&mut wire, "on");
    wire.ask("HSET note:1 text ours");
    mode(&mut wire, "fallback");
    let told = mode(&mut wire, "shadow");
    assert!(told.contains(UNKNOWN), "{told}");
}

#[test]
fn copies_that_come_back_behind_on_are_said() {
    let place = Place::new();
    let sidecar = place.builder("mode = \"fallback\"").start();
    let (mut redis, mut wire) = (place.redis.wire(), sidecar.wire());
    redis.ask("HSET note:1 text theirs");
    assert!(!mode(&mut wire, "on").contains(OLD));
    assert_eq!(wire.ask("DEL note:1"), ":1\r\n");
    let told = mode(&mut wire, "fallback");
    assert!(told.contains(OLD), "{told}");
    assert_eq!(wire.ask("HGET note:1 text"), "$6\r\ntheirs\r\n", "as it says");
    // A file that says so is read again: nobody asks, so it stands in the log.
    mode(&mut wire, "on");
    assert_eq!(sidecar.log().matches(OLD).count(), 1);
    reload(&sidecar, &config("mode = \"fallback\""));
    assert_eq!(sidecar.log().matches(OLD).count(), 2, "{}", sidecar.log());
}

#[test]
fn a_block_that_a_reload_takes_away_gives_its_keys_back() {
    let place = Place::new();
    let sidecar = place.builder("mode = \"fallback\"").start();
    let (mut redis, mut wire) = (place.redis.wire(), sidecar.wire());
    redis.ask("HSET note:5000 text theirs");
    assert_eq!(wire.ask("HSET note:5000 text ours"), ":0\r\n");
    let text = config("mode = \"fallback\"");
    let without = &text[..text.find("[[caches]]").expect("a cache")];
    reload(&sidecar, without);
    assert_eq!(wire.ask("HGET note:5000 text"), "$4\r\nours\r\n");
    assert_eq!(redis.ask("HGET note:5000 text"), "$4\r\nours\r\n");
}

/// Only the store has them, and they are not forgotten.
#[test]
fn while_the_upstream_is_away_the_mapping_stays() {
    let mut place = Place::new();
    let sidecar =
        place.builder("mode = \"fallback\"").expect(warnings::UPSTREAM_AWAY).expect(&[warnings::OTHER_MODE]).start();
    let mut wire = sidecar.wire();
    place.redis.wire().ask("HSET note:5000 text theirs");
    assert_eq!(wire.ask("HSET note:5000 text ours"), ":0\r\n");
    place.redis.kill();
    for words in ["off", "shadow", "fallback 0"] {
        let told = mode(&mut wire, words);
        assert!(told.contains("stay as they were; ask again"), "{words}: {told}");
        assert!(wire.ask("HEARTHSIDE MODE").contains("fallback"), "{words}");
    }
    place.redis.launch();
    until("it goes", || {
        let told = mode(&mut wire, "off");
        !told.contains("stay as they were")
    });
    assert_eq!(wire.ask("HGET note:5000 text"), "$4\r\nours\r\n");
}

#[test]
fn keys_of_another_database_are_read_there_and_not_taken_from_it() {
    let place = Place::new();
    let sidecar = place.builder("mode = \"fallback\"").start();
    let (mut redis, mut wire) = (place.redis.wire(), sidecar.wire());
    redis.ask("SELECT 1");
    redis.ask("HSET note:5000 text theirs");
    wire.ask("SELECT 1");
    assert_eq!(wire.ask("HGET note:5000 text"), "$6\r\ntheirs\r\n");
    for request in ["HSET note:5000 text ours", "DEL note:5000", "EXPIRE note:5000 100"] {
        let told = wire.ask(request);
        assert!(told.contains("of database 0 (upstream.url), and this client is in database 1"), "{request}: {told}");
    }
    wire.ask("MULTI");
    assert!(wire.ask("HGET note:5000 text").contains("this client is in database 1"));
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    // Inside a transaction, too.
    wire.ask("SELECT 0");
    wire.ask("MULTI");
    wire.ask("SELECT 1");
    assert!(wire.ask("HINCRBY note:5000 seen 1").contains("this client is in database 1"));
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    wire.ask("SELECT 1");
    mode(&mut wire, "off");
    assert_eq!(wire.ask("HGET note:5000 text"), "$6\r\ntheirs\r\n");
    // With the database in upstream.url a client is in it from the start.
    let sidecar = place.builder("mode = \"fallback\"").set("UPSTREAM__URL", format!("{}/1", place.redis.url())).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET note:5000 text ours"), ":0\r\n");
    assert!(mode(&mut wire, "off").contains("off"));
    assert_eq!(redis.ask("HGET note:5000 text"), "$4\r\nours\r\n");
}
