//! Rows that stay: a field that is written through, by SQL and through sidecars, and one that is deferred (C1, C2, C3,
//! C5).

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::client::{Client, Sql};
use super::history::{History, Via, What};
use super::world::{KEYS, SIDECARS};
use super::{Attack, BOUND};
use crate::differential::stream::Dice;

pub struct Things {
    pub through: Vec<History>,
    pub deferred: Vec<History>,
    /// Who writes a key holds it: versions are acknowledged in their order.
    held: Vec<Mutex<()>>,
}

impl Things {
    pub fn new() -> Self {
        Self {
            through: (0..KEYS).map(|_| History::default()).collect(),
            deferred: (0..KEYS).map(|_| History::default()).collect(),
            held: (0..KEYS).map(|_| Mutex::default()).collect(),
        }
    }
}

/// Writes versions: through any sidecar or by SQL, now and then several at once, and deferred through the key's own
/// sidecar.
pub fn write(attack: &Attack, mut dice: Dice) {
    let (mut clients, mut sql, things) = (Client::of_each(attack), Sql::default(), &attack.things);
    while attack.goes_on() {
        let key = dice.roll(KEYS as u64) as usize;
        let Ok(_holds) = things.held[key].try_lock() else { continue };
        // Changes that follow each other closely meet the loads that the first of them causes.
        let burst: &[Via] = match dice.roll(5) {
            0 => &[Via::Directly, Via::Directly, Via::Sidecar(0)],
            1 => &[Via::Directly, Via::Sidecar(0), Via::Directly],
            2 => &[Via::Sidecar(0), Via::Sidecar(1)],
            3 => &[Via::Directly],
            _ => &[],
        };
        let is_answered = match burst {
            [] => {
                let i = key % SIDECARS;
                things.deferred[key].send(What::Value, Via::Sidecar(i), |version| {
                    clients[i].write(&format!("HSET thing:{key} d {version}"))
                })
            }
            burst => burst.iter().all(|via| {
                thread::sleep(Duration::from_millis(dice.roll(25)));
                things.through[key].send(What::Value, *via, |version| match via {
                    Via::Directly => sql.run(attack, &update(key, version)),
                    Via::Sidecar(i) => clients[*i].write(&format!("HSET thing:{key} v {version}")),
                })
            }),
        };
        if !is_answered {
            // Perhaps it is still on its way: nobody writes the key until it can no more arrive.
            attack.settle();
        }
    }
}

fn update(key: usize, version: u64) -> String {
    format!("UPDATE things SET v = {version} WHERE id = {key};")
}

/// Writes one version of this key by SQL, when nobody else writes it.
pub fn write_by_sql(attack: &Attack, key: usize) {
    let _holds = attack.things.held[key].lock().expect("a lock");
    let mut sql = Sql::default();
    if !attack.things.through[key].send(What::Value, Via::Directly, |version| sql.run(attack, &update(key, version))) {
        attack.settle();
    }
}

/// Reads, and holds what it sees against the histories.
pub fn read(attack: &Attack, mut dice: Dice) {
    let mut clients = Client::of_each(attack);
    while !attack.is_over() {
        let (key, i) = (dice.roll(KEYS as u64) as usize, dice.roll(SIDECARS as u64) as usize);
        let is_deferred = dice.roll(3) == 0;
        let (all, field) = if is_deferred { (&attack.things.deferred, "d") } else { (&attack.things.through, "v") };
        // A deferred write shows elsewhere when it has been flushed, which a store that is away may put off.
        if is_deferred && i != key % SIDECARS {
            continue;
        }
        let bound = if is_deferred { Duration::MAX } else { BOUND };
        let floor = all[key].floor(i, bound);
        if let Some(seen) = clients[i].read(&format!("HGET thing:{key} {field}")) {
            attack.saw(&format!("thing:{key} {field}"), all[key].check(floor, seen));
        }
    }
}
