//! One reply made of many values: what it costs while it is made, and where it ends.

use std::io::Write;

use super::memory::{MEGABYTE, cut, limited, most, wait_for_the_end, warm};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::{connect_narrow, line};

/// A hash, a string and cached strings of 1 MiB each.
const CONFIG: &str = "\
[[definitions]]\nkey = \"big:{id}\"\ntype = \"hash\"\nquery = \"SELECT 'one' AS id, hex(zeroblob(524288)) AS text\"\n
[[definitions]]\nkey = \"text:{id}\"\ntype = \"string\"\nvalue = \"text\"\n\
query = \"SELECT 'one' AS id, hex(zeroblob(524288)) AS text\"\n
[[caches]]\nkey = \"row:{id:int}\"\ntype = \"string\"\nvalue = \"text\"\nttl = \"1h\"\n\
query = \"SELECT hex(zeroblob(524288)) AS text WHERE $1 > 0\"\n";

fn transaction(commands: &[u8]) -> Vec<u8> {
    [&line("MULTI"), commands, &line("EXEC")].concat()
}

fn mget(keys: &str) -> Vec<u8> {
    line(format!("MGET {keys}").trim_end())
}

#[test]
fn a_reply_of_many_values_costs_little_more_than_all_may_hold() {
    let redis = Redis::start();
    redis.wire().call(&["SET", "mb", &"v".repeat(MEGABYTE)]);
    let owned = line("HGET big:one text");
    let kinds = [
        ("EXEC of owned reads", transaction(&owned.repeat(3000))),
        ("EXEC of both", transaction(&[owned, line("GET mb").repeat(3000)].concat())),
        ("MGETs of owned keys", mget(&"text:one ".repeat(60)).repeat(100)),
        ("MGETs of both", mget(&"text:one mb ".repeat(30)).repeat(100)),
    ];
    let costs = kinds.map(|(kind, requests)| {
        let sidecar = limited(&redis).config(CONFIG).start();
        let before = warm(&sidecar);
        let mut deaf = connect_narrow(sidecar.port);
        deaf.write_all(&requests).expect("sends");
        wait_for_the_end(&sidecar, 8 * MEGABYTE);
        until("others are served", || sidecar.wire().ask("GET short") == "$4\r\nmine\r\n");
        (kind, most(&sidecar, before))
    });
    assert!(costs.iter().all(|(_, most)| *most < 100 + 64), "MiB: {costs:?}");
}

#[test]
fn mget_past_what_all_may_hold_is_refused_and_its_client_goes_on() {
    const TOO_LONG: &str = "-ERR hearthside: the reply would be longer than all clients may hold (limits.buffers)\r\n";
    let redis = Redis::start();
    let sidecar = limited(&redis).config(CONFIG).set("STORE__QUEUE_TIMEOUT", "20s").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask(&format!("MGET{}", " text:one".repeat(101))), TOO_LONG, "in memory");
    let rows: String = (1..=101).map(|id| format!(" row:{id}")).collect();
    assert_eq!(wire.ask(&format!("MGET{rows}")), TOO_LONG, "loaded");
    assert_eq!(metric(&sidecar, "hearthside_limits_reached_total{limit=\"buffers\"}"), 2.0);
    assert_eq!(wire.ask(&format!("EXISTS{rows}")), ":101\r\n", "none of their values is told");
    let value = format!("${}\r\n{}\r\n", MEGABYTE, "0".repeat(MEGABYTE));
    assert!(wire.ask(&format!("MGET none{}", " text:one".repeat(7))) == format!("*8\r\n$-1\r\n{}", value.repeat(7)));
    assert_eq!(cut(&sidecar), 0.0);
}

fn held(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_client_buffer_bytes")
}

/// What the store's transaction has read and written waits here until its end, for every command its own.
#[test]
fn exec_past_what_all_may_hold_does_nothing_and_its_client_goes_on() {
    let redis = Redis::start();
    let sidecar = limited(&redis).set("STORE__QUEUE_TIMEOUT", "60s").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.call(&["HSET", "player:1:session", "worker_id", &"w".repeat(MEGABYTE)]), b":0\r\n");
    let (write, read) = (line("HSET player:1:session hp 5"), line("HGET player:1:session worker_id"));
    let before = warm(&sidecar);
    for read in [&read, &line("HGETALL player:1:session")] {
        wire.send(&transaction(&[&write[..], read].concat().repeat(500)));
        (0..1001).for_each(|_| drop(wire.frame()));
        let refusal = String::from_utf8_lossy(&wire.frame()).into_owned();
        let most = most(&sidecar, before);
        assert!(most < 100 + 64, "{most} MiB");
        assert!(refusal.starts_with("-ERR hearthside: nothing of the transaction was done: "), "{refusal:.200}");
        assert!(refusal.ends_with("more than all clients may hold (limits.buffers)\r\n"), "{refusal}");
        assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n99\r\n");
    }
    assert_eq!(metric(&sidecar, "hearthside_limits_reached_total{limit=\"buffers\"}"), 2.0);
    // What fits while it is read fits as a reply, which takes its place.
    wire.send(&transaction(&[write, read.repeat(80)].concat()));
    (0..82).for_each(|_| drop(wire.frame()));
    assert_eq!(wire.frame().len(), "*81\r\n:0\r\n".len() + 80 * (MEGABYTE + 12));
    assert_eq!(wire.ask("HGET player:1:session hp"), "$1\r\n5\r\n");
    until("nothing is held", || held(&sidecar) == 0.0);
    assert_eq!(cut(&sidecar), 0.0);
}

/// Values that have been loaded wait for those before them in the reply.
#[test]
fn what_an_mget_has_loaded_counts_while_the_rest_is_loaded() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let config = "[[caches]]\nkey = \"row:{id:int}\"\ntype = \"string\"\nvalue = \"text\"\nttl = \"1h\"\n\
                  query = \"SELECT repeat('v', 1048576) AS text FROM (SELECT pg_advisory_xact_lock_shared($1)) l\"\n";
    let builder = limited(&redis).postgres(&postgres).config(config).set("STORE__QUERY_TIMEOUT", "1m");
    let sidecar = builder.set("CACHE__MAX_BYTES", "8mb").migrated().start();
    let (mut wire, mut lock) = (sidecar.wire(), postgres.session());
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    let mut alone = sidecar.wire();
    lock.run("DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$;");
    // Its own statement: what is read by one statement comes together.
    alone.send(&line("GET row:1"));
    until("the first waits", || postgres.sql(waits) == "1");
    let rows: String = (1..=40).map(|id| format!(" row:{id}")).collect();
    wire.send(&line(&format!("MGET{rows}")));
    until("what is loaded counts", || held(&sidecar) > 38.0 * MEGABYTE as f64);
    lock.run("DO $$ BEGIN PERFORM pg_advisory_unlock(1); END $$;");
    assert_eq!(wire.frame().len(), "*40\r\n".len() + 40 * (MEGABYTE + 12));
    alone.frame();
    until("nothing is held", || held(&sidecar) == 0.0);
    wire.ask("HEARTHSIDE INVALIDATE row:1");
    lock.run("DO $$ BEGIN PERFORM pg_advisory_lock(1); END $$;");
    alone.send(&line("GET row:1"));
    until("the first waits", || postgres.sql(waits) == "1");
    let rows: String = (1..=120).map(|id| format!(" row:{id}")).collect();
    let told = wire.ask(&format!("MGET{rows}"));
    assert!(told.ends_with("(limits.buffers)\r\n"), "before the first is there: {told}");
    lock.run("DO $$ BEGIN PERFORM pg_advisory_unlock(1); END $$;");
}

#[test]
fn keys_past_what_all_may_hold_is_refused_and_its_client_goes_on() {
    let redis = Redis::start();
    redis.wire().call(&["SET", "name", "theirs"]);
    let config = "[[definitions]]\nkey = \"name:{id}\"\ntype = \"string\"\nvalue = \"text\"\nquery = \"\
                  WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                  SELECT i || hex(zeroblob(300)) AS id, 'x' AS text FROM n\"\n";
    let sidecar = limited(&redis).set("LIMITS__BUFFERS", "10mb").config(config).start();
    let mut wire = sidecar.wire();
    let told = wire.ask("KEYS name*");
    assert!(told.ends_with("than all clients may hold (limits.buffers)\r\n"), "{told:.200}");
    assert_eq!(metric(&sidecar, "hearthside_limits_reached_total{limit=\"buffers\"}"), 1.0);
    assert!(wire.ask("KEYS name:1*").starts_with("*11111\r\n"));
    assert_eq!(wire.ask("KEYS nam?"), "*1\r\n$4\r\nname\r\n");
    until("nothing is held", || held(&sidecar) == 0.0);
    assert_eq!(cut(&sidecar), 0.0);
}
