//! Changes by logical replication: what is told, that nothing is served that was loaded before a change could be seen,
//! and what must be there for it.

mod bounds;
mod choice;
mod definitions;
mod endings;
mod feed;
mod in_place;
mod installed;
mod looks;
mod told;
mod under_load;

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::Wire;

/// A Postgres whose log holds what is needed.
fn logical() -> Postgres {
    Postgres::start_with("-c wal_level=logical -c max_prepared_transactions=4")
}

/// One mapping: `{letter}:{id:int}` over this table.
fn over(letter: &str, table: &str, more: &str) -> String {
    format!("[[caches]]\nkey = \"{letter}:{{id:int}}\"\ntype = \"hash\"\ntable = '{table}'\nttl = \"1h\"\n{more}\n")
}

/// A sidecar's configuration over this Postgres, with its publication. Nothing but the feed ends what is remembered,
/// and no heartbeat but the first has it look what can be seen.
fn replicated(redis: &Redis, postgres: &Postgres, config: &str) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(config).set("STORE__FEED", "replication");
    let builder = builder.set("STORE__HEARTBEAT_INTERVAL", "60s").set("STORE__HEARTBEAT_TIMEOUT", "120s");
    builder.set("CACHE__NEGATIVE_TTL", "1h").set("CACHE__MAX_STALENESS", "1h").migrated()
}

/// While this is there a commit waits for a standby that is not: it is in the log, and streamed, and nobody sees its
/// row.
struct Held<'p>(&'p Postgres);

impl<'p> Held<'p> {
    fn begin(postgres: &'p Postgres) -> Self {
        wait_for(postgres, "nobody");
        Self(postgres)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        wait_for(self.0, "");
    }
}

/// From now on commits wait for this standby.
fn wait_for(postgres: &Postgres, name: &str) {
    postgres.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"));
    postgres.sql("SELECT pg_reload_conf()");
    until("it is in force", || postgres.sql("SHOW synchronous_standby_names") == name);
}

/// Waits until a commit is held.
fn is_held(postgres: &Postgres, verb: &str) {
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE";
    until("the writer waits for the standby", || postgres.sql(&format!("{waits} '{verb}%'")) == "1");
}

fn whole_mappings(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_invalidations_total{reason=\"mapping\"}")
}

/// Waits until a request is answered so.
fn shows(wire: &mut Wire, request: &str, reply: &str) {
    until(&format!("{request} is answered {reply:?}"), || wire.ask(request) == reply);
}
