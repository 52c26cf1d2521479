//! Behaviour, at the wire and against real servers. One binary; a folder says what its
//! tests are about, a file which behaviour they show.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking"
)]
#![allow(missing_docs, reason = "nobody reads the documentation of a test binary")]

/// Counts what is in use: `limits/memory.rs` compares it with what a sidecar tells.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

mod access;
mod cluster;
mod consistency;
mod console;
mod differential;
mod faults;
mod hosts;
mod import;
mod key_events;
mod limits;
mod metrics;
mod modes;
mod near;
mod operations;
mod outages;
mod outbox;
mod owned;
mod protocol;
mod replicas;
mod replication;
mod schema;
mod sentinel;
mod statements;
mod structure;
mod support;
mod tables;
mod traces;
mod tracking;
mod transactions;
mod triggers;
mod upstream;
mod writes;
