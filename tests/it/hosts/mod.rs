//! A store of several hosts: real primaries and standbys, of which one is promoted while the sidecar is used.

mod failover;
mod lists;
mod losses;
mod replicas;
mod silence;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tempfile::TempDir;

use crate::outages::standby::has_saved_and_hears;
use crate::support::admin::request;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

/// What was seen last is deferred, the name is written through.
const PLAYERS: &str = "[[caches]]\nkey = \"p:{id:int}\"\ntype = \"hash\"\ntable = \"players\"\nwrite = \"through\"\n\
    deferred = [\"seen\"]\nttl = \"1h\"\n";

/// Every value that was saved is noted by a trigger.
const TABLES: &str = "CREATE TABLE players (id BIGINT PRIMARY KEY, name TEXT, seen BIGINT); \
    INSERT INTO players SELECT i, 'p' || i, 0 FROM generate_series(1, 9) AS i; \
    CREATE TABLE saved (at BIGINT GENERATED ALWAYS AS IDENTITY, id BIGINT, seen BIGINT); \
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN INSERT INTO saved (id, seen) VALUES (NEW.id, NEW.seen); RETURN NULL; END $$; \
    CREATE TRIGGER noted AFTER UPDATE OF seen ON players FOR EACH ROW WHEN (OLD.seen IS DISTINCT FROM NEW.seen) \
    EXECUTE FUNCTION note()";

/// A primary, its standby, and what a sidecar over both needs.
struct Pair {
    redis: Redis,
    primary: Postgres,
    standby: Postgres,
    feed: &'static str,
    folder: TempDir,
}

impl Pair {
    fn new(feed: &'static str) -> Self {
        let (redis, primary) = (Redis::start(), Postgres::start_with("-c wal_level=logical"));
        primary.sql(TABLES);
        let over_primary = Sidecar::builder().redis(&redis).postgres(&primary).config(PLAYERS);
        drop(over_primary.set("STORE__FEED", feed).migrated());
        let standby = primary.standby_with("-c wal_level=logical");
        standby.catch_up_with(&primary);
        Self { redis, primary, standby, feed, folder: tempfile::tempdir().expect("a folder") }
    }

    /// The primary confirms nothing that the standby does not have.
    fn in_step(self) -> Self {
        until("it follows", || self.primary.sql("SELECT count(*) FROM pg_stat_replication") == "1");
        // A change feed by replication would count as a standby, too.
        self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'");
        self.primary.sql("SELECT pg_reload_conf()");
        until("it is waited for", || self.primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync");
        self
    }

    fn url(&self, first: u16, parameters: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{first},127.0.0.1:{}/postgres?{parameters}", self.standby.port)
    }

    /// A sidecar over both, of which the first is reached at a port.
    fn over(&self, first: u16) -> Builder {
        let journal = self.folder.path().join("journal.db").display().to_string();
        let builder = Sidecar::builder().redis(&self.redis).config(PLAYERS).set("STORE__FEED", self.feed);
        let url = self.url(first, "target_session_attrs=read-write");
        let builder = builder.set("STORE__URL", url).set("JOURNAL__PATH", journal);
        builder.expect(warnings::STORE_AWAY).expect(warnings::READS_ONLY).expect(&[warnings::STORE_MOVED])
    }
}

/// Tells threads that it is over when it goes, also with a failed test.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Writes go through, deferred ones are saved, and changes are heard.
fn is_whole(sidecar: &Sidecar, postgres: &Postgres) {
    let mut wire = sidecar.wire();
    until("it takes writes", || wire.ask("HSET p:8 name again").starts_with(':'));
    has_saved_and_hears(sidecar, postgres);
    until("it is ready", || request(sidecar, "GET", "/readyz") == (200, "ready\n".into()));
}

fn seen(postgres: &Postgres, id: u32) -> String {
    postgres.sql(&format!("SELECT seen FROM players WHERE id = {id}"))
}
