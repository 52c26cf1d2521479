//! The primary ends while clients read and write, and its standby is promoted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use super::{Over, Pair, is_whole, seen};
use crate::support::sidecar::Sidecar;
use crate::support::until;

/// What clients of one sidecar have been told.
#[derive(Default)]
struct Told {
    is_over: AtomicBool,
    /// Increments of a deferred field of `p:1` that were acknowledged.
    counted: AtomicU64,
    /// The last name of `p:2` that was acknowledged.
    named: AtomicU64,
    /// Names that may have been written all the same.
    doubtful: AtomicU64,
}

fn count(sidecar: &Sidecar, told: &Told) {
    let mut wire = sidecar.wire();
    while !told.is_over.load(SeqCst) {
        if wire.ask("HINCRBY p:1 seen 1").starts_with(':') {
            told.counted.fetch_add(1, SeqCst);
        }
    }
}

/// Each name is a number, and a reader sees none that is older than one that was acknowledged.
fn name(sidecar: &Sidecar, told: &Told) {
    let mut wire = sidecar.wire();
    for number in 1.. {
        if told.is_over.load(SeqCst) {
            return;
        }
        match wire.ask(&format!("HSET p:2 name {number}")).starts_with(':') {
            true => told.named.store(number, SeqCst),
            false => told.doubtful.store(number, SeqCst),
        }
    }
}

fn read(sidecar: &Sidecar, told: &Told) {
    let mut wire = sidecar.wire();
    while !told.is_over.load(SeqCst) {
        let before = told.named.load(SeqCst);
        let reply = wire.ask("HGET p:2 name");
        if let Some(number) = reply.lines().nth(1).and_then(|text| text.parse::<u64>().ok()) {
            assert!(number >= before, "{number} after {before}");
        }
    }
}

fn fails_over(feed: &'static str) {
    let pair = Pair::new(feed).in_step();
    pair.primary.sql("UPDATE players SET name = '0' WHERE id = 2");
    let (sidecar, told) = (pair.over(pair.primary.port).start(), Told::default());
    is_whole(&sidecar, &pair.primary);
    thread::scope(|scope| {
        let _over = Over(&told.is_over);
        for work in [count as fn(&Sidecar, &Told), name, read] {
            let (sidecar, told) = (&sidecar, &told);
            scope.spawn(move || work(sidecar, told));
        }
        until("they are at work", || told.counted.load(SeqCst) > 100 && told.named.load(SeqCst) > 100);
        pair.primary.stop();
        pair.standby.promote();
        let before = (told.counted.load(SeqCst), told.named.load(SeqCst));
        until("they go on", || told.counted.load(SeqCst) > before.0 + 100 && told.named.load(SeqCst) > before.1);
    });
    is_whole(&sidecar, &pair.standby);
    assert_eq!(seen(&pair.standby, 1), told.counted.load(SeqCst).to_string(), "each increment is saved");
    let again = "SELECT count(*) FROM (SELECT seen <= lag(seen) OVER (ORDER BY at) AS again FROM saved \
                 WHERE id = 1) AS s WHERE again";
    assert_eq!(pair.standby.sql(again), "0", "nothing is saved twice, or late");
    let name: u64 = pair.standby.sql("SELECT name FROM players WHERE id = 2").parse().expect("a number");
    assert!(name == told.named.load(SeqCst) || name == told.doubtful.load(SeqCst), "{name}");
    let log = sidecar.log();
    assert_eq!(log.matches("the store is another of its hosts").count(), 1, "{log}");
    // The old primary comes back as nobody's, and is left alone.
    pair.primary.launch();
    pair.standby.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hearthside'");
    is_whole(&sidecar, &pair.standby);
    assert_eq!(sidecar.log().matches("the store is another of its hosts").count(), 1);
}

#[test]
fn a_promotion_under_load_is_followed_with_notices() {
    fails_over("notify");
}

#[test]
fn a_promotion_under_load_is_followed_with_the_outbox() {
    fails_over("outbox");
}

#[test]
fn a_promotion_under_load_is_followed_with_replication() {
    fails_over("replication");
}

#[test]
fn a_primary_that_becomes_a_standby_is_left_for_the_one_that_takes_writes() {
    let pair = Pair::new("notify");
    let sidecar = pair.over(pair.primary.port).start();
    is_whole(&sidecar, &pair.primary);
    pair.standby.catch_up_with(&pair.primary);
    pair.primary.demote();
    pair.standby.promote();
    is_whole(&sidecar, &pair.standby);
}
