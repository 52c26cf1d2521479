//! Keys that end by a column of their row.

use std::time::{Duration, Instant};

use super::listener::{Listener, both};
use super::place::Place;
use crate::support::admin::metric;
use crate::support::until;

#[test]
fn a_key_that_ends_is_told_then_and_nobody_reads_it_any_more() {
    let place = Place::new();
    let sidecar = place.start();
    let (mut wire, mut listener) =
        (sidecar.wire(), Listener::of(sidecar.wire(), "HELLO 3", "SUBSCRIBE __keyevent@0__:expired"));
    for round in 0..5 {
        let begun = Instant::now();
        assert_eq!(wire.ask(&format!("SET s:{round} v PX 300")), "+OK\r\n");
        assert_eq!(listener.next(), both(&format!("s:{round}"), "expired")[1]);
        assert!(begun.elapsed() >= Duration::from_millis(300), "not before: {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(3), "soon: {:?}", begun.elapsed());
        assert_eq!(wire.ask(&format!("GET s:{round}")), "$-1\r\n");
    }
    // By its row, which somebody else has written, and read here once.
    place.postgres.sql("INSERT INTO strings VALUES ('sql', 'v', now() + interval '500 milliseconds')");
    until("it is there", || wire.ask("GET s:sql") == "$1\r\nv\r\n");
    assert_eq!(listener.next(), both("s:sql", "expired")[1]);
    assert!(listener.wire.is_silent(Duration::from_millis(300)), "each is told once");
    until("nothing is left to end", || metric(&sidecar, "hearthside_key_event_expiries") == 0.0);
}

#[test]
fn what_was_given_more_time_or_is_gone_already_does_not_end_then() {
    let place = Place::new();
    let sidecar = place.start();
    let mut wire = sidecar.wire();
    let mut listener = Listener::of(sidecar.wire(), "HELLO 2", "SUBSCRIBE __keyevent@0__:expired");
    for (key, next) in [("s:more", "EXPIRE s:more 100"), ("s:ever", "PERSIST s:ever"), ("s:gone", "DEL s:gone")] {
        wire.ask(&format!("SET {key} v PX 1500"));
        assert_eq!(wire.ask(next), ":1\r\n");
    }
    wire.ask("SET s:again v PX 1500");
    wire.ask("SET s:again v");
    // By somebody else, of whom it is only known that the key has changed.
    wire.ask("SET s:sql v PX 1500");
    wire.ask("SET s:deleted v PX 1500");
    place.postgres.sql("UPDATE strings SET ends = now() + interval '1 hour' WHERE id = 'sql'");
    place.postgres.sql("DELETE FROM strings WHERE id = 'deleted'");
    // A new end counts.
    wire.ask("SET s:less v EX 100");
    wire.ask("PEXPIRE s:less 2500");
    assert_eq!(listener.next().1, "s:less");
    assert!(listener.wire.is_silent(Duration::from_millis(100)));
    assert_eq!(wire.ask("EXISTS s:more s:ever s:again s:sql s:gone s:deleted s:less"), ":4\r\n");
}

#[test]
fn a_subscriber_that_comes_later_hears_of_what_was_in_memory() {
    let place = Place::new();
    let sidecar = place.start();
    let mut wire = sidecar.wire();
    wire.ask("SET s:1 v PX 3000");
    assert_eq!(wire.ask("GET s:1"), "$1\r\nv\r\n");
    assert_eq!(metric(&sidecar, "hearthside_key_event_expiries"), 0.0, "nothing is noted for nobody");
    let mut listener = Listener::of(sidecar.wire(), "HELLO 2", "SUBSCRIBE __keyspace@0__:s:1");
    assert_eq!(listener.next(), both("s:1", "expired")[0]);
}

#[test]
fn that_memory_lets_a_key_go_is_no_event() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO hashes SELECT i::text, repeat('x', 2000), NULL FROM generate_series(1, 200) AS i");
    let sidecar = place.builder().set("CACHE__MAX_BYTES", "64kb").start();
    let (mut wire, mut listener) = (sidecar.wire(), Listener::of_all(sidecar.wire()));
    for id in 1..=200 {
        assert!(wire.ask(&format!("HSTRLEN h:{id} f")).starts_with(":2000"));
    }
    until("memory has let go", || metric(&sidecar, "hearthside_cache_entries") < 100.0);
    // A time to live that only memory keeps.
    assert_eq!(wire.ask("HSTRLEN h:1 f"), ":2000\r\n");
    assert_eq!(wire.ask("PEXPIRE h:1 200"), ":1\r\n");
    assert_eq!([listener.next(), listener.next()], both("h:1", "expire"));
    assert!(listener.wire.is_silent(Duration::from_millis(600)));
    assert_eq!(wire.ask("HSTRLEN h:1 f"), ":2000\r\n", "the row is there");
}
