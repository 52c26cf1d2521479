//! Short questions to the store wait for each other: that is overload, and never a store that does not answer.

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

const CONFIG: &str = r#"
[[caches]]
key = "a:{id:int}"
type = "hash"
table = "a"
write = "deferred"

[[caches]]
key = "b:{id:int}"
type = "hash"
table = "b"
write = "deferred"

[[caches]]
key = "d:{day}"
type = "hash"
table = "days"
write = "through"
"#;

#[test]
fn questions_that_wait_for_each_other_take_no_store_for_dead_and_no_transaction_waits_for_one() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE a (id INT PRIMARY KEY, n BIGINT); CREATE TABLE b (id INT PRIMARY KEY, n BIGINT); \
         INSERT INTO a VALUES (1, 0); INSERT INTO b VALUES (1, 0); CREATE TABLE days (day DATE PRIMARY KEY, v TEXT); \
         INSERT INTO days SELECT DATE '2020-01-01' + i, 'd' FROM generate_series(0, 300) AS i",
    );
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(CONFIG).migrated();
    let sidecar = builder.expect(&[warnings::DEFERRED_WAIT, warnings::LOAD_FAILED, warnings::WRITE_FAILED]).start();
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("HGET a:1 n"), wire.ask("HGET b:1 n")], ["$1\r\n0\r\n", "$1\r\n0\r\n"]);
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE hearthside.journals IN ACCESS EXCLUSIVE MODE;");
    assert_eq!([wire.ask("HSET a:1 n 1"), wire.ask("HSET b:1 n 2")], [":0\r\n", ":0\r\n"]);
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'hearthside.journals'::regclass";
    until("both connections for questions wait", || postgres.sql(waits) == "2");
    // Each asks whether its text is a date at all: more often than the circuit breaker lets anything fail.
    for day in 1..=20 {
        let write = format!("HSET d:2020-02-{day:02} v e");
        let commands = ["MULTI".into(), write, format!("HGET d:never-{day} v"), "EXEC".into()];
        wire.send(&commands.iter().flat_map(|command| line(command)).collect::<Vec<u8>>());
        let told = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).last();
        assert_eq!(told.as_deref(), Some("*2\r\n:0\r\n$-1\r\n"), "the {day}.");
        assert_eq!(wire.ask(&format!("HGET d:nonsense-{day} v")), "$-1\r\n");
    }
    session.run("ROLLBACK;");
    until("it is saved", || postgres.sql("SELECT (SELECT n FROM a), (SELECT n FROM b)") == "1|2");
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
    assert!(!sidecar.log().contains(warnings::STORE_SILENT), "{}", sidecar.log());
}
