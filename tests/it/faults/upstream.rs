//! Faults between the sidecar and its upstream.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::trial::{AWAY, Trial, World};
use crate::support::admin::metric;
use crate::support::proxy::Spoil;
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

/// Waits until the sidecar has noticed that lanes fail.
fn noticed(world: &World) {
    until("a lane fails", || metric(&world.sidecar, "hearthside_lane_failures_total") > 0.0);
}

#[test]
fn connections_are_cut() {
    Trial::sees(&AWAY).run(|world| {
        for _ in 0..5 {
            world.upstream.cut();
            world.load.go_on(3);
        }
    });
}

#[test]
fn connections_are_reset() {
    Trial::sees(&AWAY).run(|world| {
        for _ in 0..5 {
            world.upstream.reset();
            world.load.go_on(3);
        }
        noticed(world);
    });
}

#[test]
fn the_connection_is_half_open() {
    let trial = Trial::sees(&AWAY).set("UPSTREAM__COMMAND_TIMEOUT", "400ms").set("UPSTREAM__CONNECT_TIMEOUT", "300ms");
    trial.run(|world| {
        world.upstream.hold(true);
        until("it is given up by its deadline", || world.sidecar.log().contains("upstream.command_timeout"));
        world.upstream.hold(false);
    });
}

#[test]
fn the_connection_is_half_open_and_nothing_is_asked() {
    let trial = Trial::sees(&AWAY).set("UPSTREAM__PING_INTERVAL", "100ms").set("UPSTREAM__PING_TIMEOUT", "300ms");
    trial.run(|world| {
        let mut idle = world.sidecar.wire();
        assert_eq!(idle.ask("SET idle 1"), "+OK\r\n");
        world.upstream.hold(true);
        until("PING finds it", || world.sidecar.log().contains("upstream.ping_timeout"));
        world.upstream.hold(false);
        until("it is there again", || idle.ask("GET idle") == "$1\r\n1\r\n");
    });
}

#[test]
fn every_byte_comes_alone() {
    let errors = Trial::sees(&AWAY).run(|world| {
        world.upstream.spoil(Spoil::Trickle);
        world.load.go_on(10);
        world.upstream.spoil(Spoil::Nothing);
    });
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn answers_are_delayed() {
    let errors = Trial::sees(&AWAY).run(|world| {
        world.upstream.delay(60);
        world.load.go_on(20);
        world.upstream.delay(0);
    });
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn replies_are_truncated() {
    // Half of a long reply may have been handed on: then only the connection's end tells the truth.
    Trial::sees(&AWAY).closes().run(|world| {
        world.upstream.spoil(Spoil::Truncate);
        noticed(world);
        world.upstream.spoil(Spoil::Nothing);
    });
}

#[test]
fn garbage_comes_instead_of_replies() {
    Trial::sees(&AWAY).run(|world| {
        world.upstream.spoil(Spoil::Garbage);
        noticed(world);
        world.upstream.spoil(Spoil::Nothing);
    });
}

#[test]
fn a_reply_comes_that_nobody_asked_for() {
    // Nothing is under way when it comes: it is nobody's, and the connection is worth nothing any more.
    let redis = Redis::start();
    let proxy = crate::support::proxy::Proxy::to(redis.port);
    let builder = crate::support::sidecar::Sidecar::builder();
    let builder = builder.set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port));
    let sidecar =
        builder.set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1").expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    proxy.spoil(Spoil::Extra);
    assert_eq!(wire.ask("GET a"), "$1\r\n1\r\n");
    until("it is noticed", || sidecar.log().contains("a reply came that nothing had asked for"));
    proxy.spoil(Spoil::Nothing);
    for i in 0..50 {
        assert_eq!(wire.ask(&format!("SET a {i}")), "+OK\r\n");
        assert_eq!(wire.ask("GET a"), format!("${}\r\n{i}\r\n", i.to_string().len()));
    }
}

#[test]
fn new_connections_are_closed_at_once() {
    Trial::sees(&AWAY).set("UPSTREAM__QUEUE_TIMEOUT", "200ms").run(|world| {
        world.upstream.refuse_new(true);
        world.upstream.cut();
        noticed(world);
        until("clients are told", || world.sidecar.log().contains("cannot be opened"));
        world.upstream.refuse_new(false);
    });
}

#[test]
fn new_connections_hang() {
    let trial = Trial::sees(&AWAY).set("UPSTREAM__CONNECT_TIMEOUT", "200ms").set("UPSTREAM__QUEUE_TIMEOUT", "300ms");
    trial.run(|world| {
        world.upstream.hold(true);
        world.upstream.cut();
        until("a deadline ends the attempt", || world.sidecar.log().contains("no connection in time"));
        world.upstream.hold(false);
    });
}

#[test]
fn the_upstream_is_killed_and_started_again() {
    Trial::sees(&AWAY).set("UPSTREAM__QUEUE_TIMEOUT", "200ms").run(|world| {
        for _ in 0..3 {
            world.redis.kill();
            noticed(world);
            world.redis.launch();
            world.load.go_on(5);
        }
    });
}

#[test]
fn the_upstream_shuts_down_in_order() {
    Trial::sees(&AWAY).run(|world| {
        let mut direct = world.redis.wire();
        direct.send(&line("SHUTDOWN NOSAVE"));
        assert!(direct.try_frame().is_none());
        noticed(world);
        world.redis.kill();
        world.redis.launch();
    });
}

#[test]
fn the_upstream_stands_still_for_a_moment() {
    let errors = Trial::sees(&AWAY).run(|world| {
        world.redis.pause(true);
        let before = world.load.answered();
        // Owned keys are served meanwhile.
        until("others go on", || world.load.answered() > before + 20);
        world.redis.pause(false);
    });
    assert!(errors.is_empty(), "whoever waited has waited: {errors:?}");
}

#[test]
fn the_upstream_stands_still_past_the_deadline() {
    Trial::sees(&AWAY).set("UPSTREAM__COMMAND_TIMEOUT", "300ms").set("UPSTREAM__CONNECT_TIMEOUT", "200ms").run(
        |world| {
            world.redis.pause(true);
            until("the lanes are given up", || world.sidecar.log().contains("upstream.command_timeout"));
            world.redis.pause(false);
        },
    );
}

#[test]
fn the_upstream_ends_all_its_clients() {
    Trial::sees(&AWAY).run(|world| {
        let mut direct = world.redis.wire();
        for _ in 0..10 {
            assert!(direct.ask("CLIENT KILL TYPE normal").starts_with(':'));
            world.load.go_on(2);
        }
    });
}

#[test]
fn the_upstream_loads_its_data() {
    // The error is passed on to those whose commands were under way; the others wait until it has loaded.
    Trial::sees(&["LOADING", "may have been applied", "command was not sent"]).run(|world| {
        let mut direct = world.redis.wire();
        for i in 0..20 {
            direct.ask(&format!("SET filler:{i} x"));
        }
        assert_eq!(direct.ask("CONFIG SET key-load-delay 20000 loading-process-events-interval-bytes 1024"), "+OK\r\n");
        assert_eq!(direct.ask("DEBUG RELOAD"), "+OK\r\n");
        assert_eq!(direct.ask("CONFIG SET key-load-delay 0"), "+OK\r\n");
    });
}

#[test]
fn the_upstream_becomes_a_replica() {
    let other = Redis::start();
    Trial::sees(&["READONLY", "may have been applied", "command was not sent", "UNBLOCKED", "LOADING"]).run(|world| {
        let mut direct = world.redis.wire();
        // A master that is not there: the data stays.
        assert_eq!(direct.ask(&format!("REPLICAOF 127.0.0.1 {}", crate::support::free_port())), "+OK\r\n");
        let before = metric(&world.sidecar, "hearthside_lane_connects_total");
        until("the lanes look for another server", || {
            metric(&world.sidecar, "hearthside_lane_connects_total") > before
        });
        assert_eq!(direct.ask("REPLICAOF NO ONE"), "+OK\r\n");
    });
    drop(other);
}

#[test]
fn the_upstream_has_lost_its_master() {
    let sees = &["MASTERDOWN", "READONLY", "may have been applied", "command was not sent", "does not answer"];
    Trial::sees(sees).set("UPSTREAM__QUEUE_TIMEOUT", "300ms").run(|world| {
        let mut direct = world.redis.wire();
        assert_eq!(direct.ask("CONFIG SET replica-serve-stale-data no"), "+OK\r\n");
        assert_eq!(direct.ask(&format!("REPLICAOF 127.0.0.1 {}", crate::support::free_port())), "+OK\r\n");
        until("the lanes wait for one that has", || world.sidecar.log().contains("MASTERDOWN"));
        assert_eq!(direct.ask("REPLICAOF NO ONE"), "+OK\r\n");
    });
}

#[test]
fn the_upstream_takes_no_more_data() {
    Trial::sees(&["OOM"]).run(|world| {
        let mut direct = world.redis.wire();
        assert_eq!(direct.ask("CONFIG SET maxmemory 1"), "+OK\r\n");
        let mut wire = world.sidecar.wire();
        assert!(wire.ask("SET big 1").starts_with("-OOM"), "the upstream's own word");
        assert_eq!(direct.ask("CONFIG SET maxmemory 0"), "+OK\r\n");
    });
}

#[test]
fn the_upstream_lacks_replicas() {
    Trial::sees(&["NOREPLICAS"]).run(|world| {
        let mut direct = world.redis.wire();
        assert_eq!(direct.ask("CONFIG SET min-replicas-to-write 1"), "+OK\r\n");
        assert!(world.sidecar.wire().ask("SET a 1").starts_with("-NOREPLICAS"));
        assert_eq!(direct.ask("CONFIG SET min-replicas-to-write 0"), "+OK\r\n");
    });
}

#[test]
fn the_upstream_lets_nobody_in() {
    let sees = &["its own maxclients", "may have been applied", "command was not sent"];
    Trial::sees(sees).run(|world| {
        let mut direct = world.redis.wire();
        assert_eq!(direct.ask("CONFIG SET maxclients 1"), "+OK\r\n");
        world.upstream.cut();
        until("it is told", || world.sidecar.wire().ask("GET a").contains("its own maxclients"));
        assert_eq!(direct.ask("CONFIG SET maxclients 1000"), "+OK\r\n");
    });
}

#[test]
fn the_password_is_another() {
    let sees = &["NOAUTH", "may have been applied", "command was not sent"];
    Trial::sees(sees).run(|world| {
        let mut direct = world.redis.wire();
        assert_eq!(direct.ask("CONFIG SET requirepass s3cret"), "+OK\r\n");
        world.upstream.cut();
        until("it is told", || world.sidecar.wire().ask("GET a").contains("NOAUTH"));
        let mut knows = world.redis.wire();
        assert_eq!(knows.ask("AUTH s3cret"), "+OK\r\n");
        knows.send(&crate::support::wire::array(&["CONFIG", "SET", "requirepass", ""]));
        assert_eq!(knows.frame(), b"+OK\r\n");
    });
}

#[test]
fn the_upstream_holds_writes_back() {
    let errors = Trial::sees(&AWAY).run(|world| {
        assert_eq!(world.redis.wire().ask("CLIENT PAUSE 300 WRITE"), "+OK\r\n");
        world.load.go_on(10);
    });
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn a_script_keeps_the_upstream_busy() {
    Trial::sees(&["BUSY"]).run(|world| {
        let mut direct = world.redis.wire();
        assert_eq!(direct.ask("CONFIG SET busy-reply-threshold 50"), "+OK\r\n");
        let mut busy = world.sidecar.wire();
        busy.send(&crate::support::wire::array(&["EVAL", "while true do end", "0"]));
        until("others are told", || direct.ask("GET a").starts_with("-BUSY"));
        assert_eq!(direct.ask("SCRIPT KILL"), "+OK\r\n");
        assert!(busy.frame().starts_with(b"-"));
    });
}

#[test]
fn the_circuit_opens_and_closes() {
    let trial = Trial::sees(&AWAY).set("UPSTREAM__BREAKER_AFTER", "300ms").set("UPSTREAM__QUEUE_TIMEOUT", "10s");
    trial.run(|world| {
        world.redis.kill();
        until("the circuit is open", || metric(&world.sidecar, "hearthside_upstream_circuit_open") == 1.0);
        // Far below the patience that commands have while it is closed.
        let told = world.sidecar.wire().ask("GET a");
        assert!(told.contains("does not answer") && told.contains("not sent"), "{told}");
        let told = world.sidecar.wire().ask("BLPOP nosuch 0.01");
        assert!(told.contains("does not answer"), "{told}");
        world.redis.launch();
        until("it is closed", || metric(&world.sidecar, "hearthside_upstream_circuit_open") == 0.0);
    });
}

#[test]
fn commands_are_held_back_and_go_on() {
    let errors = Trial::sees(&AWAY).run(|world| {
        let mut wire = world.sidecar.wire();
        for _ in 0..3 {
            assert_eq!(wire.ask("HEARTHSIDE PAUSE 15000"), "+OK\r\n");
            let calls = |world: &World| {
                let stats = world.redis.wire().ask("INFO commandstats");
                let line = stats.lines().find(|line| line.starts_with("cmdstat_eval:")).expect("counted").to_owned();
                line.split([',', '=']).nth(1).expect("calls").to_owned()
            };
            let before = calls(world);
            let answered = world.load.answered();
            until("owned keys are served meanwhile", || world.load.answered() > answered + 10);
            assert_eq!(calls(world), before, "nothing reaches the upstream");
            assert_eq!(wire.ask("HEARTHSIDE RESUME"), "+OK\r\n");
            world.load.go_on(5);
        }
        assert_eq!(wire.ask("HEARTHSIDE PAUSE 50"), "+OK\r\n");
        world.load.go_on(5);
        assert!(wire.ask("HEARTHSIDE PAUSE 0").starts_with("-ERR timeout"));
    });
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn the_upstream_is_restarted_behind_a_pause() {
    let errors = Trial::sees(&AWAY).run(|world| {
        let mut wire = world.sidecar.wire();
        assert_eq!(wire.ask("HEARTHSIDE PAUSE 20000"), "+OK\r\n");
        world.redis.kill();
        world.redis.launch();
        let mut transaction = world.sidecar.wire();
        transaction.send(&[line("WATCH a"), line("MULTI"), line("SET a 1"), line("EXEC")].concat());
        assert!(transaction.is_silent(Duration::from_millis(20)), "it waits like all others");
        assert_eq!(wire.ask("HEARTHSIDE RESUME"), "+OK\r\n");
        (0..3).for_each(|_| assert!(transaction.frame().starts_with(b"+")));
        assert_eq!(transaction.frame(), b"*1\r\n+OK\r\n");
    });
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn a_client_of_long_replies_stays_when_its_connection_is_cut() {
    Trial::sees(&AWAY).run(|world| {
        let value = "v".repeat(3 << 20);
        assert_eq!(world.redis.wire().call(&["SET", "long", &value]), b"+OK\r\n");
        let mut wire = world.sidecar.wire();
        assert_eq!(wire.ask("GET long").len(), value.len() + 12);
        until("it has a connection of its own", || {
            wire.ask("PING");
            metric(&world.sidecar, "hearthside_pinned") > 0.0
        });
        world.upstream.cut();
        until("it goes on over the lanes", || wire.ask("STRLEN long") == ":3145728\r\n");
    });
}

#[test]
fn a_blocked_client_is_told_and_stays() {
    Trial::sees(&AWAY).run(|world| {
        let mut blocked = world.sidecar.wire();
        blocked.send(&line("BLPOP nosuch 0"));
        until("it waits", || world.redis.wire().ask("INFO clients").contains("blocked_clients:1"));
        world.upstream.cut();
        let told = String::from_utf8_lossy(&blocked.frame()).into_owned();
        assert!(told.starts_with("-ERR hearthside: the upstream connection was lost"), "{told}");
        world.redis.wire().ask("RPUSH list:a x");
        until("it may ask again", || blocked.ask("BLPOP list:a 1").contains("list:a"));
    });
}

#[test]
fn a_transaction_is_cut_in_the_middle() {
    Trial::sees(&AWAY).run(|world| {
        let mut wire = world.sidecar.wire();
        for request in ["WATCH a", "MULTI", "SET a 1"] {
            assert!(wire.ask(request).starts_with('+'));
        }
        world.upstream.cut();
        let told = wire.ask("EXEC");
        assert!(told.contains("hearthside: the upstream connection of this transaction was lost"), "{told}");
        assert_eq!(told.matches("\r\n").count(), 1, "one reply: {told}");
        assert_eq!(world.redis.wire().ask("EXISTS a"), ":0\r\n");
        until("another one works", || {
            wire.ask("MULTI");
            wire.ask("SET a 2");
            wire.ask("EXEC").contains("+OK")
        });
    });
}

#[test]
fn a_long_reply_is_cut_in_the_middle() {
    Trial::sees(&AWAY).run(|world| {
        let value = "v".repeat(8 << 20);
        assert_eq!(world.redis.wire().call(&["SET", "long", &value]), b"+OK\r\n");
        world.upstream.delay(10);
        let mut client = TcpStream::connect(("127.0.0.1", world.sidecar.port)).expect("connects");
        client.write_all(&line("GET long")).expect("sends");
        let mut begin = [0; 100_000];
        client.read_exact(&mut begin).expect("its beginning has been handed on");
        world.upstream.cut();
        // The end of the connection is the only honest answer.
        let mut rest = Vec::new();
        let _reset = client.read_to_end(&mut rest);
        assert!(begin.len() + rest.len() < value.len() && !rest.ends_with(b"\r\n"));
        world.upstream.delay(0);
    });
}

#[test]
fn a_long_request_is_cut_in_the_middle() {
    Trial::sees(&AWAY).run(|world| {
        let mut wire = world.sidecar.wire();
        let half = "v".repeat(4 << 20);
        wire.send(format!("*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n${}\r\n{half}", 8 << 20).as_bytes());
        until("it is on its way", || metric(&world.sidecar, "hearthside_pinned") > 0.0);
        world.upstream.cut();
        wire.send(format!("{half}\r\n").as_bytes());
        let told = String::from_utf8_lossy(&wire.frame()).into_owned();
        assert!(told.contains("may have been applied"), "{told}");
        assert_eq!(wire.ask("EXISTS long"), ":0\r\n", "half a request is none");
    });
}

/// Waits for the frame that holds `text`, past others.
fn hears(wire: &mut crate::support::wire::Wire, text: &str) {
    let mut last = String::new();
    while !last.contains(text) {
        last = String::from_utf8_lossy(&wire.frame()).into_owned();
    }
}

fn restores(mode: &'static str, hello: &str) {
    Trial::sees(&AWAY).set("PUBSUB__MODE", mode).run(|world| {
        let mut wire = world.sidecar.wire();
        wire.ask(hello);
        wire.send(&line("SUBSCRIBE news __hearthside__:gap"));
        wire.send(&line("PSUBSCRIBE p*"));
        (0..3).for_each(|_| drop(wire.frame()));
        for round in 0..3 {
            world.upstream.cut();
            hears(&mut wire, "messages may have been missed");
            let mut direct = world.redis.wire();
            assert_eq!(direct.ask(&format!("PUBLISH news round-{round}")), ":1\r\n", "subscribed once");
            hears(&mut wire, &format!("round-{round}"));
            assert_eq!(direct.ask("PUBLISH pattern x"), ":1\r\n");
            hears(&mut wire, "pattern");
        }
        wire.send(&line("UNSUBSCRIBE news"));
        hears(&mut wire, "unsubscribe");
    });
}

#[test]
fn a_subscriber_is_subscribed_again_and_told() {
    restores("exact", "HELLO 2");
}

#[test]
fn a_resp3_subscriber_is_subscribed_again_and_told() {
    restores("exact", "HELLO 3");
}

#[test]
fn shared_subscribers_are_subscribed_again_and_told() {
    restores("shared", "HELLO 2");
}

#[test]
fn a_subscriber_waits_for_an_upstream_that_is_away() {
    Trial::sees(&AWAY).set("UPSTREAM__QUEUE_TIMEOUT", "100ms").run(|world| {
        let mut wire = world.sidecar.wire();
        wire.ask("SUBSCRIBE news");
        world.redis.kill();
        until("it is being restored", || world.sidecar.log().contains("is subscribed again"));
        world.redis.launch();
        let mut direct = world.redis.wire();
        until("it hears again", || direct.ask("PUBLISH news again") == ":1\r\n");
        hears(&mut wire, "again");
        assert!(metric(&world.sidecar, "hearthside_subscribers_restored_total") == 1.0);
    });
}

#[test]
fn lanes_of_an_upstream_that_stays_a_replica_are_no_storm() {
    let redis = Redis::start();
    let sidecar = crate::support::sidecar::Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1");
    let sidecar = sidecar.set("UPSTREAM__LANES", "1").start();
    let mut direct = redis.wire();
    direct.ask(&format!("REPLICAOF 127.0.0.1 {}", crate::support::free_port()));
    let mut wire = sidecar.wire();
    let begun = std::time::Instant::now();
    let mut asked = 0;
    while begun.elapsed() < Duration::from_millis(1500) {
        assert!(wire.ask("SET a 1").starts_with("-READONLY"));
        asked += 1;
    }
    let connects = metric(&sidecar, "hearthside_lane_connects_total");
    // One a second at most: a lane that is young waits.
    let seconds = begun.elapsed().as_secs_f64();
    assert!(asked > 10 && connects <= seconds + 2.0, "{asked} requests, {connects} connects in {seconds} s");
}
