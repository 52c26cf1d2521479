//! Random changes of rows while they are read, written through the sidecar and thrown out of memory: no reader sees
//! less than somebody has seen before, and when all have come, memory shows the table. `HEARTHSIDE_CHANGES` makes it
//! longer, `HEARTHSIDE_SEED` makes another one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use super::in_place::{in_place, settle, start};
use super::{logical, over};
use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::setting;
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;

const TABLE: &str = "CREATE SEQUENCE s; CREATE TABLE t (id int PRIMARY KEY, n bigint NOT NULL, \
    w bigint NOT NULL DEFAULT 0, f float8, b bool, j jsonb, at timestamptz); \
    INSERT INTO t SELECT i, nextval('s') FROM generate_series(1, 12) AS i; \
    CREATE TABLE settled (id int PRIMARY KEY, v int); INSERT INTO settled VALUES (1, 0)";

/// Rows that stay: their `n` only rises, and so does `w`, which is written through the sidecar.
const STAY: u64 = 6;
const KEYS: u64 = 12;

/// The highest number that was seen of a field of each row.
#[derive(Default)]
struct Highest([AtomicU64; STAY as usize + 1]);

impl Highest {
    fn of(&self, id: u64) -> &AtomicU64 {
        &self.0[id as usize]
    }
}

#[derive(Default)]
struct Seen {
    n: Highest,
    w: Highest,
    has_ended: AtomicBool,
}

/// One transaction of the application.
fn transaction(random: &mut fastrand::Rng) -> String {
    let values =
        "n = nextval('s'), f = random(), b = random() < 0.5, j = jsonb_build_object('a', random()), at = now()";
    let (one, other) = (random.u64(1..=KEYS), random.u64(1..=STAY));
    let fleeting = random.u64(STAY + 1..=KEYS);
    match random.u8(0..10) {
        0..=4 => format!("UPDATE t SET {values} WHERE id = {one};"),
        5 => format!(
            "BEGIN; UPDATE t SET {values} WHERE id = {other}; UPDATE t SET {values} WHERE id = {other}; COMMIT;"
        ),
        6 => format!("BEGIN; UPDATE t SET {values} WHERE id <= {other}; SELECT pg_sleep(0.002) \\g /dev/null\nCOMMIT;"),
        7 => format!("BEGIN; UPDATE t SET {values} WHERE id = {other}; ROLLBACK;"),
        8 => format!("DELETE FROM t WHERE id = {fleeting};"),
        _ => format!("INSERT INTO t VALUES ({fleeting}, nextval('s')) ON CONFLICT (id) DO NOTHING;"),
    }
}

fn write(session: &mut Session, mut random: fastrand::Rng, count: u64) {
    for _ in 0..count {
        // Two of them may lock rows in another order each.
        if !session.try_run(&transaction(&mut random)) {
            session.try_run("ROLLBACK;");
        }
    }
}

fn number(wire: &mut Wire, id: u64, field: &str) -> u64 {
    let reply = wire.ask(&format!("HGET t:{id} {field}"));
    reply.lines().nth(1).and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("t:{id} {field}: {reply}"))
}

/// Reads until all has been written; nothing that was seen before may be gone.
fn read(mut wire: Wire, mut random: fastrand::Rng, seen: &Seen) {
    while !seen.has_ended.load(SeqCst) {
        let id = random.u64(1..=STAY);
        for (field, highest) in [("n", seen.n.of(id)), ("w", seen.w.of(id))] {
            let least = highest.load(SeqCst);
            let found = number(&mut wire, id, field);
            assert!(found >= least, "t:{id} {field}: {found} was read after {least}");
            highest.fetch_max(found, SeqCst);
        }
        let fleeting = random.u64(STAY + 1..=KEYS);
        wire.ask(&format!("HGETALL t:{fleeting}"));
        if random.u8(0..30) == 0 {
            wire.ask(&format!("HEARTHSIDE INVALIDATE t:{}", random.u64(1..=KEYS)));
        }
    }
}

/// Writes through the sidecar; what was acknowledged is seen.
fn write_through(mut wire: Wire, mut random: fastrand::Rng, seen: &Seen, count: u64) {
    for written in 1..=count {
        let id = random.u64(1..=STAY);
        assert_eq!(wire.ask(&format!("HSET t:{id} w {written}")), ":0\r\n");
        seen.w.of(id).fetch_max(written, SeqCst);
    }
}

/// What the table has, as HGETALL would answer after a load.
fn compare(sidecar: &Sidecar, postgres: &Postgres) {
    let mut wire = sidecar.wire();
    settle(postgres, &mut wire);
    for id in 1..=KEYS {
        let held = wire.ask(&format!("HGETALL t:{id}"));
        wire.ask(&format!("HEARTHSIDE INVALIDATE t:{id}"));
        assert_eq!(held, wire.ask(&format!("HGETALL t:{id}")), "t:{id}");
    }
}

#[test]
fn random_changes_under_loads_are_shown_as_the_table_has_them() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let config = over("t", "t", "write = \"through\"\ndelete = \"row\"");
    let sidecar = start(&redis, &postgres, &config);
    let (count, seed) = (setting("HEARTHSIDE_CHANGES", 400), setting("HEARTHSIDE_SEED", 7));
    let (seen, random) = (Seen::default(), |place: u64| fastrand::Rng::with_seed(seed * 100 + place));
    thread::scope(|scope| {
        let seen = &seen;
        for place in 0..2 {
            let (wire, random) = (sidecar.wire(), random(place));
            scope.spawn(move || read(wire, random, seen));
        }
        let mut writers = Vec::new();
        for place in 10..13 {
            let (mut session, random) = (postgres.session(), random(place));
            writers.push(scope.spawn(move || write(&mut session, random, count)));
        }
        let (wire, random) = (sidecar.wire(), random(20));
        writers.push(scope.spawn(move || write_through(wire, random, seen, count)));
        let ended: Vec<_> = writers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        seen.has_ended.store(true, SeqCst);
        assert!(ended.iter().all(Result::is_ok));
    });
    compare(&sidecar, &postgres);
    assert!(in_place(&sidecar) > 50.0, "rows took the place of records: {}", in_place(&sidecar));
}
