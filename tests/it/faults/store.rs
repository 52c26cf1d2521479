//! Faults between the sidecar and its store: the failure table of docs/CONSISTENCY.md, row by row, and more.

use super::trial::{Trial, World};
use crate::support::admin::metric;
use crate::support::proxy::Spoil;
use crate::support::until;
use crate::support::warnings;

/// What is said while the store is away.
const AWAY: [&str; 4] = ["could not be read", "was not written", "may have been applied", "is overloaded"];

fn trial() -> Trial {
    Trial::sees(&AWAY).with_postgres().set("STORE__QUERY_TIMEOUT", "500ms").set("STORE__CONNECT_TIMEOUT", "500ms")
}

/// Definitions and pass-through keys are served whatever the store does.
fn the_rest_goes_on(world: &World) {
    let mut wire = world.sidecar.wire();
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
    assert_eq!(wire.ask("SET through 1"), "+OK\r\n");
    assert_eq!(wire.ask("GET through"), "$1\r\n1\r\n");
}

#[test]
fn the_store_is_killed_and_started_again() {
    trial().run(|world| {
        let postgres = world.postgres.as_ref().expect("a Postgres");
        postgres.stop();
        until("misses fail", || world.sidecar.wire().ask("HGET player:99:session hp").contains("could not be read"));
        the_rest_goes_on(world);
        postgres.launch();
    });
}

#[test]
fn store_connections_are_cut() {
    trial().run(|world| {
        for _ in 0..3 {
            world.store.as_ref().expect("a proxy").cut();
            the_rest_goes_on(world);
            world.load.go_on(2);
        }
    });
}

#[test]
fn store_connections_are_reset() {
    trial().run(|world| {
        for _ in 0..3 {
            world.store.as_ref().expect("a proxy").reset();
            the_rest_goes_on(world);
            world.load.go_on(2);
        }
    });
}

#[test]
fn the_store_is_silent() {
    trial().run(|world| {
        let store = world.store.as_ref().expect("a proxy");
        store.hold(true);
        until("the circuit opens", || world.sidecar.wire().ask("HGET player:98:session hp").contains("circuit"));
        the_rest_goes_on(world);
        store.hold(false);
    });
}

#[test]
fn the_store_answers_byte_by_byte() {
    let errors = trial().set("STORE__QUERY_TIMEOUT", "10s").run(|world| {
        let store = world.store.as_ref().expect("a proxy");
        store.spoil(Spoil::Trickle);
        world.load.go_on(5);
        store.spoil(Spoil::Nothing);
    });
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn the_store_answers_garbage() {
    trial().run(|world| {
        let store = world.store.as_ref().expect("a proxy");
        store.spoil(Spoil::Garbage);
        until("misses fail", || world.sidecar.wire().ask("HGET player:97:session hp").starts_with('-'));
        the_rest_goes_on(world);
        store.spoil(Spoil::Nothing);
        // A connection that spoke garbage is of no use any more.
        store.cut();
    });
}

#[test]
fn the_store_ends_its_connections() {
    trial().run(|world| {
        for _ in 0..3 {
            let postgres = world.postgres.as_ref().expect("a Postgres");
            postgres.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND \
                backend_type = 'client backend'",
            );
            the_rest_goes_on(world);
            world.load.go_on(2);
        }
    });
}

#[test]
fn a_table_is_locked() {
    trial().run(|world| {
        let postgres = world.postgres.as_ref().expect("a Postgres");
        let mut session = postgres.session();
        session.run("BEGIN; LOCK TABLE sessions;");
        until("a load ends by its deadline", || world.sidecar.wire().ask("HGET player:96:session hp").starts_with('-'));
        the_rest_goes_on(world);
        session.run("ROLLBACK;");
    });
}

#[test]
fn the_change_feed_is_cut() {
    trial().set("STORE__HEARTBEAT_INTERVAL", "100ms").set("STORE__HEARTBEAT_TIMEOUT", "300ms").run(|world| {
        let postgres = world.postgres.as_ref().expect("a Postgres");
        let mut wire = world.sidecar.wire();
        assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
        // Not in a gap that the machine made: the next one is counted.
        let mut gaps = 0.0;
        until("the change feed is up", || {
            gaps = metric(&world.sidecar, "hearthside_gaps_total");
            metric(&world.sidecar, "hearthside_change_feed_up") == 1.0
        });
        world.store.as_ref().expect("a proxy").hold(true);
        postgres.sql("UPDATE items SET name = 'Golden apple' WHERE item_id = 'apple'");
        until("the gap is noticed", || metric(&world.sidecar, "hearthside_gaps_total") > gaps);
        world.store.as_ref().expect("a proxy").hold(false);
        until("nothing of before the gap is served", || wire.ask("HGET item:apple:def name").contains("Golden apple"));
        postgres.sql("UPDATE items SET name = 'Apple' WHERE item_id = 'apple'");
    });
}

#[test]
fn deferred_writes_outlive_the_store() {
    // The demo's sessions, with a heartbeat that is deferred.
    let config =
        hearthside::config::SHIPPED.replace("renew = true\n", "renew = true\ndeferred = [\"last_heartbeat\"]\n");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    std::fs::write(&path, config).expect("written");
    let postgres = crate::support::postgres::Postgres::start();
    let builder = crate::support::sidecar::Sidecar::builder().config(&std::fs::read_to_string(&path).expect("read"));
    let builder = builder.postgres(&postgres);
    assert!(builder.execute(&["migrate", "--demo"]).status.success());
    let sidecar = builder.migrated().expect(warnings::STORE_AWAY).expect(&[warnings::DEFERRED_WAIT]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n99\r\n");
    postgres.stop();
    assert_eq!(wire.ask("HSET player:1:session last_heartbeat 1700000000"), ":0\r\n", "the journal has it");
    assert_eq!(wire.ask("HGET player:1:session last_heartbeat"), "$10\r\n1700000000\r\n");
    postgres.launch();
    until("the store has it", || {
        postgres.sql("SELECT extract(epoch FROM last_heartbeat)::bigint FROM sessions WHERE character_id = 1")
            == "1700000000"
    });
}
