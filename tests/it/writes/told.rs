//! What is told of deferred writes that wait, or that the store does not take: gauges, log lines, `hearthside journal`.

use super::place::{Place, TROUBLE, until_saved};
use crate::support::admin::{metric, request};
use crate::support::until;
use crate::support::warnings;

const KEYS: &str = "hearthside_deferred_keys";

#[test]
fn keys_that_were_put_aside_wait_no_more() {
    let place = Place::new();
    let sidecar = place.builder("50ms").expect(&[warnings::PUT_ASIDE]).start();
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

#[test]
fn a_deferred_write_to_a_row_that_is_not_there_is_told_and_not_counted_as_saved() {
    let place = Place::new();
    let sidecar = place.builder("50ms").expect(TROUBLE).expect(&[warnings::NO_ROW]).start();
    let mut wire = sidecar.wire();
    place.postgres.stop();
    for id in [1, 5001, 5002] {
        assert_eq!(wire.ask(&format!("HSET p:{id} seen 7")), ":1\r\n");
    }
    place.postgres.launch();
    let dropped = "hearthside_deferred_without_row_total{mapping=\"p:{id:int}\"}";
    until("two are dropped", || metric(&sidecar, dropped) == 2.0);
    until_saved(&sidecar);
    assert_eq!(metric(&sidecar, "hearthside_flushed_total"), 1.0);
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
    until("it is told", || {
        sidecar.log().lines().any(|line| line.contains(warnings::NO_ROW) && line.contains("p:{id:int}"))
    });
    assert_eq!(place.seen(1), "7");
}

#[test]
fn of_a_flush_with_many_refused_writes_one_line_is_logged() {
    let place = Place::new();
    let mut sidecar = place.builder("1h").expect(&[warnings::PUT_ASIDE]).start();
    let mut wire = sidecar.wire();
    (1..=30).for_each(|id| assert_eq!(wire.ask(&format!("HSET p:{id} steps -1")), ":0\r\n"));
    drop(wire);
    assert_eq!(sidecar.stop(), Some(0));
    let log = sidecar.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(lines.len() == 1 && lines[0].contains("keys=30") && lines[0].contains("p:{id:int}"), "{lines:?}");
}

#[test]
fn what_was_put_aside_counts_against_the_journals_bound_and_is_retried_or_removed() {
    let place = Place::new();
    let builder = || {
        place.builder("20ms").set("JOURNAL__MAX_BYTES", "4kb").expect(&[warnings::PUT_ASIDE, warnings::JOURNAL_FULL])
    };
    let shown = |arguments: &[&str]| {
        let output = builder().execute(arguments);
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let mut sidecar = builder().start();
    let mut wire = sidecar.wire();
    let mut taken = 0;
    let full = loop {
        let told = wire.ask(&format!("HSET p:{} steps -1", taken + 1));
        if told.starts_with('-') {
            break told;
        }
        taken += 1;
        assert!(taken < 100, "what was put aside has no bound");
        until("it is put aside", || metric(&sidecar, "hearthside_put_aside_total") == f64::from(taken));
    };
    assert!(full.contains("the journal is full") && full.contains("`hearthside journal`"), "{full}");
    until("an event says so", || request(&sidecar, "GET", "/api/events").1.contains("until the journal has room"));
    assert!(!full.contains("the store refused"), "{full}");
    assert!(metric(&sidecar, "hearthside_journal_aside_bytes") > 3000.0);
    assert_eq!(metric(&sidecar, "hearthside_journal_bytes"), 0.0);
    let (code, told) = shown(&["journal", "--remove"]);
    assert!(code == Some(1) && told.contains("stop it first"), "{told}");
    assert_eq!(sidecar.stop(), Some(0));
    assert_eq!(shown(&["journal", "--key", "p:2"]).1.lines().count(), 1);
    assert_eq!(shown(&["journal", "--remove", "--key", "p:2"]), (Some(0), "1 fields were removed\n".into()));
    // The store takes one of them now.
    place.postgres.sql("ALTER TABLE players DROP CONSTRAINT players_steps_check");
    let (code, told) = shown(&["journal", "--retry", "--key", "p:1"]);
    assert!(code == Some(0) && told.contains("1 fields wait again"), "{told}");
    let mut sidecar = builder().start();
    let steps = |id: u32| place.postgres.sql(&format!("SELECT steps FROM players WHERE id = {id}"));
    until("it is saved", || steps(1) == "-1");
    assert_eq!((steps(2), steps(3)), ("0".into(), "0".into()));
    until_saved(&sidecar);
    assert_eq!(sidecar.stop(), Some(0));
    let (code, told) = shown(&["journal", "--remove"]);
    assert!(code == Some(0) && told == format!("{} fields were removed\n", taken - 2), "{told}");
    assert_eq!(shown(&["journal"]).1, "nothing was refused\n");
    let sidecar = builder().start();
    assert_eq!(metric(&sidecar, "hearthside_journal_aside_bytes"), 0.0);
    assert_eq!(sidecar.wire().ask("HSET p:5 seen 1"), ":0\r\n");
    until("it is saved", || place.seen(5) == "1");
}
