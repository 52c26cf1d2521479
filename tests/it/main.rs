//! Behaviour, at the wire and against real servers. One binary, a file per behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking"
)]
#![allow(missing_docs, unreachable_pub, reason = "nobody reads the documentation of a test binary")]

/// Counts what is in use: `memory.rs` compares it with what a sidecar tells.
#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

mod architecture;
mod auth;
mod blocking;
mod browsers;
mod changes;
mod commandline;
mod consistency;
mod crowd;
mod definitions;
mod differential;
mod documents;
mod embedded;
mod endings;
mod faults;
mod gathered;
mod herd;
mod lanes;
mod limits;
mod listing;
mod logins;
mod malformed;
mod memory;
mod operations;
mod outages;
mod owned;
mod pipeline;
mod protocol;
mod refusals;
mod reload;
mod revoked;
mod scanners;
mod shared_pubsub;
mod slices;
mod staleness;
mod startup;
mod state;
mod store_faults;
mod support;
mod table;
mod tls;
mod transactions;
mod transcripts;
mod turns;
mod upstream_faults;
mod verifier;
mod waiting;
mod writes;
