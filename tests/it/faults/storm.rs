//! Many clients at once, of whom all come back, or none reads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::load::{Ask, Load};
use crate::support::admin::metric;
use crate::support::process::status;
use crate::support::proxy::{Proxy, Spoil};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::{array, connect_narrow, line};
use crate::support::{setting, until};

/// Lets this process open so many connections; as many as it may, if those are fewer.
fn room_for(clients: u64) -> u64 {
    let files = rlimit::increase_nofile_limit(clients + 500).expect("a limit");
    clients.min(files.saturating_sub(500))
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// One short line.
fn reply(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).expect("a reply in time"), 1, "closed after {line:?}");
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).into_owned()
}

#[test]
fn the_detector_sees_replies_that_go_astray() {
    let redis = Redis::start();
    let proxy = Proxy::to(redis.port);
    let load = Load::start(proxy.port, 2, &[Ask::Through]);
    load.go_on(10);
    proxy.spoil(Spoil::Extra);
    let before = load.answered();
    until("there are more replies", || load.answered() > before + 10);
    assert!(load.stop().iter().any(|seen| !seen.wrong.is_empty()));
}

/// With `HEARTHSIDE_STORM_SECONDS=5` it also says that this takes no longer; otherwise the machine may be slow.
#[test]
fn five_thousand_clients_outlive_a_restart_of_the_upstream() {
    let clients = room_for(setting("HEARTHSIDE_STORM_CLIENTS", 5000));
    let mut redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "2").set("UPSTREAM__LANES", "2");
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let mut storm: Vec<TcpStream> = (0..clients).map(|_| connect(sidecar.port)).collect();
    let ask = |client: &mut TcpStream, i: usize| {
        let unique = format!("unique-{i}");
        client.write_all(&array(&["EVAL", "return ARGV[1]", "0", &unique])).expect("sends");
    };
    let is_served = |client: &mut TcpStream, i: usize| {
        let told = reply(client);
        if told.starts_with('-') {
            assert!(told.contains("may have been applied") || told.contains("not sent"), "client {i}: {told}");
            return false;
        }
        assert_eq!(reply(client), format!("unique-{i}\r\n"), "its own reply");
        true
    };
    storm.iter_mut().enumerate().for_each(|(i, client)| ask(client, i));
    storm.iter_mut().enumerate().for_each(|(i, client)| assert!(is_served(client, i)));
    redis.kill();
    storm.iter_mut().enumerate().for_each(|(i, client)| ask(client, i));
    let begun = Instant::now();
    redis.launch();
    for (i, client) in storm.iter_mut().enumerate() {
        while !is_served(client, i) {
            ask(client, i);
        }
    }
    let took = begun.elapsed();
    let stats = redis.wire().ask("INFO stats");
    let received = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).expect("counted");
    // 2 workers with 2 lanes each, the health check, who asks for its commands; who waited for the server, and this
    // question.
    assert!(received.trim().parse::<u64>().expect("a number") <= 8, "connects of {clients} clients: {received}");
    println!("{clients} clients were served again {took:?} after the upstream was started");
    assert!(took <= Duration::from_secs(setting("HEARTHSIDE_STORM_SECONDS", 60)), "{took:?}");
}

/// A task is as large as the largest thing its client may wait for, and is there twice if it is handed on: 22 KiB once.
#[test]
fn an_idle_client_costs_little() {
    let clients = room_for(2000);
    let sidecar = Sidecar::builder().set("SERVER__WORKERS", "1").start();
    let before = status(sidecar.pid(), "VmRSS");
    let mut idle: Vec<TcpStream> = (0..clients).map(|_| connect(sidecar.port)).collect();
    idle.iter_mut().for_each(|client| client.write_all(&line("PING")).expect("sends"));
    idle.iter_mut().for_each(|client| assert_eq!(reply(client), "+PONG\r\n"));
    let each = status(sidecar.pid(), "VmRSS").saturating_sub(before) as f64 / clients as f64;
    assert!(each < 10.0, "{each} KiB");
}

/// What many ask for that is long is not all asked of the upstream at once (hazard 18).
#[test]
fn who_asks_for_little_does_not_wait_behind_those_who_ask_for_much() {
    let redis = Redis::start();
    redis.wire().call(&["SET", "long", &"v".repeat(100_000)]);
    let builder = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1");
    let sidecar = builder.expect(&[warnings::DOES_NOT_READ, warnings::DOES_NOT_READ_MESSAGES]).start();
    let mut other = sidecar.wire();
    assert_eq!(other.ask("SET short mine"), "+OK\r\n");
    let mut deaf: Vec<TcpStream> = (0..100).map(|_| connect_narrow(sidecar.port)).collect();
    deaf.iter_mut().for_each(|client| client.write_all(&line("GET long").repeat(60)).expect("sends"));
    assert_eq!(other.ask("GET short"), "$4\r\nmine\r\n");
    let stats = redis.wire().ask("INFO commandstats");
    let calls = stats.split("cmdstat_get:calls=").nth(1).and_then(|rest| rest.split(',').next()).expect("counted");
    assert!(calls.parse::<u32>().expect("a number") < 3000, "of 6,000 requests {calls} were sent before it");
}

/// `HEARTHSIDE_READERS=1000` makes a thousand of them, which a program without optimizations needs long for.
#[test]
fn many_that_never_read_cost_bounded_memory_and_are_cut() {
    let readers = room_for(setting("HEARTHSIDE_READERS", 100)) as usize;
    let redis = Redis::start();
    redis.wire().call(&["SET", "long", &"v".repeat(100_000)]);
    let builder = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "2").set("LIMITS__BUFFERS", "64mb");
    let builder = builder.set("LIMITS__CLIENT_OUTPUT", "1mb").set("LIMITS__CLIENT_OUTPUT_TIMEOUT", "3s");
    let sidecar = builder
        .expect(warnings::UPSTREAM_AWAY)
        .expect(&[warnings::DOES_NOT_READ, warnings::DOES_NOT_READ_MESSAGES])
        .start();
    let load = Load::start(sidecar.port, 4, &[Ask::Through, Ask::Owned]);
    load.go_on(20);
    let before = status(sidecar.pid(), "VmRSS");
    let mut deaf: Vec<TcpStream> = (0..readers).map(|_| connect_narrow(sidecar.port)).collect();
    let (ask, listen) = deaf.split_at_mut(readers / 2);
    listen.iter_mut().for_each(|client| client.write_all(&line("SUBSCRIBE news")).expect("sends"));
    let mut direct = redis.wire();
    let subscribed = format!("news\r\n:{}\r\n", listen.len());
    until("all have subscribed", || direct.ask("PUBSUB NUMSUB news").ends_with(&subscribed));
    ask.iter_mut().for_each(|client| client.write_all(&line("GET long").repeat(60)).expect("sends"));
    // Again and again, past what the kernel keeps for each.
    let begun = Instant::now();
    while metric(&sidecar, "hearthside_clients_cut_total") < readers as f64 {
        for _ in 0..20 {
            direct.call(&["PUBLISH", "news", &"n".repeat(30_000)]);
        }
        assert!(begun.elapsed() < Duration::from_secs(150), "never happened: all that never read are cut");
    }
    load.go_on(20);
    let most = status(sidecar.pid(), "VmHWM").saturating_sub(before) / 1024;
    println!("{readers} clients that never read: at most {most} MiB more");
    // What is accounted for, what the sockets' other side has handed over at once, and what the allocator keeps.
    assert!(most < 400, "{most} MiB");
    for seen in load.stop() {
        assert!(seen.wrong.is_empty() && seen.closed == 0 && seen.errors.is_empty(), "{seen:?}");
    }
}
