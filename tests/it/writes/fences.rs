//! Fences and notes that hang: the store is there, and does not say what of the journal it has applied.

use super::late::through;
use super::place::{Place, TROUBLE, until_saved};
use crate::support::admin::{metric, request};
use crate::support::postgres::Session;
use crate::support::proxy::Proxy;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::Wire;

/// A journal under whose name something was sent, and in which a value of the first row waits.
fn leave_something(place: &Place) {
    let mut sidecar = place.builder("20ms").start();
    assert_eq!(sidecar.wire().ask("HSET p:1 seen 1"), ":0\r\n");
    until_saved(&sidecar);
    assert_eq!(sidecar.stop(), Some(0));
    let mut sidecar = place.builder("1h").start();
    assert_eq!(sidecar.wire().ask("HSET p:1 seen 2"), ":0\r\n");
    sidecar.kill();
}

fn locked(place: &Place) -> Session {
    let mut lock = place.postgres.session();
    lock.run("BEGIN; LOCK TABLE hearthside.journals IN ACCESS EXCLUSIVE MODE;");
    lock
}

/// Started while the store does not say it: what needs no store is served, and what may wait waits.
fn serves_meanwhile(builder: Builder) -> (Sidecar, Wire) {
    let mut sidecar = builder.expect(TROUBLE).spawn();
    sidecar.wait_ready();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET through 1"), "+OK\r\n");
    assert_eq!(wire.ask("HSET p:2 seen 7"), ":1\r\n");
    (sidecar, wire)
}

/// By itself, when the store says it.
fn recovers(place: &Place, sidecar: &Sidecar, wire: &mut Wire) {
    until("owned keys are answered", || wire.ask("HGET p:1 seen") == "$1\r\n2\r\n");
    assert_eq!(wire.ask("HGET p:2 seen"), "$1\r\n7\r\n");
    until("what waited is saved", || place.seen(1) == "2" && place.seen(2) == "7");
    until_saved(sidecar);
    until("ready", || request(sidecar, "GET", "/readyz").0 == 200);
    assert_eq!(metric(sidecar, "hearthside_journal_collisions_total"), 0.0);
}

#[test]
fn a_fence_that_waits_for_a_lock_keeps_nobody_from_what_needs_none() {
    let place = Place::new();
    leave_something(&place);
    let mut lock = locked(&place);
    let (sidecar, mut wire) = serves_meanwhile(place.builder("50ms").set("STORE__QUERY_TIMEOUT", "300ms"));
    until("clients are told what it waits for", || {
        let told = wire.ask("HGET p:1 seen");
        assert!(told.starts_with("-LOADING"), "{told}");
        told.contains("hearthside.journals") && told.contains("statement timeout")
    });
    let (status, body) = request(&sidecar, "GET", "/readyz");
    assert!(status == 503 && body.contains("hearthside.journals"), "{body}");
    lock.run("COMMIT;");
    recovers(&place, &sidecar, &mut wire);
}

#[test]
fn definitions_from_files_do_not_go_back_when_the_store_arrives() {
    let place = Place::new();
    leave_something(&place);
    let file = place.folder.path().join("tiers.json");
    let tiers = |name: &str| std::fs::write(&file, format!("{{\"1\": \"{name}\"}}")).expect("written");
    tiers("wood");
    let block = format!("[[definitions]]\nkey = \"tier:{{id}}\"\ntype = \"string\"\nfile = \"{}\"\n", file.display());
    let mut lock = locked(&place);
    let builder = place.builder("50ms").config(&format!("{block}{}", super::place::CONFIG));
    // By now the file has been read for what comes when the store says it.
    let (sidecar, mut wire) = serves_meanwhile(builder.set("STORE__QUERY_TIMEOUT", "300ms"));
    assert_eq!(wire.ask("GET tier:1"), "$4\r\nwood\r\n");
    tiers("iron");
    assert_eq!(wire.ask("HEARTHSIDE RELOAD"), "+OK\r\n");
    until("it is loaded", || wire.ask("GET tier:1") == "$4\r\niron\r\n");
    lock.run("COMMIT;");
    until("the store has arrived", || {
        assert_eq!(wire.ask("GET tier:1"), "$4\r\niron\r\n", "what was shown has gone back");
        wire.ask("HGET p:1 seen") == "$1\r\n2\r\n"
    });
    assert_eq!(wire.ask("GET tier:1"), "$4\r\niron\r\n", "what was shown has gone back");
    recovers(&place, &sidecar, &mut wire);
}

#[test]
fn a_sidecar_whose_fence_waits_for_a_lock_can_be_stopped() {
    let place = Place::new();
    leave_something(&place);
    let mut lock = locked(&place);
    let (mut sidecar, wire) = serves_meanwhile(place.builder("50ms"));
    drop(wire);
    assert_eq!(sidecar.stop(), Some(0));
    lock.run("COMMIT;");
    let sidecar = place.builder("50ms").start();
    recovers(&place, &sidecar, &mut sidecar.wire());
}

#[test]
fn a_fence_that_is_never_answered_is_sent_again() {
    let place = Place::new();
    leave_something(&place);
    let proxy = Proxy::to(place.postgres.port);
    let silent = proxy.trap("INSERT INTO hearthside.flushed");
    let sidecar = through(&place, &proxy).start();
    assert!(silent.has_caught());
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n2\r\n");
    until("what waited is saved", || place.seen(1) == "2");
    // It comes in the end, and finds the name that it closes closed.
    silent.release();
    until("Postgres has answered it", || silent.is_answered());
    assert_eq!(wire.ask("HSET p:2 seen 7"), ":0\r\n");
    recovers(&place, &sidecar, &mut wire);
}

#[test]
fn a_store_that_takes_the_connection_and_says_nothing_is_one_that_is_away() {
    let place = Place::new();
    leave_something(&place);
    let proxy = Proxy::to(place.postgres.port);
    proxy.hold(true);
    let (sidecar, mut wire) = serves_meanwhile(through(&place, &proxy));
    let told = wire.ask("HGET p:1 seen");
    assert!(told.starts_with("-LOADING") && told.contains("no connection within store.connect_timeout"), "{told}");
    proxy.hold(false);
    recovers(&place, &sidecar, &mut wire);
}

#[test]
fn a_store_that_falls_silent_while_its_tables_are_looked_at_is_one_that_is_away() {
    let place = Place::new();
    leave_something(&place);
    let proxy = Proxy::to(place.postgres.port);
    let silent = proxy.trap("to_regclass");
    let (sidecar, mut wire) = serves_meanwhile(through(&place, &proxy));
    assert!(silent.has_caught());
    recovers(&place, &sidecar, &mut wire);
}

#[test]
fn notes_that_are_locked_while_it_runs_cost_no_write() {
    let place = Place::new();
    let sidecar = place.builder("50ms").set("STORE__QUERY_TIMEOUT", "300ms").expect(TROUBLE).start();
    let mut wire = sidecar.wire();
    // The first time a name is enrolled, then the notes are raised.
    for round in 1..=2 {
        let mut lock = locked(&place);
        assert_eq!(wire.ask(&format!("HSET p:1 seen {round} steps {round}")), ":0\r\n");
        let failures = "deferred writes wait: the store does not take them";
        until("a flush has failed", || sidecar.log().matches(failures).count() >= 2 * round);
        assert_eq!(wire.ask("HGET p:1 seen"), format!("$1\r\n{round}\r\n"));
        assert_eq!(wire.ask("HSET p:1 hp 5"), ":0\r\n", "what is written through needs no note");
        lock.run("COMMIT;");
        until("it is saved", || place.seen(1) == round.to_string());
        until_saved(&sidecar);
    }
    assert_eq!(metric(&sidecar, "hearthside_journal_collisions_total"), 0.0);
}
