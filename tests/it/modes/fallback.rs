//! The mode `fallback`: a key that the store has is answered as in `on`, and the upstream is asked for the others.

use super::crowd::reads_what_it_wrote;
use super::place::{NOTES, Place, config};
use crate::operations::reload::reload;
use crate::support::admin::metric;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

/// Mappings beside the notes: one that is not written, one of strings that end, one of sets.
const MORE: &str = r#"
[[caches]]
key = "fixed:{id:int}"
type = "hash"
query = "SELECT text, seen FROM notes WHERE id = $1"
watch = [{ table = "notes", key = { id = "id" } }]
mode = "fallback"

[[caches]]
key = "session:{id}"
type = "string"
table = "sessions"
key_columns = { id = "id" }
value = "data"
write = "through"
delete = "row"
expires_column = "ends"
ttl = "1h"
mode = "fallback"
"#;

fn fallen(place: &Place) -> Sidecar {
    building(place).start()
}

fn building(place: &Place) -> Builder {
    place.sql("CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, data TEXT, ends TIMESTAMPTZ)");
    place.builder("").config(&format!("{}{MORE}", config("mode = \"fallback\""))).migrated()
}

fn looked(sidecar: &Sidecar, outcome: &str) -> f64 {
    metric(sidecar, &format!("hearthside_fallback_total{{mapping=\"{NOTES}\",outcome=\"{outcome}\"}}"))
}

/// Some keys that the upstream has and the store has not.
fn planted(place: &Place) -> Wire {
    let mut redis = place.redis.wire();
    redis.ask("HSET note:5000 text theirs seen 5");
    redis.ask("HSET note:1 text stale");
    redis.ask("HSET place:elsewhere name there");
    redis.ask("HSET fixed:6000 text theirs");
    redis
}

#[test]
fn reads_are_answered_by_the_store_and_else_by_the_upstream() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (mut redis, mut wire) = (planted(&place), sidecar.wire());
    redis.ask("ZADD note:7000 1 a");
    for (request, expected) in [
        ("HGET note:1 text", "$1\r\na\r\n"),
        ("HGET note:5000 text", "$6\r\ntheirs\r\n"),
        ("HGETALL note:5000", "*4\r\n$4\r\ntext\r\n$6\r\ntheirs\r\n$4\r\nseen\r\n$1\r\n5\r\n"),
        ("TYPE note:7000", "+zset\r\n"),
        ("ZRANGE note:7000 0 -1", "*1\r\n$1\r\na\r\n"),
        ("HGET note:7000 text", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        ("HGET note:9999 text", "$-1\r\n"),
        ("TTL note:5000", ":-1\r\n"),
        ("EXISTS note:1 note:5000 note:9999 plain note:5000", ":3\r\n"),
        ("TOUCH note:5000 note:9999", ":1\r\n"),
        ("HGET place:1 name", "$4\r\nhere\r\n"),
        ("HGET place:elsewhere name", "$5\r\nthere\r\n"),
        ("EXISTS place:1 place:elsewhere place:nowhere", ":2\r\n"),
        ("HGET fixed:6000 text", "$6\r\ntheirs\r\n"),
        ("HGET fixed:1 text", "$1\r\na\r\n"),
    ] {
        assert_eq!(wire.ask(request), expected, "{request}");
    }
    assert!(wire.ask("ZRANGE note:1 0 -1").starts_with("-ERR hearthside: ZRANGE is not answered"));
    redis.ask("SET session:a theirs EX 1000");
    place.sql("INSERT INTO sessions VALUES ('b', 'ours', now() + interval '1 hour')");
    assert_eq!(wire.ask("MGET session:a session:b session:c"), "*3\r\n$6\r\ntheirs\r\n$4\r\nours\r\n$-1\r\n");
    assert_ne!(looked(&sidecar, "store"), 0.0);
    assert_ne!(looked(&sidecar, "upstream"), 0.0);
    assert_ne!(looked(&sidecar, "neither"), 0.0);
    assert_eq!(place.sql("SELECT count(*) FROM notes WHERE id > 2000"), "0", "nothing was brought over by a read");
    assert_eq!(redis.ask("EXISTS note:5000 fixed:6000"), ":2\r\n");
}

#[test]
fn a_write_brings_the_key_over_first_and_nothing_of_it_is_lost() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (mut redis, mut wire) = (planted(&place), sidecar.wire());
    assert_eq!(wire.ask("HSET note:5000 text ours"), ":0\r\n", "the field was there");
    assert_eq!(wire.ask("HGETALL note:5000"), "*4\r\n$4\r\ntext\r\n$4\r\nours\r\n$4\r\nseen\r\n$1\r\n5\r\n");
    assert_eq!(place.sql("SELECT text, seen FROM notes WHERE id = 5000"), "ours|5");
    assert_eq!(redis.ask("EXISTS note:5000"), ":0\r\n", "one side has it");
    assert_eq!(looked(&sidecar, "brought"), 1.0);
    assert_eq!(wire.ask("HSET note:1 text ours"), ":0\r\n");
    assert_eq!(wire.ask("HGET note:1 text"), "$4\r\nours\r\n", "whatever the upstream has of it");
    assert_eq!(wire.ask("HINCRBY note:5001 seen 3"), ":3\r\n", "neither had it");
    redis.ask("SET session:a theirs PX 500000");
    assert_eq!(wire.ask("APPEND session:a +"), ":7\r\n");
    assert_eq!(wire.ask("GET session:a"), "$7\r\ntheirs+\r\n");
    let left: i64 = wire.ask("PTTL session:a")[1..].trim().parse().expect("a number");
    assert!((400_000..=500_000).contains(&left), "its TTL came with it: {left}");
    redis.ask("SET session:b theirs");
    assert_eq!(wire.ask("SET session:b ours EX 100 GET"), "$6\r\ntheirs\r\n");
    assert_eq!(redis.ask("EXISTS session:a session:b"), ":0\r\n");
    // What is pipelined comes in its order.
    redis.ask("HSET note:5002 text theirs");
    for request in ["HGET note:5002 text", "HSET note:5002 text ours", "HGET note:5002 text", "DEL note:5002"] {
        wire.send(&crate::support::wire::line(request));
    }
    let told: Vec<String> = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(told, ["$6\r\ntheirs\r\n", ":0\r\n", "$4\r\nours\r\n", ":1\r\n"]);
}

#[test]
fn what_a_command_leaves_as_it_is_goes_back_to_the_upstream_too() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (mut redis, mut wire) = (planted(&place), sidecar.wire());
    place.sql("INSERT INTO sessions VALUES ('a', 'ours', now() + interval '1 hour')");
    redis.ask("SET session:a ours EX 3600");
    // The store has it: its copy is not removed at once, because an import that has just made the row would remove that.
    assert_eq!(wire.ask("EXPIRE session:a 1000"), ":1\r\n");
    assert_eq!(redis.ask("EXISTS session:a"), ":1\r\n");
    until("the copy has ended", || redis.ask("EXISTS session:a") == ":0\r\n");
    // Brought over, and then nothing is changed.
    assert_eq!(wire.ask("HSETNX note:5000 text other"), ":0\r\n");
    assert_eq!(redis.ask("EXISTS note:5000"), ":0\r\n");
    wire.ask("HEARTHSIDE MODE ALL off");
    assert_eq!(wire.ask("HGET note:5000 text"), "$6\r\ntheirs\r\n");
    assert_eq!(wire.ask("GET session:a"), "$4\r\nours\r\n");
}

#[test]
fn a_client_that_tracks_is_told_to_forget_what_it_has_read() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let mut wire = sidecar.wire();
    planted(&place);
    assert!(wire.ask("HELLO 3").starts_with('%'));
    assert_eq!(wire.ask("CLIENT TRACKING ON"), "+OK\r\n");
    wire.send(&crate::support::wire::line("EXISTS note:1 note:5000"));
    let told: Vec<String> = (0..3).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    let is_told = |key: &str| told.iter().any(|told| told.starts_with('>') && told.contains(key));
    assert!(is_told("note:1") && is_told("note:5000"), "{told:?}");
    // The upstream answers what the sidecar does not, and nobody hears of a change of that.
    place.redis.wire().ask("SET session:a theirs");
    wire.send(&crate::support::wire::line("GETBIT session:a 1"));
    let told: Vec<String> = (0..2).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert!(told.iter().any(|told| told == ":1\r\n"), "{told:?}");
    assert!(told.iter().any(|told| told.starts_with('>') && told.contains("session:a")), "{told:?}");
}

#[test]
fn what_is_removed_or_ends_does_not_come_back() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (mut redis, mut wire) = (planted(&place), sidecar.wire());
    assert_eq!(wire.ask("DEL note:1 note:5000 note:9999 plain"), ":2\r\n");
    assert_eq!(wire.ask("EXISTS note:1 note:5000"), ":0\r\n");
    assert_eq!(redis.ask("EXISTS note:1 note:5000"), ":0\r\n");
    assert_eq!(place.sql("SELECT count(*) FROM notes WHERE id = 1"), "0");
    assert_eq!(wire.ask("UNLINK fixed:6000"), ":1\r\n");
    assert_eq!(wire.ask("EXISTS fixed:6000"), ":0\r\n");
    redis.ask("SET session:a theirs");
    assert_eq!(wire.ask("PEXPIRE session:a 1"), ":1\r\n");
    until("it has ended", || wire.ask("EXISTS session:a") == ":0\r\n");
    redis.ask("SET session:b theirs");
    assert_eq!(wire.ask("GETDEL session:b"), "$6\r\ntheirs\r\n");
    assert_eq!(wire.ask("GET session:b"), "$-1\r\n");
    // A mapping that no command writes: the upstream's key is left to the upstream.
    redis.ask("HSET fixed:6001 text theirs");
    assert_eq!(wire.ask("EXPIRE fixed:6001 1000"), ":1\r\n");
    assert_ne!(redis.ask("TTL fixed:6001"), ":-1\r\n");
    assert_eq!(wire.ask("EXPIRE fixed:6002 1000"), ":0\r\n");
}

#[test]
fn what_does_not_fit_is_refused_and_stays() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (mut redis, mut wire) = (planted(&place), sidecar.wire());
    redis.ask("SADD note:6001 a");
    redis.ask("HSET note:6002 nosuch 1");
    redis.ask("HSET note:6003 seen nonumber");
    redis.ask("HSET note:6004 text theirs");
    redis.ask("EXPIRE note:6004 1000");
    for (request, why) in [
        ("HSET note:6001 text a", "its value is no hash, as keys of the mapping are"),
        ("HSET note:6002 text a", "nosuch"),
        ("HSET note:6003 text a", "seen"),
        ("HSET note:6004 text a", "it has a TTL, and the mapping has no expires_column"),
    ] {
        let told = wire.ask(request);
        assert!(
            told.starts_with("-ERR hearthside: HSET on 'note:") && told.contains("does not fit the mapping"),
            "{told}"
        );
        assert!(told.contains(why) && told.contains("DEL the key"), "{told}");
    }
    assert_eq!(redis.ask("EXISTS note:6001 note:6002 note:6003 note:6004"), ":4\r\n");
    assert_eq!(place.sql("SELECT count(*) FROM notes WHERE id > 6000"), "0");
    assert_eq!(looked(&sidecar, "refused"), 4.0);
    assert!(wire.ask("HSET fixed:6000 text a").contains("takes no writes"), "as in the mode on");
    assert_eq!(wire.ask("DEL note:6001 note:6002 note:6003"), ":3\r\n", "that is always possible");
    redis.ask("SADD session:7 a");
    redis.ask("SET session:8 theirs");
    wire.ask("MULTI");
    assert_eq!(wire.ask("DEL note:6004 session:7"), "+QUEUED\r\n", "there, too");
    assert_eq!(wire.ask("EXEC"), "*1\r\n:2\r\n");
    assert_eq!(redis.ask("EXISTS note:6004 session:7"), ":0\r\n");
    wire.ask("MULTI");
    assert_eq!(wire.ask("DEL session:8"), "+QUEUED\r\n");
    assert_eq!(wire.ask("EXEC"), "*1\r\n:1\r\n");
    assert_eq!((redis.ask("EXISTS session:8").as_str(), wire.ask("GET session:8").as_str()), (":0\r\n", "$-1\r\n"));
    assert!(wire.ask("EVAL return 1 note:5000").starts_with('-'));
}

#[test]
fn a_transaction_finds_in_the_store_what_the_upstream_had() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (mut redis, mut wire, mut other) = (planted(&place), sidecar.wire(), sidecar.wire());
    for request in
        ["MULTI", "HGET note:5000 text", "HINCRBY note:5000 seen 1", "EXISTS note:1 note:9999", "SET plain 1"]
    {
        assert!(wire.ask(request).starts_with('+'), "{request}");
    }
    assert_eq!(wire.ask("EXEC"), "*4\r\n$6\r\ntheirs\r\n:6\r\n:1\r\n+OK\r\n");
    assert_eq!(redis.ask("EXISTS note:5000"), ":0\r\n");
    // What is discarded has lost nothing.
    redis.ask("HSET note:5003 text theirs");
    for request in ["MULTI", "DEL note:5003", "DISCARD"] {
        assert!(wire.ask(request).starts_with('+'), "{request}");
    }
    assert_eq!(wire.ask("HGET note:5003 text"), "$6\r\ntheirs\r\n");
    // What cannot be brought over ends the transaction.
    wire.ask("MULTI");
    assert!(
        wire.ask("HGET fixed:6000 text").starts_with("-ERR hearthside: HGET on 'fixed:6000': only the upstream has")
    );
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    assert!(wire.ask("WATCH fixed:6000").starts_with("-ERR hearthside: WATCH on 'fixed:6000': only the upstream has"));
    redis.ask("HSET note:5004 text theirs");
    assert_eq!(wire.ask("WATCH note:5004"), "+OK\r\n");
    assert_eq!(other.ask("HSET note:5004 text others"), ":0\r\n");
    wire.ask("MULTI");
    wire.ask("HSET note:5004 text mine");
    assert_eq!(wire.ask("EXEC"), "*-1\r\n");
    assert_eq!(wire.ask("HGET note:5004 text"), "$6\r\nothers\r\n");
}

#[test]
fn keys_of_both_sides_are_listed_each_once() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (_redis, mut wire) = (planted(&place), sidecar.wire());
    assert!(wire.ask("KEYS note:*").starts_with("*2001\r\n"));
    assert_eq!(wire.ask("KEYS note:1"), "*1\r\n$6\r\nnote:1\r\n");
    assert_eq!(wire.ask("KEYS note:5000"), "*1\r\n$9\r\nnote:5000\r\n");
    let mut seen = std::collections::HashSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let told = wire.ask(&format!("SCAN {cursor} MATCH note:* COUNT 500"));
        let words: Vec<&str> = told.split("\r\n").filter(|word| !word.starts_with(['*', '$'])).collect();
        seen.extend(words[1..].iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()));
        cursor = words[0].to_owned();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 2001);
}

#[test]
fn while_the_upstream_is_away_the_stores_keys_are_answered() {
    let mut place = Place::new();
    let sidecar = building(&place).expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET note:2 text"), "$1\r\na\r\n");
    place.redis.kill();
    assert_eq!(wire.ask("HGET note:1 text"), "$1\r\na\r\n");
    assert_eq!(wire.ask("HSET note:1 text b"), ":0\r\n");
    assert_eq!(wire.ask("HGET note:1 text"), "$1\r\nb\r\n");
    assert!(wire.ask("HGET note:5000 text").starts_with('-'));
    let told = wire.ask("DEL note:1");
    assert!(told.contains("are not changed while the upstream does not answer, nothing was done"), "{told}");
    assert_eq!(place.text(1), "b");
}

#[test]
fn a_mapping_goes_from_off_to_on_and_back_without_losing_anything() {
    let place = Place::new();
    let sidecar = place.builder("mode = \"off\"").start();
    let (mut redis, mut wire) = (place.redis.wire(), sidecar.wire());
    for id in 5000..5010 {
        assert_eq!(wire.ask(&format!("HSET note:{id} text theirs seen 1")), ":2\r\n");
    }
    let told = wire.ask(&format!("HEARTHSIDE MODE {NOTES} fallback"));
    assert!(told.contains("fallback"), "{told}");
    assert!(wire.ask("HEARTHSIDE STATUS").contains(&format!("{NOTES}: fallback 100 %")));
    for id in 5000..5005 {
        assert_eq!(wire.ask(&format!("HINCRBY note:{id} seen 1")), ":2\r\n");
    }
    assert_eq!(redis.ask("EXISTS note:5000 note:5004 note:5005"), ":1\r\n");
    // Back: the upstream has again what was taken from it.
    let told = wire.ask(&format!("HEARTHSIDE MODE {NOTES} off"));
    assert!(!told.contains("not at the upstream"), "{told}");
    for (id, seen) in (5000..5010).map(|id| (id, if id < 5005 { 2 } else { 1 })) {
        let value = format!("*2\r\n$6\r\ntheirs\r\n$1\r\n{seen}\r\n");
        assert_eq!(wire.ask(&format!("HMGET note:{id} text seen")), value, "note:{id}");
    }
    // Keys that the store has are the store's: those of before are only read.
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} fallback 50"));
    let written = |wire: &mut Wire, seen: u32| {
        for id in 5000..5010 {
            assert_eq!(wire.ask(&format!("HGET note:{id} text")), "$6\r\ntheirs\r\n", "note:{id}");
        }
        for id in 5005..5010 {
            assert_eq!(wire.ask(&format!("HINCRBY note:{id} seen 1")), format!(":{seen}\r\n"), "note:{id}");
        }
    };
    written(&mut wire, 2);
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} fallback 100"));
    written(&mut wire, 3);
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} on"));
    written(&mut wire, 4);
    for id in 5000..5005 {
        assert_eq!(wire.ask(&format!("HGET note:{id} seen")), "$1\r\n2\r\n", "note:{id}");
    }
    reload(&sidecar, &config("mode = \"fallback\""));
    assert_eq!(wire.ask("HGET note:5000 text"), "$6\r\ntheirs\r\n");
}

#[test]
fn explain_says_which_side_is_asked() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (_redis, mut wire) = (planted(&place), sidecar.wire());
    for (key, side) in [("note:1", "store"), ("note:5000", "upstream"), ("note:9999", "neither")] {
        let told = wire.ask(&format!("HEARTHSIDE EXPLAIN {key}"));
        assert!(told.contains(&format!("$11\r\nanswered_by\r\n${}\r\n{side}\r\n", side.len())), "{key}: {told}");
    }
}

/// C1 on the way from plain Redis to the store: every client reads what it has written, whoever has it, and no
/// increment is lost.
#[test]
fn every_client_reads_what_it_has_written_from_off_by_fallback_to_on() {
    let place = Place::new();
    let sidecar = place.builder("mode = \"off\"").start();
    let modes = ["fallback 30", "fallback 60", "fallback 100", "on", "off"];
    reads_what_it_wrote(&sidecar, (4, 10_000), &modes, |wire, key, number| {
        assert_eq!(wire.ask(&format!("HINCRBY {key} seen 1")), format!(":{number}\r\n"), "{key}");
    });
}
