//! The log of the embedded SQLite is removed while a sidecar runs, by a cleanup that does not know what it is: what was
//! acknowledged before and after is in the file, also where other programs have it open.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::embedded::{ROWS, over_tables, sql};
use super::soon;
use crate::support::admin::request;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;

const BOTH: [&str; 2] = ["-wal", "-shm"];

struct Place {
    redis: Redis,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { redis: Redis::start(), folder: tempfile::tempdir().expect("a folder") };
        fs::create_dir(place.folder.path().join("own")).expect("a folder");
        sql(&place.file(), ROWS);
        place
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("own/store.db")
    }

    fn builder(&self) -> Builder {
        over_tables(&self.redis, &self.file()).expect(warnings::STORE_AWAY).expect(&[
            warnings::FILE_REPLACED,
            warnings::LOG_REMOVED,
            warnings::LOG_OF_OTHERS,
            warnings::NOT_OPENED_AGAIN,
        ])
    }

    fn remove(&self, endings: &[&str]) {
        for ending in endings {
            fs::remove_file(format!("{}{ending}", self.file().display())).expect("it was there");
        }
    }

    /// The rows, and whether the file is sound.
    fn rows(&self) -> String {
        sql(&self.file(), "SELECT id, hp FROM a ORDER BY id; PRAGMA integrity_check").replace('\n', " ")
    }

    fn rescued(&self) -> Option<PathBuf> {
        let names = fs::read_dir(self.folder.path().join("own")).expect("read").flatten().map(|entry| entry.path());
        names.into_iter().find(|path| path.display().to_string().contains("-rescued-"))
    }
}

fn writes(sidecar: &Sidecar, id: u32, hp: u32) {
    let told = sidecar.wire().ask(&format!("HSET a:{id} hp {hp}"));
    assert!(told == ":0\r\n" || told == ":1\r\n", "{told}");
}

fn shows(sidecar: &Sidecar, id: u32, hp: u32) {
    soon("what the file holds is shown", || {
        sidecar.wire().ask(&format!("HGET a:{id} hp")) == format!("$1\r\n{hp}\r\n")
    });
}

/// Another program that has the file open.
struct Program(Child);

impl Program {
    fn over(file: &Path) -> Self {
        let mut command = Command::new("sqlite3");
        command.args(["-cmd", ".timeout 5000"]).arg(file).stdin(Stdio::piped()).stdout(Stdio::null());
        Self(command.spawn().expect("sqlite3 is installed"))
    }

    fn run(&mut self, sql: &str) {
        writeln!(self.0.stdin.as_mut().expect("piped"), "{sql};").expect("written");
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().expect("it ends").success());
    }
}

#[test]
fn a_log_that_is_removed_takes_no_acknowledged_write_with_it() {
    for endings in [&BOTH[..], &["-wal"], &["-shm"]] {
        let place = Place::new();
        let mut sidecar = place.builder().start();
        writes(&sidecar, 1, 6);
        place.remove(endings);
        writes(&sidecar, 2, 7);
        assert!(sidecar.log().contains(warnings::LOG_REMOVED), "{endings:?}");
        sql(&place.file(), "UPDATE a SET hp = 8 WHERE id = 1");
        shows(&sidecar, 1, 8);
        writes(&sidecar, 3, 9);
        sidecar.kill();
        assert_eq!(place.rows(), "1|8 2|7 3|9 ok", "{endings:?}");
    }
}

#[test]
fn a_log_that_is_removed_while_nothing_is_written_is_saved() {
    let place = Place::new();
    let mut sidecar = place.builder().start();
    writes(&sidecar, 1, 6);
    place.remove(&BOTH);
    soon("it is noticed", || sidecar.log().contains(warnings::LOG_REMOVED));
    soon("and the file opened again", || place.folder.path().join("own/store.db-wal").exists());
    sidecar.kill();
    assert_eq!(place.rows(), "1|6 ok");
}

#[test]
fn a_program_that_goes_on_with_the_removed_log_is_waited_for() {
    for endings in [&BOTH[..], &["-wal"], &["-shm"]] {
        let place = Place::new();
        let mut sidecar = place.builder().start();
        writes(&sidecar, 1, 6);
        let mut program = Program::over(&place.file());
        program.run("INSERT INTO a VALUES (4, 4, 'x')");
        shows(&sidecar, 4, 4);
        place.remove(endings);
        soon("it is noticed", || sidecar.log().contains(warnings::NOT_OPENED_AGAIN));
        let told = sidecar.wire().ask("HSET a:1 hp 9");
        assert!(told.contains("was removed while it is in use"), "{told}");
        program.run("UPDATE a SET hp = 5 WHERE id = 4");
        program.end();
        soon("writes are taken again", || sidecar.wire().ask("HSET a:2 hp 7") == ":1\r\n");
        shows(&sidecar, 4, 5);
        sidecar.kill();
        assert_eq!(place.rows(), "1|6 2|7 4|5 ok", "{endings:?}");
    }
}

#[test]
fn what_another_program_has_written_to_a_log_of_its_own_is_kept_and_told() {
    let place = Place::new();
    let mut sidecar = place.builder().start();
    writes(&sidecar, 2, 7);
    // All of it is in the file.
    sql(&place.file(), "PRAGMA wal_checkpoint(TRUNCATE)");
    sidecar.signal("STOP");
    place.remove(&BOTH);
    sql(&place.file(), "UPDATE a SET hp = 9 WHERE id = 1");
    sidecar.signal("CONT");
    soon("it is told", || sidecar.log().contains(warnings::LOG_OF_OTHERS));
    shows(&sidecar, 1, 9);
    soon("writes are taken again", || sidecar.wire().ask("HSET a:3 hp 8") == ":1\r\n");
    sidecar.kill();
    assert_eq!((place.rows().as_str(), place.rescued()), ("1|9 2|7 3|8 ok", None));
}

#[test]
fn of_two_logs_that_hold_different_writes_the_removed_one_is_saved_or_copied() {
    for goes_on in [false, true] {
        let place = Place::new();
        let mut sidecar = place.builder().start();
        writes(&sidecar, 2, 7);
        sidecar.signal("STOP");
        place.remove(&BOTH);
        let mut program = Program::over(&place.file());
        program.run("UPDATE a SET hp = 9 WHERE id = 1");
        let log = place.folder.path().join("own/store.db-wal");
        soon("it is written", || fs::metadata(&log).is_ok_and(|log| log.len() > 0));
        let mut program = Some(program);
        if !goes_on {
            program.take().expect("it runs").end();
        }
        sidecar.signal("CONT");
        soon("it is told", || sidecar.log().contains(warnings::LOG_OF_OTHERS));
        soon("writes are taken again", || sidecar.wire().ask("HSET a:3 hp 8") == ":1\r\n");
        let rescued = place.rescued().expect("a copy");
        assert_eq!(sql(&rescued, "SELECT id, hp FROM a WHERE id = 2; PRAGMA integrity_check"), "2|7\nok");
        sidecar.kill();
        program.into_iter().for_each(Program::end);
        assert_eq!(place.rows(), if goes_on { "1|9 3|8 ok" } else { "1|5 2|7 3|8 ok" });
    }
}

#[test]
fn two_sidecars_over_one_file_find_its_new_log() {
    let place = Place::new();
    let mut one = place.builder().start();
    let mut two = place.builder().start();
    writes(&one, 1, 6);
    writes(&two, 2, 6);
    place.remove(&BOTH);
    for (sidecar, id) in [(&one, 3), (&two, 4)] {
        soon("writes are taken again", || sidecar.wire().ask(&format!("HSET a:{id} hp 7")).starts_with(':'));
    }
    shows(&one, 4, 7);
    shows(&two, 3, 7);
    one.kill();
    two.kill();
    assert_eq!(place.rows(), "1|6 2|6 3|7 4|7 ok");
}

#[test]
fn a_folder_that_is_moved_and_comes_back_is_gone_on_with() {
    let place = Place::new();
    let mut sidecar = place.builder().start();
    writes(&sidecar, 1, 6);
    let (own, elsewhere) = (place.folder.path().join("own"), place.folder.path().join("elsewhere"));
    fs::rename(&own, &elsewhere).expect("moved");
    is_gone(&place, &sidecar);
    fs::rename(&elsewhere, &own).expect("moved back");
    soon("writes are taken again", || sidecar.wire().ask("HSET a:3 hp 8").starts_with(':'));
    soon("it is ready again", || request(&sidecar, "GET", "/readyz").0 == 200);
    sidecar.kill();
    assert_eq!(place.rows(), "1|6 3|8 ok");
}

/// Nothing is read or written, and everybody is told the path and what happened.
fn is_gone(place: &Place, sidecar: &Sidecar) {
    let gone = format!("its file {} is gone", place.file().display());
    let told = sidecar.wire().ask("HSET a:2 hp 7");
    assert!(told.contains("was not written: the store does not answer") && told.contains(&gone), "{told}");
    let told = sidecar.wire().ask("HGET a:2 hp");
    assert!(told.contains("could not be read: the store does not answer") && told.contains(&gone), "{told}");
    soon("it is not ready", || {
        let (status, body) = request(sidecar, "GET", "/readyz?verbose");
        assert!(!body.contains("does not fit"), "{body}");
        status == 503 && body.contains(&gone) && body.contains("put it back")
    });
}

#[test]
fn a_file_that_is_removed_is_named_and_a_backup_in_its_place_is_opened() {
    let place = Place::new();
    let backup = place.folder.path().join("backup.db");
    let mut sidecar = place.builder().start();
    writes(&sidecar, 1, 6);
    sql(&place.file(), &format!("VACUUM INTO '{}'", backup.display()));
    place.remove(&["", "-wal", "-shm"]);
    is_gone(&place, &sidecar);
    fs::rename(&backup, place.file()).expect("put back");
    soon("writes are taken again", || sidecar.wire().ask("HSET a:3 hp 8").starts_with(':'));
    shows(&sidecar, 1, 6);
    sidecar.kill();
    assert_eq!(place.rows(), "1|6 3|8 ok");
}

#[test]
fn a_file_or_log_that_is_moved_and_linked_back_takes_no_acknowledged_write_with_it() {
    for ending in ["", "-wal", "-shm"] {
        let place = Place::new();
        let mut sidecar = place.builder().start();
        writes(&sidecar, 1, 6);
        let (file, elsewhere) = (format!("{}{ending}", place.file().display()), place.folder.path().join("elsewhere"));
        fs::rename(&file, &elsewhere).expect("moved");
        symlink(&elsewhere, &file).expect("linked");
        soon("writes are taken", || sidecar.wire().ask("HSET a:2 hp 7").starts_with(':'));
        shows(&sidecar, 1, 6);
        sql(&place.file(), "UPDATE a SET hp = 8 WHERE id = 1");
        shows(&sidecar, 1, 8);
        sidecar.kill();
        assert_eq!(place.rows(), "1|8 2|7 ok", "{ending}");
    }
}

#[test]
fn a_log_that_is_a_link_is_named_at_the_start() {
    let place = Place::new();
    let mut sidecar = place.builder().start();
    writes(&sidecar, 1, 6);
    sidecar.kill();
    let (log, elsewhere) = (format!("{}-wal", place.file().display()), place.folder.path().join("log"));
    fs::rename(&log, &elsewhere).expect("moved");
    symlink(&elsewhere, &log).expect("linked");
    let told = place.builder().execute(&["check", "--connect"]);
    let told = String::from_utf8_lossy(&told.stderr);
    assert!(
        told.contains("is a symbolic link") && told.contains(&format!("mv {} {log}", elsewhere.display())),
        "{told}"
    );
    fs::rename(&elsewhere, &log).expect("as it says");
    assert_eq!(place.rows(), "1|6 ok");
}

#[test]
fn a_write_is_not_acknowledged_when_the_file_has_only_its_second_name() {
    let place = Place::new();
    let sidecar = place.builder().start();
    writes(&sidecar, 1, 6);
    fs::hard_link(place.file(), place.folder.path().join("own/backup.db")).expect("linked");
    place.remove(&["-wal"]);
    writes(&sidecar, 2, 7);
    place.remove(&[""]);
    let told = sidecar.wire().ask("HSET a:3 hp 8");
    assert!(told.contains("was not written: the store does not answer: its file"), "{told}");
}

#[test]
fn a_file_that_takes_the_place_of_one_whose_log_was_removed_is_read_when_it_can_be_opened() {
    let place = Place::new();
    let sidecar = place.builder().start();
    writes(&sidecar, 1, 6);
    let mut program = Program::over(&place.file());
    program.run("INSERT INTO a VALUES (4, 4, 'x')");
    shows(&sidecar, 4, 4);
    place.remove(&BOTH);
    soon("it is noticed", || sidecar.log().contains(warnings::NOT_OPENED_AGAIN));
    let (half, whole) = (place.folder.path().join("half.db"), place.folder.path().join("whole.db"));
    fs::write(&half, "half of a file").expect("written");
    fs::rename(&half, place.file()).expect("renamed");
    soon("that one is noticed", || sidecar.log().contains(warnings::FILE_REPLACED));
    sql(&whole, ROWS);
    sql(&whole, "UPDATE a SET hp = 8");
    fs::rename(&whole, place.file()).expect("renamed");
    soon("writes are taken again", || sidecar.wire().ask("HSET a:2 hp 7") == ":1\r\n");
    shows(&sidecar, 1, 8);
    program.end();
}
