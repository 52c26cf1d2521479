//! Memory for clients: bounded by the limits that are set, wherever the bytes lie, and what is told is what the process
//! holds.
//!
//! What a client may cost is measured as the kernel has it (`VmHWM`): that is what ends a process that takes too much.
//! What is told is compared with the allocator's own count of the bytes that are in use, which the kernel does not
//! know: an allocator keeps pages for what comes next. So that comparison has a sidecar in this process, whose
//! allocator counts (`main.rs`).

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;

use hearthside::app::{self, Passed, Reading};
use hearthside::config::load;

use crate::ALLOCATOR;
use crate::support::admin::{metric, metric_at};
use crate::support::process::status;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;
use crate::support::wire::{Wire, array, connect_narrow, line};
use crate::support::{free_port, until};

pub const MEGABYTE: usize = 1 << 20;

fn held(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_client_buffer_bytes")
}

pub fn cut(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_clients_cut_total")
}

/// MiB of the process at most since `before`.
pub fn most(sidecar: &Sidecar, before: u64) -> u64 {
    status(sidecar.pid(), "VmHWM").saturating_sub(before) / 1024
}

/// Other clients have read short values over every lane, and the threads have what they need.
pub fn warm(sidecar: &Sidecar) -> u64 {
    let mut others: Vec<_> = (0..8).map(|_| sidecar.wire()).collect();
    for other in &mut others {
        other.send(&line("SET short mine").repeat(1000));
        (0..1000).for_each(|_| assert_eq!(other.frame(), b"+OK\r\n"));
    }
    status(sidecar.pid(), "VmRSS")
}

/// Nothing more comes for anybody: a client was cut, or what is held has been the same for many looks.
pub fn wait_for_the_end(sidecar: &Sidecar, at_least: usize) {
    let (mut last, mut looks) = (0.0, 0);
    until("no more comes, or the client is cut", || {
        let now = held(sidecar);
        looks = if now == last && now >= at_least as f64 { looks + 1 } else { 0 };
        last = now;
        looks == 100 || cut(sidecar) > 0.0
    });
}

pub fn limited(redis: &Redis) -> Builder {
    // An upstream that writes hundreds of megabytes may be late with everything else.
    let expected = [warnings::DOES_NOT_READ, warnings::UPSTREAM_SILENT, warnings::NO_ROOM];
    let builder = Sidecar::builder().redis(redis).set("LIMITS__BUFFERS", "100mb").expect(&expected);
    builder.set("LIMITS__CLIENT_OUTPUT", "8mb").set("SERVER__WORKERS", "2")
}

/// 3,000 long values for 110 KB of requests, by clients that never read, whatever the lanes know of them.
#[test]
fn who_never_reads_costs_little_more_than_its_limit() {
    let redis = Redis::start();
    redis.wire().call(&["SET", "mb", &"v".repeat(MEGABYTE)]);
    let long = line("GET mb");
    // What is read at once ends with the 21st request, and the rest are a run of their own.
    let filler = "k".repeat(16 * 1024 - 20 * long.len() - 27);
    let known_to_be_long = [long.repeat(20), array(&["GET", &filler]), long.repeat(3000)].concat();
    for requests in [long.repeat(3000), known_to_be_long] {
        let sidecar = limited(&redis).start();
        let before = warm(&sidecar);
        let mut deaf = connect_narrow(sidecar.port);
        deaf.write_all(&requests).expect("sends");
        wait_for_the_end(&sidecar, 8 * MEGABYTE);
        let most = most(&sidecar, before);
        assert!(most < 8 + 64, "{most} MiB");
        assert_eq!(cut(&sidecar), 0.0, "it is not past any limit");
        until("others are served", || sidecar.wire().ask("GET short") == "$4\r\nmine\r\n");
        drop(deaf);
        until("nothing is held", || held(&sidecar) == 0.0);
    }
}

/// As many as may be under way for one whose replies were short are long: it is cut as soon as all together hold too
/// much.
#[test]
fn who_asks_for_long_replies_after_short_ones_is_cut_in_time() {
    let redis = Redis::start();
    redis.wire().call(&["SET", "mb", &"v".repeat(MEGABYTE)]);
    let sidecar = limited(&redis).start();
    let before = warm(&sidecar);
    let mut deaf = sidecar.wire();
    for _ in 0..6 {
        deaf.send(&line("GET short").repeat(8000));
        (0..8000).for_each(|_| assert_eq!(deaf.frame(), b"$4\r\nmine\r\n"));
    }
    deaf.send(&line("GET mb").repeat(3000));
    wait_for_the_end(&sidecar, 8 * MEGABYTE);
    let most = most(&sidecar, before);
    assert!(most < 100 + 64, "{most} MiB");
    until("others are served", || sidecar.wire().ask("GET short") == "$4\r\nmine\r\n");
}

/// What is answered from memory needs nobody to be asked, and must stop all the same.
#[test]
fn who_reads_nothing_of_what_is_in_memory_costs_little_more_than_its_limit() {
    let redis = Redis::start();
    let config = "[[definitions]]\nkey = \"big:{id}\"\ntype = \"hash\"\n\
                  query = \"SELECT 'one' AS id, hex(zeroblob(524288)) AS text\"\n";
    let sidecar = limited(&redis).config(config).start();
    let before = warm(&sidecar);
    let mut deaf = connect_narrow(sidecar.port);
    deaf.write_all(&line("HGET big:one text").repeat(3000)).expect("sends");
    wait_for_the_end(&sidecar, 8 * MEGABYTE);
    let most = most(&sidecar, before);
    assert!(most < 8 + 64, "{most} MiB");
    assert_eq!(cut(&sidecar), 0.0);
    until("others are served", || sidecar.wire().ask("GET short") == "$4\r\nmine\r\n");
}

/// A sidecar of this process, at this port, with an admin port behind it.
fn start_here(redis: &Redis, folder: &Path, port: u16, admin: u16) {
    let at = |name: &str| folder.join(name).display().to_string();
    let variables = [
        ("SERVER__LISTEN", format!("127.0.0.1:{port}")),
        ("ADMIN__LISTEN", format!("127.0.0.1:{admin}")),
        ("UPSTREAM__URL", redis.url()),
        ("STORE__URL", format!("sqlite://{}", at("store.db"))),
        ("JOURNAL__PATH", at("journal.db")),
        ("SERVER__WORKERS", "2".to_owned()),
        ("LIMITS__CLIENT_OUTPUT", "4mb".to_owned()),
        ("LIMITS__CLIENT_OUTPUT_TIMEOUT", "10m".to_owned()),
        ("LIMITS__BUFFERS", "2gb".to_owned()),
    ];
    let made = Sidecar::builder().set("STORE__URL", variables[3].1.clone()).execute(&["migrate", "--demo"]);
    assert!(made.status.success());
    let variables = variables.map(|(name, value)| (format!("HEARTHSIDE__{name}"), value));
    let read = move || load(None, variables.clone().into_iter().map(|(name, value)| (name.into(), value.into())));
    std::thread::spawn(move || {
        let mut loaded = read();
        let reading = Reading::of(&mut loaded);
        assert!(loaded.faults.is_empty(), "{}", loaded.faults);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        // It runs until the test's process ends.
        runtime.expect("a runtime").block_on(app::run(reading, read, Passed::default())).expect("runs");
    });
    until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
}

/// Clients of every kind hold what they do not read, or have not finished, while others read what lies between it.
#[test]
fn what_is_told_is_what_the_allocator_has_given() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    for (key, length) in [("long", 100_000), ("middle", 5000), ("little", 500)] {
        direct.call(&["SET", key, &"v".repeat(length)]);
    }
    let (folder, port, admin) = (tempfile::tempdir().expect("a folder"), free_port(), free_port());
    start_here(&redis, folder.path(), port, admin);
    let held = || metric_at(admin, "hearthside_client_buffer_bytes");
    let mut reads: Vec<Wire> = (0..8).map(|_| Wire::tcp(port)).collect();
    let mut read = |times: usize| {
        for wire in &mut reads {
            wire.send(&line("GET little").repeat(times));
            (0..times).for_each(|_| assert_eq!(wire.frame().len(), 508));
        }
    };
    read(1000);
    held();
    let kinds: [(&str, Vec<u8>); 4] = [
        ("long replies", line("GET long").repeat(200)),
        ("middling replies", line("GET middle").repeat(3000)),
        ("short replies", line("GET little").repeat(20_000)),
        ("unfinished requests", [b"*2\r\n$4\r\nECHO\r\n$1000000\r\n".to_vec(), vec![b'x'; 900_000]].concat()),
    ];
    for (kind, requests) in kinds {
        let (before, before_in_use) = (held(), ALLOCATOR.allocated());
        let deaf: Vec<TcpStream> = (0..16)
            .map(|_| {
                let mut client = connect_narrow(port);
                client.write_all(&requests).expect("sends");
                client
            })
            .collect();
        read(200);
        let (mut last, mut looks) = (0.0, 0);
        until("no more comes", || {
            let now = held();
            looks = if now == last && now > before { looks + 1 } else { 0 };
            last = now;
            looks == 100
        });
        let (told, in_use) = (last - before, (ALLOCATOR.allocated() - before_in_use) as f64);
        assert!((told - in_use).abs() < in_use / 10.0, "{kind}: {told} bytes told, {in_use} in use");
        drop(deaf);
        until("they are gone", || held() == before);
    }
}
