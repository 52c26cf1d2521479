//! The application writes and deletes while its keys are copied.

use std::thread;

use super::tables::{Said, Tables};
use crate::support::redis::Redis;
use crate::support::until;

/// Inserts into the table wait until whoever holds this lock gives it back.
const GATE: &str = "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$; \
    CREATE TRIGGER gate BEFORE INSERT ON plains FOR EACH STATEMENT EXECUTE FUNCTION gate();";

/// Runs an import that waits at its insert, behind its reading of the keys, while `meanwhile` runs; what it says.
fn while_it_is_under_way(tables: &Tables, upstream: &str, meanwhile: impl FnOnce()) -> Said {
    let Tables::Postgres(postgres) = tables else { unreachable!("it has locks") };
    tables.sql(GATE);
    let mut session = postgres.session();
    session.run("SELECT pg_advisory_lock(42);");
    let builder = tables.builder(upstream);
    thread::scope(|scope| {
        let import = scope.spawn(|| builder.execute(&["import", "p:{id:int}"]));
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("the insert waits", || tables.sql(waiting) == "1");
        meanwhile();
        session.run("SELECT pg_advisory_unlock(42);");
        import.join().expect("it ends").into()
    })
}

#[test]
fn a_key_that_is_deleted_meanwhile_does_not_come_back() {
    let (tables, redis) = (Tables::postgres(), Redis::start());
    let mut wire = redis.wire();
    for id in 1..=9 {
        wire.ask(&format!("HSET p:{id} f a"));
    }
    let told = while_it_is_under_way(&tables, &redis.url(), || {
        redis.wire().ask("DEL p:3 p:4");
    });
    told.expect(0, &["copied 7", "vanished 2", "compared and equal 7", "different 0"]);
    assert_eq!(tables.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM plains"), "1,2,5,6,7,8,9");
}

/// What is taken back, because its key was deleted, may be there again by then.
#[test]
fn a_key_that_is_deleted_and_made_anew_meanwhile_is_copied_as_it_is_now() {
    let (tables, redis) = (Tables::postgres(), Redis::start());
    let Tables::Postgres(postgres) = &tables else { unreachable!("it has locks") };
    tables.sql(
        "CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         PERFORM pg_advisory_xact_lock(43); RETURN OLD; END $$; \
         CREATE TRIGGER back BEFORE DELETE ON plains FOR EACH STATEMENT EXECUTE FUNCTION back();",
    );
    let mut back = postgres.session();
    back.run("SELECT pg_advisory_lock(43);");
    let mut wire = redis.wire();
    for id in 1..=9 {
        wire.ask(&format!("HSET p:{id} f a"));
    }
    let told = thread::scope(|scope| {
        scope.spawn(|| {
            let waiting =
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%DELETE%'";
            until("the row is about to be taken back", || tables.sql(waiting) == "1");
            wire.ask("HSET p:3 f anew");
            back.run("SELECT pg_advisory_unlock(43);");
        });
        while_it_is_under_way(&tables, &redis.url(), || {
            redis.wire().ask("DEL p:3");
        })
    });
    told.expect(0, &["copied 9", "there already 0", "vanished 1", "compared and equal 9", "different 0"]);
    assert_eq!(tables.sql("SELECT f FROM plains WHERE id = 3"), "anew");
}

/// A deadlock, or a trigger that asks for patience, is over at another time.
#[test]
fn a_key_that_the_store_does_not_take_at_the_moment_is_tried_again() {
    let (tables, redis) = (Tables::postgres(), Redis::start());
    tables.sql(
        "CREATE SEQUENCE asked; \
         CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.id = 3 AND nextval('asked') < 9 THEN \
         RAISE EXCEPTION 'not now' USING ERRCODE = 'deadlock_detected'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER later BEFORE INSERT ON plains FOR EACH ROW EXECUTE FUNCTION later();",
    );
    let mut wire = redis.wire();
    for id in 1..=4 {
        wire.ask(&format!("HSET p:{id} f a"));
    }
    let told: Said = tables.builder(&redis.url()).execute(&["import", "p:{id:int}"]).into();
    told.expect(0, &["copied 4", "refused 0", "compared and equal 4"]);
}

/// Who has lost everything has deleted nothing: the rows that were inserted are all that is left.
#[test]
fn an_upstream_that_comes_back_empty_takes_no_row_away() {
    let (tables, mut redis) = (Tables::postgres(), Redis::start());
    let mut wire = redis.wire();
    for id in 1..=9 {
        wire.ask(&format!("HSET p:{id} f a"));
    }
    let url = redis.url();
    let told = while_it_is_under_way(&tables, &url, || {
        redis.kill();
        redis.launch();
    });
    assert_eq!(tables.sql("SELECT count(*) FROM plains WHERE f = 'a'"), "9", "{}{}", told.out, told.err);
    assert!(told.err.contains("another process than the one that they were read from"), "{}", told.err);
}

#[test]
fn a_key_that_is_changed_meanwhile_is_looked_at_again_and_listed_by_its_field() {
    let (tables, redis) = (Tables::postgres(), Redis::start());
    let mut wire = redis.wire();
    for id in 1..=9 {
        wire.ask(&format!("HSET p:{id} f a n 1"));
    }
    let told = while_it_is_under_way(&tables, &redis.url(), || {
        redis.wire().ask("HSET p:3 f secretly");
    });
    told.expect(1, &["copied 9", "compared and equal 8", "different 1"]);
    let line = "different: \"p:3\": f: the upstream has 8 bytes, the store 1, and they differ";
    told.expect(1, &[line]);
    assert!(!told.out.contains("secretly"), "{}", told.out);
}

#[test]
fn a_row_that_the_application_makes_meanwhile_wins() {
    let (tables, redis) = (Tables::postgres(), Redis::start());
    let mut wire = redis.wire();
    for id in 1..=9 {
        wire.ask(&format!("HSET p:{id} f a"));
    }
    // Made before the insert begins, and behind the look whether the store has a row.
    let told = while_it_is_under_way(&tables, &redis.url(), || {
        tables.sql("SET session_replication_role = replica; INSERT INTO plains (id, f) VALUES (5, 'mine')");
    });
    told.expect(0, &["copied 8", "there already 1", "compared and equal 8", "different 0"]);
    assert_eq!(tables.sql("SELECT f FROM plains WHERE id = 5"), "mine");
}

/// Neither a store nor an upstream that restarts ends it.
#[test]
fn it_goes_on_when_a_server_has_restarted() {
    let (tables, mut redis) = (Tables::postgres(), Redis::with(&["--appendonly", "yes", "--appendfsync", "always"]));
    let mut wire = redis.wire();
    for id in 1..=2000 {
        wire.ask(&format!("HSET p:{id} f a{id}"));
    }
    let Tables::Postgres(postgres) = &tables else { return };
    let copied = || tables.sql("SELECT count(*) FROM plains").parse::<u32>().expect("a number");
    let builder = tables.builder(&redis.url());
    let told: Said = thread::scope(|scope| {
        let import = scope.spawn(move || builder.execute(&["import", "p:{id:int}", "--batch", "50", "--rate", "1000"]));
        until("some are copied", || copied() > 100);
        postgres.stop();
        postgres.launch();
        let before = copied();
        until("it goes on", || copied() > before);
        redis.kill();
        redis.launch();
        import.join().expect("it ends").into()
    });
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert_eq!(tables.sql("SELECT count(*) FROM plains WHERE f = 'a' || id"), "2000");
}
