//! What changes keys: by clients of the sidecar, who read at once what they wrote, and by others.

use super::{bulk, hits, keep, started, two};
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::wire::{Wire, line};

/// What makes the keys what they are at first.
const BEGIN: [&str; 6] =
    ["FLUSHALL", "SET cfg:s 1", "HSET cfg:h f 1", "RPUSH cfg:l 1 2 3", "SADD cfg:t a b", "ZADD cfg:z 1 a 2 b"];

const READS: [&str; 7] = [
    "GET cfg:s",
    "HGETALL cfg:h",
    "LRANGE cfg:l 0 -1",
    "SMEMBERS cfg:t",
    "ZRANGE cfg:z 0 -1",
    "EXISTS cfg:new",
    "GET cfg:s2",
];

/// What changes them; a transaction is several commands.
const CHANGES: [&[&str]; 30] = [
    &["SET cfg:s 2"],
    &["APPEND cfg:s x"],
    &["GETDEL cfg:s"],
    &["DEL cfg:s cfg:h"],
    &["UNLINK cfg:l"],
    &["MSET cfg:s 3 other 4"],
    &["RENAME cfg:s cfg:s2"],
    &["COPY cfg:s cfg:s2"],
    &["MOVE cfg:s 1"],
    &["HSET cfg:h f 2 g 3"],
    &["HINCRBY cfg:h f 7"],
    &["HDEL cfg:h f"],
    &["LPUSH cfg:l 0"],
    &["BLPOP cfg:l 0"],
    &["LMOVE cfg:l cfg:new LEFT RIGHT"],
    &["SORT cfg:l DESC STORE cfg:l"],
    &["SPOP cfg:t 2"],
    &["SUNIONSTORE cfg:t cfg:t cfg:none"],
    &["ZINCRBY cfg:z 5 a"],
    &["ZPOPMIN cfg:z"],
    &["PEXPIRE cfg:s 0"],
    &["FLUSHALL"],
    &["FLUSHDB"],
    &["EVAL return(redis.call('SET',KEYS[1],'5')) 1 cfg:s"],
    &["EVAL return(redis.call('SET','cfg:s','6')) 0"],
    &["MULTI", "SET cfg:s 7", "HSET cfg:h f 9", "EXEC"],
    &["MULTI", "GET cfg:s", "RENAME cfg:h cfg:new", "EXEC"],
    &["WATCH cfg:s", "MULTI", "SET cfg:s 8", "EXEC"],
    &["SET cfg:s2 1", "SWAPDB 0 1", "SELECT 1", "SELECT 0"],
    &["GEOADD cfg:z 1 1 m"],
];

fn ask_all(wire: &mut Wire, commands: &[&str]) {
    for command in commands {
        let reply = wire.ask(command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
    }
}

#[test]
fn what_a_client_changes_every_client_reads_at_once() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let ([mut one, mut other], mut direct) = (two(&sidecar), redis.wire());
    for change in CHANGES {
        ask_all(&mut one, &BEGIN);
        READS.iter().for_each(|read| drop(keep(&sidecar, &mut other, read)));
        ask_all(&mut one, change);
        for read in READS {
            let right = direct.ask(read);
            assert_eq!(other.ask(read), right, "another client: {read} after {change:?}");
            assert_eq!(one.ask(read), right, "{read} after {change:?}");
        }
    }
}

#[test]
fn a_request_with_too_few_arguments_changes_nothing() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let [mut wire, mut other] = two(&sidecar);
    keep(&sidecar, &mut wire, "GET cfg:a");
    for request in ["EVAL", "EVAL s", "EVALSHA", "FCALL f", "SWAPDB 0", "RENAME cfg:a", "SET cfg:a"] {
        let before = hits(&sidecar);
        assert!(other.ask(request).starts_with("-ERR wrong number of arguments"), "{request}");
        assert_eq!(wire.ask("GET cfg:a"), "$-1\r\n");
        until("it is counted", || hits(&sidecar) == before + 1);
    }
    // What the server alone judges may have changed anything.
    let before = hits(&sidecar);
    assert!(other.ask("EVAL s 1").starts_with('-'));
    assert_eq!(wire.ask("GET cfg:a"), "$-1\r\n");
    assert_eq!(hits(&sidecar), before);
}

#[test]
fn what_somebody_else_changes_is_read_soon() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    // Redis tells nobody that it has swapped databases.
    for change in CHANGES.iter().filter(|change| !change.contains(&"SWAPDB 0 1")) {
        ask_all(&mut direct, &BEGIN);
        for read in READS {
            let right = direct.ask(read);
            until("what was there first is read", || wire.ask(read) == right);
            keep(&sidecar, &mut wire, read);
        }
        ask_all(&mut direct, change);
        for read in READS {
            let right = direct.ask(read);
            until(&format!("{read} after {change:?}"), || wire.ask(read) == right);
        }
    }
}

#[test]
fn in_one_pipeline_each_read_sees_the_writes_before_it() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let mut wire = sidecar.wire();
    for round in 0..100 {
        let (mut sent, mut expected) = (Vec::new(), String::new());
        for i in 0..20 {
            let value = format!("{round}-{i}");
            for text in [format!("SET cfg:a {value}"), "GET cfg:a".to_owned(), "GET cfg:a".to_owned()] {
                sent.extend(line(&text));
            }
            expected.push_str(&format!("+OK\r\n{0}{0}", bulk(&value)));
        }
        wire.send(&sent);
        let mut told = String::new();
        while told.len() < expected.len() {
            told.push_str(&wire.text());
        }
        assert_eq!(told, expected);
        assert_eq!(keep(&sidecar, &mut wire, "GET cfg:a"), bulk(&format!("{round}-19")));
    }
}

#[test]
fn a_write_that_waits_keeps_its_key_from_being_kept_and_ends_with_its_client() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let [mut waits, mut reads] = two(&sidecar);
    assert_eq!(keep(&sidecar, &mut reads, "LLEN cfg:l"), ":0\r\n");
    waits.send(&line("BLPOP cfg:l 0"));
    until("it waits", || redis.wire().ask("INFO clients").contains("blocked_clients:1"));
    let before = hits(&sidecar);
    (0..5).for_each(|_| assert_eq!(reads.ask("LLEN cfg:l"), ":0\r\n"));
    assert_eq!(hits(&sidecar), before);
    drop(waits);
    assert_eq!(keep(&sidecar, &mut reads, "LLEN cfg:l"), ":0\r\n");
}

#[test]
fn a_key_that_ends_is_not_read_past_its_end() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    // The server finds out by itself only now and then what has ended.
    direct.ask("CONFIG SET hz 1");
    for i in 0..5 {
        let key = format!("cfg:{i}");
        direct.ask(&format!("SET {key} v PX 400"));
        assert_eq!(keep(&sidecar, &mut wire, &format!("GET {key}")), bulk("v"));
        until("it has ended", || direct.ask(&format!("PTTL {key}")) == ":-2\r\n");
        assert_eq!(wire.ask(&format!("GET {key}")), "$-1\r\n");
    }
    direct.ask("SET cfg:b v");
    assert_eq!(keep(&sidecar, &mut wire, "GET cfg:b"), bulk("v"));
    wire.ask("PEXPIRE cfg:b 50");
    until("it has ended", || direct.ask("PTTL cfg:b") == ":-2\r\n");
    assert_eq!(wire.ask("GET cfg:b"), "$-1\r\n");
}

#[test]
fn a_hot_key_is_touched_at_the_upstream() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    direct.ask("SET cfg:a v");
    let sidecar = started(&redis);
    let mut wire = sidecar.wire();
    keep(&sidecar, &mut wire, "GET cfg:a");
    until("it is touched", || {
        assert_eq!(wire.ask("GET cfg:a"), bulk("v"));
        direct.ask("INFO commandstats").contains("cmdstat_touch:calls=1,")
    });
}
