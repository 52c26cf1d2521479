//! What sessions begin with, whatever the role's settings become and whatever others leave in a session of a pooler.

use crate::support::admin::metric;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::{Postgres, Session};
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

const CONFIG: &str = r#"
[[caches]]
key = "h:{id:int}"
type = "hash"
table = "hero"
write = "through"
deferred = ["seen"]

[[caches]]
key = "q:{id:int}"
type = "hash"
query = "SELECT v FROM hero WHERE id = $1"
watch = [ { table = "hero", key = { id = "id" } } ]
"#;

const TABLES: &str = "CREATE SCHEMA tenant2; CREATE TABLE hero (id INT PRIMARY KEY, v TEXT, seen INT); \
    CREATE TABLE tenant2.hero (LIKE hero INCLUDING ALL); \
    INSERT INTO hero SELECT i, 'public', 0 FROM generate_series(1, 9) AS i; \
    INSERT INTO tenant2.hero SELECT i, 'tenant2', 0 FROM generate_series(1, 9) AS i; \
    CREATE ROLE nobody; GRANT nobody TO postgres";

const OF_TENANT2: &str = "SELECT count(*) FROM tenant2.hero WHERE v <> 'tenant2' OR seen <> 0";

fn store() -> Postgres {
    let postgres = Postgres::start();
    postgres.sql(TABLES);
    postgres
}

fn over(redis: &Redis, postgres: &Postgres) -> Builder {
    let builder = Sidecar::builder().redis(redis).config(CONFIG).set("STORE__URL", postgres.url());
    builder.set("JOURNAL__FLUSH_INTERVAL", "20ms").migrated()
}

/// Loads, writes, deferred writes and queries of the rows from `first` on concern the schema `public` alone.
fn public_is_meant(sidecar: &Sidecar, postgres: &Postgres, first: u32) {
    let (mut wire, second) = (sidecar.wire(), first + 1);
    assert_eq!(wire.ask(&format!("HSET h:{first} v mine")), ":0\r\n");
    assert_eq!(wire.ask(&format!("HGET h:{second} v")), "$6\r\npublic\r\n");
    assert_eq!(wire.ask(&format!("HGET q:{second} v")), "$6\r\npublic\r\n");
    assert_eq!(wire.ask(&format!("HSET h:{second} seen 5")), ":0\r\n");
    let saved = format!("SELECT seen FROM public.hero WHERE id = {second}");
    until("it is saved", || postgres.sql(&saved) == "5" || postgres.sql(OF_TENANT2) != "0");
    assert_eq!(postgres.sql(&format!("SELECT v FROM public.hero WHERE id = {first}")), "mine");
    assert_eq!(postgres.sql(OF_TENANT2), "0");
}

#[test]
fn what_others_leave_in_a_lent_session_changes_no_table() {
    let (redis, postgres) = (Redis::start(), store());
    let pooler = PgBouncer::start(&postgres, "transaction");
    let pooled = over(&redis, &postgres).set("STORE__FEED_URL", postgres.url());
    let sidecar = pooled.set("STORE__URL", postgres.url_at(pooler.port)).set("STORE__POOLER", "transaction").start();
    for (i, left) in ["search_path = tenant2, public", "role = nobody", "row_security = off"].iter().enumerate() {
        let mut others: Vec<Session> = (0..3).map(|_| postgres.session_at(pooler.port)).collect();
        others.iter_mut().for_each(|other| other.run("BEGIN;"));
        others.iter_mut().for_each(|other| other.run(&format!("SET {left}; COMMIT;")));
        public_is_meant(&sidecar, &postgres, u32::try_from(i).expect("few") * 3 + 1);
    }
}

#[test]
fn a_start_behind_a_pooler_takes_the_names_of_the_server_itself() {
    let (redis, postgres) = (Redis::start(), store());
    let pooler = PgBouncer::start(&postgres, "transaction");
    let pooled = over(&redis, &postgres).set("STORE__FEED_URL", postgres.url());
    let mut other = postgres.session_at(pooler.port);
    other.run("SET search_path = tenant2, public;");
    let sidecar = pooled.set("STORE__URL", postgres.url_at(pooler.port)).set("STORE__POOLER", "transaction").start();
    public_is_meant(&sidecar, &postgres, 1);
}

#[test]
fn a_new_connection_reads_the_table_that_was_planned() {
    let (redis, postgres) = (Redis::start(), store());
    let builder = over(&redis, &postgres).set("STORE__SCHEMA_INTERVAL", "1h");
    let sidecar = builder.expect(warnings::STORE_AWAY).expect(&[warnings::DEFERRED_WAIT]).start();
    public_is_meant(&sidecar, &postgres, 1);
    postgres.sql("ALTER ROLE postgres SET search_path = tenant2, public");
    postgres.sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE application_name = 'hearthside' AND query NOT LIKE '%pg_notify%' AND query NOT LIKE 'LISTEN%'",
    );
    until("the store is there", || sidecar.wire().ask("HGET h:9 v").starts_with('$'));
    public_is_meant(&sidecar, &postgres, 4);
}

#[test]
fn another_search_path_of_the_role_is_followed() {
    let (redis, postgres) = (Redis::start(), store());
    let sidecar = over(&redis, &postgres).expect(&[warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HMGET h:1 v"), "*1\r\n$6\r\npublic\r\n");
    postgres.sql("ALTER ROLE postgres SET search_path = tenant2, public");
    for key in ["h:1", "q:1"] {
        until("the other table is read", || wire.ask(&format!("HGET {key} v")) == "$7\r\ntenant2\r\n");
    }
    postgres.sql("ALTER ROLE postgres RESET search_path");
    for key in ["h:1", "q:1"] {
        until("the first table is read again", || wire.ask(&format!("HGET {key} v")) == "$6\r\npublic\r\n");
    }
}

#[test]
fn a_session_that_waits_for_changes_is_not_ended_as_idle() {
    let (redis, postgres) = (Redis::start(), store());
    postgres.sql("ALTER ROLE postgres SET idle_session_timeout = '1s'");
    let sidecar = over(&redis, &postgres).start();
    let listening = "SELECT now() - backend_start > '3 s' FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    until("it has waited for longer", || {
        postgres.sql(listening) == "t" || metric(&sidecar, "hearthside_gaps_total") > 0.0
    });
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
}

/// A commit goes on for a minute when `v` is `slow`.
const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.v = 'slow' THEN \
    PERFORM pg_sleep(60); END IF; RETURN NULL; END $$; \
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON hero DEFERRABLE INITIALLY DEFERRED \
    FOR EACH ROW EXECUTE FUNCTION slow()";

fn a_commit_that_is_given_up_ends(builder: Builder, postgres: &Postgres) {
    postgres.sql(SLOW);
    let builder = builder.set("STORE__QUERY_TIMEOUT", "500ms").set("STORE__CONNECT_TIMEOUT", "500ms");
    let sidecar = builder.expect(warnings::STORE_AWAY).start();
    assert!(sidecar.wire().ask("HSET h:1 v slow").starts_with("-"));
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'";
    until("nothing of it runs in the server", || postgres.sql(busy) == "0");
    assert_eq!(postgres.sql("SELECT v FROM public.hero WHERE id = 1"), "public");
}

#[test]
fn a_commit_that_was_given_up_ends_in_the_server() {
    let (redis, postgres) = (Redis::start(), store());
    a_commit_that_is_given_up_ends(over(&redis, &postgres), &postgres);
}

#[test]
fn a_commit_that_was_given_up_behind_a_pooler_ends_in_the_server() {
    let (redis, postgres) = (Redis::start(), store());
    let pooler = PgBouncer::start(&postgres, "transaction");
    let pooled = over(&redis, &postgres).set("STORE__FEED_URL", postgres.url()).set("STORE__POOLER", "transaction");
    a_commit_that_is_given_up_ends(pooled.set("STORE__URL", postgres.url_at(pooler.port)), &postgres);
}
