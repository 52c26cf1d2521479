//! What the log says of an outage: where, why, whom it concerns, and that it is over.

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, demo};
use crate::support::until;
use crate::support::warnings;

/// The first line that holds all of these.
fn said(sidecar: &Sidecar, words: &[&str]) -> Option<String> {
    sidecar.log().lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
}

#[test]
fn a_store_that_is_away_is_named_with_the_cause_and_its_return_is_no_warning() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).expect(warnings::STORE_AWAY).start();
    postgres.stop();
    let place = format!("127.0.0.1:{}", postgres.port);
    // Whether it is refused or ended first is the server's.
    let cause = ["the change feed cannot be connected", &place, "why="];
    until("why the feed is down is told", || said(&sidecar, &cause).is_some());
    until("the store is known to be away", || said(&sidecar, &[" WARN ", "health changed", "up=false"]).is_some());
    postgres.launch();
    until("it is known to be back", || said(&sidecar, &[" INFO ", "health changed", "up=true"]).is_some());
}

#[test]
fn the_shared_subscriber_connection_is_told_to_be_there_again() {
    let mut redis = Redis::start();
    let expected = [warnings::UPSTREAM_AWAY, &[warnings::SHARED_SUBSCRIBER_DOWN]].concat();
    let sidecar = Sidecar::builder().redis(&redis).set("PUBSUB__MODE", "shared").expect(&expected).start();
    assert!(sidecar.wire().ask("SUBSCRIBE a").starts_with('*'));
    assert!(said(&sidecar, &["there again"]).is_none());
    redis.kill();
    until("it is down", || said(&sidecar, &[warnings::SHARED_SUBSCRIBER_DOWN]).is_some());
    redis.launch();
    until("it is back", || said(&sidecar, &[" INFO ", "the shared subscriber connection is there again"]).is_some());
}

#[test]
fn a_client_that_is_disconnected_is_named_by_its_address() {
    let mut redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("PUBSUB__ON_LOSS", "close");
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    let info = wire.ask("CLIENT INFO");
    let address = info.split(" addr=").nth(1).and_then(|rest| rest.split(' ').next()).expect("its address");
    wire.ask("SUBSCRIBE a");
    redis.kill();
    assert!(wire.try_frame().is_none(), "closed");
    assert!(
        said(&sidecar, &[warnings::OWN_CONNECTION_LOST, &format!("address=\"{address}\"")]).is_some(),
        "{}",
        sidecar.log()
    );
}
