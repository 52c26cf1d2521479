//! What one sidecar is asked reaches all that share its store, over each feed.

use super::place::{NOTES, Place};
use crate::support::admin::metric;
use crate::support::sidecar::Sidecar;
use crate::support::until;

fn shows(sidecar: &Sidecar, mode: &str, percent: f64) -> bool {
    metric(sidecar, &format!("hearthside_mapping_mode{{mapping=\"{NOTES}\",mode=\"{mode}\"}}")) == 1.0
        && metric(sidecar, &format!("hearthside_mapping_percent{{mapping=\"{NOTES}\"}}")) == percent
}

fn reaches_all(feed: &str) {
    let place = Place::with("-c wal_level=logical");
    let builder = || place.builder("").set("STORE__FEED", feed);
    let [one, other] = [builder().migrated().start(), builder().start()];
    let (mut wire, mut others) = (one.wire(), other.wire());
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} off 40"));
    until("the other one has the mode", || shows(&other, "off", 40.0));
    assert!(shows(&one, "off", 40.0));
    assert_eq!(others.ask("EXISTS note:1"), ":0\r\n");
    others.ask("HEARTHSIDE MODE ALL on 100");
    until("the first one has the mode", || shows(&one, "on", 100.0));
    // What is unknown in one of them is an error there alone.
    assert!(wire.ask("HEARTHSIDE MODE other:{id} off").starts_with("-ERR"));
    for client in [&mut wire, &mut others] {
        assert_eq!(client.ask("HGET note:1 text"), "$1\r\na\r\n");
    }
    let loads = |of: &Sidecar| metric(of, &format!("hearthside_loads_total{{mapping=\"{NOTES}\",outcome=\"ok\"}}"));
    let before = loads(&other);
    assert_eq!(wire.ask("HEARTHSIDE INVALIDATE note:1"), ":1\r\n");
    until("the other one has forgotten it", || {
        others.ask("HGET note:1 text") == "$1\r\na\r\n" && loads(&other) > before
    });
    let told = others.ask("HEARTHSIDE EXPLAIN note:1");
    assert!(told.contains("HEARTHSIDE INVALIDATE asked for it"), "{told}");
}

#[test]
fn by_notices() {
    reaches_all("notify");
}

#[test]
fn by_the_outbox() {
    reaches_all("outbox");
}

#[test]
fn by_logical_replication() {
    reaches_all("replication");
}

#[test]
fn where_the_store_is_away_that_is_said() {
    let place = Place::new();
    let sidecar = place.builder("").expect(crate::support::warnings::STORE_AWAY).start();
    place.stop();
    let told = sidecar.wire().ask(&format!("HEARTHSIDE MODE {NOTES} off"));
    assert!(told.contains("other sidecars of the store were not told"), "{told}");
    assert_eq!(sidecar.wire().ask("HSET note:1 text c"), ":1\r\n");
}
