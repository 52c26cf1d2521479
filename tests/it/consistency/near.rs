//! Keys of the upstream that the sidecars keep in memory (C9): written through both of them and, where the upstream is
//! one server, directly at it. A read is no older than what the same sidecar has acknowledged, and what others have
//! written shows within a second.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use super::Attack;
use super::client::{Client, version};
use super::history::{History, Via, What};
use super::world::SIDECARS;
use crate::differential::stream::Dice;

/// As many keys.
pub const NEAR: usize = 12;
/// How long after an acknowledgement its old value may show to others, and what a busy machine adds.
const BOUND: Duration = Duration::from_millis(1000 + 1500);

pub struct Near {
    pub histories: Vec<History>,
    held: Vec<Mutex<()>>,
    /// Whether the upstream may lose what it acknowledges now.
    is_in_doubt: AtomicBool,
}

impl Near {
    pub fn new() -> Self {
        Self {
            histories: (0..NEAR).map(|_| History::of_nothing()).collect(),
            held: (0..NEAR).map(|_| Mutex::default()).collect(),
            is_in_doubt: AtomicBool::new(false),
        }
    }

    /// While this lasts, the upstream may lose what it has acknowledged.
    pub fn in_doubt(&self, act: impl FnOnce()) {
        self.is_in_doubt.store(true, SeqCst);
        self.histories.iter().for_each(History::forget);
        act();
        self.histories.iter().for_each(History::forget);
        self.is_in_doubt.store(false, SeqCst);
    }

    fn acknowledge(&self, key: usize, version: u64, via: Via) {
        if !self.is_in_doubt.load(SeqCst) {
            self.histories[key].acknowledge(version, via);
        }
    }
}

/// A command that writes this version, and whether its reply says so.
fn put(client: &mut Client, dice: &mut Dice, key: &str, version: u64) -> bool {
    let is_ok = |told: Option<String>| told.as_deref() == Some("+OK\r\n");
    match dice.roll(5) {
        0 | 1 => is_ok(client.ask(&format!("SET {key} {version}"))),
        2 => is_ok(client.ask(&format!("EVAL \"return redis.call('SET',KEYS[1],ARGV[1])\" 1 {key} {version}"))),
        3 => {
            let is_there = is_ok(client.ask(&format!("SET {key}:spare {version}")));
            is_there && is_ok(client.ask(&format!("RENAME {key}:spare {key}")))
        }
        _ => {
            let begun = is_ok(client.ask("MULTI"));
            begun
                && client.ask(&format!("SET {key} {version}")).as_deref() == Some("+QUEUED\r\n")
                && client.ask("EXEC").as_deref() == Some("*1\r\n+OK\r\n")
        }
    }
}

fn remove(client: &mut Client, dice: &mut Dice, key: &str) -> bool {
    client.write(&dice.pick(&["DEL KEY", "UNLINK KEY", "PEXPIREAT KEY 1"]).replace("KEY", key))
}

pub fn write(attack: &Attack, mut dice: Dice) {
    let (near, mut clients) = (&attack.near, Client::of_each(attack));
    clients.extend(attack.world.direct.map(Client::at));
    while attack.goes_on() {
        thread::sleep(Duration::from_millis(dice.roll(20)));
        let (key, i) = (dice.roll(NEAR as u64) as usize, dice.roll(clients.len() as u64) as usize);
        let Ok(_holds) = near.held[key].try_lock() else { continue };
        let via = if i < SIDECARS { Via::Sidecar(i) } else { Via::Directly };
        let (name, what) = (name_of(key), if dice.roll(4) == 0 { What::Absence } else { What::Value });
        let version = near.histories[key].issue(what);
        let is_answered = match what {
            What::Value => put(&mut clients[i], &mut dice, &name, version),
            What::Absence => remove(&mut clients[i], &mut dice, &name),
        };
        if is_answered {
            near.acknowledge(key, version, via);
        } else {
            clients[i].leave();
            attack.settle();
        }
    }
}

/// The key, and others beside it, are of one slot.
pub fn name_of(key: usize) -> String {
    format!("near:{{{key}}}")
}

/// What a read gives.
fn seen(client: &mut Client, dice: &mut Dice, key: &str) -> Option<Option<u64>> {
    match dice.roll(3) {
        0 => version(client.ask(&format!("MGET {key}"))?.strip_prefix("*1\r\n")?),
        1 => match client.ask(&format!("GETRANGE {key} 0 -1"))?.as_str() {
            "$0\r\n\r\n" => Some(None),
            told => version(told),
        },
        _ => client.read(&format!("GET {key}")),
    }
}

pub fn read(attack: &Attack, mut dice: Dice) {
    let mut clients = Client::of_each(attack);
    while !attack.is_over() {
        let (key, i) = (dice.roll(NEAR as u64) as usize, dice.roll(SIDECARS as u64) as usize);
        let history = &attack.near.histories[key];
        let floor = history.floor(i, BOUND);
        if let Some(seen) = seen(&mut clients[i], &mut dice, &name_of(key)) {
            attack.saw(&name_of(key), history.check(floor, seen).map(|found| found.of_clause("C9")));
        }
    }
}
