//! Mixed load with random faults, while clients come and go: at the end everything is where it was. A few seconds of it
//! in every test run; `scripts/soak` makes it half an hour with 2,000 clients.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::load::{Ask, Load};
use crate::support::admin::metric;
use crate::support::process::{descriptors, status};
use crate::support::proxy::{Proxy, Spoil};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::{connect_narrow, line};
use crate::support::{setting, until};

struct Measure {
    files: usize,
    threads: u64,
    kilobytes: u64,
}

fn measure(pid: u32) -> Measure {
    Measure { files: descriptors(pid), threads: status(pid, "Threads"), kilobytes: status(pid, "VmRSS") }
}

/// One fault, and its end.
fn fault(random: &mut fastrand::Rng, redis: &mut Redis, upstream: &Proxy, door: &Proxy) -> &'static str {
    let moment = |random: &mut fastrand::Rng| std::thread::sleep(Duration::from_millis(random.u64(10..800)));
    match random.u8(0..10) {
        0 => {
            redis.kill();
            moment(random);
            redis.launch();
            "the upstream is killed"
        }
        1 => {
            redis.pause(true);
            moment(random);
            redis.pause(false);
            "the upstream stands still"
        }
        2 => {
            upstream.cut();
            "its connections are cut"
        }
        3 => {
            upstream.reset();
            "its connections are reset"
        }
        4 => {
            upstream.hold(true);
            moment(random);
            upstream.hold(false);
            "its connections are silent"
        }
        5 => {
            upstream.refuse_new(true);
            upstream.cut();
            moment(random);
            upstream.refuse_new(false);
            "it refuses connections"
        }
        6 => {
            upstream.spoil(random.choice([Spoil::Truncate, Spoil::Garbage, Spoil::Trickle]).expect("some"));
            moment(random);
            upstream.spoil(Spoil::Nothing);
            "what it says is spoilt"
        }
        7 => {
            upstream.delay(50);
            moment(random);
            upstream.delay(0);
            "it is slow"
        }
        8 => {
            door.cut();
            "all clients are cut"
        }
        _ => {
            door.reset();
            "all clients are reset"
        }
    }
}

/// A client that asks for 300 times 100 KB and reads nothing of it.
fn never_reads(port: u16) -> Option<TcpStream> {
    let mut client = connect_narrow(port);
    client.write_all(&line("GET long").repeat(300)).ok().map(|()| client)
}

#[test]
fn everything_is_where_it_was_after_a_soak() {
    let seconds = setting("HEARTHSIDE_SOAK_SECONDS", 10);
    let clients = setting("HEARTHSIDE_SOAK_CLIENTS", 60) as usize;
    let mut random = fastrand::Rng::with_seed(setting("HEARTHSIDE_SEED", 6));
    let _files = rlimit::increase_nofile_limit(20_000);
    let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let upstream = Proxy::to(redis.port);
    let builder = Sidecar::builder().set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", upstream.port));
    let builder = builder.set("UPSTREAM__COMMAND_TIMEOUT", "2s").set("UPSTREAM__CONNECT_TIMEOUT", "500ms");
    let builder = builder.set("LIMITS__CLIENT_OUTPUT", "1mb");
    let builder = builder.expect(warnings::UPSTREAM_AWAY).expect(warnings::STORE_AWAY);
    let sidecar = builder.expect(&[warnings::DOES_NOT_READ, warnings::DOES_NOT_READ_MESSAGES]).start();
    redis.wire().call(&["SET", "long", &"v".repeat(100_000)]);
    let door = Proxy::to(sidecar.port);
    let warm = Load::start(door.port, clients, &[Ask::Through, Ask::Through, Ask::Through, Ask::Owned]);
    warm.go_on(5);
    drop(warm.stop());
    until("nobody is left", || metric(&sidecar, "hearthside_clients") == 0.0);
    let before = measure(sidecar.pid());

    let (begun, mut faults) = (Instant::now(), 0);
    let mut deaf = Vec::new();
    let load = Load::start(door.port, clients, &[Ask::Through, Ask::Through, Ask::Through, Ask::Owned]);
    while begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(random.u64(500..4000)));
        let what = fault(&mut random, &mut redis, &upstream, &door);
        faults += 1;
        // Some send and never read, and some of them leave.
        deaf.extend(never_reads(sidecar.port));
        if deaf.len() > 8 {
            deaf.swap_remove(random.usize(..deaf.len()));
        }
        println!("{:>6} s: {what}", begun.elapsed().as_secs());
        load.go_on(1);
    }
    load.go_on(5);
    let held = metric(&sidecar, "hearthside_client_buffer_bytes");
    assert!(held < 64.0 * 1024.0 * 1024.0, "{held} bytes for {} clients that do not read", deaf.len());
    drop(deaf);
    let seen = load.stop();
    let answered: u64 = seen.iter().map(|seen| seen.counted).sum();
    let closed: u64 = seen.iter().map(|seen| seen.closed).sum();
    for seen in &seen {
        assert!(seen.wrong.is_empty(), "wrong replies: {:#?}", seen.wrong);
    }
    until("nobody is left", || metric(&sidecar, "hearthside_clients") == 0.0);
    assert_eq!(metric(&sidecar, "hearthside_client_buffer_bytes"), 0.0);
    assert_eq!(metric(&sidecar, "hearthside_panics_total"), 0.0);
    // Lanes of both protocols may have been opened since, and the allocator keeps what was needed at once.
    until("descriptors are back", || measure(sidecar.pid()).files <= before.files + 8);
    let after = measure(sidecar.pid());
    println!(
        "{seconds} s, {faults} faults, {clients} clients, {closed} connections ended, {answered} counted writes \
         acknowledged; \
         files {} -> {}, threads {} -> {}, memory {} -> {} KiB",
        before.files, after.files, before.threads, after.threads, before.kilobytes, after.kilobytes
    );
    assert!(after.threads <= before.threads + 2, "{} threads, {} before", after.threads, before.threads);
    assert!(
        after.kilobytes < before.kilobytes + before.kilobytes / 2 + 30_000,
        "memory {} -> {}",
        before.kilobytes,
        after.kilobytes
    );
}
