//! Changes of Postgres, whoever makes them, and what happens when their notices cannot come.

use std::time::Duration;

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, demo};
use crate::support::until;
use crate::support::warnings;

fn feed_is_up(sidecar: &Sidecar) {
    until("the change feed is up", || metric(sidecar, "hearthside_change_feed_up") == 1.0);
}

#[test]
fn an_update_by_psql_is_seen_within_50_ms() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("LINDEX player:1:inventory 0").contains("\"quantity\":1"));
    let mut fastest = Duration::MAX;
    for quantity in 100..105 {
        postgres
            .sql(&format!("UPDATE inventory_items SET quantity = {quantity} WHERE character_id = 1 AND position = 0"));
        let shown = format!("\"quantity\":{quantity}");
        fastest =
            fastest.min(until("the new quantity shows", || wire.ask("LINDEX player:1:inventory 0").contains(&shown)));
    }
    assert!(fastest < Duration::from_millis(50), "{fastest:?}");
}

#[test]
fn moving_an_item_changes_both_lists() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("LLEN player:1:inventory"), ":8\r\n");
    assert_eq!(wire.ask("LLEN player:2:inventory"), ":16\r\n");
    postgres.sql("UPDATE inventory_items SET character_id = 2 WHERE character_id = 1 AND position = 3");
    until("the item left", || wire.ask("LLEN player:1:inventory") == ":7\r\n");
    until("the item came", || wire.ask("LLEN player:2:inventory") == ":17\r\n");
}

#[test]
fn inserts_deletes_truncate_and_mass_updates_are_seen() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).set("CACHE__NEGATIVE_TTL", "1h").start();
    let mut wire = sidecar.wire();
    // An absent key is remembered as absent, and an insert ends that at once (hazard 11).
    assert_eq!(wire.ask("LLEN player:21:inventory"), ":0\r\n");
    postgres.sql(
        "INSERT INTO inventory_items (character_id, item_id, quantity, equipped, position) VALUES (21, \
        'apple', 1, false, 0)",
    );
    until("the insert shows", || wire.ask("LLEN player:21:inventory") == ":1\r\n");
    postgres.sql("DELETE FROM inventory_items WHERE character_id = 21");
    until("the delete shows", || wire.ask("LLEN player:21:inventory") == ":0\r\n");
    assert_eq!(wire.ask("HGET player:3:session hp"), "$2\r\n97\r\n");
    postgres.sql("UPDATE sessions SET hp = 1");
    until("the update of all rows shows", || wire.ask("HGET player:3:session hp") == "$1\r\n1\r\n");
    postgres.sql("INSERT INTO characters (character_id, name) SELECT i, 'many' FROM generate_series(1000, 4000) AS i");
    postgres.sql(
        "INSERT INTO sessions SELECT i, 'w', true, 'ruins', 1, 1, 1, 1, 1, 1, NULL, false, NULL, NULL FROM \
         generate_series(1000, 4000) AS i",
    );
    until("a new session shows", || wire.ask("HGET player:1000:session hp") == "$1\r\n1\r\n");
    // More keys than one statement tells one by one (hazard 8).
    postgres.sql("UPDATE sessions SET hp = 2 WHERE character_id >= 1000");
    until("the mass update shows", || wire.ask("HGET player:1000:session hp") == "$1\r\n2\r\n");
    assert_eq!(wire.ask("LLEN player:1:inventory"), ":8\r\n");
    postgres.sql("TRUNCATE inventory_items");
    until("the truncate shows", || wire.ask("LLEN player:1:inventory") == ":0\r\n");
    assert!(metric(&sidecar, "hearthside_invalidations_total{reason=\"mapping\"}") >= 2.0);
}

#[test]
fn a_change_of_a_joined_table_concerns_every_key() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("LINDEX player:1:inventory 0").contains("\"name\":\"Apple\""));
    postgres.sql("UPDATE items SET name = 'Golden Apple' WHERE item_id = 'apple'");
    until("the list shows it", || wire.ask("LINDEX player:1:inventory 0").contains("Golden Apple"));
    until("the definition shows it", || wire.ask("HGET item:apple:def name") == "$12\r\nGolden Apple\r\n");
}

#[test]
fn a_cut_feed_empties_the_cache_when_it_is_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET player:4:session hp"), "$2\r\n96\r\n");
    // The connection dies and, in the same moment, a change is made that it would have told.
    postgres.sql(
        "ALTER TABLE sessions DISABLE TRIGGER USER; UPDATE sessions SET hp = 9 WHERE character_id = 4; \
         ALTER TABLE sessions ENABLE TRIGGER USER; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'",
    );
    until("the missed change shows", || wire.ask("HGET player:4:session hp") == "$1\r\n9\r\n");
    assert!(metric(&sidecar, "hearthside_gaps_total") >= 1.0);
    feed_is_up(&sidecar);
}

#[test]
fn a_feed_that_is_connected_again_trusts_no_heartbeat_but_its_own() {
    // Of two machines that go on from one memory at most one keeps the connection. By the other's clock, which goes
    // before or behind, it would vouch for what it has not seen.
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres).expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let ears = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%hearthside_heartbeat%'";
    let before = postgres.sql(&format!("SELECT query {ears}"));
    assert!(before.contains("hearthside_heartbeat_"), "{before}");
    postgres.sql(&format!("SELECT pg_terminate_backend(pid) {ears}"));
    until("the gap is over", || metric(&sidecar, "hearthside_gaps_total") >= 1.0);
    feed_is_up(&sidecar);
    until("it listens again", || !postgres.sql(&format!("SELECT query {ears}")).is_empty());
    assert_ne!(postgres.sql(&format!("SELECT query {ears}")), before);
}

#[test]
fn what_was_loaded_while_the_feed_was_down_is_forgotten_when_it_is_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let proxy = Proxy::to(postgres.port);
    let sidecar = demo(&redis, &postgres)
        .set("STORE__URL", postgres.url_at(proxy.port))
        .set("CACHE__MAX_STALENESS", "1h")
        // Whoever needs a new connection meanwhile does not get one.
        .expect(warnings::STORE_AWAY)
        .start();
    let mut wire = sidecar.wire();
    wire.ask("HGET player:1:session hp");
    proxy.refuse_new(true);
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    until("the feed is down", || metric(&sidecar, "hearthside_change_feed_up") == 0.0);
    until("the old value is loaded", || wire.ask("HGET player:8:session hp") == "$2\r\n92\r\n");
    postgres.sql("UPDATE sessions SET hp = 3 WHERE character_id = 8");
    assert_eq!(wire.ask("HGET player:8:session hp"), "$2\r\n92\r\n", "nobody told");
    proxy.refuse_new(false);
    until("the new value shows", || wire.ask("HGET player:8:session hp") == "$1\r\n3\r\n");
}

#[test]
fn a_half_open_feed_is_a_gap_not_a_calm() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let proxy = Proxy::to(postgres.port);
    let sidecar = demo(&redis, &postgres)
        .set("STORE__URL", postgres.url_at(proxy.port))
        .set("STORE__HEARTBEAT_INTERVAL", "100ms")
        .set("STORE__HEARTBEAT_TIMEOUT", "400ms")
        .set("STORE__CONNECT_TIMEOUT", "400ms")
        .set("STORE__QUERY_TIMEOUT", "400ms")
        .set("CACHE__MAX_STALENESS", "600ms")
        .expect(&[
            warnings::FEED_LOST,
            warnings::FEED_CLOSED,
            warnings::LOAD_FAILED,
            warnings::STORE_SILENT,
            warnings::STORE_HEALTH,
            warnings::DEFINITIONS_NOT_LOADED,
        ])
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET player:5:session hp"), "$2\r\n95\r\n");
    proxy.hold(true);
    postgres.sql("UPDATE sessions SET hp = 8 WHERE character_id = 5");
    // No value older than max_staleness: sooner or later the old one is refused, never served for ever.
    until("the old value is not served", || wire.ask("HGET player:5:session hp") != "$2\r\n95\r\n");
    proxy.hold(false);
    until("the new value shows", || wire.ask("HGET player:5:session hp") == "$1\r\n8\r\n");
    assert!(metric(&sidecar, "hearthside_gaps_total") >= 1.0);
}

#[test]
fn a_load_that_a_change_passed_never_fills_the_cache() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres);
    // Reads what is there, then sleeps: the slowest load there can be between a change and its publication.
    let config = "[[caches]]\nkey = \"slow:{character_id:int}\"\ntype = \"string\"\nvalue = \"hp\"\nttl = \"1h\"\n\
                  query = \"SELECT hp FROM (SELECT hp, pg_sleep(1) FROM sessions WHERE character_id = $1 OFFSET 0) AS \
                  s\"\n\
                  watch = [{ table = \"sessions\" }]\n";
    let builder = builder.config(config);
    assert!(builder.execute(&["triggers", "--install"]).status.success());
    let sidecar = builder.start();
    let (mut early, mut late) = (sidecar.wire(), sidecar.wire());
    early.send(&crate::support::wire::line("GET slow:6"));
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1)%' AND state = 'active' AND \
        pid <> pg_backend_pid()";
    until("the load runs", || postgres.sql(sleeping) == "1");
    postgres.sql("UPDATE sessions SET hp = 7 WHERE character_id = 6");
    let invalidated = "hearthside_invalidations_total{reason=\"change\"}";
    until("the change has come", || metric(&sidecar, invalidated) >= 1.0);
    // A reader after the change must not join the load that began before it (hazard 2).
    assert_eq!(late.ask("GET slow:6"), "$1\r\n7\r\n");
    assert_eq!(String::from_utf8_lossy(&early.frame()), "$2\r\n94\r\n", "it asked before the change");
    assert_eq!(early.ask("GET slow:6"), "$1\r\n7\r\n", "the old load has not filled the cache");
}

#[test]
fn a_read_never_shows_less_than_one_before_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE things (name TEXT PRIMARY KEY, v TEXT); INSERT INTO things VALUES ('the-key', 'a')");
    let proxy = Proxy::to(postgres.port);
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres);
    let builder =
        builder.config("[[caches]]\nkey = \"thing:{name}\"\ntype = \"hash\"\ntable = \"things\"\n").migrated();
    let builder = builder.set("STORE__QUERY_TIMEOUT", "30s").set("VERIFY__SAMPLE", "0");
    let sidecar = builder.set("STORE__URL", postgres.url_at(proxy.port)).start();
    feed_is_up(&sidecar);
    let (mut early, mut late) = (sidecar.wire(), sidecar.wire());
    let load = proxy.trap("the-key");
    early.send(&crate::support::wire::line("HGET thing:the-key v"));
    until("the load is on its way", || load.has_caught());
    postgres.sql("UPDATE things SET v = 'b'");
    let invalidated = "hearthside_invalidations_total{reason=\"change\"}";
    until("the change has come", || metric(&sidecar, invalidated) >= 1.0);
    late.send(&crate::support::wire::line("HGET thing:the-key v"));
    // Its notice is long in coming.
    postgres.sql("SET session_replication_role = replica; UPDATE things SET v = 'c'");
    load.release();
    assert_eq!(String::from_utf8_lossy(&early.frame()), "$1\r\nc\r\n", "it has asked late");
    assert_eq!(early.ask("HGET thing:the-key v"), "$1\r\nc\r\n", "and nobody sees less after that");
    assert_eq!(String::from_utf8_lossy(&late.frame()), "$1\r\nc\r\n");
}

#[test]
fn missing_triggers_are_told_and_bounded_by_max_staleness() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres);
    postgres.sql("ALTER TABLE sessions DISABLE TRIGGER USER");
    let told = builder.execute(&["check", "--connect"]);
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.code() == Some(2) && text.contains("change trigger missing on sessions"), "{text}");
    let sidecar = builder.set("CACHE__MAX_STALENESS", "300ms").expect(&[warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET player:7:session hp"), "$2\r\n93\r\n");
    postgres.sql("UPDATE sessions SET hp = 1 WHERE character_id = 7");
    until("the change shows", || wire.ask("HGET player:7:session hp") == "$1\r\n1\r\n");
    assert!(sidecar.log().contains("change triggers are missing"));
}

#[test]
fn keys_with_any_text_are_told_whole() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE things (\"Na'me\" text PRIMARY KEY, v text)");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(
        "[[caches]]\nkey = \"th'ing:{name}:x\"\ntype = \"hash\"\ntable = \"things\"\nkey_columns = { name = \"Na'me\" \
         }\n",
    );
    assert!(builder.execute(&["migrate"]).status.success());
    let installed = builder.execute(&["triggers", "--install"]);
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    for name in [
        "plain",
        "two words",
        "quo\"te",
        "apo'strophe",
        "back\\slash",
        "line\nbreak",
        "ünïcode ⌘",
        &"long".repeat(1000),
    ] {
        let key = format!("th'ing:{name}:x");
        assert_eq!(wire.call(&["HGET", &key, "v"]), b"$-1\r\n", "{name}");
        postgres.sql(&format!("INSERT INTO things VALUES ('{}', 'new')", name.replace('\'', "''")));
        until("the row shows", || wire.call(&["HGET", &key, "v"]) == b"$3\r\nnew\r\n");
    }
}
