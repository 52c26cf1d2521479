//! Failures stay where they are: a locked table, slow statements and commands of any length concern their own mapping,
//! and neither the others nor the change feed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{array, line};

const CONFIG: &str = r#"
[[caches]]
key = "a:{id:int}"
type = "hash"
table = "a"
overflow = "more"
write = "through"

[[caches]]
key = "b:{id:int}"
type = "string"
table = "b"
value = "v"
write = "through"

[[caches]]
key = "m:{id:int}"
type = "set"
table = "m"
value = "member"
write = "through"

[[caches]]
key = "slow:{id:int}"
type = "string"
query = "SELECT v FROM b, pg_sleep(0.05 + 0 * $1::int) WHERE id = $1"
value = "v"
watch = [{ table = "b", key = { id = "id" } }]
"#;

const TABLES: [&str; 3] = [
    "CREATE TABLE a (id BIGINT PRIMARY KEY, hp BIGINT, more JSON)",
    "CREATE TABLE b (id BIGINT PRIMARY KEY, v TEXT)",
    "CREATE TABLE m (id BIGINT, member TEXT, PRIMARY KEY (id, member))",
];

/// The tables, with rows.
fn postgres() -> Postgres {
    let postgres = Postgres::start();
    TABLES.iter().for_each(|table| drop(postgres.sql(table)));
    postgres.sql("INSERT INTO a SELECT i, 10 FROM generate_series(1, 5000) AS i");
    postgres.sql("INSERT INTO b SELECT i, 'v' || i FROM generate_series(1, 20000) AS i");
    postgres
}

/// A sidecar that waits for little.
fn builder(redis: &Redis, postgres: &Postgres) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(CONFIG).set("SERVER__WORKERS", "2");
    let builder = builder.set("STORE__QUERY_TIMEOUT", "500ms").set("STORE__QUEUE_TIMEOUT", "500ms");
    let builder = builder.set("STORE__HEARTBEAT_INTERVAL", "100ms").set("STORE__HEARTBEAT_TIMEOUT", "2s");
    builder.expect(&[warnings::LOAD_FAILED, warnings::WRITE_FAILED]).migrated()
}

fn overloads(sidecar: &Sidecar, mapping: &str) -> f64 {
    metric(sidecar, &format!("hearthside_overloads_total{{mapping=\"{mapping}:{{id:int}}\"}}"))
}

/// Nobody took the store for dead, and nothing was forgotten.
fn all_else_is_well(sidecar: &Sidecar) {
    assert_eq!(metric(sidecar, "hearthside_gaps_total"), 0.0);
    assert_eq!(metric(sidecar, "hearthside_store_up"), 1.0);
    assert!(!sidecar.log().contains("the store's health changed"), "{}", sidecar.log());
    assert!(!sidecar.log().contains(warnings::STORE_SILENT), "{}", sidecar.log());
}

/// Ends a siege, also when the test fails.
struct Siege<'s>(&'s AtomicBool);

impl Drop for Siege<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Clients that send requests, each for a key of its own, until `meanwhile` is over. The last of their replies must be
/// `served`, or the error that the mapping is overloaded.
fn besiege(sidecar: &Sidecar, clients: usize, requests: &[&str], served: &str, meanwhile: impl FnOnce()) {
    let (is_over, next) = (AtomicBool::new(false), AtomicUsize::new(1));
    thread::scope(|scope| {
        let _siege = Siege(&is_over);
        for _ in 0..clients {
            scope.spawn(|| {
                let mut wire = sidecar.wire();
                while !is_over.load(SeqCst) {
                    let id = next.fetch_add(1, SeqCst).to_string();
                    wire.send(
                        &requests
                            .iter()
                            .flat_map(|request| line(&request.replace(":N", &format!(":{id}"))))
                            .collect::<Vec<u8>>(),
                    );
                    let told = requests.iter().map(|_| wire.frame()).last().expect("a reply");
                    let told = String::from_utf8_lossy(&told);
                    assert!(told == served || told.contains("overloaded"), "{told}");
                }
            });
        }
        meanwhile();
    });
}

#[test]
fn a_locked_table_is_the_outage_of_its_own_mapping_alone() {
    let (redis, postgres) = (Redis::start(), postgres());
    let sidecar = builder(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("GET b:20000"), "$6\r\nv20000\r\n");
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE a;");
    besiege(&sidecar, 20, &["HGET a:N hp"], "$2\r\n10\r\n", || {
        let mut id = 0;
        // Through several rounds of timeouts.
        until("its loads are refused", || {
            id += 1;
            assert_eq!(wire.ask(&format!("GET b:{id}")), format!("${}\r\nv{id}\r\n", format!("v{id}").len()));
            assert_eq!(wire.ask(&format!("SET b:{id} new")), "+OK\r\n");
            overloads(&sidecar, "a") >= 60.0
        });
        session.run("ROLLBACK;");
    });
    assert_eq!(overloads(&sidecar, "b"), 0.0);
    let loads = metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    assert_eq!(wire.ask("GET b:20000"), "$6\r\nv20000\r\n");
    assert_eq!(metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}"), loads, "it is still in memory");
    until("the table is served again", || wire.ask("HGET a:4999 hp") == "$2\r\n10\r\n");
    all_else_is_well(&sidecar);
}

#[test]
fn transactions_that_wait_for_rows_hold_up_neither_the_feed_nor_other_mappings() {
    let (redis, postgres) = (Redis::start(), postgres());
    let sidecar = builder(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("GET b:20000"), "$6\r\nv20000\r\n");
    let mut session = postgres.session();
    session.run("BEGIN; SELECT FROM a WHERE id <= 4000 FOR UPDATE;");
    besiege(&sidecar, 16, &["MULTI", "HINCRBY a:N hp 1", "EXEC"], "*1\r\n:11\r\n", || {
        let mut id = 0;
        until("transactions are refused", || {
            id += 1;
            let transaction = ["MULTI".to_owned(), format!("SET b:{id} x"), "EXEC".to_owned()];
            wire.send(&transaction.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
            let told = [(); 3].map(|()| String::from_utf8_lossy(&wire.frame()).into_owned());
            assert_eq!(told, ["+OK\r\n", "+QUEUED\r\n", "*1\r\n+OK\r\n"]);
            overloads(&sidecar, "a") >= 40.0
        });
        session.run("ROLLBACK;");
    });
    let loads = metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    assert_eq!(wire.ask("GET b:20000"), "$6\r\nv20000\r\n");
    assert_eq!(metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}"), loads, "it is still in memory");
    all_else_is_well(&sidecar);
}

#[test]
fn loads_that_come_faster_than_they_are_done_wait_in_turn_and_are_refused_as_overload() {
    let (redis, postgres) = (Redis::start(), postgres());
    let sidecar = builder(&redis, &postgres).start();
    // 400 loads of 50 ms: more than the time that they may wait.
    let mut wires: Vec<_> = (0..100).map(|_| sidecar.wire()).collect();
    for (client, wire) in wires.iter_mut().enumerate() {
        let ids = client * 4 + 1..client * 4 + 5;
        wire.send(&ids.flat_map(|id| line(&format!("GET slow:{id}"))).collect::<Vec<u8>>());
    }
    let replies: Vec<String> = wires
        .iter_mut()
        .flat_map(|wire| [(); 4].map(|()| String::from_utf8_lossy(&wire.frame()).into_owned()))
        .collect();
    let served = replies.iter().filter(|reply| reply.contains("\r\nv")).count();
    let refused =
        replies.iter().filter(|reply| reply.contains("overloaded") && reply.contains("queue_timeout")).count();
    assert!(served >= 8 && refused > 0 && served + refused == 400, "{served} served, {refused} refused");
    all_else_is_well(&sidecar);
    // With more patience all of them are served.
    let sidecar = builder(&redis, &postgres).set("STORE__QUEUE_TIMEOUT", "1m").start();
    let mut wire = sidecar.wire();
    wire.send(&(1..=200).flat_map(|id| line(&format!("GET slow:{id}"))).collect::<Vec<u8>>());
    (1..=200).for_each(|id| assert!(String::from_utf8_lossy(&wire.frame()).ends_with(&format!("v{id}\r\n"))));
}

#[test]
fn a_locked_table_of_definitions_holds_up_no_others() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut config = String::new();
    for table in ["one", "two"] {
        postgres
            .sql(&format!("CREATE TABLE {table} (id TEXT PRIMARY KEY, v TEXT); INSERT INTO {table} VALUES ('a', '1')"));
        config += &format!(
            "[[definitions]]\nkey = \"{table}:{{id}}\"\ntype = \"string\"\ntable = \"{table}\"\nvalue = \"v\"\n"
        );
    }
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).migrated();
    let builder = builder.set("STORE__QUERY_TIMEOUT", "300ms").expect(&[warnings::DEFINITIONS_NOT_LOADED]);
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE one;");
    assert_eq!(request(&sidecar, "POST", "/invalidate?key=one:a").0, 200);
    let failed = || metric(&sidecar, "hearthside_reloads_total{outcome=\"error\"}");
    for round in 2..5 {
        let before = failed();
        until("it is tried again", || failed() > before);
        postgres.sql(&format!("UPDATE two SET v = '{round}'"));
        until("the change shows", || wire.ask("GET two:a") == format!("$1\r\n{round}\r\n"));
        assert_eq!(wire.ask("GET one:a"), "$1\r\n1\r\n", "the last good version stays");
    }
    session.run("UPDATE one SET v = '2'; COMMIT;");
    until("the change shows", || wire.ask("GET one:a") == "$1\r\n2\r\n");
    all_else_is_well(&sidecar);
}

/// `command key` with so many arguments, or pairs of them.
fn many(command: &str, count: usize, is_pairs: bool) -> Vec<u8> {
    let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    for i in 0..count {
        words.push(format!("f{i}"));
        if is_pairs {
            words.push(i.to_string());
        }
    }
    array(&words)
}

fn commands_of_any_length_are_done(sidecar: &Sidecar) {
    let mut wire = sidecar.wire();
    for (request, reply) in [
        (many("HSET a:1", 35_000, true), ":35000\r\n"),
        (line("HLEN a:1"), ":35001\r\n"),
        (line("HGET a:1 f34999"), "$5\r\n34999\r\n"),
        (many("HSET a:6001", 100, true), ":100\r\n"),
        (many("HDEL a:1", 34_999, false), ":34999\r\n"),
        (line("HGETALL a:1"), "*4\r\n$2\r\nhp\r\n$2\r\n10\r\n$6\r\nf34999\r\n$5\r\n34999\r\n"),
        (many("SADD m:1", 70_000, false), ":70000\r\n"),
        (many("SADD m:1", 70_001, false), ":1\r\n"),
        (line("SCARD m:1"), ":70001\r\n"),
        (many("SREM m:1", 70_000, false), ":70000\r\n"),
        (line("SMEMBERS m:1"), "*1\r\n$6\r\nf70000\r\n"),
    ] {
        wire.send(&request);
        assert_eq!(String::from_utf8_lossy(&wire.frame()), reply);
    }
    wire.send(&[line("MULTI"), many("HSET a:2", 100, true), many("SADD m:2", 70_000, false), line("EXEC")].concat());
    let told = [(); 4].map(|()| String::from_utf8_lossy(&wire.frame()).into_owned());
    assert_eq!(told, ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", "*2\r\n:100\r\n:70000\r\n"]);
    assert_eq!(wire.ask("GET b:5"), "$2\r\nv5\r\n");
}

#[test]
fn commands_of_any_length_are_one_statement() {
    let (redis, postgres) = (Redis::start(), postgres());
    let sidecar = builder(&redis, &postgres).set("STORE__QUERY_TIMEOUT", "30s").start();
    commands_of_any_length_are_done(&sidecar);
    all_else_is_well(&sidecar);
}

#[test]
fn commands_of_any_length_are_done_in_the_embedded_store() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let url = format!("sqlite://{}", folder.path().join("store.db").display());
    let builder = Sidecar::builder().redis(&redis).set("STORE__URL", url);
    assert!(builder.execute(&["migrate"]).status.success());
    let mut sql: Vec<String> = TABLES.iter().map(|&table| table.to_owned()).collect();
    sql.push("INSERT INTO a VALUES (1, 10, NULL), (2, 10, NULL); INSERT INTO b VALUES (5, 'v5')".to_owned());
    let mut sqlite = std::process::Command::new("sqlite3");
    let made = sqlite.arg(folder.path().join("store.db")).arg(sql.join(";")).status();
    assert!(made.expect("sqlite3 is installed (scripts/test installs it)").success());
    let sidecar = builder.config(CONFIG.split("[[caches]]\nkey = \"slow").next().expect("the rest")).start();
    commands_of_any_length_are_done(&sidecar);
}
