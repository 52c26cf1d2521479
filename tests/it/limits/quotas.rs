//! What a user or a mapping may take from the others: rates, and loads at the same time.

use crate::operations::reload::reload;
use crate::support::admin::{metric, request};
use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::{Wire, line};
use crate::support::{until, warnings};

/// Passwords: `secret` of game, `operator` of ops. `LIMITS` and `MORE` stand for what a test is about.
const CONFIG: &str = r#"
[auth]
mode = "users"
[[users]]
name = "game"
passwords = ["2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
commands = ["@all"]
keys = ["*"]
channels = ["*"]
LIMITS
[[users]]
name = "ops"
passwords = ["06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23"]
commands = ["@all"]
keys = ["*"]
channels = ["*"]
[[caches]]
key = "hero:{id:int}"
type = "hash"
table = "hero"
ttl = "1h"
MORE
[[caches]]
key = "note:{id:int}"
type = "string"
table = "note"
value = "text"
"#;

fn config(limits: &str, more: &str) -> String {
    CONFIG.replace("LIMITS", limits).replace("MORE", more)
}

fn builder(redis: &Redis, postgres: &Postgres, config: &str) -> Builder {
    postgres.sql(
        "CREATE TABLE hero (id int PRIMARY KEY, name text); CREATE TABLE note (id int PRIMARY KEY, text text); \
         INSERT INTO hero SELECT id, 'a' FROM generate_series(1, 100) id; \
         INSERT INTO note SELECT id, 'b' FROM generate_series(1, 100) id",
    );
    let builder = Sidecar::builder().config(config).redis(redis).postgres(postgres);
    builder.set("STORE__QUERY_TIMEOUT", "60s").set("STORE__QUEUE_TIMEOUT", "60s").migrated()
}

fn game(sidecar: &Sidecar) -> Wire {
    client(sidecar, "game secret")
}

fn ops(sidecar: &Sidecar) -> Wire {
    client(sidecar, "ops operator")
}

fn client(sidecar: &Sidecar, login: &str) -> Wire {
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask(&format!("AUTH {login}")), "+OK\r\n");
    wire
}

fn frames(wire: &mut Wire, count: usize) -> Vec<String> {
    (0..count).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect()
}

/// Nobody can read the table until the session commits.
fn locked(postgres: &Postgres) -> Session {
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE hero IN ACCESS EXCLUSIVE MODE;");
    session
}

const TOO_FAST: &str = "-LIMIT hearthside: the clients of the user 'game' send more than 1/h (rate of its [[users]] \
                        block); the command was not sent: slow down, or raise the limit\r\n";
const USER_RATE: &str = "hearthside_user_limited_total{user=\"game\",limit=\"rate\"}";

#[test]
fn a_users_rate_is_of_all_its_clients_and_of_no_other() {
    let redis = Redis::start();
    let text = config("rate = \"1/h\"\nburst = 20", "");
    let postgres = Postgres::start();
    let sidecar = builder(&redis, &postgres, &text).expect(&[warnings::USER_LIMITED]).start();
    let (mut one, mut other, mut neighbour) = (game(&sidecar), game(&sidecar), ops(&sidecar));
    let mut listener = game(&sidecar);
    assert_eq!(metric(&sidecar, USER_RATE), 0.0, "it is shown before anything is refused");
    listener.ask("SUBSCRIBE news");
    one.send(&[line("SET plain 1").repeat(10), line("HGET hero:1 name").repeat(10)].concat());
    let replies = frames(&mut one, 20);
    assert!(replies[..10].iter().all(|reply| reply == "+OK\r\n"), "{replies:?}");
    assert!(replies[10..19].iter().all(|reply| reply == "$1\r\na\r\n"), "{replies:?}");
    assert_eq!(replies[19], TOO_FAST, "a hit counts as any command");
    assert_eq!(other.ask("PING"), TOO_FAST);
    assert_eq!(metric(&sidecar, USER_RATE), 2.0);
    assert_eq!(neighbour.ask("PUBLISH news hello"), ":1\r\n");
    assert!(String::from_utf8_lossy(&listener.frame()).contains("hello"), "what a subscriber is told is no command");
    // Nothing of a transaction runs by itself.
    for commands in
        [["MULTI", "SET plain 2", "HGET hero:1 name", "EXEC"], ["MULTI", "SET plain 2", "SET plain 3", "EXEC"]]
    {
        one.send(&commands.map(line).concat());
        let replies = frames(&mut one, 4);
        assert_eq!(replies[..3], ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n"]);
        assert!(
            replies[3].starts_with("-EXECABORT Transaction discarded because of: LIMIT hearthside: "),
            "{replies:?}"
        );
    }
    assert_eq!(neighbour.ask("GET plain"), "$1\r\n1\r\n");
    reload(&sidecar, &config("rate = \"1000000/s\"", ""));
    until("its clients may go on", || one.ask("GET plain") == "$1\r\n1\r\n");
    until("the others, too", || other.ask("PING") == "+PONG\r\n");
    reload(&sidecar, &config("", ""));
    assert_eq!(one.ask("GET plain"), "$1\r\n1\r\n");
}

#[test]
fn a_multi_that_was_let_in_is_run_and_paid_for() {
    let redis = Redis::start();
    let postgres = Postgres::start();
    let text = config("rate = \"1/h\"\nburst = 2", "");
    let sidecar = builder(&redis, &postgres, &text).expect(&[warnings::USER_LIMITED]).start();
    let mut wire = game(&sidecar);
    wire.send(&["MULTI", "SET a 1", "SET a 2", "SET a 3", "EXEC"].map(line).concat());
    assert_eq!(frames(&mut wire, 5)[4], "*3\r\n+OK\r\n+OK\r\n+OK\r\n");
    assert_eq!(wire.ask("GET a"), TOO_FAST);
}

#[test]
fn a_users_loads_are_bounded_and_its_hits_and_followers_are_not() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres, &config("loads = 2", "")).expect(&[warnings::USER_LIMITED]).start();
    let (mut hits, mut over) = (game(&sidecar), game(&sidecar));
    assert_eq!(hits.ask("HGET hero:9 name"), "$1\r\na\r\n");
    // One command, whatever its number of keys.
    assert_eq!(hits.ask("MGET note:1 note:2 note:3"), "*3\r\n$1\r\nb\r\n$1\r\nb\r\n$1\r\nb\r\n");
    let mut session = locked(&postgres);
    let mut waiting: Vec<Wire> = (1..=2).map(|_| game(&sidecar)).collect();
    let misses = metric(&sidecar, "hearthside_misses_total{mapping=\"hero:{id:int}\"}");
    for (id, wire) in waiting.iter_mut().enumerate() {
        wire.send(&line(&format!("HGET hero:{} name", id + 1)));
    }
    until("both are being loaded", || {
        metric(&sidecar, "hearthside_misses_total{mapping=\"hero:{id:int}\"}") == misses + 2.0
    });
    let told = over.ask("HGET hero:3 name");
    assert!(
        told.starts_with("-LIMIT hearthside: keys are being loaded from the store for 2 commands of the user 'game'")
    );
    assert!(over.ask("MGET note:4 note:5").starts_with("-LIMIT hearthside: "), "of any mapping");
    assert_eq!(hits.ask("HGET hero:9 name"), "$1\r\na\r\n");
    let (mut follower, mut neighbour) = (game(&sidecar), ops(&sidecar));
    follower.send(&line("HGET hero:1 name"));
    neighbour.send(&line("HGET hero:3 name"));
    assert_eq!(metric(&sidecar, "hearthside_user_limited_total{user=\"game\",limit=\"loads\"}"), 2.0);
    session.run("COMMIT;");
    for wire in waiting.iter_mut().chain([&mut follower, &mut neighbour]) {
        assert_eq!(wire.frame(), b"$1\r\na\r\n");
    }
    assert_eq!(over.ask("HGET hero:4 name"), "$1\r\na\r\n", "the connection is as good as before");
    // One after the other, whoever has an answer may ask again.
    for id in 10..60 {
        assert_eq!(over.ask(&format!("HGET hero:{id} name")), "$1\r\na\r\n");
    }
}

#[test]
fn a_storm_of_cold_keys_of_one_mapping_leaves_loads_for_another() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres, &config("", "loads = 3")).expect(&[warnings::MAPPING_LIMITED]).start();
    let mut session = locked(&postgres);
    let (mut storm, mut neighbour) = (game(&sidecar), game(&sidecar));
    let commands: Vec<u8> = (1..=50).flat_map(|id| line(&format!("HGET hero:{id} name"))).collect();
    storm.send(&commands);
    let limited = "hearthside_mapping_limited_total{mapping=\"hero:{id:int}\",limit=\"loads\"}";
    until("what is over is refused", || metric(&sidecar, limited) == 47.0);
    assert_eq!(neighbour.ask("MGET note:1 note:2"), "*2\r\n$1\r\nb\r\n$1\r\nb\r\n");
    assert!(neighbour.ask("WATCH hero:60").starts_with("-LIMIT hearthside: keys of the mapping 'hero:{id:int}' are"));
    session.run("COMMIT;");
    let replies = frames(&mut storm, 50);
    assert!(replies[..3].iter().all(|reply| reply == "$1\r\na\r\n"), "{replies:?}");
    assert!(replies[3..].iter().all(|reply| reply.starts_with("-LIMIT hearthside: ")), "{replies:?}");
    assert_eq!(storm.ask("HGET hero:50 name"), "$1\r\na\r\n");
}

#[test]
fn a_mappings_rate_is_of_loads_and_a_reload_changes_it_without_forgetting_anything() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let text = config("", "load_rate = \"1/h\"\nload_burst = 5");
    let sidecar = builder(&redis, &postgres, &text).expect(&[warnings::MAPPING_LIMITED]).start();
    let limited = "hearthside_mapping_limited_total{mapping=\"hero:{id:int}\",limit=\"load_rate\"}";
    assert_eq!(metric(&sidecar, limited), 0.0);
    let mut wire = game(&sidecar);
    for id in [1, 1, 2, 3, 1, 4, 5, 2] {
        assert_eq!(wire.ask(&format!("HGET hero:{id} name")), "$1\r\na\r\n");
    }
    let told = wire.ask("HGET hero:6 name");
    assert!(
        told.starts_with("-LIMIT hearthside: more than 1/h of the mapping 'hero:{id:int}' would be loaded"),
        "{told}"
    );
    assert_eq!(wire.ask("HGET hero:5 name"), "$1\r\na\r\n", "hits are answered");
    let told = ["MULTI", "HGET hero:5 name", "HGET hero:6 name", "EXEC"].map(|command| wire.ask(command));
    assert!(told[3].starts_with("*2\r\n$1\r\na\r\n-LIMIT hearthside: "), "{told:?}");
    assert_eq!(metric(&sidecar, limited), 2.0);
    // What nobody waits for is not counted: a key that was read and has changed is loaded again.
    postgres.sql("UPDATE hero SET name = 'z' WHERE id = 1");
    until("it is loaded again", || wire.ask("HGET hero:1 name") == "$1\r\nz\r\n");
    let (loads, ok) = ("hearthside_load_seconds_count", "$1\r\na\r\n");
    let before = metric(&sidecar, loads);
    reload(&sidecar, &config("", "load_rate = \"1000/s\""));
    assert_eq!(wire.ask("HGET hero:5 name"), ok);
    assert_eq!(metric(&sidecar, loads), before, "it is still in memory");
    assert_eq!(wire.ask("HGET hero:6 name"), ok);
}

#[test]
fn a_reload_that_brings_another_mapping_leaves_taken_what_is_taken() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let limits = "load_rate = \"1/h\"\nload_burst = 3\nloads = 1";
    let text = config("rate = \"1000/s\"", limits);
    let sidecar = builder(&redis, &postgres, &text).expect(&[warnings::MAPPING_LIMITED, warnings::NO_TRIGGERS]).start();
    let (mut first, mut second) = (ops(&sidecar), ops(&sidecar));
    assert_eq!(first.ask("HGET hero:1 name"), "$1\r\na\r\n");
    let mut session = locked(&postgres);
    first.send(&line("HGET hero:2 name"));
    let is_waiting = || postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock'");
    until("it is loaded", || is_waiting() != "0");
    let more = "[[caches]]\nkey = \"other:{id:int}\"\ntype = \"string\"\ntable = \"note\"\nvalue = \"text\"\n";
    reload(&sidecar, &(config("", limits) + more));
    assert!(second.ask("HGET hero:3 name").contains("are being loaded from the store for 1 commands"));
    session.run("COMMIT;");
    assert_eq!(first.frame(), b"$1\r\na\r\n");
    assert_eq!(second.ask("HGET hero:3 name"), "$1\r\na\r\n");
    assert!(second.ask("HGET hero:4 name").contains("more than 1/h"), "three tokens are gone");
    // The limit of the user was taken out, and what is counted of it is not shown any more.
    let shown = request(&sidecar, "GET", "/metrics").1;
    assert!(!shown.contains("user_limited_total{") && shown.contains("mapping_limited_total{"), "{shown}");
}
