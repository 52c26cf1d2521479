//! What a transaction may cost, and what may not be in it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::support::admin::metric;
use crate::support::process::status;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::line;

/// The most memory a process has had, in MiB.
fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM") / 1024
}

/// Nothing is kept for a command that passes, and a client that does not read is not read from.
#[test]
fn a_million_queued_commands_of_a_client_that_does_not_read() {
    const COUNT: usize = 1_000_000;
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").set("LIMITS__PIPELINE", "1mb").start();
    let before = peak(sidecar.pid());
    let mut receiver = TcpStream::connect(("127.0.0.1", sidecar.port)).expect("connects");
    let (mut sender, sent) = (receiver.try_clone().expect("a socket"), Arc::new(AtomicUsize::new(0)));
    let progress = sent.clone();
    let sending = std::thread::spawn(move || {
        sender.write_all(&[line("WATCH k"), line("MULTI")].concat()).expect("sends");
        let chunk = line("INCR many").repeat(10_000);
        for _ in 0..COUNT / 10_000 {
            sender.write_all(&chunk).expect("sends");
            progress.fetch_add(1, SeqCst);
        }
        sender.write_all(&line("EXEC")).expect("sends");
    });
    // It reads when nothing more is taken from it, or everything was.
    let mut seen = usize::MAX;
    while std::mem::replace(&mut seen, sent.load(SeqCst)) != sent.load(SeqCst) || seen == 0 {
        std::thread::sleep(Duration::from_millis(200));
    }
    let (mut buffer, mut lines) = (vec![0; 1 << 16], 0);
    while lines < 2 + COUNT + 1 + COUNT {
        let n = receiver.read(&mut buffer).expect("reads");
        assert_ne!(n, 0, "closed after {lines} lines");
        lines += buffer[..n].iter().filter(|byte| **byte == b'\n').count();
    }
    sending.join().expect("sent");
    assert_eq!(sidecar.wire().ask("GET many"), "$7\r\n1000000\r\n");
    let grown = peak(sidecar.pid()) - before;
    assert!(grown < 64, "{grown} MiB");
}

#[test]
fn what_is_kept_until_exec_is_bounded_and_accounted_for() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("LIMITS__REQUEST", "100kb").start();
    let mut wire = sidecar.wire();
    wire.ask("MULTI");
    let read = format!("HGET player:1:session {}", "f".repeat(30_000));
    for _ in 0..3 {
        assert_eq!(wire.ask(&read), "+QUEUED\r\n");
    }
    let held = || metric(&sidecar, "hearthside_client_buffer_bytes");
    until("it is accounted for", || held() >= 90_000.0);
    let told = wire.ask(&read);
    assert!(
        told.starts_with("-ERR hearthside: the commands on owned keys") && told.contains("limits.request"),
        "{told}"
    );
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    until("it is not held any more", || held() < 30_000.0);
}

/// As in Redis, which discards a transaction that it may not run.
#[test]
fn an_exec_that_is_refused_ends_the_transaction() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("SECURITY__DENY", "EXEC").start();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    for request in ["ACL SETUSER ann on nopass ~* +@all -exec", "AUTH ann x"] {
        assert_eq!(direct.ask(request), "+OK\r\n");
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for request in ["WATCH k", "MULTI", "SET a 1", "EXEC", "DISCARD", "GET a"] {
        ours.push(wire.ask(request));
        theirs.push(direct.ask(request));
    }
    for told in [&ours[3], &theirs[3]] {
        assert!(told.starts_with("-EXECABORT Transaction discarded because of: NOPERM"), "{told}");
    }
    ours.remove(3);
    theirs.remove(3);
    assert_eq!(ours, theirs);
}

#[test]
fn others_see_how_much_is_queued() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    for (request, multi) in
        [("WATCH k", -1), ("MULTI", 0), ("SET a 1", 1), ("HGET item:apple:def name", 2), ("SET a 2", 3), ("EXEC", -1)]
    {
        wire.ask(request);
        let list = other.ask("CLIENT LIST");
        let expected = format!("multi={multi} ");
        assert!(list.lines().any(|client| !client.contains("cmd=client") && client.contains(&expected)), "{list}");
    }
}
