//! Clients of one lane take turns: nobody waits behind all that another asks for, and nothing of a client is overtaken by what
//! it sent later.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::{Wire, connect_narrow, line};

/// Shorter than what makes a client leave the lane for one of its own.
const LENGTH: usize = 60_000;

fn one_lane(redis: &Redis) -> Builder {
    redis.wire().call(&["SET", "long", &"v".repeat(LENGTH)]);
    let builder = Sidecar::builder().redis(redis).set("SERVER__WORKERS", "1").set("UPSTREAM__LANES", "1");
    // However slow the machine is, they stay on it.
    builder.set("UPSTREAM__LANE_PATIENCE", "10m")
}

#[test]
fn a_long_run_of_long_replies_is_cut_where_others_wait() {
    const ALL: usize = 4000;
    let redis = Redis::start();
    let sidecar = one_lane(&redis).start();
    let (mut mate, mut big) = (sidecar.wire(), sidecar.wire());
    // Nothing is known of the first, and of the second that its replies are short.
    for asked in [0, 1000] {
        big.send(&line("GET none").repeat(asked));
        (0..asked).for_each(|_| assert_eq!(big.frame(), b"$-1\r\n"));
        let taken = Arc::new(AtomicUsize::new(0));
        let (mut reader, count) = (big.twin(), taken.clone());
        big.send(&line("GET long").repeat(ALL));
        let reader = thread::spawn(move || {
            for _ in 0..ALL {
                assert_eq!(reader.frame().len(), LENGTH + 10);
                count.fetch_add(1, SeqCst);
            }
        });
        until("they come", || taken.load(SeqCst) > 0);
        let mut waited = Vec::new();
        while taken.load(SeqCst) < ALL / 2 {
            let before = taken.load(SeqCst);
            assert_eq!(mate.ask("GET none"), "$-1\r\n");
            waited.push(taken.load(SeqCst) - before);
        }
        reader.join().expect("all came");
        waited.sort_unstable();
        assert!(waited.len() >= 8 && waited[waited.len() / 2] < 200, "{waited:?}");
    }
}

/// Requests of a client that tell their place by their replies, and what they are answered with.
fn numbered(client: usize, count: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let own = |i: usize| match i % 3 {
        0 => (format!("INCRBY count:{client} 1"), format!(":{}\r\n", i / 3 + 1)),
        1 => (format!("GETRANGE long 0 {i}"), format!("${}\r\n{}\r\n", i + 1, "v".repeat(i + 1))),
        _ => ("GET long".to_owned(), format!("${LENGTH}\r\n{}\r\n", "v".repeat(LENGTH))),
    };
    let (requests, replies): (Vec<_>, Vec<_>) = (0..count).map(own).unzip();
    (requests.iter().flat_map(|request| line(request)).collect(), replies.into_iter().map(String::into_bytes).collect())
}

#[test]
fn what_is_set_aside_keeps_its_order() {
    const CLIENTS: usize = 6;
    let redis = Redis::start();
    let sidecar = one_lane(&redis).set("LIMITS__CLIENT_OUTPUT", "128kb").start();
    let mut mate = sidecar.wire();
    // While they do not read, each has been asked for what it may have, and the rest stands aside.
    let readers = (0..CLIENTS).map(|client| {
        let (requests, replies) = numbered(client, 600);
        let mut stream = connect_narrow(sidecar.port);
        stream.write_all(&requests).expect("sends");
        (Wire::of(stream), replies)
    });
    let readers: Vec<_> = readers.collect();
    until("each of them was asked for something", || {
        (0..CLIENTS).all(|client| mate.ask(&format!("EXISTS count:{client}")) == ":1\r\n")
    });
    let readers = readers.into_iter().map(|(mut wire, replies)| {
        thread::spawn(move || {
            for (i, reply) in replies.iter().enumerate() {
                assert!(wire.frame() == *reply, "reply {i}");
            }
        })
    });
    readers.collect::<Vec<_>>().into_iter().for_each(|reader| reader.join().expect("all came in order"));
    (0..CLIENTS).for_each(|client| assert_eq!(mate.ask(&format!("GET count:{client}")), "$3\r\n200\r\n"));
}
