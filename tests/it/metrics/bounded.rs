//! However many mappings there are, and whatever names clients give themselves, metrics stay bounded in number.

use crate::support::admin::{metric, request};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;

const MAPPINGS: usize = 400;
const CLIENTS: usize = 500;

/// Series of one mapping of cached keys that is written.
const OF_A_MAPPING: usize = 24;
/// All others: histograms have 21 lines for each of their labels.
const OF_ALL: usize = 1500;

#[test]
fn four_hundred_mappings_and_many_clients_are_so_many_series_and_no_more() {
    let redis = Redis::start();
    let mapping = |i| {
        format!(
            "[[caches]]\nkey = \"m{i}:{{character_id:int}}\"\ntype = \"string\"\ntable = \"sessions\"\nvalue = \
                              \"location_id\"\nttl = \"1h\"\n"
        )
    };
    let config: String = hearthside::config::SHIPPED.to_owned() + &(0..MAPPINGS).map(mapping).collect::<String>();
    let sidecar = Sidecar::builder().redis(&redis).config(&config).start();
    let mut wires: Vec<_> = (0..CLIENTS).map(|_| sidecar.wire()).collect();
    for (i, wire) in wires.iter_mut().enumerate() {
        assert_eq!(
            wire.ask(&format!("CLIENT SETNAME service-{}-{}", i % 3, if i % 3 == 0 { 0 } else { i })),
            "+OK\r\n"
        );
        wire.ask(&format!("GET m{}:1", i % MAPPINGS));
    }
    until("all are counted", || metric(&sidecar, "hearthside_clients_by_name") == CLIENTS as f64);
    let (_, shown) = request(&sidecar, "GET", "/metrics");
    let count = |name: &str| shown.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(count("hearthside_clients_by_name{"), 21, "the most frequent names, and the others as one");
    assert_eq!(metric(&sidecar, "hearthside_clients_by_name{name=\"service-0-0\"}"), CLIENTS.div_ceil(3) as f64);
    let series = shown.lines().filter(|line| !line.starts_with('#')).count();
    assert!((MAPPINGS * 10..OF_A_MAPPING * MAPPINGS + OF_ALL).contains(&series), "{series} series");
}
