//! The mode `shadow`: the upstream answers, and what the store has is compared with that.

use super::place::{NOTES, Place};
use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::Wire;

fn compared(sidecar: &Sidecar, mapping: &str, outcome: &str) -> f64 {
    metric(sidecar, &format!("hearthside_shadow_compared_total{{mapping=\"{mapping}\",outcome=\"{outcome}\"}}"))
}

/// The keys and fields of what differs.
fn listed(wire: &mut Wire) -> String {
    wire.ask("HEARTHSIDE SHADOW")
}

#[test]
fn a_planted_difference_is_found_and_listed_by_its_field() {
    let place = Place::new();
    let sidecar = place.builder("mode = \"shadow\"").start();
    let (mut wire, mut redis) = (sidecar.wire(), place.redis.wire());
    for id in 1..=20 {
        redis.ask(&format!("HSET note:{id} text a seen 0"));
    }
    redis.ask("HSET note:7 text planted");
    redis.ask("HSET note:5000 text a");
    redis.ask("SET note:8 text");
    for id in 1..=20 {
        wire.ask(&format!("HGET note:{id} text"));
    }
    assert_eq!(wire.ask("HGET note:7 text"), "$7\r\nplanted\r\n", "the upstream answers");
    assert_eq!(wire.ask("HGET note:5000 text"), "$1\r\na\r\n");
    assert_eq!(wire.ask("EXISTS note:30"), ":0\r\n");
    until("all are compared", || {
        compared(&sidecar, NOTES, "equal") == 18.0 && compared(&sidecar, NOTES, "different") == 4.0
    });
    let told = listed(&mut wire);
    for expected in [
        "note:7\r\n$5\r\nfield\r\n$4\r\ntext\r\n",
        "the upstream has 7 bytes, the store 1, and they differ",
        "note:8\r\n$5\r\nfield\r\n$6\r\n(type)\r\n",
        "note:30\r\n$5\r\nfield\r\n$5\r\n(key)\r\n",
        "the store has the key, the upstream has not",
        "note:5000\r\n$5\r\nfield\r\n$5\r\n(key)\r\n",
        "the upstream has the key, the store has not",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(!told.contains("planted"), "no value is shown: {told}");
    assert_eq!(wire.ask("HEARTHSIDE SHADOW place:{id}"), "*0\r\n");
    let field = |field: &str| {
        metric(&sidecar, &format!("hearthside_shadow_mismatches_total{{mapping=\"{NOTES}\",field=\"{field}\"}}"))
    };
    assert_eq!((field("text"), field("(key)"), field("(type)")), (1.0, 2.0, 1.0));
    assert_eq!(place.sql("SELECT count(*) FROM notes WHERE text <> 'a'"), "0", "nothing was written to the store");
}

#[test]
fn json_that_is_written_otherwise_is_told_apart_and_what_is_too_large_is_not_read() {
    let place = Place::new();
    place.sql(
        "CREATE TABLE docs (id TEXT PRIMARY KEY, doc JSONB); INSERT INTO docs VALUES ('a', '{\"n\": 1, \"long\": 2}'), \
         ('b', '{\"n\": 1}'), ('large', '{}')",
    );
    let docs =
        "[[caches]]\nkey = \"doc:{id}\"\ntype = \"string\"\ntable = \"docs\"\nvalue = \"doc\"\nmode = \"shadow\"\n";
    let sidecar = place.builder("").config(docs).migrated().start();
    let (mut wire, mut redis) = (sidecar.wire(), place.redis.wire());
    redis.call(&["SET", "doc:a", "{ \"long\" : 2, \"n\" : 1 }"]);
    redis.call(&["SET", "doc:b", "{\"n\": 2}"]);
    redis.call(&["SET", "doc:large", &"x".repeat(2 << 20)]);
    for key in ["doc:a", "doc:b", "doc:large"] {
        wire.ask(&format!("STRLEN {key}"));
    }
    until("all are compared", || {
        compared(&sidecar, "doc:{id}", "different") == 2.0 && compared(&sidecar, "doc:{id}", "too_large") == 1.0
    });
    let told = listed(&mut wire);
    assert_eq!(told.matches("equal as JSON, and written otherwise: the upstream has").count(), 1, "{told}");
    assert_eq!(told.matches("and they differ").count(), 1, "{told}");
}

/// Workload 1: a game server's sessions, inventories, locations and items, as the demo has them.
#[test]
fn a_game_servers_keys_are_compared_whatever_their_type() {
    let redis = Redis::start();
    let config = hearthside::config::SHIPPED
        .replace("type = \"", "mode = \"shadow\"\ntype = \"")
        .replace("mode = \"on\"  ", "#");
    let owned = Sidecar::builder().redis(&redis).start();
    let keys = ["player:1:session", "location:overpass:cache", "item:apple:def"];
    let (mut from, mut direct) = (owned.wire(), redis.wire());
    for key in keys {
        let told = from.call(&["HGETALL", key]);
        let parts = hearthside::resp::reply::elements(&told).expect("a hash");
        let texts = parts.iter().filter_map(|part| hearthside::resp::decode::bulk(part));
        let words: Vec<&[u8]> = [&b"HSET"[..], key.as_bytes()].into_iter().chain(texts).collect();
        assert!(words.len() > 2, "{key}");
        direct.call(&words);
    }
    for element in
        hearthside::resp::reply::elements(&from.call(&["LRANGE", "player:1:inventory", "0", "-1"])).expect("a list")
    {
        direct.call(&[
            &b"RPUSH"[..],
            b"player:1:inventory",
            hearthside::resp::decode::bulk(element).expect("an element"),
        ]);
    }
    direct.call(&["HSET", "item:apple:def", "name", "Pear"]);
    direct.call(&["LSET", "player:1:inventory", "0", "{}"]);
    drop(owned);
    let sidecar = Sidecar::builder().redis(&redis).config(&config).start();
    let mut wire = sidecar.wire();
    for key in keys {
        wire.ask(&format!("HLEN {key}"));
    }
    wire.ask("LLEN player:1:inventory");
    let of = |outcome| {
        let all = [
            "player:{character_id:int}:session",
            "player:{character_id:int}:inventory",
            "location:{location_id}:cache",
            "item:{item_id}:def",
        ];
        all.iter().map(|mapping| compared(&sidecar, mapping, outcome)).sum::<f64>()
    };
    until("all are compared", || of("equal") == 2.0 && of("different") == 2.0);
    let told = listed(&mut wire);
    assert!(told.contains("item:apple:def\r\n$5\r\nfield\r\n$4\r\nname\r\n"), "{told}");
    assert!(told.contains("player:1:inventory\r\n$5\r\nfield\r\n$9\r\n(element)\r\n"), "{told}");
}
