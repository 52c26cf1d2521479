//! How the master is found, and what is said when it is not.

use super::before;
use crate::support::admin::{metric, request};
use crate::support::redis::Redis;
use crate::support::sentinels::{Group, SERVICE, Sentinel};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

#[test]
fn the_master_is_served_and_the_other_sentinels_are_learnt() {
    let group = Group::start();
    // The first address leads nowhere, the second to one of three.
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/{SERVICE}/2", group.sentinels[0].port);
    let sidecar = before(&group).set("UPSTREAM__URL", url).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    let mut direct = group.servers[0].wire();
    assert_eq!(direct.ask("SELECT 2"), "+OK\r\n");
    assert_eq!(direct.ask("GET a"), "$1\r\n1\r\n", "the database of the URL is the one that clients begin in");
    until("all sentinels are known", || metric(&sidecar, "hearthside_sentinels") == 4.0);
    until("three answer", || metric(&sidecar, "hearthside_sentinels_answering") == 3.0);
    assert_eq!(metric(&sidecar, "hearthside_sentinel_masters_total"), 1.0);
    let (_, told) = request(&sidecar, "GET", "/readyz?verbose");
    assert!(told.contains("3 of 4 sentinels answer"), "{told}");
}

#[test]
fn sentinels_may_want_a_login_of_their_own() {
    let redis = Redis::with(&["--requirepass", "master"]);
    let more = format!("requirepass sentry\nsentinel auth-pass {SERVICE} master");
    let sentinel = Sentinel::start(redis.port, 1, &more);
    let url = format!("redis+sentinel://:master@127.0.0.1:{}/{SERVICE}", sentinel.port);
    let builder = || Sidecar::builder().set("UPSTREAM__URL", &url).expect(warnings::UPSTREAM_AWAY);
    let sidecar = builder().set("UPSTREAM__SENTINEL_PASSWORD", "sentry").start();
    assert_eq!(sidecar.wire().ask("SET a 1"), "+OK\r\n");
    let wrong = builder().set("UPSTREAM__SENTINEL_PASSWORD", "wrong").set("UPSTREAM__QUEUE_TIMEOUT", "200ms");
    let sidecar = wrong.expect(&[warnings::SENTINEL_SILENT]).start();
    let told = sidecar.wire().ask("SET a 2");
    assert!(told.starts_with("-LOADING") && told.contains("no master of 'game' is known"), "{told}");
    assert!(!sidecar.log().contains("sentry") && !sidecar.log().contains("wrong"));
}

#[test]
fn check_tells_which_sentinels_help() {
    let redis = Redis::start();
    let sentinel = Sentinel::start(redis.port, 1, "");
    let check = |url: String| {
        let done = Sidecar::builder().set("UPSTREAM__URL", url).execute(&["check", "--connect"]);
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (is_well, told) = check(format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/{SERVICE}", sentinel.port));
    assert!(is_well && told.contains("the sentinel 127.0.0.1:1 does not help"), "{told}");
    let (is_well, told) = check(format!("redis+sentinel://127.0.0.1:{}/nosuch", sentinel.port));
    assert!(!is_well && told.contains("it knows no master of the name 'nosuch'"), "{told}");
}

#[test]
fn a_server_that_is_no_master_any_more_is_left() {
    let group = Group::start();
    let sidecar = before(&group).set("UPSTREAM__QUEUE_TIMEOUT", "10s").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    // The sentinels find out after some 20 seconds.
    let mut direct = group.servers[0].wire();
    assert_eq!(direct.ask(&format!("REPLICAOF 127.0.0.1 {}", group.servers[1].port)), "+OK\r\n");
    let mut asking = Vec::new();
    until("it is left", || {
        let mut other = sidecar.wire();
        other.send(&line("SET a 2"));
        asking.push(other);
        sidecar.log().contains("it is no master any more")
    });
    assert_eq!(direct.ask("REPLICAOF NO ONE"), "+OK\r\n");
    assert_eq!(wire.ask("SET a 3"), "+OK\r\n");
}

#[test]
fn sentinels_that_move_or_have_two_names_count_once() {
    let mut group = Group::start();
    let url = format!("redis+sentinel://localhost:{}/{SERVICE}", group.sentinels[0].port);
    let sidecar = before(&group).set("UPSTREAM__URL", url).start();
    let counts = || ["hearthside_sentinels", "hearthside_sentinels_answering"].map(|name| metric(&sidecar, name));
    until("all are known", || counts() == [3.0, 3.0]);
    group.sentinels[1].move_away();
    until("it is missed", || sidecar.log().contains("a sentinel does not answer"));
    until("it is found at its new address, and the old one is forgotten", || counts() == [3.0, 3.0]);
}

#[test]
fn a_sentinel_without_the_right_to_subscribe_is_asked_all_the_same() {
    let redis = Redis::start();
    let more = "user default on nopass -@all +sentinel|master +sentinel|get-master-addr-by-name +sentinel|sentinels";
    let sentinel = Sentinel::start(redis.port, 1, more);
    let url = format!("redis+sentinel://127.0.0.1:{}/{SERVICE}", sentinel.port);
    let builder = || Sidecar::builder().set("UPSTREAM__URL", &url).expect(&[warnings::SENTINEL_MUTE]);
    let sidecar = builder().start();
    assert_eq!(sidecar.wire().ask("SET a 1"), "+OK\r\n");
    let done = builder().execute(&["check", "--connect"]);
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(told.contains("its user may not subscribe"), "{told}");
}
