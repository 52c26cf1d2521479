//! A fresh machine: no configuration, no Redis running, no Postgres.

use std::time::{Duration, Instant};

use crate::support::admin::metric;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;

#[test]
fn the_demo_world_answers_and_the_private_redis_works() {
    let mut sidecar = Sidecar::builder().start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("HGETALL location:overpass:cache").contains("Broken Overpass"));
    let session = wire.ask("HGETALL player:1:session");
    assert!(
        session.contains("$2\r\nhp\r\n$2\r\n99\r\n") && session.contains("websocket_connected\r\n$4\r\ntrue"),
        "{session}"
    );
    assert_eq!(wire.ask("LLEN player:1:inventory"), ":8\r\n");
    assert_eq!(wire.ask("HGET item:iron_sword:def name"), "$10\r\nIron Sword\r\n");
    assert_eq!(wire.ask("SET a b"), "+OK\r\n");
    assert_eq!(wire.ask("SADD location:overpass:players 1"), ":1\r\n");
    assert_eq!(wire.ask("GET a"), "$1\r\nb\r\n");
    assert_eq!(wire.ask("HGETALL location:nowhere:cache"), "*0\r\n");
    for inventory in 1..=100 {
        let expected = inventory * 8 % 21;
        assert_eq!(wire.ask(&format!("LLEN player:{inventory}:inventory")), format!(":{expected}\r\n"));
    }
    drop(wire);
    assert_eq!(sidecar.stop(), Some(0));
    assert!(!sidecar.folder.path().join("data/redis.sock").exists(), "the private redis-server has ended");
    assert!(sidecar.folder.path().join("data/hearthside.db").exists());
}

#[test]
fn without_a_redis_on_path_pass_through_says_how_to_get_one() {
    let empty = tempfile::tempdir().expect("a folder");
    let sidecar = Sidecar::builder().expect(&[warnings::NO_UPSTREAM, warnings::LANE_CLOSED, warnings::NOT_OPENED]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = sidecar.command(&folder);
    command
        .env("PATH", empty.path())
        .env("HEARTHSIDE__SERVER__LISTEN", "unix://s")
        .env("HEARTHSIDE__ADMIN__LISTEN", "");
    let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("starts");
    let socket = folder.path().join("s");
    until("the sidecar listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let mut wire = crate::support::wire::Wire::unix(&socket.display().to_string());
    assert_eq!(wire.ask("HGET item:iron_sword:def name"), "$10\r\nIron Sword\r\n");
    assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n99\r\n");
    for request in ["SET a b", "SADD location:overpass:players 1", "GET a"] {
        let told = wire.ask(request);
        assert!(
            told.starts_with("-ERR hearthside: there is no upstream") && told.contains("apt install redis-server"),
            "{told}"
        );
    }
    assert_eq!(wire.ask("PING"), "+PONG\r\n");
    child.kill().expect("running");
    child.wait().expect("ended");
}

#[test]
fn a_change_of_the_sqlite_file_by_another_process_is_seen() {
    let sidecar = Sidecar::builder().start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET player:2:session hp"), "$2\r\n98\r\n");
    let file = sidecar.folder.path().join("data/hearthside.db");
    let sql = "UPDATE sessions SET hp = 5 WHERE character_id = 2; UPDATE locations SET name = 'Bridge' WHERE \
        location_id = 'overpass'";
    let changed = std::process::Command::new("sqlite3").arg(file).arg(sql).status().expect("sqlite3 is installed");
    assert!(changed.success());
    until("the session shows", || wire.ask("HGET player:2:session hp") == "$1\r\n5\r\n");
    until("the definition shows", || wire.ask("HGET location:overpass:cache name") == "$6\r\nBridge\r\n");
}

#[test]
fn a_private_redis_that_dies_is_started_again() {
    let sidecar = Sidecar::builder().expect(warnings::UPSTREAM_AWAY).expect(&[warnings::PRIVATE_ENDED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    let info = wire.ask("INFO server");
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).expect("a pid").trim().to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().expect("kill").success());
    until("pass-through works again", || wire.ask("SET a 2") == "+OK\r\n");
    assert!(sidecar.log().contains("how=\"signal: 9 (SIGKILL)\""), "{}", sidecar.log());
    assert!(!sidecar.log().contains("LOADING"), "what a client is told is none of the log's: {}", sidecar.log());
}

#[test]
fn two_sidecars_never_share_a_private_redis() {
    let first = Sidecar::builder().start();
    let data = first.folder.path().join("data").display().to_string();
    let second = Sidecar::builder().set("UPSTREAM__PRIVATE_DIR", data).execute(&["run"]);
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && told.contains("another sidecar runs a private redis-server"), "{told}");
    assert!(!told.contains("ready for clients"), "it does not look ready, it does not start: {told}");
    assert_eq!(first.wire().ask("GET a"), "$-1\r\n");
}

#[test]
fn a_private_redis_left_by_a_killed_sidecar_is_replaced() {
    let mut first = Sidecar::builder().start();
    assert_eq!(first.wire().ask("SET a b"), "+OK\r\n");
    let data = first.folder.path().join("data").display().to_string();
    first.signal("KILL");
    until("it is gone", || first.has_ended());
    let second = Sidecar::builder()
        .set("UPSTREAM__PRIVATE_DIR", data)
        .expect(&[warnings::PRIVATE_LEFT, warnings::PRIVATE_IS_WAITED_FOR])
        .start();
    assert_eq!(second.wire().ask("GET a"), "$1\r\nb\r\n", "the old server saved when it was ended");
}

/// A private server with these keys, each of which takes so many seconds to save.
fn slow_to_save(keys: usize, seconds: u32) -> Sidecar {
    let sidecar = Sidecar::builder().expect(&[warnings::PRIVATE_STILL_SAVES]).start();
    let mut wire = sidecar.wire();
    (0..keys).for_each(|i| assert_eq!(wire.ask(&format!("SET k{i} {i}")), "+OK\r\n"));
    assert_eq!(wire.ask(&format!("CONFIG SET rdb-key-save-delay {}", seconds * 1_000_000)), "+OK\r\n");
    sidecar
}

/// Another sidecar over the same folder has all of them.
fn has_all(folder: &Sidecar, keys: usize) {
    let data = folder.folder.path().join("data").display().to_string();
    let next = Sidecar::builder()
        .set("UPSTREAM__PRIVATE_DIR", data)
        .expect(&[warnings::PRIVATE_LEFT, warnings::PRIVATE_IS_WAITED_FOR])
        .start();
    assert!(next.log().contains("left behind"), "{}", next.log());
    assert_eq!(next.wire().ask("DBSIZE"), format!(":{keys}\r\n"));
}

#[test]
fn a_private_redis_that_saves_for_longer_than_a_stop_may_take_loses_nothing() {
    let mut first = slow_to_save(6, 1);
    let begun = Instant::now();
    assert_eq!(first.stop(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(6), "it is not waited for to its end");
    assert!(first.log().contains("left to finish saving"), "{}", first.log());
    has_all(&first, 6);
}

#[test]
fn a_private_redis_left_by_a_killed_sidecar_is_waited_for_while_it_saves() {
    let mut first = slow_to_save(12, 1);
    first.signal("KILL");
    until("it is gone", || first.has_ended());
    has_all(&first, 12);
}

#[test]
fn nobody_opens_a_port_of_the_private_redis_or_shuts_the_sidecar_out() {
    let sidecar = Sidecar::builder().start();
    let mut wire = sidecar.wire();
    let port = crate::support::free_port();
    for request in [
        format!("CONFIG SET port {port}"),
        format!("config set maxmemory 0 PORT {port}"),
        "CONFIG SET bind 0.0.0.0".into(),
        "CONFIG SET requirepass x".into(),
        "CONFIG SET protected-mode no".into(),
        "CONFIG SET dir /tmp".into(),
        "ACL SETUSER default off".into(),
    ] {
        let told = wire.ask(&request);
        assert!(
            told.starts_with("-NOPERM hearthside: the private") || told.contains("protected config"),
            "{request}: {told}"
        );
    }
    assert_eq!(wire.ask("MULTI"), "+OK\r\n");
    assert!(wire.ask(&format!("CONFIG SET port {port}")).starts_with("-NOPERM"));
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    assert_eq!(wire.ask("CONFIG GET port"), "*2\r\n$4\r\nport\r\n$1\r\n0\r\n");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(wire.ask("CONFIG SET maxmemory 0 notify-keyspace-events KEA"), "+OK\r\n", "the rest is the client's");
    assert_eq!(wire.ask("ACL SETUSER ann on nopass +@all ~*"), "+OK\r\n");
}

#[test]
fn a_stop_takes_less_than_ten_seconds_although_a_client_does_not_read() {
    let mut sidecar = Sidecar::builder().expect(&[warnings::CUT_AT_THE_END]).start();
    let mut wire = sidecar.wire();
    let value = "v".repeat(1 << 20);
    assert_eq!(wire.call(&["SET", "big", &value]), b"+OK\r\n");
    assert_eq!(wire.ask("SET saved 1"), "+OK\r\n");
    let mut deaf = sidecar.wire();
    deaf.send(&crate::support::wire::line("GET big").repeat(50));
    until("it is owed much", || metric(&sidecar, "hearthside_client_buffer_bytes") > 4e6);
    let begun = Instant::now();
    assert_eq!(sidecar.stop(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "docker kills then: {:?}", begun.elapsed());
    let log = sidecar.log();
    assert!(log.contains(&format!("{} clients=1", warnings::CUT_AT_THE_END)), "{log}");
    let data = sidecar.folder.path().join("data");
    assert!(
        !data.join("redis.sock").exists() && data.join("dump.rdb").exists(),
        "the private server has saved and ended"
    );
}
