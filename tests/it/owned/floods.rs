//! Floods of notices: what one costs does not depend on how much is in memory, and nobody waits behind them.

use std::thread;

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::line;
use crate::support::{setting, until};

const CONFIG: &str = r#"
[[caches]]
key = "n:{id:int}"
type = "string"
table = "notes"
value = "v"

[[caches]]
key = "w:{id:int}"
type = "string"
query = "SELECT v FROM worlds WHERE id = $1"
value = "v"
watch = [{ table = "worlds", whole = true }]
"#;

/// How many entries of each mapping are in memory.
fn most() -> usize {
    setting("HEARTHSIDE_ENTRIES", 5000) as usize
}

/// A sidecar that has every note in memory, and every world.
fn full(redis: &Redis, postgres: &Postgres) -> Sidecar {
    let entries = most();
    for table in ["notes", "worlds"] {
        postgres.sql(&format!(
            "CREATE TABLE {table} (id BIGINT PRIMARY KEY, v TEXT); \
             INSERT INTO {table} SELECT i, 'old' FROM generate_series(1, {entries}) AS i"
        ));
    }
    let sidecar = Sidecar::builder().redis(redis).postgres(postgres).config(CONFIG).migrated().start();
    for kind in ["n", "w"] {
        load(&sidecar, kind);
    }
    sidecar
}

fn load(sidecar: &Sidecar, kind: &str) {
    let mut wire = sidecar.wire();
    for ids in (1..=most()).collect::<Vec<_>>().chunks(500) {
        wire.send(&ids.iter().flat_map(|id| line(&format!("GET {kind}:{id}"))).collect::<Vec<u8>>());
        ids.iter().for_each(|_| assert_eq!(wire.frame(), b"$3\r\nold\r\n"));
    }
}

fn entries(sidecar: &Sidecar) -> usize {
    metric(sidecar, "hearthside_cache_entries") as usize
}

#[test]
fn notices_of_a_whole_mapping_hold_up_nobody_however_much_is_in_memory() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = full(&redis, &postgres);
    let (mut wire, postgres, notices) = (sidecar.wire(), &postgres, setting("HEARTHSIDE_NOTICES", 4000));
    thread::scope(|scope| {
        // Each in a transaction of its own: equal notices of one transaction are one.
        let flood = format!(
            "DO $$ BEGIN FOR i IN 1..{notices} LOOP UPDATE worlds SET v = 'x' || i WHERE id = 1; COMMIT; END LOOP; \
             END $$"
        );
        let flooding = scope.spawn(move || postgres.sql(&flood));
        let told = || metric(&sidecar, "hearthside_invalidations_total{reason=\"mapping\"}");
        until("notices come", || told() > 0.0);
        for round in 1..=5 {
            postgres.sql(&format!("UPDATE notes SET v = '{round}' WHERE id = 7"));
            let shown = format!("$1\r\n{round}\r\n");
            let took = until("the change of another mapping shows", || wire.ask("GET n:7") == shown);
            eprintln!("a change of another mapping showed after {took:?}, {} notices of the whole mapping", told());
        }
        flooding.join().expect("written");
        until("every notice has come", || told() >= notices as f64);
    });
    assert!(wire.ask("GET w:1").ends_with(&format!("\r\nx{notices}\r\n")));
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
    assert_eq!(metric(&sidecar, "hearthside_change_feed_up"), 1.0);
}

#[test]
fn what_was_kept_of_a_mapping_that_is_forgotten_gives_its_room_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = full(&redis, &postgres);
    until("all are in memory", || entries(&sidecar) == 2 * most());
    let loads = || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    let loaded = loads();
    for id in 1..=3 {
        postgres.sql(&format!("INSERT INTO worlds VALUES ({}, 'new')", most() + id));
    }
    until("the entries of the one mapping are gone", || entries(&sidecar) == most());
    load(&sidecar, "n");
    assert_eq!(loads(), loaded, "those of the other stay");
    load(&sidecar, "w");
    until("all are in memory again", || entries(&sidecar) == 2 * most());
}
