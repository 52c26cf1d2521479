//! Whoever is told of a change, or has made it, reads what it is about; and operators may have what is kept forgotten.

use super::{NEAR, bulk, hits, keep, keeping, started, told, two};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// The Redis, and a sidecar to which it says over one connection later what it says sooner over another.
fn uneven() -> (Redis, Proxy, Sidecar) {
    let redis = Redis::with(&["--notify-keyspace-events", "KEA"]);
    let proxy = Proxy::to(redis.port);
    let sidecar = keeping(&format!("redis://127.0.0.1:{}", proxy.port)).start();
    told(&sidecar);
    proxy.delay(6);
    (redis, proxy, sidecar)
}

/// What others write is read by whoever is told of it by what `listens` sends first.
fn is_read_when_told(listens: &[&str]) {
    let (redis, _proxy, sidecar) = uneven();
    let ([mut hears, mut reads], mut direct) = (two(&sidecar), redis.wire());
    for request in listens {
        hears.ask(request);
    }
    for round in 0..150 {
        let (before, after) = (bulk(&format!("{round}-")), bulk(&format!("{round}+")));
        direct.ask(&format!("SET cfg:r {round}-"));
        until("it is read", || reads.ask("GET cfg:r") == before);
        keep(&sidecar, &mut reads, "GET cfg:r");
        while !hears.is_silent(std::time::Duration::from_millis(15)) {
            hears.frame();
        }
        direct.ask(&format!("SET cfg:r {round}+"));
        hears.frame();
        assert_eq!(reads.ask("GET cfg:r"), after, "round {round}");
    }
}

#[test]
fn a_client_that_tracks_reads_what_it_was_told_of() {
    is_read_when_told(&["HELLO 3", "CLIENT TRACKING ON BCAST PREFIX cfg:"]);
}

#[test]
fn a_client_that_hears_the_events_of_keys_reads_what_it_was_told_of() {
    is_read_when_told(&["HELLO 3", "PSUBSCRIBE __keyspace@0__:cfg:*"]);
}

#[test]
fn a_client_that_hears_which_keys_had_an_event_reads_what_it_was_told_of() {
    is_read_when_told(&["SUBSCRIBE __keyevent@0__:set"]);
}

/// What was queued when a reload brought the block changes what is kept from then on.
#[test]
fn a_transaction_from_before_a_reload_ends_what_was_kept_after_it() {
    let (_redis, _proxy, sidecar) = uneven();
    let [mut writes, mut reads] = two(&sidecar);
    for round in 1..20 {
        writes.ask("MULTI");
        writes.ask(&format!("SET cfg:a {round}"));
        sidecar.configure(&NEAR.replace("1h", &format!("{round}h")));
        sidecar.signal("HUP");
        until("it is reloaded", || sidecar.log().matches("the configuration is reloaded").count() == round);
        told(&sidecar);
        (0..5).for_each(|_| drop(reads.ask("GET cfg:a")));
        assert_eq!(writes.ask("EXEC"), "*1\r\n+OK\r\n");
        assert_eq!(reads.ask("GET cfg:a"), bulk(&round.to_string()));
    }
}

/// It is looked at again whenever more of it has come, and is not sent before all of it has.
#[test]
fn a_long_request_that_comes_in_parts_holds_up_nobody_and_ends_what_it_changes() {
    let redis = Redis::start();
    let sidecar = keeping(&redis.url()).set("SERVER__WORKERS", "1").start();
    told(&sidecar);
    let [mut writes, mut reads] = two(&sidecar);
    let value = "x".repeat(1_500_000);
    writes.send(&line(&format!("MSET cfg:a {value} cfg:b {value}")));
    assert_eq!(writes.text(), "+OK\r\n");
    assert_eq!(reads.ask("STRLEN cfg:b"), ":1500000\r\n");
    keep(&sidecar, &mut reads, "STRLEN cfg:b");
    for begun in ["*2\r\n$4\r\nEVAL\r\n$3145728\r\nv", "*3\r\n$3\r\nDEL\r\n$5\r\ncfg:b\r\n$3145728\r\nv"] {
        let mut leaves = sidecar.wire();
        leaves.send(begun.as_bytes());
        let before = hits(&sidecar);
        (0..100).for_each(|_| assert_eq!(reads.ask("STRLEN cfg:b"), ":1500000\r\n"));
        assert!(hits(&sidecar) >= before + 100, "nothing has been changed yet");
    }
}

/// PTTL goes with it, and neither is sent again.
#[test]
fn a_miss_that_takes_too_long_is_answered_with_an_error_once() {
    let redis = Redis::start();
    let sidecar = keeping(&redis.url())
        .set("UPSTREAM__COMMAND_TIMEOUT", "300ms")
        .expect(warnings::UPSTREAM_AWAY)
        .expect(&[warnings::NEAR_SILENT])
        .start();
    told(&sidecar);
    let mut wire = sidecar.wire();
    // It has a lane.
    wire.ask("EXISTS other");
    redis.pause(true);
    let reply = wire.ask("GET cfg:a");
    redis.pause(false);
    assert!(reply.starts_with('-') && reply.contains("gave no reply within upstream.command_timeout"), "{reply}");
    until("it serves again", || wire.ask("SET cfg:a 1") == "+OK\r\n");
    let calls = redis.wire().ask("INFO commandstats");
    // What was sent may have been done when it went on, or not.
    let get = calls.lines().find(|line| line.starts_with("cmdstat_get:"));
    assert!(get.is_none_or(|get| get.contains("calls=1,")), "{calls}");
}

#[test]
fn what_is_kept_is_forgotten_when_somebody_asks_for_it() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    let swapped = |wire: &mut Wire, direct: &mut Wire, value: &str| {
        direct.ask(&format!("SET cfg:a {value}"));
        until("it is read", || wire.ask("GET cfg:a") == bulk(value));
        keep(&sidecar, wire, "GET cfg:a");
        // Of this Redis tells nobody.
        direct.ask("SWAPDB 0 1");
        assert_eq!(wire.ask("GET cfg:a"), bulk(value));
    };
    swapped(&mut wire, &mut direct, "1");
    assert_eq!(wire.ask("HEARTHSIDE INVALIDATE cfg:a"), ":1\r\n");
    assert_eq!(wire.ask("GET cfg:a"), "$-1\r\n");
    assert_eq!(wire.ask("HEARTHSIDE INVALIDATE other"), ":0\r\n");
    swapped(&mut wire, &mut direct, "2");
    let forgotten = wire.ask("HEARTHSIDE INVALIDATE cfg:*");
    assert!(forgotten != ":0\r\n" && forgotten.starts_with(':'), "{forgotten}");
    assert_eq!(wire.ask("GET cfg:a"), bulk("1"));
}

#[test]
fn monitors_see_what_is_answered_from_memory() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let [mut monitors, mut reads] = two(&sidecar);
    keep(&sidecar, &mut reads, "GET cfg:a");
    assert_eq!(monitors.ask("MONITOR"), "+OK\r\n");
    let before = hits(&sidecar);
    reads.ask("GET cfg:a");
    assert!(hits(&sidecar) > before);
    assert!(monitors.text().contains("\"GET\" \"cfg:a\""));
    // Nothing of what the sidecar asks for itself comes between.
    reads.ask("PING");
    assert!(monitors.text().contains("\"PING\""));
}
