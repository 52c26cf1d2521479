//! Tables as they are found: keys, columns, names, constraints and rights of every kind.

mod columns;
mod constraints;
mod encodings;
mod ends;
mod extensions;
mod fields;
mod keys;
mod moving;
mod names;
mod placeholders;
mod queries;
mod rights;
mod rowid;
mod truth;

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};

/// A sidecar's settings over these tables, with triggers.
fn over(redis: &Redis, postgres: &Postgres, tables: &str, config: &str) -> Builder {
    postgres.sql(tables);
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(config);
    builder.set("JOURNAL__FLUSH_INTERVAL", "20ms").migrated()
}

/// What `hearthside check --connect` says, and whether it is content.
fn check(builder: &Builder) -> (bool, String) {
    let output = builder.execute(&["check", "--connect"]);
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A block of a cached hash that takes writes, and more of it.
fn hash(key: &str, table: &str, more: &str) -> String {
    format!("[[caches]]\nkey = \"{key}\"\ntype = \"hash\"\ntable = '{table}'\nwrite = \"through\"\n{more}\n\n")
}
