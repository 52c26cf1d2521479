//! Journal files of another age than the store's notes: copies, restored ones, files of other versions.

use std::path::Path;
use std::process::{Command, Output};

use super::place::{Place, TROUBLE, until_saved};
use crate::support::admin::metric;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

/// Runs SQL on a journal's file that nobody uses.
pub(super) fn sqlite(file: &Path, sql: &str) -> String {
    let told = Command::new("sqlite3").arg(file).arg(sql).output().expect("sqlite3 is installed");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8_lossy(&told.stdout).trim_end().to_owned()
}

/// Copies a journal with what belongs to it.
pub(super) fn copy(from: &Path, to: &Path) {
    for more in ["", "-wal", "-shm"] {
        let path = |path: &Path| format!("{}{more}", path.display());
        if Path::new(&path(from)).exists() {
            std::fs::copy(path(from), path(to)).expect("copied");
        } else {
            let _absent = std::fs::remove_file(path(to));
        }
    }
}

fn is_saved(place: &Place, sidecar: &Sidecar, value: u32) {
    assert_eq!(sidecar.wire().ask(&format!("HSET p:1 seen {value}")), ":0\r\n");
    until_saved(sidecar);
    assert_eq!(place.seen(1), value.to_string(), "an acknowledged write is neither in the store nor in the journal");
}

fn end(mut sidecar: Sidecar) {
    sidecar.kill();
}

#[test]
fn a_journal_that_goes_back_in_time_loses_no_write_acknowledged_after() {
    // As a power loss leaves it under `everysec`, or an operator who restores a copy under either.
    for sync in ["always", "everysec"] {
        let place = Place::new();
        let start = || place.builder("20ms").set("JOURNAL__SYNC", sync).start();
        let file = place.journal();
        let mut sidecar = start();
        is_saved(&place, &sidecar, 1);
        assert_eq!(sidecar.stop(), Some(0));
        let kept = place.folder.path().join("kept.db");
        copy(&file, &kept);
        let sidecar = start();
        (2..=5).for_each(|value| is_saved(&place, &sidecar, value));
        end(sidecar);
        copy(&kept, &file);
        let sidecar = start();
        // One of these meets the number of every batch that was noted after the copy.
        (6..=20).for_each(|value| is_saved(&place, &sidecar, value));
        assert_eq!(metric(&sidecar, "hearthside_journal_collisions_total"), 0.0);
    }
}

#[test]
fn two_sidecars_whose_journals_come_from_one_copy_lose_nothing() {
    let place = Place::new();
    let file = place.journal();
    let mut sidecar = place.builder("20ms").start();
    is_saved(&place, &sidecar, 1);
    assert_eq!(sidecar.stop(), Some(0));
    let other = place.folder.path().join("other.db");
    copy(&file, &other);
    let first = place.builder("20ms").start();
    let second = place.builder("20ms").set("JOURNAL__PATH", other.display().to_string()).start();
    let (mut one, mut two) = (first.wire(), second.wire());
    for id in (1..=40).step_by(2) {
        assert_eq!(one.ask(&format!("HSET p:{id} seen {}", id + 1000)), ":0\r\n");
        assert_eq!(two.ask(&format!("HSET p:{} seen {}", id + 1, id + 1001)), ":0\r\n");
        let bytes = |sidecar: &Sidecar| metric(sidecar, "hearthside_journal_bytes");
        until("both journals are empty", || bytes(&first) == 0.0 && bytes(&second) == 0.0);
    }
    assert_eq!(place.postgres.sql("SELECT count(*) FROM players WHERE seen = id + 1000"), "40");
}

#[test]
fn a_note_that_this_sidecar_has_not_made_is_a_collision_and_no_success() {
    let place = Place::new();
    let sidecar = place.builder("20ms").expect(&[warnings::NOTED_BY_ANOTHER]).start();
    is_saved(&place, &sidecar, 1);
    for (round, sql) in [
        "UPDATE hearthside.journals SET applied = 1000000000000, fence = 1000000000000",
        "UPDATE hearthside.journals SET fence = 9223372036854775807",
    ]
    .into_iter()
    .enumerate()
    {
        place.postgres.sql(sql);
        is_saved(&place, &sidecar, 10 + round as u32);
        assert_eq!(metric(&sidecar, "hearthside_journal_collisions_total"), round as f64 + 1.0);
    }
}

#[test]
fn batches_that_two_machines_take_from_one_memory_have_other_numbers() {
    // What a copy of the machine takes next cannot be foreseen: the numbers of one sidecar do not follow each other.
    let place = Place::new();
    let sidecar = place.builder("20ms").start();
    let numbers: Vec<u64> = (1..=8)
        .map(|value| {
            is_saved(&place, &sidecar, value);
            place.postgres.sql("SELECT max(applied) FROM hearthside.journals").parse().expect("a number")
        })
        .collect();
    let gaps: Vec<u64> = numbers.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.iter().any(|gap| *gap > 1000) && gaps.iter().any(|gap| *gap != gaps[0]), "{numbers:?}");
}

#[test]
fn notes_that_nobody_uses_any_more_are_removed_and_a_sidecar_survives_the_removal_of_its_own() {
    let place = Place::new();
    place.postgres.sql(
        "INSERT INTO hearthside.journals (journal, applied, fence, at) VALUES \
         ('old', 1, 1, now() - interval '31 days'), ('young', 1, 1, now() - interval '29 days'); \
         INSERT INTO hearthside.flushed (journal, batch, at) VALUES ('old', 1, now() - interval '31 days')",
    );
    let sidecar = place.builder("20ms").start();
    is_saved(&place, &sidecar, 1);
    let notes = "SELECT count(*) FILTER (WHERE journal = 'young'), count(*) FILTER (WHERE journal = 'old'), count(*) \
                 FROM hearthside.journals";
    assert_eq!(place.postgres.sql(notes), "1|0|3", "that of the opening, and that of its strand");
    assert_eq!(place.postgres.sql("SELECT count(*) FROM hearthside.flushed"), "0");
    // As it is for one that has had nothing to save for long.
    place.postgres.sql("DELETE FROM hearthside.journals");
    is_saved(&place, &sidecar, 2);
    assert_eq!(metric(&sidecar, "hearthside_journal_collisions_total"), 0.0);
    assert_eq!(place.postgres.sql("SELECT count(*) FROM hearthside.journals"), "2");
}

#[test]
fn old_notes_that_a_lost_connection_leaves_are_no_matter_of_rights() {
    let place = Place::new();
    let mut lock = place.postgres.session();
    lock.run("BEGIN; LOCK TABLE hearthside.flushed IN ACCESS EXCLUSIVE MODE;");
    let sidecar = place.builder("20ms").start();
    assert_eq!(sidecar.wire().ask("HSET p:1 seen 1"), ":0\r\n");
    place.until_locked_out(1);
    let prune = "query LIKE 'DELETE FROM hearthside.flushed%'";
    place.postgres.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {prune}"));
    lock.run("ROLLBACK;");
    // No warning is expected in its log.
    until_saved(&sidecar);
    assert_eq!(place.seen(1), "1");
}

/// The tables of a journal's file as version 0.1.0 makes them.
pub(super) const LAYOUT_OF_0_1_0: &str =
    "PRAGMA journal_mode = wal; CREATE TABLE about (id TEXT NOT NULL, last INTEGER NOT NULL);
    CREATE TABLE waiting (key BLOB NOT NULL, field BLOB NOT NULL, seq INTEGER NOT NULL, mapping TEXT NOT NULL,
        value BLOB, weight INTEGER NOT NULL, batch INTEGER, PRIMARY KEY (key, field)) WITHOUT ROWID;
    CREATE INDEX waiting_by_seq ON waiting (seq);
    CREATE INDEX waiting_by_batch ON waiting (batch) WHERE batch IS NOT NULL;
    CREATE TABLE refused (seq INTEGER PRIMARY KEY, at TEXT NOT NULL, mapping TEXT NOT NULL, key BLOB NOT NULL,
        field BLOB NOT NULL, value BLOB, reason TEXT NOT NULL);";

const TAKEN_BY_0_1_0: &str = "INSERT INTO about VALUES ('0123456789abcdef', 12);
    INSERT INTO waiting SELECT CAST(column1 AS BLOB), CAST('seen' AS BLOB), column2, 'p:{id:int}', column3, 82, column4
        FROM (VALUES ('p:1', 3, '1', 11), ('p:2', 4, '2', 12), ('p:3', 5, '3', NULL));";

#[test]
fn a_journal_of_the_layout_before_is_taken_over_with_what_the_store_noted_of_it() {
    let place = Place::new();
    let file = place.journal();
    sqlite(&file, LAYOUT_OF_0_1_0);
    sqlite(&file, TAKEN_BY_0_1_0);
    // Batch 11 had been applied, and somebody has written since; batch 12 had not.
    place.postgres.sql(
        "INSERT INTO hearthside.flushed VALUES ('0123456789abcdef', 11); UPDATE players SET seen = 9 WHERE id = 1",
    );
    let sidecar = place.builder("20ms").start();
    until_saved(&sidecar);
    assert_eq!((place.seen(1), place.seen(2), place.seen(3)), ("9".into(), "2".into(), "3".into()));
    // What an older version sent and the network delivers now is stopped by its own note.
    let late =
        place.postgres.try_sql("INSERT INTO hearthside.flushed (journal, batch) VALUES ('0123456789abcdef', 12)");
    assert!(late.expect_err("it is noted").contains("flushed_pkey"));
    end(sidecar);
    assert_eq!(sqlite(&file, "PRAGMA user_version"), "4");
    assert_eq!(sqlite(&file, "SELECT count(*) FROM sqlite_schema WHERE name = 'waiting_by_seq'"), "0");
    let sidecar = place.builder("20ms").start();
    is_saved(&place, &sidecar, 4);
}

#[test]
fn a_journal_beside_whose_tables_there_are_others_is_one() {
    let place = Place::new();
    let mut sidecar = place.builder("20ms").start();
    is_saved(&place, &sidecar, 1);
    assert_eq!(sidecar.stop(), Some(0));
    sqlite(&place.journal(), "ANALYZE; CREATE TABLE remarks (text TEXT)");
    let sidecar = place.builder("20ms").start();
    is_saved(&place, &sidecar, 2);
}

#[test]
fn a_note_that_was_lost_while_a_batch_was_under_way_is_told_at_start() {
    let place = Place::new();
    let mut sidecar = place.builder("20ms").start();
    is_saved(&place, &sidecar, 1);
    assert_eq!(sidecar.stop(), Some(0));
    let row = "(CAST('p:1' AS BLOB), CAST('seen' AS BLOB), 3, 'p:{id:int}', '2', 82, (SELECT last FROM about))";
    sqlite(&place.journal(), &format!("INSERT INTO waiting VALUES {row}"));
    place.postgres.sql("DELETE FROM hearthside.journals");
    let sidecar = place.builder("20ms").expect(&[warnings::NOTE_GONE]).start();
    until("it is saved again", || place.seen(1) == "2");
    assert!(sidecar.log().contains(warnings::NOTE_GONE));
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refuses_to_run(builder: &Builder, text: &str) {
    let output = builder.execute(&["run"]);
    assert!(output.status.code() == Some(1) && told(&output).contains(text), "{}", told(&output));
}

#[test]
fn a_journal_of_an_unknown_layout_is_an_error_at_start() {
    let place = Place::new();
    let file = place.journal();
    for (sql, text) in [
        ("PRAGMA user_version = 5;", "was written by a newer version of Hearthside (layout 5, this one knows 4)"),
        ("PRAGMA user_version = 0; CREATE TABLE accounts (id INTEGER);", "is no journal of Hearthside"),
        ("CREATE TABLE about (id TEXT, last INTEGER); CREATE TABLE waiting (key BLOB);", "is no journal of Hearthside"),
    ] {
        let _absent = std::fs::remove_file(&file);
        sqlite(&file, sql);
        refuses_to_run(&place.builder("1s"), text);
        let shown = place.builder("1s").execute(&["journal"]);
        assert!(shown.status.code() == Some(1) && told(&shown).contains(text), "{}", told(&shown));
    }
}

#[test]
fn without_the_migration_it_says_what_to_run() {
    let place = Place::new();
    place.postgres.sql("DROP TABLE hearthside.journals");
    let output = place.builder("1s").execute(&["check", "--connect"]);
    assert!(
        output.status.code() == Some(2) && told(&output).contains("needs `hearthside migrate`"),
        "{}",
        told(&output)
    );
    // Taken away while it runs: nothing is lost, and the reason stands in the log.
    let place = Place::new();
    let sidecar = place.builder("20ms").expect(TROUBLE).start();
    place.postgres.sql("ALTER TABLE hearthside.journals RENAME TO elsewhere");
    assert_eq!(sidecar.wire().ask("HSET p:1 seen 1"), ":0\r\n");
    until("it says why they wait", || sidecar.log().contains("\"hearthside.journals\" does not exist"));
    place.postgres.sql("ALTER TABLE hearthside.elsewhere RENAME TO journals");
    until("it is saved", || place.seen(1) == "1");
}

#[test]
fn a_role_with_few_rights_notes_in_the_new_table_what_it_noted_in_the_old_one() {
    let place = Place::new();
    // As it was before the new table, with a role that may do what it then had to.
    place.postgres.sql(
        "DROP TABLE hearthside.journals; ALTER TABLE hearthside.flushed DROP COLUMN at; \
         DELETE FROM hearthside._sqlx_migrations WHERE version >= 4; CREATE ROLE \"Side\" LOGIN; \
         GRANT USAGE ON SCHEMA hearthside TO \"Side\"; GRANT SELECT, INSERT, DELETE ON hearthside.flushed TO \"Side\"; \
         GRANT ALL ON players, notes TO \"Side\"",
    );
    assert!(place.builder("1s").execute(&["migrate"]).status.success());
    let builder = || {
        let builder = place.builder("20ms").set("STORE__URL", place.postgres.url().replace("postgres@", "Side@"));
        builder.expect(&[warnings::OLD_NOTES_STAY])
    };
    assert!(builder().execute(&["check", "--connect"]).status.success());
    place.postgres.sql("REVOKE DELETE ON hearthside.journals, hearthside.flushed FROM \"Side\"");
    let sidecar = builder().start();
    is_saved(&place, &sidecar, 1);
    assert!(sidecar.log().contains("old notes of journals cannot be removed"));
    end(sidecar);
    place.postgres.sql("REVOKE UPDATE ON hearthside.journals FROM \"Side\"");
    let output = builder().execute(&["check", "--connect"]);
    let told = told(&output);
    assert!(output.status.code() == Some(2) && told.contains("GRANT UPDATE ON hearthside.journals"), "{told}");
}

#[test]
fn a_journal_whose_notes_are_gone_with_their_schema_says_what_to_run() {
    let place = Place::new();
    let mut sidecar = place.builder("20ms").start();
    assert_eq!(sidecar.wire().ask("HSET p:1 seen 7"), ":0\r\n");
    until_saved(&sidecar);
    assert_eq!(sidecar.stop(), Some(0));
    place.postgres.sql("DROP SCHEMA hearthside CASCADE");
    let output = place.builder("20ms").execute(&["run"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("the journal cannot be replayed") && told.contains("; run `hearthside migrate`"), "{told}");
}
