//! A batch whose answer has not come when its mapping is reloaded is applied once, and keeps no key waiting.

use super::reloaded_flushes::{OTHER, Place, THIRD, block, others_are_served, over, reload, shorter};
use crate::support::admin::metric;
use crate::support::postgres::Session;
use crate::support::proxy::{Proxy, Trapped};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

/// Only the parameters of a flush hold this.
const FLUSH: &str = "\"k\":[";

impl Place {
    /// A sidecar behind a proxy, which has sent a batch that Postgres has applied and not answered, and does not reach
    /// it any more. Somebody has written something newer since.
    fn doubtful(&self, proxy: &Proxy) -> (Sidecar, Wire) {
        let builder = self.builder(&(block("d") + OTHER)).set("STORE__URL", self.postgres.url_at(proxy.port));
        let away = [
            warnings::STORE_SILENT,
            warnings::STORE_HEALTH,
            warnings::FEED_LOST,
            warnings::FEED_CLOSED,
            warnings::FAULTY_RELOAD,
        ];
        let sidecar = builder.set("STORE__QUERY_TIMEOUT", "60s").expect(&away).start();
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nd\r\n");
        let mut lock = self.lock_first();
        assert_eq!(wire.ask("HSET a:1 d x"), ":0\r\n");
        self.until_locked_out();
        proxy.refuse_new(true);
        proxy.cut();
        lock.run("COMMIT;");
        until("it is applied", || self.d(1) == "x");
        self.postgres.sql("UPDATE a SET d = 'newer' WHERE id = 1");
        (sidecar, wire)
    }

    /// The same; it has sent the batch again, and that is held.
    fn sent_again(&self, proxy: &Proxy) -> (Sidecar, Wire, Trapped) {
        let (sidecar, wire) = self.doubtful(proxy);
        let late = proxy.trap(FLUSH);
        proxy.refuse_new(false);
        until("it is sent again", || late.has_caught());
        (sidecar, wire, late)
    }

    fn lock_first(&self) -> Session {
        let mut lock = self.postgres.session();
        lock.run("BEGIN; UPDATE a SET w = w WHERE id = 1;");
        lock
    }

    fn until_locked_out(&self) {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("a statement waits for the row", || self.postgres.sql(waiting) != "0");
    }
}

#[test]
fn a_batch_that_was_applied_before_a_reload_and_never_answered_is_not_applied_again() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let (sidecar, mut wire, late) = place.sent_again(&proxy);
    for config in [shorter(&block("d")) + OTHER, block("d") + OTHER + THIRD] {
        reload(&sidecar, &config);
        others_are_served(&mut wire);
    }
    place.until_saved(&sidecar);
    late.release();
    until("Postgres has answered the late flush", || late.is_answered());
    assert_eq!((place.applied().as_str(), place.d(1).as_str()), ("x newer", "newer"));
    until("memory agrees", || wire.ask("HGET a:1 d") == "$5\r\nnewer\r\n");
}

#[test]
fn a_batch_that_was_applied_is_not_put_aside_when_its_mapping_goes() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let (sidecar, mut wire, late) = place.sent_again(&proxy);
    // Another mapping writes to the same table.
    reload(&sidecar, &(over("z:{id:int}", "a", "d") + OTHER));
    assert_eq!(wire.ask("HSET z:2 d y"), ":0\r\n");
    place.until_saved(&sidecar);
    assert_eq!((place.applied().as_str(), place.d(1).as_str()), ("x newer y", "newer"));
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
    assert!(!sidecar.log().contains(warnings::NO_MAPPING), "{}", sidecar.log());
    drop(late);
}

#[test]
fn a_batch_that_cannot_be_settled_after_a_reload_keeps_a_write_waiting_for_no_longer_than_a_turn() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let (sidecar, mut wire, late) = place.sent_again(&proxy);
    let mut note = place.postgres.session();
    note.run("BEGIN; SELECT * FROM hearthside.journals FOR UPDATE;");
    reload(&sidecar, &(shorter(&block("d")) + OTHER));
    others_are_served(&mut wire);
    place.until_locked_out();
    assert_eq!([wire.ask("MULTI"), wire.ask("HSET a:1 w y")], ["+OK\r\n", "+QUEUED\r\n"]);
    let told = wire.ask("EXEC");
    assert!(told.contains("store.queue_timeout"), "{told}");
    note.run("COMMIT;");
    place.until_saved(&sidecar);
    until("it is written when it has been settled", || wire.ask("HSET a:1 w y") == ":0\r\n");
    drop(late);
}

#[test]
fn a_flush_that_waits_for_a_row_during_a_reload_is_applied_once_and_read_meanwhile() {
    let place = Place::new();
    let sidecar = place.builder(&(block("d") + OTHER)).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nd\r\n");
    let mut lock = place.lock_first();
    assert_eq!(wire.ask("HSET a:1 d x"), ":0\r\n");
    place.until_locked_out();
    reload(&sidecar, &(shorter(&block("d")) + OTHER));
    others_are_served(&mut wire);
    assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nx\r\n", "it lies over the record");
    lock.run("COMMIT;");
    place.until_saved(&sidecar);
    assert_eq!((place.applied().as_str(), place.d(1).as_str()), ("x", "x"));
}

#[test]
fn a_collision_of_one_table_while_another_is_locked_keeps_no_reload_waiting() {
    let place = Place::new();
    let deferring = over("b:{id:int}", "b", "v");
    let builder = place.builder(&(block("d") + &deferring)).expect(&[warnings::NOTED_BY_ANOTHER]);
    let sidecar = builder.set("JOURNAL__FLUSH_INTERVAL", "50ms").start();
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("HSET b:1 v 1"), wire.ask("HGET a:1 d")], [":0\r\n", "$1\r\nd\r\n"]);
    place.until_saved(&sidecar);
    let mut lock = place.lock_first();
    assert_eq!(wire.ask("HSET a:1 d x"), ":0\r\n");
    place.until_locked_out();
    let past = "UPDATE hearthside.journals SET fence = 9223372036854775807 WHERE journal LIKE '%:public.b'";
    place.postgres.sql(past);
    assert_eq!(wire.ask("HSET b:1 v 2"), ":0\r\n");
    until("it collides", || metric(&sidecar, "hearthside_journal_collisions_total") == 1.0);
    reload(&sidecar, &(shorter(&block("d")) + &deferring));
    others_are_served(&mut wire);
    assert_eq!([wire.ask("HGET a:1 d"), wire.ask("HGET b:1 v")], ["$1\r\nx\r\n", "$1\r\n2\r\n"]);
    lock.run("COMMIT;");
    place.until_saved(&sidecar);
    assert_eq!((place.applied().as_str(), place.postgres.sql("SELECT v FROM b WHERE id = 1").as_str()), ("x", "2"));
}
