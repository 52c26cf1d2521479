//! What makes itself a replica through the sidecar: a real server, `redis-cli`, and a raw client with SYNC and PSYNC.

use std::process::Command;
use std::time::Duration;

use crate::support::admin::metric;
use crate::support::redis::{Redis, SERVERS, Server};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::{Wire, connect_narrow, line};

/// A sidecar that lets replicas in.
fn open(redis: &Redis) -> Sidecar {
    Sidecar::builder().redis(redis).set("SECURITY__DENY", "SHUTDOWN, DEBUG").start()
}

/// An upstream that answers SYNC at once.
fn upstream(server: Server) -> Redis {
    Redis::of(server, &["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"])
}

fn replica_of(server: Server, port: u16) -> Redis {
    Redis::of(server, &["--replicaof", &format!("127.0.0.1 {port}")])
}

fn field(wire: &mut Wire, section: &str, name: &str) -> String {
    let told = wire.ask(&format!("INFO {section}"));
    let found = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_default().trim().to_owned()
}

#[test]
fn a_server_becomes_a_replica_by_way_of_the_sidecar_and_goes_on_after_a_cut() {
    for server in SERVERS {
        let redis = upstream(server);
        let sidecar = open(&redis);
        let (mut direct, mut wire) = (redis.wire(), sidecar.wire());
        direct.ask("SET before 1");
        let replica = replica_of(server, sidecar.port);
        let mut copy = replica.wire();
        until("the replica has all", || copy.ask("GET before") == "$1\r\n1\r\n");
        assert_eq!(wire.ask("SET after 2"), "+OK\r\n");
        assert_eq!(wire.ask("WAIT 1 5000"), ":1\r\n", "it is counted");
        // It acknowledges what it has read, and shows it when it has been run.
        until("it is shown", || copy.ask("GET after") == "$1\r\n2\r\n");
        let told = field(&mut direct, "replication", "slave0");
        assert!(told.contains(&format!("port={},state=online", replica.port)), "{told}");
        assert_eq!(metric(&sidecar, "hearthside_replicas"), 1.0);
        let listed = wire.ask("CLIENT LIST TYPE replica");
        assert!(listed.matches("flags=S ").count() == 1 && listed.contains("cmd=replconf"), "{listed}");
        assert!(!wire.ask("CLIENT LIST TYPE normal").contains("flags=S"));
        assert_eq!(wire.ask("CLIENT KILL TYPE slave"), ":1\r\n");
        until("it has come again", || metric(&sidecar, "hearthside_replicas_attached_total") == 2.0);
        wire.ask("SET later 3");
        until("it goes on", || copy.ask("GET later") == "$1\r\n3\r\n");
        assert_eq!(field(&mut direct, "stats", "sync_full"), "1", "on {server:?}");
        assert_eq!(field(&mut direct, "stats", "sync_partial_ok"), "1", "on {server:?}");
        assert!(sidecar.log().contains("a client follows the upstream as a replica does"));
    }
}

#[test]
fn a_replica_is_let_go_when_the_sidecar_ends_and_goes_on_elsewhere() {
    let redis = upstream(Server::Installed);
    let mut sidecar = open(&redis);
    let replica = replica_of(Server::Installed, sidecar.port);
    until("it follows", || field(&mut replica.wire(), "replication", "master_link_status") == "up");
    sidecar.signal("TERM");
    until("the sidecar has ended", || sidecar.has_ended());
    assert!(!sidecar.log().contains("did not end in time"), "{}", sidecar.log());
    replica.wire().ask(&format!("REPLICAOF 127.0.0.1 {}", redis.port));
    redis.wire().ask("SET a 1");
    until("it goes on", || replica.wire().ask("GET a") == "$1\r\n1\r\n");
    assert_eq!(field(&mut redis.wire(), "stats", "sync_full"), "1");
}

#[test]
fn redis_cli_takes_a_copy_and_follows() {
    let redis = upstream(Server::Installed);
    let sidecar = open(&redis);
    sidecar.wire().ask("SET copied value");
    let file = redis.folder.path().join("copy.rdb");
    let port = sidecar.port.to_string();
    let cli = || {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &port]);
        cli
    };
    let taken = cli().arg("--rdb").arg(&file).output().expect("redis-cli is installed");
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
    let copy = std::fs::read(&file).expect("a copy");
    assert!(copy.starts_with(b"REDIS") && copy.windows(11).any(|part| part == b"copied\x05valu"), "it is whole");
    let log = redis.folder.path().join("followed");
    let mut following =
        cli().arg("--replica").stdout(std::fs::File::create(&log).expect("a file")).spawn().expect("redis-cli");
    until("it follows", || metric(&sidecar, "hearthside_replicas") == 1.0);
    until("it is told what is written", || {
        sidecar.wire().ask("SET written later");
        std::fs::read_to_string(&log).unwrap_or_default().contains("\"SET\",\"written\",\"later\"")
    });
    following.kill().expect("running");
    following.wait().expect("ended");
    until("it is gone", || metric(&sidecar, "hearthside_replicas") == 0.0);
}

#[test]
fn what_a_replica_says_of_itself_is_answered_as_by_the_server() {
    for server in SERVERS {
        let (redis, twin) = (upstream(server), upstream(server));
        let sidecar = open(&redis);
        for requests in [
            &["REPLCONF", "REPLCONF listening-port 7000", "REPLCONF capa eof capa psync2", "PING", "GET a"][..],
            &["REPLCONF listening-port x", "REPLCONF nosuch 1", "REPLCONF capa", "ECHO a", "REPLCONF rdb-only 1"],
            &["REPLCONF ip-address 10.0.0.1", "SELECT 3", "SET a 3", "RESET", "GET a", "SELECT 3", "GET a"],
            &["PING a", "REPLCONF version 7.0.0", "CLIENT GETNAME"],
            &["SELECT 2", "CLIENT SETNAME me", "REPLCONF capa eof", "CLIENT GETNAME", "PSYNC a", "PSYNC ? x"],
            &["MULTI", "PSYNC ? -1", "EXEC", "PING"],
            &["SYNC now", "PING"],
        ] {
            let (mut through, mut direct) = (sidecar.wire(), twin.wire());
            for request in requests {
                // Nobody is answered who is no replica.
                let silent = if requests[0] == "MULTI" { Vec::new() } else { line("REPLCONF GETACK *") };
                let silent = [silent, line(request)].concat();
                let [ours, theirs] = [&mut through, &mut direct].map(|wire| {
                    wire.send(&silent);
                    String::from_utf8_lossy(&wire.frame()).into_owned()
                });
                assert_eq!(ours, theirs, "{request} of {requests:?} on {server:?}");
            }
        }
    }
}

#[test]
fn a_replica_is_refused_what_is_denied_and_closed_for_it() {
    let redis = upstream(Server::Installed);
    let sidecar = open(&redis);
    let mut wire = sidecar.wire();
    wire.send(b"REPLCONF capa eof\r\n");
    assert_eq!(wire.frame(), b"+OK\r\n");
    assert!(wire.ask("SHUTDOWN NOSAVE").starts_with("-NOPERM hearthside: SHUTDOWN"));
    wire.send(b"SYNC\r\n");
    until("it follows", || metric(&sidecar, "hearthside_replicas") == 1.0);
    wire.send(&line("SHUTDOWN NOSAVE"));
    let told = wire.rest();
    assert!(!told.windows(6).any(|part| part == b"NOPERM"), "{}", String::from_utf8_lossy(&told));
    assert_eq!(redis.wire().ask("PING"), "+PONG\r\n");
    let mut inside = sidecar.wire();
    assert_eq!(inside.ask("MULTI"), "+OK\r\n");
    assert!(inside.ask("REPLCONF capa eof").contains("not supported inside MULTI"));
}

#[test]
fn replicas_are_refused_until_they_are_taken_out_of_the_list() {
    let redis = upstream(Server::Installed);
    let sidecar = Sidecar::builder().redis(&redis).start();
    for request in ["SYNC", "PSYNC ? -1", "REPLCONF capa eof"] {
        let told = sidecar.wire().ask(request);
        assert!(told.starts_with("-NOPERM hearthside: ") && told.contains("security.deny"), "{request}: {told}");
    }
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 0.0);
}

#[test]
fn a_replica_that_does_not_read_costs_little_and_loses_nothing() {
    let redis = Redis::with(&[
        "--repl-diskless-sync-delay",
        "0",
        "--client-output-buffer-limit",
        "replica 0 0 0",
        "--enable-debug-command",
        "yes",
    ]);
    let sidecar = open(&redis);
    let mut direct = redis.wire();
    // 64 MB that a copy cannot make smaller.
    direct.ask("CONFIG SET rdbcompression no");
    direct.ask("DEBUG POPULATE 64 big 1000000");
    let mut wire = Wire::of(connect_narrow(sidecar.port));
    wire.send(b"SYNC\r\n");
    let held = || metric(&sidecar, "hearthside_client_buffer_bytes");
    until("it does not read", || held() > 250_000.0);
    let mut most = 0_f64;
    for key in 0..2000 {
        direct.ask(&format!("SET key{key} {key}"));
        most = most.max(held());
    }
    assert!(most < 600_000.0, "{most} bytes");
    wire.send(b"\n");
    let mut bytes: usize = 0;
    let mut last = Vec::new();
    while !last.windows(7).any(|part| part == b"key1999") {
        let read = wire.take_some();
        bytes += read.len();
        last.extend_from_slice(&read);
        last.drain(..last.len().saturating_sub(4096));
    }
    assert!(bytes > 64_000_000, "{bytes}");
    wire.send(&line("REPLCONF ACK 1"));
    assert!(wire.is_silent(Duration::from_millis(1)));
}

#[test]
fn a_replica_says_by_an_empty_line_that_it_is_still_there() {
    let redis = upstream(Server::Installed);
    let sidecar = open(&redis);
    let (mut direct, mut wire) = (redis.wire(), sidecar.wire());
    assert_eq!(wire.ask("REPLCONF listening-port 7"), "+OK\r\n");
    wire.send(&line("PSYNC ? -1"));
    let mut lag = || {
        let told = field(&mut direct, "replication", "slave0");
        let lag = told.split("state=online").nth(1).and_then(|rest| rest.rsplit("lag=").next()?.parse::<u64>().ok());
        lag.unwrap_or(0)
    };
    until("it has been silent", || lag() >= 2);
    until("it is heard", || {
        wire.send(b"\n");
        lag() < 2
    });
}

#[test]
fn a_reload_that_denies_replicas_ends_those_that_follow() {
    let redis = upstream(Server::Installed);
    let config = |deny: &str| format!("[security]\ndeny = [{deny}]\n");
    let sidecar = Sidecar::builder().redis(&redis).config(&config("\"SYNC\"")).start();
    let mut wire = sidecar.wire();
    wire.send(&line("PSYNC ? -1"));
    let reload = |deny: &str| {
        sidecar.configure(&config(deny));
        sidecar.signal("HUP");
    };
    until("it follows", || metric(&sidecar, "hearthside_replicas") == 1.0);
    reload("\"SYNC\", \"MONITOR\"");
    until("MONITOR is denied", || sidecar.wire().ask("MONITOR").starts_with("-NOPERM"));
    assert_eq!(metric(&sidecar, "hearthside_replicas"), 1.0, "PSYNC is not denied");
    reload("\"PSYNC\"");
    wire.rest();
    until("it is gone", || metric(&sidecar, "hearthside_replicas") == 0.0);
}
