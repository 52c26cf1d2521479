//! Tables that change while a sidecar serves them: nobody restarts it, and no reply is wrong for more than seconds.

mod altered;
mod beneath;
mod embedded;
mod faulty;
mod migrations;
mod removed;
mod replaced;
mod reverted;
mod shadowed;
mod unseen;

use std::time::{Duration, Instant};

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};

/// A reply is right again after a migration within this time.
const SOON: Duration = Duration::from_secs(5);

/// A sidecar with these mappings over `postgres`, which has their tables.
fn over(redis: &Redis, postgres: &Postgres, mappings: &str) -> Builder {
    Sidecar::builder().redis(redis).postgres(postgres).config(mappings).migrated()
}

/// Waits until it holds, no longer than a mapping may take to be right again.
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
