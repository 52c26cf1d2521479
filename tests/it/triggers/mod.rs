//! The change triggers in Postgres: what they tell, that they never fail or block who writes, and the commands that make
//! and drop them.

mod advice;
mod beyond;
mod commands;
mod ledger;
mod names;
mod rights;
mod told;
mod writers;

use std::process::Output;

use crate::support::postgres::Postgres;
use crate::support::sidecar::{Builder, Sidecar};

/// One mapping: `r:{id:int}` over this table.
fn over(table: &str, more: &str) -> String {
    format!("[[caches]]\nkey = \"r:{{id:int}}\"\ntype = \"hash\"\ntable = '{table}'\nttl = \"1h\"\n{more}\n")
}

/// A sidecar's configuration over this Postgres, with its triggers.
fn installed(postgres: &Postgres, config: &str) -> Builder {
    Sidecar::builder().postgres(postgres).config(config).migrated()
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The payloads of the notices that `sql` sends, in one session that listens to itself.
pub fn notices(postgres: &Postgres, sql: &str) -> Vec<String> {
    let told = postgres.sql_and_notices(&format!("LISTEN hearthside; {sql}; SELECT 1"));
    let payload = |line: &str| Some(line.split_once("with payload \"")?.1.split_once("\" received")?.0.to_owned());
    told.lines().filter_map(payload).collect()
}
