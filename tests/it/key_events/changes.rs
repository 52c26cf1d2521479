//! Changes that no client of the sidecar makes: by SQL, by another sidecar, of definitions, and those that are missed.

use std::time::Duration;

use super::listener::{Listener, all, both};
use super::place::Place;
use crate::support::admin::metric;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

fn is_quiet(listener: &mut Listener) -> bool {
    listener.wire.is_silent(Duration::from_millis(300))
}

#[test]
fn a_change_by_sql_is_told_whoever_has_the_key_in_memory_and_what_is_read_then_is_new() {
    for feed in ["notify", "outbox", "replication"] {
        told_by(&Place::with_feed(feed), feed);
    }
}

fn told_by(place: &Place, feed: &str) {
    place.postgres.sql("INSERT INTO strings VALUES ('1', '0', NULL)");
    let sidecar = place.start();
    let (mut reader, mut listener) = (sidecar.wire(), Listener::of_all(sidecar.wire()));
    for round in 1..=20 {
        if round % 2 == 0 {
            assert!(reader.ask("GET s:1").starts_with('$'));
        }
        place.postgres.sql(&format!("UPDATE strings SET v = '{round}' WHERE id = '1'"));
        assert_eq!([listener.next(), listener.next()], both("s:1", "changed"), "{feed}");
        let new = round.to_string();
        assert_eq!(reader.ask("GET s:1"), format!("${}\r\n{new}\r\n", new.len()), "{feed}");
    }
    place.postgres.sql("INSERT INTO hashes VALUES ('new', 'x', NULL)");
    assert_eq!([listener.next(), listener.next()], both("h:new", "changed"), "{feed}");
    place.postgres.sql("DELETE FROM strings");
    // The log says what is left of a row, a notice only that it has changed.
    let gone = if feed == "replication" { "del" } else { "changed" };
    assert_eq!([listener.next(), listener.next()], both("s:1", gone), "{feed}");
    assert_eq!(reader.ask("GET s:1"), "$-1\r\n");
    assert!(is_quiet(&mut listener), "each is told once");
    assert!(metric(&sidecar, "hearthside_key_events_total") >= 44.0);
    assert_eq!(metric(&sidecar, "hearthside_key_event_subscriptions"), 1.0);
    drop(listener);
    until("nobody listens", || metric(&sidecar, "hearthside_key_event_subscriptions") == 0.0);
}

#[test]
fn a_sidecar_tells_its_own_write_by_name_and_once_and_another_one_that_the_key_has_changed() {
    let place = Place::new();
    let (one, two) = (place.start(), place.start());
    let (mut writer, mut here, mut there) = (one.wire(), Listener::of_all(one.wire()), Listener::of_all(two.wire()));
    for round in 1..=10 {
        writer.ask(&format!("SET s:1 {round}"));
        assert_eq!([here.next(), here.next()], both("s:1", "set"));
        assert_eq!([there.next(), there.next()], both("s:1", "changed"));
        assert_eq!(two.wire().ask("GET s:1"), one.wire().ask("GET s:1"));
    }
    // A deferred one is news elsewhere when it is saved, and here when it is acknowledged.
    writer.ask("HINCRBY d:1 n 1");
    assert_eq!([here.next(), here.next()], both("d:1", "hincrby"));
    assert_eq!([there.next(), there.next()], both("d:1", "changed"));
    until("the journal is empty", || metric(&one, "hearthside_journal_bytes") == 0.0);
    // Several keys of one transaction.
    for request in ["MULTI", "SET s:1 x", "HSET h:1 f x", "EXEC"] {
        writer.ask(request);
    }
    let told: Vec<_> = (0..4).map(|_| here.next()).collect();
    assert_eq!(told, all(&[("s:1", "set"), ("h:1", "hset")]));
    let mut told: Vec<_> = (0..4).map(|_| there.next()).collect();
    told.sort();
    let mut expected = all(&[("s:1", "changed"), ("h:1", "changed")]);
    expected.sort();
    assert_eq!(told, expected);
    assert!(is_quiet(&mut here) && is_quiet(&mut there));
}

#[test]
fn definitions_are_told_when_they_change() {
    let place = Place::new();
    let sidecar = place.start();
    assert_eq!(sidecar.wire().ask("HGET item:a:def name"), "$5\r\nApple\r\n");
    let mut listener = Listener::of_all(sidecar.wire());
    place.postgres.sql("UPDATE items SET name = 'Pear' WHERE id = 'a'");
    assert_eq!([listener.next(), listener.next()], both("item:a:def", "changed"));
    assert_eq!(sidecar.wire().ask("HGET item:a:def name"), "$4\r\nPear\r\n");
    place.postgres.sql("INSERT INTO items VALUES ('c', 'Cheese')");
    assert_eq!([listener.next(), listener.next()], both("item:c:def", "changed"));
    place.postgres.sql("DELETE FROM items WHERE id = 'b'");
    assert_eq!([listener.next(), listener.next()], both("item:b:def", "del"));
    // A reload that finds the same is no news.
    sidecar.wire().ask("HEARTHSIDE RELOAD");
    assert!(is_quiet(&mut listener));
}

#[test]
fn an_operator_who_forgets_a_key_says_that_it_has_changed() {
    let place = Place::new();
    let sidecar = place.start();
    let mut listener = Listener::of_all(sidecar.wire());
    sidecar.wire().ask("HEARTHSIDE INVALIDATE s:7");
    assert_eq!([listener.next(), listener.next()], both("s:7", "changed"));
}

const GAP: &str = "*3\r\n$7\r\nmessage\r\n$18\r\n__hearthside__:gap\r\n$29\r\nmessages may have been missed\r\n";

/// One who is subscribed to the notice of a gap, and perhaps to events.
fn waiting_for_gaps(mut wire: Wire, events: bool) -> Wire {
    wire.ask("SUBSCRIBE __hearthside__:gap");
    if events {
        wire.ask("PSUBSCRIBE __keyspace@0__:s:*");
    }
    wire
}

#[test]
fn where_it_is_not_known_what_has_changed_those_who_listen_for_that_are_told() {
    let place = Place::new();
    let sidecar = place.builder().expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    until("the change feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
    let (mut one, mut other) = (waiting_for_gaps(sidecar.wire(), true), waiting_for_gaps(sidecar.wire(), false));
    // More than is told by key.
    place.postgres.sql("INSERT INTO strings SELECT i::text, 'x', NULL FROM generate_series(1, 2000) AS i");
    assert_eq!(one.text(), GAP);
    place.postgres.sql("TRUNCATE strings");
    assert_eq!(one.text(), GAP);
    // The connection of the change feed is cut.
    place.postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    assert_eq!(one.text(), GAP);
    assert!(other.is_silent(Duration::from_millis(200)), "it is subscribed to no events");
}
