//! A Redis, a Postgres with some rows, and sidecars over both; clients that track.

use std::time::Duration;

use tempfile::TempDir;

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::{Wire, line};

pub(super) const CONFIG: &str = r#"
[[definitions]]
key = "item:{id}:def"
type = "hash"
table = "items"

[[caches]]
key = "s:{id}"
type = "string"
table = "strings"
value = "v"
write = "through"
delete = "row"
expires_column = "ends"

[[caches]]
key = "h:{id}"
type = "hash"
table = "hashes"
write = "through"
delete = "row"

[[caches]]
key = "d:{id:int}"
type = "hash"
table = "counts"
write = "deferred"

[[caches]]
key = "brief:{id}"
type = "string"
table = "brief"
value = "v"
ttl = "700ms"
"#;

const TABLES: &str = "CREATE TABLE items (id TEXT PRIMARY KEY, name TEXT); INSERT INTO items VALUES ('a', 'Apple'), \
    ('b', 'Bread'); CREATE TABLE strings (id TEXT PRIMARY KEY, v TEXT, ends TIMESTAMPTZ); \
    CREATE TABLE hashes (id TEXT PRIMARY KEY, f TEXT, g TEXT); \
    CREATE TABLE counts (id BIGINT PRIMARY KEY, n BIGINT); INSERT INTO counts SELECT i, 0 FROM generate_series(1, \
    2000) AS i; CREATE TABLE brief (id TEXT PRIMARY KEY, v TEXT); INSERT INTO brief VALUES ('1', 'one');";

pub(super) struct Place {
    pub(super) redis: Redis,
    pub(super) postgres: Postgres,
    feed: &'static str,
    folder: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        Self::with_feed("notify")
    }

    pub(super) fn with_feed(feed: &'static str) -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::start_with("-c wal_level=logical"));
        postgres.sql(TABLES);
        let place = Self { redis, postgres, feed, folder: tempfile::tempdir().expect("a folder") };
        place.builder().migrated();
        place
    }

    pub(super) fn builder(&self) -> Builder {
        let journal = self.folder.path().join("journal.db").display().to_string();
        let builder = Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(CONFIG);
        let builder = builder.set("JOURNAL__PATH", journal).set("JOURNAL__FLUSH_INTERVAL", "100ms");
        // That a key is absent is known for longer than a test takes.
        builder.set("CACHE__NEGATIVE_TTL", "1h").set("STORE__FEED", self.feed)
    }

    pub(super) fn start(&self) -> Sidecar {
        self.builder().start()
    }
}

/// A client that uses RESP3 and tracks in this way.
pub(super) fn tracking(sidecar: &Sidecar, options: &str) -> Wire {
    let mut wire = sidecar.wire();
    assert!(wire.ask("HELLO 3").starts_with('%'));
    assert_eq!(wire.ask(&format!("CLIENT TRACKING ON{options}")), "+OK\r\n");
    wire
}

/// What a client has been told until now.
pub(super) fn told(wire: &mut Wire) -> Vec<String> {
    wire.send(&line("PING told"));
    let mut all = Vec::new();
    loop {
        let frame = wire.text();
        if frame == "$4\r\ntold\r\n" {
            return all;
        }
        all.push(frame);
    }
}

/// True when nothing comes for a moment, by itself.
pub(super) fn is_silent(wire: &mut Wire) -> bool {
    wire.is_silent(Duration::from_millis(300))
}
