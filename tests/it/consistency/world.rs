//! The parts under attack: one Postgres, one Redis, sidecars each behind a fault proxy, and the faults.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::places::file_of;
use crate::differential::stream::Dice;
use crate::support::free_port;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;

pub const SIDECARS: usize = 2;
pub const KEYS: usize = 48;
/// Older than this nothing may be served, whatever breaks (`cache.max_staleness`).
pub const MAX_STALENESS: Duration = Duration::from_secs(2);

/// After so long a flush is given up: a second more than a connection and a statement may take.
const DEADLINE: Duration = Duration::from_secs(3);

/// Definitions in each sidecar's file.
pub const PLACES: usize = 40;

const CONFIG: &str = r#"
[[definitions]]
key = "place:{id}"
type = "string"
file = "PLACES"

[[caches]]
key = "thing:{id:int}"
type = "hash"
table = "things"
ttl = "1h"
renew = true
expires_column = "ends"
write = "through"
deferred = ["d"]

[[caches]]
key = "fleeting:{id:int}"
type = "hash"
table = "fleeting"
write = "through"
delete = "row"

[[caches]]
key = "register:{id:int}"
type = "hash"
table = "registers"
ttl = "1h"
write = "through"
deferred = ["d"]

[[caches]]
key = "still:{id:int}"
type = "string"
value = "v"
query = "SELECT $1::bigint AS v FROM pg_sleep(0.05) AS still"
ttl = "1h"
"#;

const TABLES: &str = "CREATE TABLE things (id BIGINT PRIMARY KEY, v BIGINT, d BIGINT, other BIGINT, ends TIMESTAMPTZ); \
    INSERT INTO things SELECT i, 0, 0, 0, NULL FROM generate_series(0, 47) AS i; \
    CREATE TABLE registers (id BIGINT PRIMARY KEY, v BIGINT, d BIGINT); \
    CREATE TABLE fleeting (id BIGINT PRIMARY KEY, v BIGINT); CREATE EXTENSION pg_stat_statements;";

pub struct World {
    pub postgres: Postgres,
    redis: Mutex<Redis>,
    proxies: Vec<Proxy>,
    sidecars: Vec<Mutex<Option<Sidecar>>>,
    pub ports: Vec<u16>,
    folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let (postgres, redis) = (Postgres::start(), Redis::start());
        postgres.sql(TABLES);
        let proxies = (0..SIDECARS).map(|_| Proxy::to(postgres.port)).collect();
        let world = Self {
            postgres,
            redis: Mutex::new(redis),
            proxies,
            sidecars: (0..SIDECARS).map(|_| Mutex::new(None)).collect(),
            ports: (0..SIDECARS).map(|_| free_port()).collect(),
            folder: tempfile::tempdir().expect("a folder"),
        };
        (0..SIDECARS).for_each(|i| fs::write(world.places(i), file_of(0)).expect("written"));
        (0..SIDECARS).for_each(|i| fs::write(world.clock(i), "+0").expect("written"));
        world.builder(0).migrated();
        // Loads, writes and notices of the first overtake each other.
        world.proxies[0].delay(20);
        (0..SIDECARS).for_each(|i| world.start(i));
        world
    }

    /// The file of a sidecar's definitions.
    pub fn places(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("places{i}.json"))
    }

    /// The file that says how wrong a sidecar's wall clock is.
    fn clock(&self, i: usize) -> PathBuf {
        self.folder.path().join(format!("clock{i}"))
    }

    fn builder(&self, i: usize) -> Builder {
        let config = CONFIG.replace("PLACES", &self.places(i).display().to_string());
        let mut builder = Sidecar::builder()
            .redis(&self.redis.lock().expect("a lock"))
            .config(&config)
            .preload("faketime/libfaketime.so.1")
            .environment("FAKETIME_TIMESTAMP_FILE", self.clock(i).display().to_string())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        for (name, value) in [
            ("STORE__URL", self.postgres.url_at(self.proxies[i].port)),
            ("SERVER__LISTEN", format!("127.0.0.1:{}", self.ports[i])),
            ("JOURNAL__PATH", self.folder.path().join(format!("journal{i}.db")).display().to_string()),
            ("JOURNAL__FLUSH_INTERVAL", "200ms".into()),
            ("CACHE__MAX_STALENESS", format!("{}s", MAX_STALENESS.as_secs())),
            ("CACHE__NEGATIVE_TTL", "10s".into()),
            ("STORE__HEARTBEAT_INTERVAL", "200ms".into()),
            ("STORE__HEARTBEAT_TIMEOUT", "800ms".into()),
            ("STORE__QUERY_TIMEOUT", "1s".into()),
            ("STORE__CONNECT_TIMEOUT", "1s".into()),
            ("VERIFY__SAMPLE", "50".into()),
        ] {
            builder = builder.set(name, value);
        }
        // Trouble is what this is about; a panic, or a stale record, is not.
        builder.expect(warnings::UPSTREAM_AWAY).expect(warnings::STORE_AWAY).expect(warnings::STORE_LATE).expect(&[
            warnings::DEFERRED_WAIT,
            warnings::DEFERRED_STAY,
            warnings::STORE_TOO_SLOW,
            warnings::WAITING_FOR_THE_NOTE,
            warnings::RELOAD_WAITS,
            warnings::FAULTY_RELOAD,
            warnings::NO_ROW,
            warnings::CUT_AT_THE_END,
        ])
    }

    fn start(&self, i: usize) {
        *self.sidecars[i].lock().expect("a lock") = Some(self.builder(i).spawn());
    }

    /// One fault, from its beginning to its end.
    pub fn fault(&self, dice: &mut Dice) -> &'static str {
        let i = dice.roll(SIDECARS as u64) as usize;
        let moment = Duration::from_millis(100 + dice.roll(900));
        match dice.roll(13) {
            0 => {
                self.kill(i);
                std::thread::sleep(moment);
                self.start(i);
                "a sidecar killed and started again"
            }
            1 => {
                self.postgres.stop();
                std::thread::sleep(moment);
                self.postgres.launch();
                "Postgres stopped at once and started again"
            }
            2 => {
                let mut redis = self.redis.lock().expect("a lock");
                redis.kill();
                redis.launch();
                "Redis killed and started again"
            }
            3 | 4 => {
                self.proxies[i].cut();
                "a sidecar's store connections cut"
            }
            5 => {
                self.proxies[i].hold(true);
                std::thread::sleep(moment + MAX_STALENESS);
                self.proxies[i].hold(false);
                "a sidecar's store connections open and silent"
            }
            6 => {
                let mut session = self.postgres.session();
                // Loads go on in the first mode, and wait in the second.
                let mode = if dice.roll(2) == 0 { "EXCLUSIVE" } else { "ACCESS EXCLUSIVE" };
                session.run(&format!("BEGIN; LOCK TABLE things, fleeting, registers IN {mode} MODE;"));
                std::thread::sleep(moment);
                session.run("COMMIT;");
                "slow loads and commits: the tables locked"
            }
            7 => {
                let _away = self.postgres.try_sql("UPDATE things SET other = other + 1");
                "a mass update"
            }
            8 => {
                self.freeze_change_connections(moment + MAX_STALENESS);
                "the change connections' Postgres processes stopped"
            }
            9 => {
                // Either way, and back.
                let step = ["+0", "-240s", "+240s"][dice.roll(3) as usize];
                fs::write(self.clock(i), step).expect("written");
                "a sidecar's wall clock stepped"
            }
            10 | 11 => {
                let is_killed = dice.roll(2) == 0;
                // Before a kill its keys are often written again: the journal then holds nothing of it any more.
                let again = Duration::from_millis(dice.roll(2) * 1500);
                self.deliver_late(i, is_killed.then_some(again), moment);
                if is_killed {
                    "a flush delivered late, its sidecar killed meanwhile"
                } else {
                    "a flush delivered late"
                }
            }
            _ => {
                let terminate =
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hearthside'";
                let _away = self.postgres.try_sql(terminate);
                "every connection ended by Postgres"
            }
        }
    }

    /// Holds the next flush of a sidecar until it has been given up, or the sidecar was killed after so long and
    /// started again, and what came after it has been saved.
    fn deliver_late(&self, i: usize, killed_after: Option<Duration>, moment: Duration) {
        let late = self.proxies[i].trap("\"k\":[");
        let begun = Instant::now();
        while !late.has_caught() && begun.elapsed() < MAX_STALENESS {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(again) = killed_after {
            std::thread::sleep(again);
            self.kill(i);
            self.start(i);
        } else {
            std::thread::sleep(DEADLINE);
        }
        std::thread::sleep(moment);
        late.release();
    }

    /// SIGSTOP to the processes that serve the change feed, and SIGCONT.
    fn freeze_change_connections(&self, moment: Duration) {
        let listening = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
        let pids = self.postgres.try_sql(listening).unwrap_or_default();
        let signal = |name: &str| {
            for pid in pids.lines() {
                // It may have ended meanwhile.
                let _ended = Command::new("kill").args([name, pid]).stderr(Stdio::null()).status();
            }
        };
        signal("-STOP");
        std::thread::sleep(moment);
        signal("-CONT");
    }

    fn kill(&self, i: usize) {
        if let Some(mut sidecar) = self.sidecars[i].lock().expect("a lock").take() {
            sidecar.signal("KILL");
            while !sidecar.has_ended() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// What a sidecar's metrics and log say.
    pub fn with<T>(&self, i: usize, ask: impl FnOnce(&Sidecar) -> T) -> Option<T> {
        self.sidecars[i].lock().expect("a lock").as_ref().map(ask)
    }
}
