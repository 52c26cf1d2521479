//! The same attack with SQLite as the store: two sidecars over one file, writes through them, deferred and by SQL, and
//! what the owner's trigger makes of them, shown by several mappings. The faults are those of `embedded_faults.rs`.
//! `scripts/consistency --store sqlite` runs it longer.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::deck::Deck;
use super::embedded_faults::KINDS;
use crate::differential::stream::Dice;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::Wire;
use crate::support::{setting, until};

/// How long after a commit somebody else's value may be missing: the poll, and what a busy machine adds.
const BOUND: Duration = Duration::from_millis(2500);

const TABLES: &str = "PRAGMA journal_mode = wal;
CREATE TABLE sess (id INTEGER PRIMARY KEY, hp INTEGER NOT NULL, seen INTEGER NOT NULL, team TEXT NOT NULL);
CREATE TABLE stats (id INTEGER PRIMARY KEY, hp INTEGER NOT NULL);
WITH RECURSIVE ids (id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM ids WHERE id < 8)
INSERT INTO sess SELECT id, 0, 0, 't' || id FROM ids;
INSERT INTO stats SELECT id, 0 FROM sess;";

const CONFIG: &str = r#"
[[caches]]
key = "s:{id:int}"
type = "hash"
table = "sess"
write = "through"
deferred = ["seen"]

[[caches]]
key = "hp:{id:int}"
type = "string"
table = "sess"
value = "hp"

[[caches]]
key = "team:{team}"
type = "list"
query = "SELECT team, hp FROM sess WHERE team = $1 ORDER BY id"
value = "hp"
watch = [{ table = "sess", key = { team = "team" } }]

[[caches]]
key = "st:{id:int}"
type = "string"
table = "stats"
value = "hp"
"#;

/// What the owner's trigger makes of a write.
pub const COUNTED: &str =
    "CREATE TRIGGER counted AFTER UPDATE OF hp ON sess BEGIN UPDATE stats SET hp = NEW.hp WHERE id = NEW.id; END";

/// Rows: the first three are written through the first sidecar, the next through the second, the others by SQL.
const ROWS: u64 = 9;

/// What was acknowledged of a value that only rises, and when.
#[derive(Default)]
pub struct Rising(Mutex<Acknowledged>);

#[derive(Default)]
struct Acknowledged {
    values: Vec<(Instant, u64)>,
    /// How often the journal that had some of them went back in time.
    losses: u64,
}

impl Rising {
    fn losses(&self) -> u64 {
        self.0.lock().expect("a lock").losses
    }

    /// Notes a value that was sent after so many losses.
    fn acknowledge(&self, value: u64, losses: u64) {
        let mut all = self.0.lock().expect("a lock");
        if all.losses == losses {
            all.values.push((Instant::now(), value));
        }
    }

    /// What is saved stays; what was acknowledged after it may be lost.
    pub fn go_back_to(&self, saved: u64) {
        let mut all = self.0.lock().expect("a lock");
        all.values.retain(|(_, value)| *value < saved);
        all.values.push((Instant::now(), saved));
        all.losses += 1;
    }

    /// The least that may be seen by somebody to whom everything of before `moment` is known.
    fn floor(&self, moment: Instant) -> u64 {
        let all = self.0.lock().expect("a lock");
        all.values.iter().rev().find(|(at, _)| *at <= moment).map_or(0, |(_, value)| *value)
    }

    fn last(&self) -> u64 {
        self.0.lock().expect("a lock").values.last().map_or(0, |(_, value)| *value)
    }
}

pub struct Attack {
    /// They end before their files go.
    sidecars: [Mutex<Option<Sidecar>>; 2],
    redis: Redis,
    folder: tempfile::TempDir,
    ports: [AtomicU64; 2],
    hp: Vec<Rising>,
    pub seen: Vec<Rising>,
    /// Programs beside the sidecars that write to the file.
    pub others: Mutex<()>,
    over: AtomicBool,
    violations: Mutex<Vec<String>>,
    reads: AtomicU64,
}

pub fn sql(file: &Path, text: &str) -> Option<String> {
    let told = Command::new("sqlite3").args(["-cmd", ".timeout 10000"]).arg(file).arg(text).output();
    let told = told.expect("sqlite3 is installed");
    told.status.success().then(|| String::from_utf8_lossy(&told.stdout).trim_end().to_owned())
}

/// The number in a reply: an integer, a bulk string, or the one element of a list.
fn number(reply: &str) -> Option<u64> {
    let last = reply.trim_end().rsplit("\r\n").next()?;
    if reply.starts_with('-') { None } else { last.trim_start_matches(':').parse().ok() }
}

impl Attack {
    fn new() -> Self {
        let attack = Self {
            redis: Redis::start(),
            folder: tempfile::tempdir().expect("a folder"),
            sidecars: Default::default(),
            ports: Default::default(),
            hp: (0..ROWS).map(|_| Rising::default()).collect(),
            seen: (0..ROWS).map(|_| Rising::default()).collect(),
            others: Mutex::default(),
            over: AtomicBool::new(false),
            violations: Mutex::default(),
            reads: AtomicU64::new(0),
        };
        sql(&attack.file("store.db"), &format!("{TABLES} {COUNTED}")).expect("made");
        (0..2).for_each(|i| attack.start(i));
        attack
    }

    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub fn journal(&self, i: usize) -> std::path::PathBuf {
        self.file(&format!("journal-{i}.db"))
    }

    pub fn kill(&self, i: usize) {
        let killed = self.sidecars[i].lock().expect("a lock").take();
        killed.expect("it runs").kill();
    }

    pub fn start(&self, i: usize) {
        let builder = Sidecar::builder().redis(&self.redis).config(CONFIG).set("JOURNAL__FLUSH_INTERVAL", "50ms");
        let builder = builder.set("STORE__URL", format!("sqlite://{}", self.file("store.db").display()));
        let builder = builder.set("JOURNAL__PATH", self.journal(i).display().to_string());
        let sidecar = builder
            .expect(&[warnings::DEFERRED_WAIT, warnings::STORE_SILENT, warnings::STORE_HEALTH, warnings::LOAD_FAILED])
            .expect(&[warnings::WRITE_FAILED, warnings::FEED_LOST, warnings::WAITING_FOR_THE_NOTE])
            .expect(&[warnings::FILE_REPLACED, warnings::JOURNAL_COPIED, warnings::JOURNAL_LACKS])
            .expect(&[warnings::UNFIT, warnings::DEFERRED_REFUSED])
            .start();
        self.ports[i].store(u64::from(sidecar.port), SeqCst);
        *self.sidecars[i].lock().expect("a lock") = Some(sidecar);
    }

    fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    fn connect(&self, i: usize) -> Option<Wire> {
        Wire::try_tcp(self.ports[i].load(SeqCst) as u16, Duration::from_secs(3))
    }

    /// Does `act` with a connection to sidecar `i`, again with a new one after it was lost, until all is over.
    fn through(&self, i: usize, mut act: impl FnMut(&mut Wire) -> Option<()>) {
        while !self.is_over() {
            let Some(mut wire) = self.connect(i) else { continue };
            while !self.is_over() && act(&mut wire).is_some() {}
        }
    }

    fn write(&self, i: usize, mut dice: Dice) {
        let mut next = 0;
        self.through(i, |wire| {
            let id = i as u64 * 3 + dice.roll(3);
            let (rising, command) = match dice.roll(2) {
                0 => (&self.hp[id as usize], format!("HINCRBY s:{id} hp 1")),
                _ => {
                    next += 1;
                    (&self.seen[id as usize], format!("HSET s:{id} seen {next}"))
                }
            };
            let losses = rising.losses();
            let reply = wire.try_ask(&command)?;
            if let Some(value) = number(&reply) {
                rising.acknowledge(if command.starts_with("HSET") { next } else { value }, losses);
            }
            Some(())
        });
    }

    fn write_by_sql(&self, mut dice: Dice) {
        while !self.is_over() {
            let id = 6 + dice.roll(3);
            let update = format!("UPDATE sess SET hp = hp + 1 WHERE id = {id} RETURNING hp");
            {
                let _writes = self.others.lock().expect("a lock");
                if let Some(value) = sql(&self.file("store.db"), &update).and_then(|told| told.parse().ok()) {
                    self.hp[id as usize].acknowledge(value, 0);
                }
            }
            thread::sleep(Duration::from_millis(dice.roll(40)));
        }
    }

    /// A read sees everything that was acknowledged through the same sidecar, under whatever key, and what others wrote
    /// longer ago than the bound.
    fn read(&self, i: usize, mut dice: Dice) {
        self.through(i, |wire| {
            let id = dice.roll(ROWS);
            let is_own = id / 3 == i as u64;
            let (rising, command) = match dice.roll(5) {
                0 => (&self.hp, format!("GET hp:{id}")),
                1 => (&self.hp, format!("HGET s:{id} hp")),
                2 => (&self.hp, format!("LRANGE team:t{id} 0 -1")),
                3 => (&self.hp, format!("GET st:{id}")),
                _ => (&self.seen, format!("HGET s:{id} seen")),
            };
            let (now, losses) = (Instant::now(), rising[id as usize].losses());
            let floor = match is_own {
                true => rising[id as usize].floor(now),
                // What is deferred by another sidecar is seen when it has been flushed, whenever that is.
                false if command.ends_with("seen") => 0,
                false => rising[id as usize].floor(now.checked_sub(BOUND)?),
            };
            let reply = wire.try_ask(&command)?;
            self.reads.fetch_add(1, SeqCst);
            let is_judged = rising[id as usize].losses() == losses;
            if let Some(seen) = number(&reply).filter(|seen| *seen < floor && is_judged) {
                let text = format!("sidecar {i}: {command} is {seen}, and {floor} was acknowledged");
                self.violations.lock().expect("a lock").push(text);
                self.over.store(true, SeqCst);
            }
            Some(())
        });
    }

    /// Both sidecars show what the store holds, and it holds every last acknowledged value.
    fn comes_to_rest(&self) {
        let store = |what: &str, id: u64| sql(&self.file("store.db"), &format!("SELECT {what} WHERE id = {id}"));
        for id in 0..ROWS {
            let last = self.seen[id as usize].last();
            let seen = || store("seen FROM sess", id).and_then(|seen| seen.parse::<u64>().ok());
            // One whose sidecar was killed before it answered may be newer.
            until("what was deferred is saved", || seen() >= Some(last));
            let hp = store("hp FROM sess", id).expect("a row");
            assert!(hp.parse::<u64>().expect("a number") >= self.hp[id as usize].last(), "row {id} went back");
            for i in 0..2 {
                let mut wire = self.connect(i).expect("it runs");
                for command in [format!("GET hp:{id}"), format!("HGET s:{id} hp"), format!("GET st:{id}")] {
                    until(&command, || wire.ask(&command) == format!("${}\r\n{hp}\r\n", hp.len()));
                }
            }
        }
    }
}

#[test]
fn the_contract_holds_under_attack_with_sqlite() {
    let seed = setting("HEARTHSIDE_SEED", 0x00c0_4516);
    let time = Duration::from_secs(setting("HEARTHSIDE_CONSISTENCY_SECONDS", 20));
    eprintln!("consistency with SQLite: HEARTHSIDE_SEED={seed}");
    let (attack, begun) = (&Attack::new(), Instant::now());
    let dice = |n: u64| Dice(seed ^ 0x5851_f42d_4c95_7f2d_u64.wrapping_mul(n + 1));
    let deck = thread::scope(|scope| {
        for i in 0..2 {
            scope.spawn(move || attack.write(i, dice(i as u64)));
            scope.spawn(move || attack.read(i, dice(2 + i as u64)));
            scope.spawn(move || attack.read(i, dice(4 + i as u64)));
        }
        scope.spawn(move || attack.write_by_sql(dice(6)));
        // However this ends, nobody goes on alone.
        let _end = super::End(&attack.over);
        let (mut dice, mut deck) = (dice(7), Deck::of(KINDS.to_vec()));
        while begun.elapsed() < time && !attack.is_over() {
            thread::sleep(Duration::from_millis(300 + dice.roll(1500)));
            let fault = deck.next(attack, &mut dice);
            eprintln!("{:6.1} s: {fault}", begun.elapsed().as_secs_f64());
        }
        deck
    });
    let violations = attack.violations.lock().expect("a lock").clone();
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    attack.comes_to_rest();
    let count = |all: &[Rising]| all.iter().map(|one| one.0.lock().expect("a lock").values.len()).sum::<usize>();
    let (hp, seen, reads) = (count(&attack.hp), count(&attack.seen), attack.reads.load(SeqCst));
    eprintln!("acknowledged writes: {hp} through and by SQL, {seen} deferred; {reads} reads");
    assert!(deck.is_complete() || time < super::LONG, "a kind of fault was never made");
    assert!(hp > 20 && seen > 20 && reads > 100, "the attack was none");
}
