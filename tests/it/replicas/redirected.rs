//! A plain Valkey that becomes a replica in a failover names its primary (`-REDIRECT`), which is followed.

use super::moves::Readers;
use super::replica_of;
use crate::support::redis::{Redis, Server};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn fail_over(primary: &Redis, replica: &Redis) {
    until("the replica is online", || primary.wire().ask("INFO replication").contains("state=online"));
    let told = primary.wire().ask(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 5000", replica.port));
    assert_eq!(told, "+OK\r\n");
    until("roles have changed", || replica.wire().ask("ROLE").contains("master"));
}

#[test]
fn the_primary_that_a_server_names_takes_commands() {
    let first = Redis::of(Server::Valkey91, &[]);
    let second = replica_of(Server::Valkey91, first.port, &[]);
    let sidecar = Sidecar::builder().redis(&first).start();
    let mut wire = sidecar.wire();
    for n in 0..3 {
        assert_eq!(wire.ask("INCR a"), format!(":{}\r\n", 3 * n + 1));
        let (primary, replica) = if n % 2 == 0 { (&first, &second) } else { (&second, &first) };
        fail_over(primary, replica);
        wire.send(&[line("INCR a"), line("GET a"), line("INCR a")].concat());
        let told: Vec<Vec<u8>> = (0..3).map(|_| wire.frame()).collect();
        let value = |more: usize| (3 * n + more).to_string();
        let expected = [format!(":{}\r\n", value(2)), format!("${}\r\n{}\r\n", value(2).len(), value(2))];
        assert_eq!(told[..2], expected.map(String::into_bytes), "neither an error nor an old value");
        assert_eq!(told[2], format!(":{}\r\n", value(3)).into_bytes());
        assert_eq!(replica.wire().ask("GET a"), format!("${}\r\n{}\r\n", value(3).len(), value(3)));
    }
}

#[test]
fn clients_with_connections_of_their_own_find_the_primary_though_nobody_uses_a_lane() {
    let first = Redis::of(Server::Valkey91, &[]);
    let second = replica_of(Server::Valkey91, first.port, &[]);
    let sidecar = Sidecar::builder().redis(&first).expect(warnings::UPSTREAM_AWAY).start();
    let (mut worker, mut other) = (sidecar.wire(), sidecar.wire());
    let mut transact = || ["MULTI", "INCR a", "EXEC"].map(|request| other.ask(request));
    assert_eq!(transact()[2], "*1\r\n:1\r\n");
    fail_over(&first, &second);
    until("transactions run at the primary", || transact()[2] == "*1\r\n:2\r\n");
    assert_eq!(second.wire().ask("RPUSH l x"), ":1\r\n");
    assert_eq!(worker.ask("BLPOP l 1"), "*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
}

#[test]
fn clients_go_on_through_failovers_of_one_plain_valkey() {
    let first = Redis::of(Server::Valkey91, &[]);
    let second = replica_of(Server::Valkey91, first.port, &[]);
    let sidecar = Sidecar::builder().redis(&first).expect(warnings::UPSTREAM_AWAY).start();
    let readers = Readers::start(sidecar.port, 6);
    readers.go_on(6);
    for (primary, replica) in [(&first, &second), (&second, &first), (&first, &second)] {
        fail_over(primary, replica);
        readers.go_on(12);
    }
    readers.stop();
}

#[test]
fn a_primary_that_was_named_and_died_is_left() {
    let first = Redis::of(Server::Valkey91, &[]);
    let mut second = replica_of(Server::Valkey91, first.port, &[]);
    let builder = Sidecar::builder().redis(&first).expect(warnings::UPSTREAM_AWAY);
    // For a moment the one is dead that the other one names.
    let sidecar = builder.expect(&[warnings::UPSTREAM_IS_A_REPLICA]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    fail_over(&first, &second);
    assert_eq!(wire.ask("SET a 2"), "+OK\r\n");
    until("it is replicated", || Wire::tcp(first.port).ask("GET a") == "$1\r\n2\r\n");
    second.kill();
    assert_eq!(first.wire().ask("REPLICAOF NO ONE"), "+OK\r\n");
    until("the first one takes commands again", || wire.ask("SET a 3") == "+OK\r\n");
    assert_eq!(first.wire().ask("GET a"), "$1\r\n3\r\n");
}
