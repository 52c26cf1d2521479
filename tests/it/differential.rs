//! Pass-through: the same random commands to a Redis directly and through the sidecar to its twin, raw replies
//! compared byte for byte.

use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::line;

/// A small generator of pseudo-random numbers whose seed replays a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

const COMMANDS: &[&str] = &[
    "SET sK V",
    "GET sK",
    "APPEND sK V",
    "INCR nK",
    "INCRBYFLOAT nK 1.5",
    "GETRANGE sK 0 2",
    "SETEX sK 1000 V",
    "STRLEN sK",
    "MSET sK V sA V",
    "MGET sK nK sA hK",
    "GETSET sK V",
    "SETNX sK V",
    "DEL sK nK",
    "EXISTS sK hK lK",
    "TYPE hK",
    "RPUSH lK V V",
    "LPOP lK",
    "LRANGE lK 0 -1",
    "LPOS lK V",
    "LINSERT lK BEFORE V x",
    "LMOVE lK lA LEFT RIGHT",
    "RPOPLPUSH lK lA",
    "HSET hK V V f V",
    "HGETALL hK",
    "HINCRBY hK n 3",
    "HDEL hK V",
    "HMGET hK f n V",
    "HKEYS hK",
    "SADD tK V",
    "SCARD tK",
    "SISMEMBER tK V",
    "SINTERCARD 2 tK tA",
    "ZADD zK 3 V 1.5 x",
    "ZRANGE zK 0 -1 WITHSCORES",
    "ZSCORE zK V",
    "ZRANGEBYSCORE zK -inf +inf",
    "ZUNIONSTORE zA 2 zK tK",
    "ZADD zK abc V",
    "XADD xK 1-K a V",
    "XLEN xK",
    "XRANGE xK - +",
    "XREAD COUNT 2 STREAMS xK 0",
    "XGROUP CREATE xK g 0 MKSTREAM",
    "XREADGROUP GROUP g c STREAMS xK >",
    "XPENDING xK g",
    "PFADD pK V",
    "PFCOUNT pK",
    "SETBIT bK 7 1",
    "BITCOUNT bK",
    "GEOADD gK 13.36 38.11 V",
    "GEOPOS gK V",
    "EVAL return{KEYS[1],ARGV[1],1.5,false} 1 sK V",
    "EVAL return{err='MY'} 0",
    "SORT lK ALPHA",
    "OBJECT ENCODING hK",
    "GET",
    "LPUSH sK V",
    "HSET sK f V",
    "NOSUCH sK",
    "COPY sK sA REPLACE",
    "RENAME sK sA",
    "LLEN hK",
    "EXPIRE sK 5000",
    "PERSIST sK",
    "TTL nosuch",
    "DUMP nosuch",
    "GETDEL sK",
    "SUBSTR sK 0 1",
    "LCS sK sA",
    "SMISMEMBER tK V x",
    "ZMSCORE zK V x",
    "BLPOP lK 0.001",
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH sK",
    "UNWATCH",
    "SELECT K",
    "SELECT 0",
    "PING",
    "ECHO V",
    "HSTRLEN hK V",
    "FUNCTION LIST",
    "COMMAND COUNT",
    "CONFIG GET maxmemory",
    "ACL WHOAMI",
    "WAITAOF",
    "OBJECT HELP",
    "XINFO STREAM xK",
    "LATENCY RESET",
    "CLIENT SETNAME V",
    "CLIENT GETNAME",
    "BITFIELD bK GET u4 0",
    "HRANDFIELD nosuch",
    "ZPOPMIN zK",
    "SPOP nosuch",
    "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0",
];

#[test]
fn fifty_thousand_random_commands_answer_alike() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let sidecar = Sidecar::builder().redis(&redis).set("SECURITY__DENY", "").start();
    let seed = std::env::var("HEARTHSIDE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x9e37_79b9_7f4a_7c15);
    let total: usize = std::env::var("HEARTHSIDE_COMMANDS").ok().and_then(|s| s.parse().ok()).unwrap_or(50_000);
    println!("HEARTHSIDE_SEED={seed}");
    let mut dice = Dice(seed);
    let mut done = 0;
    while done < total {
        let (mut through, mut direct) = (sidecar.wire(), twin.wire());
        if dice.roll(2) == 0 {
            // HELLO tells ids, which differ.
            through.ask("HELLO 3");
            direct.ask("HELLO 3");
        }
        for _ in 0..20 {
            let batch: Vec<String> = (0..=dice.roll(60)).map(|_| command(&mut dice)).collect();
            let bytes: Vec<u8> = batch.iter().flat_map(|text| line(text)).collect();
            direct.send(&bytes);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let cut = (dice.roll(400) as usize + 1).min(rest.len());
                through.send(&rest[..cut]);
                rest = &rest[cut..];
            }
            for text in &batch {
                let (ours, theirs) = (through.frame(), direct.frame());
                assert_eq!(
                    String::from_utf8_lossy(&ours),
                    String::from_utf8_lossy(&theirs),
                    "{text} in {batch:?}, seed {seed}"
                );
            }
            done += batch.len();
        }
        // A connection may end inside MULTI or in another database.
        for wire in [&mut through, &mut direct] {
            wire.ask("RESET");
        }
    }
}

fn command(dice: &mut Dice) -> String {
    let template = COMMANDS[dice.roll(COMMANDS.len() as u64) as usize];
    let words = template.split(' ').enumerate().map(|(i, word)| {
        let number = dice.roll(3);
        match word {
            "V" => format!("v{number}"),
            _ if i > 0 && word.ends_with('K') && word != "MAXLEN" && !word.contains("BLOCK") => {
                word.replace('K', &number.to_string())
            }
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
