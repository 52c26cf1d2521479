//! Deferred writes with SQLite as the store: the same notes, the same fence.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::journals::copy;
use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

const CONFIG: &str = r#"
[[caches]]
key = "p:{id:int}"
type = "hash"
table = "players"
write = "deferred"
"#;

pub fn sqlite(file: &Path, sql: &str) -> String {
    let told = Command::new("sqlite3").args(["-cmd", ".timeout 5000"]).arg(file).arg(sql).output();
    let told = told.expect("sqlite3 is installed");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8_lossy(&told.stdout).trim_end().to_owned()
}

/// A Redis and a folder with the store's file and the journal's.
pub struct Place {
    redis: Redis,
    pub folder: tempfile::TempDir,
    config: &'static str,
}

impl Place {
    fn new() -> Self {
        let tables = "CREATE TABLE players (id INTEGER PRIMARY KEY, seen INTEGER); \
                      INSERT INTO players VALUES (1, 0), (2, 0), (3, 0)";
        Self::of(tables, CONFIG)
    }

    /// With these tables and mappings.
    pub fn of(tables: &str, config: &'static str) -> Self {
        let place = Self { redis: Redis::start(), folder: tempfile::tempdir().expect("a folder"), config };
        place.sql(&format!("PRAGMA journal_mode = wal; {tables}"));
        place
    }

    pub fn sql(&self, sql: &str) -> String {
        sqlite(&self.folder.path().join("store.db"), sql)
    }

    pub fn builder(&self) -> Builder {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let builder = Sidecar::builder().redis(&self.redis).config(self.config).set("JOURNAL__FLUSH_INTERVAL", "20ms");
        builder.set("STORE__URL", format!("sqlite://{}", file("store.db"))).set("JOURNAL__PATH", file("journal.db"))
    }

    fn is_saved_never(&self, sidecar: &Sidecar, value: u32) {
        assert_eq!(sidecar.wire().ask(&format!("HSET p:1 seen {value}")), ":0\r\n");
        assert_eq!(self.sql("SELECT seen FROM players WHERE id = 1"), "0");
    }

    fn is_saved(&self, sidecar: &Sidecar, value: u32) {
        assert_eq!(sidecar.wire().ask(&format!("HSET p:1 seen {value}")), ":0\r\n");
        until("the journal is empty", || metric(sidecar, "hearthside_journal_bytes") == 0.0);
        assert_eq!(self.sql("SELECT seen FROM players WHERE id = 1"), value.to_string());
    }
}

#[test]
fn a_journal_that_goes_back_in_time_and_a_note_of_somebody_else_lose_no_write() {
    let place = Place::new();
    let (file, kept) = (place.folder.path().join("journal.db"), place.folder.path().join("kept.db"));
    let mut sidecar = place.builder().start();
    place.is_saved(&sidecar, 1);
    assert_eq!(sidecar.stop(), Some(0));
    std::fs::copy(&file, &kept).expect("copied");
    let mut sidecar = place.builder().start();
    (2..=5).for_each(|value| place.is_saved(&sidecar, value));
    assert_eq!(sidecar.stop(), Some(0));
    std::fs::copy(&kept, &file).expect("copied");
    let sidecar = place.builder().expect(&[warnings::NOTED_BY_ANOTHER]).start();
    (6..=15).for_each(|value| place.is_saved(&sidecar, value));
    assert_eq!(metric(&sidecar, "hearthside_journal_collisions_total"), 0.0);
    place.sql("UPDATE hearthside_journals SET applied = 1000000000000, fence = 1000000000000");
    place.is_saved(&sidecar, 16);
    assert_eq!(metric(&sidecar, "hearthside_journal_collisions_total"), 1.0);
}

#[test]
fn what_was_taken_before_a_crash_is_applied_once() {
    let place = Place::new();
    let mut sidecar = place.builder().start();
    place.is_saved(&sidecar, 1);
    assert_eq!(sidecar.stop(), Some(0));
    let journal = place.folder.path().join("journal.db");
    let waiting = |key: u32, value: u32, batch: &str| {
        let place = format!("CAST('p:{key}' AS BLOB), CAST('seen' AS BLOB)");
        let row = format!("({place}, {key}, 'p:{{id:int}}', '{value}', 82, {batch})");
        sqlite(&journal, &format!("INSERT INTO waiting VALUES {row}"));
    };
    // As if the journal had not been told: the first was applied by the last batch, the second never was.
    waiting(1, 1, &place.sql("SELECT max(applied) FROM hearthside_journals"));
    waiting(2, 2, "(SELECT last + 1 FROM about)");
    place.sql("UPDATE players SET seen = 9 WHERE id = 1");
    let mut sidecar = place.builder().start();
    until("the journal is empty", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    assert_eq!(place.sql("SELECT group_concat(seen) FROM players"), "9,2,0");
    assert_eq!(sidecar.stop(), Some(0));
    // The same of a journal and a store of the version before.
    for sql in [
        "ALTER TABLE about RENAME COLUMN incarnation TO id; DROP TABLE known_columns; DROP TABLE heirs; \
         ALTER TABLE about DROP COLUMN since; ALTER TABLE about DROP COLUMN appended; PRAGMA user_version = 0;",
        "UPDATE about SET id = '0123456789abcdef', last = 2000001",
    ] {
        sqlite(&journal, sql);
    }
    place.sql(
        "CREATE TABLE hearthside_flushed (journal TEXT NOT NULL, batch INTEGER NOT NULL, PRIMARY KEY (journal, \
         batch)); INSERT INTO hearthside_flushed VALUES ('0123456789abcdef', 2000000)",
    );
    waiting(2, 3, "2000000");
    waiting(3, 4, "2000001");
    let sidecar = place.builder().start();
    until("the journal is empty", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    assert_eq!(place.sql("SELECT group_concat(seen) FROM players"), "9,2,4");
}

#[test]
fn a_copy_that_is_put_back_overwrites_nothing() {
    let place = Place::new();
    // As an older version left it.
    place.sql(
        "CREATE TABLE hearthside_journals (journal TEXT PRIMARY KEY, applied INTEGER NOT NULL, \
         fence INTEGER NOT NULL, at INTEGER NOT NULL DEFAULT (unixepoch())) WITHOUT ROWID",
    );
    let (file, kept) = (place.folder.path().join("journal.db"), place.folder.path().join("kept.db"));
    let mut sidecar = place.builder().set("JOURNAL__FLUSH_INTERVAL", "1h").start();
    place.is_saved_never(&sidecar, 1);
    sidecar.kill();
    copy(&file, &kept);
    let mut sidecar = place.builder().start();
    until("what waited is saved", || place.sql("SELECT seen FROM players WHERE id = 1") == "1");
    place.is_saved(&sidecar, 2);
    assert_eq!(sidecar.stop(), Some(0));
    copy(&kept, &file);
    let sidecar = place.builder().expect(&[warnings::JOURNAL_COPIED]).start();
    until("it is told", || metric(&sidecar, "hearthside_put_aside_total") == 1.0);
    assert_eq!(place.sql("SELECT seen FROM players WHERE id = 1"), "2", "a newer value is overwritten");
    place.is_saved(&sidecar, 3);
}

#[test]
fn when_the_notes_table_goes_it_is_made_again() {
    let place = Place::new();
    let sidecar = place.builder().start();
    place.is_saved(&sidecar, 1);
    place.sql("DROP TABLE hearthside_journals");
    place.is_saved(&sidecar, 2);
    assert_eq!(place.sql("SELECT count(*) FROM hearthside_journals"), "2");
}

#[test]
fn a_write_to_a_file_that_is_replaced_meanwhile_is_not_acknowledged() {
    let place = Place::of(
        "CREATE TABLE players (id INTEGER PRIMARY KEY, seen INTEGER); INSERT INTO players VALUES (1, 0)",
        "[[caches]]\nkey = \"p:{id:int}\"\ntype = \"hash\"\ntable = \"players\"\nwrite = \"through\"\n",
    );
    let (file, other) = (place.folder.path().join("store.db"), place.folder.path().join("other.db"));
    place.sql(&format!("VACUUM INTO '{}'", other.display()));
    let sidecar = place.builder().expect(&[warnings::FILE_REPLACED, warnings::WRITE_FAILED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET p:1 seen 1"), ":0\r\n");
    // The file is locked: the write waits in it.
    let mut lock = Command::new("sqlite3").arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let lock = lock.as_mut().expect("sqlite3 is installed");
    let mut input = lock.stdin.take().expect("it is piped");
    input.write_all(b"BEGIN IMMEDIATE;\nSELECT 'locked';\n").expect("it reads");
    let mut told = [0; 7];
    std::io::Read::read_exact(&mut lock.stdout.take().expect("it is piped"), &mut told).expect("it locks");
    wire.send(&line("HSET p:1 seen 2"));
    assert!(wire.is_silent(Duration::from_millis(200)));
    // Its log goes with it: SQLite would read the one of the old file into the new one.
    for end in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{end}", file.display())).expect("removed");
    }
    std::fs::rename(&other, &file).expect("renamed");
    input.write_all(b"COMMIT;\n").expect("it reads");
    drop(input);
    lock.wait().expect("it ends");
    let told = String::from_utf8_lossy(&wire.frame()).into_owned();
    assert!(told.contains("may have been applied"), "{told}");
    until("the new file is shown", || wire.ask("HGET p:1 seen") == "$1\r\n0\r\n");
}
