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
use crate::support::postgres::Session;
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
    /// Nobody writes: what is stale stays so, and shows when it is older than the bound.
    calm: AtomicBool,
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

/// Writes versions: through any sidecar or by SQL, now and then several at once, and deferred through the key's own sidecar.
fn write(attack: &Attack, mut dice: Dice) {
    let (mut clients, mut sql) = (clients(attack), None);
    while !attack.over.load(SeqCst) {
        if attack.calm.load(SeqCst) {
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        let key = dice.roll(KEYS as u64) as usize;
        let Ok(_holds) = attack.held[key].try_lock() else { continue };
        // Changes that follow each other closely meet the loads that the first of them causes.
        let burst: &[Via] = match dice.roll(5) {
            0 => &[Via::Sql, Via::Sql, Via::Sidecar(0)],
            1 => &[Via::Sql, Via::Sidecar(0), Via::Sql],
            2 => &[Via::Sidecar(0), Via::Sidecar(1)],
            3 => &[Via::Sql],
            _ => &[],
        };
        let is_answered = match burst {
            [] => {
                let i = key % SIDECARS;
                send(&attack.deferred[key], Via::Sidecar(i), |version| {
                    clients[i].ask(&format!("HSET thing:{key} d {version}")).is_some_and(|told| told.starts_with(':'))
                })
            }
            burst => burst.iter().all(|via| {
                thread::sleep(Duration::from_millis(dice.roll(25)));
                send(&attack.through[key], *via, |version| match via {
                    Via::Sql => by_sql(attack, &mut sql, &format!("UPDATE things SET v = {version} WHERE id = {key};")),
                    Via::Sidecar(i) => {
                        let told = clients[*i].ask(&format!("HSET thing:{key} v {version}"));
                        told.is_some_and(|told| told.starts_with(':'))
                    }
                })
            }),
        };
        if !is_answered {
            // Perhaps it is still on its way: nobody writes the key until it can no more arrive.
            settle(attack);
        }
    }
}

/// Sends the next version, and notes its acknowledgement.
fn send(history: &History, via: Via, mut write: impl FnMut(u64) -> bool) -> bool {
    let version = history.issue();
    let is_acknowledged = write(version);
    if is_acknowledged {
        history.acknowledge(version, via);
    }
    is_acknowledged
}

fn by_sql(attack: &Attack, session: &mut Option<Session>, sql: &str) -> bool {
    let is_done = session.get_or_insert_with(|| attack.world.postgres.session()).try_run(sql);
    if !is_done {
        *session = None;
    }
    is_done
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
        calm: AtomicBool::new(false),
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
            if faults % 6 == 0 {
                // Writes without faults for a second, and then neither.
                thread::sleep(Duration::from_secs(1));
                attack.calm.store(true, SeqCst);
                thread::sleep(BOUND + Duration::from_secs(1));
                attack.calm.store(false, SeqCst);
            }
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
    for (i, client) in clients.iter_mut().enumerate() {
        until("the sidecar serves", || client.ask("HGET thing:0 v").is_some_and(|told| told.starts_with('$')));
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
