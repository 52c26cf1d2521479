//! What is slow is traced in any case.

use std::time::{Duration, Instant};

use super::without_collector;
use crate::support::admin::metric;
use crate::support::collector::{Collector, attribute, millis};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::line;

/// So slow.
const SLOW: Duration = Duration::from_secs(1);

fn start(redis: &Redis, postgres: &Postgres, collector: &Collector) -> Sidecar {
    let builder = without_collector(redis, postgres).set("TRACES__ENDPOINT", collector.url());
    builder.set("TRACES__SAMPLE", "0").set("TRACES__SLOWER_THAN", "1s").start()
}

fn until_slow(since: Instant) {
    until("it is slow", || since.elapsed() > SLOW);
}

#[test]
fn a_slow_load_and_a_slow_write_are_traced_with_the_stores_part() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = start(&redis, &postgres, &collector);
    let (mut first, mut second, mut writer) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    let mut lock = postgres.session();
    lock.run("BEGIN; LOCK TABLE hero IN ACCESS EXCLUSIVE MODE;");
    first.send(&line("HGET hero:70001 age"));
    until("the load has begun", || metric(&sidecar, "hearthside_commands_total{outcome=\"miss\"}") == 1.0);
    second.send(&line("HGET hero:70001 age"));
    writer.send(&line("HSET hero:70002 age 7"));
    until("the other waits for it", || metric(&sidecar, "hearthside_coalesced_waiters_total") == 1.0);
    until_slow(Instant::now());
    lock.run("COMMIT;");
    first.frame();
    second.frame();
    writer.frame();
    let reads = collector.wait_for(2, "HGET hero:{id:int}");
    let owner = reads.iter().find(|span| span.links.is_empty()).expect("one");
    let follower = reads.iter().find(|span| !span.links.is_empty()).expect("one");
    let load = collector.child(owner, "load hero:{id:int}");
    assert_eq!(follower.links[0].span_id, load.span_id);
    assert!(millis(owner) >= 1000 && millis(&collector.child(&load, "SELECT hero")) >= 900);
    let write = collector.wait_for(1, "HSET hero:{id:int}").pop().expect("one");
    assert!(millis(&collector.child(&write, "UPSERT hero")) >= 900);
    assert!(collector.spans().iter().all(|span| attribute(span, "hearthside.reason") != "sampled"));
}

#[test]
fn a_slow_pipeline_is_one_span() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = start(&redis, &postgres, &collector);
    let mut wires = [(); 3].map(|()| sidecar.wire());
    wires.iter_mut().for_each(|wire| _ = wire.ask("GET a"));
    redis.pause(true);
    wires[0].send(&line("GET a").repeat(3));
    wires[1].send(&["GET a", "SET a 1", "GET a"].map(line).concat());
    wires[2].send(&line("STRLEN a"));
    let passed = "hearthside_commands_total{route=\"passthrough\",outcome=\"ok\"}";
    until("all of them are taken", || metric(&sidecar, passed) == 10.0);
    until_slow(Instant::now());
    redis.pause(false);
    (0..3).for_each(|_| drop(wires[0].frame()));
    (0..3).for_each(|_| drop(wires[1].frame()));
    wires[2].frame();
    for (name, size) in [("PIPELINE GET", "3"), ("PIPELINE", "3"), ("STRLEN", "")] {
        let span = collector.wait_for(1, name).pop().expect("one");
        assert_eq!(attribute(&span, "db.operation.batch.size"), size, "{name}");
        assert_eq!(attribute(&span, "hearthside.reason"), "slow", "{name}");
        let part = collector.child(&span, &format!("upstream {name}"));
        assert!(millis(&part) >= 900 && millis(&part) <= millis(&span) + 1, "{name}");
    }
}

#[test]
fn whoever_waits_as_it_was_told_is_not_slow() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let mut sidecar = start(&redis, &postgres, &collector);
    assert_eq!(sidecar.wire().ask("BLPOP nothing 1.2"), "*-1\r\n");
    assert_eq!(sidecar.stop(), Some(0));
    assert!(collector.spans().is_empty());
}

#[test]
fn a_command_whose_client_is_gone_is_traced_when_nobody_works_for_it_any_more() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = start(&redis, &postgres, &collector);
    let (mut wire, mut admin) = (sidecar.wire(), sidecar.wire());
    let mut lock = postgres.session();
    lock.run("BEGIN; LOCK TABLE hero IN ACCESS EXCLUSIVE MODE;");
    let id = wire.ask("CLIENT ID").trim_matches([':', '\r', '\n']).to_owned();
    wire.send(&line("HGET hero:70001 age"));
    until("the load has begun", || metric(&sidecar, "hearthside_commands_total{outcome=\"miss\"}") == 1.0);
    until_slow(Instant::now());
    assert_eq!(admin.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
    assert!(wire.try_frame().is_none());
    lock.run("COMMIT;");
    let span = collector.wait_for(1, "HGET hero:{id:int}").pop().expect("one");
    assert_eq!(attribute(&span, "hearthside.outcome"), "unanswered");
    collector.child(&span, "load hero:{id:int}");
}
