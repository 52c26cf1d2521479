//! Nothing waits for ever: whatever a client waits for ends, also where nothing happens any more.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{connect_narrow, line};

fn behind(proxy: &Proxy) -> Builder {
    Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port)).expect(warnings::UPSTREAM_AWAY)
}

#[test]
fn a_lane_waits_for_a_client_that_has_it_for_itself_and_reads_slowly() {
    let redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("UPSTREAM__COMMAND_TIMEOUT", "2s");
    let sidecar = builder.start();
    let value = vec![b'x'; 16 << 20];
    redis.wire().call(&[&b"SET"[..], b"big", &value]);
    let mut slow = connect_narrow(sidecar.port);
    slow.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    let mut reply = vec![0; value.len() + b"$16777216\r\n\r\n".len()];
    slow.write_all(&line("GET big")).expect("sends");
    slow.read_exact(&mut reply).expect("the first reply");
    let before = metric(&sidecar, "hearthside_client_out_bytes_total");
    slow.write_all(&line("GET big")).expect("sends");
    until("some of it has come", || metric(&sidecar, "hearthside_client_out_bytes_total") > before);
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 1.0, "over a lane of its own");
    // Its upstream is well: what is late is the client. Others are answered for longer than any patience meanwhile.
    let mut other = sidecar.wire();
    let begun = Instant::now();
    until("it has not read for long", || other.ask("PING") == "+PONG\r\n" && begun.elapsed() > Duration::from_secs(5));
    slow.read_exact(&mut reply).expect("the second reply, whole");
    assert_eq!(&reply[..11], b"$16777216\r\n");
    assert_eq!(metric(&sidecar, "hearthside_lane_failures_total"), 0.0);
}

#[test]
fn what_stands_aside_for_want_of_room_is_answered_when_the_upstream_is_away() {
    let mut redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let builder = behind(&proxy).set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1");
    let builder = builder.set("UPSTREAM__QUEUE_TIMEOUT", "300ms").set("UPSTREAM__BREAKER_AFTER", "1h");
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    // Its replies are known to be short: many may be asked for, and what is more stands aside.
    wire.send(&line("GET b").repeat(2000));
    (0..2000).for_each(|_| drop(wire.frame()));
    proxy.hold(true);
    const COUNT: usize = 10_000;
    wire.send(&line("INCR a").repeat(COUNT));
    until("they have been read", || {
        metric(&sidecar, "hearthside_client_in_bytes_total") as usize
            >= line("GET b").len() * 2000 + line("INCR a").len() * COUNT
    });
    redis.kill();
    proxy.cut();
    let (mut told, begun) = ([0; 3], Instant::now());
    for _ in 0..COUNT {
        assert!(begun.elapsed() < Duration::from_secs(20), "each waits for an attempt to connect of its own: {told:?}");
        let reply = String::from_utf8_lossy(&wire.frame()).into_owned();
        let kinds = ["may have been applied", "was not sent", ":"];
        told[kinds.iter().position(|kind| reply.contains(kind)).unwrap_or_else(|| panic!("{reply}"))] += 1;
    }
    assert!(told[0] > 0 && told[1] > 0 && told[2] == 0, "{told:?}");
}

#[test]
fn a_client_that_is_held_is_told_when_the_upstream_is_silent() {
    let redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("UPSTREAM__COMMAND_TIMEOUT", "300ms");
    let sidecar = builder.set("UPSTREAM__CONNECT_TIMEOUT", "300ms").expect(warnings::UPSTREAM_AWAY).start();
    let [mut tracking, mut leaving, mut subscribing] = [(); 3].map(|()| sidecar.wire());
    for wire in [&mut tracking, &mut leaving, &mut subscribing] {
        assert_eq!(wire.ask("CLIENT NO-EVICT ON"), "+OK\r\n");
    }
    until("three have connections of their own", || metric(&sidecar, "hearthside_pinned") == 3.0);
    redis.pause(true);
    tracking.send(&line("GET a"));
    leaving.send(&line("GET a"));
    subscribing.send(&line("SUBSCRIBE a"));
    drop(leaving);
    assert!(tracking.try_frame().is_none(), "what the upstream kept for it is lost");
    assert!(subscribing.try_frame().is_none(), "it cannot tell whether it is subscribed");
    until("their connections are closed", || metric(&sidecar, "hearthside_pinned") == 0.0);
    redis.pause(false);
}

#[test]
fn a_client_that_is_held_may_block_for_longer_than_any_command_takes() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("UPSTREAM__COMMAND_TIMEOUT", "200ms").start();
    let (mut waiting, mut direct) = (sidecar.wire(), redis.wire());
    assert_eq!(waiting.ask("CLIENT NO-EVICT ON"), "+OK\r\n");
    waiting.send(&[line("GET a"), line("BLPOP queue 0"), line("GET a")].concat());
    assert_eq!(waiting.frame(), b"$-1\r\n");
    until("it waits", || direct.ask("INFO clients").contains("blocked_clients:1"));
    assert!(waiting.is_silent(Duration::from_secs(1)));
    assert_eq!(direct.ask("RPUSH queue job"), ":1\r\n");
    assert_eq!(waiting.frame(), b"*2\r\n$5\r\nqueue\r\n$3\r\njob\r\n");
    assert_eq!(waiting.frame(), b"$-1\r\n");
}

#[test]
fn a_shutdown_waits_for_nobody_who_waits_for_others() {
    let redis = Redis::with(&["--rename-command", "BRPOP", "XBRPOP"]);
    let builder = Sidecar::builder().redis(&redis).set("SERVER__SHUTDOWN_TIMEOUT", "10m");
    let mut sidecar = builder.start();
    let mut direct = redis.wire();
    let mut blocked = Vec::new();
    for (state, wait) in [
        ("PING", "BLPOP q 0"),
        ("PING", "XBRPOP q 0"),
        ("CLIENT NO-EVICT ON", "BLPOP q 0"),
        ("HELLO 3", "XREAD BLOCK 0 STREAMS s $"),
    ] {
        let mut wire = sidecar.wire();
        wire.ask(state);
        wire.send(&line(wait));
        blocked.push(wire);
    }
    until("they wait", || direct.ask("INFO clients").contains("blocked_clients:4"));
    // These wait for nothing that must come.
    for request in ["SUBSCRIBE a", "MONITOR", "WATCH a", "MULTI", "CLIENT TRACKING ON"] {
        let mut wire = sidecar.wire();
        if request.ends_with("ON") {
            wire.ask("HELLO 3");
        }
        let told = wire.ask(request);
        assert!(told.starts_with("+OK") || told.contains("subscribe"), "{request}: {told}");
        blocked.push(wire);
    }
    assert_eq!(sidecar.stop(), Some(0));
    until("nobody waits", || direct.ask("INFO clients").contains("blocked_clients:0"));
}

#[test]
fn a_shutdown_does_not_wait_for_the_end_of_a_pause() {
    let redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("SERVER__SHUTDOWN_TIMEOUT", "10m");
    let mut sidecar = builder.expect(&[warnings::HELD_BACK]).start();
    let [mut operator, mut on_lane, mut moving, mut blocking, mut watching] = [(); 5].map(|()| sidecar.wire());
    assert_eq!(on_lane.ask("SET a 1"), "+OK\r\n");
    assert_eq!(operator.ask("HEARTHSIDE PAUSE 600000"), "+OK\r\n");
    on_lane.send(&line("SET a 2"));
    moving.send(&line("SELECT 1"));
    blocking.send(&line("BLPOP q 0"));
    watching.send(&line("WATCH a"));
    let routed =
        |route: &str| metric(&sidecar, &format!("hearthside_commands_total{{route=\"{route}\",outcome=\"ok\"}}"));
    until("they wait", || routed("passthrough") == 2.0 && routed("pinned") == 1.0 && routed("local") >= 3.0);
    assert_eq!(sidecar.stop(), Some(0));
    for wire in [&mut on_lane, &mut moving, &mut watching] {
        let told = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(told.starts_with("-LOADING hearthside: ") && told.contains("not sent"), "{told:?}");
    }
    assert_eq!(redis.wire().ask("GET a"), "$1\r\n1\r\n");
}
