//! A Redis, a Postgres with some notes, and sidecars over both.

use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;

const CONFIG: &str = r#"
[[definitions]]
key = "place:{id}"
type = "hash"
query = "SELECT '1' AS id, 'here' AS name"
MODE

[[caches]]
key = "note:{id:int}"
type = "hash"
table = "notes"
write = "through"
delete = "row"
deferred = ["seen"]
MODE
"#;

pub(super) const NOTES: &str = "note:{id:int}";

pub(super) struct Place {
    pub(super) redis: Redis,
    postgres: Postgres,
}

/// The configuration, with these lines in both mappings.
pub(super) fn config(mode: &str) -> String {
    CONFIG.replace("MODE", mode)
}

impl Place {
    pub(super) fn new() -> Self {
        Self::with("-c wal_level=replica")
    }

    /// With a Postgres that has these options.
    pub(super) fn with(options: &str) -> Self {
        let place = Self { redis: Redis::start(), postgres: Postgres::start_with(options) };
        place.sql(
            "CREATE TABLE notes (id BIGINT PRIMARY KEY, text TEXT, seen BIGINT); INSERT INTO notes SELECT i, 'a', 0 \
             FROM generate_series(1, 2000) AS i;",
        );
        place.builder("").migrated();
        place
    }

    pub(super) fn builder(&self, mode: &str) -> Builder {
        Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(&config(mode))
    }

    /// Stops the store.
    pub(super) fn stop(&self) {
        self.postgres.stop();
    }

    pub(super) fn session(&self) -> Session {
        self.postgres.session()
    }

    /// Returns when a statement waits for a lock.
    pub(super) fn until_one_waits(&self) {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("a statement waits for a lock", || self.sql(waiting) == "1");
    }

    pub(super) fn sql(&self, sql: &str) -> String {
        self.postgres.sql(sql)
    }

    /// What the store has of a note.
    pub(super) fn text(&self, id: u32) -> String {
        self.sql(&format!("SELECT text FROM notes WHERE id = {id}"))
    }
}
