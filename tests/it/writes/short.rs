//! Keys that end by a column of their row, and sooner than the store is told so: a write that comes after the end makes
//! a new key, as in Redis.

use std::time::{Duration, Instant};

use super::model::{config, on_postgres, on_sqlite};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::line;

/// What makes a key that lives for a moment, what is written when it has ended, the reply, and what the key holds then.
const WRITES: [(&[&str], &str, &str, &str); 12] = [
    (&["SET # 1 PX 10"], "SET # 2", "+OK\r\n", "$1\r\n2\r\n"),
    (&["SET # 1 PX 10"], "SET # 2 EX 500", "+OK\r\n", "$1\r\n2\r\n"),
    (&["SET # 1 PX 10"], "SET # 2 KEEPTTL", "+OK\r\n", "$1\r\n2\r\n"),
    (&["SET # 1 PX 10"], "SET # 2 NX PX 60000", "+OK\r\n", "$1\r\n2\r\n"),
    (&["SET # 1 PX 10"], "SETNX # 2", ":1\r\n", "$1\r\n2\r\n"),
    (&["SET # 1 PX 10"], "GETSET # 2", "$-1\r\n", "$1\r\n2\r\n"),
    (&["SET # 1 PX 10"], "INCR #", ":1\r\n", "$1\r\n1\r\n"),
    (&["SET # 1 PX 10"], "APPEND # 2", ":1\r\n", "$1\r\n2\r\n"),
    (&["SET # 1 PX 10"], "SET # 2 XX", "$-1\r\n", "$-1\r\n"),
    (&["HSET # n 5", "PEXPIRE # 10"], "HINCRBY # n 2", ":2\r\n", "*2\r\n$1\r\nn\r\n$1\r\n2\r\n"),
    (&["HSET # n 5", "PEXPIRE # 10"], "HSETNX # n 6", ":1\r\n", "*2\r\n$1\r\nn\r\n$1\r\n6\r\n"),
    (&["HSET # n 5", "PEXPIRE # 10"], "HSET # f a", ":1\r\n", "*2\r\n$1\r\nf\r\n$1\r\na\r\n"),
];

fn on_each(work: impl Fn(Builder)) {
    let redis = Redis::start();
    let postgres = Postgres::start();
    work(on_postgres(&redis, &postgres));
    let (builder, _folder) = on_sqlite(&redis);
    work(builder);
}

#[test]
fn a_write_after_the_end_of_a_key_makes_a_new_one_before_the_store_knows_of_the_end() {
    on_each(|builder| {
        let sidecar = builder.set("JOURNAL__FLUSH_INTERVAL", "3s").start();
        let mut wire = sidecar.wire();
        let keys: Vec<(String, &str)> =
            (1..).zip(&WRITES).map(|(i, write)| (format!("{}:{i}", kind(write.0)), write.3)).collect();
        let read = |key: &str| if key.starts_with('h') { format!("HGETALL {key}") } else { format!("GET {key}") };
        for ((key, holds), (made, write, told, _)) in keys.iter().zip(&WRITES) {
            for request in *made {
                assert!(!wire.ask(&request.replace('#', key)).starts_with('-'), "{request}");
            }
            until("it has ended", || wire.ask(&format!("EXISTS {key}")) == ":0\r\n");
            assert_eq!(wire.ask(&write.replace('#', key)), *told, "{write}");
            assert_eq!(wire.ask(&read(key)), *holds, "{write}");
        }
        until("everything is saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
        for ((key, holds), (_, write, ..)) in keys.iter().zip(&WRITES) {
            request(&sidecar, "POST", &format!("/invalidate?key={key}"));
            assert_eq!(wire.ask(&read(key)), *holds, "{write}, when it is read from the store");
        }
    });
}

fn kind(made: &[&str]) -> char {
    if made[0].starts_with('H') { 'h' } else { 's' }
}

#[test]
fn a_write_at_the_end_of_a_key_is_not_lost() {
    on_each(|builder| {
        let sidecar = builder.set("JOURNAL__FLUSH_INTERVAL", "1h").start();
        let mut wire = sidecar.wire();
        for life in (1..=40).map(|i| i % 10 + 1) {
            assert_eq!(wire.ask(&format!("SET s:a 1 PX {life}")), "+OK\r\n");
            assert_eq!(wire.ask("SET s:a 2"), "+OK\r\n");
            assert_eq!(wire.ask("GET s:a"), "$1\r\n2\r\n", "after a life of {life} ms");
            assert_eq!(wire.ask("TTL s:a"), ":-1\r\n");
            let over = Instant::now() + Duration::from_millis(life);
            until("the life that it had is over", || Instant::now() >= over);
            request(&sidecar, "POST", "/invalidate?key=s:a");
            assert_eq!(wire.ask("GET s:a"), "$1\r\n2\r\n", "after a life of {life} ms, from the store");
        }
    });
}

#[test]
fn a_row_that_ends_while_its_write_waits_for_it_is_written() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    for (row, write, told) in [
        ("strings (id, v, ends) VALUES ('a', '1'", "SET s:a 2", "+OK\r\n"),
        ("hashes (id, n, ends) VALUES (1, 5", "HINCRBY h:1 n 2", ":7\r\n"),
    ] {
        let (mut wire, mut session) = (sidecar.wire(), postgres.session());
        postgres.sql(&format!("INSERT INTO {row}, localtimestamp + interval '900 ms')"));
        let over = Instant::now() + Duration::from_millis(900);
        session.run("BEGIN; SELECT FROM strings FOR UPDATE; SELECT FROM hashes FOR UPDATE;");
        wire.send(&line(write));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("it waits", || postgres.sql(waiting) == "1");
        until("the row has ended", || Instant::now() >= over);
        session.run("COMMIT;");
        assert_eq!(String::from_utf8_lossy(&wire.frame()), told, "{write}");
    }
}

/// Each gives a key another expiry whose row says that it ends in a moment.
const PROLONGED: [&[&str]; 7] = [
    &["EXPIRE s:a 500"],
    &["GETEX s:a EX 500"],
    &["PERSIST s:a"],
    &["MULTI", "EXPIRE s:a 500", "EXEC"],
    &["MULTI", "SADD t:1 x", "EXPIRE s:a 500", "EXEC"],
    &["MULTI", "SADD t:1 x", "SET s:a 1 EX 500", "EXEC"],
    &["WATCH s:b", "MULTI", "PERSIST s:a", "EXEC"],
];

/// Does what each of these does to a key that ends in a moment, and finds it there when that is over.
fn prolong(sidecar: &Sidecar, all: &[&[&str]]) {
    let mut wire = sidecar.wire();
    for requests in all {
        assert_eq!(wire.ask("SET s:a 1 PX 600"), "+OK\r\n");
        let over = Instant::now() + Duration::from_millis(700);
        for request in *requests {
            assert!(!wire.ask(request).starts_with('-'), "{request}");
        }
        until("the life that it had is over", || Instant::now() >= over);
        request(sidecar, "POST", "/invalidate?key=s:a");
        assert_eq!(wire.ask("GET s:a"), "$1\r\n1\r\n", "{requests:?}, from the store");
        assert_eq!(wire.ask("APPEND s:a 2"), ":2\r\n", "{requests:?}");
        assert_eq!(wire.ask("DEL s:a"), ":1\r\n", "{requests:?}");
    }
}

#[test]
fn an_expiry_that_is_prolonged_just_before_its_end_is_not_lost() {
    on_each(|builder| prolong(&builder.set("JOURNAL__FLUSH_INTERVAL", "1h").start(), &PROLONGED));
}

#[test]
fn an_expiry_that_a_deferred_write_prolongs_just_before_its_end_is_not_lost() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let deferred = config().replacen("write = \"through\"", "write = \"deferred\"", 2);
    let builder = on_postgres(&redis, &postgres).config(&deferred);
    let sidecar = builder.set("JOURNAL__FLUSH_INTERVAL", "1h").start();
    prolong(&sidecar, &[&["SET s:a 1 EX 500"], &["MULTI", "SET s:a 1 EX 500", "EXEC"], &["EXPIRE s:a 500"]]);
}
