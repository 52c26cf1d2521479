//! `store.feed = "auto"`: which feed is taken, what says so, and what happens when a stream cannot be had.

use super::{logical, over, shows};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::Wire;
use crate::support::{until, warnings};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";

/// Takes the only slot from whoever has it.
const TAKE: &str = "DO $$ BEGIN LOOP BEGIN \
    PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots; \
    PERFORM pg_create_logical_replication_slot('somebodys', 'pgoutput'); EXIT; \
    EXCEPTION WHEN configuration_limit_exceeded THEN PERFORM pg_sleep(0.001); END; END LOOP; END $$";

/// One that has a single slot to give.
fn with_one_slot() -> Postgres {
    let postgres = Postgres::start_with("-c wal_level=logical -c max_replication_slots=1");
    postgres.sql(TABLE);
    postgres
}

/// With the publication and, if wanted, triggers too.
fn auto(redis: &Redis, postgres: &Postgres, config: &str, has_triggers: bool) -> Builder {
    let mut builder = Sidecar::builder().redis(redis).postgres(postgres).config(config);
    if has_triggers {
        builder = builder.set("STORE__FEED", "notify").migrated();
    }
    let builder = builder.set("STORE__FEED", "replication").migrated().set("STORE__FEED", "auto");
    builder.set("CACHE__NEGATIVE_TTL", "1h").set("CACHE__MAX_STALENESS", "1h")
}

fn says(wire: &mut Wire, feed: &str, why: &str) {
    let line = format!("hearthside_change_feed:{feed}\r\nhearthside_change_feed_why:");
    until(&format!("the feed is {feed}, because {why}"), || {
        let info = wire.ask("INFO hearthside");
        info.split(&line).nth(1).is_some_and(|rest| rest.lines().next().is_some_and(|line| line.contains(why)))
    });
}

#[test]
fn notices_take_the_place_of_a_stream_that_cannot_be_had_and_it_comes_back() {
    let (redis, postgres) = (Redis::start(), with_one_slot());
    let builder = auto(&redis, &postgres, &over("t", "t", "write = \"through\""), true);
    let sidecar = builder.expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let mut wire = sidecar.wire();
    says(&mut wire, "replication", "the server and the role allow it");
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql(TAKE);
    says(&mut wire, "notify", "no replication slot is free: raise max_replication_slots");
    until("the feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
    postgres.sql("UPDATE t SET v = 'b'");
    shows(&mut wire, "HGET t:1 v", "$1\r\nb\r\n");
    // A sidecar's own writes are known for its own by either feed.
    let loads = || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    let before = loads();
    assert_eq!(wire.ask("HSET t:1 v mine"), ":0\r\n");
    assert_eq!(wire.ask("HGET t:1 v"), "$4\r\nmine\r\n");
    assert_eq!(loads(), before);
    // Nothing is given up for the stream; it is taken when the feed has to be connected again.
    postgres.sql("SELECT pg_drop_replication_slot('somebodys')");
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
    says(&mut wire, "replication", "the server and the role allow it");
    until("the feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
    postgres.sql("SET session_replication_role = replica; UPDATE t SET v = 'c'");
    shows(&mut wire, "HGET t:1 v", "$1\r\nc\r\n");
}

#[test]
fn a_start_without_a_free_slot_or_sender_is_one_with_notices() {
    let (redis, postgres) = (Redis::start(), with_one_slot());
    let builder = auto(&redis, &postgres, &over("t", "t", ""), true);
    for (options, why) in [
        ("-c wal_level=logical -c max_replication_slots=0", "no replication slot is free"),
        ("-c wal_level=logical -c max_wal_senders=0", "no sender is free for replication"),
    ] {
        let other = Postgres::start_with(options);
        other.sql(TABLE);
        let builder = auto(&redis, &other, &over("t", "t", ""), true);
        let sidecar = builder.start();
        let mut wire = sidecar.wire();
        says(&mut wire, "notify", why);
        assert!(sidecar.log().contains("changes are told by triggers, not by replication"));
        assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
        other.sql("UPDATE t SET v = 'b'");
        shows(&mut wire, "HGET t:1 v", "$1\r\nb\r\n");
    }
    let check = builder.execute(&["check", "--connect"]);
    let told = String::from_utf8([check.stdout, check.stderr].concat()).expect("text");
    let line = "store.feed = \"auto\" takes logical replication: the server and the role allow it; when it cannot be had, \
                triggers tell them";
    assert!(told.contains(line), "{told}");
}

#[test]
fn where_triggers_do_not_tell_everything_the_stream_is_tried_again() {
    let (redis, postgres) = (Redis::start(), with_one_slot());
    let builder = auto(&redis, &postgres, &over("t", "t", ""), false);
    let sidecar = builder.expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql(TAKE);
    until("no stream is to be had", || sidecar.log().contains("all replication slots are in use"));
    postgres.sql("UPDATE t SET v = 'b'");
    postgres.sql("SELECT pg_drop_replication_slot('somebodys')");
    shows(&mut wire, "HGET t:1 v", "$1\r\nb\r\n");
    says(&mut wire, "replication", "the server and the role allow it");
}

#[test]
fn a_publication_that_tells_less_than_triggers_do_is_not_taken() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql("CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'a')");
    let builder = auto(&redis, &postgres, &(over("t", "t", "") + &over("u", "u", "")), true);
    postgres.sql("ALTER PUBLICATION hearthside DROP TABLE u");
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    says(&mut wire, "notify", "not every change is told of u: it is not in the publication hearthside");
    assert_eq!(wire.ask("HGET u:1 v"), "$1\r\na\r\n");
    postgres.sql("UPDATE u SET v = 'b'");
    shows(&mut wire, "HGET u:1 v", "$1\r\nb\r\n");
}

#[test]
fn a_transaction_that_stays_open_does_not_keep_changes_from_being_told() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let builder = auto(&redis, &postgres, &over("t", "t", ""), true);
    let mut open = postgres.session();
    open.run("BEGIN; INSERT INTO t VALUES (2, 'open');");
    let sidecar = builder.expect(&[warnings::FEED_CLOSED]).start();
    let mut wire = sidecar.wire();
    says(&mut wire, "notify", "a transaction that was open before it does not end");
    until("the feed is up", || metric(&sidecar, "hearthside_change_feed_up") == 1.0);
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql("UPDATE t SET v = 'b' WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", "$1\r\nb\r\n");
    open.run("ROLLBACK;");
}
