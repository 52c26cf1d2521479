//! Real parts for tests: a redis-server, a Postgres, a sidecar process, raw RESP clients, and a fault proxy.
//! Everything lives in temporary folders and on free ports, and ends with the test.

pub mod admin;
pub mod browser;
pub mod certificates;
pub mod clusters;
pub mod collector;
pub mod nodes;
pub mod pgbouncer;
mod ports;
pub mod postgres;
pub mod power;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod pushes;
pub mod redis;
pub mod sentinels;
pub mod sidecar;
mod standby;
pub mod warnings;
pub mod wire;

use std::time::{Duration, Instant};

pub use ports::free_port;

/// A number from the environment, with which a long test is made longer, or another.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Waits for a condition, not for a time.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    start.elapsed()
}
