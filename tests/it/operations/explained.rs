//! EXPLAIN names the owner of a key, what is known of it, and what made it go: for generated histories over both stores
//! the cause that the test made.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::looks::facts;
use crate::differential::stream::Dice;
use crate::support::admin::request;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;
use crate::support::{setting, until, warnings};

const CONFIG: &str = r#"
[[caches]]
key = "u:{id:int}"
type = "hash"
table = "users"
write = "through"
ttl = "1h"

[[caches]]
key = "blob:{id:int}"
type = "string"
query = "SELECT body AS v FROM blobs WHERE id = $1"
watch = [{ table = "blobs" }]
value = "v"
ttl = "1h"
"#;

const TABLES: &str = "CREATE TABLE users (id integer PRIMARY KEY, name text, score integer);
    CREATE TABLE blobs (id integer PRIMARY KEY, body text);
    INSERT INTO users VALUES (1, 'a', 0), (2, 'b', 0), (3, 'c', 0);";

/// What happens to a key that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    SqlChange,
    OwnWrite,
    Ttl,
    Eviction,
    Gap,
    Reload,
    OtherMappings,
    Command,
    Fleeting,
}

const EVENTS: [Event; 9] = [
    Event::SqlChange,
    Event::OwnWrite,
    Event::Ttl,
    Event::Eviction,
    Event::Gap,
    Event::Reload,
    Event::OtherMappings,
    Event::Command,
    Event::Fleeting,
];

enum World {
    Postgres(Postgres),
    Sqlite(PathBuf),
}

impl World {
    fn sql(&self, sql: &str) {
        match self {
            Self::Postgres(postgres) => drop(postgres.sql(sql)),
            Self::Sqlite(file) => {
                let told = Command::new("sqlite3").args(["-cmd", ".timeout 5000"]).arg(file).arg(sql).output();
                let told = told.expect("sqlite3 is installed");
                assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
            }
        }
    }

    /// The cause that is to be named, with its scope.
    fn expected(&self, event: Event) -> (&'static str, &'static str) {
        match (event, self) {
            (Event::SqlChange | Event::Fleeting, Self::Postgres(_)) => ("change", "key"),
            // What somebody else changes in a file of SQLite is not told by rows.
            (Event::SqlChange | Event::Fleeting, Self::Sqlite(_)) => ("store_changed", "mapping"),
            (Event::OwnWrite, _) => ("write", "key"),
            (Event::Ttl, _) => ("ttl", "key"),
            (Event::Eviction, _) => ("eviction", "key"),
            (Event::Gap, _) => ("gap", "mapping"),
            (Event::Reload | Event::OtherMappings, _) => ("reload", "mapping"),
            (Event::Command, _) => ("command", "key"),
        }
    }

    fn can(&self, event: Event) -> bool {
        event != Event::Gap || matches!(self, Self::Postgres(_))
    }
}

fn explained(sidecar: &Sidecar, key: &str) -> Value {
    facts(sidecar, &format!("/api/key?key={key}"))
}

struct History {
    world: World,
    sidecar: Sidecar,
    wire: Wire,
    dice: Dice,
    count: u64,
    /// The id of the client, and the command by which it last wrote.
    id: String,
    command: String,
    /// Changes of a file that were told again.
    late: u64,
}

impl History {
    fn of(world: World, sidecar: Sidecar) -> Self {
        let mut wire = sidecar.wire();
        wire.ask("CLIENT SETNAME the-app");
        let id = wire.ask("CLIENT ID").trim_start_matches(':').trim_end().to_owned();
        Self { world, sidecar, wire, dice: Dice(seed()), count: 0, id, command: String::new(), late: 0 }
    }

    /// Another number each time.
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// The key is written by one command or another.
    fn write(&mut self, id: u64, number: u64) {
        let (command, reply) = match number % 3 {
            0 => (format!("HSET u:{id} score {number}"), ":0\r\n"),
            1 => (format!("HMSET u:{id} score {number}"), "+OK\r\n"),
            _ => {
                assert_eq!(self.wire.ask("MULTI"), "+OK\r\n");
                assert_eq!(self.wire.ask(&format!("HSET u:{id} score {number}")), "+QUEUED\r\n");
                ("EXEC".to_owned(), "*1\r\n:0\r\n")
            }
        };
        assert_eq!(self.wire.ask(&command), reply);
        self.command = command.split(' ').next().unwrap_or_default().to_owned();
    }

    fn cause(&mut self, event: Event, id: u64) {
        let number = self.next();
        match event {
            Event::SqlChange | Event::Fleeting => {
                self.world.sql(&format!("UPDATE users SET score = {number} WHERE id = {id}"))
            }
            Event::OwnWrite => self.write(id, number),
            Event::Ttl => assert_eq!(self.wire.ask(&format!("PEXPIRE u:{id} 20")), ":1\r\n"),
            Event::Eviction => {
                for blob in 0..12 {
                    self.wire.ask(&format!("STRLEN blob:{}", number * 12 + blob));
                }
            }
            Event::Gap => {
                self.world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
            }
            Event::Reload => assert_eq!(request(&self.sidecar, "POST", "/reload").0, 200),
            Event::OtherMappings => {
                self.sidecar.configure(&CONFIG.replace("1h", &format!("{}s", 3600 + number)));
                self.sidecar.signal("HUP");
            }
            Event::Command if number.is_multiple_of(2) => {
                assert_eq!(self.wire.ask(&format!("HEARTHSIDE INVALIDATE u:{id}")), ":1\r\n");
            }
            Event::Command => assert_eq!(self.wire.ask(&format!("DEL u:{id}")), ":1\r\n"),
        }
    }

    /// The key is read, something happens to it, and that is what is told.
    fn step(&mut self) {
        let (event, id) = (*self.dice.pick(&EVENTS), 1 + self.dice.roll(3));
        if !self.world.can(event) {
            return;
        }
        let key = format!("u:{id}");
        let read = |wire: &mut Wire| assert!(wire.ask(&format!("HGET {key} name")).starts_with('$'));
        until("it is in memory", || {
            read(&mut self.wire);
            explained(&self.sidecar, &key)["state"] == "in memory"
        });
        let before = explained(&self.sidecar, &key);
        assert_eq!(
            (&before["owner"], &before["is_there"], &before["type"]),
            (&"cached".into(), &true.into(), &"hash".into())
        );
        self.cause(event, id);
        let then = |explanation: &Value| explanation["forgotten"]["at"] != before["forgotten"]["at"];
        until(&format!("{event:?} has happened to {key}"), || then(&explained(&self.sidecar, &key)));
        let after = explained(&self.sidecar, &key);
        let told = (after["forgotten"]["cause"].as_str(), after["forgotten"]["scope"].as_str());
        let (cause, scope) = self.world.expected(event);
        // A file that was changed is seen once more where whoever changed it closes it later.
        if told.0 == Some("store_changed") && cause != "store_changed" && self.late < 5 {
            self.late += 1;
            return;
        }
        assert_eq!(told, (Some(cause), Some(scope)), "{event:?}\nbefore {before}\nafter {after}");
        if event == Event::OwnWrite {
            let why = after["forgotten"]["why"].as_str().unwrap_or_default();
            let ends = format!(", by client {} \"the-app\" ({})", self.id, self.command);
            assert!(why.ends_with(&ends), "{ends}: {after}");
        }
        if cause == "change" {
            assert!(after["forgotten"]["why"].as_str().is_some_and(|why| why.ends_with(" in table users")), "{after}");
        }
    }

    fn run(&mut self) {
        // Blobs are there, so that reading them fills memory.
        self.world.sql(match self.world {
            World::Postgres(_) => "INSERT INTO blobs SELECT i, repeat('x', 20000) FROM generate_series(0, 20000) i",
            World::Sqlite(_) => {
                "INSERT INTO blobs SELECT value, printf('%.*c', 20000, 'x') FROM generate_series(0, 20000)"
            }
        });
        let steps = setting("HEARTHSIDE_STEPS", 60);
        (0..steps).for_each(|_| self.step());
    }
}

fn seed() -> u64 {
    let seed = setting("HEARTHSIDE_SEED", fastrand::u64(1..));
    eprintln!("explained: HEARTHSIDE_SEED={seed}");
    seed
}

fn builder(redis: &Redis) -> crate::support::sidecar::Builder {
    let builder = Sidecar::builder().redis(redis).config(CONFIG).set("CACHE__MAX_BYTES", "100kb");
    builder.expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED])
}

#[test]
fn the_cause_that_a_history_made_is_named_over_postgres() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let sidecar = builder(&redis).postgres(&postgres).migrated().start();
    History::of(World::Postgres(postgres), sidecar).run();
}

#[test]
fn the_cause_that_a_history_made_is_named_over_sqlite() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let world = World::Sqlite(folder.path().join("world.db"));
    world.sql(TABLES);
    let url = format!("sqlite://{}", folder.path().join("world.db").display());
    let sidecar = builder(&redis).set("STORE__URL", url).start();
    History::of(world, sidecar).run();
}

#[test]
fn the_owner_the_statement_and_the_plan_are_told_and_never_a_value() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(&format!("{TABLES} UPDATE users SET name = 'a-secret-value' WHERE id = 1"));
    let sidecar = builder(&redis).postgres(&postgres).migrated().start();
    let mut wire = sidecar.wire();
    let untouched = explained(&sidecar, "u:1");
    assert_eq!((&untouched["mapping"], &untouched["state"]), (&"u:{id:int}".into(), &"not in memory".into()));
    assert!(wire.ask("HGETALL u:1").contains("a-secret-value"));
    let known = explained(&sidecar, "u:1");
    assert!(known["statement"].as_str().is_some_and(|sql| sql.contains("users") && sql.contains("$1")), "{known}");
    assert_eq!(known["parameters"], Value::from(vec!["1"]));
    assert!(known["ttl_ms"].as_i64().is_some_and(|ttl| ttl > 3_000_000), "{known}");
    assert!(known["bytes"].as_u64().is_some_and(|bytes| bytes > 20), "{known}");
    assert_eq!((&known["epoch"], &known["plan"]), (&known["mapping_epoch"], &Value::Null));
    let planned = facts(&sidecar, "/api/key?key=u:1&plan");
    assert!(planned["plan"][0].as_str().is_some_and(|line| line.contains("cost=")), "{planned}");
    for reply in [wire.ask("HEARTHSIDE EXPLAIN u:1"), wire.ask("HEARTHSIDE EXPLAIN u:1 PLAN"), known.to_string()] {
        assert!(reply.contains("in memory") && !reply.contains("secret"), "{reply}");
    }
    wire.ask("HGETALL u:99");
    let absent = explained(&sidecar, "u:99");
    assert_eq!((&absent["state"], &absent["is_there"]), (&"in memory".into(), &false.into()), "{absent}");
    postgres.sql("INSERT INTO users VALUES (99, 'new', 0)");
    until("an insert ends that", || explained(&sidecar, "u:99")["forgotten"]["cause"] == "change");
    for (key, why) in [("other:1", "no mapping's pattern matches"), ("u:x", "the pattern 'u:{id:int}' would match if")]
    {
        let theirs = explained(&sidecar, key);
        assert_eq!(theirs["owner"], "upstream");
        assert!(theirs["why"].as_str().is_some_and(|told| told.starts_with(why)), "{theirs}");
    }
    assert!(wire.ask("HEARTHSIDE EXPLAIN other:1 PLAN").starts_with("-ERR hearthside: there is no plan"));
    assert_eq!(request(&sidecar, "GET", "/api/key?key=other:1&plan").0, 409);
    assert!(wire.ask("HEARTHSIDE EXPLAIN").starts_with("-ERR "));
}

#[test]
fn definitions_and_sqlites_plans_are_explained_too() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let apple = explained(&sidecar, "item:apple:def");
    let told = (&apple["owner"], &apple["state"], &apple["is_there"], &apple["type"]);
    assert_eq!(told, (&"definition".into(), &"in memory".into(), &true.into(), &"hash".into()));
    assert_eq!(explained(&sidecar, "item:nosuch:def")["is_there"], false);
    let planned = facts(&sidecar, "/api/key?key=player:1:session&plan");
    assert!(planned["plan"][0].as_str().is_some_and(|line| line.contains("sessions")), "{planned}");
}
