//! Metrics as Prometheus, its alerts and a dashboard read them.

mod alerts;
mod bounded;
mod changes;
mod dashboard;
mod faults;
mod format;
mod journal;
mod mappings;
mod protection;
mod times;

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};

/// A hash that defers one of its columns, and a string.
const MAPPINGS: &str = "[[caches]]\nkey = \"p:{id:int}\"\ntype = \"hash\"\ntable = \"p\"\nwrite = \"through\"\ndeferred \
                        = [\"seen\"]\n[[caches]]\nkey = \"n:{id:int}\"\ntype = \"string\"\ntable = \"n\"\nvalue = \
                        \"v\"\nwrite = \"through\"\n";

const TABLES: &str = "CREATE TABLE p (id INT PRIMARY KEY, hp INT, seen INT CHECK (seen >= 0)); INSERT INTO p SELECT i, \
                      i, 0 FROM generate_series(1, 100) AS i; CREATE TABLE n (id INT PRIMARY KEY, v TEXT); INSERT INTO \
                      n VALUES (1, 'a');";

/// Pass-through keys that are kept.
const NEAR: &str = "[[near]]\nkeys = \"cfg:*\"\n";

/// A sidecar with these mappings over both servers.
fn over(redis: &Redis, postgres: &Postgres, mappings: &str) -> Builder {
    postgres.sql(TABLES);
    Sidecar::builder().redis(redis).postgres(postgres).config(mappings).migrated()
}

/// The metrics that an expression names.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("hearthside_") || word.starts_with("process_") || *word == "up")
}
