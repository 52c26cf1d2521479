//! What goes wrong with SQLite as the store: sidecars are killed, the file is locked or replaced by a copy, its tables
//! change, and journals go back in time.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::deck::Kind;
use super::embedded::{Attack, COUNTED, sql};
use super::journals::{backup, beside, put};
use crate::differential::stream::Dice;
use crate::support::until;

pub const KINDS: &[Kind<Attack>] = &[
    ("a sidecar killed and started again", kill),
    ("the file locked", lock),
    ("the file replaced by a copy", replace),
    ("a journal that went back in time", restore),
    ("a column added and dropped", add_and_drop),
    ("a column of another name", rename),
    ("a table replaced by a copy", swap),
];

fn moment(dice: &mut Dice) -> Duration {
    Duration::from_millis(100 + dice.roll(600))
}

fn kill(attack: &Attack, dice: &mut Dice) {
    let i = dice.roll(2) as usize;
    attack.kill(i);
    attack.start(i);
}

fn lock(attack: &Attack, dice: &mut Dice) {
    while_locked(&attack.file("store.db"), || thread::sleep(moment(dice)));
}

/// Nobody else writes to the file meanwhile.
fn while_locked(file: &Path, act: impl FnOnce()) {
    let sqlite = Command::new("sqlite3").arg(file).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut sqlite = sqlite.expect("sqlite3 is installed");
    let mut input = sqlite.stdin.take().expect("it is piped");
    let noted = file.with_extension("locked");
    let locked = format!(".timeout 10000\nBEGIN IMMEDIATE;\n.shell touch {}\n", noted.display());
    input.write_all(locked.as_bytes()).expect("it reads");
    until("the file is locked", || noted.exists());
    fs::remove_file(noted).expect("it is there");
    act();
    input.write_all(b"COMMIT;\n").expect("it reads");
    drop(input);
    sqlite.wait().expect("it ends");
}

/// As an operator does it, when no other program writes. What a sidecar then commits to the file of before is not
/// acknowledged.
fn replace(attack: &Attack, dice: &mut Dice) {
    let (file, copy) = (attack.file("store.db"), attack.file("copy.db"));
    let _nobody = attack.others.lock().expect("a lock");
    while_locked(&file, || {
        backup(&file, &copy);
        assert_eq!(sql(&copy, "PRAGMA journal_mode = wal").as_deref(), Some("wal"));
        for more in ["-wal", "-shm"] {
            let _absent = fs::remove_file(beside(&file, more));
            let _absent = fs::remove_file(beside(&copy, more));
        }
        fs::rename(&copy, &file).expect("renamed");
        thread::sleep(moment(dice));
    });
}

/// A copy that was made while the sidecar ran is put back after a kill: what was acknowledged and is not in the store
/// may be lost.
fn restore(attack: &Attack, dice: &mut Dice) {
    let i = dice.roll(2) as usize;
    let (journal, copy) = (attack.journal(i), attack.file("journal-copy.db"));
    backup(&journal, &copy);
    thread::sleep(moment(dice));
    attack.kill(i);
    put(&copy, &journal);
    for id in i * 3..i * 3 + 3 {
        let saved = sql(&attack.file("store.db"), &format!("SELECT seen FROM sess WHERE id = {id}"));
        attack.seen[id].go_back_to(saved.and_then(|saved| saved.parse().ok()).expect("a number"));
    }
    attack.start(i);
}

/// A statement of the owner's. Sidecars write to the file meanwhile, and so it waits for its lock.
fn change(attack: &Attack, statements: &str) {
    let script = format!("BEGIN IMMEDIATE; {statements}; COMMIT;");
    assert!(sql(&attack.file("store.db"), &script).is_some(), "{statements}");
}

fn for_a_moment(attack: &Attack, dice: &mut Dice, there: &str, back: &str) {
    change(attack, there);
    thread::sleep(moment(dice));
    change(attack, back);
}

fn add_and_drop(attack: &Attack, dice: &mut Dice) {
    let table = *dice.pick(&["sess", "stats"]);
    let there = format!("ALTER TABLE {table} ADD COLUMN extra INTEGER DEFAULT 7");
    for_a_moment(attack, dice, &there, &format!("ALTER TABLE {table} DROP COLUMN extra"));
}

/// Of columns that are read and written all the time, one of them by deferred writes.
fn rename(attack: &Attack, dice: &mut Dice) {
    let (table, column) = *dice.pick(&[("sess", "hp"), ("sess", "seen"), ("stats", "hp")]);
    let renamed = |from: &str, to: &str| format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}");
    for_a_moment(attack, dice, &renamed(column, "renamed"), &renamed("renamed", column));
}

fn swap(attack: &Attack, dice: &mut Dice) {
    let (table, columns) = *dice.pick(&[("sess", "id, hp, seen, team"), ("stats", "id, hp")]);
    let definition = columns.replacen("id", "id INTEGER PRIMARY KEY", 1);
    let swapped = format!(
        "DROP TRIGGER counted; CREATE TABLE copied ({definition}); INSERT INTO copied SELECT {columns} FROM {table}; \
         DROP TABLE {table}; ALTER TABLE copied RENAME TO {table}; {COUNTED}"
    );
    change(attack, &swapped);
}
