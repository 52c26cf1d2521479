//! What the upstream, or the sidecar, remembers of a connection: CLIENT and its subcommands, TRACKING, MONITOR, WAIT.

use std::time::Duration;

use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn started() -> (Redis, Sidecar) {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    (redis, sidecar)
}

fn id(wire: &mut Wire) -> u64 {
    wire.ask("CLIENT ID").trim().trim_start_matches(':').parse().expect("a number")
}

#[test]
fn clients_see_find_and_end_each_other() {
    let (_redis, sidecar) = started();
    let (mut one, mut two) = (sidecar.wire(), sidecar.wire());
    one.ask("CLIENT SETNAME ann");
    two.ask("HELLO 3 SETNAME bob");
    two.ask("SELECT 2");
    two.ask("MULTI");
    let (first, second) = (id(&mut one), one.ask("CLIENT LIST"));
    assert!(second.contains(&format!("id={first} addr=127.0.0.1:")) && second.contains("name=ann age="), "{second}");
    assert!(second.contains("cmd=client|list user=default redir=-1 resp=2"), "{second}");
    let bob = second.lines().find(|line| line.contains("name=bob")).expect("listed");
    assert!(bob.contains(" flags=x db=2 ") && bob.contains(" multi=0 ") && bob.contains("cmd=multi"), "{bob}");
    let address = bob.split(' ').find_map(|field| field.strip_prefix("addr=")).expect("an address").to_owned();
    assert_eq!(one.ask(&format!("CLIENT KILL {address}")), "+OK\r\n");
    assert!(two.try_frame().is_none(), "it is closed");
    until("it is gone from the list", || !one.ask("CLIENT LIST").contains("name=bob"));
    let others: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = sidecar.wire();
            wire.ask("SUBSCRIBE a");
            wire
        })
        .collect();
    assert_eq!(one.ask("CLIENT LIST TYPE pubsub").matches("sub=1 psub=0").count(), 3);
    assert_eq!(one.ask("CLIENT KILL TYPE pubsub"), ":3\r\n");
    for mut wire in others {
        assert!(wire.try_frame().is_none());
    }
    assert_eq!(one.ask("CLIENT KILL TYPE normal"), ":0\r\n", "not the one that asks");
    assert_eq!(one.ask("CLIENT KILL TYPE normal SKIPME no"), ":1\r\n");
    assert!(one.try_frame().is_none(), "answered, then closed");
}

#[test]
fn a_blocked_client_is_unblocked_by_another() {
    let (redis, sidecar) = started();
    let (mut blocked, mut other, mut direct) = (sidecar.wire(), sidecar.wire(), redis.wire());
    let waiting = id(&mut blocked);
    // The upstream knows it before the sidecar has noted it.
    let mut until_it_waits = |other: &mut Wire| {
        until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
        until("that is listed", || other.ask("CLIENT LIST").contains(" flags=b "));
    };
    blocked.send(&line("BLPOP nosuch 0"));
    until_it_waits(&mut other);
    assert_eq!(other.ask(&format!("CLIENT UNBLOCK {waiting}")), ":1\r\n");
    assert_eq!(blocked.frame(), b"*-1\r\n");
    assert_eq!(other.ask(&format!("CLIENT UNBLOCK {waiting}")), ":0\r\n");
    blocked.send(&line("BLPOP nosuch 0"));
    until_it_waits(&mut other);
    assert_eq!(other.ask(&format!("CLIENT UNBLOCK {waiting} ERROR")), ":1\r\n");
    assert_eq!(String::from_utf8_lossy(&blocked.frame()), "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n");
    blocked.send(&line("BLPOP nosuch 0"));
    until_it_waits(&mut other);
    assert_eq!(other.ask(&format!("CLIENT KILL ID {waiting}")), ":1\r\n");
    until("its wait ended with it", || direct.ask("INFO clients").contains("blocked_clients:0"));
}

#[test]
fn replies_are_switched_off_and_skipped() {
    let (_redis, sidecar) = started();
    let mut wire = sidecar.wire();
    let owned = "HGET item:apple:def name";
    for (requests, expected) in [
        (vec!["CLIENT REPLY SKIP", "SET a 1", "GET a"], "$1\r\n1\r\n"),
        (vec!["CLIENT REPLY SKIP", owned, "GET a"], "$1\r\n1\r\n"),
        (vec!["CLIENT REPLY OFF", "INCR a", owned, "MULTI", "INCR a", "EXEC", "CLIENT REPLY ON"], "+OK\r\n"),
        (vec!["CLIENT REPLY OFF", "BLPOP nosuch 0.01", "NOSUCH", "CLIENT REPLY ON"], "+OK\r\n"),
    ] {
        wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<_>>());
        assert_eq!(String::from_utf8_lossy(&wire.frame()), expected, "{requests:?}");
    }
    assert_eq!(wire.ask("GET a"), "$1\r\n3\r\n", "what was not answered was done");
}

#[test]
fn a_tracking_client_is_told_what_changes_and_keeps_owned_keys() {
    let (redis, sidecar) = started();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    wire.ask("HELLO 3");
    assert_eq!(wire.ask("CLIENT TRACKING ON"), "+OK\r\n");
    direct.ask("SET a 1");
    assert_eq!(wire.ask("GET a"), "$1\r\n1\r\n");
    direct.ask("SET a 2");
    assert_eq!(String::from_utf8_lossy(&wire.frame()), ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n");
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
    assert_eq!(wire.ask("PING"), "+PONG\r\n", "it is told when that changes");
    assert!(sidecar.wire().ask("CLIENT LIST").contains(" flags=t "));
    // A transaction of a tracking client goes over the same connection.
    wire.send(&[line("MULTI"), line("GET a"), line("HGET item:apple:def name"), line("EXEC")].concat());
    let replies: Vec<_> = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(replies[3], "*2\r\n$1\r\n2\r\n$5\r\nApple\r\n");
    direct.ask("SET a 3");
    assert!(wire.frame().starts_with(b">2\r\n$10\r\ninvalidate"));
    assert_eq!(wire.ask("CLIENT TRACKING OFF"), "+OK\r\n");
    until("its connection is given back clean", || !direct.ask("CLIENT LIST").contains("flags=t"));
    assert_eq!(wire.ask("GET a"), "$1\r\n3\r\n");
    direct.ask("SET a 4");
    assert_eq!(wire.ask("PING"), "+PONG\r\n", "nothing is pushed any more");
}

#[test]
fn invalidations_are_redirected_to_a_client_that_subscribed() {
    let (redis, sidecar) = started();
    let (mut data, mut ear, mut direct) = (sidecar.wire(), sidecar.wire(), redis.wire());
    let to = id(&mut ear);
    ear.ask("SUBSCRIBE __redis__:invalidate");
    assert_eq!(data.ask(&format!("CLIENT TRACKING ON REDIRECT {to}")), "+OK\r\n");
    assert_eq!(data.ask("CLIENT GETREDIR"), format!(":{to}\r\n"));
    assert!(data.ask("CLIENT TRACKINGINFO").contains(&format!("redirect\r\n:{to}\r\n")));
    data.ask("GET a");
    direct.ask("SET a 1");
    let told = String::from_utf8_lossy(&ear.frame()).into_owned();
    assert!(told.contains("__redis__:invalidate") && told.ends_with("$1\r\na\r\n"), "{told}");
    assert!(data.ask("HGET item:apple:def name").contains("Apple"));
    assert!(data.ask("CLIENT TRACKING ON REDIRECT 999999").contains("does not exist"));
}

#[test]
fn wait_counts_replicas_that_have_what_the_client_wrote() {
    let (redis, sidecar) = started();
    let replica =
        Redis::with(&["--replicaof", &format!("127.0.0.1 {}", redis.port), "--repl-ping-replica-period", "1"]);
    let mut wire = sidecar.wire();
    until("the replica is there", || wire.ask("INFO replication").contains("state=online"));
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    assert_eq!(wire.ask("WAIT 1 5000"), ":1\r\n");
    replica.pause(true);
    assert_eq!(wire.ask("SET a 2"), "+OK\r\n");
    assert_eq!(wire.ask("WAIT 1 50"), ":0\r\n", "the replica does not have it");
    replica.pause(false);
    assert_eq!(wire.ask("WAIT 1 5000"), ":1\r\n");
}

#[test]
fn a_monitor_sees_everything_and_asks_nothing() {
    let (redis, sidecar) = started();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    assert_eq!(wire.ask("MONITOR"), "+OK\r\n");
    direct.ask("SET a 1");
    assert!(String::from_utf8_lossy(&wire.frame()).ends_with("\"SET\" \"a\" \"1\"\r\n"));
    assert_eq!(wire.ask("HGETALL item:apple:def"), "-ERR Replica can't interact with the keyspace\r\n");
    assert_eq!(wire.ask("GET a"), "-ERR Replica can't interact with the keyspace\r\n");
    assert!(sidecar.wire().ask("CLIENT LIST").contains(" flags=O "));
    assert_eq!(wire.ask("RESET"), "+RESET\r\n");
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
}

#[test]
fn a_script_is_debugged_over_a_connection_of_its_own() {
    let (_redis, sidecar) = started();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SCRIPT DEBUG SYNC"), "+OK\r\n");
    wire.send(&crate::support::wire::array(&["EVAL", "local a = 1\nreturn a", "0"]));
    let stopped = String::from_utf8_lossy(&wire.frame()).into_owned();
    assert!(stopped.contains("Stopped at 1"), "{stopped}");
    wire.send(&line("c"));
    let mut told = String::new();
    while let Some(frame) = wire.try_frame() {
        told += &String::from_utf8_lossy(&frame);
        if told.contains("<endsession>") {
            break;
        }
    }
    assert!(told.contains("<endsession>"), "{told}");
    assert_eq!(wire.rest(), b":1\r\n", "the script's reply, and the upstream closes a debugged connection");
}

#[test]
fn a_held_client_moves_and_comes_back_clean() {
    let (redis, sidecar) = started();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    assert_eq!(wire.ask("CLIENT NO-EVICT ON"), "+OK\r\n");
    assert!(direct.ask("CLIENT LIST").contains("flags=e"));
    assert_eq!(wire.ask("SELECT 3"), "+OK\r\n");
    assert!(wire.ask("HELLO 3").starts_with("%7\r\n"));
    assert_eq!(wire.ask("SET here 1"), "+OK\r\n");
    assert_eq!(wire.ask("HGETALL nosuch"), "%0\r\n", "its own connection speaks RESP3 too");
    assert_eq!(wire.ask("SELECT 99"), "-ERR DB index is out of range\r\n");
    assert_eq!(wire.ask("GET here"), "$1\r\n1\r\n");
    assert_eq!(wire.ask("CLIENT NO-EVICT OFF"), "+OK\r\n");
    assert_eq!(wire.ask("GET here"), "$1\r\n1\r\n", "on the lanes of database 3");
    direct.ask("SELECT 3");
    assert_eq!(direct.ask("GET here"), "$1\r\n1\r\n");
    until("no connection keeps a state", || !direct.ask("CLIENT LIST").contains("flags=e"));
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 0.0, "one that has moved is not reused");
}

#[test]
fn what_was_published_before_a_reset_comes_before_its_answer() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port)).start();
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut wire = sidecar.wire();
        wire.ask(hello);
        wire.ask("SUBSCRIBE c");
        proxy.answer_after("RESET");
        assert_eq!(redis.wire().ask("PUBLISH c published"), ":1\r\n");
        wire.send(&line("RESET"));
        let first = String::from_utf8_lossy(&wire.frame()).into_owned();
        assert!(first.contains("published"), "{hello}: {first}");
        assert_eq!(wire.frame(), b"+RESET\r\n");
        proxy.answer();
    }
}

#[test]
fn a_subscriber_that_was_reset_is_gone_when_it_is_told() {
    let (redis, sidecar) = started();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    for round in 0..50 {
        wire.ask("SUBSCRIBE a");
        assert_eq!(direct.ask("PUBLISH a hi"), ":1\r\n");
        assert!(wire.frame().ends_with(b"hi\r\n"));
        assert_eq!(wire.ask("RESET"), "+RESET\r\n");
        assert_eq!(direct.ask("PUBLISH a hi"), ":0\r\n", "round {round}");
    }
}

#[test]
fn an_invalidation_does_not_overtake_the_reply_to_a_read_before_it() {
    let (redis, sidecar) = started();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    wire.ask("HELLO 3");
    assert_eq!(wire.ask("SET k 1"), "+OK\r\n");
    assert_eq!(wire.ask("CLIENT TRACKING ON"), "+OK\r\n");
    let id = id(&mut wire);
    let mut taken = |command: &str| {
        let shown = format!("cmd={command} ");
        until("it is taken", || other.ask(&format!("CLIENT LIST ID {id}")).contains(&shown));
    };
    // All of it is answered at once.
    redis.pause(true);
    wire.send(&line("STRLEN a"));
    taken("strlen");
    wire.send(&[line("GET k"), line("SET k 2")].concat());
    taken("set");
    redis.pause(false);
    let told: Vec<String> = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(told, [":0\r\n", "$1\r\n1\r\n", "+OK\r\n", ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"]);
}

#[test]
fn pinned_connections_are_bounded_and_so_is_the_wait() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .set("UPSTREAM__PINNED_MAX", "2")
        .set("UPSTREAM__PINNED_TIMEOUT", "150ms")
        .start();
    let (mut one, mut two, mut three) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    one.ask("SUBSCRIBE a");
    two.ask("SUBSCRIBE a");
    let told = three.ask("BLPOP nosuch 1");
    assert!(told.contains("all 2 pinned connections are in use (upstream.pinned_max)"), "{told}");
    assert_eq!(metric(&sidecar, "hearthside_pinned_refused_total"), 1.0);
    assert_eq!(three.ask("SET a 1"), "+OK\r\n", "ordinary commands need none");
    three.send(&line("BLPOP nosuch 0.01"));
    until("it waits for one", || metric(&sidecar, "hearthside_pinned_waiting") == 1.0);
    drop(one);
    let told = String::from_utf8_lossy(&three.frame()).into_owned();
    assert!(told == "*-1\r\n", "it got the one that came free: {told}");
    assert!(three.is_silent(Duration::from_millis(1)));
}

#[test]
fn http_is_no_redis() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).expect(&[warnings::SPEAKS_HTTP]).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    other.ask("SET a 1");
    wire.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(wire.rest(), b"");
    for _ in 0..20 {
        let mut wire = sidecar.wire();
        wire.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(wire.rest(), b"");
    }
    assert_eq!(sidecar.log().matches("a client speaks HTTP").count(), 1, "one line now and then");
    assert_eq!(other.ask("GET a"), "$1\r\n1\r\n");
    assert_eq!(metric(&sidecar, "hearthside_lane_failures_total"), 0.0, "nobody's connection was closed for it");
}
