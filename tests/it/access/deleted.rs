//! Users of the upstream (`auth.mode = "upstream"`) that it deletes while they are in.

use crate::support::admin::metric;
use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn started(redis: &Redis) -> Sidecar {
    redis.wire().ask("ACL SETUSER app on >secret ~* +@all &*");
    let expected = [warnings::LANE_LOST, warnings::LANE_CLOSED, warnings::NOT_OPENED, warnings::LOGIN_REFUSED];
    Sidecar::builder().redis(redis).set("AUTH__MODE", "upstream").expect(&expected).start()
}

fn login(sidecar: &Sidecar) -> Wire {
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("AUTH app secret"), "+OK\r\n");
    wire
}

/// It is closed, or was told that the login is not taken.
fn is_refused(wire: &mut Wire, request: &str) -> bool {
    wire.try_ask(request).is_none_or(|told| told.starts_with("-WRONGPASS"))
}

#[test]
fn auth_with_the_login_that_a_client_has_is_judged_again() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    for request in ["AUTH app secret", "HELLO 2 AUTH app secret", "HELLO 3 AUTH app secret"] {
        let (mut plain, mut dedicated) = (login(&sidecar), login(&sidecar));
        assert_eq!(dedicated.ask("CLIENT NO-EVICT ON"), "+OK\r\n");
        assert!(!plain.ask(request).starts_with('-') && !dedicated.ask(request).starts_with('-'));
        // Those who are in stay in, and nobody gets in again.
        redis.wire().ask("ACL SETUSER app resetpass >other");
        assert!(is_refused(&mut plain, request), "{request}");
        assert!(is_refused(&mut dedicated, request), "{request}");
        redis.wire().ask("ACL SETUSER app resetpass >secret");
    }
}

/// A server that has not sent yet what comes before does not answer a login that it refuses (Redis 8.2.3).
#[test]
fn a_login_is_refused_however_much_waits_before_the_answer() {
    for server in SERVERS {
        let redis = Redis::of(server, &[]);
        let sidecar = started(&redis);
        let (mut wire, mut direct) = (login(&sidecar), redis.wire());
        assert!(wire.ask("HELLO 3").starts_with('%'));
        assert!(wire.ask("SUBSCRIBE c").starts_with('>'));
        let message = "m".repeat(1 << 20);
        (0..20).for_each(|_| drop(direct.ask(&format!("PUBLISH c {message}"))));
        until("messages wait in the server", || {
            let clients = direct.ask("CLIENT LIST TYPE PUBSUB");
            clients.contains(" sub=1 ") && !clients.contains(" oll=0 ")
        });
        wire.send(&line("AUTH app wrong"));
        let refused = "hearthside_logins_refused_total{reason=\"upstream\"}";
        until("the login is judged", || metric(&sidecar, refused) == 1.0);
        // Whatever messages come before it.
        let frames: Vec<Vec<u8>> = (0..21).map(|_| wire.frame()).collect();
        let answer = frames.iter().find(|frame| !frame.starts_with(b">")).expect("an answer");
        assert!(answer.starts_with(b"-WRONGPASS"), "{server:?}: {}", String::from_utf8_lossy(answer));
        assert_eq!(wire.ask("AUTH app secret"), "+OK\r\n");
        assert_eq!(wire.ask("PING"), "+PONG\r\n", "it goes on");
    }
}

#[test]
fn the_clients_of_a_user_that_is_deleted_are_closed() {
    let redis = Redis::start();
    let sidecar = started(&redis);
    let mut other = sidecar.wire();
    other.ask("GET a");
    let (mut asks, mut reads) = (login(&sidecar), login(&sidecar));
    assert_eq!(asks.ask("GET a"), "$-1\r\n");
    assert!(reads.ask("HGET item:apple:def name").contains("Apple"));
    redis.wire().ask("ACL DELUSER app");
    // Neither has asked anything since.
    until("both are closed", || other.ask("CLIENT LIST").matches("user=app").count() == 0);
    assert!(asks.try_frame().is_none() && reads.try_frame().is_none());
    assert!(sidecar.log().contains("the upstream does not take a login any more"), "{}", sidecar.log());
    assert_eq!(other.ask("GET a"), "$-1\r\n", "and nobody else");
    assert!(sidecar.wire().ask("AUTH app secret").starts_with("-WRONGPASS"));
}
