//! What docs/OPERATIONS.md says under "At 3 a.m.": from what is reported to its cause, by the command line alone.

use super::looks::facts;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, demo};
use crate::support::wire::line;
use crate::support::{until, warnings};

/// What a command says of the sidecar.
pub fn said(sidecar: &Sidecar, arguments: &[&str]) -> String {
    let port = sidecar.logged_port("admin port").expect("an admin port");
    let output = Sidecar::builder().set("ADMIN__LISTEN", format!("127.0.0.1:{port}")).execute(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_store_that_is_down_since_the_start_a_lost_trigger_and_a_slow_client_are_named() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).set("STORE__SCHEMA_INTERVAL", "100ms");
    let builder = builder.expect(&[
        warnings::WAITING_FOR_THE_STORE,
        warnings::FEED_CLOSED,
        warnings::STORE_HEALTH,
        warnings::NO_TRIGGERS,
    ]);
    postgres.stop();
    let sidecar = builder.start_guarded();
    until("the store is said to be down", || {
        said(&sidecar, &["status"]).contains("store:\n  name: none yet\n  state: down\n")
    });
    assert!(said(&sidecar, &["status"]).contains("start the store, or correct store.url"));
    assert!(said(&sidecar, &["explain", "player:1:session"]).contains("state: waits for the store\n"));
    postgres.launch();
    until("it is up", || said(&sidecar, &["status"]).contains("store:\n  name: Postgres\n  state: up\n"));
    let mut wire = sidecar.wire();
    until("the key is read", || wire.ask("HGET player:1:session hp").starts_with('$'));
    // Who has no token is told where keys are to be seen.
    until("the key is hot", || said(&sidecar, &["top"]).contains("player:{character_id:int}:session"));
    assert!(said(&sidecar, &["top"]).contains("HEARTHSIDE TOP"));
    assert!(said(&sidecar, &["explain", "player:1:session"]).contains("is told: yes\n"));
    postgres.sql("ALTER TABLE sessions DISABLE TRIGGER USER");
    until("nothing is told of it", || said(&sidecar, &["explain", "player:1:session"]).contains("is told: no\n"));
    assert!(said(&sidecar, &["events"]).contains("hearthside triggers --install"));
    // Longer than what the sockets hold.
    wire.ask("CLIENT SETNAME sleepy");
    assert_eq!(wire.ask(&format!("SET long {}", "x".repeat(1_000_000))), "+OK\r\n");
    wire.send(&line("GET long").repeat(40));
    until("it is seen", || {
        let all = facts(&sidecar, "/api/clients");
        let is_slow = |client: &serde_json::Value| client["name"] == "sleepy" && client["stalled_ms"].is_u64();
        all.as_array().is_some_and(|all| all.iter().any(is_slow))
    });
}
