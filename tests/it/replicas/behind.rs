//! A replica that is too late, hangs, or has lost its primary is not read.

use std::time::{Duration, Instant};

use super::{LAG, calls, is_read, reading, replica_of, url};
use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::redis::{Redis, Server};
use crate::support::until;
use crate::support::wire::{Wire, line};

#[test]
fn a_replica_that_does_not_follow_is_left_in_time() {
    let primary = Redis::start();
    let link = Proxy::to(primary.port);
    let replica = replica_of(Server::Installed, link.port, &[]);
    let sidecar = reading(url(&[&primary, &replica])).start();
    is_read(&sidecar, replica.port, true);
    let (mut writer, mut reader) = (Wire::tcp(primary.port), sidecar.wire());
    writer.ask("SET page:1 old");
    until("it is replicated", || replica.wire().ask("GET page:1") == "$3\r\nold\r\n");
    is_read(&sidecar, replica.port, true);
    // It takes its link for sound, and gets nothing over it.
    link.hold(true);
    assert_eq!(writer.ask("SET page:1 new"), "+OK\r\n");
    let written = Instant::now();
    let mut last = Duration::ZERO;
    while written.elapsed() < 3 * LAG {
        let asked = written.elapsed();
        match reader.ask("GET page:1").as_str() {
            "$3\r\nold\r\n" => last = asked,
            told => assert_eq!(told, "$3\r\nnew\r\n"),
        }
    }
    assert!(last < LAG, "what was written {last:?} before was not read");
    is_read(&sidecar, replica.port, false);
    link.hold(false);
    is_read(&sidecar, replica.port, true);
    let before = calls(replica.port, "get");
    assert_eq!(reader.ask("GET page:1"), "$3\r\nnew\r\n");
    assert_eq!(calls(replica.port, "get"), before + 1);
}

#[test]
fn what_a_hanging_replica_was_asked_is_asked_of_the_primary() {
    let primary = Redis::start();
    let replica = replica_of(Server::Installed, primary.port, &[]);
    let sidecar = reading(url(&[&primary, &replica])).set("UPSTREAM__CONNECT_TIMEOUT", "500ms").start();
    primary.wire().ask("SET page:1 a");
    is_read(&sidecar, replica.port, true);
    let mut readers: Vec<Wire> = (0..8).map(|_| sidecar.wire()).collect();
    let before = calls(replica.port, "get");
    readers.iter_mut().for_each(|reader| assert_eq!(reader.ask("GET page:1"), "$1\r\na\r\n"));
    assert_eq!(calls(replica.port, "get"), before + 8);
    replica.pause(true);
    readers.iter_mut().for_each(|reader| reader.send(&line("GET page:1")));
    // Nobody waits for upstream.command_timeout.
    readers.iter_mut().for_each(|reader| assert_eq!(reader.frame(), b"$1\r\na\r\n"));
    is_read(&sidecar, replica.port, false);
    readers.iter_mut().for_each(|reader| assert_eq!(reader.ask("GET page:1"), "$1\r\na\r\n"));
    replica.pause(false);
    is_read(&sidecar, replica.port, true);
    assert_eq!(readers[0].ask("GET page:1"), "$1\r\na\r\n");
}

#[test]
fn a_replica_that_dies_or_follows_nobody_is_left() {
    let primary = Redis::start();
    let mut replica = replica_of(Server::Installed, primary.port, &[]);
    let sidecar = reading(url(&[&primary, &replica])).start();
    primary.wire().ask("SET page:1 a");
    is_read(&sidecar, replica.port, true);
    let mut reader = sidecar.wire();
    assert_eq!(replica.wire().ask("REPLICAOF 127.0.0.1 1"), "+OK\r\n");
    is_read(&sidecar, replica.port, false);
    let before = calls(replica.port, "get");
    assert_eq!(reader.ask("GET page:1"), "$1\r\na\r\n");
    assert_eq!(replica.wire().ask("REPLICAOF NO ONE"), "+OK\r\n");
    primary.wire().ask("SET page:1 b");
    for _ in 0..100 {
        assert_eq!(reader.ask("GET page:1"), "$1\r\nb\r\n", "two say that they are the primary: the first one stays");
    }
    assert_eq!(calls(replica.port, "get"), before);
    assert_eq!(replica.wire().ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port)), "+OK\r\n");
    is_read(&sidecar, replica.port, true);
    replica.kill();
    for _ in 0..100 {
        assert_eq!(reader.ask("GET page:1"), "$1\r\nb\r\n");
    }
    is_read(&sidecar, replica.port, false);
    replica.launch();
    is_read(&sidecar, replica.port, true);
}

#[test]
fn a_replica_that_is_started_again_with_less_is_not_read() {
    let primary = Redis::start();
    let link = Proxy::to(primary.port);
    let mut replica = replica_of(Server::Installed, link.port, &[]);
    // It is known to be up to date for long, and not asked again soon.
    let sidecar = reading(url(&[&primary, &replica])).set("UPSTREAM__READ_LAG", "10s").start();
    is_read(&sidecar, replica.port, true);
    // It keeps what it has begun with, and nothing that came then.
    primary.wire().ask("SET page:1 a");
    let mut reader = sidecar.wire();
    until("it is replicated", || replica.wire().ask("GET page:1") == "$1\r\na\r\n");
    link.hold(true);
    // Nobody has a connection there that is lost with it.
    replica.kill();
    replica.launch();
    let name = format!("hearthside_upstream_endpoint_read{{endpoint=\"redis://127.0.0.1:{}\"}}", replica.port);
    until("it is left", || {
        assert_eq!(reader.ask("GET page:1"), "$1\r\na\r\n");
        assert_eq!(sidecar.wire().ask("GET page:1"), "$1\r\na\r\n");
        metric(&sidecar, &name) == 0.0
    });
    link.hold(false);
    is_read(&sidecar, replica.port, true);
}
