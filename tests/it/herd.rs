//! One load per key, however many readers wait: counted at Postgres, not by us.

use std::sync::{Arc, Barrier};
use std::thread;

use crate::changes::demo;
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::wire::line;

#[test]
fn a_thousand_readers_of_one_cold_key_cause_one_query() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).set("SERVER__WORKERS", "2");
    postgres.sql("CREATE EXTENSION pg_stat_statements");
    let sidecar = builder.start();
    until("the change feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
    let calls = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '%inventory_items AS i JOIN items%' AND query LIKE '%row_to_json%'";
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
