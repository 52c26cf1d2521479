//! Copies of a journal's file with writes that wait in them: what they hold is saved by one opening, and never comes
//! over what was saved after.

use std::path::Path;

use super::journals::{copy, sqlite};
use super::place::{Place, TROUBLE, until_saved};
use crate::support::admin::metric;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;

fn set(sidecar: &Sidecar, id: u32, value: u32) {
    let told = sidecar.wire().ask(&format!("HSET p:{id} seen {value}"));
    // Without the store every field counts as new.
    assert!(told == ":0\r\n" || told == ":1\r\n", "{told}");
}

fn at(place: &Place, path: &Path) -> Sidecar {
    let builder = place.builder("20ms").set("JOURNAL__PATH", path.display().to_string());
    builder.expect(TROUBLE).expect(&[warnings::JOURNAL_COPIED]).start()
}

/// Opens a copy in which one write waits that somebody else has taken over.
fn puts_aside(place: &Place, file: &Path, newest: u32) {
    let mut sidecar = at(place, file);
    until("it is put aside", || metric(&sidecar, "hearthside_put_aside_total") == 1.0);
    assert_eq!(place.seen(1), newest.to_string(), "a newer value is overwritten");
    assert!(sidecar.log().contains("writes=1 keys=1"), "{}", sidecar.log());
    // What comes from now on is saved, and shown is what is true.
    assert_eq!(sidecar.wire().ask("HGET p:1 seen"), format!("$1\r\n{newest}\r\n"));
    set(&sidecar, 2, 7);
    until("it is saved", || place.seen(2) == "7");
    until_saved(&sidecar);
    assert_eq!(metric(&sidecar, "hearthside_deferred_keys"), 0.0);
    assert_eq!(sidecar.stop(), Some(0));
    let builder = place.builder("1s").set("JOURNAL__PATH", file.display().to_string());
    let shown = String::from_utf8_lossy(&builder.execute(&["journal"]).stdout).into_owned();
    assert!(shown.contains("\"p:1\" \"seen\" \"1\": the journal's file is a copy"), "{shown}");
}

#[test]
fn a_copy_that_is_put_back_overwrites_nothing_that_was_saved_after() {
    for was_used in [false, true] {
        let place = Place::new();
        let (file, kept) = (place.journal(), place.folder.path().join("kept.db"));
        let mut sidecar = place.builder("1h").start();
        if was_used {
            set(&sidecar, 1, 9);
            assert_eq!(sidecar.stop(), Some(0));
            sidecar = place.builder("1h").start();
        }
        set(&sidecar, 1, 1);
        sidecar.kill();
        copy(&file, &kept);
        let mut sidecar = at(&place, &file);
        until("what waited is saved", || place.seen(1) == "1");
        set(&sidecar, 1, 2);
        until("it is saved", || place.seen(1) == "2");
        assert_eq!(sidecar.stop(), Some(0));
        copy(&kept, &file);
        puts_aside(&place, &file, 2);
    }
}

#[test]
fn a_copy_that_is_started_in_another_folder_overwrites_nothing() {
    let place = Place::new();
    let other = tempfile::tempdir().expect("a folder");
    let other = other.path().join("journal.db");
    let mut sidecar = place.builder("1h").start();
    set(&sidecar, 1, 1);
    sidecar.kill();
    copy(&place.journal(), &other);
    let first = at(&place, &place.journal());
    until("what waited is saved", || place.seen(1) == "1");
    set(&first, 1, 2);
    until("it is saved", || place.seen(1) == "2");
    puts_aside(&place, &other, 2);
}

#[test]
fn a_copy_of_a_journal_that_was_in_use_overwrites_nothing_that_the_same_sidecar_saved_after() {
    let place = Place::new();
    let kept = place.folder.path().join("kept.db");
    let mut sidecar = place.builder("50ms").expect(TROUBLE).start();
    assert_eq!(sidecar.wire().ask("HGET p:1 seen"), "$1\r\n0\r\n");
    place.postgres.stop();
    set(&sidecar, 1, 1);
    copy(&place.journal(), &kept);
    place.postgres.launch();
    until("what waited is saved", || {
        place.postgres.try_sql("SELECT seen FROM players WHERE id = 1").as_deref() == Ok("1")
    });
    set(&sidecar, 1, 2);
    until("it is saved", || place.seen(1) == "2");
    assert_eq!(sidecar.stop(), Some(0));
    copy(&kept, &place.journal());
    puts_aside(&place, &place.journal(), 2);
}

#[test]
fn what_is_written_to_a_copy_before_the_store_is_there_is_saved() {
    let place = Place::new();
    let (file, kept) = (place.journal(), place.folder.path().join("kept.db"));
    let mut sidecar = place.builder("1h").start();
    (1..=3).for_each(|id| set(&sidecar, id, 1));
    sidecar.kill();
    copy(&file, &kept);
    let mut sidecar = at(&place, &file);
    until("what waited is saved", || place.seen(3) == "1");
    (1..=3).for_each(|id| set(&sidecar, id, 2));
    until("it is saved", || place.seen(3) == "2");
    assert_eq!(sidecar.stop(), Some(0));
    copy(&kept, &file);
    place.postgres.stop();
    let mut sidecar = place.builder("20ms").expect(TROUBLE).expect(&[warnings::JOURNAL_COPIED]).spawn();
    sidecar.wait_ready();
    // Of a key that waits in the copy, and of one that does not.
    set(&sidecar, 3, 5);
    set(&sidecar, 4, 5);
    place.postgres.launch();
    until("they are saved", || {
        let seen = "SELECT string_agg(seen::text, ',' ORDER BY id) FROM players WHERE id <= 4";
        place.postgres.try_sql(seen).as_deref() == Ok("2,2,5,5")
    });
    assert!(sidecar.log().contains("writes=3 keys=3"), "{}", sidecar.log());
}

#[test]
fn an_opening_that_ends_while_it_takes_over_is_no_stranger_to_the_next() {
    let place = Place::new();
    let mut sidecar = place.builder("1h").start();
    set(&sidecar, 1, 1);
    sidecar.kill();
    // As if it had asked, and ended before it could note the answer; and had been started once more.
    let token = sqlite(&place.journal(), "INSERT INTO heirs VALUES ('one'), ('two'); SELECT incarnation FROM about");
    let note = |successor: &str| {
        place.postgres.sql(&format!(
            "INSERT INTO hearthside.journals (journal, applied, fence, successor) \
             VALUES ('{token}', 0, 9223372036854775807, '{successor}')"
        ))
    };
    note("one");
    let mut sidecar = place.builder("20ms").start();
    until("it is saved, once", || place.seen(1) == "1");
    assert_eq!(sidecar.stop(), Some(0));
    assert_eq!(successions(&place, &token), "1");
}

/// How many openings have succeeded an incarnation.
fn successions(place: &Place, token: &str) -> String {
    let ask = format!("SELECT count(*) FROM hearthside.journals WHERE journal = '{token}' AND successor <> 'one'");
    place.postgres.sql(&ask)
}

#[test]
fn an_heir_that_went_on_to_save_is_a_stranger() {
    let place = Place::new();
    let mut sidecar = place.builder("1h").start();
    set(&sidecar, 1, 1);
    sidecar.kill();
    let token = sqlite(&place.journal(), "INSERT INTO heirs VALUES ('one'); SELECT incarnation FROM about");
    place.postgres.sql(&format!(
        "INSERT INTO hearthside.journals (journal, applied, fence, successor) \
         VALUES ('{token}', 0, 9223372036854775807, 'one'), ('one', 5, 5, NULL); UPDATE players SET seen = 2 WHERE id \
         = 1"
    ));
    puts_aside(&place, &place.journal(), 2);
}
