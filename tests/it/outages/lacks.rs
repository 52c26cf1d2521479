//! What a sidecar lacks for a while: files, a place among the upstream's clients, an address that answers, a
//! connection. And those who are ended while they wait for it.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::admin::metric;
use crate::support::process::descriptors;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// From now on so many more files may be open than are.
fn leave_files(sidecar: &Sidecar, more: usize) {
    let pid = sidecar.pid();
    let files = descriptors(pid) + more;
    let limit = [format!("--pid={pid}"), format!("--nofile={files}:{files}")];
    assert!(Command::new("prlimit").args(limit).status().expect("util-linux").success());
}

#[test]
fn a_lack_of_files_is_named_and_is_not_the_upstreams_fault() {
    let redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("UPSTREAM__QUEUE_TIMEOUT", "300ms");
    let builder = builder.set("UPSTREAM__BREAKER_AFTER", "1ms").set("UPSTREAM__LANES", "1").set("SERVER__WORKERS", "1");
    let sidecar = builder.expect(&[warnings::NOT_ACCEPTED, warnings::NOT_OPENED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    leave_files(&sidecar, 3);
    let mut many: Vec<TcpStream> = Vec::new();
    until("none is left", || {
        many.push(TcpStream::connect(("127.0.0.1", sidecar.port)).expect("the backlog has room"));
        sidecar.log().contains("no client can be accepted: this sidecar, or its machine, may open no more files")
    });
    // A file may be free for a moment: these wait in the backlog whatever happens.
    many.extend((0..20).map(|_| TcpStream::connect(("127.0.0.1", sidecar.port)).expect("the backlog has room")));
    let begun = Instant::now();
    let told = wire.ask("BLPOP nosuch 0");
    assert!(
        told.starts_with("-LOADING hearthside: no connection") && told.contains("may open no more files"),
        "{told}"
    );
    assert!(begun.elapsed() >= Duration::from_millis(300), "it was waited for");
    assert_eq!(wire.ask("GET a"), "$1\r\n1\r\n", "what is open goes on");
    until("more have failed", || begun.elapsed() > Duration::from_secs(1));
    assert_eq!(sidecar.log().matches("no client can be accepted").count(), 1, "once per interval");
    drop(many);
    assert_eq!(wire.ask("BLPOP nosuch 0.01"), "*-1\r\n", "at once: nothing counts against the upstream");
    until("clients are accepted again", || sidecar.log().contains("clients are accepted again"));
    assert_eq!(sidecar.wire().ask("GET a"), "$1\r\n1\r\n");
    assert_eq!(metric(&sidecar, "hearthside_upstream_circuit_open"), 0.0);
    assert!(!sidecar.log().contains("does not answer"), "{}", sidecar.log());
}

#[test]
fn the_upstreams_maxclients_are_the_upstreams_and_are_waited_for() {
    let redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("UPSTREAM__QUEUE_TIMEOUT", "300ms");
    let builder = builder.set("UPSTREAM__BREAKER_AFTER", "1ms").expect(&[warnings::NOT_OPENED]);
    let sidecar = builder.set("UPSTREAM__LANES", "1").set("SERVER__WORKERS", "1").start();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    until("the upstream is known to answer", || metric(&sidecar, "hearthside_upstream_up") == 1.0);
    assert_eq!(direct.ask("CONFIG SET maxclients 1"), "+OK\r\n");
    for request in ["BLPOP l 0", "SELECT 1"] {
        let told = wire.ask(request);
        assert!(told.starts_with("-LOADING hearthside: the upstream redis://127.0.0.1"), "{told}");
        assert!(told.contains("has reached its own maxclients") && told.contains("upstream.pinned_max"), "{told}");
    }
    assert_eq!(wire.ask("GET a"), "$1\r\n1\r\n");
    assert_eq!(metric(&sidecar, "hearthside_upstream_circuit_open"), 0.0);
    assert_eq!(direct.ask("CONFIG SET maxclients 100"), "+OK\r\n");
    assert_eq!(wire.ask("BLPOP l 0.01"), "*-1\r\n");
}

#[test]
fn who_waits_for_a_place_at_the_upstream_gets_the_first() {
    let redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("UPSTREAM__QUEUE_TIMEOUT", "20s");
    let sidecar = builder.expect(&[warnings::NOT_OPENED]).start();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    assert_eq!(direct.ask("CONFIG SET maxclients 1"), "+OK\r\n");
    wire.send(&line("BLPOP l 0"));
    until("it was refused", || sidecar.log().contains("has reached its own maxclients"));
    assert_eq!(direct.ask("CONFIG SET maxclients 100"), "+OK\r\n");
    assert_eq!(direct.ask("RPUSH l x"), ":1\r\n");
    assert_eq!(wire.frame(), b"*2\r\n$1\r\nl\r\n$1\r\nx\r\n");
}

/// A listener that swallows who connects: its backlog is full.
fn deaf(address: SocketAddr) -> (Socket, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.set_reuse_address(true).expect("an option");
    listener.bind(&address.into()).expect("free");
    listener.listen(0).expect("listens");
    let waiting = std::iter::repeat_with(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("an option");
        // Under way, or swallowed.
        let _ = socket.connect(&address.into());
        socket
    });
    (listener, waiting.take(4).collect())
}

#[test]
fn an_address_that_swallows_everything_does_not_hide_the_next() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Redis::with(&["--bind", "127.0.0.2"]);
    let deaf: Vec<_> = [1, 3].map(|last| deaf(SocketAddr::from(([127, 0, 0, last], redis.port)))).into();
    // Whatever the order in which they are tried: one that is deaf stands before the one that hears.
    let hosts = folder.path().join("hosts");
    let lines = ["127.0.0.1 upstream.test", "127.0.0.2 upstream.test", "127.0.0.3 upstream.test"];
    fs::write(&hosts, lines.join("\n")).expect("written");
    let sidecar = Sidecar::builder()
        .preload("libnss_wrapper.so")
        .environment("NSS_WRAPPER_HOSTS", hosts.display().to_string())
        .set("UPSTREAM__URL", format!("redis://upstream.test:{}", redis.port))
        .set("UPSTREAM__CONNECT_TIMEOUT", "5s")
        .set("UPSTREAM__QUEUE_TIMEOUT", "10s")
        .start();
    assert_eq!(sidecar.wire().ask("SET a 1"), "+OK\r\n");
    assert_eq!(Wire::unix(&redis.socket()).ask("GET a"), "$1\r\n1\r\n");
    drop(deaf);
}

#[test]
fn a_client_that_is_killed_waits_for_no_connection() {
    let redis = Redis::start();
    let builder =
        Sidecar::builder().redis(&redis).set("UPSTREAM__PINNED_MAX", "1").set("UPSTREAM__PINNED_TIMEOUT", "10m");
    let sidecar = builder.set("UPSTREAM__QUEUE_TIMEOUT", "10m").start();
    let (mut holder, mut killer) = (sidecar.wire(), sidecar.wire());
    holder.send(&line("BLPOP nosuch 0"));
    until("it has the only one", || metric(&sidecar, "hearthside_pinned") == 1.0);
    let huge = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\nxxx", 4 << 20).into_bytes();
    for request in [line("WATCH a"), line("SELECT 1"), line("SUBSCRIBE a"), huge] {
        let mut waiting = sidecar.wire();
        let id = waiting.ask("CLIENT ID").trim_matches([':', '\r', '\n']).to_owned();
        waiting.send(&request);
        until("it waits", || metric(&sidecar, "hearthside_pinned_waiting") == 1.0);
        assert_eq!(killer.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
        waiting.rest();
        until("it waits no more", || metric(&sidecar, "hearthside_pinned_waiting") == 0.0);
    }
}

#[test]
fn a_client_whose_huge_request_the_upstream_does_not_take_can_be_killed() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).expect(warnings::UPSTREAM_AWAY).start();
    let (mut huge, mut killer) = (sidecar.wire(), sidecar.wire());
    let id = huge.ask("CLIENT ID").trim_matches([':', '\r', '\n']).to_owned();
    huge.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", 512 << 20).as_bytes());
    until("it has a connection", || metric(&sidecar, "hearthside_pinned") == 1.0);
    redis.pause(true);
    let mut sender = huge.twin();
    let sending = std::thread::spawn(move || while sender.try_send(&[b'x'; 65536]) {});
    let taken = || metric(&sidecar, "hearthside_client_in_bytes_total");
    let (mut before, mut since) = (0.0, Instant::now());
    until("nothing more is taken", || {
        if std::mem::replace(&mut before, taken()) != before {
            since = Instant::now();
        }
        before > 1e6 && since.elapsed() > Duration::from_millis(500)
    });
    assert_eq!(killer.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
    until("it can send no more, long before its upstream is given up", || sending.is_finished());
    until("its connection is closed", || metric(&sidecar, "hearthside_pinned") == 0.0);
    redis.pause(false);
}

#[test]
fn a_shutdown_waits_for_nobody_who_waits_for_a_connection() {
    let mut redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("UPSTREAM__QUEUE_TIMEOUT", "10m");
    let builder = builder.set("UPSTREAM__BREAKER_AFTER", "10m").set("SERVER__SHUTDOWN_TIMEOUT", "10m");
    let mut sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let [mut watches, mut moves, mut huge] = [(); 3].map(|()| sidecar.wire());
    redis.kill();
    watches.send(&line("WATCH b"));
    moves.send(&line("SELECT 1"));
    huge.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\nxxx", 4 << 20).as_bytes());
    let local = || metric(&sidecar, "hearthside_commands_total{route=\"local\",outcome=\"ok\"}");
    until("they wait", || local() == 2.0 && metric(&sidecar, "hearthside_client_in_bytes_total") > 70.0);
    assert_eq!(sidecar.stop(), Some(0));
    for wire in [&mut watches, &mut moves] {
        let told = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(told.starts_with("-LOADING hearthside: the connection is being closed"), "{told}");
    }
}

#[test]
fn huge_requests_are_counted_like_others() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("LIMITS__REQUESTS_PER_SECOND", "2").start();
    let mut wire = sidecar.wire();
    let value = vec![b'x'; 2 << 20];
    let mut request = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len()).into_bytes();
    request.extend_from_slice(&value);
    request.extend_from_slice(b"\r\n");
    let mut refused = 0;
    until("one comes too fast", || {
        wire.send(&request);
        match String::from_utf8_lossy(&wire.frame()).into_owned() {
            told if told == "+OK\r\n" => {}
            told => {
                assert!(told.contains("limits.requests_per_second"), "{told}");
                refused += 1;
            }
        }
        refused > 0
    });
    until("the next requests are told apart", || wire.ask("ECHO on") == "$2\r\non\r\n");
}

/// The kernel's timer of every connection to a port of this machine: 2 is keepalive, 0 none.
fn timers(port: u16) -> Vec<u8> {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let ours = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let established = rows.filter(|row| row[1].ends_with(&ours) && row[3] == "01");
    established.filter_map(|row| row[5].split(':').next()?.parse().ok()).collect()
}

#[test]
fn a_silent_client_is_asked_whether_it_is_there() {
    let redis = Redis::start();
    for (setting, timer) in [("300s", 2), ("0s", 0)] {
        let sidecar = Sidecar::builder().redis(&redis).set("SERVER__KEEPALIVE", setting).start();
        let mut wires = [sidecar.wire(), sidecar.wire()];
        wires.iter_mut().for_each(|wire| assert_eq!(wire.ask("PING"), "+PONG\r\n"));
        until("its timers are these", || timers(sidecar.port) == [timer, timer]);
    }
}

#[test]
fn a_unix_socket_has_its_mode_before_anybody_can_connect() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    // What it stands on: until a socket listens, whoever tries is refused.
    let deaf = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    deaf.bind(&socket2::SockAddr::unix(&path).expect("a path")).expect("free");
    assert_eq!(UnixStream::connect(&path).expect_err("it does not listen").kind(), ErrorKind::ConnectionRefused);
    deaf.listen(1).expect("listens");
    assert!(UnixStream::connect(&path).is_ok());
    drop(deaf);
    for mode in [0o700, 0o600, 0o770] {
        let builder = Sidecar::builder().set("SERVER__LISTEN", format!("unix://{}", path.display()));
        let builder = builder.set("UPSTREAM__URL", "redis://127.0.0.1:1").set("SERVER__UNIX_MODE", format!("{mode:o}"));
        let mut sidecar = builder.expect(warnings::UPSTREAM_AWAY).spawn();
        // A socket is there and refuses until it listens, and it listens last.
        let begun = Instant::now();
        let first = loop {
            if UnixStream::connect(&path).is_ok() {
                break fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
            }
            assert!(begun.elapsed() < Duration::from_secs(20) && !sidecar.has_ended(), "{}", sidecar.log());
        };
        assert_eq!(first, mode, "{first:o}");
        assert_eq!(sidecar.stop(), Some(0));
    }
}

#[test]
fn a_socket_whose_owner_is_busy_is_neither_taken_nor_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let address = socket2::SockAddr::unix(&path).expect("a path");
    let busy = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    busy.bind(&address).expect("free");
    busy.listen(0).expect("listens");
    let mut clients = Vec::new();
    until("its backlog is full", || {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        client.set_nonblocking(true).expect("an option");
        let full = client.connect(&address).is_err();
        clients.push(client);
        full
    });
    let sidecar = Sidecar::builder().set("SERVER__LISTEN", format!("unix://{}", path.display())).execute(&["run"]);
    let told = String::from_utf8_lossy(&sidecar.stderr).into_owned();
    assert!(sidecar.status.code() == Some(1) && told.contains("cannot listen on unix://"), "{told}");
    assert!(path.exists(), "it is the other's");
}
