//! Which reads replicas answer, and which not.

use super::{LAG, calls, is_read, pass, reading, replica_of, url};
use crate::support::admin::{metric, request};
use crate::support::redis::{Redis, Server};
use crate::support::until;
use crate::support::wire::{Wire, line};

#[test]
fn replicas_answer_reads_of_keys_that_allow_it() {
    let primary = Redis::start();
    let replica = replica_of(Server::Installed, primary.port, &[]);
    // Whichever is named first.
    let sidecar = reading(url(&[&replica, &primary])).start();
    is_read(&sidecar, replica.port, true);
    let mut wire = sidecar.wire();
    for (request, reply) in [("SET page:1 a", "+OK\r\n"), ("SET other 1", "+OK\r\n"), ("HSET page:h f 1", ":1\r\n")] {
        assert_eq!(wire.ask(request), reply);
    }
    let at_replica = |command: &str| calls(replica.port, command);
    assert_eq!((wire.ask("GET page:1").as_str(), at_replica("get")), ("$1\r\na\r\n", 0), "it has just written");
    let mut reader = sidecar.wire();
    until("the replica has it", || reader.ask("GET page:1") == "$1\r\na\r\n");
    let before = at_replica("get");
    assert!(before > 0, "somebody who has not written reads from the replica");
    for _ in 0..3 {
        assert_eq!(reader.ask("GET page:1"), "$1\r\na\r\n");
    }
    assert_eq!((reader.ask("GET other").as_str(), at_replica("get")), ("$1\r\n1\r\n", before + 3));
    pass(LAG);
    assert_eq!((wire.ask("GET page:1").as_str(), at_replica("get")), ("$1\r\na\r\n", before + 4), "long ago");
    assert_eq!(reader.ask("MGET page:1 other"), "*2\r\n$1\r\na\r\n$1\r\n1\r\n");
    assert_eq!(at_replica("mget"), 0, "one of the keys may not be read there");
    assert_eq!(reader.ask("MGET page:1 page:2"), "*2\r\n$1\r\na\r\n$-1\r\n");
    assert_eq!(at_replica("mget"), 1);
    assert_eq!(reader.ask("STRLEN page:h"), "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
    let lines = request(&sidecar, "GET", "/readyz?verbose").1;
    let its = format!("upstream redis://127.0.0.1:{}: up, a replica, 0 bytes behind, read", replica.port);
    assert!(lines.contains(&its), "{lines}");
}

#[test]
fn what_is_no_plain_read_goes_to_the_primary() {
    let primary = Redis::start();
    let replica = replica_of(Server::Installed, primary.port, &[]);
    let sidecar = reading(url(&[&primary, &replica])).start();
    is_read(&sidecar, replica.port, true);
    primary.wire().ask("HSET page:h f 1");
    let asked = [
        "hscan page:h 0",
        "touch page:h",
        "eval_ro return{ARGV[1]} 1 page:h x",
        "object encoding page:h",
        "sort_ro page:l",
        "keys page:*",
        "scan 0",
        "randomkey",
        "dbsize",
    ];
    let mut wire = sidecar.wire();
    wire.send(b"HGET page:h f\r\n");
    assert_eq!(wire.frame(), b"$1\r\n1\r\n", "somebody has typed it");
    assert_eq!(calls(replica.port, "hget"), 0);
    for request in asked {
        let told = wire.ask(request);
        assert!(!told.starts_with('-'), "{request}: {told}");
        let command = request.split(' ').next().expect("a word").replace("object", "object|encoding");
        assert_eq!(calls(replica.port, &command), 0, "{request}");
    }
    // Inside a transaction, whether it arrives as a whole or not, while something is watched, and with tracking.
    let mut whole = sidecar.wire();
    whole.send(&[line("MULTI"), line("HGET page:h f"), line("EXEC")].concat());
    let replies: Vec<Vec<u8>> = (0..3).map(|_| whole.frame()).collect();
    assert_eq!(replies[2], b"*1\r\n$1\r\n1\r\n");
    let mut slowly = sidecar.wire();
    for request in ["MULTI", "HGET page:h f", "EXEC"] {
        assert!(!slowly.ask(request).starts_with('-'));
    }
    let mut watching = sidecar.wire();
    assert_eq!(watching.ask("WATCH page:h"), "+OK\r\n");
    pass(LAG);
    assert_eq!(watching.ask("HGET page:h f"), "$1\r\n1\r\n");
    let mut tracking = sidecar.wire();
    tracking.ask("HELLO 3");
    assert_eq!(tracking.ask("CLIENT TRACKING ON"), "+OK\r\n");
    pass(LAG);
    assert_eq!(tracking.ask("HGET page:h f"), "$1\r\n1\r\n");
    assert_eq!(calls(replica.port, "hget"), 0);
    assert_eq!(watching.ask("UNWATCH"), "+OK\r\n");
    pass(LAG);
    assert_eq!(watching.ask("HGET page:h f"), "$1\r\n1\r\n");
    assert_eq!(calls(replica.port, "hget"), 1, "it watches nothing any more");
}

#[test]
fn a_read_does_not_see_the_write_behind_it() {
    let primary = Redis::start();
    let replica = replica_of(Server::Installed, primary.port, &[]);
    let sidecar = reading(url(&[&primary, &replica])).start();
    is_read(&sidecar, replica.port, true);
    let mut wire = sidecar.wire();
    wire.ask("SET page:1 0");
    pass(LAG);
    for n in 0..200 {
        let pipeline = format!("GET page:1|SET page:1 {}|GET page:1", n + 1);
        // In one piece and in several: what has been sent to a replica is waited for.
        let requests: Vec<Vec<u8>> = pipeline.split('|').map(line).collect();
        if n % 2 == 0 {
            wire.send(&requests.concat());
        } else {
            requests.iter().for_each(|request| wire.send(request));
        }
        let told: Vec<String> = (0..3).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
        let value = |n: u64| format!("${}\r\n{n}\r\n", n.to_string().len());
        assert_eq!(told, [value(n), "+OK\r\n".into(), value(n + 1)]);
        if n % 50 == 0 {
            pass(LAG);
        }
    }
}

#[test]
fn a_write_that_waits_for_reads_is_paid_for_once() {
    let primary = Redis::start();
    let replica = replica_of(Server::Installed, primary.port, &[]);
    let builder = reading(url(&[&primary, &replica])).set("SERVER__WORKERS", "1");
    let sidecar = builder.set("LIMITS__REQUESTS_PER_SECOND", "2").start();
    primary.wire().ask("SET page:1 a");
    is_read(&sidecar, replica.port, true);
    let mut clients: Vec<Wire> = (0..8).map(|_| sidecar.wire()).collect();
    replica.pause(true);
    clients.iter_mut().for_each(|client| client.send(&line("GET page:1")));
    let reads = format!("hearthside_upstream_endpoint_reads_total{{endpoint=\"redis://127.0.0.1:{}\"}}", replica.port);
    until("reads are under way", || metric(&sidecar, &reads) >= 8.0);
    clients.iter_mut().for_each(|client| client.send(&line("SET page:1 b")));
    // The one thread that serves them all has looked at the writes when it answers this.
    assert_eq!(sidecar.wire().ask("PING"), "+PONG\r\n");
    replica.pause(false);
    for client in &mut clients {
        assert_eq!(client.frame(), b"$1\r\na\r\n");
        assert_eq!(String::from_utf8_lossy(&client.frame()), "+OK\r\n");
    }
}

#[test]
fn the_nearest_is_in_the_same_zone() {
    let primary = Redis::of(Server::Valkey91, &["--availability-zone", "east"]);
    let west = replica_of(Server::Valkey91, primary.port, &["--availability-zone", "west"]);
    let north = replica_of(Server::Valkey91, primary.port, &["--availability-zone", "north"]);
    let servers = [&primary, &west, &north];
    for (zone, its) in [("west", &west), ("east", &primary)] {
        let builder = reading(url(&servers)).set("UPSTREAM__READ_FROM", "nearest").set("UPSTREAM__ZONE", zone);
        let sidecar = builder.start();
        is_read(&sidecar, west.port, true);
        is_read(&sidecar, north.port, true);
        let before = calls(its.port, "get");
        for _ in 0..4 {
            assert_eq!(sidecar.wire().ask("GET page:1"), "$-1\r\n");
        }
        assert_eq!(calls(its.port, "get"), before + 4, "{zone}");
    }
}
