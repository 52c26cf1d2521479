//! Journals that go back in time, and copies of them that are used elsewhere. What was saved stays, in any case; what
//! else is promised is said at each of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use super::Attack;
use super::faults::{any_sidecar, moment};
use super::history::{Via, Violation};
use super::world::{KEYS, SIDECARS};
use crate::differential::stream::Dice;
use crate::support::admin::metric;
use crate::support::sidecar::Sidecar;
use crate::support::until;

/// Rows of `things` that only a sidecar with a copied journal writes.
const KEYS_OF_COPIES: std::ops::Range<usize> = KEYS..KEYS + 4;

pub fn beside(path: &Path, more: &str) -> PathBuf {
    PathBuf::from(format!("{}{more}", path.display()))
}

/// Puts the content of a journal that nobody uses in the place of another.
pub fn put(from: &Path, to: &Path) {
    for more in ["", "-wal", "-shm"] {
        let _absent = fs::remove_file(beside(to, more));
        if beside(from, more).exists() {
            fs::copy(beside(from, more), beside(to, more)).expect("copied");
        }
    }
}

/// Copies a SQLite file that may be in use.
pub fn backup(from: &Path, to: &Path) {
    let _absent = fs::remove_file(to);
    let done = Command::new("sqlite3").arg(from).arg(format!(".backup {}", to.display())).status();
    assert!(done.expect("sqlite3 is installed").success(), "{} can be copied", from.display());
}

/// What the store holds of a deferred field.
fn stored(attack: &Attack, key: usize) -> u64 {
    let stored = attack.world.postgres().sql(&format!("SELECT d FROM things WHERE id = {key}"));
    stored.parse().expect("a number")
}

pub fn is_saved(sidecar: &Sidecar) -> bool {
    sidecar.log().contains("ready for clients") && metric(sidecar, "hearthside_journal_bytes") == 0.0
}

/// Starts a sidecar again, and returns when nothing waits in its journal.
fn start(attack: &Attack, i: usize) {
    attack.world.start(i);
    until("what waited is saved", || attack.world.with(i, is_saved) == Some(true));
}

/// A copy that was made while the sidecar ran is put back after a kill. What was acknowledged after it and is not saved
/// may be lost. So may what waits in the copy, if the sidecar has saved anything since: that is put aside.
pub fn restore(attack: &Attack, dice: &mut Dice) {
    let (i, world, things) = (any_sidecar(dice), &attack.world, &attack.things);
    let keys: Vec<usize> = (i..KEYS).step_by(SIDECARS).collect();
    let (file, kept) = (world.journal(i), world.journal_copy());
    let known: Vec<u64> = keys.iter().map(|key| things.deferred[*key].last()).collect();
    backup(&file, &kept);
    thread::sleep(moment(dice));
    world.kill(i);
    put(&kept, &file);
    keys.iter().for_each(|key| things.deferred[*key].go_back_to(stored(attack, *key), Via::Sidecar(i)));
    world.restored[i].fetch_add(1, SeqCst);
    attack.calmly(|| {
        start(attack, i);
        if world.with(i, |sidecar| metric(sidecar, "hearthside_put_aside_total")) != Some(0.0) {
            return;
        }
        for (key, known) in keys.iter().zip(known) {
            let stored = stored(attack, *key);
            let what = format!("the store holds {stored}, and {known} was in the journal that was put back");
            let violation = Violation { clause: "C5", what };
            attack.saw(&format!("thing:{key} d"), (stored < known).then_some(violation));
        }
    });
}

/// Two sidecars go on from copies of one journal. Whoever comes first saves what waited, and both save what they
/// acknowledge from then on: nothing is lost.
pub fn copy(attack: &Attack, dice: &mut Dice) {
    let (i, world, is_first) = (any_sidecar(dice), &attack.world, dice.roll(2) == 0);
    let path = world.journal_copy();
    world.kill(i);
    put(&world.journal(i), &path);
    let _absent = fs::remove_file(beside(&path, ".lock"));
    let other = || {
        let builder = world.builder(i).set("SERVER__LISTEN", "127.0.0.1:0");
        let mut other = builder.set("JOURNAL__PATH", path.display().to_string()).spawn();
        other.wait_ready();
        until("what waited is saved", || is_saved(&other));
        other
    };
    let mut other = attack.calmly(|| {
        if is_first {
            start(attack, i);
            return other();
        }
        let other = other();
        start(attack, i);
        other
    });
    write_to(attack, &other, dice);
    assert_eq!(other.stop(), Some(0));
}

/// Defers writes through a sidecar whose journal is a copy, while the one whose journal it was goes on as well.
fn write_to(attack: &Attack, other: &Sidecar, dice: &mut Dice) {
    let mut wire = other.wire();
    let first = 1 + KEYS_OF_COPIES.map(|key| stored(attack, key)).max().unwrap_or(0);
    for version in first..first + 10 {
        for key in KEYS_OF_COPIES {
            let told = wire.ask(&format!("HSET thing:{key} d {version}"));
            assert_eq!(told, ":0\r\n", "a deferred write of thing:{key}");
        }
        thread::sleep(moment(dice) / 10);
    }
    until("it is saved", || is_saved(other));
    for key in KEYS_OF_COPIES {
        let (stored, last) = (stored(attack, key), first + 9);
        let what = format!("the store holds {stored}, and {last} was acknowledged by a sidecar with a copied journal");
        let violation = Violation { clause: "C5", what };
        attack.saw(&format!("thing:{key} d"), (stored != last).then_some(violation));
    }
}
