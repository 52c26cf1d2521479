//! Hearthside: a read-through caching sidecar proxy for Redis.
//!
//! The road of a request, and the order in which to read:
//!
//! ```text
//! client bytes -> command -> route -> (definitions | cache | upstream) -> reply bytes
//!
//!   server::client   THE LOOP: read, scan, route, answer or forward, write
//!   route            where a request goes (pure)
//!   dispatch         answers what is routed; the one place that knows definitions, cache and upstream
//!   definitions      preloaded records, swapped whole
//!   cache            read-through records: one load per key, TTL, generations, invalidation
//!   upstream         lanes that all clients share, pinned connections lent to one
//!   store            Postgres or SQLite: rows to records, changes to notices
//! ```
//!
//! A module imports from modules of lower rank only; `tests/it/structure/architecture.rs` holds the ranks. What the
//! program, benches, fuzz targets or tests use is public; in the other rooms the compiler finds what nobody uses.

// 0: bytes, settings, numbers, error texts
pub mod config;
mod errors;
mod leniency;
pub mod resp;
pub mod telemetry;
// 1: names
pub mod command;
pub mod keys;
mod quota;
// 2: values and decisions, pure
pub mod access;
mod key_events;
pub mod mapping;
mod near;
pub mod record;
mod tracking;
// 3: where a request goes; the database, and what waits for it
pub mod journal;
pub mod route;
pub mod store;
// 4: what answers
mod cache;
mod clients;
mod definitions;
mod upstream;
// 5: one client's state; what an operator may look at; keys that are copied
mod import;
pub mod inspect;
mod session;
// 6: who answers
mod dispatch;
// 7: what takes several requests
mod transaction;
// 8: the outside
pub mod admin;
mod server;
// 9: the whole
pub mod app;
