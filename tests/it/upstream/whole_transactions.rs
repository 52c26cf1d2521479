//! MULTI ... EXEC that arrives as a whole goes over a lane; requests with huge arguments go past it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::admin::metric;
use crate::support::process::status;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

fn one_worker(redis: &Redis) -> Sidecar {
    Sidecar::builder().redis(redis).set("SERVER__WORKERS", "1").start()
}

fn lines(requests: &[&str]) -> Vec<u8> {
    requests.iter().flat_map(|request| line(request)).collect()
}

#[test]
fn a_whole_transaction_needs_no_pinned_connection() {
    let redis = Redis::start();
    let sidecar = one_worker(&redis);
    let mut wire = sidecar.wire();
    wire.send(&lines(&[
        "SET a 1",
        "MULTI",
        "INCR a",
        "BLPOP nosuch 0",
        "GET",
        "EXEC",
        "MULTI",
        "INCR a",
        "EXEC",
        "GET a",
    ]));
    let replies: Vec<_> = (0..10).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert!(replies[4].starts_with("-ERR wrong number") && replies[5].starts_with("-EXECABORT"), "{replies:?}");
    assert_eq!(replies[8..], ["*1\r\n:2\r\n", "$1\r\n2\r\n"]);
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 0.0);
    // One of 20,000 commands arrives in many pieces, and still as a whole.
    let many = 20_000;
    let all: Vec<u8> = [line("MULTI"), line("INCR b").repeat(many), line("EXEC")].concat();
    wire.send(&all);
    for _ in 0..=many {
        wire.frame();
    }
    assert!(String::from_utf8_lossy(&wire.frame()).starts_with(&format!("*{many}\r\n:1\r\n:2\r\n")));
    assert_eq!(metric(&sidecar, "hearthside_pinned"), 0.0);
}

#[test]
fn what_cannot_be_a_slice_takes_the_long_way() {
    let redis = Redis::start();
    let sidecar = one_worker(&redis);
    let mut wire = sidecar.wire();
    wire.send(&lines(&["MULTI", "SET a 1", "HGET item:apple:def name", "EXEC"]));
    let replies: Vec<_> = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(replies[3], "*2\r\n+OK\r\n$5\r\nApple\r\n");
    wire.send(&lines(&["MULTI", "SET a 2", "SELECT 3", "SET a 3", "EXEC", "GET a"]));
    let replies: Vec<_> = (0..6).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(replies[5], "$1\r\n3\r\n", "the client is in the other database");
    wire.send(&lines(&["MULTI", "MULTI", "EXEC"]));
    assert_eq!(String::from_utf8_lossy(&wire.frame()), "+OK\r\n");
    assert!(wire.frame().starts_with(b"-ERR MULTI calls can not be nested"));
    assert_eq!(wire.frame(), b"*0\r\n");
    wire.send(&lines(&["WATCH a", "MULTI", "SET a 4", "EXEC"]));
    let replies: Vec<_> = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(replies[3], "*1\r\n+OK\r\n");
    // A client that waits for each answer gets it.
    for (request, expected) in [("MULTI", "+OK\r\n"), ("GET a", "+QUEUED\r\n"), ("EXEC", "*1\r\n$1\r\n4\r\n")] {
        assert_eq!(wire.ask(request), expected);
    }
}

#[test]
fn a_slice_that_is_cut_is_never_sent_in_parts() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let builder = Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port));
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    proxy.hold(true);
    wire.send(&lines(&["GET a", "MULTI", "INCR a", "GET a", "EXEC", "GET a"]));
    assert!(wire.is_silent(Duration::from_millis(50)));
    proxy.cut();
    proxy.hold(false);
    let replies: Vec<_> = (0..6).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(replies[0], "$1\r\n1\r\n", "a read before it is sent again");
    for reply in &replies[1..5] {
        assert!(reply.contains("may have been applied"), "{replies:?}");
    }
    assert!(replies[5].starts_with("$1\r\n"));
    let stats = redis.wire().ask("INFO commandstats");
    assert!(!stats.contains("cmdstat_multi") || stats.contains("cmdstat_exec:calls=1"), "{stats}");
}

/// The most memory a process has had, in MiB.
fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM") / 1024
}

#[test]
fn a_value_of_512_megabytes_passes_without_being_gathered() {
    let redis = Redis::start();
    let sidecar = one_worker(&redis);
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    let before = peak(sidecar.pid());
    let size = 512 << 20;
    wire.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${size}\r\n").as_bytes());
    let chunk = vec![b'x'; 4 << 20];
    for i in 0..size / chunk.len() {
        wire.send(&chunk);
        if i % 32 == 0 {
            assert_eq!(other.ask("PING"), "+PONG\r\n");
            assert_eq!(other.ask("INCR others"), format!(":{}\r\n", i / 32 + 1), "nobody waits for it");
        }
    }
    wire.send(&[&b"\r\n"[..], &line("STRLEN big")].concat());
    assert_eq!(String::from_utf8_lossy(&wire.frame()), "+OK\r\n");
    assert_eq!(String::from_utf8_lossy(&wire.frame()), format!(":{size}\r\n"));
    let grown = peak(sidecar.pid()) - before;
    assert!(grown < 64, "{grown} MiB for one of 512");
    // One that is gathered, because its keys are known only at its end.
    let value = vec![b'y'; 2 << 20];
    assert_eq!(wire.call(&[&b"MSET"[..], b"a", &value, b"b", b"1"]), b"+OK\r\n");
    assert!(wire.call(&[&b"MSET"[..], b"a", &value, b"item:apple:def", b"1"]).starts_with(b"-ERR hearthside: MSET"));
    // And inside MULTI.
    wire.ask("MULTI");
    assert_eq!(wire.call(&[&b"SET"[..], b"a", &value]), b"+QUEUED\r\n");
    assert_eq!(wire.ask("EXEC"), "*1\r\n+OK\r\n");
}

#[test]
fn a_huge_request_that_is_refused_leaves_the_client_in_step() {
    let redis = Redis::with(&["--proto-max-bulk-len", "1mb"]);
    let sidecar = one_worker(&redis);
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    other.ask("SET a 1");
    let value = vec![b'x'; 3 << 20];
    let told = String::from_utf8_lossy(&wire.call(&[&b"SET"[..], b"big", &value])).into_owned();
    assert!(
        told.starts_with("-ERR Protocol error: invalid bulk length") || told.contains("connection was lost"),
        "{told}"
    );
    assert_eq!(wire.ask("GET a"), "$1\r\n1\r\n");
    assert!(wire.call(&[&b"MSET"[..], b"a", &value, b"b", b"1"]).starts_with(b"-ERR"));
    assert_eq!(other.ask("GET a"), "$1\r\n1\r\n");
    assert_eq!(metric(&sidecar, "hearthside_lane_failures_total"), 0.0, "nobody else's connection was closed for it");
    // One that leaves in the middle of it has done nothing.
    wire.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\nxxx", 900 << 10).as_bytes());
    drop(wire);
    let mut wire = sidecar.wire();
    wire.send(format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\nxxx", 1 << 20).as_bytes());
    drop(wire);
    let mut direct = redis.wire();
    until("its connection is gone", || direct.ask("CLIENT LIST").lines().filter(|l| l.contains("qbuf=1")).count() == 0);
    assert_eq!(direct.ask("EXISTS big"), ":0\r\n");
}

#[test]
fn a_million_commands_and_half_a_frame() {
    let redis = Redis::start();
    let sidecar = one_worker(&redis);
    let mut half = sidecar.wire();
    half.send(b"*2\r\n$3\r\nGET\r\n$1");
    let before = peak(sidecar.pid());
    let mut receiver = TcpStream::connect(("127.0.0.1", sidecar.port)).expect("connects");
    let mut sender = receiver.try_clone().expect("a socket");
    let sending = std::thread::spawn(move || {
        let chunk = line("INCR many").repeat(10_000);
        for _ in 0..100 {
            sender.write_all(&chunk).expect("sends");
        }
    });
    let (mut buffer, mut replies) = (vec![0; 1 << 16], 0);
    while replies < 1_000_000 {
        let n = receiver.read(&mut buffer).expect("reads");
        replies += buffer[..n].iter().filter(|b| **b == b'\n').count();
    }
    sending.join().expect("sent");
    assert_eq!(sidecar.wire().ask("GET many"), "$7\r\n1000000\r\n");
    let grown = peak(sidecar.pid()) - before;
    assert!(grown < 150, "{grown} MiB");
    half.send(b"\r\na\r\n");
    assert_eq!(half.frame(), b"$-1\r\n");
}
