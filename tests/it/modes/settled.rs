//! The mode `fallback`: what is deleted, replaced or ends, of keys that may be at either side, and what is said where
//! one of the sides fails.

use super::place::{Place, config};
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

/// Beside the notes, whose rows DEL deletes: hashes whose rows stay, strings that end by SQL's rows alone, and strings
/// that have no end.
const MORE: &str = r#"
[[caches]]
key = "memo:{id:int}"
type = "hash"
table = "memos"
write = "through"
mode = "fallback"

[[caches]]
key = "stay:{id}"
type = "string"
table = "stays"
value = "data"
expires_column = "ends"
mode = "fallback"

[[caches]]
key = "doc:{id}"
type = "string"
table = "docs"
value = "data"
write = "through"
delete = "row"
mode = "fallback"
"#;

fn building(place: &Place) -> Builder {
    place.sql(
        "CREATE TABLE memos (id BIGINT PRIMARY KEY, text TEXT); CREATE TABLE stays (id TEXT PRIMARY KEY, data TEXT, \
         ends TIMESTAMPTZ); CREATE TABLE docs (id TEXT PRIMARY KEY, data TEXT CHECK (data <> 'bad'))",
    );
    place.builder("").config(&format!("{}{MORE}", config("mode = \"fallback\""))).migrated()
}

fn fallen(place: &Place) -> Sidecar {
    building(place).start()
}

#[test]
fn what_a_transaction_deletes_is_deleted_where_it_is() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (mut redis, mut wire) = (place.redis.wire(), sidecar.wire());
    redis.ask("HSET memo:1 text theirs");
    redis.ask("SET stay:a theirs");
    for request in ["MULTI", "DEL memo:1", "UNLINK stay:a", "SET plain 1"] {
        assert!(wire.ask(request).starts_with('+'), "{request}");
    }
    assert_eq!(redis.ask("EXISTS memo:1 stay:a"), ":2\r\n", "until EXEC");
    assert_eq!(wire.ask("EXEC"), "*3\r\n:1\r\n:1\r\n+OK\r\n");
    assert_eq!(wire.ask("EXISTS memo:1 stay:a"), ":0\r\n");
    assert_eq!(place.sql("SELECT count(*) FROM memos"), "0", "it was not brought over");
    // Several keys, of which the store has one.
    redis.ask("HSET memo:2 text theirs");
    place.sql("INSERT INTO memos VALUES (3, 'ours')");
    wire.ask("MULTI");
    assert_eq!(wire.ask("DEL memo:2 memo:3 plain memo:9"), "+QUEUED\r\n");
    assert_eq!(wire.ask("EXEC"), "*1\r\n:2\r\n");
    assert_eq!(wire.ask("EXISTS memo:2 plain memo:9"), ":0\r\n");
    assert_eq!(wire.ask("HGET memo:3 text"), "$4\r\nours\r\n", "delete = \"row\" is not said");
    // What is discarded has lost nothing.
    redis.ask("HSET memo:4 text theirs");
    for request in ["MULTI", "DEL memo:4", "DISCARD"] {
        assert!(wire.ask(request).starts_with('+'), "{request}");
    }
    assert_eq!(wire.ask("HGET memo:4 text"), "$6\r\ntheirs\r\n");
    // A row that is to go cannot go in the same command as a key of the upstream's.
    wire.ask("MULTI");
    assert!(wire.ask("DEL memo:4 note:1").contains("over owned and pass-through keys is not supported inside MULTI"));
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(redis.ask("EXISTS memo:4"), ":1\r\n");
    assert_eq!(place.text(1), "a");
}

#[test]
fn a_key_that_ends_by_its_row_ends_on_both_sides_also_where_no_command_writes_it() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (mut redis, mut wire) = (place.redis.wire(), sidecar.wire());
    place.sql("INSERT INTO stays VALUES ('a', 'ours', now() + interval '1 hour'), ('b', 'ours', NULL)");
    for key in ["stay:a", "stay:b"] {
        redis.ask(&format!("SET {key} theirs"));
    }
    assert_eq!(wire.ask("GETEX stay:b"), "$4\r\nours\r\n");
    assert_eq!(redis.ask("EXISTS stay:b"), ":1\r\n", "its end is as it was");
    assert_eq!(wire.ask("PEXPIRE stay:a 1"), ":1\r\n");
    assert_eq!(redis.ask("EXISTS stay:a"), ":0\r\n");
    until("it has ended", || wire.ask("EXISTS stay:a") == ":0\r\n");
}

#[test]
fn what_replaces_a_value_that_does_not_fit_takes_its_place() {
    let place = Place::new();
    let sidecar = fallen(&place);
    let (mut redis, mut wire) = (place.redis.wire(), sidecar.wire());
    let plant = |redis: &mut crate::support::wire::Wire| {
        redis.ask("SET doc:a theirs EX 1000");
        redis.ask("DEL doc:b");
        redis.ask("HSET doc:b f theirs");
    };
    plant(&mut redis);
    for request in ["SET doc:a ours", "SET doc:b ours"] {
        assert_eq!(wire.ask(request), "+OK\r\n", "{request}");
    }
    assert_eq!(redis.ask("EXISTS doc:a doc:b"), ":0\r\n");
    assert_eq!(wire.ask("MGET doc:a doc:b"), "*2\r\n$4\r\nours\r\n$4\r\nours\r\n");
    assert_eq!(place.sql("SELECT string_agg(id || data, ' ' ORDER BY id) FROM docs"), "aours bours");
    place.sql("DELETE FROM docs");
    plant(&mut redis);
    until("the rows are forgotten", || wire.ask("GET doc:a") == "$6\r\ntheirs\r\n");
    assert_eq!(wire.ask("SETEX doc:a 60 ours"), "+OK\r\n", "with a TTL, which memory keeps");
    // What asks for the value, or keeps a part of it, needs it.
    for request in ["SET doc:b ours GET", "SET doc:b ours NX", "SET doc:b ours KEEPTTL", "APPEND doc:b ours"] {
        assert!(wire.ask(request).contains("does not fit the mapping"), "{request}");
    }
    // What the store refuses has replaced nothing.
    assert!(wire.ask("SET doc:b bad").starts_with("-ERR hearthside"));
    assert_eq!(redis.ask("HGET doc:b f"), "$6\r\ntheirs\r\n");
}

#[test]
fn what_may_have_been_done_is_said_where_a_side_fails_behind_it() {
    let mut place = Place::new();
    let expected = [warnings::UPSTREAM_AWAY, &[warnings::UNFIT, warnings::LOAD_FAILED]].concat();
    let sidecar = building(&place).expect(&expected).start();
    let (mut redis, mut wire) = (place.redis.wire(), sidecar.wire());
    redis.ask("HSET memo:1 text theirs");
    redis.ask("SET stay:a theirs");
    place.sql("DROP TABLE stays");
    wire.ask("HEARTHSIDE INVALIDATE stay:a");
    let told = wire.ask("DEL memo:1 stay:a");
    assert!(told.starts_with("-ERR hearthside: a part of the keys may have been removed"), "{told}");
    assert!(told.contains("stays"), "the reason: {told}");
    assert_eq!(redis.ask("EXISTS memo:1 stay:a"), ":1\r\n");
    redis.ask("HSET memo:2 text theirs");
    assert_eq!(redis.ask("CLIENT PAUSE 600000 WRITE"), "+OK\r\n");
    wire.send(&line("DEL memo:2"));
    // A paused client is blocked.
    let waits = |line: &str| line.contains(" flags=b ") && line.contains(" cmd=unlink ");
    until("the upstream has it", || redis.ask("CLIENT LIST").lines().any(waits));
    place.redis.kill();
    let told = String::from_utf8_lossy(&wire.frame()).into_owned();
    assert!(
        told.contains("keys may have been removed at the upstream") && !told.contains("nothing was done"),
        "{told}"
    );
    let told = wire.ask("DEL memo:2");
    assert!(told.contains("nothing was done"), "it was not sent: {told}");
}
