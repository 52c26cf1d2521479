//! One load per key, however many readers wait: counted at Postgres, not by us.

use std::sync::{Arc, Barrier};
use std::thread;

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::demo;
use crate::support::until;
use crate::support::wire::line;

#[test]
fn a_pass_through_key_never_asks_the_store_and_an_owned_one_never_the_upstream() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres);
    postgres.sql("CREATE EXTENSION pg_stat_statements");
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    until("the definitions' second load is over", || {
        metric(&sidecar, "hearthside_reloads_total{outcome=\"ok\"}") >= 4.0
    });
    let loads = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%row_to_json%' AND query \
        NOT LIKE '%ORDER BY \"%'";
    for i in 0..200 {
        for key in ["player:007:session", "player:x:session", "players:1:session", "location::cache", "item:a:b:def"] {
            assert_eq!(wire.ask(&format!("EXISTS {key}{}", if i % 2 == 0 { "" } else { "x" })), ":0\r\n");
        }
    }
    assert_eq!(postgres.sql(loads), "0");
    for i in 1..=50 {
        wire.ask(&format!("HGETALL player:{i}:session"));
        wire.ask(&format!("LRANGE player:{i}:inventory 0 -1"));
        wire.ask("HGETALL location:ruins:cache");
        wire.ask(&format!("DEL player:{i}:inventory"));
    }
    assert_eq!(postgres.sql(loads), "100");
    wire.ask("EXISTS player:60:session player:61:session");
    let misses =
        |kind| metric(&sidecar, &format!("hearthside_misses_total{{mapping=\"player:{{character_id:int}}:{kind}\"}}"));
    assert_eq!((misses("session"), misses("inventory")), (52.0, 50.0));
    let stats = redis.wire().ask("INFO commandstats");
    for command in ["hgetall", "lrange", "del"] {
        assert!(!stats.contains(&format!("cmdstat_{command}:")), "{command} reached the upstream: {stats}");
    }
}

#[test]
fn a_client_that_leaves_does_not_cut_its_load_short() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).config(
        "[[caches]]\nkey = \"slow:{id:int}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1h\"\nquery = \"SELECT \
         pg_sleep(0.5), $1::bigint AS v\"\n",
    );
    let sidecar = builder.start();
    let mut leaving = sidecar.wire();
    leaving.send(&line("GET slow:7"));
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(0.5)%' AND state = 'active' AND \
        pid <> pg_backend_pid()";
    until("the load runs", || postgres.sql(running) == "1");
    drop(leaving);
    assert_eq!(sidecar.wire().ask("GET slow:7"), "$1\r\n7\r\n");
    assert_eq!(
        metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}"),
        1.0,
        "the second reader joined the first one's load"
    );
}

#[test]
fn a_thousand_readers_of_one_cold_key_cause_one_query() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).set("SERVER__WORKERS", "2");
    postgres.sql("CREATE EXTENSION pg_stat_statements");
    let sidecar = builder.start();
    let calls = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%inventory_items AS i JOIN \
        items%' AND query LIKE '%row_to_json%'";
    assert_eq!(postgres.sql(calls), "0");
    let barrier = Arc::new(Barrier::new(20));
    let mut threads = Vec::new();
    for _ in 0..20 {
        let mut group: Vec<_> = (0..50).map(|_| sidecar.wire()).collect();
        let barrier = barrier.clone();
        threads.push(thread::spawn(move || {
            barrier.wait();
            group.iter_mut().for_each(|wire| wire.send(&line("LLEN player:2:inventory")));
            group.iter_mut().for_each(|wire| assert_eq!(wire.frame(), b":16\r\n"));
        }));
    }
    threads.into_iter().for_each(|thread| thread.join().expect("every reader got the list"));
    assert_eq!(postgres.sql(calls), "1");
}
