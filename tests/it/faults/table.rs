//! The failure table of docs/CONSISTENCY.md, a test for each row: what is served while one part is down.

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

struct Parts {
    redis: Redis,
    postgres: Postgres,
    /// Between the sidecar and Postgres.
    store: Proxy,
    sidecar: Sidecar,
}

/// Sessions with a deferred heartbeat; a player's record is served for two minutes past its TTL if the store cannot be
/// asked.
fn parts(more: &[(&str, &str)]) -> Parts {
    let config = hearthside::config::SHIPPED
        .replace("renew = true\n", "renew = true\nstale_if_error = \"2m\"\ndeferred = [\"last_heartbeat\"]\n");
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(Sidecar::builder().postgres(&postgres).execute(&["migrate", "--demo"]).status.success());
    let store = Proxy::to(postgres.port);
    let mut builder = Sidecar::builder().config(&config).redis(&redis).postgres(&postgres).migrated();
    builder = builder.set("STORE__URL", postgres.url_at(store.port)).set("UPSTREAM__QUEUE_TIMEOUT", "200ms");
    builder = builder.set("STORE__QUERY_TIMEOUT", "500ms").set("STORE__CONNECT_TIMEOUT", "500ms");
    for (name, value) in more {
        builder = builder.set(name, *value);
    }
    let sidecar = builder
        .expect(warnings::UPSTREAM_AWAY)
        .expect(warnings::STORE_AWAY)
        .expect(&[warnings::DEFERRED_WAIT, warnings::DEFERRED_STAY])
        .start();
    // A hit in memory.
    assert_eq!(sidecar.wire().ask("HGET player:1:session hp"), "$2\r\n99\r\n");
    Parts { redis, postgres, store, sidecar }
}

fn definitions_are_served(wire: &mut Wire) {
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
}

fn cached_hits_are_served(wire: &mut Wire) {
    assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n99\r\n");
}

fn pass_through_is_served(wire: &mut Wire) {
    assert_eq!(wire.ask("SET through 1"), "+OK\r\n");
    assert_eq!(wire.ask("GET through"), "$1\r\n1\r\n");
}

#[test]
fn the_upstream_is_down() {
    let mut parts = parts(&[]);
    parts.redis.kill();
    let mut wire = parts.sidecar.wire();
    definitions_are_served(&mut wire);
    cached_hits_are_served(&mut wire);
    assert_eq!(wire.ask("HGET player:2:session character_id"), "$-1\r\n", "a miss is loaded");
    assert!(wire.ask("HLEN player:2:session").starts_with(':'));
    assert_eq!(wire.ask("HSET player:1:session level 8"), ":0\r\n", "written through");
    assert_eq!(wire.ask("HSET player:1:session last_heartbeat 1700000000"), ":0\r\n", "deferred");
    let told = wire.ask("SET through 1");
    assert!(told.contains("does not answer") && told.contains("not sent"), "a clear error after a wait: {told}");
    parts.redis.launch();
    until("it comes back by itself", || wire.ask("SET through 1") == "+OK\r\n");
}

#[test]
fn the_store_is_down() {
    let parts = parts(&[("CACHE__TTL_JITTER", "0")]);
    let mut wire = parts.sidecar.wire();
    // Its TTL is over while the store is away.
    assert_eq!(wire.ask("HGET player:2:session hp").chars().next(), Some('$'));
    parts.postgres.stop();
    definitions_are_served(&mut wire);
    cached_hits_are_served(&mut wire);
    pass_through_is_served(&mut wire);
    let mut missing = 50;
    until("misses fail at once when the circuit is open", || {
        missing += 1;
        let told = wire.ask(&format!("HGET player:{missing}:session hp"));
        assert!(told.starts_with("-ERR"), "{told}");
        told.contains("circuit")
    });
    let told = wire.ask("HSET player:1:session level 9");
    assert!(told.contains("was not written"), "through: {told}");
    assert_eq!(wire.ask("HSET player:2:session last_heartbeat 1700000000"), ":0\r\n", "deferred: into the journal");
    parts.postgres.launch();
    until("it comes back by itself", || wire.ask("HSET player:1:session level 9") == ":0\r\n");
    until("the journal is saved", || metric(&parts.sidecar, "hearthside_deferred_keys") == 0.0);
}

#[test]
fn the_change_feed_is_down() {
    let parts = parts(&[
        ("STORE__HEARTBEAT_INTERVAL", "100ms"),
        ("STORE__HEARTBEAT_TIMEOUT", "300ms"),
        ("CACHE__MAX_STALENESS", "1s"),
    ]);
    let mut wire = parts.sidecar.wire();
    // The feed's connections end again and again; those of the others live on.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND (query LIKE \
        '%hearthside%' OR query LIKE 'LISTEN%')";
    parts.store.refuse_new(true);
    parts.postgres.sql(cut);
    until("the feed is down", || metric(&parts.sidecar, "hearthside_change_feed_up") == 0.0);
    definitions_are_served(&mut wire);
    pass_through_is_served(&mut wire);
    parts.postgres.sql("UPDATE sessions SET hp = 55 WHERE character_id = 1");
    parts.store.refuse_new(false);
    until("nothing older than max_staleness is served", || wire.ask("HGET player:1:session hp") == "$2\r\n55\r\n");
    assert_eq!(wire.ask("HSET player:1:session level 7"), ":0\r\n");
    assert_eq!(wire.ask("HGET player:1:session level"), "$1\r\n7\r\n");
    until("it comes back by itself", || metric(&parts.sidecar, "hearthside_change_feed_up") == 1.0);
}
