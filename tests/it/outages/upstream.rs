//! The upstream dies, restarts, hangs, wants a password, speaks TLS.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::support::admin::metric;
use crate::support::certificates::{Authority, Signed};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

#[test]
fn owned_keys_are_served_without_the_upstream_and_pass_through_comes_back() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .set("UPSTREAM__QUEUE_TIMEOUT", "200ms")
        .expect(warnings::UPSTREAM_AWAY)
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    redis.kill();
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
    assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n99\r\n");
    until("the wait ends in a clear error", || {
        let told = wire.ask("SET a 2");
        told.starts_with("-LOADING hearthside: the upstream redis://127.0.0.1:") && told.contains("not sent")
    });
    assert!(wire.ask("INFO").contains("# Hearthside"));
    redis.launch();
    until("pass-through works again", || wire.ask("SET a 3") == "+OK\r\n");
    assert_eq!(wire.ask("GET a"), "$1\r\n3\r\n");
    assert!(metric(&sidecar, "hearthside_lane_failures_total") >= 1.0);
    assert!(metric(&sidecar, "hearthside_lane_reconnects_total") >= 1.0);
}

#[test]
fn whether_the_upstream_answers_is_known_when_the_lanes_know_it() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    let is_up = || metric(&sidecar, "hearthside_upstream_up") == 1.0;
    until("it is known to answer", &is_up);
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n", "a lane is connected");
    redis.kill();
    let late = until("it is known to be away", || !is_up());
    assert!(late < Duration::from_secs(1), "{late:?}");
    redis.launch();
    until("a client is answered", || wire.ask("SET a 1") == "+OK\r\n");
    let late = until("it is known to answer again", &is_up);
    assert!(late < Duration::from_secs(1), "{late:?}");
    let log = sidecar.log();
    let (away, back) = (log.rfind("the upstream does not answer"), log.rfind("the upstream answers"));
    assert!(away.is_some() && away < back, "{log}");
}

#[test]
fn in_flight_reads_are_sent_again_and_writes_are_told_as_possibly_applied() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = Sidecar::builder()
        .set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port))
        .expect(warnings::UPSTREAM_AWAY)
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    proxy.hold(true);
    wire.send(
        &[line("GET a"), line("INCR a"), line("GET a"), line("LRANGE player:1:inventory 0 -1"), line("STRLEN a")]
            .concat(),
    );
    // The requests are on the wire when nothing more comes out of the sidecar.
    assert!(wire.is_silent(Duration::from_millis(50)));
    proxy.cut();
    proxy.hold(false);
    assert_eq!(String::from_utf8_lossy(&wire.frame()), "$1\r\n1\r\n");
    let told = String::from_utf8_lossy(&wire.frame()).into_owned();
    assert!(told.contains("may have been applied"), "{told}");
    assert!(wire.frame().starts_with(b"$1\r\n"));
    assert!(wire.frame().starts_with(b"*8\r\n"));
    assert_eq!(wire.frame(), b":1\r\n");
}

#[test]
fn a_silent_upstream_is_found_by_ping() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let sidecar = Sidecar::builder()
        .set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port))
        .set("UPSTREAM__PING_INTERVAL", "100ms")
        .set("UPSTREAM__PING_TIMEOUT", "300ms")
        .set("UPSTREAM__CONNECT_TIMEOUT", "300ms")
        .expect(warnings::UPSTREAM_AWAY)
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    let before = proxy.accepted();
    proxy.hold(true);
    until("the lane gives up", || sidecar.log().contains("upstream.ping_timeout"));
    proxy.hold(false);
    until("the lane is back", || wire.ask("GET a") == "$1\r\n1\r\n");
    assert!(proxy.accepted() > before);
}

#[test]
fn what_waits_is_bounded_in_time_and_bytes() {
    let mut redis = Redis::start();
    redis.kill();
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .set("UPSTREAM__QUEUE_TIMEOUT", "500ms")
        .set("UPSTREAM__QUEUE_BYTES", "10kb")
        .set("SERVER__WORKERS", "1")
        .set("UPSTREAM__LANES", "1")
        .expect(warnings::UPSTREAM_AWAY)
        .start();
    let (mut first, mut second) = (sidecar.wire(), sidecar.wire());
    let start = Instant::now();
    first.send(&line(&format!("SET a {}", "x".repeat(9000))));
    assert!(first.is_silent(Duration::from_millis(20)), "it waits");
    let told = second.ask(&format!("SET b {}", "x".repeat(9000)));
    assert!(told.contains("upstream.queue_bytes"), "{told}");
    let told = String::from_utf8_lossy(&first.frame()).into_owned();
    assert!(told.contains("does not answer") && start.elapsed() >= Duration::from_millis(400), "{told}");
}

#[test]
fn upstream_connections_do_not_grow_with_clients() {
    let redis = Redis::start();
    // On a machine that is busy with other things no lane may seem to move on.
    let builder = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "2");
    let sidecar = builder.set("UPSTREAM__LANE_PATIENCE", "0s").start();
    let mut clients: Vec<_> = (0..200).map(|_| sidecar.wire()).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        client.ask(&format!("SET k{i} {i}"));
        assert_eq!(client.ask(&format!("GET k{i}")), format!("${}\r\n{i}\r\n", i.to_string().len()));
    }
    let list = redis.wire().ask("CLIENT LIST");
    let lanes = list.matches("name=hearthside").count();
    assert_eq!(lanes, 5, "2 lanes for each of 2 workers, and one that asks for the upstream's health: {list}");
}

/// Says where the upstream is; the hosts file is read again because it is of another second.
fn name(hosts: &Path, address: &str, seconds: u64) {
    let file = File::create(hosts).expect("a file");
    writeln!(&file, "{address} upstream.test").expect("written");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).expect("its time");
}

#[test]
fn a_failover_that_moves_the_name_is_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = folder.path().join("hosts");
    let old = Redis::with(&["--bind", "127.0.0.1"]);
    let new = Redis::with(&["--bind", "127.0.0.2", "--port", &old.port.to_string()]);
    name(&hosts, "127.0.0.1", 1);
    let sidecar = Sidecar::builder()
        .preload("libnss_wrapper.so")
        .environment("NSS_WRAPPER_HOSTS", hosts.display().to_string())
        .set("UPSTREAM__URL", format!("redis://upstream.test:{}", old.port))
        .expect(warnings::UPSTREAM_AWAY)
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    assert_eq!(old.wire().ask("EXISTS a"), ":1\r\n");

    // The old primary stays and becomes a replica, as in a managed Redis: its connections are not closed.
    name(&hosts, "127.0.0.2", 2);
    assert_eq!(old.wire().ask(&format!("REPLICAOF 127.0.0.2 {}", old.port)), "+OK\r\n");
    until("writes go to the new primary", || wire.ask("SET b 2") == "+OK\r\n");
    assert_eq!(Wire::unix(&new.socket()).ask("GET b"), "$1\r\n2\r\n");
}

#[test]
fn user_and_password_reach_every_connection() {
    let redis = Redis::with(&["--requirepass", "s3cret"]);
    let url = format!("redis://:s3cret@127.0.0.1:{}", redis.port);
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", url).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    assert_eq!(wire.ask("BLPOP nosuch 0.01"), "*-1\r\n");
    wire.ask("HELLO 3");
    assert_eq!(wire.ask("GET a"), "$1\r\n1\r\n");
    assert!(!sidecar.log().contains("s3cret"));

    let wrong = format!("redis://:wr0ng@127.0.0.1:{}", redis.port);
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", wrong).expect(warnings::UPSTREAM_AWAY).start();
    let told = sidecar.wire().ask("GET a");
    assert!(told.starts_with("-WRONGPASS"), "{told}");
    assert!(!sidecar.log().contains("wr0ng"));
}

#[test]
fn rediss_is_verified_against_the_given_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let Signed { certificate, key } = authority.sign(folder.path(), "server");
    let ca = authority.file;
    let port = crate::support::free_port().to_string();
    let redis = Redis::with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://localhost:{port}");
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", &url).set("UPSTREAM__CA_FILE", &ca).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    let value = "v".repeat(3 << 20);
    assert_eq!(wire.call(&["SET", "large", &value]), b"+OK\r\n");
    assert_eq!(wire.call(&["GET", "large"]).len(), value.len() + 12);
    assert_eq!(redis.wire().ask("GET a"), "$1\r\n1\r\n");
    until("the upstream is known to answer", || metric(&sidecar, "hearthside_upstream_up") == 1.0);

    let other = Authority::new(folder.path(), "other").file;
    let builder = Sidecar::builder()
        .set("UPSTREAM__URL", &url)
        .set("UPSTREAM__CA_FILE", other)
        .set("UPSTREAM__QUEUE_TIMEOUT", "100ms");
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let told = sidecar.wire().ask("GET a");
    assert!(told.contains("does not answer") && told.contains("certificate"), "{told}");
}

#[test]
fn a_client_whose_own_connection_leads_to_a_replica_is_answered_on() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("CLIENT TRACKING ON BCAST"), "+OK\r\n");
    let begun = Instant::now();
    assert_eq!(redis.wire().ask("REPLICAOF 127.0.0.1 1"), "+OK\r\n");
    until("the connection is no young one", || {
        assert!(wire.ask("SET a 1").starts_with("-READONLY"));
        begun.elapsed() > Duration::from_millis(1500)
    });
    assert!(wire.ask("SET a 1").starts_with("-READONLY"));
    assert_eq!(wire.ask("GET a"), "$-1\r\n");
    assert!(wire.ask("CLIENT TRACKINGINFO").contains("bcast"), "the upstream keeps what it kept");
}
