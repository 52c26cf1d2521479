//! WATCH of owned keys: what counts as a change of a key, and what does not.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::model::on_postgres;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::wire::Wire;

const NULL: &str = "*-1\r\n";

/// The reply of EXEC, of a transaction that only reads another key.
fn exec(wire: &mut Wire) -> String {
    wire.ask("MULTI");
    wire.ask("HGET h:9 n");
    wire.ask("EXEC")
}

#[test]
fn a_watch_is_no_change_for_anybody_who_watches() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    let (mut one, mut two) = (sidecar.wire(), sidecar.wire());
    for key in ["s:1", "h:1", "s:nosuch"] {
        one.ask("SET s:1 a");
        one.ask("HSET h:1 n 1");
        for again in [format!("WATCH {key}"), format!("WATCH s:2 {key} {key}")] {
            one.ask(&format!("WATCH {key}"));
            one.ask(&again);
            assert_ne!(exec(&mut one), NULL, "{again}");
        }
        one.ask(&format!("WATCH {key}"));
        two.ask(&format!("WATCH {key}"));
        assert_ne!(exec(&mut one), NULL, "another client watches {key}");
        assert_ne!(exec(&mut two), NULL, "another client watched {key}");
    }
}

#[test]
fn a_write_that_changes_nothing_is_no_change() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    let (mut watches, mut writes) = (sidecar.wire(), sidecar.wire());
    writes.ask("SET s:1 abc");
    assert_eq!(writes.ask("HSET h:1 f x"), ":1\r\n");
    for nothing in [
        "SET s:1 other NX",
        "INCR s:1",
        "HSET s:1 f v",
        "HSETNX h:1 f y",
        "HINCRBY h:1 f 1",
        "HDEL h:1 nosuch",
        "EXPIRE s:1 100 XX",
        "GET s:1",
        "TOUCH s:1",
        "DEL s:nosuch",
    ] {
        watches.ask("WATCH s:1 h:1 s:nosuch");
        writes.ask(nothing);
        assert_ne!(exec(&mut watches), NULL, "{nothing}");
    }
    watches.ask("WATCH s:1");
    writes.ask("WATCH other");
    sidecar.wire().ask("SET other 1");
    writes.ask("MULTI");
    writes.ask("SET s:1 never");
    assert_eq!(writes.ask("EXEC"), NULL);
    assert_ne!(exec(&mut watches), NULL, "a transaction that has not run");
    for in_multi in ["SET s:1 other NX", "INCR s:1"] {
        watches.ask("WATCH s:1");
        writes.ask("MULTI");
        writes.ask(in_multi);
        assert_ne!(writes.ask("EXEC"), NULL);
        assert_ne!(exec(&mut watches), NULL, "{in_multi} in a transaction");
    }
    for something in ["SET s:1 abc", "SET s:1 abc XX", "DEL s:1", "SET s:1 abc NX", "EXPIRE s:1 100", "PERSIST s:1"] {
        watches.ask("WATCH s:1");
        writes.ask(something);
        assert_eq!(exec(&mut watches), NULL, "{something}");
    }
    watches.ask("WATCH s:1");
    writes.ask("MULTI");
    writes.ask("SET s:1 abc");
    writes.ask("EXEC");
    assert_eq!(exec(&mut watches), NULL, "a transaction that has run");
}

/// Adds one to the number, if nobody else did meanwhile.
fn counts(wire: &mut Wire) -> bool {
    assert_eq!(wire.ask("WATCH s:1"), "+OK\r\n");
    let told = wire.ask("GET s:1");
    let number: u64 = told.lines().nth(1).and_then(|number| number.trim().parse().ok()).expect("a number");
    wire.ask("MULTI");
    wire.ask(&format!("SET s:1 {}", number + 1));
    wire.ask("EXEC") != NULL
}

#[test]
fn clients_that_count_under_watch_get_on() {
    const WANTED: u64 = 200;
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    sidecar.wire().ask("SET s:1 0");
    let (counted, tried) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut wire = sidecar.wire();
                while counted.load(Relaxed) < WANTED && tried.fetch_add(1, Relaxed) < 20 * WANTED {
                    counted.fetch_add(u64::from(counts(&mut wire)), Relaxed);
                }
            });
        }
    });
    let (counted, tried) = (counted.into_inner(), tried.into_inner());
    assert!(counted >= WANTED, "{counted} of {tried}");
    assert!(sidecar.wire().ask("GET s:1").contains(&format!("\r\n{counted}\r\n")), "each counts once");
}
