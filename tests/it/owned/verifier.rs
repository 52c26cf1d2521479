//! The verifier: it fires when a change is not told, and only then.

use std::time::{Duration, Instant};

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::demo;
use crate::support::until;
use crate::support::warnings;

const STALE: &str = "hearthside_stale_reads_total{mapping=\"player:{character_id:int}:session\"}";

#[test]
fn a_change_that_nobody_is_told_of_is_found_counted_and_mended() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres)
        .set("VERIFY__SAMPLE", "1")
        .set("VERIFY__PER_SECOND", "1000")
        .set("STORE__HEARTBEAT_INTERVAL", "100ms")
        // Whoever sees that the triggers are disabled forgets what is in memory.
        .set("STORE__SCHEMA_INTERVAL", "1h")
        .expect(&[warnings::STALE])
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n99\r\n");
    // Changes that are told are none, however fast they come.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        postgres.sql("UPDATE sessions SET hp = hp + 1 WHERE character_id = 1");
        (0..20).for_each(|_| drop(wire.ask("HGET player:1:session hp")));
        assert!(wire.ask("HINCRBY player:1:session xp 1").starts_with(':'));
    }
    until("some were verified", || metric(&sidecar, "hearthside_verified_total") > 100.0);
    assert_eq!(metric(&sidecar, STALE), 0.0);
    postgres.sql("ALTER TABLE sessions DISABLE TRIGGER USER");
    wire.ask("HGET player:1:session hp");
    postgres.sql("UPDATE sessions SET hp = -7 WHERE character_id = 1");
    until("it is found", || {
        wire.ask("HGET player:1:session hp");
        metric(&sidecar, STALE) >= 1.0
    });
    assert!(metric(&sidecar, "hearthside_stale_hits_total{older_than_minutes=\"0\"}") >= 1.0);
    assert_eq!(metric(&sidecar, "hearthside_stale_hits_total{older_than_minutes=\"1\"}"), 0.0);
    until("it is mended", || wire.ask("HGET player:1:session hp") == "$2\r\n-7\r\n");
    assert!(sidecar.log().contains("mapping=\"player:{character_id:int}:session\" age_ms="), "{}", sidecar.log());
}

#[test]
fn hits_of_one_record_are_verified_by_one_read_and_counted_in_info() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    // One read for each hit would take an hour.
    let sidecar = demo(&redis, &postgres).set("VERIFY__SAMPLE", "1").set("VERIFY__PER_SECOND", "1").start();
    let mut wire = sidecar.wire();
    for _ in 0..3600 {
        assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n99\r\n");
    }
    until("thousands were verified", || metric(&sidecar, "hearthside_verified_total") > 3000.0);
    let info = wire.ask("INFO hearthside");
    assert!(info.contains("hearthside_stale_hits_0m:0\r\nhearthside_consistency_nines_0m:3."), "{info}");
}
