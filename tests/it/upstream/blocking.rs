//! Blocking commands, Pub/Sub and MONITOR over pinned connections: nobody else waits for them.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

#[test]
fn a_blocked_client_holds_up_nobody_and_its_wait_ends_with_it() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").start();
    let mut direct = redis.wire();
    let (mut blocked, mut other) = (sidecar.wire(), sidecar.wire());
    blocked.send(&[line("SET before 1"), line("BLPOP queue 0"), line("GET before")].concat());
    assert_eq!(blocked.frame(), b"+OK\r\n");
    until("it is blocked upstream", || direct.ask("INFO clients").contains("blocked_clients:1"));
    assert_eq!(other.ask("RPUSH queue job"), ":1\r\n");
    assert_eq!(String::from_utf8_lossy(&blocked.frame()), "*2\r\n$5\r\nqueue\r\n$3\r\njob\r\n");
    assert_eq!(blocked.frame(), b"$1\r\n1\r\n");
    blocked.send(&line("BLPOP queue 0"));
    until("it is blocked again", || direct.ask("INFO clients").contains("blocked_clients:1"));
    drop(blocked);
    until("nobody waits any more", || direct.ask("INFO clients").contains("blocked_clients:0"));
    assert_eq!(other.ask("RPUSH queue kept"), ":1\r\n");
    assert_eq!(other.ask("LLEN queue"), ":1\r\n");
}

/// A client that waits on a connection of its own leaves with these requests under way.
fn leaves_with(sidecar: &Sidecar, requests: &[&str]) {
    let (redis, mut other) = (&mut sidecar.wire(), sidecar.wire());
    let mut leaving = sidecar.wire();
    leaving.send(&line("HELLO 3"));
    leaving.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<_>>());
    until("it is listed", || other.ask("CLIENT LIST").matches("id=").count() == 3);
    until("it waits", || redis.ask("INFO clients").contains("blocked_clients:1"));
    drop(leaving);
    until("it is not listed", || other.ask("CLIENT LIST").matches("id=").count() == 2);
    until("nobody waits", || redis.ask("INFO clients").contains("blocked_clients:0"));
    assert_eq!(other.ask("RPUSH jobs job"), ":1\r\n", "{requests:?}");
    assert_eq!(other.ask("LPOP jobs"), "$3\r\njob\r\n", "{requests:?}");
}

#[test]
fn whoever_leaves_does_not_wait_whatever_it_asked_for_behind_the_wait() {
    let redis = Redis::start();
    let mut sidecar = Sidecar::builder().redis(&redis).start();
    for behind in
        ["SUBSCRIBE b", "UNSUBSCRIBE a", "MULTI", "WATCH k", "RESET", "QUIT", "CLIENT NOSUCH", "HELLO 3", "MONITOR"]
    {
        leaves_with(&sidecar, &["SUBSCRIBE a", "BLPOP jobs 0", behind]);
    }
    for state in ["CLIENT TRACKING ON", "CLIENT NO-EVICT ON"] {
        leaves_with(&sidecar, &[state, "BLPOP jobs 0", "SUBSCRIBE b"]);
    }
    for wait in ["XREAD BLOCK 0 STREAMS s $", "WAIT 9 0"] {
        leaves_with(&sidecar, &["CLIENT NO-EVICT ON", wait, "SUBSCRIBE b"]);
    }
    // More than may be under way: only when there is room again, more is taken.
    let crowd = [&["SUBSCRIBE a", "BLPOP jobs 0"][..], &["HGET item:apple:def name"; 1500]].concat();
    leaves_with(&sidecar, &crowd);

    let mut waits = sidecar.wire();
    waits.send(&[line("HELLO 3"), line("SUBSCRIBE a"), line("BLPOP jobs 0"), line("SUBSCRIBE b")].concat());
    until("it waits", || redis.wire().ask("INFO clients").contains("blocked_clients:1"));
    let told = std::time::Instant::now();
    assert_eq!(sidecar.stop(), Some(0));
    assert!(told.elapsed() < std::time::Duration::from_secs(3), "a wait does not hold up the end");
}

#[test]
fn names_that_look_like_options_hold_up_nobody() {
    let redis = Redis::start();
    let one = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1");
    let sidecar = one.start();
    let (mut direct, mut other) = (redis.wire(), sidecar.wire());
    for group in ["g", "streams"] {
        direct.ask(&format!("XGROUP CREATE st {group} $ MKSTREAM"));
    }
    for command in [
        "XREADGROUP GROUP g streams BLOCK 0 STREAMS st >",
        "XREADGROUP GROUP streams c BLOCK 0 STREAMS st >",
        "XREADGROUP GROUP streams streams COUNT 1 BLOCK 0 STREAMS st >",
        "XREADGROUP NOACK GROUP g streams BLOCK 0 STREAMS st >",
        "XREADGROUP BLOCK 0 COUNT 1 GROUP g streams STREAMS st >",
        "XREAD COUNT 1 BLOCK 0 STREAMS streams $",
    ] {
        let mut blocked = sidecar.wire();
        blocked.send(&line(command));
        until("it is blocked upstream", || direct.ask("INFO clients").contains("blocked_clients:1"));
        assert_eq!(other.ask("SET a 1"), "+OK\r\n", "{command}");
        drop(blocked);
        until("nobody waits any more", || direct.ask("INFO clients").contains("blocked_clients:0"));
    }
    // And what does not wait needs no connection of its own.
    assert_eq!(other.ask("XREADGROUP GROUP g block STREAMS st >"), "*-1\r\n");
}

#[test]
fn a_monitor_of_a_busy_upstream_is_let_in() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let (mut busy, is_done) = (redis.wire(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Relaxed) {
                busy.send(&line("PING busy").repeat(50));
                (0..50).for_each(|_| drop(busy.frame()));
            }
        });
        for _ in 0..100 {
            let mut monitor = sidecar.wire();
            monitor.send(&line("MONITOR"));
            let told: Vec<_> = std::iter::from_fn(|| monitor.try_frame()).take(20).collect();
            if told.len() < 20 || told[0] != b"+OK\r\n" {
                is_done.store(true, Relaxed);
                panic!("a monitor was told {:?}", told.iter().map(|f| String::from_utf8_lossy(f)).collect::<Vec<_>>());
            }
        }
        is_done.store(true, Relaxed);
    });
}

#[test]
fn subscribers_in_both_protocols_see_what_redis_shows_them() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let sidecar = Sidecar::builder().redis(&redis).start();
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut through, mut direct) = (sidecar.wire(), twin.wire());
        through.ask(hello);
        direct.ask(hello);
        for (requests, frames) in
            [("SUBSCRIBE a b", 2), ("PSUBSCRIBE p*", 1), ("PING", 1), ("PING x", 1), ("GET k", 1), ("UNSUBSCRIBE a", 1)]
        {
            through.send(&line(requests));
            direct.send(&line(requests));
            for _ in 0..frames {
                let (ours, theirs) = (through.frame(), direct.frame());
                assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "{hello} {requests}");
            }
        }
        for (publisher, subscriber) in [(&mut sidecar.wire(), &mut through), (&mut twin.wire(), &mut direct)] {
            assert_eq!(publisher.ask("PUBLISH b hello"), ":1\r\n");
            assert_eq!(publisher.ask("PUBLISH pattern hi"), ":1\r\n");
            assert_eq!(publisher.ask("PUBLISH a nobody"), ":0\r\n");
            assert!(String::from_utf8_lossy(&subscriber.frame()).contains("$7\r\nmessage\r\n$1\r\nb\r\n$5\r\nhello"));
            assert!(String::from_utf8_lossy(&subscriber.frame()).contains("pmessage"));
        }
        for (requests, frames) in
            [("UNSUBSCRIBE", 1), ("PUNSUBSCRIBE p*", 1), ("SET k v", 1), ("GET k", 1), ("DEL k", 1)]
        {
            through.send(&line(requests));
            direct.send(&line(requests));
            for _ in 0..frames {
                let (ours, theirs) = (through.frame(), direct.frame());
                assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "{hello} {requests}");
            }
        }
        assert_eq!(through.ask("CLIENT GETNAME").len(), direct.ask("CLIENT GETNAME").len());
        assert!(through.ask("HGET item:apple:def name").contains("Apple"), "an ordinary client again");
    }
}

#[test]
fn a_resp3_subscriber_reads_owned_keys_in_order() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    wire.ask("HELLO 3");
    wire.send(
        &[
            line("SUBSCRIBE a"),
            line("SET k v"),
            line("HGET item:apple:def name"),
            line("GET k"),
            line("HGET player:1:session hp"),
        ]
        .concat(),
    );
    assert!(String::from_utf8_lossy(&wire.frame()).starts_with(">3"));
    for expected in ["+OK\r\n", "$5\r\nApple\r\n", "$1\r\nv\r\n", "$2\r\n99\r\n"] {
        assert_eq!(String::from_utf8_lossy(&wire.frame()), expected);
    }
}

#[test]
fn a_request_pipelined_behind_unsubscribe_is_an_ordinary_clients() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut wire = sidecar.wire();
        wire.ask(hello);
        for ending in ["UNSUBSCRIBE a", "UNSUBSCRIBE"] {
            wire.ask("SUBSCRIBE a");
            wire.send(
                &[
                    line(ending),
                    line("HGET player:1:session hp"),
                    line("SET k v"),
                    line("SUBSCRIBE b"),
                    line("UNSUBSCRIBE b"),
                ]
                .concat(),
            );
            let replies: Vec<_> = (0..5).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
            assert!(replies[0].contains("unsubscribe"), "{replies:?}");
            assert_eq!((replies[1].as_str(), replies[2].as_str()), ("$2\r\n99\r\n", "+OK\r\n"));
            assert!(replies[4].ends_with(":0\r\n"));
        }
    }
    assert!(!redis.wire().ask("INFO commandstats").contains("cmdstat_hget"), "the owned key never went upstream");
}

#[test]
fn a_subscriber_that_sends_garbage_is_told_and_closed() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    wire.ask("SUBSCRIBE a");
    wire.send(b"*1\r\n+oops\r\n");
    assert_eq!(String::from_utf8_lossy(&wire.rest()), "-ERR Protocol error: expected '$', got '+'\r\n");
    let mut direct = redis.wire();
    until("its subscription is gone", || direct.ask("PUBSUB NUMSUB a") == "*2\r\n$1\r\na\r\n:0\r\n");
}

#[test]
fn pinned_connections_are_returned_clean() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").start();
    for round in 0..20 {
        let mut wire = sidecar.wire();
        wire.ask("SUBSCRIBE a");
        wire.ask("UNSUBSCRIBE a");
        assert_eq!(wire.ask("BLPOP nosuch 0.01"), "*-1\r\n", "round {round}");
        wire.ask("MULTI");
        assert_eq!(wire.ask("PING"), "+QUEUED\r\n");
        assert_eq!(wire.ask("EXEC"), "*1\r\n+PONG\r\n");
    }
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 1.0, "one connection served all of them");
    let mut direct = redis.wire();
    let (sub, multi) = (direct.ask("CLIENT LIST TYPE pubsub"), direct.ask("CLIENT LIST"));
    assert!(!sub.contains("hearthside") && !multi.contains("multi=0"), "{sub}{multi}");
}

#[test]
fn monitor_shows_the_upstreams_commands_until_reset() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let (mut monitor, mut other) = (sidecar.wire(), sidecar.wire());
    assert_eq!(monitor.ask("MONITOR"), "+OK\r\n");
    other.ask("SET watched 1");
    until("the command is shown", || String::from_utf8_lossy(&monitor.frame()).contains("\"SET\" \"watched\" \"1\""));
    monitor.send(&line("RESET"));
    until("it is reset", || monitor.frame() == b"+RESET\r\n");
    assert_eq!(monitor.ask("GET watched"), "$1\r\n1\r\n");
}

#[test]
fn a_lost_subscription_closes_the_client_who_will_subscribe_again() {
    let mut redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("PUBSUB__ON_LOSS", "close");
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    wire.ask("SUBSCRIBE a");
    redis.kill();
    assert!(wire.try_frame().is_none(), "closed");
    redis.launch();
    until("a new subscription works", || sidecar.wire().ask("SUBSCRIBE a").starts_with("*3"));
}
