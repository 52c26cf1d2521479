//! Random commands by clients of the sidecar and by one beside it: whoever writes through the sidecar reads it at once,
//! and at the end everything is read as it is.

use std::thread;

use super::{keeping, told};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::wire::{Wire, line};
use crate::support::{setting, until};

const READS: [&str; 8] = [
    "GET cfg:s",
    "STRLEN cfg:s",
    "HGETALL cfg:h",
    "HGET cfg:h 1",
    "LRANGE cfg:l 0 -1",
    "SMEMBERS cfg:t",
    "ZRANGE cfg:z 0 -1 WITHSCORES",
    "MGET cfg:s cfg:n",
];

fn write(random: &mut fastrand::Rng) -> String {
    let (a, b) = (random.u32(0..4), random.u32(0..100));
    match random.u32(0..20) {
        0..=3 => format!("SET cfg:s {b}"),
        4 => format!("SET cfg:s {b} PX {}", 1 + b),
        5 => "DEL cfg:s cfg:h".to_owned(),
        6 | 7 => format!("HSET cfg:h {a} {b}"),
        8 => format!("HDEL cfg:h {a}"),
        9 => format!("RPUSH cfg:l {b}"),
        10 => "LTRIM cfg:l -3 -1".to_owned(),
        11 => format!("SADD cfg:t {a}"),
        12 => format!("SREM cfg:t {a}"),
        13 => format!("ZADD cfg:z {b} {a}"),
        14 => "RENAME cfg:n cfg:s".to_owned(),
        15 => format!("SET cfg:n {b}"),
        16 => format!("EVAL return(redis.call('SET',KEYS[1],'{b}')) 1 cfg:n"),
        17 => format!("EVAL return(redis.call('HSET','cfg:h','{a}','{b}')) 0"),
        18 if b < 10 => "FLUSHALL".to_owned(),
        _ => format!("PEXPIRE cfg:h {}", b + 1),
    }
}

/// A client that reads and writes what others do, too, and a key of its own, which nobody else writes.
fn attack(mut wire: Wire, id: usize, seed: u64, rounds: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..rounds {
        let own = format!("own{id}");
        let mut sent = Vec::new();
        let mut commands = 0;
        for _ in 0..random.u32(1..6) {
            let text = if random.bool() { READS[random.usize(0..READS.len())].to_owned() } else { write(&mut random) };
            sent.extend(line(&text));
            commands += 1;
        }
        // Behind what another may have emptied.
        sent.extend(line(&format!("SET cfg:{own} {round}")));
        wire.send(&sent);
        (0..=commands).for_each(|_| drop(wire.frame()));
        let read = wire.ask(&format!("GET cfg:{own}"));
        let text = round.to_string();
        assert!(read == "$-1\r\n" || read == super::bulk(&text), "client {id} wrote {text} and read {read}");
    }
}

/// A counter that one client raises and others read: what it is never goes back once that is acknowledged.
fn count(mut writes: Wire, mut reads: [Wire; 2], rounds: u64) {
    for round in 1..=rounds {
        assert_eq!(writes.ask("HINCRBY cfg:count n 1"), format!(":{round}\r\n"));
        for wire in &mut reads {
            assert_eq!(
                wire.ask("HGET cfg:count n"),
                super::bulk(&round.to_string()),
                "older than what was acknowledged"
            );
        }
    }
}

#[test]
fn random_commands_leave_nothing_old_in_memory() {
    let (seed, rounds) = (setting("HEARTHSIDE_SEED", 20), setting("HEARTHSIDE_COMMANDS", 400));
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = keeping(&format!("redis://127.0.0.1:{}", proxy.port)).start();
    told(&sidecar);
    proxy.delay(2);
    for turn in 0..3 {
        thread::scope(|scope| {
            for id in 0..3 {
                let wire = if id == 2 { redis.wire() } else { sidecar.wire() };
                scope.spawn(move || attack(wire, id, seed + turn * 10 + id as u64, rounds));
            }
        });
        let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
        let lasting = |direct: &mut Wire| {
            ["s", "h", "n"].iter().all(|key| ["-1", "-2"].contains(&&direct.ask(&format!("PTTL cfg:{key}"))[1..3]))
        };
        until("whatever is to end has ended", || lasting(&mut direct));
        for read in READS {
            let right = direct.ask(read);
            until(&format!("{read} is {right} (seed {seed}, turn {turn})"), || wire.ask(read) == right);
        }
    }
    redis.wire().ask("FLUSHALL");
    proxy.delay(0);
    count(sidecar.wire(), [sidecar.wire(), sidecar.wire()], 2000);
}
