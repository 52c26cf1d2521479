//! Files of a journal that are removed or replaced while a sidecar runs: nothing is acknowledged into a file that nobody
//! finds again, and the journal is made again with what waits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::journals::copy;
use super::place::{Place, until_saved};
use crate::support::admin::{metric, request};
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

const ENDINGS: [&str; 4] = ["", "-wal", "-shm", ".lock"];

/// A journal in a folder of its own, which can be moved.
struct Moved {
    place: Place,
    folder: PathBuf,
}

impl Moved {
    fn new() -> Self {
        let place = Place::new();
        let folder = place.folder.path().join("own");
        Self { place, folder }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("journal.db{ending}"))
    }

    fn builder(&self, interval: &str) -> Builder {
        let builder = self.place.builder(interval).set("JOURNAL__PATH", self.file("").display().to_string());
        builder.expect(&[warnings::JOURNAL_MADE_AGAIN, warnings::JOURNAL_NOT_MADE_AGAIN])
    }

    fn remove(&self, endings: &[&str]) {
        endings.iter().for_each(|ending| fs::remove_file(self.file(ending)).expect("it was there"));
    }

    /// Another start saves what waits: of the first players these values.
    fn holds(&self, values: &[u32]) {
        let sidecar = self.place.builder("20ms").set("JOURNAL__PATH", self.file("").display().to_string()).start();
        until_saved(&sidecar);
        let seen: Vec<String> = (1..=values.len() as u32).map(|id| self.place.seen(id)).collect();
        assert_eq!(seen, values.iter().map(u32::to_string).collect::<Vec<_>>(), "an acknowledged write is lost");
        assert_eq!(metric(&sidecar, "hearthside_journal_missing"), 0.0);
    }
}

fn set(sidecar: &Sidecar, id: u32, value: u32) {
    assert_eq!(ask(sidecar, id, value), ":0\r\n");
}

fn ask(sidecar: &Sidecar, id: u32, value: u32) -> String {
    sidecar.wire().ask(&format!("HSET p:{id} seen {value}"))
}

/// A deferred write is refused, and changes nothing.
fn is_refused(sidecar: &Sidecar, why: &str) {
    let before = sidecar.wire().ask("HGET p:9 seen");
    let told = ask(sidecar, 9, 99);
    assert!(told.starts_with("-ERR hearthside: ") && told.contains(why), "{told}");
    assert_eq!(sidecar.wire().ask("HGET p:9 seen"), before);
}

#[test]
fn a_journal_whose_files_are_removed_is_made_again_with_what_waits() {
    for endings in [&ENDINGS[..], &["", "-wal", "-shm"], &[""], &["-wal"], &["-shm"], &[".lock"]] {
        let moved = Moved::new();
        let mut sidecar = moved.builder("1h").start();
        set(&sidecar, 1, 7);
        set(&sidecar, 3, 7);
        moved.remove(endings);
        set(&sidecar, 2, 7);
        set(&sidecar, 1, 8);
        assert!(sidecar.log().contains(warnings::JOURNAL_MADE_AGAIN), "{endings:?}");
        // It is as good as the one before.
        moved.remove(endings);
        set(&sidecar, 4, 9);
        sidecar.kill();
        moved.holds(&[8, 7, 7, 9]);
    }
}

#[test]
fn a_journal_whose_files_are_removed_is_made_again_while_nothing_is_written() {
    for (endings, sync) in [(&ENDINGS[..], "always"), (&["-wal"], "everysec"), (&[""], "everysec")] {
        let moved = Moved::new();
        let mut sidecar = moved.builder("1h").set("JOURNAL__SYNC", sync).start();
        set(&sidecar, 1, 7);
        moved.remove(endings);
        until("it is made again", || sidecar.log().contains(warnings::JOURNAL_MADE_AGAIN));
        sidecar.kill();
        moved.holds(&[7]);
    }
}

#[test]
fn a_lock_that_somebody_else_has_taken_keeps_everything_from_being_written() {
    let moved = Moved::new();
    let sidecar = moved.builder("1h").expect(&[warnings::JOURNAL_NOT_WRITTEN]).start();
    set(&sidecar, 1, 7);
    moved.remove(&[".lock"]);
    let lock = fs::File::create(moved.file(".lock")).expect("made");
    lock.lock().expect("locked");
    is_refused(&sidecar, "is in use by another process");
    drop(lock);
    until("deferred writes are taken again", || ask(&sidecar, 2, 7) == ":0\r\n");
    let mut second = moved.builder("1h").spawn();
    until("a second sidecar is refused", || second.has_ended());
    drop(sidecar);
    moved.holds(&[7, 7]);
}

#[test]
fn while_a_journals_folder_is_elsewhere_nothing_is_acknowledged_and_what_waits_is_saved() {
    let moved = Moved::new();
    let elsewhere = moved.place.folder.path().join("elsewhere");
    let mut lock = moved.place.lock_first();
    let mut sidecar = moved.builder("50ms").start();
    set(&sidecar, 1, 7);
    fs::rename(&moved.folder, &elsewhere).expect("moved");
    is_refused(&sidecar, "the journal's files were removed or replaced");
    lock.run("COMMIT;");
    until_saved(&sidecar);
    assert_eq!(moved.place.seen(1), "7");
    fs::rename(&elsewhere, &moved.folder).expect("moved back");
    until("deferred writes are taken again", || ask(&sidecar, 2, 8) == ":0\r\n");
    assert!(!sidecar.log().contains(warnings::JOURNAL_MADE_AGAIN), "it is the same journal");
    sidecar.kill();
    moved.holds(&[7, 8]);
}

#[test]
fn a_journal_whose_folder_is_gone_is_made_again_when_there_is_one() {
    let moved = Moved::new();
    let mut sidecar = moved.builder("1h").start();
    set(&sidecar, 1, 7);
    fs::remove_dir_all(&moved.folder).expect("removed");
    is_refused(&sidecar, "the journal's file");
    fs::create_dir(&moved.folder).expect("made");
    // What stands in its way may be anything.
    fs::create_dir(moved.file("-copy")).expect("made");
    is_refused(&sidecar, "the journal's file");
    fs::remove_dir(moved.file("-copy")).expect("removed");
    until("deferred writes are taken again", || ask(&sidecar, 2, 8) == ":0\r\n");
    sidecar.kill();
    moved.holds(&[7, 8]);
}

#[test]
fn an_old_copy_in_the_place_of_a_journal_is_left_alone_and_loses_nothing() {
    let moved = Moved::new();
    let (file, old) = (moved.file(""), moved.place.folder.path().join("old.db"));
    let mut sidecar = moved.builder("20ms").start();
    set(&sidecar, 1, 6);
    until_saved(&sidecar);
    assert_eq!(sidecar.stop(), Some(0));
    copy(&file, &old);
    let mut sidecar = moved.builder("1h").start();
    set(&sidecar, 1, 7);
    let before = fs::read(&old).expect("read");
    fs::rename(&old, &file).expect("renamed");
    is_refused(&sidecar, "another file is at");
    assert_eq!(sidecar.wire().ask("HGET p:1 seen"), "$1\r\n7\r\n");
    assert_eq!(fs::read(&file).expect("read"), before, "somebody else's file is written");
    assert_eq!(sidecar.stop(), Some(0));
    assert_eq!(moved.place.seen(1), "7", "what waited is saved at the end");
    moved.holds(&[7]);
}

#[test]
fn a_journal_is_made_again_when_the_file_in_its_place_goes() {
    let moved = Moved::new();
    let mut sidecar = moved.builder("1h").start();
    set(&sidecar, 1, 7);
    moved.remove(&[""]);
    fs::write(moved.file(""), "").expect("written");
    is_refused(&sidecar, "another file is at");
    moved.remove(&[""]);
    until("deferred writes are taken again", || ask(&sidecar, 2, 8) == ":0\r\n");
    sidecar.kill();
    moved.holds(&[7, 8]);
}

#[test]
fn a_journal_with_a_second_name_or_behind_a_link_is_made_again() {
    let moved = Moved::new();
    let (real, second) = (moved.place.folder.path().join("real"), moved.place.folder.path().join("backup.db"));
    fs::create_dir(&real).expect("made");
    fs::create_dir(&moved.folder).expect("made");
    symlink(real.join("journal.db"), moved.file("")).expect("linked");
    let mut sidecar = moved.builder("1h").start();
    set(&sidecar, 1, 7);
    fs::hard_link(real.join("journal.db"), &second).expect("linked");
    fs::remove_file(real.join("journal.db-wal")).expect("it was there");
    set(&sidecar, 2, 8);
    assert!(moved.file("").is_symlink(), "the link stays");
    fs::remove_file(real.join("journal.db")).expect("it was there");
    set(&sidecar, 3, 9);
    sidecar.kill();
    moved.holds(&[7, 8, 9]);
}

#[test]
fn a_batch_that_is_under_way_while_the_files_are_removed_is_applied_once() {
    for endings in [&ENDINGS[..], &["-wal"]] {
        let moved = Moved::new();
        let mut lock = moved.place.lock_first();
        let mut sidecar = moved.builder("20ms").start();
        set(&sidecar, 1, 7);
        moved.place.until_locked_out(1);
        moved.remove(endings);
        set(&sidecar, 2, 8);
        sidecar.kill();
        lock.run("COMMIT;");
        until("the batch is applied", || moved.place.seen(1) == "7");
        moved.place.postgres.sql("UPDATE players SET seen = 9 WHERE id = 1");
        moved.holds(&[9, 8]);
    }
}

/// As somebody does it who needs the space of the disk where it was.
fn move_and_link_back(file: &Path, elsewhere: &Path) {
    fs::rename(file, elsewhere).expect("moved");
    symlink(elsewhere, file).expect("linked");
}

#[test]
fn a_file_of_a_journal_that_is_moved_and_linked_back_takes_no_acknowledged_write_with_it() {
    for ending in ENDINGS {
        let moved = Moved::new();
        let mut sidecar = moved.builder("1h").start();
        set(&sidecar, 1, 7);
        set(&sidecar, 3, 7);
        move_and_link_back(&moved.file(ending), &moved.place.folder.path().join("elsewhere"));
        set(&sidecar, 2, 7);
        set(&sidecar, 1, 8);
        sidecar.kill();
        moved.holds(&[8, 7, 7]);
    }
}

#[test]
fn a_journal_that_is_moved_and_linked_back_is_made_again_while_nothing_is_written() {
    let moved = Moved::new();
    let mut sidecar = moved.builder("1h").start();
    set(&sidecar, 1, 7);
    move_and_link_back(&moved.file(""), &moved.place.folder.path().join("elsewhere.db"));
    until("it is made again", || sidecar.log().contains(warnings::JOURNAL_MADE_AGAIN));
    sidecar.kill();
    assert!(moved.file("").is_symlink(), "the link stays");
    moved.holds(&[7]);
}

#[test]
fn a_journals_folder_that_is_moved_and_linked_back_is_gone_on_with() {
    let moved = Moved::new();
    let mut sidecar = moved.builder("1h").start();
    set(&sidecar, 1, 7);
    move_and_link_back(&moved.folder, &moved.place.folder.path().join("elsewhere"));
    set(&sidecar, 2, 8);
    assert!(!sidecar.log().contains(warnings::JOURNAL_MADE_AGAIN), "whoever opens it finds the same files");
    sidecar.kill();
    moved.holds(&[7, 8]);
}

#[test]
fn a_journal_to_which_two_links_lead_is_used_by_one_sidecar() {
    let moved = Moved::new();
    let links = ["one.db", "two.db"].map(|name| moved.place.folder.path().join(name));
    fs::create_dir(&moved.folder).expect("made");
    links.iter().for_each(|link| symlink(moved.file(""), link).expect("linked"));
    let over = |link: &Path| moved.builder("1h").set("JOURNAL__PATH", link.display().to_string());
    let sidecar = over(&links[0]).start();
    let mut second = over(&links[1]).spawn();
    until("the second one is refused", || second.has_ended());
    assert!(second.log().contains("is in use by another process"), "{}", second.log());
    drop(sidecar);
}

#[test]
fn a_log_of_a_journal_that_is_a_link_is_named_at_the_start() {
    let moved = Moved::new();
    let mut sidecar = moved.builder("1h").start();
    set(&sidecar, 1, 7);
    sidecar.kill();
    let (log, elsewhere) = (moved.file("-wal"), moved.place.folder.path().join("log"));
    move_and_link_back(&log, &elsewhere);
    let mut refused = moved.builder("1h").spawn();
    until("it does not start", || refused.has_ended());
    let remedy = format!("mv {} {}", elsewhere.display(), log.display());
    assert!(refused.log().contains(&remedy) && refused.log().contains("is a symbolic link"), "{}", refused.log());
    fs::rename(elsewhere, log).expect("as it says");
    moved.holds(&[7]);
}

const DEFERS: &str = "hearthside_mapping_defers{mapping=\"p:{id:int}\"}";

/// The metric and the probe say whether deferred writes are taken, also while nobody writes.
fn is_said(sidecar: &Sidecar, why: &str) {
    until("the metric says it", || metric(sidecar, DEFERS) == 0.0);
    let (status, body) = request(sidecar, "GET", "/readyz?verbose");
    let remark = format!("deferred writes of the mapping 'p:{{id:int}}' are refused: {why}");
    let line = format!("mapping 'p:{{id:int}}': up; its deferred writes are refused: {why}");
    assert!(status == 200 && body.contains(&remark) && body.contains(&line), "{body}");
}

fn is_over(sidecar: &Sidecar) {
    until("the metric says that it is over", || metric(sidecar, DEFERS) == 1.0);
    let (_, body) = request(sidecar, "GET", "/readyz?verbose");
    assert!(body.starts_with("ready\n") && !body.contains("refused"), "{body}");
}

#[test]
fn a_journal_that_cannot_be_made_again_is_said_while_nobody_writes() {
    let moved = Moved::new();
    let sidecar = moved.builder("1h").start();
    is_over(&sidecar);
    fs::remove_dir_all(&moved.folder).expect("removed");
    is_said(&sidecar, "the journal's files were removed or replaced");
    fs::create_dir(&moved.folder).expect("made");
    is_over(&sidecar);
    moved.remove(&[""]);
    fs::write(moved.file(""), "somebody else's").expect("written");
    is_said(&sidecar, "the journal's files were removed or replaced");
    moved.remove(&[""]);
    is_over(&sidecar);
}

#[test]
fn a_journal_that_is_full_is_said_until_it_has_room() {
    let place = Place::new();
    let mut lock = place.postgres.session();
    let builder = place.builder("20ms").set("JOURNAL__MAX_BYTES", "4kb").expect(&[warnings::JOURNAL_FULL]);
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    lock.run("BEGIN; LOCK TABLE players IN SHARE MODE;");
    let mut ids = 1..;
    until("it is full", || wire.ask(&format!("HSET p:{} seen 7", ids.next().expect("a row"))).starts_with('-'));
    is_said(&sidecar, "the journal is full (journal.max_bytes)");
    lock.run("COMMIT;");
    is_over(&sidecar);
}
