//! Many clients at once, each in another state: correct replies, nothing left behind, nobody slowed down by others.

use std::time::{Duration, Instant};

use crate::support::admin::metric;
use crate::support::process::{descriptors, status};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::{Wire, line};

fn connect(sidecar: &Sidecar, count: usize) -> Vec<Wire> {
    (0..count).map(|_| sidecar.wire()).collect()
}

#[test]
fn a_thousand_clients_in_every_state_leave_nothing_behind() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut direct = redis.wire();
    // The lanes are there before they are counted.
    connect(&sidecar, 8).iter_mut().for_each(|wire| assert_eq!(wire.ask("SET warm 1"), "+OK\r\n"));
    until("only one is left", || metric(&sidecar, "hearthside_clients") == 0.0);
    let (before, connections) = (descriptors(sidecar.pid()), direct.ask("CLIENT LIST").matches("id=").count());

    let mut in_multi = connect(&sidecar, 200);
    let mut blocked = connect(&sidecar, 200);
    let mut subscribed = connect(&sidecar, 200);
    let mut ordinary = connect(&sidecar, 400);
    for (i, wire) in in_multi.iter_mut().enumerate() {
        assert_eq!(wire.ask("MULTI"), "+OK\r\n");
        assert_eq!(wire.ask(&format!("INCR counter{i}")), "+QUEUED\r\n");
    }
    for (i, wire) in blocked.iter_mut().enumerate() {
        wire.send(&line(&format!("BLPOP queue{i} 0")));
    }
    for (i, wire) in subscribed.iter_mut().enumerate() {
        assert!(wire.ask(&format!("SUBSCRIBE channel{i}")).ends_with(":1\r\n"));
    }
    until("they wait", || direct.ask("INFO clients").contains("blocked_clients:200"));
    for (i, wire) in ordinary.iter_mut().enumerate() {
        assert_eq!(wire.ask(&format!("SET own{i} {i}")), "+OK\r\n");
        match i % 2 {
            0 => assert_eq!(wire.ask(&format!("RPUSH queue{} job{i}", i / 2)), ":1\r\n"),
            _ => assert_eq!(wire.ask(&format!("PUBLISH channel{} hello{i}", i / 2)), ":1\r\n"),
        }
        assert_eq!(wire.ask(&format!("GET own{i}")), format!("${}\r\n{i}\r\n", i.to_string().len()));
        assert!(wire.ask("HGET item:apple:def name").contains("Apple"));
    }
    for (i, wire) in blocked.iter_mut().enumerate() {
        assert!(String::from_utf8_lossy(&wire.frame()).ends_with(&format!("job{}\r\n", i * 2)));
    }
    for (i, wire) in subscribed.iter_mut().enumerate() {
        assert!(String::from_utf8_lossy(&wire.frame()).ends_with(&format!("hello{}\r\n", i * 2 + 1)));
    }
    for wire in &mut in_multi {
        assert_eq!(wire.ask("EXEC"), "*1\r\n:1\r\n");
    }
    assert!(direct.ask("INFO clients").contains("blocked_clients:0"));

    drop((in_multi, blocked, subscribed, ordinary));
    until("all clients are gone", || metric(&sidecar, "hearthside_clients") == 0.0);
    // Two workers may keep 16 clean connections each.
    let kept = || metric(&sidecar, "hearthside_pinned") as usize;
    until("most pinned connections are closed", || kept() <= 32 + 32);
    until("the upstream has forgotten them", || {
        direct.ask("CLIENT LIST").matches("id=").count() <= connections + kept()
    });
    for state in [" sub=1", " multi=0", " flags=b", " flags=x"] {
        until("no state is left", || !direct.ask("CLIENT LIST").contains(state));
    }
    until("so has the process", || descriptors(sidecar.pid()) <= before + kept());
}

/// The longest of some round trips.
fn slowest(wire: &mut Wire, trips: usize) -> Duration {
    let trip = |_| {
        let begun = Instant::now();
        assert_eq!(wire.ask("GET small"), "$1\r\n1\r\n");
        begun.elapsed()
    };
    (0..trips).map(trip).max().unwrap_or_default()
}

#[test]
fn nobody_waits_behind_a_client_that_reads_a_huge_reply_slowly() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1").start();
    let (mut greedy, mut other, mut direct) = (sidecar.wire(), sidecar.wire(), redis.wire());
    direct.call(&[&b"SET"[..], b"huge", &vec![b'x'; 32 << 20]]);
    assert_eq!(other.ask("SET small 1"), "+OK\r\n");
    // The first one is learned from: it passes the shared lane.
    greedy.send(&line("GET huge"));
    assert!(greedy.frame().len() > 32 << 20);
    greedy.ask("PING");
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 1.0, "it has a connection of its own now");
    // Twenty that nobody reads: 640 MB, which neither the lane nor this process must hold.
    greedy.send(&line("GET huge").repeat(20));
    other.ask("GET small");
    let slow = slowest(&mut other, 200);
    // Not a figure of speed: one such reply alone takes longer to pass than this.
    assert!(slow < Duration::from_secs(2), "{slow:?}");
    let kilobytes = status(sidecar.pid(), "VmRSS");
    assert!(kilobytes < 400 << 10, "{kilobytes} kB");
    for _ in 0..20 {
        assert!(greedy.frame().len() > 32 << 20);
    }
    assert_eq!(greedy.ask("GET small"), "$1\r\n1\r\n");
}
