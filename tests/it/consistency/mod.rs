//! The harness that attacks the consistency contract: several sidecars over one Postgres and one Redis, writers through
//! sidecars and by SQL, readers with histories, faults at random, and a checker. `scripts/consistency` runs it longer.
//!
//! HEARTHSIDE_CONSISTENCY_SECONDS (default 60) and HEARTHSIDE_SEED; the seed replays the schedule of faults and choices.

mod history;
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use history::{History, Via, Violation};
use world::{KEYS, MAX_STALENESS, SIDECARS, World};

use crate::differential::stream::Dice;
use crate::support::until;
use crate::support::wire::Wire;

/// How long after a commit its old value may show at most: `max_staleness`, and what a busy machine adds.
const BOUND: Duration = Duration::from_millis(MAX_STALENESS.as_millis() as u64 + 1500);
/// A client gives up on an answer after so long.
const PATIENCE: Duration = Duration::from_secs(8);

struct Attack {
    world: World,
    /// Histories of the field that is written through, and of the deferred one.
    through: Vec<History>,
    deferred: Vec<History>,
    /// Who writes a key holds it: versions are acknowledged in their order.
    held: Vec<Mutex<()>>,
    over: AtomicBool,
    violations: Mutex<Vec<String>>,
    reads: AtomicU64,
}

impl Attack {
    fn found(&self, key: usize, field: &str, violation: Option<Violation>) {
        if let Some(violation) = violation {
            let mut violations = self.violations.lock().expect("a lock");
            violations.push(format!("{violation} (key {key}, field {field})"));
            self.over.store(true, SeqCst);
        }
    }
}

/// A client that connects again when it must.
struct Client {
    port: u16,
    wire: Option<Wire>,
}

impl Client {
    fn ask(&mut self, text: &str) -> Option<String> {
        if self.wire.is_none() {
            self.wire = Wire::try_tcp(self.port, PATIENCE);
        }
        let reply = self.wire.as_mut().and_then(|wire| wire.try_ask(text));
        if reply.is_none() {
            self.wire = None;
            thread::sleep(Duration::from_millis(20));
        }
        reply
    }
}

fn clients(attack: &Attack) -> Vec<Client> {
    attack.world.ports.iter().map(|port| Client { port: *port, wire: None }).collect()
}

/// Writes versions: through any sidecar or by SQL, and deferred through the key's own sidecar.
fn write(attack: &Attack, mut dice: Dice) {
    let mut clients = clients(attack);
    while !attack.over.load(SeqCst) {
        let key = dice.roll(KEYS as u64) as usize;
        let Ok(_holds) = attack.held[key].try_lock() else { continue };
        match dice.roll(6) {
            0 => {
                let version = attack.through[key].issue();
                let sql = format!("UPDATE things SET v = {version} WHERE id = {key}");
                if attack.world.postgres.try_sql(&sql).is_ok() {
                    attack.through[key].acknowledge(version, Via::Sql);
                } else {
                    settle(attack);
                }
            }
            1..=3 => {
                let (i, version) = (dice.roll(SIDECARS as u64) as usize, attack.through[key].issue());
                match clients[i].ask(&format!("HSET thing:{key} v {version}")) {
                    Some(reply) if reply.starts_with(':') => {
                        attack.through[key].acknowledge(version, Via::Sidecar(i));
                    }
                    // Perhaps it is still on its way: nobody writes the key until it can no more arrive.
                    _ => settle(attack),
                }
            }
            _ => {
                let (i, version) = (key % SIDECARS, attack.deferred[key].issue());
                match clients[i].ask(&format!("HSET thing:{key} d {version}")) {
                    Some(reply) if reply.starts_with(':') => {
                        attack.deferred[key].acknowledge(version, Via::Sidecar(i));
                    }
                    _ => settle(attack),
                }
            }
        }
    }
}

/// Waits until a write whose answer did not come has been applied or given up by everybody.
fn settle(attack: &Attack) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) && !attack.over.load(SeqCst) {
        thread::sleep(Duration::from_millis(20));
    }
}

fn number(bulk: &str) -> Option<u64> {
    bulk.lines().nth(1)?.parse().ok()
}

/// Reads, and holds what it sees against the histories.
fn read(attack: &Attack, mut dice: Dice) {
    let mut clients = clients(attack);
    while !attack.over.load(SeqCst) {
        let (key, i) = (dice.roll(KEYS as u64) as usize, dice.roll(SIDECARS as u64) as usize);
        let is_deferred = dice.roll(3) == 0;
        let (history, field) = if is_deferred { (&attack.deferred[key], "d") } else { (&attack.through[key], "v") };
        // A deferred write shows elsewhere when it has been flushed, which a store that is away may put off.
        if is_deferred && i != key % SIDECARS {
            continue;
        }
        let bound = if is_deferred { Duration::MAX } else { BOUND };
        let floor = history.floor(i, bound);
        if let Some(seen) = clients[i].ask(&format!("HGET thing:{key} {field}")).as_deref().and_then(number) {
            attack.reads.fetch_add(1, SeqCst);
            attack.found(key, field, history.check(floor, seen));
        }
    }
}

/// Ends the attack when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn seconds() -> u64 {
    std::env::var("HEARTHSIDE_CONSISTENCY_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

#[test]
fn the_contract_holds_under_attack() {
    let seed = std::env::var("HEARTHSIDE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x00c0_4515);
    eprintln!("consistency: HEARTHSIDE_SEED={seed}");
    let attack = Arc::new(Attack {
        world: World::new(),
        through: (0..KEYS).map(|_| History::default()).collect(),
        deferred: (0..KEYS).map(|_| History::default()).collect(),
        held: (0..KEYS).map(|_| Mutex::default()).collect(),
        over: AtomicBool::new(false),
        violations: Mutex::default(),
        reads: AtomicU64::new(0),
    });
    let faults = thread::scope(|scope| {
        for i in 0..4 {
            let (attack, dice) = (attack.clone(), Dice(seed ^ 0x5851_f42d_4c95_7f2d_u64.wrapping_mul(i + 1)));
            scope.spawn(move || write(&attack, dice));
        }
        for i in 0..4 {
            let (attack, dice) = (attack.clone(), Dice(seed ^ 0x1405_7b7e_f767_814f_u64.wrapping_mul(i + 1)));
            scope.spawn(move || read(&attack, dice));
        }
        // However this ends, nobody goes on alone.
        let _end = End(&attack.over);
        let (begun, mut dice, mut faults) = (Instant::now(), Dice(seed), 0);
        while begun.elapsed() < Duration::from_secs(seconds()) && !attack.over.load(SeqCst) {
            thread::sleep(Duration::from_millis(300 + dice.roll(1200)));
            let fault = attack.world.fault(&mut dice);
            eprintln!("{:6.1} s: {fault}", begun.elapsed().as_secs_f64());
            faults += 1;
        }
        faults
    });
    let violations = attack.violations.lock().expect("a lock").clone();
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    at_rest(&attack);
    let written: usize = attack.through.iter().chain(&attack.deferred).map(History::acknowledged).sum();
    eprintln!("{faults} faults, {written} acknowledged writes, {} reads, no violation", attack.reads.load(SeqCst));
    assert!(written > 100 && attack.reads.load(SeqCst) > 100, "the attack was none");
}

/// When everything is back, the store holds every last acknowledged write, and the sidecars show it.
fn at_rest(attack: &Attack) {
    let mut clients = clients(attack);
    let stored = |key: usize, field: &str| -> u64 {
        attack.world.postgres.sql(&format!("SELECT {field} FROM things WHERE id = {key}")).parse().expect("a number")
    };
    for i in 0..SIDECARS {
        until("the sidecar serves", || clients[i].ask("HGET thing:0 v").is_some_and(|told| told.starts_with('$')));
        until("its journal is empty", || {
            attack.world.with(i, |s| {
                s.log().contains("ready for clients")
                    && crate::support::admin::metric(s, "hearthside_journal_bytes") == 0.0
            }) == Some(true)
        });
    }
    for key in 0..KEYS {
        attack.found(key, "v", attack.through[key].check_final("C1", stored(key, "v")));
        attack.found(key, "d", attack.deferred[key].check_final("C5", stored(key, "d")));
        for client in &mut clients {
            for field in ["v", "d"] {
                let expected = stored(key, field);
                until("the sidecars show what the store holds", || {
                    client.ask(&format!("HGET thing:{key} {field}")).as_deref().and_then(number) == Some(expected)
                });
            }
        }
    }
    for i in 0..SIDECARS {
        let stale = attack
            .world
            .with(i, |s| crate::support::admin::metric(s, "hearthside_stale_reads_total{mapping=\"thing:{id:int}\"}"));
        assert_eq!(stale, Some(0.0), "the verifier of sidecar {i} found a stale read");
    }
    let violations = attack.violations.lock().expect("a lock").clone();
    assert!(violations.is_empty(), "{violations:#?}");
}
