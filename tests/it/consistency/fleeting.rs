//! Rows of two partitions that come and go: by SQL through their table or in their partition, through sidecars, all at
//! once by TRUNCATE, and with their partition. What is not there is remembered too (C7).

use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::client::{Client, Sql};
use super::history::{History, Via, What};
use super::world::SIDECARS;
use super::{Attack, BOUND, schema_changes};
use crate::differential::stream::Dice;

/// As many rows come and go.
pub const FLEETING: usize = 12;
/// Those from here on are in the second partition.
const HIGH: usize = 6;

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
        let table = *dice.pick(&["fleeting", if key < HIGH { "fleeting_low" } else { "fleeting_high" }]);
        let is_answered = match kind % 4 {
            0 => history.send(What::Value, Via::Directly, |version| {
                sql.run(attack, &upsert(table, &format!("({key}, {version})")))
            }),
            1 => history.send(What::Absence, Via::Directly, |_| {
                sql.run(attack, &format!("DELETE FROM {table} WHERE id = {key};"))
            }),
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

fn upsert(table: &str, rows: &str) -> String {
    format!("INSERT INTO {table} VALUES {rows} ON CONFLICT (id) DO UPDATE SET v = excluded.v;")
}

/// Takes a partition away, and attaches it a moment later with other values.
pub fn detach(attack: &Attack, dice: &mut Dice) {
    let (fleeting, postgres) = (&attack.fleeting, attack.world.postgres());
    let _high: Vec<MutexGuard<'_, ()>> =
        fleeting.held[HIGH..].iter().map(|held| held.lock().expect("a lock")).collect();
    let all_are = |what, change: &dyn Fn(&[u64])| {
        let histories = &fleeting.histories[HIGH..];
        let versions: Vec<u64> = histories.iter().map(|history| history.issue(what)).collect();
        change(&versions);
        for (history, version) in histories.iter().zip(versions) {
            history.acknowledge(version, Via::Directly);
        }
    };
    let away = || {
        all_are(What::Absence, &|_| drop(postgres.sql("ALTER TABLE fleeting DETACH PARTITION fleeting_high")));
    };
    let back = || {
        all_are(What::Value, &|versions| {
            let rows = versions.iter().zip(HIGH..).map(|(version, key)| format!("({key}, {version})"));
            postgres.sql(&upsert("fleeting_high", &rows.collect::<Vec<_>>().join(", ")));
            postgres.sql("ALTER TABLE fleeting ATTACH PARTITION fleeting_high FOR VALUES FROM (6) TO (12)");
        });
    };
    schema_changes::untold(attack, dice, away, back);
}

/// The same while the schema watch cannot see it.
pub fn detach_unseen(attack: &Attack, dice: &mut Dice) {
    let mut catalog = attack.world.postgres().session();
    // The watch reads it; loads and writes do not.
    catalog.run("BEGIN; LOCK TABLE pg_catalog.pg_policy IN ACCESS EXCLUSIVE MODE;");
    detach(attack, dice);
    catalog.run("COMMIT;");
}

fn truncate(attack: &Attack, sql: &mut Sql) {
    let fleeting = &attack.fleeting;
    let _all: Vec<MutexGuard<'_, ()>> = fleeting.held.iter().map(|held| held.lock().expect("a lock")).collect();
    let versions: Vec<u64> = fleeting.histories.iter().map(|history| history.issue(What::Absence)).collect();
    if !sql.run(attack, "TRUNCATE fleeting;") {
        return attack.settle();
    }
    for (history, version) in fleeting.histories.iter().zip(versions) {
        history.acknowledge(version, Via::Directly);
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
