//! A machine that loses its power: what has not been synced is gone from the journal.

use super::embedded;
use super::late::{comes_too_late, held_up, save, through};
use super::place::Place;
use crate::support::power::Power;
use crate::support::proxy::Proxy;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;

fn loses_power(place: &Place, power: &Power, mut sidecar: Sidecar) {
    sidecar.kill();
    power.fails(&place.journal());
}

#[test]
fn what_was_acknowledged_is_there_when_the_power_is_back() {
    let (place, power) = (Place::new(), Power::new());
    let sidecar = power.watches(place.builder("1h")).start();
    let mut wire = sidecar.wire();
    for i in 1..=50 {
        assert_eq!(wire.ask(&format!("HSET p:{i} seen {i}")), ":0\r\n");
    }
    loses_power(&place, &power, sidecar);
    let _again = place.builder("50ms").start();
    until("all of it is saved", || place.postgres.sql("SELECT count(*) FROM players WHERE seen = id") == "50");
}

#[test]
fn what_a_flush_takes_is_synced_before_it_is_sent_also_where_a_second_of_writes_may_be_lost() {
    let (place, power) = (Place::new(), Power::new());
    let proxy = Proxy::to(place.postgres.port);
    let builder = || power.watches(through(&place, &proxy).set("JOURNAL__SYNC", "everysec"));
    let sidecar = builder().start();
    let mut wire = sidecar.wire();
    save(&place, &sidecar, &mut wire, 1);
    // It is a second from here to the next time.
    until("a second is over", || power.has_synced(&place.journal()));
    let late = held_up(&proxy, &mut wire);
    loses_power(&place, &power, sidecar);
    // Did it not know under which name it sent the flush, it could not stop it.
    let sidecar = builder().start();
    let mut wire = sidecar.wire();
    until("what was taken is saved", || place.seen(1) == "20");
    save(&place, &sidecar, &mut wire, 300);
    comes_too_late(&place, &late, &mut wire, "300");
}

const THROUGH: &str = r#"
[[caches]]
key = "p:{id:int}"
type = "hash"
table = "players"
write = "through"
"#;

#[test]
fn an_error_of_the_disk_at_a_commit_to_sqlite_leaves_open_whether_it_was_applied() {
    let tables = "CREATE TABLE players (id INTEGER PRIMARY KEY, seen INTEGER); INSERT INTO players VALUES (1, 0)";
    let (place, power) = (embedded::Place::of(tables, THROUGH), Power::new());
    let sidecar = power.watches(place.builder()).expect(&[warnings::WRITE_FAILED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET p:1 seen 1"), ":0\r\n");
    let log = place.folder.path().join("store.db-wal");
    power.disk_fails(&log, true);
    let told = wire.ask("HSET p:1 seen 2");
    assert!(told.contains("may have been applied"), "{told}");
    power.disk_fails(&log, false);
    let now = wire.ask("HGET p:1 seen");
    assert!(now == "$1\r\n1\r\n" || now == "$1\r\n2\r\n", "{now}");
    assert_eq!(wire.ask("HSET p:1 seen 3"), ":0\r\n");
    assert_eq!(place.sql("SELECT seen FROM players"), "3");
}
