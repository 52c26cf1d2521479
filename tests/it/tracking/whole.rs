//! What concerns many keys at once: gaps, reloads, modes, orders of operators.

use super::place::{CONFIG, Place, is_silent, told, tracking};
use crate::operations::reload::reload;
use crate::support::proxy::Proxy;
use crate::support::pushes::{ALL, of_key};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

/// Waits for a message about all keys; others may come before.
fn hears_all(wire: &mut Wire) {
    while wire.text() != ALL {}
}

#[test]
fn after_a_gap_everything_is_forgotten() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'a', NULL)");
    let feed = Proxy::to(place.postgres.port);
    let lost = [warnings::FEED_LOST, warnings::FEED_CLOSED];
    let sidecar = place.builder().set("STORE__FEED_URL", place.postgres.url_at(feed.port)).expect(&lost).start();
    let (mut wire, mut hears) = (tracking(&sidecar, ""), tracking(&sidecar, " BCAST PREFIX nothing:"));
    let mut ear = sidecar.wire();
    let id = ear.ask("CLIENT ID")[1..].trim_end().to_owned();
    ear.ask("SUBSCRIBE __redis__:invalidate");
    let mut elsewhere = sidecar.wire();
    assert_eq!(elsewhere.ask(&format!("CLIENT TRACKING ON REDIRECT {id}")), "+OK\r\n");
    assert_eq!(elsewhere.ask("GET s:1"), "$1\r\na\r\n");
    assert_eq!(wire.ask("GET s:1"), "$1\r\na\r\n");
    feed.refuse_new(true);
    feed.cut();
    place.postgres.sql("UPDATE strings SET v = 'b'");
    feed.refuse_new(false);
    hears_all(&mut wire);
    hears_all(&mut hears);
    assert!(ear.text().ends_with("__redis__:invalidate\r\n$-1\r\n"));
    assert_eq!(wire.ask("GET s:1"), "$1\r\nb\r\n");
    place.postgres.sql("UPDATE strings SET v = 'c'");
    assert_eq!(wire.text(), of_key("s:1"));
}

#[test]
fn in_a_long_gap_nothing_is_kept_for_longer_than_it_would_be_served() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'a', NULL)");
    let feed = Proxy::to(place.postgres.port);
    let lost = [warnings::FEED_LOST, warnings::FEED_CLOSED];
    let builder = place.builder().set("STORE__FEED_URL", place.postgres.url_at(feed.port));
    let sidecar = builder.set("CACHE__MAX_STALENESS", "1s").expect(&lost).start();
    let mut wire = tracking(&sidecar, "");
    assert_eq!(wire.ask("GET s:1"), "$1\r\na\r\n");
    feed.refuse_new(true);
    feed.cut();
    hears_all(&mut wire);
    for value in ["b", "c", "d"] {
        place.postgres.sql(&format!("UPDATE strings SET v = '{value}'"));
        // No notice comes: that it may not be kept any more does.
        until("the new value", || wire.ask_past_pushes("GET s:1") == format!("$1\r\n{value}\r\n"));
        assert_eq!(wire.text(), of_key("s:1"));
    }
    feed.refuse_new(false);
    hears_all(&mut wire);
}

#[test]
fn each_mapping_falls_silent_by_itself() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'a', NULL); INSERT INTO hashes VALUES ('1', 'a', NULL)");
    let feed = Proxy::to(place.postgres.port);
    let lost = [warnings::FEED_LOST, warnings::FEED_CLOSED];
    let builder = place.builder().set("STORE__FEED_URL", place.postgres.url_at(feed.port));
    let config = CONFIG.replace("table = \"hashes\"", "table = \"hashes\"\nmax_staleness = \"5s\"");
    // So many heartbeats that nothing falls silent before the gap.
    let builder = builder.config(&config).set("CACHE__MAX_STALENESS", "1s").set("STORE__HEARTBEAT_INTERVAL", "200ms");
    let sidecar = builder.expect(&lost).start();
    let mut wire = tracking(&sidecar, "");
    assert_eq!(wire.ask("HGET h:1 f"), "$1\r\na\r\n");
    feed.refuse_new(true);
    feed.cut();
    hears_all(&mut wire);
    // What is served for longer may be kept for longer, and not for ever.
    assert_eq!(wire.ask_past_pushes("HGET h:1 f"), "$1\r\na\r\n");
    place.postgres.sql("UPDATE hashes SET f = 'b'");
    assert_eq!(wire.ask_past_pushes("HGET h:1 f"), "$1\r\na\r\n", "nobody has told of it");
    hears_all(&mut wire);
    assert_eq!(wire.ask_past_pushes("HGET h:1 f"), "$1\r\nb\r\n");
    feed.refuse_new(false);
    hears_all(&mut wire);
}

/// A client that keeps both kinds of keys.
fn keeping(sidecar: &Sidecar) -> Wire {
    let mut wire = tracking(sidecar, "");
    wire.ask("GET s:1");
    wire.ask("GET plain");
    wire
}

#[test]
fn a_reload_and_another_mode_make_clients_forget() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'a', NULL)");
    let sidecar = place.start();
    let mut wire = keeping(&sidecar);
    let other = CONFIG.replace("ttl = \"700ms\"", "ttl = \"900ms\"");
    reload(&sidecar, &other);
    assert_eq!(wire.text(), ALL);
    assert_eq!(wire.ask_past_pushes("GET s:1"), "$1\r\na\r\n");
    assert_eq!(told(&mut wire), Vec::<String>::new(), "once");
    place.postgres.sql("UPDATE strings SET v = 'b'");
    assert_eq!(wire.text(), of_key("s:1"), "whatever serves it now tells of it");
    wire.ask("GET s:1");
    // A reload of nothing tells nobody.
    reload(&sidecar, &format!("{other}\n# the same\n"));
    assert_eq!(told(&mut wire), Vec::<String>::new());
    // To the upstream, back, and half of it; also a client whose invalidations go elsewhere goes on.
    let mut ear = sidecar.wire();
    let id = ear.ask("CLIENT ID")[1..].trim_end().to_owned();
    ear.ask("SUBSCRIBE __redis__:invalidate");
    let mut elsewhere = sidecar.wire();
    assert_eq!(elsewhere.ask(&format!("CLIENT TRACKING ON REDIRECT {id}")), "+OK\r\n");
    for mode in ["off", "on", "on 50", "on 100"] {
        elsewhere.ask("GET s:1");
        let answer = sidecar.wire().ask(&format!("HEARTHSIDE MODE s:{{id}} {mode}"));
        assert!(answer.starts_with('*'), "{answer}");
        hears_all(&mut wire);
        while !ear.text().ends_with("__redis__:invalidate\r\n$-1\r\n") {}
        wire.ask("GET s:1");
    }
    assert_eq!(told(&mut wire), Vec::<String>::new());
    place.postgres.sql("UPDATE strings SET v = 'c'");
    assert_eq!(wire.text(), of_key("s:1"));
}

#[test]
fn operators_and_changes_of_whole_tables_concern_the_keys_of_their_mapping() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'a', NULL), ('2', 'b', NULL)");
    place.postgres.sql("INSERT INTO hashes VALUES ('1', 'a', NULL)");
    let sidecar = place.start();
    let (mut wire, mut operator) = (tracking(&sidecar, ""), sidecar.wire());
    let mut hears = tracking(&sidecar, " BCAST PREFIX s:");
    let keep = |wire: &mut Wire| {
        for request in ["GET s:1", "GET s:2", "HGET h:1 f"] {
            wire.ask(request);
        }
    };
    keep(&mut wire);
    operator.ask("HEARTHSIDE INVALIDATE s:2");
    assert_eq!((told(&mut wire), told(&mut hears)), (vec![of_key("s:2")], vec![of_key("s:2")]));
    operator.ask("HEARTHSIDE INVALIDATE h:*");
    assert_eq!(told(&mut wire), [of_key("h:1")]);
    assert_eq!(told(&mut hears), Vec::<String>::new());
    keep(&mut wire);
    place.postgres.sql("TRUNCATE strings");
    let mut both = [wire.text(), wire.text()];
    both.sort();
    assert_eq!(both, [of_key("s:1"), of_key("s:2")]);
    assert_eq!(hears.text(), ALL, "nobody knows which keys there were");
    assert_eq!(wire.ask("GET s:1"), "_\r\n");
    assert!(is_silent(&mut wire), "the hash is as it was");
    place.postgres.sql("ALTER TABLE hashes ADD COLUMN k TEXT");
    // The emptied table may count as another one, too.
    while wire.text() != of_key("h:1") {}
}
