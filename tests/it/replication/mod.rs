//! Changes by logical replication: what is told, that nothing is served that was loaded before a change could be seen,
//! and what must be there for it.

mod bounds;
mod choice;
mod definitions;
mod endings;
mod feed;
mod in_place;
mod installed;
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

/// A sidecar's configuration over this Postgres, with its publication. Nothing but the feed ends what is remembered.
fn replicated(redis: &Redis, postgres: &Postgres, config: &str) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(config).set("STORE__FEED", "replication");
    builder.set("CACHE__NEGATIVE_TTL", "1h").set("CACHE__MAX_STALENESS", "1h").migrated()
}

fn whole_mappings(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_invalidations_total{reason=\"mapping\"}")
}

/// Waits until a request is answered so.
fn shows(wire: &mut Wire, request: &str, reply: &str) {
    until(&format!("{request} is answered {reply:?}"), || wire.ask(request) == reply);
}
