//! The table is bounded, and so is what waits for a client that does not read.

use std::time::Duration;

use super::place::{Place, told, tracking};
use crate::support::admin::metric;
use crate::support::process::status;
use crate::support::pushes::{ALL, of_key};
use crate::support::until;
use crate::support::wire::{Wire, connect_narrow, line};

#[test]
fn what_has_no_room_is_invalidated() {
    let place = Place::new();
    for (setting, value, most) in [("TRACKING__MAX_KEYS", "10", 2400.0), ("TRACKING__MAX_BYTES", "1200b", 1300.0)] {
        let sidecar = place.builder().set(setting, value).start();
        let mut wire = tracking(&sidecar, "");
        let mut kept = Vec::new();
        for id in 0..100 {
            wire.send(&line(&format!("GET s:{id}")));
            kept.push(of_key(&format!("s:{id}")));
            let mut is_answered = false;
            while !is_answered {
                let frame = String::from_utf8_lossy(&wire.frame()).into_owned();
                is_answered = frame == "_\r\n";
                if !is_answered {
                    let at = kept.iter().position(|key| *key == frame).expect("a key that is kept, once");
                    kept.remove(at);
                }
            }
        }
        for frame in told(&mut wire) {
            let at = kept.iter().position(|key| *key == frame).expect("a key that is kept, once");
            kept.remove(at);
        }
        assert!(kept.len() <= 12 && kept.len() >= 5, "{setting}: {} are kept", kept.len());
        assert_eq!(metric(&sidecar, "hearthside_tracking_keys"), kept.len() as f64);
        assert!(metric(&sidecar, "hearthside_tracking_bytes") <= most);
        assert_eq!(metric(&sidecar, "hearthside_tracking_evicted_total"), (100 - kept.len()) as f64);
        // Those that are left are told when they change.
        place.postgres.sql("INSERT INTO strings SELECT i::text, 'x', NULL FROM generate_series(0, 99) AS i");
        let mut told_of = Vec::new();
        while told_of.len() < kept.len() {
            told_of.push(String::from_utf8_lossy(&wire.frame()).into_owned());
        }
        told_of.sort();
        kept.sort();
        assert_eq!(told_of, kept);
        assert_eq!(told(&mut wire), Vec::<String>::new());
        place.postgres.sql("DELETE FROM strings");
        // The next sidecar has its own.
        until("the change feed is quiet", || sidecar.wire().ask("GET s:1") == "$-1\r\n");
    }
}

#[test]
fn who_does_not_read_is_told_to_forget_all() {
    let place = Place::new();
    let sidecar = place.start();
    let mut deaf = Wire::of(connect_narrow(sidecar.port));
    assert!(deaf.ask("HELLO 3").starts_with('%'));
    assert_eq!(deaf.ask("CLIENT TRACKING ON BCAST PREFIX brief: PREFIX d:"), "+OK\r\n");
    let mut writer = sidecar.wire();
    // Nothing of these is in the store, and DEL forgets them.
    let long = "x".repeat(4000);
    for round in 0..50 {
        let all: Vec<u8> = (0..100).flat_map(|id| line(&format!("DEL brief:{long}{round}-{id}"))).collect();
        writer.send(&all);
        (0..100).for_each(|_| assert_eq!(String::from_utf8_lossy(&writer.frame()), ":0\r\n"));
    }
    let mut frames = Vec::new();
    deaf.send(&line("PING told"));
    loop {
        let frame = String::from_utf8_lossy(&deaf.frame()).into_owned();
        if frame == "$4\r\ntold\r\n" {
            break;
        }
        frames.push(frame);
    }
    assert!(frames.iter().any(|frame| frame == ALL), "{} messages", frames.len());
    assert_eq!(told(&mut deaf), Vec::<String>::new());
    assert!(frames.len() < 5000);
    assert_eq!(writer.ask("HSET d:7 n 1"), ":0\r\n");
    assert_eq!(told(&mut deaf), [of_key("d:7")], "it hears of keys again");
}

#[test]
fn what_waits_behind_a_slow_reply_becomes_one_message_about_all_keys() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'a', NULL)");
    let sidecar = place.builder().set("STORE__QUERY_TIMEOUT", "60s").start();
    let (mut wire, mut writer) = (tracking(&sidecar, " BCAST PREFIX brief:"), sidecar.wire());
    let mut lock = place.postgres.session();
    lock.run("BEGIN; LOCK TABLE strings IN ACCESS EXCLUSIVE MODE;");
    wire.send(&line("GET s:1"));
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    until("the read waits", || place.postgres.sql(waiting) == "1");
    // Nothing of these is in the store, and DEL forgets them. One after the other, so that each finds the client awake.
    let long = "x".repeat(4000);
    for id in 0..300 {
        assert_eq!(writer.ask(&format!("DEL brief:{long}{id}")), ":0\r\n");
    }
    assert!(wire.is_silent(Duration::from_millis(100)), "all stands behind the reply");
    lock.run("COMMIT;");
    assert_eq!(String::from_utf8_lossy(&wire.frame()), "$1\r\na\r\n");
    let all = told(&mut wire);
    assert!(all.iter().any(|frame| frame == ALL), "{} messages", all.len());
    let bytes: usize = all.iter().map(String::len).sum();
    assert!(bytes < 300_000, "{bytes} bytes of 1,200,000 have waited");
    writer.ask("DEL brief:7");
    assert_eq!(told(&mut wire), [of_key("brief:7")], "it hears of keys again");
}

/// Clients that keep 1,000 keys each, the same ones; all are told of a change of one. How much memory that is for more
/// of them says `HEARTHSIDE_TRACKING_CLIENTS=2000 cargo nextest run many_clients_keep --no-capture`.
#[test]
fn many_clients_keep_many_keys() {
    const KEYS: usize = 1000;
    let clients = crate::support::setting("HEARTHSIDE_TRACKING_CLIENTS", 50) as usize;
    let place = Place::new();
    let lanes = (clients + 100).to_string();
    let sidecar = place.builder().set("UPSTREAM__PINNED_MAX", lanes).set("LIMITS__CLIENTS", "5000").start();
    let before = status(sidecar.pid(), "VmRSS");
    let all: Vec<u8> = (1..=KEYS).flat_map(|id| line(&format!("HGET d:{id} n"))).collect();
    let mut wires: Vec<Wire> = (0..clients)
        .map(|_| {
            let mut wire = tracking(&sidecar, "");
            wire.send(&all);
            (0..KEYS).for_each(|_| assert!(wire.frame().starts_with(b"$")));
            wire
        })
        .collect();
    let bytes = metric(&sidecar, "hearthside_tracking_bytes");
    eprintln!("{clients} clients: the table has {bytes} bytes, the process {before} -> {} KiB", {
        status(sidecar.pid(), "VmRSS")
    });
    assert_eq!(metric(&sidecar, "hearthside_tracking_keys"), KEYS as f64);
    assert!(bytes < (KEYS * (200 + clients * 8)) as f64, "{bytes}");
    assert_eq!(sidecar.wire().ask("HSET d:5 n 5"), ":0\r\n");
    for wire in &mut wires {
        assert_eq!(told(wire), [of_key("d:5")]);
    }
    assert!(wires.iter_mut().take(5).all(|wire| wire.is_silent(Duration::from_millis(100))));
}
