//! What a sidecar that nobody uses asks of Postgres.

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::demo;
use crate::support::until;

/// What the sidecar has sent; what this test asks is left out.
fn sent(postgres: &Postgres) -> u64 {
    postgres.calls("%") - postgres.calls("%pg_stat_statements%")
}

#[test]
fn a_sidecar_that_nobody_uses_sends_a_statement_a_second_at_most() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE EXTENSION pg_stat_statements");
    let _sidecar = demo(&redis, &postgres).start();
    let beats = || postgres.calls("SELECT pg_notify%");
    until("it has begun", || beats() >= 2);
    let (begun, before) = (beats(), sent(&postgres));
    until("eight heartbeats were sent", || beats() >= begun + 8);
    let statements = sent(&postgres) - before;
    // A heartbeat comes every two seconds.
    assert!(statements <= 16, "{statements} statements in 16 seconds");
}
