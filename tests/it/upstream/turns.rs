//! Clients of one lane take turns: nobody waits behind all that another asks for, and nothing of a client is overtaken
//! by what it sent later.

use std::io::Write;
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
    const ALL: usize = 3000;
    let redis = Redis::start();
    let sidecar = one_lane(&redis).start();
    let (mut mate, mut direct) = (sidecar.wire(), redis.wire());
    let steps = |wire: &mut Wire| -> usize {
        let told = wire.ask("GETRANGE steps 0 -1");
        told.lines().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    // Nothing is known of the first; of the second, that its replies are short.
    for asked in [0, 1000] {
        let mut big = sidecar.wire();
        big.send(&line("GET none").repeat(asked));
        (0..asked).for_each(|_| assert_eq!(big.frame(), b"$-1\r\n"));
        direct.ask("DEL steps");
        let mut reader = big.twin();
        let reader = thread::spawn(move || (0..2 * ALL).for_each(|_| drop(reader.frame())));
        big.send(&[line("INCR steps"), line("GET long")].concat().repeat(ALL));
        // What it has been answered upstream between a request of its mate and the reply to that.
        let mut between = Vec::new();
        while between.last().is_none_or(|(last, _)| *last < ALL) {
            let before = steps(&mut direct);
            let then = steps(&mut mate);
            between.push((then, then.saturating_sub(before)));
        }
        reader.join().expect("all came");
        let mut passed: Vec<usize> = between.iter().map(|(_, passed)| *passed).filter(|passed| *passed > 0).collect();
        passed.sort_unstable();
        // Two runs of 16 requests may be under way of whom nothing is known, a run of 256 of whom replies were short; a
        // busy machine may make one mate wait longer.
        let most = if asked == 0 { 32 } else { 256 };
        assert!(passed.len() >= 5 && passed[passed.len() / 2] <= most, "{passed:?}");
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
