//! Random migrations of four tables while they are read and written: the application's own SQL never fails, no reply
//! shows what never was, and after each migration every mapping is right again soon. `scripts/migrations` makes it
//! long, `HEARTHSIDE_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{over, soon};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, program};
use crate::support::wire::Wire;
use crate::support::{setting, warnings};

/// `p` changes its columns and is replaced, `q` has partitions, `c` has children, `s` goes and comes back, or loses the
/// name of its key.
const CONFIG: &str = "[[caches]]\nkey = \"p:{id:int}\"\ntype = \"hash\"\ntable = \"p\"\nwrite = \"through\"\n\
    max_staleness = \"1s\"\n\
    [[caches]]\nkey = \"q:{id:int}\"\ntype = \"hash\"\ntable = \"q\"\nmax_staleness = \"1s\"\n\
    [[caches]]\nkey = \"c:{id:int}\"\ntype = \"hash\"\nquery = \"SELECT id, v FROM c WHERE id = $1\"\n\
    watch = [{ table = \"c\", key = { id = \"id\" } }]\nmax_staleness = \"1s\"\n\
    [[caches]]\nkey = \"s:{id:int}\"\ntype = \"string\"\ntable = \"s\"\nvalue = \"v\"\nmax_staleness = \"1s\"\n";

const TABLES: &str = "CREATE TABLE p (id INT PRIMARY KEY, counter BIGINT NOT NULL, app BIGINT NOT NULL); \
    INSERT INTO p SELECT i, 0, 0 FROM generate_series(1, 9) AS i; \
    CREATE TABLE q (id INT PRIMARY KEY, v TEXT) PARTITION BY RANGE (id); \
    CREATE TABLE q_1 PARTITION OF q FOR VALUES FROM (0) TO (5); \
    CREATE TABLE q_2 PARTITION OF q FOR VALUES FROM (5) TO (100); \
    INSERT INTO q SELECT i, 'q' || i FROM generate_series(1, 9) AS i; \
    CREATE TABLE c (id INT PRIMARY KEY, v TEXT); INSERT INTO c SELECT i, 'c' || i FROM generate_series(1, 4) AS i; \
    CREATE TABLE s (id INT PRIMARY KEY, v TEXT); INSERT INTO s SELECT i, 's' || i FROM generate_series(1, 9) AS i;";

/// The keys of each table.
const KEYS: std::ops::RangeInclusive<u64> = 1..=9;

/// What the tables are like now, and what may be seen of them.
struct World<'w> {
    postgres: &'w Postgres,
    random: fastrand::Rng,
    /// The columns of `p` that come and go: the number from which the values of each are made.
    columns: BTreeMap<String, u64>,
    made: u64,
    has_second_partition: bool,
    has_child: bool,
    seen: Arc<Seen>,
}

/// What the readers know.
#[derive(Default)]
struct Seen {
    ends: AtomicBool,
    /// The numbers that a column of each name has ever had.
    ever: Mutex<BTreeMap<String, BTreeSet<u64>>>,
    /// The last counter of each key that was acknowledged.
    counters: [AtomicU64; 10],
    replies: AtomicU64,
    errors: AtomicU64,
}

impl Seen {
    fn goes_on(&self) -> bool {
        !self.ends.load(SeqCst)
    }

    fn note(&self, column: &str, number: u64) {
        self.ever.lock().expect("unpoisoned").entry(column.to_owned()).or_default().insert(number);
    }

    /// A reply, unless it is an error of the mapping.
    fn reply(&self, told: String) -> Option<String> {
        self.replies.fetch_add(1, SeqCst);
        if told.starts_with("-ERR hearthside: the mapping") {
            self.errors.fetch_add(1, SeqCst);
            return None;
        }
        assert!(!told.starts_with('-'), "{told}");
        Some(told)
    }

    /// Fields of `p` never show what another row or another column holds, nor an older counter.
    fn judge(&self, key: u64, acknowledged: u64, told: &str) {
        for (field, value) in fields(told) {
            let number: u64 = value.parse().unwrap_or_else(|_| panic!("p:{key} {field} {value}"));
            match field.as_str() {
                "counter" => assert!(number >= acknowledged, "p:{key}: counter {number} < {acknowledged}"),
                "app" => {}
                _ => {
                    let ever = self.ever.lock().expect("unpoisoned");
                    let known = ever.get(&field).is_some_and(|known| known.contains(&(number % 10_000)));
                    assert!(known && number / 10_000 == key, "p:{key} has never had {field} = {value}");
                }
            }
        }
    }
}

/// The fields and values of a reply to HGETALL.
fn fields(reply: &str) -> BTreeMap<String, String> {
    let lines: Vec<&str> = reply.split("\r\n").collect();
    let texts: Vec<&str> = lines.iter().skip(2).step_by(2).copied().collect();
    texts.chunks_exact(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

impl World<'_> {
    fn sql(&self, sql: &str) {
        self.postgres.sql(sql);
    }

    fn column(&mut self) -> Option<String> {
        let names: Vec<String> = self.columns.keys().cloned().collect();
        self.random.choice(names)
    }

    /// One migration, by chance; what it was.
    fn migrate(&mut self) -> String {
        const LOCK: &str = "BEGIN; LOCK TABLE p IN ACCESS EXCLUSIVE MODE";
        match (self.random.u8(0..13), self.column()) {
            (0..=1, _) | (2..=4, None) => {
                self.made += 1;
                let (name, number) = (format!("c{}", self.random.u8(0..4)), self.made);
                if self.columns.contains_key(&name) {
                    return "nothing".into();
                }
                self.seen.note(&name, number);
                let kind = self.random.choice(["INT", "BIGINT", "TEXT"]).expect("one");
                self.sql(&format!(
                    "{LOCK}; ALTER TABLE p ADD COLUMN {name} {kind}; UPDATE p SET {name} = id * 10000 + {number}; \
                     COMMIT"
                ));
                self.columns.insert(name.clone(), number);
                format!("add {name} {kind}")
            }
            (2, Some(name)) => {
                self.columns.remove(&name);
                self.sql(&format!("ALTER TABLE p DROP COLUMN {name}"));
                format!("drop {name}")
            }
            (3, Some(name)) => {
                let new = format!("r{}", self.random.u8(0..4));
                if self.columns.contains_key(&new) {
                    return "nothing".into();
                }
                let number = self.columns.remove(&name).expect("known");
                self.seen.note(&new, number);
                self.sql(&format!("ALTER TABLE p RENAME COLUMN {name} TO {new}"));
                self.columns.insert(new.clone(), number);
                format!("rename {name} to {new}")
            }
            (4, Some(name)) => {
                let kind = self.random.choice(["INT", "BIGINT", "TEXT", "NUMERIC"]).expect("one");
                self.sql(&format!("ALTER TABLE p ALTER {name} TYPE {kind} USING {name}::text::{kind}"));
                format!("retype {name} {kind}")
            }
            (5, _) => {
                let kind = self.random.choice(["INT", "BIGINT"]).expect("one");
                self.sql(&format!("ALTER TABLE p ALTER id TYPE {kind}"));
                format!("retype the key {kind}")
            }
            (6, _) => {
                self.sql(&format!(
                    "{LOCK}; CREATE TABLE p_new (LIKE p INCLUDING ALL); INSERT INTO p_new SELECT * FROM p; \
                     ALTER TABLE p RENAME TO p_old; ALTER TABLE p_new RENAME TO p; DROP TABLE p_old; COMMIT"
                ));
                "swap".into()
            }
            (7, _) => {
                self.has_second_partition = !self.has_second_partition;
                self.sql(match self.has_second_partition {
                    true => "ALTER TABLE q ATTACH PARTITION q_2 FOR VALUES FROM (5) TO (100)",
                    false => "ALTER TABLE q DETACH PARTITION q_2",
                });
                "partition".into()
            }
            (8, _) => {
                self.sql("ALTER TABLE s RENAME TO elsewhere");
                "away".into()
            }
            (9, _) => {
                self.sql("ALTER TABLE s RENAME COLUMN id TO ident");
                "the key renamed".into()
            }
            (10, _) => self.change_children(),
            _ => {
                self.sql("VACUUM FULL p");
                "rewrite".into()
            }
        }
    }

    /// A child of `c` comes with rows of its own, or goes with them; or it is not inherited any more.
    fn change_children(&mut self) -> String {
        self.has_child = !self.has_child;
        let is_dropped = self.random.bool();
        self.sql(match (self.has_child, is_dropped) {
            (true, _) => {
                "BEGIN; CREATE TABLE IF NOT EXISTS c_child (); DROP TABLE c_child; CREATE TABLE c_child () INHERITS (c); \
                 INSERT INTO c_child SELECT i, 'c' || i FROM generate_series(5, 9) AS i; COMMIT"
            }
            (false, true) => "DROP TABLE c_child",
            (false, false) => "ALTER TABLE c_child NO INHERIT c",
        });
        if self.has_child { "a child comes" } else { "a child goes" }.into()
    }

    /// True when a client sees all of it as it is.
    fn is_right(&self, wire: &mut Wire, what: &str) -> bool {
        let key = 7;
        let mut shown = fields(&wire.ask(&format!("HGETALL p:{key}")));
        shown.retain(|field, _| field != "counter" && field != "app");
        let expected = self.columns.iter().map(|(name, n)| (name.clone(), (key * 10_000 + n).to_string()));
        let q = if self.has_second_partition { "$2\r\nq7\r\n" } else { "$-1\r\n" };
        let s = wire.ask("GET s:7");
        let s_is_right = match what {
            "away" => s.contains("there is no table 's'"),
            "the key renamed" => s.contains("has no column 'id'"),
            _ => s == "$2\r\ns7\r\n",
        };
        let c = if self.has_child { "$2\r\nc7\r\n" } else { "$-1\r\n" };
        shown == expected.collect() && wire.ask("HGET q:7 v") == q && wire.ask("HGET c:7 v") == c && s_is_right
    }
}

/// Reads everything, again and again.
fn read(seen: &Seen, mut wire: Wire) {
    let mut random = fastrand::Rng::new();
    while seen.goes_on() {
        let key = random.u64(KEYS);
        let acknowledged = seen.counters[key as usize].load(SeqCst);
        if let Some(told) = seen.reply(wire.ask(&format!("HGETALL p:{key}"))) {
            seen.judge(key, acknowledged, &told);
        }
        if let Some(told) = seen.reply(wire.ask(&format!("HGET q:{key} v"))) {
            assert!(told == format!("$2\r\nq{key}\r\n") || key >= 5 && told == "$-1\r\n", "q:{key}: {told}");
        }
        if let Some(told) = seen.reply(wire.ask(&format!("HGET c:{key} v"))) {
            assert!(told == format!("$2\r\nc{key}\r\n") || key >= 5 && told == "$-1\r\n", "c:{key}: {told}");
        }
        if let Some(told) = seen.reply(wire.ask(&format!("GET s:{key}"))) {
            assert_eq!(told, format!("$2\r\ns{key}\r\n"));
        }
    }
}

/// Counts through the sidecar.
fn write(seen: &Seen, mut wire: Wire) {
    let mut number = 0;
    while seen.goes_on() {
        number += 1;
        let key = number % 9 + 1;
        if seen.reply(wire.ask(&format!("HSET p:{key} counter {number}"))).is_some() {
            seen.counters[key as usize].store(number, SeqCst);
        }
    }
}

/// The application's own SQL; how often it ran.
fn apply(seen: &Seen, postgres: &Postgres) -> u64 {
    let (mut session, mut runs) = (postgres.session(), 0);
    while seen.goes_on() {
        runs += 1;
        assert!(session.try_run(&format!("UPDATE p SET app = app + 1 WHERE id = {};", runs % 9 + 1)), "run {runs}");
    }
    runs
}

fn install_triggers(postgres: &Postgres) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("config.toml"), CONFIG).expect("written");
    let mut install = program();
    install.current_dir(folder.path()).env("HEARTHSIDE__STORE__URL", postgres.url()).args(["triggers", "--install"]);
    let done = install.output().expect("runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn run(world: &mut World<'_>, sidecar: &Sidecar, migrations: u64) {
    let mut wire = sidecar.wire();
    for i in 0..migrations {
        let what = world.migrate();
        soon(&format!("migration {i}: {what}"), || world.is_right(&mut wire, &what));
        match what.as_str() {
            "away" => {
                world.sql("ALTER TABLE elsewhere RENAME TO s");
                soon(&format!("migration {i}: back"), || world.is_right(&mut wire, ""));
            }
            "the key renamed" => {
                world.sql("ALTER TABLE s RENAME COLUMN ident TO id");
                soon(&format!("migration {i}: its name again"), || world.is_right(&mut wire, ""));
            }
            "swap" | "a child comes" => install_triggers(world.postgres),
            _ => {}
        }
    }
}

#[test]
fn random_migrations_under_load_leave_every_mapping_right_within_seconds() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let (migrations, seed) = (setting("HEARTHSIDE_MIGRATIONS", 15), setting("HEARTHSIDE_SEED", fastrand::u64(..)));
    let expected = [warnings::UNFIT, warnings::NO_TRIGGERS, warnings::LOAD_FAILED, warnings::WRITE_FAILED];
    let sidecar = over(&redis, &postgres, CONFIG).set("STORE__SCHEMA_INTERVAL", "500ms").expect(&expected).start();
    let seen = Arc::new(Seen::default());
    let random = fastrand::Rng::with_seed(seed);
    let (columns, made) = (BTreeMap::new(), 0);
    let mut world = World {
        postgres: &postgres,
        random,
        columns,
        made,
        has_second_partition: true,
        has_child: false,
        seen: seen.clone(),
    };
    eprintln!("HEARTHSIDE_SEED={seed}");
    thread::scope(|scope| {
        let (reads, writes) = (sidecar.wire(), sidecar.wire());
        scope.spawn(|| read(&seen, reads));
        scope.spawn(|| write(&seen, writes));
        let app = scope.spawn(|| apply(&seen, &postgres));
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut world, &sidecar, migrations)));
        seen.ends.store(true, SeqCst);
        let runs = app.join().expect("the application's SQL never fails");
        let (replies, errors) = (seen.replies.load(SeqCst), seen.errors.load(SeqCst));
        eprintln!("{migrations} migrations, {replies} replies ({errors} errors of mappings), {runs} updates by SQL");
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
