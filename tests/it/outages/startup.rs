//! The beginning: signals and probes come first, and a store that is away keeps nobody from what needs none.

use std::fs;

use tempfile::TempDir;

use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar, demo};
use crate::support::until;
use crate::support::warnings;

/// The demo's mappings, and definitions from a file.
fn with_file(folder: &TempDir) -> String {
    let file = folder.path().join("tiers.json");
    fs::write(&file, r#"{"1": {"name": "iron"}, "2": {"name": "steel"}}"#).expect("written");
    let block = format!("\n[[definitions]]\nkey = \"tier:{{id}}\"\ntype = \"hash\"\nfile = \"{}\"\n", file.display());
    format!("{}{block}", hearthside::config::SHIPPED)
}

#[test]
fn a_store_that_is_away_at_start_keeps_nobody_from_what_needs_none() {
    let (redis, postgres, folder) = (Redis::start(), Postgres::start(), tempfile::tempdir().expect("a folder"));
    let builder = demo(&redis, &postgres).config(&with_file(&folder)).migrated().expect(warnings::STORE_LATE);
    postgres.stop();
    let mut sidecar = builder.spawn();
    sidecar.wait_ready();
    let (mut wire, mut open) = (sidecar.wire(), sidecar.wire());
    assert_eq!(wire.ask("SET through 1"), "+OK\r\n");
    assert_eq!(wire.ask("HGET tier:2 name"), "$5\r\nsteel\r\n", "a definition from a file");
    assert_eq!(wire.ask("EXISTS tier:1 tier:7 through"), ":2\r\n");
    let is_loading = |told: &str, mapping: &str| {
        assert!(told.starts_with("-LOADING hearthside: the mapping '"), "{told}");
        assert!(told.contains(mapping) && told.contains("refused") && told.contains("correct store.url"), "{told}");
    };
    let (session, item) = ("player:{character_id:int}:session", "item:{item_id}:def");
    for (request, mapping) in [
        ("HGET player:1:session hp", session),
        ("HSET player:1:session hp 1", session),
        ("EXPIRE player:1:session 10", session),
        ("EXISTS through player:1:session", session),
        ("DEL through player:1:session", session),
        ("MGET through item:apple:def", item),
        ("TYPE item:apple:def", item),
        ("WATCH player:1:session", session),
        ("KEYS *", "location:{location_id}:cache"),
        ("SCAN 0 MATCH player:*", session),
    ] {
        is_loading(&wire.ask(request), mapping);
    }
    assert_eq!(wire.ask("EXISTS through"), ":1\r\n", "a DEL that names such a key deletes nothing");
    assert_eq!(wire.ask("KEYS thr*"), "*1\r\n$7\r\nthrough\r\n");
    assert!(wire.ask("SCAN 0 MATCH thr*").contains("through"));
    assert!(wire.ask("INFO").contains("hearthside_store_up:0"));
    assert_eq!(wire.ask("MULTI"), "+OK\r\n");
    assert_eq!(wire.ask("SET through 2"), "+QUEUED\r\n");
    is_loading(&wire.ask("HGET player:1:session hp"), session);
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"), "as in Redis");
    assert_eq!(wire.ask("GET through"), "$1\r\n1\r\n");
    let (status, body) = request(&sidecar, "GET", "/readyz");
    assert!(status == 503 && body.contains("the store does not answer") && body.contains("refused"), "{body}");
    assert_eq!(body.matches("the store does not answer").count(), 1, "{body}");
    assert_eq!(redis.wire().ask("KEYS *"), "*1\r\n$7\r\nthrough\r\n", "an owned key never goes upstream");
    open.ask("MULTI");
    assert_eq!(open.ask("HGET tier:1 name"), "+QUEUED\r\n");
    postgres.launch();
    until("the store has arrived", || wire.ask("HGET player:1:session hp") == "$2\r\n99\r\n");
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
    assert_eq!(wire.ask("HGET tier:2 name"), "$5\r\nsteel\r\n");
    assert!(open.ask("EXEC").starts_with("-EXECABORT hearthside"), "what was queued then is not run now");
    until("ready", || request(&sidecar, "GET", "/readyz") == (200, "ready\n".into()));
    postgres.sql("UPDATE sessions SET hp = 4 WHERE character_id = 1");
    until("the change feed is on", || wire.ask("HGET player:1:session hp") == "$1\r\n4\r\n");
}

#[test]
fn a_reload_while_the_store_is_away_changes_what_needs_none() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).config(hearthside::config::SHIPPED).expect(warnings::STORE_LATE);
    postgres.stop();
    let mut sidecar = builder.expect(&[warnings::FAULTY_RELOAD]).spawn();
    sidecar.wait_ready();
    let mut wire = sidecar.wire();
    let denies = hearthside::config::SHIPPED.replace("\"SHUTDOWN\", ", "\"SHUTDOWN\", \"GETDEL\", ");
    sidecar.configure(&denies);
    sidecar.signal("HUP");
    until("the list is in force", || wire.ask("GETDEL a").contains("security.deny"));
    assert!(wire.ask("HGET player:1:session hp").starts_with("-LOADING"));
    sidecar.configure(&denies.replace("ttl = \"30m\"", "ttl = \"31m\""));
    sidecar.signal("HUP");
    until("other mappings have to wait", || sidecar.log().contains("the store cannot be asked"));
    postgres.launch();
    until("the store has arrived", || wire.ask("HGET player:1:session hp") == "$2\r\n99\r\n");
    assert!(wire.ask("GETDEL a").contains("security.deny"), "what was reloaded meanwhile stays");
}

#[test]
fn a_store_that_comes_and_does_not_fit_keeps_nobody_from_what_needs_none() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).config(hearthside::config::SHIPPED).expect(warnings::STORE_LATE);
    let builder = builder.expect(&[warnings::UNFIT]);
    postgres.sql("ALTER TABLE sessions RENAME TO elsewhere");
    postgres.stop();
    let mut sidecar = builder.spawn();
    sidecar.wait_ready();
    let mut wire = sidecar.wire();
    postgres.launch();
    until("it says what does not fit", || {
        let told = wire.ask("HGET player:1:session hp");
        told.starts_with("-ERR") && told.contains("does not fit") && told.contains("there is no table 'sessions'")
    });
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n");
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n", "nor from the other mappings");
    assert!(request(&sidecar, "GET", "/readyz").1.contains("no table 'sessions'"));
    postgres.sql("ALTER TABLE elsewhere RENAME TO sessions");
    until("it fits", || wire.ask("HGET player:1:session hp") == "$2\r\n99\r\n");
}

#[test]
fn signals_and_probes_are_answered_before_the_store_is() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for wait in ["true", "false"] {
        let proxy = Proxy::to(postgres.port);
        proxy.hold(true);
        let builder = Sidecar::builder()
            .redis(&redis)
            .set("STORE__URL", postgres.url_at(proxy.port))
            .expect(warnings::STORE_LATE);
        let builder = builder.set("STORE__CONNECT_TIMEOUT", "60s").set("SERVER__WAIT_FOR_STORE", wait);
        let mut sidecar = builder.spawn();
        until("it asks the store", || proxy.accepted() > 0);
        until("the admin port is open", || sidecar.logged_port("admin port").is_some());
        sidecar.signal("HUP");
        assert_eq!(request(&sidecar, "GET", "/livez"), (200, "ok\n".into()));
        let (status, body) = request(&sidecar, "GET", "/readyz");
        assert!(status == 503 && body.contains("the store has not answered yet"), "{body}");
        assert!(!sidecar.has_ended(), "SIGHUP has nothing to reload yet, and ends nothing");
        assert_eq!(sidecar.stop(), Some(0));
    }
}

/// Heartbeats are deferred.
const PLAYERS: &str = "[[caches]]\nkey = \"p:{id:int}\"\ntype = \"hash\"\ntable = \"players\"\nwrite = \"through\"\n\
    deferred = [\"seen\", \"steps\"]\n";

/// Parts that outlive a sidecar.
struct Place {
    redis: Redis,
    postgres: Postgres,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        postgres.sql(
            "CREATE TABLE players (id BIGINT PRIMARY KEY, name TEXT, seen BIGINT, steps BIGINT); \
             INSERT INTO players SELECT i, 'p', 0, 0 FROM generate_series(1, 9) AS i",
        );
        let place = Self { redis, postgres, folder: tempfile::tempdir().expect("a folder") };
        place.builder().migrated();
        place
    }

    fn builder(&self) -> Builder {
        let journal = self.folder.path().join("journal.db").display().to_string();
        let builder = Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(PLAYERS);
        builder
            .set("JOURNAL__PATH", journal)
            .expect(warnings::STORE_LATE)
            .expect(warnings::STORE_AWAY)
            .expect(&[warnings::DEFERRED_WAIT])
    }

    fn row(&self, id: u32) -> String {
        self.postgres.sql(&format!("SELECT seen, steps FROM players WHERE id = {id}"))
    }
}

#[test]
fn deferred_writes_are_accepted_while_the_store_is_away_at_start() {
    let place = Place::new();
    // What waits when it is killed: the store is away already.
    let mut first = place.builder().start();
    assert_eq!(first.wire().ask("HGET p:1 seen"), "$1\r\n0\r\n");
    place.postgres.stop();
    assert_eq!(first.wire().ask("HSET p:1 seen 1 steps 1"), ":0\r\n");
    first.signal("KILL");
    until("it is gone", || first.has_ended());
    let mut second = place.builder().spawn();
    second.wait_ready();
    let mut wire = second.wire();
    // Whether the fields are new nobody can know now: they count as new.
    assert_eq!(wire.ask("HSET p:1 seen 2"), ":1\r\n");
    assert_eq!(wire.ask("HSET p:2 seen 5 steps 6"), ":2\r\n");
    let told = wire.ask("HSET p:3 seen soon");
    assert!(told.contains("'seen' cannot be written"), "the journal remembers the columns: {told}");
    for request in
        ["HSET p:3 name x", "HSET p:3 name x seen 1", "HINCRBY p:3 seen 1", "HSETNX p:3 seen 1", "HGET p:2 seen"]
    {
        let told = wire.ask(request);
        assert!(told.starts_with("-LOADING"), "{request}: {told}");
    }
    assert_eq!(metric(&second, "hearthside_deferred_total"), 2.0);
    // Killed once more: what was acknowledged without the store is as safe as the rest.
    second.signal("KILL");
    until("it is gone", || second.has_ended());
    let mut third = place.builder().spawn();
    third.wait_ready();
    let mut wire = third.wire();
    assert_eq!(wire.ask("HSET p:2 seen 7"), ":1\r\n");
    place.postgres.launch();
    until("the store has arrived", || wire.ask("HMGET p:1 seen steps") == "*2\r\n$1\r\n2\r\n$1\r\n1\r\n");
    assert_eq!(wire.ask("HMGET p:2 seen steps"), "*2\r\n$1\r\n7\r\n$1\r\n6\r\n", "the last values are over the rows");
    until("they are saved", || place.row(1) == "2|1" && place.row(2) == "7|6");
    assert_eq!((place.row(3).as_str(), metric(&third, "hearthside_put_aside_total")), ("0|0", 0.0));
}

#[test]
fn deferred_writes_that_cannot_be_judged_are_not_accepted() {
    let place = Place::new();
    place.postgres.stop();
    let mut sidecar = place.builder().spawn();
    sidecar.wait_ready();
    let told = sidecar.wire().ask("HSET p:1 seen 1");
    assert!(told.starts_with("-LOADING"), "no columns are remembered yet: {told}");
    assert_eq!(sidecar.stop(), Some(0));
    place.postgres.launch();
    assert_eq!(place.row(1), "0|0");
}

#[test]
fn what_was_deferred_without_the_store_survives_a_stop() {
    let place = Place::new();
    drop(place.builder().start());
    place.postgres.stop();
    let mut sidecar = place.builder().spawn();
    sidecar.wait_ready();
    assert_eq!(sidecar.wire().ask("HSET p:4 seen 4"), ":1\r\n");
    assert_eq!(sidecar.stop(), Some(0));
    place.postgres.launch();
    let sidecar = place.builder().start();
    assert_eq!(sidecar.wire().ask("HGET p:4 seen"), "$1\r\n4\r\n");
    until("it is saved", || place.row(4) == "4|0");
}

#[test]
fn a_store_that_comes_goes_and_comes_again_is_followed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).config(hearthside::config::SHIPPED).migrated().expect(warnings::STORE_LATE);
    postgres.stop();
    let mut sidecar = builder.expect(warnings::STORE_AWAY).spawn();
    sidecar.wait_ready();
    let mut wire = sidecar.wire();
    assert!(wire.ask("HGET player:1:session hp").starts_with("-LOADING"));
    for round in 1..3 {
        postgres.launch();
        until("it is there", || wire.ask("HGET player:1:session hp").starts_with('$'));
        postgres.sql(&format!("UPDATE sessions SET hp = {round} WHERE character_id = 1"));
        until("its changes are heard", || wire.ask("HGET player:1:session hp") == format!("$1\r\n{round}\r\n"));
        assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
        until("ready", || request(&sidecar, "GET", "/readyz").0 == 200);
        postgres.stop();
        until("it is seen to be away", || request(&sidecar, "GET", "/readyz").0 == 503);
        assert_eq!(wire.ask("SET through 1"), "+OK\r\n");
        assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n", "definitions stay");
        let told = wire.ask("HGET player:3:session hp");
        assert!(told.starts_with("-ERR hearthside") || told.starts_with("-LOADING"), "{told}");
        assert!(!told.contains("waits for its store"), "it has been there: {told}");
    }
    postgres.launch();
}
