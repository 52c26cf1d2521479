//! 10,000 pipelined commands of every kind on one connection come back in order, byte for byte what Redis would send.

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Wire, line};

/// Writes what the sidecar shows into plain keys of a Redis, so that it can be asked the same questions.
fn mirror(through: &mut Wire, direct: &mut Wire, hashes: &[String], lists: &[String]) {
    for key in hashes {
        let reply = through.call(&["HGETALL", key]);
        let words = elements(&reply);
        if !words.is_empty() {
            let words: Vec<Vec<u8>> = ["HSET".into(), key.clone().into_bytes()].into_iter().chain(words).collect();
            direct.call(&words);
        }
    }
    for key in lists {
        let reply = through.call(&["LRANGE", key, "0", "-1"]);
        let words = elements(&reply);
        if !words.is_empty() {
            let words: Vec<Vec<u8>> = ["RPUSH".into(), key.clone().into_bytes()].into_iter().chain(words).collect();
            direct.call(&words);
        }
    }
}

fn elements(reply: &[u8]) -> Vec<Vec<u8>> {
    let elements = hearthside::resp::reply::elements(reply).expect("an array");
    let text = |bulk: &[u8]| {
        let start = bulk.iter().position(|b| *b == b'\n').expect("a header") + 1;
        bulk[start..bulk.len() - 2].to_vec()
    };
    elements.into_iter().map(text).collect()
}

#[test]
fn ten_thousand_mixed_commands_in_order() {
    let (redis, twin, postgres) = (Redis::start(), Redis::start(), Postgres::start());
    // Redis keeps the order of a hash's fields only in its small encoding.
    for server in [&redis, &twin] {
        server.wire().ask("CONFIG SET hash-max-listpack-value 4096");
    }
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres);
    assert!(builder.execute(&["migrate", "--demo"]).status.success());
    let sidecar = builder.start();
    let (mut through, mut direct) = (sidecar.wire(), twin.wire());
    let hashes: Vec<String> = (1..=20)
        .map(|i| format!("player:{i}:session"))
        .chain(["overpass", "ruins"].map(|l| format!("location:{l}:cache")))
        .chain(["iron_sword", "apple"].map(|i| format!("item:{i}:def")))
        .collect();
    let lists: Vec<String> = (1..=20).map(|i| format!("player:{i}:inventory")).collect();
    mirror(&mut through, &mut direct, &hashes, &lists);
    through.ask("HEARTHSIDE INVALIDATE *");

    let mut bytes = Vec::new();
    for i in 0..10_000_usize {
        let (hash, list) = (&hashes[i % hashes.len()], &lists[i * 7 % lists.len()]);
        bytes.extend(match i % 16 {
            0 => line(&format!("SET k{} {i}", i % 50)),
            1 => line(&format!("GET k{}", i % 50)),
            2 => line(&format!("HGETALL {hash}")),
            3 => line(&format!("LRANGE {list} 0 -1")),
            4 => line(&format!("HGET {hash} hp")),
            5 => line(&format!("INCR n{}", i % 10)),
            6 => line(&format!("HMGET {hash} name nosuch level")),
            7 => line("HGETALL location:nowhere:cache"),
            8 => line("HGET player:100000:session hp"),
            9 => line(&format!("LRANGE {hash} 0 -1")),
            10 => line(&format!("EXISTS k{} {hash} {list} nosuch", i % 50)),
            11 => line("NOSUCHCOMMAND"),
            12 => line(&format!("LINDEX {list} {}", i % 9)),
            13 => line(&format!("MGET k{} {hash} k{}", i % 50, (i + 1) % 50)),
            14 => line(&format!("HGET {hash}")),
            _ => line(&format!("RPUSH l{} {i}", i % 5)),
        });
    }
    for chunk in bytes.chunks(50_000) {
        through.send(chunk);
        direct.send(chunk);
    }
    for i in 0..10_000 {
        let (ours, theirs) = (through.frame(), direct.frame());
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "command {i}");
    }
}
