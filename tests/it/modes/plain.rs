//! A mapping that is off is not there: the upstream answers for its keys, whatever the command.

use super::place::Place;
use crate::support::redis::Redis;
use crate::support::wire::Wire;

/// Commands on keys that the mappings' patterns match: a Redis answers the same.
const COMMANDS: &[&str] = &[
    "HGETALL note:1",
    "HSET note:1 text b more c",
    "HGETALL note:1",
    "HINCRBY note:1 count 5",
    "TYPE note:1",
    "TTL note:1",
    "EXPIRE note:1 1000",
    "PERSIST note:1",
    "OBJECT ENCODING note:1",
    "SET note:2 text",
    "APPEND note:2 more",
    "GET note:2",
    "HGET note:2 text",
    "RENAME note:2 note:3",
    "COPY note:3 note:4",
    "LPUSH note:5 a b c",
    "LRANGE note:5 0 -1",
    "LMOVE note:5 other LEFT RIGHT",
    "SADD note:6 a",
    "ZADD note:7 1 a",
    "SETBIT note:8 7 1",
    "MGET note:3 plain note:4",
    "MSET note:3 1 plain 2",
    "EXISTS note:1 note:3 place:1 plain",
    "TOUCH note:1 plain",
    "EVAL return{redis.call('hget',KEYS[1],'text'),KEYS[2]} 2 note:1 plain",
    "SORT note:5 BY note:*->text",
    "BLPOP note:5 0.1",
    "XADD note:9 1-1 a b",
    "XREAD STREAMS note:9 0",
    "HSET place:1 name there",
    "HGETALL place:1",
    "HGETALL place:2",
    "MULTI",
    "HSET note:1 text d",
    "HGET note:1 text",
    "GET plain",
    "EXEC",
    "WATCH note:1",
    "HSET note:1 text e",
    "MULTI",
    "HGET note:1 text",
    "EXEC",
    "MULTI",
    "HSET note:1 text f",
    "DISCARD",
    "SCAN 0 MATCH place:* COUNT 1000",
    "KEYS place:*",
    "DBSIZE",
    "DEL note:1 note:3 plain",
    "EXISTS note:1",
];

fn answers_as_redis(wire: &mut Wire) {
    let redis = Redis::start();
    let mut direct = redis.wire();
    for command in COMMANDS {
        assert_eq!(wire.ask(command), direct.ask(command), "{command}");
    }
}

#[test]
fn what_is_off_by_the_configuration_is_the_upstreams() {
    let place = Place::new();
    let sidecar = place.builder("mode = \"off\"").start();
    answers_as_redis(&mut sidecar.wire());
    assert_eq!(place.text(1), "a", "nothing was written to the store");
}

#[test]
fn what_is_switched_off_is_the_upstreams_and_comes_back_as_the_store_has_it() {
    let place = Place::new();
    let sidecar = place.builder("").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET note:1 text"), "$1\r\na\r\n");
    assert_eq!(wire.ask("HGET place:1 name"), "$4\r\nhere\r\n");
    wire.ask("HEARTHSIDE MODE ALL off");
    answers_as_redis(&mut wire);
    place.sql("UPDATE notes SET text = 'z' WHERE id = 1");
    wire.ask("HEARTHSIDE MODE ALL on");
    assert_eq!(wire.ask("HGET note:1 text"), "$1\r\nz\r\n", "nothing is served that was in memory before");
    assert_eq!(wire.ask("HGET place:1 name"), "$4\r\nhere\r\n");
    assert!(wire.ask("EVAL x 1 note:1").contains("is not answered on the owned key"));
}
