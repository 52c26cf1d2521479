//! Journal files that were damaged: what is missing of them is told, and how much.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::journals::sqlite;
use super::place::{Place, until_saved};
use crate::support::admin::metric;
use crate::support::warnings;

/// Cuts or overwrites the end of a file.
fn spoil(file: &Path, from: u64, with: &[u8]) {
    let file = std::fs::File::options().write(true).open(file).expect("it is there");
    match with {
        [] => file.set_len(from).expect("cut"),
        _ => file.write_all_at(with, from).expect("written"),
    }
}

/// A journal in which 20 writes wait, of which the file has lost what `damage` takes from its log.
fn tells_what_is_missing(damage: impl Fn(&Path)) {
    let place = Place::new();
    let log = PathBuf::from(format!("{}-wal", place.journal().display()));
    let mut sidecar = place.builder("1h").start();
    let mut wire = sidecar.wire();
    for id in 1..=20 {
        assert_eq!(wire.ask(&format!("HSET p:{id} seen 7")), ":0\r\n");
    }
    sidecar.kill();
    damage(&log);
    let shown = || String::from_utf8_lossy(&place.builder("1h").execute(&["journal"]).stdout).into_owned();
    let before = shown();
    let sidecar = place.builder("20ms").expect(&[warnings::JOURNAL_LACKS]).start();
    until_saved(&sidecar);
    let saved: u32 = place.postgres.sql("SELECT count(*) FROM players WHERE seen = 7").parse().expect("a number");
    let missing = metric(&sidecar, "hearthside_journal_missing");
    assert!((1..20).contains(&saved) && missing == f64::from(20 - saved), "{saved} are saved, {missing} are missing");
    assert!(sidecar.log().contains(warnings::JOURNAL_LACKS));
    assert!(before.starts_with(&format!("{missing} acknowledged deferred writes")), "{before}");
    drop(sidecar);
    // It is told until an operator has taken note of it.
    let told = place.builder("1h").expect(&[warnings::JOURNAL_LACKS]).start();
    assert_eq!(metric(&told, "hearthside_journal_missing"), missing);
    drop(told);
    place.builder("1h").execute(&["journal", "--remove"]);
    let sidecar = place.builder("1h").start();
    assert_eq!(metric(&sidecar, "hearthside_journal_missing"), 0.0);
}

#[test]
fn garbage_in_a_journals_log_is_told_with_the_number_of_writes_that_are_missing() {
    tells_what_is_missing(|log| spoil(log, std::fs::metadata(log).expect("it is there").len() / 2, &[0x5a; 64]));
}

#[test]
fn a_journals_log_that_lost_its_end_is_told_with_the_number_of_writes_that_are_missing() {
    tells_what_is_missing(|log| spoil(log, std::fs::metadata(log).expect("it is there").len() / 2, &[]));
}

#[test]
fn a_page_of_a_journal_that_makes_no_sense_is_told_with_what_to_do() {
    let place = Place::new();
    let mut sidecar = place.builder("1h").start();
    let mut wire = sidecar.wire();
    for id in 1..=400 {
        assert_eq!(wire.ask(&format!("HSET p:{id} seen 7")), ":0\r\n");
    }
    sidecar.kill();
    let file = place.journal();
    // All of it stands in the file itself then, and the table's pages are behind the first.
    sqlite(&file, "PRAGMA wal_checkpoint(TRUNCATE)");
    let length = std::fs::metadata(&file).expect("it is there").len();
    assert!(length > 4 * 4096, "{length}");
    (1..length / 4096).for_each(|page| spoil(&file, page * 4096, &[0xff; 64]));
    let output = place.builder("1h").execute(&["run"]);
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.code() == Some(1), "{told}");
    for part in ["journal.path: the journal's file is damaged: ", "Keep a copy", ".recover", "\"A damaged journal\""] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
