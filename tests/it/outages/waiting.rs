//! What waits for a store that does not answer: bounded in number, in bytes and in connections.

use crate::support::admin::metric;
use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::{array, line};

const CONFIG: &str =
    "[[caches]]\nkey = \"n:{id:int}\"\ntype = \"string\"\ntable = \"notes\"\nvalue = \"v\"\nwrite = \"through\"\n";

/// Of what a client may have under way, in requests.
const MOST_ENTRIES: usize = 1024;

fn patient(redis: &Redis, postgres: &Postgres) -> Builder {
    postgres.sql(
        "CREATE TABLE notes (id BIGINT PRIMARY KEY, v TEXT); INSERT INTO notes SELECT i, 'v' || i FROM \
        generate_series(1, 3000) AS i",
    );
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(CONFIG);
    let builder = builder.set("STORE__QUEUE_TIMEOUT", "1m").set("STORE__QUERY_TIMEOUT", "1m");
    builder.set("STORE__MAX_CONNECTIONS", "3").set("SERVER__WORKERS", "2").migrated()
}

/// Nobody reads or writes the table until the session ends its transaction.
fn locked(postgres: &Postgres) -> Session {
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE notes;");
    session
}

fn misses(sidecar: &Sidecar) -> usize {
    metric(sidecar, "hearthside_commands_total{route=\"cache\",outcome=\"miss\"}") as usize
}

#[test]
fn loads_that_wait_are_bounded_for_each_client_and_use_few_connections() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = patient(&redis, &postgres).start();
    let mut session = locked(&postgres);
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    wire.send(&(1..=3000).flat_map(|id| line(&format!("GET n:{id}"))).collect::<Vec<u8>>());
    other.send(&(1..=100).flat_map(|id| line(&format!("GET n:{id}"))).collect::<Vec<u8>>());
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    // One of the three turns is for other mappings.
    until("all that may are under way", || misses(&sidecar) >= MOST_ENTRIES + 100 && postgres.sql(waiting) == "2");
    // Whoever asks now is answered: the worker of the first has looked at what it was sent.
    (0..4).for_each(|_| assert_eq!(sidecar.wire().ask("GET none"), "$-1\r\n"));
    assert_eq!((misses(&sidecar), postgres.sql(waiting)), (MOST_ENTRIES + 100, "2".to_owned()));
    assert_eq!(metric(&sidecar, "hearthside_coalesced_waiters_total"), 100.0, "one load for each key");
    session.run("COMMIT;");
    for id in 1..=3000 {
        assert_eq!(String::from_utf8_lossy(&wire.frame()), format!("${}\r\nv{id}\r\n", id.to_string().len() + 1));
    }
    let opened = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%notes%' AND pid <> pg_backend_pid()";
    assert!(postgres.sql(opened).parse::<usize>().expect("a number") <= 3 + 3, "for loads, and for everything else");
}

#[test]
fn writes_that_wait_are_counted_and_bounded_in_bytes() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = patient(&redis, &postgres).set("LIMITS__PIPELINE", "2mb").start();
    let mut session = locked(&postgres);
    let mut wire = sidecar.wire();
    let value = "x".repeat(100_000);
    let mut twin = wire.twin();
    let sender = std::thread::spawn(move || {
        for id in 1..=200 {
            twin.send(&array(&["SET", &format!("n:{id}"), &value]));
        }
    });
    let held = || metric(&sidecar, "hearthside_client_buffer_bytes");
    until("all that may are under way", || held() >= 2_000_000.0);
    (0..4).for_each(|_| assert_eq!(sidecar.wire().ask("GET none"), "$-1\r\n"));
    assert!(held() <= 2_400_000.0, "{}", held());
    session.run("COMMIT;");
    (1..=200).for_each(|_| assert_eq!(wire.frame(), b"+OK\r\n"));
    sender.join().expect("sends");
    until("nothing is held", || held() == 0.0);
}
