//! Rows that come and go, by SQL, through sidecars, and all at once by TRUNCATE: what is not there is remembered too
//! (C7).

use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::client::{Client, Sql};
use super::history::{History, Via, What};
use super::world::SIDECARS;
use super::{Attack, BOUND};
use crate::differential::stream::Dice;

/// As many rows come and go.
pub const FLEETING: usize = 12;

pub struct Fleeting {
    pub histories: Vec<History>,
    held: Vec<Mutex<()>>,
}

impl Fleeting {
    pub fn new() -> Self {
        Self {
            histories: (0..FLEETING).map(|_| History::of_nothing()).collect(),
            held: (0..FLEETING).map(|_| Mutex::default()).collect(),
        }
    }
}

pub fn write(attack: &Attack, mut dice: Dice) {
    let (mut clients, mut sql, fleeting) = (Client::of_each(attack), Sql::default(), &attack.fleeting);
    while attack.goes_on() {
        thread::sleep(Duration::from_millis(dice.roll(20)));
        let key = dice.roll(FLEETING as u64) as usize;
        let i = dice.roll(SIDECARS as u64) as usize;
        let (history, kind) = (&fleeting.histories[key], dice.roll(40));
        if kind == 0 {
            truncate(attack, &mut sql);
            continue;
        }
        let Ok(_holds) = fleeting.held[key].try_lock() else { continue };
        let is_answered = match kind % 4 {
            0 => history.send(What::Value, Via::Sql, |version| sql.run(attack, &upsert(key, version))),
            1 => history
                .send(What::Absence, Via::Sql, |_| sql.run(attack, &format!("DELETE FROM fleeting WHERE id = {key};"))),
            2 => history.send(What::Value, Via::Sidecar(i), |version| {
                clients[i].ask(&format!("HSET fleeting:{key} v {version}")).is_some_and(|told| told.starts_with(':'))
            }),
            _ => history.send(What::Absence, Via::Sidecar(i), |_| clients[i].write(&format!("DEL fleeting:{key}"))),
        };
        if !is_answered {
            attack.settle();
        }
    }
}

fn upsert(key: usize, version: u64) -> String {
    format!("INSERT INTO fleeting VALUES ({key}, {version}) ON CONFLICT (id) DO UPDATE SET v = excluded.v;")
}

fn truncate(attack: &Attack, sql: &mut Sql) {
    let fleeting = &attack.fleeting;
    let _all: Vec<MutexGuard<'_, ()>> = fleeting.held.iter().map(|held| held.lock().expect("a lock")).collect();
    let versions: Vec<u64> = fleeting.histories.iter().map(|history| history.issue(What::Absence)).collect();
    if !sql.run(attack, "TRUNCATE fleeting;") {
        return attack.settle();
    }
    for (history, version) in fleeting.histories.iter().zip(versions) {
        history.acknowledge(version, Via::Sql);
    }
}

pub fn read(attack: &Attack, mut dice: Dice) {
    let mut clients = Client::of_each(attack);
    while !attack.is_over() {
        let (key, i) = (dice.roll(FLEETING as u64) as usize, dice.roll(SIDECARS as u64) as usize);
        let history = &attack.fleeting.histories[key];
        let floor = history.floor(i, BOUND);
        if let Some(seen) = clients[i].read(&format!("HGET fleeting:{key} v")) {
            attack.saw(&format!("fleeting:{key}"), history.check(floor, seen));
        }
    }
}
