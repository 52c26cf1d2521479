//! The cache that the crate `redis` keeps in its client's own process, unchanged: how much it answers there, and that
//! it forgets what has changed. A reply that is under way when its key changes it may keep for longer than it should,
//! from any server: here nothing is being read when something changes. Other libraries are in tests/clients.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::caching::{CacheConfig, CacheStatistics};
use redis::{FromRedisValue, RedisResult};
use tokio::runtime::{Builder, Runtime};

use super::place::Place;
use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

/// A client with a cache.
struct Library {
    runtime: Runtime,
    manager: ConnectionManager,
}

impl Library {
    fn connect(sidecar: &Sidecar) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/?protocol=resp3", sidecar.port));
        let config = ConnectionManagerConfig::new().set_cache_config(CacheConfig::new());
        let config = config.set_max_delay(Duration::from_millis(10));
        let manager = client.and_then(|client| runtime.block_on(client.get_connection_manager_with_config(config)));
        Self { runtime, manager: manager.expect("a connection") }
    }

    fn try_ask<T: FromRedisValue>(&mut self, words: &[&str]) -> RedisResult<T> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        self.runtime.block_on(command.query_async(&mut self.manager))
    }

    fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        self.try_ask(words).expect("a reply")
    }

    fn text(&mut self, words: &[&str]) -> String {
        self.ask(words)
    }

    fn counts(&self) -> CacheStatistics {
        self.manager.get_cache_statistics().expect("a cache")
    }
}

const ROWS: &str = "INSERT INTO strings SELECT i::text, 'old', NULL FROM generate_series(1, 100) AS i; \
    INSERT INTO hashes SELECT i::text, 'old', 'g' FROM generate_series(1, 100) AS i";

fn with_rows() -> Place {
    let place = Place::new();
    place.postgres.sql(ROWS);
    place
}

#[test]
fn of_reads_as_applications_do_them_ninety_nine_of_a_hundred_are_answered_in_the_process() {
    let place = with_rows();
    let sidecar = place.start();
    let mut library = Library::connect(&sidecar);
    let reads = 20_000;
    for _ in 0..reads / 2 {
        // Key n about as often as 1/n says: the first much more often than the last.
        let id = 101f64.powf(fastrand::f64()) as usize;
        assert_eq!(library.text(&["GET", &format!("s:{id}")]), "old");
        assert_eq!(library.text(&["HGET", &format!("h:{id}"), "f"]), "old");
    }
    let counts = library.counts();
    assert_eq!((counts.hit + counts.miss, counts.invalidate), (reads, 0));
    assert!(counts.miss <= reads / 100, "{} misses", counts.miss);
    // Of each key that it does not keep it also asks when that ends.
    let sent = counts.miss as f64 * 2.0;
    until("all others stay in the process", || metric(&sidecar, "hearthside_commands_total{route=\"cache\"}") == sent);
}

#[test]
fn what_is_read_when_the_cache_has_been_told_is_new() {
    let place = with_rows();
    let sidecar = place.start();
    let (mut library, mut other) = (Library::connect(&sidecar), sidecar.wire());
    for round in 0..30 {
        library.text(&["GET", "s:1"]);
        let before = library.counts().invalidate;
        match round % 3 {
            0 => _ = place.postgres.sql(&format!("UPDATE strings SET v = '{round}' WHERE id = '1'")),
            1 => assert_eq!(other.ask(&format!("SET s:1 {round}")), "+OK\r\n"),
            _ => library.ask(&["SET", "s:1", &round.to_string()]),
        }
        until("it is told", || library.counts().invalidate > before);
        assert_eq!(library.text(&["GET", "s:1"]), round.to_string());
        let hits = library.counts().hit;
        assert_eq!(library.text(&["GET", "s:1"]), round.to_string());
        assert_eq!(library.counts().hit, hits + 1, "and it is kept again");
    }
}

#[test]
fn a_connection_that_is_killed_takes_what_was_kept_over_it_along() {
    let place = with_rows();
    let sidecar = place.start();
    let (mut library, mut other) = (Library::connect(&sidecar), sidecar.wire());
    for round in 0..10 {
        library.text(&["GET", "s:1"]);
        library.text(&["HGET", "h:1", "f"]);
        let id: u64 = library.ask(&["CLIENT", "ID"]);
        assert_eq!(other.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
        // Nobody is told of these.
        assert_eq!(other.ask(&format!("SET s:1 {round}")), "+OK\r\n");
        assert_eq!(other.ask(&format!("HSET h:1 f {round}")), ":0\r\n");
        until("it is back", || library.try_ask::<u64>(&["CLIENT", "ID"]).is_ok_and(|now| now != id));
        assert_eq!(library.text(&["GET", "s:1"]), round.to_string());
        assert_eq!(library.text(&["HGET", "h:1", "f"]), round.to_string());
    }
}

#[test]
fn a_gap_of_the_change_feed_empties_the_cache_of_a_library() {
    let place = with_rows();
    let feed = Proxy::to(place.postgres.port);
    let lost = [warnings::FEED_LOST, warnings::FEED_CLOSED];
    let sidecar = place.builder().set("STORE__FEED_URL", place.postgres.url_at(feed.port)).expect(&lost).start();
    let mut library = Library::connect(&sidecar);
    assert_eq!(library.text(&["GET", "s:1"]), "old");
    assert_eq!(library.text(&["HGET", "h:1", "f"]), "old");
    feed.refuse_new(true);
    feed.cut();
    place.postgres.sql("UPDATE strings SET v = 'new'; UPDATE hashes SET f = 'new'");
    feed.refuse_new(false);
    until("it is told to forget all", || library.text(&["GET", "s:1"]) == "new");
    assert_eq!(library.text(&["HGET", "h:1", "f"]), "new");
}
