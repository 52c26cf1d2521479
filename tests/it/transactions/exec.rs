//! MULTI, EXEC and WATCH over pinned connections, with reads of owned keys among them.

use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::line;

#[test]
fn pass_through_transactions_answer_as_redis_does() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let sidecar = Sidecar::builder().redis(&redis).start();
    let (mut through, mut direct) = (sidecar.wire(), twin.wire());
    for request in [
        "MULTI",
        "SET a 1",
        "INCR a",
        "LPUSH a x",
        "GET a",
        "EXEC",
        "MULTI",
        "EXEC",
        "MULTI",
        "MULTI",
        "SET",
        "SET b 1",
        "EXEC",
        "MULTI",
        "NOSUCH",
        "EXEC",
        "EXEC",
        "DISCARD",
        "MULTI",
        "SET c 1",
        "DISCARD",
        "GET c",
        "WATCH a",
        "UNWATCH",
        "WATCH a",
        "SET a 5",
        "MULTI",
        "GET a",
        "EXEC",
        "WATCH a",
        "MULTI",
        "GET a",
        "EXEC",
        "WATCH",
        "MULTI",
        "WATCH a",
        "EXEC",
        "MULTI",
        "PING",
        "ECHO x",
        "BLPOP nosuch 0",
        "EXEC",
        "UNWATCH",
        "MULTI",
        "EXEC x",
        "EXEC",
        "MULTI",
        "SET d 1",
        "RESET",
        "GET d",
        "EXEC",
    ] {
        assert_eq!(through.ask(request), direct.ask(request), "{request}");
    }
}

/// HELLO inside MULTI keeps the database that SELECT before it has moved to, and speaks the protocol of that moment.
#[test]
fn select_and_hello_inside_multi_keep_each_others_effect() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut through = sidecar.wire();
    for request in ["MULTI", "SELECT 3", "HELLO 3", "SELECT 4", "HELLO", "SET here 4"] {
        through.ask(request);
    }
    let replies = through.ask("EXEC");
    assert_eq!(replies.matches("%7\r\n").count(), 2, "both greetings are of RESP3: {replies:?}");
    assert_eq!(through.ask("GET here"), "$1\r\n4\r\n");
    let mut direct = redis.wire();
    assert_eq!((direct.ask("SELECT 4"), direct.ask("GET here")), ("+OK\r\n".into(), "$1\r\n4\r\n".into()));
}

#[test]
fn owned_reads_take_their_places_among_the_upstreams_replies() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    let requests = [
        "MULTI",
        "SET a 1",
        "HGET player:1:session hp",
        "INCR a",
        "HGET item:iron_sword:def name",
        "LLEN player:1:inventory",
        "LLEN item:apple:def",
        "EXEC",
    ];
    wire.send(&requests.map(line).concat());
    let replies: Vec<_> = requests.iter().map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert!(replies[1..7].iter().all(|r| r == "+QUEUED\r\n"), "{replies:?}");
    assert_eq!(
        replies[7],
        "*6\r\n+OK\r\n$2\r\n99\r\n:2\r\n$10\r\nIron Sword\r\n:8\r\n-WRONGTYPE Operation against a key holding the \
         wrong kind of value\r\n"
    );
    // What cannot be answered is refused when it is queued, and the transaction aborts.
    wire.ask("MULTI");
    assert!(wire.ask("RPUSH player:1:inventory x").starts_with("-ERR hearthside: RPUSH"));
    assert!(wire.ask("HGET player:1:session").starts_with("-ERR wrong number"));
    assert_eq!(wire.ask("SET a 9"), "+QUEUED\r\n");
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(wire.ask("GET a"), "$1\r\n2\r\n");
    // A transaction that the upstream refuses runs nothing of ours, and what is in memory stays: more often than the
    // store's file is asked for changes.
    wire.ask("HGET player:1:session hp");
    let loads = || crate::support::admin::metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    let before = loads();
    for _ in 0..20 {
        wire.ask("WATCH a");
        sidecar.wire().ask("SET a 3");
        for request in ["MULTI", "SET a 4", "DEL player:1:session"] {
            wire.ask(request);
        }
        assert_eq!(wire.ask("EXEC"), "*-1\r\n");
        wire.ask("HGET player:1:session hp");
    }
    assert_eq!(before, loads(), "the record was not forgotten");
}

#[test]
fn a_transaction_over_owned_keys_needs_no_upstream() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    wire.ask("HGET player:1:session hp");
    redis.kill();
    for request in ["MULTI", "HGET player:1:session hp", "HGET item:apple:def name"] {
        wire.ask(request);
    }
    assert_eq!(wire.ask("EXEC"), "*2\r\n$2\r\n99\r\n$5\r\nApple\r\n");
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing_behind() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    for _ in 0..20 {
        let mut wire = sidecar.wire();
        wire.ask("WATCH a");
        wire.ask("MULTI");
        wire.ask("SET a 1");
    }
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("GET a"), "$-1\r\n");
    assert_eq!(wire.ask("MULTI"), "+OK\r\n");
    assert_eq!(wire.ask("GET a"), "+QUEUED\r\n");
    assert_eq!(wire.ask("EXEC"), "*1\r\n$-1\r\n", "a dirty connection serves nobody else");
    let mut direct = redis.wire();
    crate::support::until("their connections are closed", || !direct.ask("CLIENT LIST").contains("multi=1"));
}
