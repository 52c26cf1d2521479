//! What the feed gives on, and its gaps.

use super::{IS_READ, LOCK, MAPPING, ROWS, Reads, TABLE, bulk, over, shows};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

fn gaps(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_gaps_total")
}

/// Changes of every kind, of rows that are in memory.
fn every_kind(sidecar: &Sidecar, postgres: &Postgres) {
    let mut wire = sidecar.wire();
    let mut after = |sql: &str, shown: &[(&str, &str)]| {
        for (key, _) in shown {
            wire.ask(&format!("HGET {key} v"));
        }
        postgres.sql(sql);
        for (key, value) in shown {
            let reply = if value.is_empty() { "$-1\r\n".to_owned() } else { bulk(value) };
            shows(&mut wire, &format!("HGET {key} v"), &reply);
        }
    };
    after("UPDATE t SET v = 'b' WHERE id = 1", &[("t:1", "b")]);
    after("UPDATE t SET v = v || 'c' WHERE id < 4", &[("t:1", "bc"), ("t:3", "ac")]);
    after("INSERT INTO t VALUES (30, 'new')", &[("t:30", "new")]);
    after("UPDATE t SET id = 31 WHERE id = 30", &[("t:30", ""), ("t:31", "new")]);
    after("DELETE FROM t WHERE id = 31", &[("t:31", "")]);
    after(
        "INSERT INTO t SELECT i, 'many' FROM generate_series(1000, 4000) i",
        &[("t:1000", "many"), ("t:4000", "many")],
    );
    after("TRUNCATE t", &[("t:1", ""), ("t:1000", "")]);
    after("INSERT INTO t SELECT i, 'a' FROM generate_series(1, 20) i", &[("t:1", "a")]);
}

#[test]
fn changes_of_every_kind_are_seen_at_rest_and_while_somebody_reads() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let sidecar = over(&redis, &postgres, MAPPING).start();
    every_kind(&sidecar, &postgres);
    assert_eq!((postgres.sql(ROWS), postgres.sql(IS_READ)), ("0".into(), "0".into()), "they were told by notices");
    let mut reads = Reads::begin(&postgres);
    every_kind(&sidecar, &postgres);
    assert_ne!(postgres.sql(ROWS), "0", "they were told by rows");
    reads.end();
    every_kind(&sidecar, &postgres);
    assert_eq!(gaps(&sidecar), 0.0);
}

#[test]
fn a_transaction_that_stays_open_is_seen_when_it_ends_and_holds_up_nobody() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let sidecar = over(&redis, &postgres, MAPPING).start();
    let mut wire = sidecar.wire();
    let _reads = Reads::begin(&postgres);
    let (mut long, mut nested) = (postgres.session(), postgres.session());
    assert_eq!(wire.ask("HGET t:1 v"), bulk("a"));
    assert_eq!(wire.ask("HGET t:2 v"), bulk("a"));
    long.run("BEGIN; UPDATE t SET v = 'long' WHERE id = 1;");
    nested.run("BEGIN; SAVEPOINT s; UPDATE t SET v = 'nested' WHERE id = 2; RELEASE s;");
    for i in 0..20 {
        wire.ask("HGET t:3 v");
        postgres.sql(&format!("UPDATE t SET v = 'x{i}' WHERE id = 3"));
        shows(&mut wire, "HGET t:3 v", &bulk(&format!("x{i}")));
    }
    assert_eq!(wire.ask("HGET t:1 v"), bulk("a"));
    long.run("COMMIT;");
    shows(&mut wire, "HGET t:1 v", &bulk("long"));
    nested.run("COMMIT;");
    shows(&mut wire, "HGET t:2 v", &bulk("nested"));
    assert_eq!(gaps(&sidecar), 0.0);
}

#[test]
fn own_writes_do_not_make_memory_forget_what_they_wrote() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let sidecar = over(&redis, &postgres, MAPPING).set("VERIFY__SAMPLE", "0").start();
    let mut wire = sidecar.wire();
    let _reads = Reads::begin(&postgres);
    let loads = || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    assert_eq!(wire.ask("HGET t:1 v"), bulk("a"));
    assert_eq!(wire.ask("HSET t:1 v mine"), ":0\r\n");
    // What is committed later by others has been given on, and so has the own write.
    wire.ask("HGET t:2 v");
    postgres.sql("UPDATE t SET v = 'b' WHERE id = 2");
    shows(&mut wire, "HGET t:2 v", &bulk("b"));
    let before = loads();
    assert_eq!(wire.ask("HGET t:1 v"), bulk("mine"));
    assert_eq!(loads(), before);
    assert_eq!(
        postgres.sql(
            "SELECT count(*) FROM (TABLE hearthside.outbox_0 UNION ALL TABLE hearthside.outbox_1 \
        UNION ALL TABLE hearthside.outbox_2) AS o WHERE told LIKE '%\"from\"%'"
        ),
        "1"
    );
}

/// A sidecar that is going to lose its feed.
fn that_loses_its_feed(redis: &Redis, postgres: &Postgres) -> Sidecar {
    postgres.sql(TABLE);
    over(redis, postgres, MAPPING).expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start()
}

#[test]
fn a_cut_feed_empties_the_cache_when_it_is_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = that_loses_its_feed(&redis, &postgres);
    let mut wire = sidecar.wire();
    let _reads = Reads::begin(&postgres);
    assert_eq!(wire.ask("HGET t:1 v"), bulk("a"));
    for (round, whose) in ["query LIKE 'LISTEN%'", "query LIKE '%hearthside.outbox_0%' AND pid <> pg_backend_pid()"]
        .into_iter()
        .enumerate()
    {
        let before = gaps(&sidecar);
        postgres.sql(&format!(
            "SET session_replication_role = replica; UPDATE t SET v = 'r{round}' WHERE id = 1; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hearthside' AND {whose}"
        ));
        shows(&mut wire, "HGET t:1 v", &bulk(&format!("r{round}")));
        until("it was a gap", || gaps(&sidecar) > before);
        until("the feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
    }
}

#[test]
fn a_sidecar_that_was_stopped_while_the_outbox_was_emptied_is_in_a_gap() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = that_loses_its_feed(&redis, &postgres);
    let mut wire = sidecar.wire();
    let _reads = Reads::begin(&postgres);
    assert_eq!(wire.ask("HGET t:1 v"), bulk("a"));
    sidecar.signal("STOP");
    postgres.sql("UPDATE t SET v = 'b' WHERE id = 1");
    for table in 0..3 {
        postgres.sql(&format!("SELECT hearthside.clean_outbox(pg_current_snapshot(), {table})"));
    }
    assert_eq!(postgres.sql(ROWS), "1", "what says so is left");
    sidecar.signal("CONT");
    shows(&mut wire, "HGET t:1 v", &bulk("b"));
    assert!(sidecar.log().contains("the outbox was emptied before this sidecar had read it"), "{}", sidecar.log());
}

#[test]
fn what_is_not_seen_by_all_is_not_emptied() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    drop(over(&redis, &postgres, MAPPING));
    let mut reads = postgres.session();
    reads.run(&format!("SELECT pg_advisory_lock({LOCK});"));
    let clean = |seen: &str| -> Vec<String> {
        let one = |table| postgres.sql(&format!("SELECT hearthside.clean_outbox('{seen}', {table})"));
        (0..3).map(one).collect()
    };
    let before = postgres.sql("SELECT pg_current_snapshot()");
    postgres.sql("UPDATE t SET v = 'b' WHERE id = 1");
    let after = postgres.sql("SELECT pg_current_snapshot()");
    assert_eq!(clean(&before), ["f", "f", "f"]);
    assert_eq!(postgres.sql(ROWS), "1");
    assert!(clean(&after).contains(&"t".to_owned()));
    // What says that it was emptied is not emptied again and again.
    assert_eq!(clean(&postgres.sql("SELECT pg_current_snapshot()")), ["f", "f", "f"]);
    // Who has written and not committed keeps his table, and waits for nobody.
    let mut open = postgres.session();
    open.run("BEGIN; UPDATE t SET v = 'c' WHERE id = 1;");
    assert_eq!(clean(&postgres.sql("SELECT pg_current_snapshot()")), ["f", "f", "f"]);
    open.run("UPDATE t SET v = 'd' WHERE id = 2; COMMIT;");
    // Rows of another server's transactions, which a dump has brought.
    postgres.sql("INSERT INTO hearthside.outbox_0 VALUES ('1000000', '{\"keys\":[]}')");
    assert!(clean(&postgres.sql("SELECT pg_current_snapshot()")).contains(&"t".to_owned()));
    assert_eq!(postgres.sql("SELECT count(*) FROM hearthside.outbox_0 WHERE xid = '1000000'"), "0");
}

#[test]
fn a_crash_of_the_server_is_a_gap() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let builder = over(&redis, &postgres, MAPPING).expect(warnings::STORE_AWAY);
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    let reads = Reads::begin(&postgres);
    assert_eq!(wire.ask("HGET t:1 v"), bulk("a"));
    sidecar.signal("STOP");
    postgres.sql("UPDATE t SET v = 'b' WHERE id = 1");
    assert_eq!(postgres.sql(ROWS), "1");
    drop(reads);
    postgres.stop();
    postgres.launch();
    assert_eq!(postgres.sql(ROWS), "0", "what is not logged is gone");
    sidecar.signal("CONT");
    shows(&mut wire, "HGET t:1 v", &bulk("b"));
    every_kind(&sidecar, &postgres);
}
