//! The harness that attacks the consistency contract: several sidecars over one Postgres and one Redis, writers through
//! sidecars and by SQL, readers with histories, faults at random, and a checker. `scripts/consistency` runs it longer.
//!
//! HEARTHSIDE_CONSISTENCY_SECONDS (default 60), HEARTHSIDE_FEED (notify, outbox or replication),
//! HEARTHSIDE_TOPOLOGY (single, sentinel or cluster) and HEARTHSIDE_SEED; the seed replays the schedule of faults and choices.

mod client;
mod crowd;
mod deck;
mod embedded;
mod embedded_faults;
mod failover;
mod faults;
mod feeds;
mod fleeting;
mod history;
mod journals;
mod linear;
mod modes;
mod near;
mod nines;
mod places;
mod poolers;
mod reloads;
mod rest;
mod schema_changes;
mod things;
mod tracked;
mod upstreams;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use deck::Deck;
use feeds::Feed;
use fleeting::Fleeting;
use history::{History, Violation};
use near::Near;
use places::Places;
use things::Things;
use world::{MAX_STALENESS, World};

use crate::differential::stream::Dice;
use crate::support::setting;

/// How long after a commit its old value may show at most: `max_staleness`, how often the schema is looked at where it
/// is what has changed, and what a busy machine adds.
const BOUND: Duration = Duration::from_millis(MAX_STALENESS.as_millis() as u64 + 1500);

struct Attack {
    world: World,
    things: Things,
    fleeting: Fleeting,
    places: Places,
    near: Near,
    over: AtomicBool,
    /// Nobody writes: what is stale stays so, and shows when it is older than the bound.
    calm: AtomicBool,
    violations: Mutex<Vec<String>>,
    reads: AtomicU64,
    /// What clients have read in caches of their own.
    in_process: AtomicU64,
    /// Histories that were judged by the checker of linearizability.
    linear: AtomicU64,
}

impl Attack {
    fn on(world: World) -> Self {
        Self {
            world,
            things: Things::new(),
            fleeting: Fleeting::new(),
            places: Places::new(),
            near: Near::new(),
            over: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            violations: Mutex::default(),
            reads: AtomicU64::new(0),
            in_process: AtomicU64::new(0),
            linear: AtomicU64::new(0),
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// For writers: waits while it is calm; false when all is over.
    fn goes_on(&self) -> bool {
        while self.calm.load(SeqCst) && !self.is_over() {
            thread::sleep(Duration::from_millis(10));
        }
        !self.is_over()
    }

    /// Does something while nobody writes.
    fn calmly<T>(&self, act: impl FnOnce() -> T) -> T {
        self.calm.store(true, SeqCst);
        let done = act();
        self.calm.store(false, SeqCst);
        done
    }

    /// Waits until a write whose answer did not come has been applied or given up by everybody.
    fn settle(&self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) && !self.is_over() {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Notes a read, and what is wrong with it.
    fn saw(&self, what: &str, violation: Option<Violation>) {
        self.reads.fetch_add(1, SeqCst);
        if let Some(violation) = violation {
            self.violations.lock().expect("a lock").push(format!("{violation} ({what})"));
            self.over.store(true, SeqCst);
        }
    }

    fn expect_none(&self, seed: u64) {
        let violations = self.violations.lock().expect("a lock");
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    }
}

/// Ends the attack when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

type Actor = fn(&Attack, Dice);

const ACTORS: [Actor; 19] = [
    things::write,
    things::write,
    things::write,
    things::write,
    fleeting::write,
    places::write,
    things::read,
    things::read,
    things::read,
    fleeting::read,
    fleeting::read,
    places::read,
    near::write,
    near::write,
    near::read,
    near::read,
    linear::run,
    tracked::read,
    tracked::read,
];

/// A run of this length has made every kind of fault.
const LONG: Duration = Duration::from_secs(300);

/// Faults, one after the other.
fn attacked(attack: &Attack, deck: &mut Deck<Attack>, seed: u64, time: Duration) {
    let (begun, mut dice) = (Instant::now(), Dice(seed));
    for number in 1.. {
        if begun.elapsed() >= time || attack.is_over() {
            break;
        }
        thread::sleep(Duration::from_millis(200 + dice.roll(1000)));
        let fault = deck.next(attack, &mut dice);
        eprintln!("{:6.1} s: {fault}", begun.elapsed().as_secs_f64());
        if number % 8 == 0 {
            be_calm(attack, number / 8);
        }
    }
}

/// Writes without faults for a second, and then neither.
fn be_calm(attack: &Attack, number: usize) {
    thread::sleep(Duration::from_secs(1));
    attack.calmly(|| {
        thread::sleep(BOUND + Duration::from_secs(1));
        crowd::rush(attack, number);
    });
}

#[test]
fn the_contract_holds_under_attack() {
    let seed = setting("HEARTHSIDE_SEED", 0x00c0_4515);
    let feed = Feed::wanted();
    eprintln!("consistency: HEARTHSIDE_SEED={seed} HEARTHSIDE_FEED={}", feed.name());
    let time = Duration::from_secs(setting("HEARTHSIDE_CONSISTENCY_SECONDS", 60));
    withstands(&Attack::on(World::new(feed)), Deck::of(feed.faults()), seed, time);
}

/// Readers and writers are told the truth whatever faults of the deck come meanwhile.
fn withstands(attack: &Attack, mut deck: Deck<Attack>, seed: u64, time: Duration) {
    thread::scope(|scope| {
        for (i, actor) in ACTORS.iter().enumerate() {
            let dice = Dice(seed ^ 0x5851_f42d_4c95_7f2d_u64.wrapping_mul(i as u64 + 1));
            scope.spawn(move || actor(attack, dice));
        }
        if attack.world.feed == Feed::Outbox {
            scope.spawn(move || feeds::read_now_and_then(attack, Dice(seed)));
        }
        // However this ends, nobody goes on alone.
        let _end = End(&attack.over);
        attacked(attack, &mut deck, seed, time);
    });
    attack.expect_none(seed);
    rest::comes(attack);
    attack.expect_none(seed);
    let (things, fleeting) = (&attack.things, &attack.fleeting);
    let (places, near) = (&attack.places.histories, &attack.near.histories);
    let written = [&things.through, &things.deferred, &fleeting.histories, places, near];
    let written = written.map(|all| all.iter().map(History::acknowledged).sum::<usize>());
    let [reads, in_process, linear] = [&attack.reads, &attack.in_process, &attack.linear].map(|all| all.load(SeqCst));
    eprintln!(
        "acknowledged writes (through, deferred, fleeting, definitions, near): {written:?}, {reads} reads, \
         {in_process} in the caches of clients, {linear} linearizable histories"
    );
    assert!(deck.is_complete() || time < LONG, "a kind of fault was never made");
    assert!(
        written.iter().all(|count| *count > 5) && reads > 100 && in_process > 100 && linear > 5,
        "the attack was none"
    );
}
