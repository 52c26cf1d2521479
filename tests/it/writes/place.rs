//! A place for deferred writes: a store with players, the journal's folder, and sidecars over both.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::admin::metric;
use crate::support::postgres::{Postgres, Session};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

pub(super) const CONFIG: &str = r#"
[[caches]]
key = "p:{id:int}"
type = "hash"
table = "players"
overflow = "more"
write = "through"
delete = "row"
deferred = ["seen", "steps", "mood", "note"]

[[caches]]
key = "n:{id:int}"
type = "string"
table = "notes"
value = "v"
write = "deferred"
"#;

const TABLES: &str = "CREATE TABLE players (id BIGINT PRIMARY KEY, name TEXT, hp INTEGER, seen BIGINT, \
    steps BIGINT CHECK (steps >= 0), mood TEXT, more JSONB); INSERT INTO players SELECT i, 'p' || i, 10, 0, 0, \
    'calm', NULL \
    FROM generate_series(1, 1000) AS i; CREATE TABLE notes (id BIGINT PRIMARY KEY, v TEXT); INSERT INTO notes VALUES \
    (1, 'a');";

/// Parts that outlive a sidecar.
pub(super) struct Place {
    pub(super) redis: Redis,
    pub(super) postgres: Postgres,
    pub(super) folder: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let place =
            Self { redis: Redis::start(), postgres: Postgres::start(), folder: tempfile::tempdir().expect("a folder") };
        place.postgres.sql(TABLES);
        place.builder("1s").migrated();
        place
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.folder.path().join("journal.db")
    }

    pub(super) fn builder(&self, interval: &str) -> Builder {
        let journal = self.journal().display().to_string();
        let builder = Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(CONFIG);
        builder.set("JOURNAL__PATH", journal).set("JOURNAL__FLUSH_INTERVAL", interval)
    }

    /// The same with its store behind a proxy.
    pub(super) fn behind(&self, proxy: &Proxy) -> Builder {
        self.builder("50ms").set("STORE__URL", self.postgres.url_at(proxy.port)).expect(TROUBLE)
    }

    /// Locks the first row, so that a flush of it waits.
    pub(super) fn lock_first(&self) -> Session {
        let mut lock = self.postgres.session();
        lock.run("BEGIN; UPDATE players SET hp = hp WHERE id = 1;");
        lock
    }

    /// Returns when so many statements wait for a lock.
    pub(super) fn until_locked_out(&self, count: u32) {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("statements wait for a lock", || self.postgres.sql(waiting) == count.to_string());
    }

    pub(super) fn seen(&self, id: u32) -> String {
        self.postgres.sql(&format!("SELECT seen FROM players WHERE id = {id}"))
    }
}

/// Returns when nothing waits in the sidecar's journal.
pub(super) fn until_saved(sidecar: &Sidecar) {
    until("the journal is empty", || metric(sidecar, "hearthside_journal_bytes") == 0.0);
}

/// What the log says while the store is in trouble.
pub(super) const TROUBLE: &[&str] = &[
    warnings::DEFERRED_WAIT,
    warnings::DEFERRED_REFUSED,
    warnings::UNFIT,
    warnings::STORE_SILENT,
    warnings::STORE_HEALTH,
    warnings::WAITING_FOR_THE_STORE,
    warnings::LOAD_FAILED,
    warnings::WRITE_FAILED,
    warnings::WAITING_FOR_THE_NOTE,
    warnings::NOT_SWEPT,
    warnings::FEED_LOST,
    warnings::FEED_CLOSED,
];
