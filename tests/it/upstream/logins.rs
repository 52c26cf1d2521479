//! Logins, and what is open for them: nothing stays for credentials that nobody uses, and users who may do little can
//! work.

use crate::support::admin::{metric, request};
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn connected(direct: &mut Wire) -> usize {
    let info = direct.ask("INFO clients");
    let count = info.lines().find_map(|line| line.strip_prefix("connected_clients:"));
    count.and_then(|count| count.trim().parse().ok()).expect("told")
}

fn judged_upstream(redis: &Redis) -> Builder {
    Sidecar::builder().redis(redis).set("AUTH__MODE", "upstream")
}

#[test]
fn whoever_tries_passwords_leaves_no_connection_behind() {
    let redis = Redis::start();
    let sidecar = judged_upstream(&redis).start();
    let mut direct = redis.wire();
    // The upstream's default user has no password: it takes any.
    for number in 0..100 {
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask(&format!("AUTH default guess{number}")), "+OK\r\n");
    }
    let mut others: Vec<_> = (0..10).map(|_| sidecar.wire()).collect();
    for (number, other) in others.iter_mut().enumerate() {
        // One client after another, and what it has tried is not kept.
        for again in 0..10 {
            assert_eq!(other.ask(&format!("AUTH default again{number}-{again}")), "+OK\r\n");
        }
        assert_eq!(other.ask("GET a"), "$-1\r\n");
        assert_eq!(other.ask("BLPOP a 0.01"), "*-1\r\n");
    }
    // Each of those who are in: a lane, and a pinned connection.
    until("no more is open than is used", || connected(&mut direct) <= 10 * 2 + 5);
    drop(others);
    until("the clients' connections go with them", || connected(&mut direct) <= 5);
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 0.0);
}

#[test]
fn two_clients_with_one_login_share_what_is_open_for_it() {
    let redis = Redis::start();
    redis.wire().ask("ACL SETUSER ann on >word ~* +@all &*");
    let sidecar = judged_upstream(&redis).set("SERVER__WORKERS", "1").start();
    let (mut one, mut other) = (sidecar.wire(), sidecar.wire());
    for wire in [&mut one, &mut other] {
        assert_eq!(wire.ask("AUTH ann word"), "+OK\r\n");
        assert_eq!(wire.ask("BLPOP a 0.01"), "*-1\r\n");
    }
    until("one connection served both", || metric(&sidecar, "hearthside_pinned_idle") == 1.0);
    drop(one);
    until("one has gone", || metric(&sidecar, "hearthside_clients") == 1.0);
    assert_eq!(metric(&sidecar, "hearthside_pinned_idle"), 1.0, "the other still uses it");
    assert_eq!(other.ask("RESET"), "+RESET\r\n");
    until("nobody uses it any more", || metric(&sidecar, "hearthside_pinned_idle") == 0.0);
}

#[test]
fn idle_connections_have_an_age_and_a_total() {
    let redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1");
    let builder = builder.set("UPSTREAM__PINNED_IDLE_TOTAL", "3").set("UPSTREAM__PINNED_IDLE_TIME", "1s");
    let sidecar = builder.set("UPSTREAM__LANE_PATIENCE", "0s").start();
    let mut direct = redis.wire();
    let mut clients: Vec<_> = (0..6).map(|_| sidecar.wire()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.ask(&format!("SELECT {number}")), "+OK\r\n");
        assert_eq!(client.ask("GET a"), "$-1\r\n");
        client.send(&line("BLPOP queue 0"));
    }
    until("all wait", || direct.ask("INFO clients").contains("blocked_clients:6"));
    for (number, client) in clients.iter_mut().enumerate() {
        direct.ask(&format!("SELECT {number}"));
        direct.ask("RPUSH queue job");
        client.frame();
    }
    let idle = || metric(&sidecar, "hearthside_pinned_idle");
    until("no more than three are kept", || metric(&sidecar, "hearthside_pinned") <= 3.0);
    until("and none for ever", || idle() == 0.0 && metric(&sidecar, "hearthside_pinned") == 0.0);
    // The lanes are their clients', who are still there.
    assert_eq!(metric(&sidecar, "hearthside_lanes_connected"), 6.0);
    let last = clients.pop();
    drop(clients);
    until("lanes without clients are closed", || metric(&sidecar, "hearthside_lanes_connected") == 1.0);
    assert_eq!(last.map(|mut last| last.ask("GET a")).as_deref(), Some("$-1\r\n"));
    assert_eq!(sidecar.wire().ask("GET a"), "$-1\r\n", "and opened again for those who come");
}

#[test]
fn users_of_the_upstream_who_may_do_little_can_work() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    direct.ask("ACL SETUSER reader on >pw ~* +@read");
    direct.ask("ACL SETUSER plain on >pw ~* +get +set +blpop");
    direct.ask("SET a 1");
    let sidecar = judged_upstream(&redis).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("AUTH reader pw"), "+OK\r\n");
    assert_eq!(wire.ask("GET a"), "$1\r\n1\r\n");
    assert!(wire.ask("SET a 2").starts_with("-NOPERM"), "the upstream's own word");

    let url = format!("redis://plain:pw@127.0.0.1:{}", redis.port);
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", url).expect(&[warnings::NOT_PERMITTED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 2"), "+OK\r\n");
    assert_eq!(wire.ask("BLPOP nosuch 0.01"), "*-1\r\n");
    assert!(wire.ask("SELECT 1").starts_with("-NOPERM"));
    until("the upstream is known to answer", || metric(&sidecar, "hearthside_upstream_up") == 1.0);
    for command in ["COMMAND", "INFO", "PING"] {
        let name = format!("hearthside_upstream_unasked{{command=\"{command}\"}}");
        until("what it may not ask is told", || metric(&sidecar, &name) == 1.0);
        assert!(sidecar.log().contains(&format!("command=\"{command}\"")), "{}", sidecar.log());
    }
    let (_, ready) = request(&sidecar, "GET", "/readyz");
    assert!(ready.contains("ready\nthe user of upstream.url may not run COMMAND, INFO, PING"), "{ready}");
    let server = direct.ask("INFO server");
    let version = server.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("told");
    assert!(wire.ask("HELLO").contains(&format!("version\r\n${}\r\n{version}", version.len())), "HELLO tells it");
    // Once it may, nothing is missing.
    direct.ask("ACL SETUSER plain +ping");
    until("it asks again", || metric(&sidecar, "hearthside_upstream_unasked{command=\"PING\"}") == 0.0);
}
