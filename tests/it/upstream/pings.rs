//! Who answers PING: the sidecar, or with `server.ping = "upstream"` the upstream, as any command that goes there.

use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

#[test]
fn a_ping_says_of_the_upstream_what_the_setting_asks() {
    for server in SERVERS {
        let redis = Redis::of(server, &["--lua-time-limit", "5"]);
        let [ours, theirs] =
            ["local", "upstream"].map(|ping| Sidecar::builder().redis(&redis).set("SERVER__PING", ping).start());
        let (mut direct, mut local, mut upstream) = (redis.wire(), ours.wire(), theirs.wire());
        assert_eq!(upstream.ask("SET a 1"), "+OK\r\n");
        let mut script = redis.wire();
        script.send(&crate::support::wire::array(&["EVAL", "while true do end", "0"]));
        until("it is busy", || direct.ask("PING").starts_with("-BUSY"));
        assert_eq!(local.ask("PING"), "+PONG\r\n");
        for request in ["PING", "PING x", "PING x y"] {
            assert_eq!(upstream.ask(request), direct.ask(request), "{request} on {server:?}");
        }
        assert_eq!(direct.ask("SCRIPT KILL"), "+OK\r\n");
        until("it is not busy any more", || direct.ask("PING") == "+PONG\r\n");
        assert_eq!(upstream.ask("PING"), "+PONG\r\n");
    }
}

#[test]
fn pings_that_go_upstream_are_answered_alike_and_in_order() {
    let redis = Redis::start();
    for mode in ["exact", "shared"] {
        let builder = Sidecar::builder().redis(&redis).set("SERVER__PING", "upstream");
        let sidecar = builder.set("PUBSUB__MODE", mode).start();
        for hello in ["HELLO 2", "HELLO 3"] {
            let (mut through, mut direct) = (sidecar.wire(), redis.wire());
            through.ask(hello);
            direct.ask(hello);
            let requests = [
                "SET a 1",
                "PING",
                "INCR a",
                "PING x",
                "GET a",
                "PING x y",
                "MULTI",
                "PING q",
                "INCR a",
                "EXEC",
                "PING",
                "SUBSCRIBE c",
                "PING",
                "PING x",
                "PING x y",
                "UNSUBSCRIBE c",
                "PING",
                "PING z",
                "GET a",
            ];
            for wire in [&mut through, &mut direct] {
                wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<_>>());
            }
            for request in requests {
                let [ours, theirs] =
                    [&mut through, &mut direct].map(|wire| String::from_utf8_lossy(&wire.frame()).into_owned());
                assert_eq!(ours, theirs, "{request} after {hello}, {mode}");
            }
        }
    }
}

#[test]
fn a_ping_that_goes_upstream_fails_while_that_is_away_and_a_reload_changes_who_answers() {
    let mut redis = Redis::start();
    let config = |ping: &str| format!("[server]\nping = \"{ping}\"\n[upstream]\nqueue_timeout = \"50ms\"\n");
    let sidecar = Sidecar::builder().redis(&redis).config(&config("upstream")).expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("PING"), "+PONG\r\n");
    redis.kill();
    until("it is known to be away", || wire.ask("PING").starts_with("-LOADING hearthside: "));
    sidecar.configure(&config("local"));
    sidecar.signal("HUP");
    until("the sidecar answers", || wire.ask("PING") == "+PONG\r\n");
}
