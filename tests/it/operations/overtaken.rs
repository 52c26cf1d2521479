//! A reload comes while a request is under way: what the request writes from then on must not go to the cache of
//! before.

use hearthside::config::SHIPPED;

use super::reload::reload;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::{Wire, line};

const OUTDATED: &str = "-EXECABORT hearthside: the configuration was reloaded";

/// Other mappings, because a key is kept for longer.
fn other_mappings() -> String {
    let text = SHIPPED.replacen("ttl = \"10m\"", "ttl = \"11m\"", 1);
    assert_ne!(text, SHIPPED);
    text
}

/// The same mappings, and HSET is denied.
fn other_rules() -> String {
    let text = SHIPPED.replace("\"SHUTDOWN\", ", "\"SHUTDOWN\", \"HSET\", ");
    assert_ne!(text, SHIPPED);
    text
}

/// An upstream with a client whose EXEC waits for it: `before` has been answered, and of `held`, which ends with EXEC,
/// nothing.
fn held_exec(redis: &Redis, sidecar: &Sidecar, before: &[&str], held: &[&str]) -> Wire {
    let mut wire = sidecar.wire();
    for request in before {
        assert!(!wire.ask(request).starts_with('-'), "{request}");
    }
    redis.pause(true);
    wire.send(&held.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
    let mut other = sidecar.wire();
    until("EXEC is taken", || other.ask("CLIENT LIST").contains("cmd=exec"));
    wire
}

fn text(frame: &[u8]) -> String {
    String::from_utf8_lossy(frame).into_owned()
}

#[test]
fn an_exec_that_waits_for_the_upstream_during_a_reload_writes_nothing() {
    for after in [other_mappings(), other_rules()] {
        let redis = Redis::start();
        let sidecar = Sidecar::builder().redis(&redis).config(SHIPPED).start();
        let mut other = sidecar.wire();
        assert_eq!(other.ask("HSET player:1:session hp 40"), ":0\r\n");
        let held = ["SET b 1", "HSET player:1:session hp 41", "EXEC"];
        let mut wire = held_exec(&redis, &sidecar, &["MULTI", "SET a 1"], &held);
        reload(&sidecar, &after);
        assert_eq!(other.ask("HGET player:1:session hp"), "$2\r\n40\r\n");
        redis.pause(false);
        assert_eq!([wire.frame(), wire.frame()].map(|frame| text(&frame)), ["+QUEUED\r\n"; 2]);
        let told = text(&wire.frame());
        assert!(told.starts_with(OUTDATED), "{told}");
        for reader in [&mut wire, &mut other] {
            assert_eq!(reader.ask("HGET player:1:session hp"), "$2\r\n40\r\n");
            assert_eq!(reader.ask("MGET a b"), "*2\r\n$-1\r\n$-1\r\n");
        }
    }
}

#[test]
fn an_exec_that_waits_for_the_upstream_during_a_reload_does_not_overlook_a_change_of_what_it_watches() {
    let redis = Redis::start();
    let deferred = SHIPPED.replace("write = \"through\"", "write = \"deferred\"");
    let sidecar = Sidecar::builder().redis(&redis).config(&deferred).start();
    let before = ["WATCH player:1:session", "MULTI", "SET a 1"];
    let mut wire = held_exec(&redis, &sidecar, &before, &["SET b 1", "EXEC"]);
    reload(&sidecar, &deferred.replacen("ttl = \"10m\"", "ttl = \"11m\"", 1));
    let mut other = sidecar.wire();
    assert_eq!(other.ask("HSET player:1:session hp 41"), ":0\r\n");
    redis.pause(false);
    assert_eq!(text(&wire.frame()), "+QUEUED\r\n");
    let told = text(&wire.frame());
    assert!(told.starts_with(OUTDATED), "{told}");
    assert_eq!(other.ask("GET a"), "$-1\r\n");
}

#[test]
fn an_exec_that_the_upstream_has_been_asked_to_run_is_answered_across_a_reload() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).config(SHIPPED).start();
    let held = ["HGET player:1:session hp", "EXEC"];
    let mut wire = held_exec(&redis, &sidecar, &["MULTI", "SET a 1"], &held);
    reload(&sidecar, &other_mappings());
    redis.pause(false);
    assert_eq!(text(&wire.frame()), "+QUEUED\r\n");
    assert_eq!(text(&wire.frame()), "*2\r\n+OK\r\n$2\r\n99\r\n", "what has run is not said to have been aborted");
}
