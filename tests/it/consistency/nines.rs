//! How many nines: clients read as fast as they can while rows change by SQL and through the sidecar, and while its
//! store connections are cut; the verifier compares every hit. `scripts/nines` goes on for longer.
//!
//! HEARTHSIDE_VERIFIED (default 200,000): so many hits are verified.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::End;
use crate::differential::stream::Dice;
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::setting;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::line;

const CONFIG: &str = r#"
[[caches]]
key = "score:{id:int}"
type = "hash"
table = "scores"
ttl = "1h"
write = "through"
"#;

/// Rows, each of which is read all the time.
const ROWS: u64 = 64;
/// Requests of a client in one pipeline.
const DEPTH: usize = 512;

fn read(sidecar: &Sidecar, over: &AtomicBool, mut dice: Dice) {
    let mut wire = sidecar.wire();
    while !over.load(SeqCst) {
        let requests: Vec<u8> = (0..DEPTH).flat_map(|_| line(&format!("HGET score:{} v", dice.roll(ROWS)))).collect();
        wire.send(&requests);
        (0..DEPTH).for_each(|_| drop(wire.frame()));
    }
}

fn write(sidecar: &Sidecar, postgres: &Postgres, over: &AtomicBool, mut dice: Dice) {
    let (mut wire, mut session) = (sidecar.wire(), postgres.session());
    while !over.load(SeqCst) {
        let row = dice.roll(ROWS);
        session.run(&format!("UPDATE scores SET v = v + 1 WHERE id = {row};"));
        wire.ask(&format!("HINCRBY score:{} v 1", dice.roll(ROWS)));
        thread::sleep(Duration::from_millis(dice.roll(10)));
    }
}

/// The shares of hits that were not stale at all, or for longer than so many minutes, as nines.
fn report(sidecar: &Sidecar) {
    for minutes in [0, 1, 5, 10] {
        let label = |name: &str| format!("hearthside_{name}{{older_than_minutes=\"{minutes}\"}}");
        let (stale, nines) =
            (metric(sidecar, &label("stale_hits_total")), metric(sidecar, &label("consistency_nines")));
        eprintln!("stale for longer than {minutes} minutes: {stale} hits, {nines:.2} nines");
        assert_eq!(stale, 0.0);
    }
}

#[test]
fn no_verified_hit_is_stale_while_rows_change_and_the_feed_is_cut() {
    let wanted = setting("HEARTHSIDE_VERIFIED", 200_000) as f64;
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(&format!(
        "CREATE TABLE scores (id INT PRIMARY KEY, v BIGINT NOT NULL DEFAULT 0); \
         INSERT INTO scores SELECT i FROM generate_series(0, {}) AS i",
        ROWS - 1
    ));
    let proxy = Proxy::to(postgres.port);
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .config(CONFIG)
        .set("STORE__URL", postgres.url_at(proxy.port))
        .set("VERIFY__SAMPLE", "1")
        .set("VERIFY__PER_SECOND", "1000000")
        .set("STORE__HEARTBEAT_INTERVAL", "200ms")
        .expect(warnings::STORE_AWAY)
        .migrated()
        .start();
    let (over, verified) = (AtomicBool::new(false), || metric(&sidecar, "hearthside_verified_total"));
    thread::scope(|scope| {
        let _end = End(&over);
        for seed in 0..2 {
            let (sidecar, over) = (&sidecar, &over);
            scope.spawn(move || read(sidecar, over, Dice(seed + 1)));
        }
        scope.spawn(|| write(&sidecar, &postgres, &over, Dice(7)));
        let mut cuts = 0.0;
        while verified() < wanted {
            // In the middle of the reads, four times.
            if cuts < 4.0 && verified() > wanted * (cuts + 0.5) / 4.0 {
                proxy.cut();
                cuts += 1.0;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    eprintln!("{} hits were verified", verified());
    report(&sidecar);
}
