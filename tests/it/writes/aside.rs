//! What the store refuses is put aside in the journal, also when that cannot be written just then.

use super::late::FLUSH;
use super::place::{Place, until_saved};
use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

const PUT_ASIDE: &str = "hearthside_put_aside_total";

/// Writes until the disk is full; so many were taken, of the rows from 101 on.
fn fill(wire: &mut Wire) -> u32 {
    for taken in 0.. {
        let id = 101 + taken;
        let told = wire.ask(&format!("HSET p:{id} seen {id}"));
        if told.starts_with('-') {
            assert!(told.contains("the journal's file"), "{told}");
            return taken;
        }
        assert!(told == ":0\r\n" && taken < 900, "the disk never became full");
    }
    unreachable!("it becomes full");
}

/// A value that the store will refuse has been taken by a flush; before that ends, the disk is full.
fn refused_on_a_full_disk(place: &Place) -> (Sidecar, Wire, u32) {
    let proxy = Proxy::to(place.postgres.port);
    let builder = place.behind(&proxy).set("STORE__QUERY_TIMEOUT", "60s").on_a_small_disk(400_000);
    let sidecar = builder
        .expect(&[
            warnings::JOURNAL_NOT_WRITTEN,
            warnings::PUT_ASIDE,
            warnings::DEFERRED_STAY,
            warnings::STORE_TOO_SLOW,
        ])
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:13 steps"), "$1\r\n0\r\n");
    let flush = proxy.trap(FLUSH);
    assert_eq!(wire.ask("HSET p:13 steps -5"), ":0\r\n");
    until("the flush is on its way", || flush.has_caught());
    let taken = fill(&mut wire);
    flush.release();
    // It is neither lost nor counted as put aside, and it is said why everything waits.
    until("it is told", || {
        sidecar.log().lines().any(|line| line.contains("deferred writes wait") && line.contains("the journal's file"))
    });
    assert_eq!(metric(&sidecar, PUT_ASIDE), 0.0);
    assert_eq!(wire.ask("HGET p:13 steps"), "$2\r\n-5\r\n");
    (sidecar, wire, taken)
}

/// The value that was refused is kept with its reason, once, and all that was acknowledged besides is saved.
fn nothing_is_lost(place: &Place, sidecar: &Sidecar, taken: u32) {
    until("it is counted", || metric(sidecar, PUT_ASIDE) == 1.0);
    until_saved(sidecar);
    let saved = "SELECT count(*) FROM players WHERE seen = id";
    assert_eq!(place.postgres.sql(saved), taken.to_string(), "everything acknowledged, and nothing else");
    assert_eq!(sidecar.wire().ask("HGET p:13 steps"), "$1\r\n0\r\n", "what is true shows");
    let told = place.builder("1s").execute(&["journal"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("\"p:13\" \"steps\" \"-5\": ") && told.lines().count() == 1, "{told}");
    assert_eq!(metric(sidecar, PUT_ASIDE), 1.0);
}

#[test]
fn what_is_refused_while_the_disk_is_full_is_put_aside_when_there_is_room() {
    let place = Place::new();
    let (sidecar, wire, taken) = refused_on_a_full_disk(&place);
    drop(wire);
    sidecar.free_disk();
    nothing_is_lost(&place, &sidecar, taken);
}

#[test]
fn a_full_disk_is_not_blamed_on_the_store_and_is_counted_and_logged_now_and_then() {
    let place = Place::new();
    let builder = place.builder("1h").on_a_small_disk(400_000);
    let sidecar = builder.expect(&[warnings::JOURNAL_NOT_WRITTEN, warnings::DEFERRED_WAIT]).start();
    let mut wire = sidecar.wire();
    fill(&mut wire);
    for _ in 0..50 {
        let told = wire.ask("HSET p:999 seen 1");
        assert!(told.contains("the journal's file") && !told.contains("the store refused"), "{told}");
    }
    assert!(metric(&sidecar, "hearthside_journal_refused_total") >= 51.0);
    let lines = sidecar.log().lines().filter(|line| line.contains("the journal cannot be written")).count();
    assert!((1..=5).contains(&lines), "{lines} lines");
    let defers = "hearthside_mapping_defers{mapping=\"p:{id:int}\"}";
    until("the metric says it", || metric(&sidecar, defers) == 0.0);
    sidecar.free_disk();
    until("and that it is over, although nobody writes", || metric(&sidecar, defers) == 1.0);
}

#[test]
fn what_is_refused_while_the_disk_is_full_survives_a_kill() {
    let place = Place::new();
    let (mut sidecar, wire, taken) = refused_on_a_full_disk(&place);
    drop(wire);
    sidecar.kill();
    let sidecar = place.builder("50ms").expect(&[warnings::PUT_ASIDE]).start();
    nothing_is_lost(&place, &sidecar, taken);
}

#[test]
fn a_stop_on_a_full_disk_keeps_what_it_cannot_put_aside() {
    let place = Place::new();
    let (mut sidecar, wire, taken) = refused_on_a_full_disk(&place);
    drop(wire);
    assert_eq!(sidecar.stop(), Some(0));
    assert!(sidecar.log().contains("deferred writes stay in the journal"), "{}", sidecar.log());
    let sidecar = place.builder("50ms").expect(&[warnings::PUT_ASIDE]).start();
    nothing_is_lost(&place, &sidecar, taken);
}

#[test]
fn what_a_trigger_suppresses_while_the_disk_is_full_is_put_aside_when_there_is_room() {
    let place = Place::new();
    place.postgres.sql(
        "CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; \
         CREATE TRIGGER suppress BEFORE UPDATE ON players FOR EACH ROW WHEN (NEW.steps < 0) EXECUTE FUNCTION suppress()",
    );
    let (sidecar, wire, taken) = refused_on_a_full_disk(&place);
    drop(wire);
    sidecar.free_disk();
    nothing_is_lost(&place, &sidecar, taken);
}
