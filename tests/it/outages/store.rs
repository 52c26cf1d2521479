//! Postgres stops, comes back, refuses, or was never there.

use std::time::{Duration, Instant};

use crate::support::admin::request;
use crate::support::certificates::Authority;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, demo};
use crate::support::until;
use crate::support::warnings;

#[test]
fn without_the_store_hits_are_served_and_misses_fail_at_once() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).expect(warnings::STORE_AWAY).set("STORE__CONNECT_TIMEOUT", "300ms").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n99\r\n");
    postgres.stop();
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
    until("the feed is lost", || crate::support::admin::metric(&sidecar, "hearthside_change_feed_up") == 0.0);
    assert_eq!(wire.ask("HGET player:1:session hp"), "$2\r\n99\r\n", "a hit is served for max_staleness");
    assert_eq!(wire.ask("SET a 1"), "+OK\r\n", "pass-through does not care");
    for _ in 0..10 {
        let told = wire.ask("HGET player:50:session hp");
        assert!(
            told.starts_with("-ERR hearthside: the mapping 'player:{character_id:int}:session' could not be read"),
            "{told}"
        );
    }
    let start = Instant::now();
    for _ in 0..100 {
        wire.ask("HGET player:51:session hp");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "the breaker answers at once");
    until("not ready", || request(&sidecar, "GET", "/readyz").0 == 503);
    assert_eq!(request(&sidecar, "GET", "/livez").0, 200);
    postgres.launch();
    until("misses load again", || wire.ask("HGET player:50:session hp") == "$2\r\n90\r\n");
    until("ready", || request(&sidecar, "GET", "/readyz").0 == 200);
    postgres.sql("UPDATE sessions SET hp = 4 WHERE character_id = 50");
    until("the feed is back", || wire.ask("HGET player:50:session hp") == "$1\r\n4\r\n");
}

#[test]
fn a_store_that_comes_late_is_waited_for() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).expect(warnings::STORE_LATE).set("SERVER__WAIT_FOR_STORE", "true");
    postgres.stop();
    let mut sidecar = builder.spawn();
    until("it says what it waits for", || {
        sidecar.log().contains("waiting for the store") && sidecar.logged_port("admin port").is_some()
    });
    let (status, body) = request(&sidecar, "GET", "/readyz");
    assert!(status == 503 && body.contains("definitions are not loaded, the store does not answer"), "{body}");
    assert!(sidecar.logged_port("ready for clients").is_none(), "as it was asked to");
    postgres.launch();
    sidecar.wait_ready();
    assert_eq!(sidecar.wire().ask("HGET player:1:session hp"), "$2\r\n99\r\n");
}

#[test]
fn a_store_that_goes_away_while_its_tables_are_looked_at_is_no_faulty_configuration() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let proxy = Proxy::to(postgres.port);
    let builder = demo(&redis, &postgres).expect(warnings::STORE_LATE).set("STORE__URL", postgres.url_at(proxy.port));
    let mut sidecar = builder.set("STORE__CONNECT_TIMEOUT", "300ms").set("LOG__LEVEL", "debug").spawn();
    // Every few milliseconds: between two questions, sooner or later.
    until("it has begun again often", || {
        proxy.cut();
        std::thread::sleep(Duration::from_millis(5));
        sidecar.log().matches("waiting for the store").count() > 10 || sidecar.has_ended()
    });
    sidecar.wait_ready();
    let mut wire = sidecar.wire();
    until("the store has arrived", || wire.ask("HGET player:1:session hp") == "$2\r\n99\r\n");
    assert!(!sidecar.log().contains("triggers are missing"), "{}", sidecar.log());
}

#[test]
fn a_restart_of_postgres_costs_no_client_an_error_for_long() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).expect(warnings::STORE_AWAY).start();
    let mut wire = sidecar.wire();
    for i in 1..=20 {
        wire.ask(&format!("HGET player:{i}:session hp"));
    }
    postgres.stop();
    postgres.launch();
    until("a miss loads", || wire.ask("HGET player:60:session hp").starts_with('$'));
}

#[test]
fn a_refused_query_is_an_error_for_its_key_alone() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).expect(&[warnings::LOAD_FAILED]);
    let config = "[[caches]]\nkey = \"bad:{id:int}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1m\"\nquery = \
        \"SELECT (100 / ($1::int - 5))::text AS v\"\n";
    let sidecar = builder.config(config).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("GET bad:6"), "$3\r\n100\r\n");
    for _ in 0..10 {
        let told = wire.ask("GET bad:5");
        assert!(told.contains("division by zero") && told.contains("'bad:{id:int}'"), "{told}");
    }
    assert_eq!(wire.ask("GET bad:7"), "$2\r\n50\r\n", "a refusal opens no breaker");
}

#[test]
fn types_of_postgres_become_text_as_documented() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE types (id uuid PRIMARY KEY, i int, big bigint, f float8, n numeric, b boolean, t text, j json, \
         jb jsonb, \
         at timestamptz, d date, a int[], x bytea, nothing text, more jsonb); \
         INSERT INTO types VALUES ('0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11', 1, 9007199254740993, 1.5, 10.50, true, \
         'a\"b', \
         '{ \"k\" : [1, 2.50] }', '{\"z\": 1, \"a\": \"x y\"}', '2026-01-02 03:04:05.5+00', '2026-01-02', '{1,2}', \
         '\\xdead', NULL, \
         '{\"extra\": \"e\", \"num\": 7, \"deep\": {\"a\": 1}, \"i\": \"hidden\", \"gone\": null}')",
    );
    let key = "k:0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11";
    let block = "[[caches]]\nkey = \"k:{id}\"\ntype = \"hash\"\ntable = \"types\"\noverflow = \"more\"\n";
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(block).expect(&[warnings::NO_TRIGGERS]);
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    let field = |wire: &mut crate::support::wire::Wire, name: &str| {
        let reply = wire.call(&["HGET", key, name]);
        String::from_utf8_lossy(&reply).split("\r\n").nth(1).unwrap_or_default().to_owned()
    };
    for (name, value) in [
        ("i", "1"),
        ("big", "9007199254740993"),
        ("f", "1.5"),
        ("n", "10.50"),
        ("b", "true"),
        ("t", "a\"b"),
        ("j", "{\"k\":[1,2.50]}"),
        ("jb", "{\"a\":\"x y\",\"z\":1}"),
        ("at", "2026-01-02T03:04:05.5+00:00"),
        ("d", "2026-01-02"),
        ("a", "[1,2]"),
        ("x", "\\xdead"),
        ("nothing", ""),
        ("extra", "e"),
        ("num", "7"),
        ("deep", "{\"a\":1}"),
        ("gone", ""),
        ("id", ""),
    ] {
        assert_eq!(field(&mut wire, name), value, "{name}");
    }
    // Another spelling of the same UUID is another key, which does not exist (hazard 29).
    assert_eq!(wire.ask("EXISTS k:0B6EF1C6-7AC9-4E5C-A9B7-0D5B9D0A7A11"), ":0\r\n");
    assert_eq!(wire.ask("EXISTS k:nonsense"), ":0\r\n");
    let picked = block.replace("overflow = \"more\"", "fields = [\"t\", \"at\"]\ntimestamps = \"epoch\"");
    let sidecar =
        Sidecar::builder().redis(&redis).postgres(&postgres).config(&picked).expect(&[warnings::NO_TRIGGERS]).start();
    assert_eq!(
        sidecar.wire().call(&["HGETALL", key]),
        b"*4\r\n$1\r\nt\r\n$3\r\na\"b\r\n$2\r\nat\r\n$12\r\n1767323045.5\r\n"
    );
}

#[test]
fn postgres_over_tls_is_verified_against_the_given_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let postgres = Postgres::start_with_tls(&authority.sign(folder.path(), "server"));
    assert!(Sidecar::builder().postgres(&postgres).execute(&["migrate", "--demo"]).status.success());
    let check = |url: String, ca_file: &str| {
        let done = Sidecar::builder().set("STORE__URL", url).set("STORE__CA_FILE", ca_file).execute(&["migrate"]);
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let url = |host: &str, rest: &str| format!("postgres://postgres@{host}:{}/postgres{rest}", postgres.port);
    let (done, told) = check(url("localhost", ""), &authority.file);
    assert!(done, "{told}");
    let (done, told) = check(url("localhost", "?sslmode=require"), &authority.file);
    assert!(done, "{told}");
    for (url, ca_file) in [
        // Nobody known vouches for it; somebody else does; it is another.
        (url("localhost", "?sslmode=require"), ""),
        (url("localhost", ""), &*Authority::new(folder.path(), "other").file),
        (url("127.0.0.1", ""), &*authority.file),
    ] {
        let (done, told) = check(url, ca_file);
        assert!(!done && told.contains("certificate"), "{told}");
    }
}
