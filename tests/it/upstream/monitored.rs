//! MONITOR shows what the sidecar answers itself as Redis would show it, beside what the upstream shows; behind a
//! cluster it shows what the sidecar's clients ask of any node.

use crate::support::admin::metric;
use crate::support::clusters::Cluster;
use crate::support::postgres::Postgres;
use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::{Sidecar, demo};
use crate::support::wire::{Wire, array, line};
use crate::support::{until, warnings};

/// A monitor of either.
fn monitor(mut wire: Wire) -> Wire {
    assert_eq!(wire.ask("MONITOR"), "+OK\r\n");
    wire
}

/// What a monitor is shown up to a command that holds `last`: what stands in brackets, and the command.
fn shown(monitor: &mut Wire, last: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    loop {
        let frame = String::from_utf8_lossy(&monitor.frame()).into_owned();
        let (time, rest) = frame.trim_end().split_once(" [").expect("a line");
        let (whole, part) = time.strip_prefix('+').and_then(|time| time.split_once('.')).expect("a time");
        assert!(whole.len() == 10 && part.len() == 6 && format!("{whole}{part}").parse::<u64>().is_ok(), "{frame}");
        let (whose, command) = rest.split_once("] ").expect("a command");
        if command.contains(last) {
            return lines;
        }
        lines.push((whose.to_owned(), command.to_owned()));
    }
}

fn commands(lines: Vec<(String, String)>) -> Vec<String> {
    lines.into_iter().map(|(_, command)| command).collect()
}

/// Answered by the sidecar alone, so that the order is the client's.
const OURS: &[&str] = &[
    "HGET player:1:session hp",
    "hget player:1:session worker_id",
    "HGETALL player:1:session",
    "EXISTS player:1:session player:2:session",
    "HSET player:1:session hp 55",
    "LPUSH player:1:session a",
    "HGET player:1:session",
    "HGET item:apple:def name",
    "PING",
    "ECHO hello",
    "AUTH a-secret",
    "AUTH somebody a-secret",
    "HELLO 2 AUTH somebody a-secret SETNAME AUTH",
    "HELLO 9",
    "CLIENT SETNAME me",
    "CLIENT ID",
    "CLIENT LIST",
    "CLIENT NOPE",
    "MULTI",
    "HGET player:1:session hp",
    "PING",
    "EXEC",
    "MULTI",
    "HGET player:1:session hp",
    "HGET player:1:session",
    "EXEC",
    "MULTI",
    "HGET player:1:session hp",
    "DISCARD",
    "EXEC",
    "WATCH player:1:session",
    "UNWATCH",
];

#[test]
fn what_is_answered_here_is_shown_as_redis_shows_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).expect(&[warnings::LOGIN_REFUSED]).start();
    let (mut ours, mut admin) = (monitor(sidecar.wire()), sidecar.wire());
    for server in SERVERS {
        let twin = Redis::of(server, &[]);
        let mut theirs = monitor(twin.wire());
        let (mut through, mut direct) = (sidecar.wire(), twin.wire());
        for command in OURS {
            through.ask(command);
            direct.ask(command);
        }
        for wire in [&mut through, &mut direct] {
            wire.send(b"ping \"in line\"\r\n");
            wire.frame();
            wire.call(&[&b"PING"[..], b"a\r\n\t\x07\x08\x00\xff\"\\ \x7f~"]);
            wire.ask("PING the-last");
        }
        let [ours, theirs] = [&mut ours, &mut theirs].map(|monitor| shown(monitor, "the-last"));
        let list = admin.ask("CLIENT LIST");
        let address = list.lines().find_map(|line| Some(line.split_once(" name=me ")?.0.split_once(" addr=")?.1));
        let address = format!("0 {}", address.and_then(|rest| rest.split(' ').next()).expect("it is connected"));
        assert!(ours.iter().all(|(whose, _)| *whose == address), "{server:?}: {address}: {ours:?}");
        let (ours, theirs) = (commands(ours), commands(theirs));
        assert_eq!(ours, theirs, "{server:?}");
        assert!(ours.len() > 25 && !ours.iter().any(|command| command.contains("secret")), "{ours:?}");
    }
}

#[test]
fn it_stands_among_what_the_upstream_shows() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    let mut one = monitor(sidecar.wire());
    let mut two = monitor(sidecar.wire());
    // What is passed on is shown by the upstream, on its way from there: so each of these is waited for.
    for (asked, lines) in [
        ("SET other 1", &["\"SET\" \"other\" \"1\""][..]),
        ("HGET player:1:session hp", &["\"HGET\" \"player:1:session\" \"hp\""]),
        (
            "EVAL return(redis.call('get',KEYS[1])) 1 other",
            &["\"EVAL\" \"return(redis.call('get',KEYS[1]))\" \"1\" \"other\"", "\"get\" \"other\""],
        ),
        ("HEARTHSIDE STATUS", &[]),
        ("CONFIG GET save", &[]),
        ("PING", &["\"PING\""]),
    ] {
        wire.ask(asked);
        for expected in lines {
            for monitor in [&mut one, &mut two] {
                let frame = String::from_utf8_lossy(&monitor.frame()).into_owned();
                assert!(frame.trim_end().ends_with(&format!("] {expected}")), "{asked}: {frame}");
                assert_eq!(frame.contains("[0 lua]"), expected.starts_with("\"get\""), "{frame}");
            }
        }
    }
    // A transaction over both: the upstream shows its part, and we ours.
    ["MULTI", "SET other 2", "HGET player:1:session hp"].iter().for_each(|command| drop(wire.ask(command)));
    wire.ask("EXEC");
    let expected = ["\"EXEC\"", "\"HGET\" \"player:1:session\" \"hp\"", "\"MULTI\"", "\"SET\" \"other\" \"2\""];
    for monitor in [&mut one, &mut two] {
        let frames = (0..4).map(|_| String::from_utf8_lossy(&monitor.frame()).into_owned());
        let mut told: Vec<_> =
            frames.filter_map(|frame| Some(frame.trim_end().split_once("] ")?.1.to_owned())).collect();
        told.sort();
        assert_eq!(told, expected);
    }
    // One that stops monitoring is a client as before, and the other goes on.
    assert_eq!(one.ask("RESET"), "+RESET\r\n");
    wire.ask("HGET player:1:session hp");
    assert!(one.ask("HGET player:1:session worker_id").starts_with('$'));
    let told = commands(shown(&mut two, "worker_id"));
    // The upstream shows RESET when its way there is over.
    assert!(told.iter().all(|command| command.contains("hp") || command == "\"RESET\""), "{told:?}");
    drop(two);
    until("nobody monitors", || !sidecar.wire().ask("CLIENT LIST").contains(" flags=O "));
}

#[test]
fn a_monitor_that_does_not_read_is_closed_and_holds_up_nobody() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).set("PUBSUB__SUBSCRIBER_OUTPUT", "1mb");
    let sidecar = builder.expect(&[warnings::DOES_NOT_READ_MESSAGES]).start();
    let mut wire = sidecar.wire();
    let (slow, mut quick) = (monitor(sidecar.wire()), monitor(sidecar.wire()));
    let long = "x".repeat(100_000);
    let cut = || metric(&sidecar, "hearthside_limits_reached_total{limit=\"subscriber_output\"}");
    let mut asked = 0;
    while cut() == 0.0 {
        assert_eq!(wire.ask(&format!("HGET player:1:session {long}")), "$-1\r\n");
        assert!(String::from_utf8_lossy(&quick.frame()).contains(&long));
        asked += 1;
        assert!(asked < 1000, "it holds 100 MB");
    }
    drop(slow);
    wire.ask("PING");
    assert!(String::from_utf8_lossy(&quick.frame()).ends_with("] \"PING\"\r\n"));
}

#[test]
fn only_those_who_may_monitor_are_shown_anything() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    redis.wire().ask("ACL SETUSER plain on >pw ~* &* +@all -@admin");
    let sidecar = demo(&redis, &postgres).set("AUTH__MODE", "upstream").start();
    let (mut wire, mut plain) = (sidecar.wire(), sidecar.wire());
    assert_eq!(plain.ask("AUTH plain pw"), "+OK\r\n");
    assert!(plain.ask("MONITOR").starts_with("-NOPERM"));
    let mut may = monitor(sidecar.wire());
    wire.ask("HGET player:1:session hp");
    assert!(String::from_utf8_lossy(&may.frame()).contains("\"HGET\""));
    assert_eq!(plain.ask("PING"), "+PONG\r\n");
}

#[test]
fn behind_a_cluster_it_is_what_clients_ask_of_all_nodes() {
    let (cluster, postgres) = (Cluster::start(), Postgres::start());
    let builder = crate::support::sidecar::demo_of(Sidecar::builder().set("UPSTREAM__URL", cluster.url()), &postgres);
    let sidecar = builder.expect(&[warnings::LOGIN_REFUSED]).start();
    let (mut wire, mut watcher) = (sidecar.wire(), monitor(sidecar.wire()));
    let asked = [
        "SET a 1",
        "SET b 2",
        "SET c 3",
        "MGET a b c",
        "HGET player:1:session hp",
        "AUTH a-secret",
        "BLPOP q 0.01",
        "GET",
        "DBSIZE",
    ];
    asked.iter().for_each(|command| drop(wire.ask(command)));
    let mut pipelined = Vec::new();
    for command in ["GET a", "MULTI", "SET {x}a 1", "SET {x}b 2", "EXEC", "HGET player:1:session hp"] {
        pipelined.extend(line(command));
    }
    wire.send(&pipelined);
    (0..6).for_each(|_| drop(wire.frame()));
    for command in ["MULTI", "SET {x}a 3", "HGET player:1:session hp", "EXEC"] {
        wire.ask(command);
    }
    wire.send(&array(&["PING", "the-last"]));
    wire.frame();
    let told = commands(shown(&mut watcher, "the-last"));
    let quoted = |text: &str| text.split(' ').map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" ");
    let expected = asked.iter().filter(|command| **command != "GET").map(|command| match *command {
        "AUTH a-secret" => quoted("AUTH (redacted)"),
        command => quoted(command),
    });
    let behind = ["GET a", "MULTI", "SET {x}a 1", "SET {x}b 2", "EXEC", "HGET player:1:session hp", "MULTI"];
    let behind = behind.into_iter().chain(["SET {x}a 3", "HGET player:1:session hp", "EXEC"]).map(quoted);
    assert_eq!(told, expected.chain(behind).collect::<Vec<_>>());
    assert_eq!(watcher.ask_monitoring("PING"), "+PONG\r\n");
}
