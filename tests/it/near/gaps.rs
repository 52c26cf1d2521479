//! Times in which changes may not have been told: nothing that was kept before is answered after.

use std::time::{Duration, Instant};

use super::fences::listener;
use super::{bulk, hits, keep, keeping, started, told};
use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

fn gaps(sidecar: &Sidecar) -> u64 {
    metric(sidecar, "hearthside_near_gaps_total") as u64
}

/// A sidecar whose way to the upstream can be spoilt.
fn behind(proxy: &Proxy) -> Sidecar {
    let builder = keeping(&format!("redis://127.0.0.1:{}", proxy.port)).expect(warnings::UPSTREAM_AWAY);
    let sidecar = builder.expect(&[warnings::NEAR_SILENT]).start();
    told(&sidecar);
    sidecar
}

#[test]
fn what_was_kept_before_a_connection_was_lost_is_forgotten() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = behind(&proxy);
    let mut direct = redis.wire();
    for round in 0..5 {
        let mut wire = sidecar.wire();
        direct.ask(&format!("SET cfg:a {round}"));
        until("it is read", || wire.ask("GET cfg:a") == bulk(&round.to_string()));
        keep(&sidecar, &mut wire, "GET cfg:a");
        let before = gaps(&sidecar);
        proxy.refuse_new(true);
        if round % 2 == 0 {
            proxy.cut()
        } else {
            proxy.reset()
        }
        until("it is a gap", || gaps(&sidecar) > before);
        direct.ask("SET cfg:a meanwhile");
        proxy.refuse_new(false);
        told(&sidecar);
        assert_eq!(sidecar.wire().ask("GET cfg:a"), bulk("meanwhile"));
    }
}

#[test]
fn a_change_in_the_moment_in_which_the_listener_is_killed_is_seen() {
    let redis = Redis::start();
    let sidecar = keeping(&redis.url()).expect(&[warnings::NEAR_SILENT]).start();
    told(&sidecar);
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    for round in 0..5 {
        direct.ask(&format!("SET cfg:a {round}"));
        until("it is read", || wire.ask("GET cfg:a") == bulk(&round.to_string()));
        keep(&sidecar, &mut wire, "GET cfg:a");
        let id = listener(&mut direct);
        let all = [&*line("MULTI"), &line(&format!("CLIENT KILL ID {id}")), &line("SET cfg:a new"), &line("EXEC")];
        direct.send(&all.concat());
        (0..4).for_each(|_| drop(direct.frame()));
        until("the new value is read", || wire.ask("GET cfg:a") == bulk("new"));
        told(&sidecar);
    }
}

#[test]
fn a_silent_upstream_is_believed_for_a_second_at_most() {
    let redis = Redis::start();
    redis.wire().ask("SET cfg:a v");
    let sidecar = keeping(&redis.url()).expect(&[warnings::NEAR_SILENT]).expect(warnings::UPSTREAM_AWAY).start();
    told(&sidecar);
    let mut wire = sidecar.wire();
    keep(&sidecar, &mut wire, "GET cfg:a");
    redis.pause(true);
    let begun = Instant::now();
    let mut last = Duration::ZERO;
    let mut patient = crate::support::wire::Wire::try_tcp(sidecar.port, Duration::from_millis(1500)).expect("connects");
    while patient.try_ask("GET cfg:a").is_some() {
        last = begun.elapsed();
        assert!(last < Duration::from_millis(1500), "it is answered from memory for too long");
    }
    assert!(last > Duration::from_millis(300), "what was vouched for is answered");
    redis.pause(false);
    told(&sidecar);
    assert_eq!(keep(&sidecar, &mut wire, "GET cfg:a"), bulk("v"));
}

#[test]
fn a_half_open_connection_is_a_gap() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = behind(&proxy);
    let mut wire = sidecar.wire();
    redis.wire().ask("SET cfg:a old");
    until("it is read", || wire.ask("GET cfg:a") == bulk("old"));
    keep(&sidecar, &mut wire, "GET cfg:a");
    proxy.hold(true);
    redis.wire().ask("SET cfg:a new");
    until("it is a gap", || metric(&sidecar, "hearthside_near_up") == 0.0);
    proxy.hold(false);
    told(&sidecar);
    assert_eq!(sidecar.wire().ask("GET cfg:a"), bulk("new"));
}

/// True when no thread of the process goes on.
fn are_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("its threads").flatten();
    let states = threads.map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
    states.into_iter().all(|state| state.contains(") T "))
}

#[test]
fn a_sidecar_that_was_stopped_answers_nothing_old_when_it_goes_on() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let mut wire = sidecar.wire();
    redis.wire().ask("SET cfg:a old");
    until("it is read", || wire.ask("GET cfg:a") == bulk("old"));
    for value in ["one", "two", "three"] {
        keep(&sidecar, &mut wire, "GET cfg:a");
        let before = hits(&sidecar);
        sidecar.signal("STOP");
        until("all of its threads are stopped", || are_stopped(sidecar.pid()));
        wire.send(&line("GET cfg:a"));
        redis.wire().ask(&format!("SET cfg:a {value}"));
        std::thread::sleep(Duration::from_millis(1100));
        sidecar.signal("CONT");
        assert_eq!(wire.text(), bulk(value), "older than a second");
        assert_eq!(hits(&sidecar), before);
    }
}
