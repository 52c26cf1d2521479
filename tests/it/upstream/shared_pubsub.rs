//! `pubsub.mode = "shared"`: every subscription of the process over one upstream connection.

use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn shared(redis: &Redis) -> Builder {
    Sidecar::builder().redis(redis).set("PUBSUB__MODE", "shared")
}

fn subscribed(sidecar: &Sidecar, hello: &str, requests: &str, confirmations: usize) -> Wire {
    let mut wire = sidecar.wire();
    wire.ask(hello);
    wire.send(&line(requests));
    (0..confirmations).for_each(|_| drop(wire.frame()));
    wire
}

#[test]
fn confirmations_messages_and_errors_are_redis_own() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let sidecar = shared(&redis).start();
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut through, mut direct) = (sidecar.wire(), twin.wire());
        through.ask(hello);
        direct.ask(hello);
        for (requests, frames) in [
            ("SUBSCRIBE a b a", 3),
            ("PSUBSCRIBE p* q*", 2),
            ("SSUBSCRIBE s", 1),
            ("PING", 1),
            ("PING x", 1),
            ("SUBSCRIBE", 1),
            ("UNSUBSCRIBE a nosuch", 2),
            ("GET k", 1),
            ("NOSUCH", 1),
            ("MULTI", 1),
            ("RESET", 1),
            ("UNSUBSCRIBE", 1),
            ("PUNSUBSCRIBE", 1),
            ("SUNSUBSCRIBE", 1),
            ("SUBSCRIBE c", 1),
            ("UNSUBSCRIBE", 1),
            ("GET k", 1),
        ] {
            if hello == "HELLO 3" && (requests == "RESET" || requests == "MULTI") {
                continue;
            }
            // An unknown name's error is told by the upstream, which a RESP2 subscriber's request does not reach.
            if hello == "HELLO 2" && requests == "NOSUCH" {
                assert!(through.ask(requests).starts_with("-ERR"));
                continue;
            }
            if hello == "HELLO 3" && (requests == "PUNSUBSCRIBE" || requests == "UNSUBSCRIBE") {
                continue;
            }
            through.send(&line(requests));
            direct.send(&line(requests));
            for _ in 0..frames {
                let (ours, theirs) = (through.frame(), direct.frame());
                assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "{hello} {requests}");
            }
        }
    }
}

#[test]
fn a_subscriber_with_a_connection_of_its_own_is_still_one() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let sidecar = shared(&redis).start();
    let (mut through, mut direct) = (sidecar.wire(), twin.wire());
    for request in ["CLIENT NO-EVICT ON", "SUBSCRIBE a", "PING", "PING x", "GET k", "UNSUBSCRIBE a", "GET k", "PING"] {
        assert_eq!(through.ask(request), direct.ask(request), "{request}");
    }
}

#[test]
fn a_hundred_subscribers_cost_one_connection() {
    let redis = Redis::start();
    let sidecar = shared(&redis).start();
    let mut wires: Vec<Wire> = (0..100)
        .map(|i| subscribed(&sidecar, ["HELLO 2", "HELLO 3"][i % 2], &format!("SUBSCRIBE all own{i}"), 2))
        .collect();
    let mut direct = redis.wire();
    assert_eq!(direct.ask("CLIENT LIST TYPE pubsub").matches("id=").count(), 1);
    assert_eq!(direct.ask("PUBSUB NUMSUB all"), "*2\r\n$3\r\nall\r\n:1\r\n", "as documented");
    let payload = "x".repeat(100_000);
    assert_eq!(direct.ask(&format!("PUBLISH all {payload}")), ":1\r\n");
    assert_eq!(direct.ask("PUBLISH own7 hi"), ":1\r\n");
    for (i, wire) in wires.iter_mut().enumerate() {
        let frame = String::from_utf8_lossy(&wire.frame()).into_owned();
        let kind = if i % 2 == 0 { '*' } else { '>' };
        assert!(frame.starts_with(&format!("{kind}3\r\n$7\r\nmessage\r\n$3\r\nall\r\n$100000\r\nxxx")), "{i}");
    }
    assert!(String::from_utf8_lossy(&wires[7].frame()).contains("own7"));
    wires.truncate(1);
    until("channels that nobody wants are given up", || {
        direct.ask("PUBSUB CHANNELS") == "*2\r\n$3\r\nall\r\n$4\r\nown0\r\n"
            || direct.ask("PUBSUB CHANNELS") == "*2\r\n$4\r\nown0\r\n$3\r\nall\r\n"
    });
    assert_eq!(wires[0].ask("UNSUBSCRIBE all"), "*3\r\n$11\r\nunsubscribe\r\n$3\r\nall\r\n:1\r\n");
    until("one more", || direct.ask("PUBSUB CHANNELS") == "*1\r\n$4\r\nown0\r\n");
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 0.0);
}

#[test]
fn subscriptions_come_back_after_a_reconnect() {
    let mut redis = Redis::start();
    let sidecar = shared(&redis).expect(warnings::UPSTREAM_AWAY).expect(&[warnings::SHARED_SUBSCRIBER_DOWN]).start();
    let mut wire = subscribed(&sidecar, "HELLO 2", "PSUBSCRIBE a* b*", 2);
    redis.kill();
    redis.launch();
    let mut direct = redis.wire();
    until("they are there again", || direct.ask("PUBSUB NUMPAT") == ":2\r\n");
    direct.ask("PUBLISH again hello");
    assert!(String::from_utf8_lossy(&wire.frame()).ends_with("$5\r\nhello\r\n"));
    assert_eq!(metric(&sidecar, "hearthside_pubsub_connects_total"), 2.0);
    assert_eq!(metric(&sidecar, "hearthside_pubsub_up"), 1.0);
}

#[test]
fn a_subscription_that_is_not_confirmed_is_an_error() {
    let mut redis = Redis::start();
    let sidecar = shared(&redis)
        .set("UPSTREAM__QUEUE_TIMEOUT", "100ms")
        .expect(warnings::UPSTREAM_AWAY)
        .expect(&[warnings::SHARED_SUBSCRIBER_DOWN])
        .start();
    redis.kill();
    let mut wire = sidecar.wire();
    assert!(wire.ask("SUBSCRIBE a").contains("did not confirm the subscription in time"));
    assert!(wire.ask("HGET item:apple:def name").contains("Apple"), "an ordinary client still");
    redis.launch();
    until("then it is confirmed", || wire.ask("SUBSCRIBE a").starts_with("*3\r\n$9\r\nsubscribe"));
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_alone() {
    let redis = Redis::start();
    let sidecar =
        shared(&redis).set("PUBSUB__SUBSCRIBER_OUTPUT", "1mb").expect(&[warnings::DOES_NOT_READ_MESSAGES]).start();
    let _deaf = subscribed(&sidecar, "HELLO 2", "SUBSCRIBE a", 1);
    let mut wire = subscribed(&sidecar, "HELLO 2", "SUBSCRIBE a", 1);
    let (mut direct, payload) = (redis.wire(), "x".repeat(200_000));
    for _ in 0..100 {
        direct.ask(&format!("PUBLISH a {payload}"));
        assert!(wire.frame().len() > 200_000);
    }
    until("the deaf one is cut", || metric(&sidecar, "hearthside_clients_cut_total") == 1.0);
    direct.ask("PUBLISH a last");
    assert!(wire.frame().ends_with(b"last\r\n"));
}

#[test]
fn a_refused_subscription_ends_none_that_there_was() {
    let redis = Redis::start();
    let sidecar = shared(&redis).expect(&[warnings::SUBSCRIPTION_REFUSED]).start();
    assert_eq!(redis.wire().ask("ACL SETUSER default resetchannels &news &__hearthside__:gap"), "+OK\r\n");
    let mut wire = sidecar.wire();
    assert!(wire.ask("SUBSCRIBE news").ends_with(":1\r\n"));
    let told = wire.ask("SUBSCRIBE news secret");
    assert!(told.starts_with("-NOPERM"), "{told}");
    assert_eq!(redis.wire().ask("PUBLISH news hi"), ":1\r\n");
    assert!(String::from_utf8_lossy(&wire.frame()).ends_with("news\r\n$2\r\nhi\r\n"));
    assert!(wire.ask("UNSUBSCRIBE").ends_with("news\r\n:0\r\n"));
}
