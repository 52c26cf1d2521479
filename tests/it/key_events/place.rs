//! A Redis that tells of its keys, a Postgres, and sidecars over both.

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};

pub(super) const CONFIG: &str = r#"
[notify]
keyspace = true

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

[[caches]]
key = "d:{id:int}"
type = "hash"
table = "counts"
write = "deferred"

[[caches]]
key = "t:{id}"
type = "set"
table = "members"
value = "v"
write = "through"
delete = "row"

[[caches]]
key = "fill:{id}"
type = "hash"
table = "fills"
write = "fill"
"#;

const TABLES: &str = "CREATE TABLE items (id TEXT PRIMARY KEY, name TEXT); INSERT INTO items VALUES ('a', 'Apple'), \
    ('b', 'Bread'); CREATE TABLE strings (id TEXT PRIMARY KEY, v TEXT, ends TIMESTAMPTZ); \
    CREATE TABLE hashes (id TEXT PRIMARY KEY, f TEXT, g TEXT); CREATE TABLE fills (id TEXT PRIMARY KEY, f TEXT); \
    CREATE TABLE counts (id BIGINT PRIMARY KEY, n BIGINT); INSERT INTO counts SELECT i, 0 FROM generate_series(1, \
    20) AS i; CREATE TABLE members (id TEXT, v TEXT, PRIMARY KEY (id, v));";

/// A Redis that tells of every event.
pub(super) fn telling() -> Redis {
    Redis::with(&["--notify-keyspace-events", "KEA"])
}

pub(super) struct Place {
    pub(super) redis: Redis,
    pub(super) postgres: Postgres,
    feed: &'static str,
}

impl Place {
    pub(super) fn new() -> Self {
        Self::with_feed("notify")
    }

    pub(super) fn with_feed(feed: &'static str) -> Self {
        let (redis, postgres) = (telling(), Postgres::start_with("-c wal_level=logical"));
        postgres.sql(TABLES);
        let place = Self { redis, postgres, feed };
        place.builder().migrated();
        place
    }

    pub(super) fn builder(&self) -> Builder {
        let builder = Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(CONFIG);
        builder.set("JOURNAL__FLUSH_INTERVAL", "100ms").set("STORE__FEED", self.feed)
    }

    pub(super) fn start(&self) -> Sidecar {
        self.builder().start()
    }
}
