//! How long things take: commands, servers, turns at the store, messages.

use super::{MAPPINGS, over};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::line;
use crate::support::{until, warnings};

/// How many commands of a route and family have been measured.
fn timed(sidecar: &Sidecar, route: &str, family: &str) -> f64 {
    metric(sidecar, &format!("hearthside_command_seconds_count{{route=\"{route}\",family=\"{family}\"}}"))
}

#[test]
fn every_command_is_measured_by_its_route_and_family() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, MAPPINGS).start();
    let mut wire = sidecar.wire();
    let pipeline = ["HGET p:1 hp", "HGET p:2 hp", "SET a 1", "GET a", "LPUSH l 1", "PING", "HSET p:1 hp 2"];
    wire.send(&pipeline.iter().flat_map(|command| line(command)).collect::<Vec<u8>>());
    pipeline.iter().for_each(|_| drop(wire.frame()));
    assert_eq!(wire.ask("HGET p:2 hp"), "$1\r\n2\r\n");
    assert_eq!(wire.ask("BLPOP l 1"), "*2\r\n$1\r\nl\r\n$1\r\n1\r\n");
    assert!(wire.ask("EVAL x 1 p:1").starts_with('-'));
    for (route, family, count) in [
        ("cache", "hash", 3.0),
        ("passthrough", "string", 2.0),
        ("passthrough", "list", 1.0),
        ("local", "connection", 1.0),
        ("write", "hash", 1.0),
        ("pinned", "blocking", 1.0),
        ("refused", "scripting", 1.0),
    ] {
        assert_eq!(timed(&sidecar, route, family), count, "{route} {family}");
    }
    let sum = |route: &str| metric(&sidecar, &format!("hearthside_command_seconds_sum{{route=\"{route}\"}}"));
    assert!(["cache", "passthrough", "write", "pinned"].iter().all(|route| (1e-6..20.0).contains(&sum(route))));
    let endpoint = format!("{{endpoint=\"{}\"}}", redis.url());
    assert!(metric(&sidecar, &format!("hearthside_upstream_seconds_count{endpoint}")) >= 1.0, "{endpoint}");
    assert!(metric(&sidecar, &format!("hearthside_upstream_seconds_sum{endpoint}")) > 0.0, "{endpoint}");
}

#[test]
fn who_waits_for_a_turn_at_the_store_is_counted() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, MAPPINGS).set("STORE__MAX_CONNECTIONS", "1").start();
    let pool = |what: &str| metric(&sidecar, &format!("hearthside_store_pool_{what}{{pool=\"loads\"}}"));
    assert_eq!((pool("max"), pool("used"), pool("waiting")), (1.0, 0.0, 0.0));
    let mut lock = postgres.session();
    lock.run("BEGIN; LOCK TABLE p;");
    let [mut first, mut second] = [(); 2].map(|()| sidecar.wire());
    first.send(&line("HGET p:1 hp"));
    until("it is under way", || pool("used") == 1.0);
    second.send(&line("GET n:1"));
    until("it waits", || pool("waiting") == 1.0);
    lock.run("ROLLBACK;");
    assert_eq!((&first.frame()[..], &second.frame()[..]), (&b"$1\r\n1\r\n"[..], &b"$1\r\na\r\n"[..]));
    until("nobody waits", || (pool("used"), pool("waiting")) == (0.0, 0.0));
    assert!(pool("wait_seconds_count") >= 2.0 && pool("wait_seconds_sum") > 0.0);
}

#[test]
fn messages_are_counted_with_their_delay_in_both_modes() {
    let redis = Redis::start();
    for (mode, came) in [("exact", 0.0), ("shared", 3.0)] {
        let sidecar = Sidecar::builder().redis(&redis).set("PUBSUB__MODE", mode).start();
        let mut subscribers = [sidecar.wire(), sidecar.wire()];
        for wire in &mut subscribers {
            assert!(wire.ask("SUBSCRIBE c").contains("subscribe"));
        }
        let given = metric(&sidecar, "hearthside_pubsub_delivery_seconds_count");
        let mut publisher = redis.wire();
        for i in 0..3 {
            publisher.ask(&format!("PUBLISH c {i}"));
            subscribers.iter_mut().for_each(|wire| drop(wire.frame()));
        }
        let count = || metric(&sidecar, "hearthside_pubsub_delivery_seconds_count") - given;
        until("all are counted", || count() == 6.0);
        assert_eq!(metric(&sidecar, "hearthside_pubsub_messages_total"), came, "{mode}");
        assert_eq!(metric(&sidecar, "hearthside_pubsub_subscribers"), 2.0, "{mode}");
        assert!(metric(&sidecar, "hearthside_pubsub_delivery_seconds_sum") < 20.0);
    }
}

#[test]
fn a_lane_that_is_lost_is_counted_for_its_server() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, MAPPINGS).expect(&[warnings::LANE_LOST, warnings::UPSTREAM_SILENT]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    let lost = || metric(&sidecar, &format!("hearthside_upstream_endpoint_lost_total{{endpoint=\"{}\"}}", redis.url()));
    assert_eq!(lost(), 0.0);
    redis.wire().ask("CLIENT KILL TYPE normal");
    until("it is counted", || lost() >= 1.0);
    let status = request(&sidecar, "GET", "/api/status").1;
    assert!(!status.contains("\"lost\":0"), "{status}");
}
