//! Commands that an operator holds back are seen wherever one looks, and not for ever.

use serde_json::Value;

use super::at_night::said;
use super::looks::facts;
use crate::support::admin::{request, request_with};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::demo;
use crate::support::{until, warnings};

#[test]
fn a_pause_is_told_wherever_one_looks() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).expect(&[warnings::HELD_BACK]).start();
    let mut wire = sidecar.wire();
    let upstream = || facts(&sidecar, "/api/status")["upstream"].clone();
    until("the upstream is up", || upstream()["state"] == "up");
    assert_eq!(upstream()["paused_until"], Value::Null);
    assert_eq!(wire.ask("HEARTHSIDE PAUSE 3600000"), "+OK\r\n");
    let paused = upstream();
    assert_eq!(paused["state"], "paused", "{paused}");
    assert!(paused["why"].as_str().is_some_and(|why| why.contains("HEARTHSIDE RESUME")), "{paused}");
    assert!(paused["since"].as_str() < paused["paused_until"].as_str(), "{paused}");
    assert!(wire.ask("HEARTHSIDE STATUS").contains("$6\r\npaused\r\n"));
    let (status, ready) = request(&sidecar, "GET", "/readyz");
    assert!(status == 200 && ready.contains("held back") && ready.contains("HEARTHSIDE PAUSE"), "{ready}");
    assert!(said(&sidecar, &["status"]).contains("state: paused"));
    assert_eq!(wire.ask("HEARTHSIDE RESUME"), "+OK\r\n");
    assert_eq!((&upstream()["state"], &upstream()["paused_until"]), (&"up".into(), &Value::Null));
    assert_eq!(wire.ask("HEARTHSIDE PAUSE 20"), "+OK\r\n");
    until("it ends by itself", || upstream()["state"] == "up");
}

#[test]
fn a_pause_is_an_hour_at_most() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("token"), "secret").expect("written");
    let token = folder.path().join("token").display().to_string();
    let sidecar = demo(&redis, &postgres).set("ADMIN__TOKEN_FILE", token).start_guarded();
    for most in ["3600001", "9223372036854775807", "18446744073709551615", "0"] {
        let answer = sidecar.wire().ask(&format!("HEARTHSIDE PAUSE {most}"));
        assert!(answer.starts_with("-ERR timeout"), "{most}: {answer}");
        let right = "Authorization: Bearer secret\r\n";
        let path = format!("/api/pause?ms={most}");
        let (status, text) = request_with(&sidecar, "POST", &path, right);
        assert!(status == 400 && text.contains("3600000"), "{most}: {status} {text}");
    }
    assert_eq!(sidecar.wire().ask("SET a 1"), "+OK\r\n", "nothing is held back");
}
