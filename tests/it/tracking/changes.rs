//! Changes that no client of the sidecar makes: by SQL, by time, of definitions.

use std::time::{Duration, Instant};

use super::place::{Place, is_silent, told, tracking};
use crate::support::admin::metric;
use crate::support::clusters::Cluster;
use crate::support::pushes::of_key;
use crate::support::until;
use crate::support::wire::line;

#[test]
fn a_change_by_sql_is_told_once_and_what_is_read_then_is_new() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', '0', NULL); INSERT INTO hashes VALUES ('1', '0', NULL)");
    let sidecar = place.start();
    let (mut reader, mut other, mut hears) =
        (tracking(&sidecar, ""), tracking(&sidecar, ""), tracking(&sidecar, " BCAST PREFIX s:"));
    for round in 1..=20 {
        for wire in [&mut reader, &mut other] {
            let was = (round - 1).to_string();
            assert_eq!(wire.ask("GET s:1"), format!("${}\r\n{was}\r\n", was.len()));
            assert!(wire.ask("HGET h:1 f").starts_with('$'));
        }
        place.postgres.sql(&format!("UPDATE strings SET v = '{round}' WHERE id = '1'"));
        for wire in [&mut reader, &mut other, &mut hears] {
            assert_eq!(wire.text(), of_key("s:1"));
        }
        // Whoever is told reads what it was told of.
        let new = round.to_string();
        assert_eq!(reader.ask("GET s:1"), format!("${}\r\n{new}\r\n", new.len()));
        place.postgres.sql(&format!("UPDATE hashes SET f = '{round}'"));
        assert_eq!(reader.text(), of_key("h:1"));
        assert_eq!(other.text(), of_key("h:1"));
        // Nobody has read it since: it is told to one who hears of all.
        place.postgres.sql("INSERT INTO strings VALUES ('new', 'x', NULL)");
        assert_eq!(hears.text(), of_key("s:new"));
        place.postgres.sql("DELETE FROM strings WHERE id = 'new'");
        assert_eq!(hears.text(), of_key("s:new"));
    }
    for wire in [&mut reader, &mut other, &mut hears] {
        assert!(is_silent(wire), "each is told once");
    }
    assert!(metric(&sidecar, "hearthside_tracking_invalidations_total") >= 100.0);
    assert_eq!(metric(&sidecar, "hearthside_tracking_clients"), 3.0);
    drop((reader, other, hears));
    until("nobody tracks", || metric(&sidecar, "hearthside_tracking_clients") == 0.0);
    assert_eq!(metric(&sidecar, "hearthside_tracking_keys"), 0.0, "nothing is remembered for nobody");
    assert_eq!(metric(&sidecar, "hearthside_tracking_bytes"), 0.0);
}

#[test]
fn what_memory_lets_go_is_no_change_and_is_told_when_it_changes() {
    for feed in ["notify", "outbox", "replication"] {
        let_go(&Place::with_feed(feed));
    }
}

fn let_go(place: &Place) {
    place.postgres.sql("INSERT INTO strings SELECT i::text, repeat('x', 2000), NULL FROM generate_series(1, 200) AS i");
    let sidecar = place.builder().set("CACHE__MAX_BYTES", "64kb").start();
    let mut wire = tracking(&sidecar, "");
    for id in 1..=200 {
        assert!(wire.ask(&format!("STRLEN s:{id}")).starts_with(":2000"));
    }
    until("memory has let go", || metric(&sidecar, "hearthside_cache_entries") < 100.0);
    assert!(is_silent(&mut wire), "nothing has changed");
    assert_eq!(metric(&sidecar, "hearthside_tracking_keys"), 200.0);
    // It is loaded again, and holds the same.
    sidecar.wire().ask("GET s:1");
    sidecar.wire().ask("GET s:2");
    assert!(is_silent(&mut wire));
    for id in [1, 2, 100, 200] {
        place.postgres.sql(&format!("UPDATE strings SET v = 'new' WHERE id = '{id}'"));
        assert_eq!(wire.text(), of_key(&format!("s:{id}")));
        assert_eq!(wire.ask(&format!("GET s:{id}")), "$3\r\nnew\r\n");
    }
    // Nobody has read it.
    let mut hears = tracking(&sidecar, " BCAST PREFIX s:");
    place.postgres.sql("INSERT INTO strings VALUES ('nobody', 'x', NULL)");
    assert_eq!(hears.text(), of_key("s:nobody"));
}

#[test]
fn a_change_that_nobody_tells_is_found_when_the_key_is_loaded_again() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'old', NULL)");
    let sidecar = place.builder().set("CACHE__MAX_BYTES", "64kb").start();
    let mut wire = tracking(&sidecar, "");
    assert_eq!(wire.ask("GET s:1"), "$3\r\nold\r\n");
    // No trigger tells of it.
    place.postgres.sql("SET session_replication_role = replica; UPDATE strings SET v = 'new'");
    place.postgres.sql("INSERT INTO strings SELECT i::text, repeat('x', 2000), NULL FROM generate_series(2, 100) AS i");
    until("it is out of memory, and found", || {
        (2..=100).for_each(|id| _ = sidecar.wire().ask(&format!("STRLEN s:{id}")));
        sidecar.wire().ask("GET s:1") == "$3\r\nnew\r\n"
    });
    assert_eq!(wire.text(), of_key("s:1"));
}

#[test]
fn a_key_that_ends_is_told_when_it_does_also_out_of_memory() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings SELECT i::text, repeat('x', 2000), NULL FROM generate_series(2, 100) AS i");
    let sidecar = place.builder().set("CACHE__MAX_BYTES", "64kb").start();
    let (mut wire, mut hears) = (tracking(&sidecar, ""), tracking(&sidecar, " BCAST PREFIX brief:"));
    for _ in 0..3 {
        let begun = Instant::now();
        assert_eq!(wire.ask("GET brief:1"), "$3\r\none\r\n");
        assert_eq!(hears.ask("GET brief:1"), "$3\r\none\r\n");
        (2..=100).for_each(|id| _ = sidecar.wire().ask(&format!("STRLEN s:{id}")));
        assert_eq!((wire.text(), hears.text()), (of_key("brief:1"), of_key("brief:1")));
        assert!(begun.elapsed() > Duration::from_millis(500), "not before: {:?}", begun.elapsed());
    }
    // By its row, which somebody else gives another end.
    let mut all = tracking(&sidecar, " BCAST PREFIX s:ends");
    place.postgres.sql("INSERT INTO strings VALUES ('ends', 'v', now() + interval '1 hour')");
    assert_eq!(all.text(), of_key("s:ends"));
    assert_eq!(wire.ask("GET s:ends"), "$1\r\nv\r\n");
    place.postgres.sql("UPDATE strings SET ends = now() + interval '600 milliseconds' WHERE id = 'ends'");
    assert_eq!(wire.text(), of_key("s:ends"));
    assert_eq!(wire.ask("GET s:ends"), "$1\r\nv\r\n");
    assert_eq!(wire.text(), of_key("s:ends"));
    until("it has ended", || wire.ask("GET s:ends") == "_\r\n");
}

#[test]
fn definitions_are_kept_until_they_change() {
    let place = Place::new();
    let sidecar = place.start();
    let (mut wire, mut hears) = (tracking(&sidecar, ""), tracking(&sidecar, " BCAST PREFIX item:"));
    assert_eq!(wire.ask("HGET item:a:def name"), "$5\r\nApple\r\n");
    assert_eq!(wire.ask("HGET item:b:def name"), "$5\r\nBread\r\n");
    assert_eq!(wire.ask("EXISTS item:c:def"), ":0\r\n");
    assert!(is_silent(&mut wire), "nothing has changed");
    place.postgres.sql("UPDATE items SET name = 'Pear' WHERE id = 'a'");
    assert_eq!((wire.text(), hears.text()), (of_key("item:a:def"), of_key("item:a:def")));
    assert_eq!(wire.ask("HGET item:a:def name"), "$4\r\nPear\r\n");
    place.postgres.sql("INSERT INTO items VALUES ('c', 'Cheese')");
    assert_eq!((wire.text(), hears.text()), (of_key("item:c:def"), of_key("item:c:def")));
    place.postgres.sql("DELETE FROM items WHERE id = 'b'");
    assert_eq!((wire.text(), hears.text()), (of_key("item:b:def"), of_key("item:b:def")));
    // A reload that finds the same tells nobody.
    sidecar.wire().ask("HEARTHSIDE RELOAD");
    sidecar.wire().ask("HEARTHSIDE INVALIDATE item:*");
    assert!(is_silent(&mut wire));
}

#[test]
fn a_deferred_write_is_told_once_and_not_again_when_it_is_saved() {
    let place = Place::new();
    let sidecar = place.start();
    let (mut wire, mut writer) = (tracking(&sidecar, ""), sidecar.wire());
    for round in 1..=5 {
        wire.ask("HGET d:1 n");
        assert_eq!(writer.ask("HINCRBY d:1 n 1"), format!(":{round}\r\n"));
        assert_eq!(told(&mut wire), [of_key("d:1")]);
        assert_eq!(wire.ask("HGET d:1 n"), format!("$1\r\n{round}\r\n"));
        until("it is saved", || place.postgres.sql("SELECT n FROM counts WHERE id = 1") == round.to_string());
        until("the journal is empty", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
        assert_eq!(told(&mut wire), Vec::<String>::new());
        writer.ask("HEARTHSIDE INVALIDATE d:1");
        assert_eq!(told(&mut wire), [of_key("d:1")]);
    }
}

#[test]
fn who_waits_for_the_upstream_is_told_at_once() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'a', NULL)");
    let sidecar = place.start();
    let (mut wire, mut writer) = (tracking(&sidecar, ""), sidecar.wire());
    wire.ask("GET s:1");
    wire.send(&line("BLPOP list 0"));
    until("it waits", || writer.ask("INFO clients").contains("blocked_clients:1"));
    assert_eq!(writer.ask("SET s:1 b"), "+OK\r\n");
    assert_eq!(wire.text(), of_key("s:1"));
    writer.ask("RPUSH list x");
    assert_eq!(wire.text(), "*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
    assert_eq!(wire.ask("GET s:1"), "$1\r\nb\r\n");
}

#[test]
fn a_value_that_has_changed_before_its_reply_is_written_is_not_kept() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'a', NULL)");
    let sidecar = place.start();
    let (mut wire, mut writer) = (tracking(&sidecar, ""), sidecar.wire());
    // The read is loaded, and waits for the reply before it.
    wire.send(&[line("BLPOP list 0"), line("GET s:1")].concat());
    until("it is loaded", || metric(&sidecar, "hearthside_loads_total{mapping=\"s:{id}\",outcome=\"ok\"}") >= 1.0);
    until("it waits", || writer.ask("INFO clients").contains("blocked_clients:1"));
    assert_eq!(writer.ask("SET s:1 b"), "+OK\r\n");
    writer.ask("RPUSH list x");
    assert_eq!(wire.text(), "*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
    assert_eq!(wire.text(), "$1\r\na\r\n", "what it was when it was asked for");
    assert_eq!(wire.text(), of_key("s:1"));
    assert_eq!(wire.ask("GET s:1"), "$1\r\nb\r\n");
}

#[test]
fn behind_a_cluster_owned_keys_are_tracked_like_those_of_its_nodes() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'a', NULL), ('2', 'a', NULL)");
    let cluster = Cluster::start();
    let sidecar = place.builder().set("UPSTREAM__URL", cluster.url()).start();
    let (mut wire, mut writer) = (tracking(&sidecar, ""), sidecar.wire());
    for round in 0..3 {
        assert!(wire.ask("GET s:1").starts_with('$'));
        wire.ask("MULTI");
        wire.ask("GET s:2");
        assert!(wire.ask("EXEC").starts_with("*1"));
        assert_eq!(writer.ask(&format!("SET s:1 {round}")), "+OK\r\n");
        assert_eq!(told(&mut wire), [of_key("s:1")]);
        place.postgres.sql(&format!("UPDATE strings SET v = 'sql{round}' WHERE id = '2'"));
        assert_eq!(wire.text(), of_key("s:2"));
    }
    let (mut opted, mut ear) = (tracking(&sidecar, " OPTIN"), sidecar.wire());
    for request in ["GET s:1", "CLIENT CACHING YES", "GET s:2", "GET s:1"] {
        opted.ask(request);
    }
    writer.ask("SET s:1 opted");
    writer.ask("SET s:2 opted");
    assert_eq!(told(&mut opted), [of_key("s:2")]);
    // What is said of one request is over behind it, whoever answers that, also beside a WATCH.
    let mut out = tracking(&sidecar, " OPTOUT");
    for request in ["CLIENT CACHING NO", "GET plain", "GET s:1"] {
        out.ask(request);
    }
    writer.ask("SET s:1 out");
    assert_eq!(told(&mut out), [of_key("s:1")]);
    for request in ["WATCH watched", "CLIENT CACHING NO", "GET s:1", "GET s:2"] {
        out.ask(request);
    }
    writer.ask("SET s:2 out");
    assert_eq!(told(&mut out), [of_key("s:2")]);
    let id = ear.ask("CLIENT ID")[1..].trim_end().to_owned();
    ear.ask("SUBSCRIBE __redis__:invalidate");
    let mut elsewhere = sidecar.wire();
    assert_eq!(elsewhere.ask(&format!("CLIENT TRACKING ON REDIRECT {id}")), "+OK\r\n");
    elsewhere.ask("GET s:1");
    writer.ask("SET s:1 elsewhere");
    assert!(ear.text().ends_with("$3\r\ns:1\r\n"));
}
