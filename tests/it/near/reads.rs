//! What is answered from memory, and what is not.

use super::{bulk, hits, keep, started};
use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::until;

/// What there is to read.
const THINGS: [&str; 9] = [
    "SET cfg:s hello",
    "SET cfg:n 10",
    "HSET cfg:h a 1 b 2 c three",
    "RPUSH cfg:l one two three two",
    "SADD cfg:t x y z",
    "SADD cfg:u y z w",
    "ZADD cfg:z 1 one 2 two 3 three",
    "GEOADD cfg:g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "SET cfg:e ends EX 1000",
];

/// Each answers alike as long as its keys are the same.
const READS: [&str; 62] = [
    "GET cfg:s",
    "get cfg:s",
    "GET cfg:none",
    "STRLEN cfg:s",
    "GETRANGE cfg:s 1 3",
    "SUBSTR cfg:s 0 -1",
    "GETBIT cfg:s 7",
    "BITCOUNT cfg:s",
    "BITPOS cfg:s 1",
    "BITFIELD_RO cfg:s GET u8 0",
    "MGET cfg:s cfg:n cfg:none cfg:h",
    "LCS cfg:s cfg:n",
    "GET cfg:e",
    "HGET cfg:h a",
    "HGET cfg:h none",
    "HMGET cfg:h a none c",
    "HGETALL cfg:h",
    "HEXISTS cfg:h b",
    "HLEN cfg:h",
    "HKEYS cfg:h",
    "HVALS cfg:h",
    "HSTRLEN cfg:h c",
    "HGETALL cfg:none",
    "LRANGE cfg:l 0 -1",
    "LLEN cfg:l",
    "LINDEX cfg:l 1",
    "LPOS cfg:l two COUNT 0",
    "SMEMBERS cfg:t",
    "SISMEMBER cfg:t x",
    "SMISMEMBER cfg:t x none",
    "SCARD cfg:t",
    "SINTER cfg:t cfg:u",
    "SUNION cfg:t cfg:u",
    "SDIFF cfg:t cfg:u",
    "SINTERCARD 2 cfg:t cfg:u",
    "ZCARD cfg:z",
    "ZCOUNT cfg:z 1 2",
    "ZLEXCOUNT cfg:z - +",
    "ZRANGE cfg:z 0 -1 WITHSCORES",
    "ZRANGEBYSCORE cfg:z 1 2",
    "ZRANGEBYLEX cfg:z - +",
    "ZREVRANGE cfg:z 0 1",
    "ZREVRANGEBYSCORE cfg:z 3 1",
    "ZREVRANGEBYLEX cfg:z + -",
    "ZRANK cfg:z two",
    "ZREVRANK cfg:z two",
    "ZSCORE cfg:z two",
    "ZMSCORE cfg:z one none",
    "ZINTER 2 cfg:z cfg:none",
    "ZUNION 2 cfg:z cfg:none WITHSCORES",
    "ZDIFF 2 cfg:z cfg:none",
    "ZINTERCARD 2 cfg:z cfg:z",
    "GEOPOS cfg:g Palermo",
    "GEODIST cfg:g Palermo Catania km",
    "GEOHASH cfg:g Palermo",
    "GEOSEARCH cfg:g FROMLONLAT 15 37 BYRADIUS 200 km ASC",
    "GEORADIUS_RO cfg:g 15 37 200 km ASC",
    "GEORADIUSBYMEMBER_RO cfg:g Palermo 200 km ASC",
    "EXISTS cfg:s",
    "EXISTS cfg:s cfg:none cfg:s",
    "TYPE cfg:h",
    "TYPE cfg:none",
];

/// These depend on the time, on chance, on a cursor or on the server, write, name other keys too, or are errors.
const NEVER: [&str; 18] = [
    "TTL cfg:e",
    "PTTL cfg:e",
    "EXPIRETIME cfg:e",
    "OBJECT ENCODING cfg:s",
    "DUMP cfg:s",
    "SRANDMEMBER cfg:t 9",
    "HRANDFIELD cfg:h 9",
    "ZRANDMEMBER cfg:z 9",
    "HSCAN cfg:h 0",
    "SSCAN cfg:t 0",
    "SORT_RO cfg:l ALPHA",
    "TOUCH cfg:s",
    "GETEX cfg:s",
    "MGET cfg:s other",
    "GET other",
    "HGET cfg:s a",
    "GET",
    "XLEN cfg:none",
];

#[test]
fn every_read_that_is_kept_answers_as_the_upstream_does() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    THINGS.iter().for_each(|thing| assert!(!direct.ask(thing).starts_with('-'), "{thing}"));
    let sidecar = started(&redis);
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask(hello).len() > 5, direct.ask(hello).len() > 5);
        for read in READS {
            let kept = keep(&sidecar, &mut wire, read);
            assert_eq!(kept, direct.ask(read), "{read} after {hello}");
        }
    }
    let (hits, routed) =
        (hits(&sidecar), metric(&sidecar, "hearthside_commands_total{route=\"near\",outcome=\"hit\"}"));
    assert_eq!(hits as f64, routed);
}

#[test]
fn what_depends_on_more_than_its_keys_is_never_kept() {
    let redis = Redis::start();
    THINGS.iter().for_each(|thing| drop(redis.wire().ask(thing)));
    let sidecar = started(&redis);
    let mut wire = sidecar.wire();
    for read in NEVER {
        (0..3).for_each(|_| drop(wire.ask(read)));
        assert_eq!(hits(&sidecar), 0, "{read}");
    }
    assert_eq!(wire.ask("HGET cfg:s a"), redis.wire().ask("HGET cfg:s a"), "an error is the upstream's own");
    assert!(metric(&sidecar, "hearthside_near_refused_total{keys=\"cfg:*\",reason=\"error\"}") >= 3.0);
}

#[test]
fn a_kept_reply_costs_the_upstream_nothing_and_a_change_by_somebody_else_ends_it() {
    let redis = Redis::start();
    redis.wire().ask("SET cfg:a 0");
    let sidecar = started(&redis);
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    let calls = |direct: &mut crate::support::wire::Wire| {
        let stats = direct.ask("INFO commandstats");
        stats.lines().find(|line| line.starts_with("cmdstat_get:")).unwrap_or_default().to_owned()
    };
    keep(&sidecar, &mut wire, "GET cfg:a");
    let before = calls(&mut direct);
    (0..1000).for_each(|_| assert_eq!(wire.ask("GET cfg:a"), bulk("0")));
    assert_eq!(calls(&mut direct), before);
    for i in 1..200 {
        let value = i.to_string();
        direct.ask(&format!("SET cfg:a {value}"));
        until("the new value is read", || wire.ask("GET cfg:a") == bulk(&value));
        assert_eq!(keep(&sidecar, &mut wire, "GET cfg:a"), bulk(&value));
    }
}

#[test]
fn databases_and_protocols_are_kept_apart() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    direct.ask("HSET cfg:a f 0");
    direct.ask("SELECT 1");
    direct.ask("HSET cfg:a f 1");
    let sidecar = started(&redis);
    let (mut first, mut second) = (sidecar.wire(), sidecar.wire());
    second.ask("SELECT 1");
    for _ in 0..3 {
        assert_eq!(keep(&sidecar, &mut first, "HGETALL cfg:a"), "*2\r\n$1\r\nf\r\n$1\r\n0\r\n");
        assert_eq!(keep(&sidecar, &mut second, "HGETALL cfg:a"), "*2\r\n$1\r\nf\r\n$1\r\n1\r\n");
        second.ask("HELLO 3");
        assert_eq!(keep(&sidecar, &mut second, "HGETALL cfg:a"), "%1\r\n$1\r\nf\r\n$1\r\n1\r\n");
        second.ask("HELLO 2");
    }
    direct.ask("HSET cfg:a f 2");
    until("a change in database 1 is seen there", || second.ask("HGET cfg:a f") == bulk("2"));
    assert_eq!(first.ask("HGET cfg:a f"), bulk("0"));
}

#[test]
fn clients_for_which_the_upstream_keeps_a_state_read_there() {
    let redis = Redis::start();
    redis.wire().ask("SET cfg:a 0");
    let sidecar = started(&redis);
    let mut wire = sidecar.wire();
    keep(&sidecar, &mut wire, "GET cfg:a");
    let before = hits(&sidecar);
    for states in [&["MULTI"][..], &["WATCH cfg:b"], &["HELLO 3", "CLIENT TRACKING ON"], &["CLIENT NO-EVICT ON"]] {
        let mut wire = sidecar.wire();
        states.iter().for_each(|state| assert!(!wire.ask(state).starts_with('-'), "{state}"));
        assert!(["+QUEUED\r\n", "$1\r\n0\r\n"].contains(&&*wire.ask("GET cfg:a")), "{states:?}");
        assert_eq!(hits(&sidecar), before, "{states:?}");
    }
    wire.send(b"GET cfg:a\r\n");
    assert_eq!(wire.frame(), b"$1\r\n0\r\n", "an inline request is passed on");
}

#[test]
fn a_long_reply_passes_as_it_comes_and_is_not_kept() {
    let redis = Redis::start();
    let long = "x".repeat(3 << 20);
    redis.wire().ask(&format!("SET cfg:a {long}"));
    let sidecar = started(&redis);
    let mut wire = sidecar.wire();
    (0..3).for_each(|_| assert_eq!(wire.ask("GET cfg:a").len(), long.len() + 12));
    assert_eq!(hits(&sidecar), 0);
    assert_eq!(metric(&sidecar, "hearthside_near_refused_total{keys=\"cfg:*\",reason=\"long\"}"), 3.0);
    redis.wire().ask(&format!("SET cfg:b {}", &long[..100_000]));
    assert_eq!(keep(&sidecar, &mut wire, "GET cfg:b").len(), 100_011);
}

#[test]
fn a_pipeline_of_hits_misses_and_others_is_answered_in_its_order() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    (0..50).for_each(|i| drop(direct.ask(&format!("SET cfg:{i} {i}"))));
    (0..50).for_each(|i| drop(direct.ask(&format!("SET other:{i} {}", i + 1000))));
    let sidecar = started(&redis);
    let mut wire = sidecar.wire();
    for round in 0..20 {
        let (mut sent, mut expected) = (Vec::new(), String::new());
        for i in 0..50 {
            let key = (i * 7 + round) % 50;
            sent.extend(crate::support::wire::line(&format!("GET cfg:{key}")));
            expected.push_str(&bulk(&key.to_string()));
            if i % 3 == 0 {
                sent.extend(crate::support::wire::line(&format!("GET other:{key}")));
                expected.push_str(&bulk(&(key + 1000).to_string()));
            }
        }
        wire.send(&sent);
        let mut told = String::new();
        while told.len() < expected.len() {
            told.push_str(&wire.text());
        }
        assert_eq!(told, expected);
    }
    assert!(hits(&sidecar) > 500);
}
