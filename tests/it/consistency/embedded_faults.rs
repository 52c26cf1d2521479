//! What goes wrong with SQLite as the store: sidecars are killed, the file is locked or replaced by a copy, and
//! journals go back in time.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::deck::Kind;
use super::embedded::{Attack, sql};
use super::journals::{backup, beside, put};
use crate::differential::stream::Dice;
use crate::support::until;

pub const KINDS: &[Kind<Attack>] = &[
    ("a sidecar killed and started again", kill),
    ("the file locked", lock),
    ("the file replaced by a copy", replace),
    ("a journal that went back in time", restore),
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
