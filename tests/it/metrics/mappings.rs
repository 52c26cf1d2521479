//! What is counted by mapping.

use super::{MAPPINGS, over};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::warnings;

const EACH: [&str; 14] = [
    "hits_total{outcome=\"hit\"}",
    "hits_total{outcome=\"absent\"}",
    "misses_total",
    "loads_total{outcome=\"ok\"}",
    "loads_total{outcome=\"absent\"}",
    "loads_total{outcome=\"error\"}",
    "mapping_load_seconds_total",
    "mapping_entries",
    "mapping_bytes",
    "evictions_total",
    "mapping_invalidations_total",
    "mapping_errors_total",
    "stale_reads_total",
    "overloads_total",
];

/// The series of a mapping, by its metric and outcome.
fn of(metric: &str, mapping: &str) -> String {
    match metric.split_once('{') {
        Some((name, labels)) => format!("hearthside_{name}{{mapping=\"{mapping}\",{labels}"),
        None => format!("hearthside_{metric}{{mapping=\"{mapping}\"}}"),
    }
}

#[test]
fn each_mapping_is_counted_from_zero_and_goes_with_the_reload_that_takes_it_away() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, MAPPINGS).expect(&[warnings::NO_TRIGGERS]).start();
    let (_, shown) = request(&sidecar, "GET", "/metrics");
    for series in ["p:{id:int}", "n:{id:int}"].iter().flat_map(|mapping| EACH.map(|metric| of(metric, mapping))) {
        // The beginning of the change feed forgets everything once.
        let begin = if series.contains("invalidations") { series + " " } else { series + " 0" };
        assert!(shown.lines().any(|line| line.starts_with(&begin)), "{begin}:\n{shown}");
    }
    let mut wire = sidecar.wire();
    for _ in 0..3 {
        assert_eq!(wire.ask("HGET p:1 hp"), "$1\r\n1\r\n");
        assert_eq!(wire.ask("HGET p:999 hp"), "$-1\r\n");
    }
    let value = |name: &str| metric(&sidecar, &of(name, "p:{id:int}"));
    let counted = EACH[..6].iter().map(|name| value(name)).collect::<Vec<_>>();
    assert_eq!(counted, [2.0, 2.0, 2.0, 1.0, 1.0, 0.0]);
    assert_eq!(metric(&sidecar, &of("misses_total", "n:{id:int}")), 0.0);
    until("they are in memory", || value("mapping_entries") == 2.0 && value("mapping_bytes") > 0.0);
    assert!(value("mapping_load_seconds_total") > 0.0 && value("mapping_load_seconds_total") < 10.0);
    postgres.sql("UPDATE p SET hp = 5 WHERE id = 1");
    until("it is forgotten", || value("mapping_invalidations_total") >= 1.0);
    sidecar.configure(&MAPPINGS.replace("n:{id:int}", "m:{id:int}"));
    sidecar.signal("HUP");
    until("the mapping is another", || {
        let (_, shown) = request(&sidecar, "GET", "/metrics");
        let has_new = EACH.iter().all(|metric| shown.contains(&of(metric, "m:{id:int}")));
        has_new && !shown.contains("n:{id:int}")
    });
    assert_eq!(value("misses_total"), 2.0, "what stays goes on from where it was");
}
