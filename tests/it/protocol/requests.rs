//! What a client may send, and how its connection ends, held against a real Redis.

use std::time::Duration;

use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::{Wire, array, line};

#[test]
fn framing_faults_answer_and_close_as_redis_does() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut bystander = sidecar.wire();
    let long = "a".repeat(70_000);
    let cases: Vec<Vec<u8>> = vec![
        b"*x\r\n".to_vec(),
        b"*2147483648\r\n".to_vec(),
        b"*1\r\n+PING\r\n".to_vec(),
        b"*1\r\n$x\r\n".to_vec(),
        b"*1\r\n$-1\r\n".to_vec(),
        b"*1\r\n$536870913\r\n".to_vec(),
        b"*01\r\n$4\r\nPING\r\n".to_vec(),
        b"set a \"b\r\n".to_vec(),
        b"set a 'b'c\r\n".to_vec(),
        long.clone().into_bytes(),
        format!("*{long}").into_bytes(),
        format!("*1\r\n${long}").into_bytes(),
        [line("PING"), b"*1\r\n?".to_vec(), b"\r\n".to_vec(), line("PING")].concat(),
    ];
    for case in cases {
        let (mut direct, mut through) = (redis.wire(), sidecar.wire());
        direct.send(&case);
        through.send(&case);
        let shown = String::from_utf8_lossy(&case[..case.len().min(40)]).into_owned();
        // The setting stands behind Redis's words.
        let ours = String::from_utf8_lossy(&through.rest())
            .replace(": more than 536870912 bytes (limits.request_argument)", "");
        assert_eq!(ours, String::from_utf8_lossy(&direct.rest()), "{shown:?}");
    }
    assert_eq!(bystander.ask("PING"), "+PONG\r\n", "only the faulty clients were closed");
    let log = sidecar.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("sent what is no request")).collect();
    assert!(said[0].contains("invalid multibulk length") && said[0].contains("address=\"127.0.0.1:"), "{said:?}");
    assert!(said.len() < 5, "once in a while: {said:?}");
}

#[test]
fn odd_but_legal_requests_are_answered_as_redis_does() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).expect(&[warnings::LOGIN_REFUSED]).start();
    let (mut direct, mut through) = (redis.wire(), sidecar.wire());
    let cases: Vec<Vec<u8>> = vec![
        b"\r\n\r\nPING\r\n".to_vec(),
        b"*0\r\n*-1\r\nECHO 'a b'\r\n".to_vec(),
        b"set k \"a\\x00\\r\\nb\"\r\nget k\r\n".to_vec(),
        array(&[&b"SET"[..], b"bin\0ary\r\n", &[0, 255, 13, 10]]),
        array(&[&b"GET"[..], b"bin\0ary\r\n"]),
        b"*2\r\n$3\r\nGET\r\n$1\r\nkXX".to_vec(),
        array(&[""]),
        line("NOSUCHCOMMAND a b c"),
        line("GET"),
        line("SELECT abc"),
        line("SELECT 99"),
        line("SELECT -1"),
        line("ECHO"),
        line("PING a b"),
        line("HELLO 4"),
        line("HELLO x"),
        line("HELLO 3 NOPE"),
        line("HELLO 3 SETNAME a"),
        line("CLIENT GETNAME"),
        line("CLIENT NOSUCH"),
        line("CLIENT ID x"),
        line("CLIENT SETNAME b"),
        line("CLIENT GETNAME"),
        line("GET nosuch"),
        line("HGETALL nosuch"),
        line("AUTH secret"),
        line("AUTH default any"),
        line("AUTH someone any"),
        line("COMMAND COUNT"),
        line("COMMAND INFO get hello"),
        line("RESET"),
        line("CLIENT GETNAME"),
        line("GET nosuch"),
    ];
    for case in cases {
        direct.send(&case);
        through.send(&case);
        let shown = String::from_utf8_lossy(&case).into_owned();
        let replies = case.windows(4).filter(|w| w == b"get ").count() + 1;
        if shown.contains("HELLO") && shown.contains("SETNAME") {
            // HELLO tells ids and addresses that differ.
            assert_eq!(direct.frame().first(), through.frame().first(), "{shown:?}");
            continue;
        }
        for _ in 0..replies {
            assert_eq!(
                String::from_utf8_lossy(&through.frame()),
                String::from_utf8_lossy(&direct.frame()),
                "{shown:?}"
            );
        }
    }
}

#[test]
fn every_way_of_cutting_a_request_gives_the_same_reply() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    let bytes =
        [line("SET cut me"), line("HGET item:iron_sword:def name"), b"PING\r\n".to_vec(), line("GET cut")].concat();
    for at in 1..bytes.len() {
        wire.send(&bytes[..at]);
        wire.send(&bytes[at..]);
        let replies: Vec<_> = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
        assert_eq!(replies, ["+OK\r\n", "$10\r\nIron Sword\r\n", "+PONG\r\n", "$2\r\nme\r\n"], "cut at {at}");
    }
}

#[test]
fn databases_are_kept_apart() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let (mut first, mut second) = (sidecar.wire(), sidecar.wire());
    assert_eq!(first.ask("SELECT 3"), "+OK\r\n");
    assert_eq!(first.ask("SET where three"), "+OK\r\n");
    assert_eq!(second.ask("GET where"), "$-1\r\n");
    let mut direct = redis.wire();
    direct.ask("SELECT 3");
    assert_eq!(direct.ask("GET where"), "$5\r\nthree\r\n");
    assert_eq!(first.ask("SELECT 99"), "-ERR DB index is out of range\r\n");
    assert_eq!(first.ask("GET where"), "$5\r\nthree\r\n", "a refused SELECT changes nothing");
}

#[test]
fn unix_sockets_on_both_sides() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hearthside.sock").display().to_string();
    // A file that a killed sidecar left behind.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    let listen = format!("127.0.0.1:0,unix://{path}");
    let upstream = format!("unix://{}", redis.socket());
    let sidecar = Sidecar::builder().set("SERVER__LISTEN", listen).set("UPSTREAM__URL", upstream).start();
    let mut unix = Wire::unix(&path);
    assert_eq!(unix.ask("SET a 1"), "+OK\r\n");
    assert_eq!(sidecar.wire().ask("GET a"), "$1\r\n1\r\n");
    assert_eq!(unix.ask("HGET item:iron_sword:def tier"), "$1\r\n2\r\n");
}

#[test]
fn a_half_closed_client_gets_its_replies() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    wire.send(&[line("SET a 1"), line("GET a"), line("HGET player:1:session hp")].concat());
    wire.finish_sending();
    assert_eq!(String::from_utf8_lossy(&wire.rest()), "+OK\r\n$1\r\n1\r\n$2\r\n99\r\n");
}

#[test]
fn quit_answers_and_closes() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    wire.send(&[line("SET a 1"), line("QUIT"), line("SET a 2")].concat());
    assert_eq!(String::from_utf8_lossy(&wire.rest()), "+OK\r\n+OK\r\n");
    assert_eq!(redis.wire().ask("GET a"), "$1\r\n1\r\n");
}

#[test]
fn large_values_pass_whole() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    let value: Vec<u8> = (0..32 << 20).map(|i: u32| (i % 251) as u8).collect();
    assert_eq!(wire.call(&[&b"SET"[..], b"large", &value]), b"+OK\r\n");
    wire.send(&[line("GET large"), line("GET large"), line("STRLEN large")].concat());
    assert_eq!(other.ask("PING"), "+PONG\r\n");
    for _ in 0..2 {
        let reply = wire.frame();
        assert!(reply.ends_with(b"\r\n") && reply[reply.len() - value.len() - 2..reply.len() - 2] == value[..]);
    }
    assert_eq!(wire.frame(), format!(":{}\r\n", value.len()).into_bytes());
}

#[test]
fn a_client_that_writes_everything_before_it_reads_is_served() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    wire.ask(&format!("SET k {}", "v".repeat(1000)));
    // 20 MB of replies, more than the sockets hold.
    for _ in 0..20 {
        wire.send(&line("GET k").repeat(1000));
    }
    for _ in 0..20_000 {
        assert_eq!(wire.frame().len(), 1009);
    }
}

#[test]
fn a_client_that_never_reads_is_cut_and_the_others_go_on() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .set("LIMITS__CLIENT_OUTPUT", "1mb")
        .set("LIMITS__CLIENT_OUTPUT_TIMEOUT", "300ms")
        .expect(&[warnings::DOES_NOT_READ])
        .start();
    let (mut idle, mut other) = (sidecar.wire(), sidecar.wire());
    other.ask(&format!("SET k {}", "v".repeat(100_000)));
    idle.send(&line("GET k").repeat(2000));
    crate::support::until("it is cut", || sidecar.log().contains("did not read what waits for it"));
    assert_eq!(other.ask("PING"), "+PONG\r\n");
    assert!(other.is_silent(Duration::from_millis(5)));
}

#[test]
fn nothing_overtakes_what_was_sent_before_the_protocol_changed() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    let mut value = vec![b'x'; 900_000];
    for round in 0..30 {
        value.truncate(900_000);
        value.extend(format!("{round:04}").bytes());
        let hello = ["HELLO 3", "HELLO 2", "RESET"][round % 3];
        wire.send(&[array(&[&b"SET"[..], b"k", &value]), line(hello), line("GETRANGE k -4 -1")].concat());
        assert_eq!(wire.frame(), b"+OK\r\n");
        wire.frame();
        assert_eq!(String::from_utf8_lossy(&wire.frame()), format!("$4\r\n{round:04}\r\n"), "{hello}");
    }
}

#[test]
fn attributes_and_pushes_pass_on_a_shared_lane() {
    let arguments = ["--enable-debug-command", "yes"];
    let (redis, twin) = (Redis::with(&arguments), Redis::with(&arguments));
    let sidecar = Sidecar::builder().redis(&redis).set("SECURITY__DENY", "").start();
    let (mut through, mut direct) = (sidecar.wire(), twin.wire());
    for wire in [&mut through, &mut direct] {
        wire.ask("HELLO 3");
        wire.send(&[line("PING"), line("DEBUG PROTOCOL PUSH"), line("DEBUG PROTOCOL ATTRIB"), line("PING")].concat());
    }
    for _ in 0..5 {
        assert_eq!(String::from_utf8_lossy(&through.frame()), String::from_utf8_lossy(&direct.frame()));
    }
    through.ask("MULTI");
    assert!(through.ask("DEBUG PROTOCOL PUSH").contains("not supported inside MULTI"));
    assert!(through.ask("EXEC").starts_with("-EXECABORT"));
}

#[test]
fn redis_cli_loads_a_file_of_commands() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let folder = tempfile::tempdir().expect("a folder");
    let (file, count) = (folder.path().join("commands"), 20_000);
    let inline: String = (0..count).map(|i| format!("SET \"key {i}\" 'value {i}'\r\n")).collect();
    std::fs::write(&file, inline).expect("writes");
    let output = std::process::Command::new("redis-cli")
        .args(["-p", &sidecar.port.to_string(), "--pipe"])
        .stdin(std::fs::File::open(&file).expect("opens"))
        .output()
        .expect("redis-cli runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(&format!("errors: 0, replies: {count}")), "{told}");
    assert_eq!(sidecar.wire().ask("DBSIZE"), format!(":{count}\r\n"));
    assert_eq!(sidecar.wire().call(&["GET", "key 77"]), b"$8\r\nvalue 77\r\n");
}
