//! What is told of deferred writes that wait, or that the store does not take: gauges, log lines, `hearthside journal`.

use super::place::{Place, TROUBLE, until_saved};
use crate::support::admin::metric;
use crate::support::until;

const KEYS: &str = "hearthside_deferred_keys";

#[test]
fn keys_that_were_put_aside_wait_no_more() {
    let place = Place::new();
    let sidecar = place.builder("50ms").expect(&["put aside"]).start();
    let mut wire = sidecar.wire();
    (1..=20).for_each(|id| assert_eq!(wire.ask(&format!("HSET p:{id} steps -1")), ":0\r\n"));
    until("all are put aside", || metric(&sidecar, "hearthside_put_aside_total") == 20.0);
    until_saved(&sidecar);
    until("none waits", || metric(&sidecar, KEYS) == 0.0);
}

#[test]
fn keys_that_a_journal_held_are_counted_also_before_the_store_is_there() {
    let place = Place::new();
    let mut sidecar = place.builder("1h").expect(TROUBLE).start();
    let mut wire = sidecar.wire();
    (1..=20).for_each(|id| assert_eq!(wire.ask(&format!("HSET p:{id} seen 5 mood glad")), ":0\r\n"));
    assert_eq!(metric(&sidecar, KEYS), 20.0);
    place.postgres.stop();
    sidecar.kill();
    let mut sidecar = place.builder("50ms").expect(TROUBLE).spawn();
    sidecar.wait_ready();
    assert_eq!(metric(&sidecar, KEYS), 20.0);
    // One that waits already, and one that does not.
    let mut wire = sidecar.wire();
    for id in [20, 21] {
        assert_eq!(wire.ask(&format!("HSET p:{id} seen 6")), ":1\r\n");
    }
    assert_eq!(metric(&sidecar, KEYS), 21.0);
    place.postgres.launch();
    let saved = "SELECT count(*) FROM players WHERE seen = CASE WHEN id >= 20 THEN 6 ELSE 5 END AND id <= 21";
    until("all are saved", || place.postgres.sql(saved) == "21");
    until("none waits", || metric(&sidecar, KEYS) == 0.0);
}
