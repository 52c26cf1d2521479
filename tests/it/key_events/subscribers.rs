//! Who hears of events, for how long, and among what.

use std::time::Duration;

use super::listener::{Listener, both, told};
use super::place::{CONFIG, Place};
use crate::operations::reload::reload;
use crate::support::admin::{metric, request};
use crate::support::clusters::Cluster;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, connect_narrow, line};

const MODES: [&str; 2] = ["exact", "shared"];

/// One may listen to everything, the other one (its password is `secret`) to no events.
const USERS: &str = r#"
[auth]
mode = "users"
[[users]]
name = "default"
nopass = true
commands = ["@all"]
keys = ["*"]
channels = ["*"]
[[users]]
name = "deaf"
passwords = ["2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
commands = ["@all"]
keys = ["*"]
channels = ["news*"]
"#;

#[test]
fn owned_and_pass_through_keys_come_in_one_subscription_in_either_protocol() {
    let place = Place::new();
    for mode in MODES {
        let sidecar = place.builder().set("PUBSUB__MODE", mode).start();
        let mut writer = sidecar.wire();
        for hello in ["HELLO 2", "HELLO 3"] {
            let mut all = Listener::of(sidecar.wire(), hello, "PSUBSCRIBE __keyspace@*__:*");
            let mut sets = Listener::of(sidecar.wire(), hello, "SUBSCRIBE __keyevent@0__:set __keyevent@0__:hset");
            for round in 0..10 {
                for (key, request, event) in [
                    ("s:1", format!("SET s:1 {round}"), "set"),
                    ("plain", format!("SET plain {round}"), "set"),
                    ("h:1", format!("HSET h:1 f {round}"), "hset"),
                    ("other", format!("HSET other f {round}"), "hset"),
                ] {
                    writer.ask(&request);
                    assert_eq!(all.next(), both(key, event)[0], "{mode} {hello}");
                    assert_eq!(sets.next(), both(key, event)[1], "{mode} {hello}");
                }
            }
            // As bytes.
            writer.ask("SET s:1 x");
            let first = if hello == "HELLO 3" { '>' } else { '*' };
            let (message, of_pattern) = (
                format!("{first}3\r\n$7\r\nmessage\r\n$18\r\n__keyevent@0__:set\r\n$3\r\ns:1\r\n"),
                format!(
                    "{first}4\r\n$8\r\npmessage\r\n$16\r\n__keyspace@*__:*\r\n$18\r\n__keyspace@0__:s:1\r\n\
                     $3\r\nset\r\n"
                ),
            );
            assert_eq!((sets.wire.text(), all.wire.text()), (message, of_pattern), "{mode} {hello}");
        }
    }
}

#[test]
fn a_client_that_writes_itself_is_told_behind_its_reply() {
    let place = Place::new();
    let sidecar = place.start();
    let mut wire = Listener::of(sidecar.wire(), "HELLO 3", "SUBSCRIBE __keyspace@0__:s:1").wire;
    for round in 0..10 {
        assert_eq!(wire.ask(&format!("SET s:1 {round}")), "+OK\r\n");
        assert_eq!(told(&wire.text()), both("s:1", "set")[0]);
        assert_eq!(wire.ask("GET s:1"), format!("$1\r\n{round}\r\n"));
    }
}

#[test]
fn operators_see_who_listens_and_what_was_told() {
    let place = Place::new();
    let sidecar = place.start();
    let events = || {
        let status: serde_json::Value = serde_json::from_str(&request(&sidecar, "GET", "/api/status").1).expect("JSON");
        status["key_events"].clone()
    };
    let seen = |subscriptions: u64, messages: u64, ends: u64| {
        let facts = events();
        facts["subscriptions"] == subscriptions && facts["messages"] == messages && facts["ends"] == ends
    };
    assert!(seen(0, 0, 0), "{}", events());
    let mut listener = Listener::of(sidecar.wire(), "HELLO 2", "SUBSCRIBE __keyspace@0__:s:1 __keyevent@0__:expire");
    sidecar.wire().ask("SET s:1 v EX 1000");
    (0..3).for_each(|_| _ = listener.next());
    until("it is shown", || seen(2, 3, 1));
}

#[test]
fn whoever_is_not_subscribed_any_more_hears_nothing() {
    let place = Place::new();
    for mode in MODES {
        let sidecar = place.builder().set("PUBSUB__MODE", mode).start();
        let (mut writer, mut listener) =
            (sidecar.wire(), Listener::of(sidecar.wire(), "HELLO 3", "SUBSCRIBE __keyspace@0__:s:1 news"));
        writer.ask("SET s:1 a");
        assert_eq!(listener.next(), both("s:1", "set")[0]);
        let listens = || metric(&sidecar, "hearthside_key_event_subscriptions");
        listener.wire.ask("UNSUBSCRIBE __keyspace@0__:s:1");
        assert_eq!(listens(), 0.0, "{mode}");
        writer.ask("SET s:1 b");
        assert!(listener.wire.is_silent(Duration::from_millis(100)), "{mode}");
        listener.wire.ask("PSUBSCRIBE __key*");
        listener.wire.ask("SUBSCRIBE __keyevent@0__:set");
        assert_eq!(listens(), 2.0, "{mode}");
        listener.wire.ask("RESET");
        assert_eq!(listens(), 0.0, "{mode}");
        writer.ask("SET s:1 c");
        assert_eq!(listener.wire.ask("PING"), "+PONG\r\n", "{mode}");
        // Inside a transaction, where the upstream has the client's connection.
        if mode == "exact" {
            for request in ["MULTI", "SUBSCRIBE __keyspace@0__:s:1", "EXEC"] {
                listener.wire.send(&line(request));
            }
            until("it is subscribed", || listens() == 1.0);
        }
    }
}

#[test]
fn a_subscription_that_is_refused_hears_nothing() {
    let place = Place::new();
    let sidecar = place.builder().config(&format!("{CONFIG}{USERS}")).start();
    let mut deaf = sidecar.wire();
    assert_eq!(deaf.ask("AUTH deaf secret"), "+OK\r\n");
    assert!(deaf.ask("SUBSCRIBE __keyspace@0__:s:1").starts_with("-NOPERM"));
    assert!(deaf.ask("PSUBSCRIBE *").starts_with("-NOPERM"));
    assert_eq!(metric(&sidecar, "hearthside_key_event_subscriptions"), 0.0);
    sidecar.wire().ask("SET s:1 a");
    assert_eq!(deaf.ask("PING"), "+PONG\r\n");
}

#[test]
fn without_the_setting_nothing_is_told_and_a_reload_turns_it_on_and_off() {
    let place = Place::new();
    let off = CONFIG.replace("keyspace = true", "keyspace = false");
    let sidecar = place.builder().config(&off).start();
    let (mut writer, mut listener) = (sidecar.wire(), Listener::of_all(sidecar.wire()));
    writer.ask("SET s:1 a");
    writer.ask("SET plain a");
    assert_eq!([listener.next(), listener.next()], both("plain", "set"));
    reload(&sidecar, CONFIG);
    writer.ask("SET s:1 b PX 700");
    let told: Vec<_> = (0..6).map(|_| listener.next()).collect();
    let expected: Vec<_> = ["set", "expire", "expired"].iter().flat_map(|event| both("s:1", event)).collect();
    assert_eq!(told, expected);
    reload(&sidecar, &off);
    writer.ask("SET s:1 c");
    writer.ask("SET plain b");
    assert_eq!([listener.next(), listener.next()], both("plain", "set"));
}

#[test]
fn while_the_upstream_is_away_owned_keys_are_told_of() {
    let mut place = Place::new();
    for mode in MODES {
        let sidecar = place.builder().set("PUBSUB__MODE", mode).expect(warnings::UPSTREAM_AWAY);
        let sidecar = sidecar.expect(&[warnings::SHARED_SUBSCRIBER_DOWN]).start();
        let mut listener = Listener::of_all(sidecar.wire());
        place.redis.kill();
        sidecar.wire().ask("SET s:1 a");
        if mode == "shared" {
            assert_eq!([listener.next(), listener.next()], both("s:1", "set"));
        }
        place.redis.launch();
        if mode == "exact" {
            // It is subscribed again first.
            assert_eq!([listener.next(), listener.next()], both("s:1", "set"));
        }
        until("it is subscribed again", || sidecar.wire().ask("PUBSUB NUMPAT") == ":1\r\n");
        sidecar.wire().ask("SET s:1 b");
        assert_eq!([listener.next(), listener.next()], both("s:1", "set"), "{mode}: once");
        sidecar.wire().ask("SET plain b");
        assert_eq!([listener.next(), listener.next()], both("plain", "set"), "{mode}");
    }
}

#[test]
fn a_subscriber_that_does_not_read_its_events_is_disconnected() {
    let place = Place::new();
    for mode in MODES {
        let builder = place.builder().set("PUBSUB__MODE", mode).set("PUBSUB__SUBSCRIBER_OUTPUT", "16kb");
        let sidecar = builder.expect(&[warnings::DOES_NOT_READ_MESSAGES]).start();
        let listener = Listener::of_all(Wire::of(connect_narrow(sidecar.port)));
        let mut writer = sidecar.wire();
        let key = "x".repeat(2000);
        until("it is disconnected", || {
            writer.ask(&format!("SET s:{key} v"));
            metric(&sidecar, "hearthside_key_event_subscriptions") == 0.0
        });
        drop(listener);
    }
}

#[test]
fn behind_a_cluster_owned_keys_come_among_those_of_all_nodes() {
    let place = Place::new();
    let cluster = Cluster::with(crate::support::redis::Server::Installed, 1, &["--notify-keyspace-events", "KEA"]);
    for mode in MODES {
        let sidecar = place.builder().set("UPSTREAM__URL", cluster.url()).set("PUBSUB__MODE", mode).start();
        let (mut writer, mut listener) = (sidecar.wire(), Listener::of_all(sidecar.wire()));
        for key in cluster.key_of_each() {
            writer.ask(&format!("SET {key} x"));
            assert_eq!([listener.next(), listener.next()], both(&key, "set"), "{mode}");
            writer.ask("SET s:1 x");
            assert_eq!([listener.next(), listener.next()], both("s:1", "set"), "{mode}");
        }
        listener.wire.send(&line("PUNSUBSCRIBE"));
        until("nobody listens", || metric(&sidecar, "hearthside_key_event_subscriptions") == 0.0);
    }
}

#[test]
fn who_subscribes_and_leaves_in_one_pipeline_hears_nothing() {
    let place = Place::new();
    for mode in MODES {
        let sidecar = place.builder().set("PUBSUB__MODE", mode).start();
        let (mut wire, mut writer) = (sidecar.wire(), sidecar.wire());
        wire.send(b"SUBSCRIBE __keyspace@0__:s:1\r\nUNSUBSCRIBE __keyspace@0__:s:1\r\nPSUBSCRIBE __key*:s:2 news\r\n");
        wire.send(b"PUNSUBSCRIBE __key*:s:2\r\nPUNSUBSCRIBE\r\nPING\r\n");
        for expected in ["subscribe", "unsubscribe", "psubscribe", "psubscribe", "punsubscribe", "punsubscribe"] {
            let told = wire.text();
            assert!(told.contains(&format!("\r\n{expected}\r\n")), "{mode}: {told}");
        }
        assert_eq!(wire.text(), "+PONG\r\n", "{mode}");
        for key in ["s:1", "s:2"] {
            assert_eq!(writer.ask(&format!("SET {key} x")), "+OK\r\n");
        }
        // Behind what it would have heard.
        assert_eq!(wire.ask("PING"), "+PONG\r\n", "{mode}");
        assert!(wire.is_silent(Duration::from_millis(50)), "{mode}");
        let heard = metric(&sidecar, "hearthside_key_event_subscriptions");
        assert!(heard == 0.0, "{mode}: {heard}");
    }
}
