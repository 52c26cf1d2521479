//! Traces by OpenTelemetry: which commands become spans, what stands in them, and that a collector holds nobody up.

mod collectors;
mod commands;
mod nodes;
mod settings;
mod slow;

use crate::support::collector::Collector;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};

const CONFIG: &str = concat!(
    r#"
[[definitions]]
key = "place:{id:int}"
type = "hash"
table = "place"
"#,
    include_str!("../support/heroes.toml")
);

/// A sidecar of which every command is traced, and nothing because it is slow.
fn builder(redis: &Redis, postgres: &Postgres, collector: &Collector) -> Builder {
    without_collector(redis, postgres)
        .set("TRACES__ENDPOINT", collector.url())
        .set("TRACES__SAMPLE", "1")
        .set("TRACES__SLOWER_THAN", "0s")
}

fn without_collector(redis: &Redis, postgres: &Postgres) -> Builder {
    postgres.sql(
        "CREATE TABLE place (id int PRIMARY KEY, name text); \
         CREATE TABLE hero (id int PRIMARY KEY, name text, age int CHECK (age < 1000)); \
         CREATE TABLE tally (id int PRIMARY KEY, n int); \
         INSERT INTO place VALUES (1, 'topsecret'); \
         INSERT INTO hero SELECT id, 'topsecret', id - 70000 FROM generate_series(70001, 70009) id; \
         INSERT INTO tally SELECT id, 0 FROM generate_series(70001, 70009) id",
    );
    Sidecar::builder().config(CONFIG).redis(redis).postgres(postgres).migrated()
}
