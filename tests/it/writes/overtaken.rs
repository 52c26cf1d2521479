//! What comes while a deferred write waits for its turn, or for the record that it is computed from, is not lost.

use std::time::Duration;

use super::place::{Place, until_saved};
use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::until;
use crate::support::wire::line;

#[test]
fn a_transaction_that_waits_for_one_key_sees_what_changes_another_meanwhile() {
    let place = Place::new();
    let sidecar = place.builder("50ms").start();
    let mut wire = sidecar.wire();
    for id in [1, 2] {
        assert_eq!(wire.ask(&format!("HGET p:{id} seen")), "$1\r\n0\r\n");
    }
    let mut lock = place.postgres.session();
    lock.run("BEGIN; UPDATE players SET hp = hp WHERE id = 2;");
    let mut before = sidecar.wire();
    before.send(&line("HSET p:2 hp 7"));
    place.until_locked_out(1);
    for request in ["MULTI", "HGET p:1 seen", "HINCRBY p:1 seen 1", "HINCRBY p:2 seen 1"] {
        wire.ask(request);
    }
    wire.send(&line("EXEC"));
    until("it has its turn of the first key", || {
        let mut reader = sidecar.wire();
        reader.send(&line("HGET p:1 seen"));
        reader.is_silent(Duration::from_millis(50))
    });
    place.postgres.sql("UPDATE players SET seen = 100 WHERE id = 1");
    until("the change has come", || metric(&sidecar, "hearthside_invalidations_total{reason=\"change\"}") == 1.0);
    lock.run("COMMIT;");
    assert_eq!(before.frame(), b":0\r\n");
    assert_eq!(String::from_utf8_lossy(&wire.frame()), "*3\r\n$3\r\n100\r\n:101\r\n:1\r\n");
    until_saved(&sidecar);
    assert_eq!(place.seen(1), "101", "what was written by SQL is lost");
}

#[test]
fn an_increment_counts_what_is_saved_while_its_record_is_read() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let sidecar = place.behind(&proxy).set("JOURNAL__FLUSH_INTERVAL", "20ms").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HINCRBY p:1 seen 1"), ":1\r\n");
    // The answer to a flush overtakes that to a load which has read the row of before it.
    proxy.delay(200);
    for count in 2..=40 {
        wire.ask("HEARTHSIDE INVALIDATE p:1");
        assert_eq!(wire.ask("HINCRBY p:1 seen 1"), format!(":{count}\r\n"), "an acknowledged write is lost");
    }
}
