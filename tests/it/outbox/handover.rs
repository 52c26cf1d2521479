//! From notices to rows and back, while others write.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use super::{IS_READ, MAPPING, ROWS, Reads, TABLE, bulk, over, shows};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;

/// Writes rows one after the other, over a connection of its own, until there is no more to do.
fn write(postgres: &Postgres, ids: std::ops::Range<u32>, written: &AtomicU64, goes_on: impl Fn() -> bool) {
    let mut session = postgres.session();
    while goes_on() {
        for id in ids.clone() {
            let number = written.fetch_add(1, SeqCst);
            session.run(&format!("UPDATE t SET v = '{number}' WHERE id = {id};"));
        }
    }
}

/// Every row shows as it is.
fn is_whole(sidecar: &Sidecar, postgres: &Postgres) {
    let mut wire = sidecar.wire();
    for line in postgres.sql("SELECT id, v FROM t ORDER BY id").lines() {
        let (id, v) = line.split_once('|').expect("two columns");
        shows(&mut wire, &format!("HGET t:{id} v"), &bulk(v));
    }
}

#[test]
fn many_writes_are_told_by_rows_and_few_by_notices_again() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let sidecar = over(&redis, &postgres, MAPPING).start();
    is_whole(&sidecar, &postgres);
    let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for ids in [1..6, 6..11, 11..16, 16..21] {
            let (is_over, written, postgres) = (&is_over, &written, &postgres);
            scope.spawn(move || write(postgres, ids, written, || !is_over.load(SeqCst)));
        }
        until("it reads", || postgres.sql(IS_READ) == "1");
        until("rows come", || postgres.sql(ROWS).parse::<u64>().expect("a number") > 100);
        is_over.store(true, SeqCst);
    });
    is_whole(&sidecar, &postgres);
    until("it rests", || postgres.sql(IS_READ) == "0");
    let rows = postgres.sql(ROWS);
    postgres.sql("UPDATE t SET v = 'last' WHERE id = 1");
    is_whole(&sidecar, &postgres);
    assert_eq!(postgres.sql(ROWS), rows);
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
}

#[test]
fn bursts_of_many_writers_lose_nothing_with_two_sidecars() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let (one, two) = (over(&redis, &postgres, MAPPING).start(), over(&redis, &postgres, MAPPING).start());
    let written = AtomicU64::new(0);
    for burst in [5, 40, 15, 80, 3, 200, 25, 10, 60, 30] {
        is_whole(&one, &postgres);
        is_whole(&two, &postgres);
        thread::scope(|scope| {
            for ids in [1..6, 6..11, 11..16, 16..21] {
                let (written, postgres, until) = (&written, &postgres, written.load(SeqCst) + burst);
                scope.spawn(move || write(postgres, ids, written, || written.load(SeqCst) < until));
            }
        });
        is_whole(&one, &postgres);
        is_whole(&two, &postgres);
    }
    assert_eq!(metric(&one, "hearthside_gaps_total") + metric(&two, "hearthside_gaps_total"), 0.0);
}

/// Ends the reading, and waits until the sidecar has asked and knows it. It asks no more then: where it has asked while
/// the reading ended, nobody can tell what it knows, and all begins anew.
fn end_unasked(reads: &mut Reads, postgres: &Postgres, asked: impl Fn() -> u64) {
    loop {
        let before = asked();
        reads.end();
        if asked() == before {
            until("nobody does", || asked() > before);
            return;
        }
        *reads = Reads::begin(postgres);
        let before = asked();
        until("it asks again", || asked() > before + 1);
    }
}

#[test]
fn what_found_somebody_reading_and_is_committed_when_nobody_does_is_seen() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE EXTENSION pg_stat_statements");
    postgres.sql(TABLE);
    let sidecar = over(&redis, &postgres, MAPPING).start();
    let mut wire = sidecar.wire();
    for round in 0..3 {
        let (mut reads, mut long) = (Reads::begin(&postgres), postgres.session());
        assert_ne!(wire.ask("HGET t:1 v"), "$-1\r\n");
        long.run(&format!("BEGIN; UPDATE t SET v = 'round {round}' WHERE id = 1;"));
        let asked = || postgres.calls("SELECT pg_try_advisory_lock_shared%");
        let before = asked();
        until("it asks whether somebody reads", || asked() > before + 1);
        end_unasked(&mut reads, &postgres, asked);
        long.run("COMMIT;");
        shows(&mut wire, "HGET t:1 v", &bulk(&format!("round {round}")));
    }
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
}

/// Which table a session writes to follows from the minute of its time zone.
fn zone(table: u64) -> String {
    format!("SET TimeZone = '<zone>-00:0{}'", table % 3)
}

#[test]
fn tables_that_are_emptied_under_load_lose_nothing() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let sidecar = over(&redis, &postgres, MAPPING).start();
    is_whole(&sidecar, &postgres);
    let _reads = Reads::begin(&postgres);
    let (is_over, written, table) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let rotating = |ids: std::ops::Range<u32>| {
        let mut session = postgres.session();
        while !is_over.load(SeqCst) {
            session.run(&format!("{};", zone(table.load(SeqCst))));
            for id in ids.clone() {
                let number = written.fetch_add(1, SeqCst);
                session.run(&format!("UPDATE t SET v = '{number}' WHERE id = {id};"));
            }
        }
    };
    thread::scope(|scope| {
        for ids in [1..6, 6..11, 11..16, 16..21] {
            let rotating = &rotating;
            scope.spawn(move || rotating(ids));
        }
        let more = |count| {
            let before = written.load(SeqCst);
            until("more was written", || written.load(SeqCst) > before + count);
        };
        let (mut long, mut emptied) = (postgres.session(), 0);
        for round in 0..30 {
            // One that stays open while the tables change.
            long.run(&format!("{}; BEGIN; INSERT INTO t VALUES ({}, 'long');", zone(round), 100 + round));
            table.store(round, SeqCst);
            more(60);
            let seen = postgres.sql("SELECT pg_current_snapshot()");
            table.store(round + 1, SeqCst);
            more(60);
            let clean = |table| postgres.sql(&format!("SELECT hearthside.clean_outbox('{seen}', {table})"));
            let had_gone = (0..3).filter(|table| clean(*table) == "t").count();
            long.run("COMMIT;");
            emptied += had_gone;
            emptied += (0..3).filter(|table| clean(*table) == "t").count();
        }
        is_over.store(true, SeqCst);
        assert!(emptied > 20, "{emptied}");
    });
    is_whole(&sidecar, &postgres);
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
}

#[test]
fn a_sidecar_at_rest_sends_a_statement_a_second_at_most() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE EXTENSION pg_stat_statements");
    postgres.sql(TABLE);
    let _sidecar = over(&redis, &postgres, MAPPING).start();
    let sent = || postgres.calls("%") - postgres.calls("%pg_stat_statements%");
    let beats = || postgres.calls("%pg_notify%outbox_0%");
    until("it has begun", || beats() >= 6);
    let (begun, before) = (beats(), sent());
    until("eight heartbeats were sent", || beats() >= begun + 8);
    assert!(sent() - before <= 16, "{} statements in 16 seconds", sent() - before);
    assert_eq!(postgres.sql(IS_READ), "0");
}
