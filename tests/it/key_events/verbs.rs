//! Each command by itself: the names, the order and the channels of its events, held against a Redis.

use super::listener::{Listener, all};
use super::place::{Place, telling};

/// Commands, and what is told of them: the keys and their events.
type Story = (&'static [&'static str], &'static [(&'static str, &'static str)]);

/// A Redis whose keys they are tells the same: both are looked at.
const STORIES: &[Story] = &[
    (&["SET s:1 a"], &[("s:1", "set")]),
    (&["SET s:1 a", "SET s:1 b XX", "SET s:1 c NX", "SETNX s:1 d"], &[("s:1", "set"), ("s:1", "set")]),
    (&["SET s:1 a EX 100"], &[("s:1", "set"), ("s:1", "expire")]),
    (
        &["SETEX s:1 100 a", "PSETEX s:1 100000 b"],
        &[("s:1", "set"), ("s:1", "expire"), ("s:1", "set"), ("s:1", "expire")],
    ),
    (&["SETNX s:1 d", "GETSET s:1 e", "APPEND s:1 f"], &[("s:1", "set"), ("s:1", "set"), ("s:1", "append")]),
    (&["INCR s:1", "DECR s:1", "INCRBY s:1 5", "DECRBY s:1 5"], &[("s:1", "incrby"); 4]),
    (&["INCRBYFLOAT s:1 0.5"], &[("s:1", "incrbyfloat")]),
    (&["SET s:1 a", "GETDEL s:1", "GETDEL s:1"], &[("s:1", "set"), ("s:1", "del")]),
    (
        &["SET s:1 a", "EXPIRE s:1 100", "PERSIST s:1", "PERSIST s:1"],
        &[("s:1", "set"), ("s:1", "expire"), ("s:1", "persist")],
    ),
    (&["SET s:1 a", "EXPIREAT s:1 33177117420", "PEXPIRE s:1 5 GT"], &[("s:1", "set"), ("s:1", "expire")]),
    (
        &["SET s:1 a", "GETEX s:1 EX 100", "GETEX s:1", "GETEX s:1 PERSIST"],
        &[("s:1", "set"), ("s:1", "expire"), ("s:1", "persist")],
    ),
    (&["SET s:1 a", "PEXPIRE s:1 -1"], &[("s:1", "set"), ("s:1", "del")]),
    (&["SET s:1 a", "GETEX s:1 PXAT 1"], &[("s:1", "set"), ("s:1", "del")]),
    (&["SET s:1 a", "DEL s:1 s:2"], &[("s:1", "set"), ("s:1", "del")]),
    (&["SET s:1 a", "UNLINK s:1 s:2"], &[("s:1", "set"), ("s:1", "del")]),
    (&["HSET h:1 f 1", "HMSET h:1 f 1 g 2"], &[("h:1", "hset"), ("h:1", "hset")]),
    (&["HSETNX h:1 f 1", "HSETNX h:1 f 2"], &[("h:1", "hset")]),
    (&["HINCRBY h:1 f 1", "HINCRBYFLOAT h:1 f 0.5"], &[("h:1", "hincrby"), ("h:1", "hincrbyfloat")]),
    (
        &["HSET h:1 f 1 g 2", "HDEL h:1 f", "HDEL h:1 f", "HDEL h:1 g"],
        &[("h:1", "hset"), ("h:1", "hdel"), ("h:1", "hdel"), ("h:1", "del")],
    ),
    (
        &["SADD t:1 a b", "SADD t:1 a", "SREM t:1 a", "SREM t:1 a", "SREM t:1 b"],
        &[("t:1", "sadd"), ("t:1", "srem"), ("t:1", "srem"), ("t:1", "del")],
    ),
    // What only memory keeps.
    (&["SADD t:1 a", "EXPIRE t:1 100", "PERSIST t:1"], &[("t:1", "sadd"), ("t:1", "expire"), ("t:1", "persist")]),
    // Nothing has changed, or nothing could be done.
    (&["DEL s:9", "HDEL h:9 f", "SREM t:9 a", "EXPIRE s:9 100", "GETEX s:9 EX 5"], &[]),
    (&["SET s:1 a", "INCR s:1", "HSET s:1 f 1", "GET s:1", "EXISTS s:1", "TOUCH s:1"], &[("s:1", "set")]),
    // All of a transaction, in its order.
    (
        &[
            "MULTI",
            "SET s:2 a",
            "HSET h:1 f 1",
            "SET s:1 b EX 100",
            "SADD t:1 a",
            "DEL s:2",
            "INCR s:3",
            "SREM t:1 a",
            "EXEC",
        ],
        &[
            ("s:2", "set"),
            ("h:1", "hset"),
            ("s:1", "set"),
            ("s:1", "expire"),
            ("t:1", "sadd"),
            ("s:2", "del"),
            ("s:3", "incrby"),
            ("t:1", "srem"),
            ("t:1", "del"),
        ],
    ),
    (&["MULTI", "SET s:2 a", "DISCARD"], &[]),
    (
        &["MULTI", "SET s:2 a", "EXPIRE s:2 50", "PERSIST s:2", "PEXPIRE s:2 -5", "EXEC"],
        &[("s:2", "set"), ("s:2", "expire"), ("s:2", "persist"), ("s:2", "del")],
    ),
];

/// Leaves no key.
const CLEAN: [&str; 3] = ["DEL s:1 s:2 s:3", "DEL t:1", "HDEL h:1 f g"];

#[test]
fn each_command_is_told_as_redis_tells_it() {
    let (place, plain) = (Place::new(), telling());
    let sidecar = place.start();
    for mode in ["HELLO 2", "HELLO 3"] {
        let mut sides = [
            (sidecar.wire(), Listener::of(sidecar.wire(), mode, "PSUBSCRIBE __key*__:*")),
            (plain.wire(), Listener::of(plain.wire(), mode, "PSUBSCRIBE __key*__:*")),
        ];
        for (round, (story, expected)) in STORIES.iter().enumerate() {
            for (wire, listener) in &mut sides {
                story.iter().for_each(|command| drop(wire.ask(command)));
                wire.ask(&format!("SET s:last {round}"));
                assert_eq!(listener.until("s:last", "set"), all(expected), "{story:?}");
                CLEAN.iter().for_each(|command| drop(wire.ask(command)));
                wire.ask("SET s:last clean");
                listener.until("s:last", "set");
            }
        }
    }
}

#[test]
fn commands_that_change_no_row_are_told_as_redis_would_tell_them() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO hashes VALUES ('1', 'f', NULL)");
    let sidecar = place.start();
    let (mut wire, mut listener) = (sidecar.wire(), Listener::of_all(sidecar.wire()));
    // DEL and EXPIRE only let go of what is in memory; the row stays.
    assert_eq!(wire.ask("DEL h:1"), ":0\r\n");
    assert_eq!(wire.ask("HGET h:1 f"), "$1\r\nf\r\n");
    assert_eq!(wire.ask("DEL h:1"), ":1\r\n");
    assert_eq!(wire.ask("EXPIRE h:1 100"), ":1\r\n");
    assert_eq!(wire.ask("EXPIRE h:1 0"), ":1\r\n");
    wire.ask("MULTI");
    wire.ask("DEL h:1");
    assert_eq!(wire.ask("EXEC"), "*1\r\n:0\r\n");
    // What cache-aside code writes.
    assert_eq!(wire.ask("HSET fill:1 f x"), ":1\r\n");
    wire.ask("SET s:last x");
    let expected = [("h:1", "del"), ("h:1", "expire"), ("h:1", "del"), ("fill:1", "hset")];
    assert_eq!(listener.until("s:last", "set"), all(&expected));
}
