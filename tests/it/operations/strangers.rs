//! What those ask of the admin port who may not: it costs little, and fills no log.

use std::io::ErrorKind::WouldBlock;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use crate::support::admin::{metric, request, request_with};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, demo};
use crate::support::{until, warnings};

/// The lines of administration in the audit log.
fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .filter(|line| line["event"] == "admin" && line["command"].as_str().is_some_and(|it| it.contains('/')))
        .collect()
}

fn audited(redis: &Redis, postgres: &Postgres, folder: &Path) -> Builder {
    std::fs::write(folder.join("token"), "secret").expect("written");
    let file = |name: &str| folder.join(name).display().to_string();
    let builder = demo(redis, postgres).set("AUDIT__FILE", file("audit.log"));
    builder.set("ADMIN__TOKEN_FILE", file("token")).expect(&[warnings::ADMIN_REFUSED])
}

#[test]
fn who_shows_no_token_fills_no_audit_log() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let folder = tempfile::tempdir().expect("a folder");
    let (sidecar, file) = (audited(&redis, &postgres, folder.path()).start_guarded(), folder.path().join("audit.log"));
    let (long, method) = ("x".repeat(5000), "M".repeat(3000));
    for _ in 0..20 {
        assert_eq!(request(&sidecar, "POST", &format!("/{long}")).0, 404);
        assert_eq!(request(&sidecar, "POST", &format!("/invalidate?key={long}")).0, 401);
        assert_eq!(request(&sidecar, &method, "/api/forget").0, 401);
        assert_eq!(request_with(&sidecar, "POST", "/reload", "Origin: http://other.example\r\n").0, 403);
    }
    let right = "Authorization: Bearer secret\r\n";
    assert_eq!(request_with(&sidecar, &method, &format!("/invalidate?key={long}"), right).0, 405);
    assert_eq!(request_with(&sidecar, "POST", "/invalidate?key=player:*", right).0, 200);
    until("the act has its line", || lines(&file).iter().any(|line| line["outcome"] == "ok"));
    let seen = lines(&file);
    assert_eq!(seen.len(), 3, "the first of those who may not, and the two of those who may: {seen:#?}");
    assert_eq!((&seen[0]["error"], &seen[0]["command"]), (&"401".into(), &"POST /invalidate".into()));
    assert_eq!(seen[1]["command"], format!("{} /invalidate", "M".repeat(64)));
    assert!(std::fs::read(&file).expect("read").len() < 8000);
}

#[test]
fn connections_that_ask_for_nothing_are_closed_for_those_that_ask() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).set("STORE__QUERY_TIMEOUT", "60s").start();
    let port = sidecar.logged_port("admin port").expect("an admin port");
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE;");
    // One that is being answered stays.
    let mut asked = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    write!(asked, "GET /api/key?key=player:1:session&plan HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sends");
    until("it waits for the table", || postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0");
    let open = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        write!(stream, "POST /reload HTTP/1.1\r\nHost: x\r\n").expect("sends");
        stream.set_nonblocking(true).expect("a socket");
        stream
    };
    let crowd: Vec<TcpStream> = (0..300).map(|_| open()).collect();
    assert_eq!(request(&sidecar, "GET", "/livez"), (200, "ok\n".to_owned()));
    let stay = || crowd.iter().filter(|stream| stream.peek(&mut [0]).is_err_and(|error| error.kind() == WouldBlock));
    until("the others are closed", || stay().count() < 64);
    assert!(metric(&sidecar, "hearthside_admin_refused_total{reason=\"connections\"}") >= 230.0);
    session.run("COMMIT;");
    let mut answer = String::new();
    asked.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("player:1:session"), "{answer}");
}
