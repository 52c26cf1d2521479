//! Flushes that the network delivers late: a statement that was given up, by its sender or with it, changes nothing
//! once anything newer is in the store.

use super::place::{Place, TROUBLE, until_saved};
use crate::support::admin::metric;
use crate::support::proxy::{Proxy, Trapped};
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

/// Only the parameters of a flush hold this.
pub(super) const FLUSH: &str = "\"k\":[";

pub(super) fn through(place: &Place, proxy: &Proxy) -> Builder {
    let builder = place.behind(proxy);
    // A flush is given up after a second and a half.
    builder.set("STORE__CONNECT_TIMEOUT", "200ms").set("STORE__QUERY_TIMEOUT", "300ms")
}

/// Writes `value`, and returns when it is in the store and shown.
pub(super) fn save(place: &Place, sidecar: &Sidecar, wire: &mut Wire, value: u32) {
    until("the write is taken", || wire.ask(&format!("HSET p:1 seen {value}")) == ":0\r\n");
    until("it is saved", || place.seen(1) == value.to_string());
    until_saved(sidecar);
    assert_eq!(wire.ask("HGET p:1 seen"), format!("${}\r\n{value}\r\n", value.to_string().len()));
}

/// Writes 20, whose flush the network holds.
pub(super) fn held_up(proxy: &Proxy, wire: &mut Wire) -> Trapped {
    let late = proxy.trap(FLUSH);
    assert_eq!(wire.ask("HSET p:1 seen 20"), ":0\r\n");
    until("the flush is on its way", || late.has_caught());
    late
}

/// A sidecar that has saved 1, and taken 20, whose flush the network holds.
fn begun() -> (Place, Proxy, Sidecar, Wire, Trapped) {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let sidecar = through(&place, &proxy).start();
    let mut wire = sidecar.wire();
    save(&place, &sidecar, &mut wire, 1);
    let late = held_up(&proxy, &mut wire);
    (place, proxy, sidecar, wire, late)
}

/// The next sidecar saves what was acknowledged, and something newer, before the packet comes.
fn starts_again(place: &Place, proxy: &Proxy, late: &Trapped, acknowledged: &str) {
    let sidecar = through(place, proxy).start();
    let mut wire = sidecar.wire();
    until("what was acknowledged is replayed and saved", || place.seen(1) == acknowledged);
    save(place, &sidecar, &mut wire, 300);
    comes_too_late(place, late, &mut wire, "300");
}

/// Lets the packet through; when Postgres has judged it the newest value must still be there.
pub(super) fn comes_too_late(place: &Place, late: &Trapped, wire: &mut Wire, newest: &str) {
    late.release();
    until("Postgres has answered the late flush", || late.is_answered());
    assert_eq!(place.seen(1), newest, "a flush that came late has undone an acknowledged write");
    assert_eq!(wire.ask("HGET p:1 seen"), format!("${}\r\n{newest}\r\n", newest.len()));
}

#[test]
fn a_flush_delivered_after_its_sidecar_was_killed_undoes_nothing() {
    let (place, proxy, mut sidecar, _, late) = begun();
    sidecar.kill();
    starts_again(&place, &proxy, &late, "20");
}

#[test]
fn a_flush_whose_values_were_all_replaced_before_the_kill_undoes_nothing() {
    let (place, proxy, mut sidecar, mut wire, late) = begun();
    // In the journal the new value takes the place of the one that was taken.
    assert_eq!(wire.ask("HSET p:1 seen 30"), ":0\r\n");
    sidecar.kill();
    starts_again(&place, &proxy, &late, "30");
}

#[test]
fn a_flush_delivered_after_it_was_given_up_and_sent_again_undoes_nothing() {
    let (place, _proxy, sidecar, mut wire, late) = begun();
    until("it is given up and sent again", || place.seen(1) == "20");
    save(&place, &sidecar, &mut wire, 300);
    comes_too_late(&place, &late, &mut wire, "300");
}

#[test]
fn a_flush_delivered_after_the_same_batch_was_applied_is_not_applied_twice() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let sidecar = through(&place, &proxy).start();
    let mut wire = sidecar.wire();
    let late = held_up(&proxy, &mut wire);
    until("it is given up and sent again", || place.seen(1) == "20");
    until_saved(&sidecar);
    // Nothing newer comes from this sidecar, but from somebody else.
    place.postgres.sql("UPDATE players SET seen = 300 WHERE id = 1");
    until("the change shows", || wire.ask("HGET p:1 seen") == "$3\r\n300\r\n");
    comes_too_late(&place, &late, &mut wire, "300");
}

#[test]
fn a_flush_under_way_when_its_sidecar_is_stopped_is_not_applied_twice() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    // A flush is given up after two seconds, and the end waits three for the store.
    let builder = || {
        through(&place, &proxy)
            .set("STORE__QUERY_TIMEOUT", "800ms")
            .expect(&[warnings::DEFERRED_STAY, warnings::STORE_TOO_SLOW])
    };
    let mut sidecar = builder().start();
    let mut wire = sidecar.wire();
    save(&place, &sidecar, &mut wire, 1);
    let late = held_up(&proxy, &mut wire);
    drop(wire);
    let again = proxy.trap(FLUSH);
    assert_eq!(sidecar.stop(), Some(0));
    assert!(again.has_caught() && sidecar.log().contains("stay in the journal"), "{}", sidecar.log());
    late.release();
    until("it is applied", || place.seen(1) == "20");
    place.postgres.sql("UPDATE players SET seen = 300 WHERE id = 1");
    let sidecar = builder().start();
    until_saved(&sidecar);
    comes_too_late(&place, &again, &mut sidecar.wire(), "300");
}

#[test]
fn a_flush_still_under_way_when_the_next_sidecar_starts_is_counted_once() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let mut sidecar = place.behind(&proxy).set("STORE__QUERY_TIMEOUT", "60s").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n0\r\n");
    let mut lock = place.lock_first();
    let late = proxy.trap(FLUSH);
    assert_eq!(wire.ask("HSET p:1 seen 1"), ":0\r\n");
    until("the flush is on its way", || late.has_caught());
    sidecar.kill();
    // Its connection stays open, however long the next start takes: Postgres ends a statement whose client is gone.
    late.release();
    place.until_locked_out(1);
    let builder = place.builder("50ms").set("STORE__QUERY_TIMEOUT", "60s").expect(TROUBLE);
    let mut sidecar = builder.expect(&[warnings::WAITING_FOR_THE_NOTE]).spawn();
    // It cannot know what became of the statement before that has ended.
    place.until_locked_out(2);
    lock.run("COMMIT;");
    until("it is applied", || place.seen(1) == "1");
    place.postgres.sql("UPDATE players SET seen = 2 WHERE id = 1");
    sidecar.wait_ready();
    until_saved(&sidecar);
    until("memory agrees", || sidecar.wire().ask("HGET p:1 seen") == "$1\r\n2\r\n");
    assert_eq!(place.seen(1), "2", "what had been applied was applied again");
}

#[test]
fn a_batch_whose_answer_was_lost_and_that_is_then_refused_is_not_applied_twice() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let sidecar = place.behind(&proxy).set("STORE__QUERY_TIMEOUT", "60s").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n0\r\n");
    let mut lock = place.lock_first();
    assert_eq!(wire.ask("HSET p:1 seen 1"), ":0\r\n");
    place.until_locked_out(1);
    proxy.refuse_new(true);
    proxy.cut();
    lock.run("COMMIT;");
    until("it is applied", || place.seen(1) == "1");
    place.postgres.sql("UPDATE players SET seen = 2 WHERE id = 1; ALTER TABLE players RENAME TO elsewhere");
    proxy.refuse_new(false);
    // What is refused now has been applied: that is found out, or it waits for the table.
    let is_empty = || metric(&sidecar, "hearthside_journal_bytes") == 0.0;
    until("it was sent again", || is_empty() || sidecar.log().contains("there is no table 'players'"));
    place.postgres.sql("ALTER TABLE elsewhere RENAME TO players");
    until_saved(&sidecar);
    assert_eq!(place.seen(1), "2", "what had been applied was applied again");
}

#[test]
fn a_batch_sent_again_while_its_first_statement_still_runs_is_applied_once() {
    // Whatever isolation the database gives its sessions.
    for isolation in ["read committed", "repeatable read", "serializable"] {
        let place = Place::new();
        place.postgres.sql(&format!("ALTER DATABASE postgres SET default_transaction_isolation = '{isolation}'"));
        place.postgres.sql(
            "CREATE TABLE applied (v BIGINT); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO applied VALUES (NEW.seen); RETURN NULL; END $$; \
             CREATE TRIGGER note AFTER UPDATE OF seen ON players FOR EACH ROW EXECUTE FUNCTION note();",
        );
        let proxy = Proxy::to(place.postgres.port);
        let sidecar = place.behind(&proxy).set("STORE__QUERY_TIMEOUT", "60s").start();
        assert_eq!(sidecar.wire().ask("HGET p:1 seen"), "$1\r\n0\r\n");
        let mut lock = place.lock_first();
        assert_eq!(sidecar.wire().ask("HSET p:1 seen 20"), ":0\r\n");
        place.until_locked_out(1);
        proxy.cut();
        place.until_locked_out(2);
        lock.run("COMMIT;");
        until_saved(&sidecar);
        assert_eq!(place.postgres.sql("SELECT array_agg(v) FROM applied"), "{20}", "{isolation}");
        assert_eq!(sidecar.wire().ask("HGET p:1 seen"), "$2\r\n20\r\n");
    }
}
