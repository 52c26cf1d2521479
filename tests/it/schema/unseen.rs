//! Changes of the schema that cannot be seen: what is in memory is held to `cache.max_staleness` all the same.

use super::{over, soon};
use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;

const TABLES: &str = "CREATE TABLE q (id INT PRIMARY KEY, v TEXT) PARTITION BY RANGE (id); \
    CREATE TABLE q_1 PARTITION OF q FOR VALUES FROM (0) TO (5); \
    CREATE TABLE q_2 PARTITION OF q FOR VALUES FROM (5) TO (9); INSERT INTO q VALUES (1, 'a'), (7, 'b'); \
    CREATE TABLE r (id INT PRIMARY KEY, v TEXT); INSERT INTO r VALUES (1, 'a');";

const MAPPINGS: &str = "[[caches]]\nkey = \"q:{id:int}\"\ntype = \"hash\"\ntable = \"q\"\n\
    [[caches]]\nkey = \"r:{id:int}\"\ntype = \"hash\"\ntable = \"r\"\n";

fn started(redis: &Redis, postgres: &Postgres) -> Sidecar {
    postgres.sql(TABLES);
    let builder = over(redis, postgres, MAPPINGS).set("CACHE__MAX_STALENESS", "1s").set("CACHE__NEGATIVE_TTL", "1h");
    let builder = builder.set("STORE__SCHEMA_INTERVAL", "100ms").set("STORE__QUERY_TIMEOUT", "500ms");
    let builder = builder.set("STORE__HEARTBEAT_INTERVAL", "100ms").set("STORE__HEARTBEAT_TIMEOUT", "500ms");
    builder.set("VERIFY__SAMPLE", "0").expect(&[warnings::LOAD_FAILED]).start()
}

/// A session that keeps everybody else from a table until it is dropped.
fn locked(postgres: &Postgres, table: &str) -> Session {
    let mut session = postgres.session();
    session.run(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;"));
    session
}

#[test]
fn nothing_older_than_the_bound_is_served_while_the_catalog_cannot_be_read() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = started(&redis, &postgres);
    let mut wire = sidecar.wire();
    let (away, back) =
        ("ALTER TABLE q DETACH PARTITION q_2", "ALTER TABLE q ATTACH PARTITION q_2 FOR VALUES FROM (5) TO (9)");
    assert_eq!(wire.ask("HGET q:7 v"), "$1\r\nb\r\n");
    // The watch reads it, and no load does.
    let mut catalog = locked(&postgres, "pg_catalog.pg_policy");
    postgres.sql(away);
    soon("its absence is seen", || wire.ask("HGET q:7 v") == "$-1\r\n");
    postgres.sql(back);
    soon("it is there again", || wire.ask("HGET q:7 v") == "$1\r\nb\r\n");
    catalog.run("COMMIT;");
}

#[test]
fn nothing_older_than_the_bound_is_served_while_a_changed_table_cannot_be_planned() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = started(&redis, &postgres);
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET r:1 v"), "$1\r\na\r\n");
    let mut session = locked(&postgres, "r");
    // The next transaction has the lock before anybody else looks at the table.
    session.run("ALTER TABLE r ALTER v TYPE VARCHAR USING v || 'x';");
    let mut next = postgres.session();
    let waiting = std::thread::spawn(move || {
        next.run("BEGIN; LOCK TABLE r IN ACCESS EXCLUSIVE MODE;");
        next
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'r'::regclass AND NOT granted";
    soon("the next waits", || postgres.sql(waits) == "1");
    session.run("COMMIT;");
    let mut next = waiting.join().expect("the lock");
    soon("the old value is not served", || wire.ask("HGET r:1 v").starts_with('-'));
    next.run("COMMIT;");
    soon("the new one is", || wire.ask("HGET r:1 v") == "$2\r\nax\r\n");
}
