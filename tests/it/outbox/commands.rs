//! What makes the outbox, what is missing of it, and that other feeds go on beside it.

use super::{LOCK, MAPPING, Reads, TABLE, bulk, over, shows};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};
use crate::triggers::text;

const IS_THERE: &str =
    "SELECT count(*) FROM pg_class WHERE relnamespace = 'hearthside'::regnamespace AND relname LIKE 'outbox%'";

#[test]
fn two_sidecars_with_different_feeds_are_both_told() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let notify = Sidecar::builder().redis(&redis).postgres(&postgres).config(MAPPING).migrated();
    assert_eq!(postgres.sql(IS_THERE), "0");
    let outbox = over(&redis, &postgres, MAPPING);
    let set = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass";
    assert_eq!(postgres.sql(set), "8");
    let beside = text(&outbox.execute(&["check", "--connect"]));
    assert!(beside.contains("or another set does the same"), "{beside}");
    let (notify, outbox) = (notify.set("CACHE__MAX_STALENESS", "1h").start(), outbox.start());
    let (mut one, mut two) = (notify.wire(), outbox.wire());
    let mut reads = Reads::begin(&postgres);
    for value in ["b", "c", "d"] {
        postgres.sql(&format!("UPDATE t SET v = '{value}' WHERE id = 1"));
        shows(&mut one, "HGET t:1 v", &bulk(value));
        shows(&mut two, "HGET t:1 v", &bulk(value));
        reads.end();
        reads = Reads::begin(&postgres);
    }
}

#[test]
fn the_set_of_another_feed_does_not_do() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(MAPPING).migrated();
    let told = builder.execute_with("STORE__FEED", "outbox", &["check", "--connect"]);
    assert!(text(&told).contains("change trigger missing on t"), "{}", text(&told));
    assert!(text(&told).contains("store.feed: there is no outbox: `hearthside migrate` makes it"), "{}", text(&told));
    // The other way round.
    drop(over(&redis, &postgres, MAPPING));
    let outbox = over(&redis, &postgres, MAPPING);
    let pruned = outbox.execute(&["triggers", "--prune"]);
    assert!(pruned.status.success(), "{}", text(&pruned));
    let told = builder.execute(&["check", "--connect"]);
    assert!(told.status.code() == Some(2) && text(&told).contains("change trigger missing on t"), "{}", text(&told));
}

#[test]
fn what_is_printed_is_what_is_made_and_removed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(MAPPING).set("STORE__FEED", "outbox");
    assert!(builder.execute_with("STORE__FEED", "notify", &["migrate"]).status.success());
    for _ in 0..2 {
        let printed = builder.execute(&["triggers"]);
        postgres.sql(&String::from_utf8(printed.stdout).expect("UTF-8"));
    }
    assert!(text(&builder.execute(&["triggers", "--install"])).contains("nothing to do"));
    let checked = builder.execute(&["check", "--connect"]);
    assert!(checked.status.success(), "{}", text(&checked));
    let removed = text(&builder.execute(&["triggers", "--remove"]));
    assert!(removed.contains("dropped the outbox"), "{removed}");
    assert_eq!(postgres.sql(IS_THERE), "0");
    assert!(text(&builder.execute(&["triggers", "--install"])).contains("made the outbox"));
    assert!(builder.execute(&["check", "--connect"]).status.success());
}

#[test]
fn a_role_needs_what_grants_prints() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    postgres.sql("CREATE ROLE app LOGIN");
    let owner = over(&redis, &postgres, MAPPING);
    let url = postgres.url().replace("postgres@", "app@");
    let builder = Sidecar::builder().redis(&redis).config(MAPPING).set("STORE__FEED", "outbox");
    let builder = builder.set("STORE__URL", url).set("CACHE__MAX_STALENESS", "1h");
    let told = text(&builder.execute(&["check", "--connect"]));
    assert!(told.contains("the role app may not read the outbox: GRANT SELECT ON hearthside.outbox_0"), "{told}");
    assert!(told.contains("the role app may not clean the outbox: GRANT EXECUTE ON FUNCTION"), "{told}");
    let grants = owner.execute(&["triggers", "--grants", "app"]);
    postgres.sql(&String::from_utf8(grants.stdout).expect("UTF-8"));
    let told = builder.execute(&["check", "--connect"]);
    assert!(told.status.success(), "{}", text(&told));
    let sidecar = builder.expect(&[warnings::FEED_LOST, warnings::FEED_CLOSED]).start();
    let mut wire = sidecar.wire();
    let mut reads = postgres.session();
    reads.run(&format!("SELECT pg_advisory_lock({LOCK}); NOTIFY hearthside_outbox, 'awake';"));
    assert_eq!(wire.ask("HGET t:1 v"), bulk("a"));
    postgres.sql("UPDATE t SET v = 'b' WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", &bulk("b"));
    // What is taken away shows at once.
    postgres.sql("REVOKE SELECT ON hearthside.outbox_1 FROM app");
    until("it is a gap", || sidecar.log().contains("the outbox cannot be read"));
    until("it says why", || sidecar.log().contains("GRANT SELECT ON hearthside.outbox_0"));
    postgres.sql(
        "GRANT SELECT ON hearthside.outbox_1 TO app; REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC",
    );
    postgres.sql("UPDATE t SET v = 'c' WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", &bulk("c"));
}

#[test]
fn sqlite_has_no_outbox() {
    let builder = Sidecar::builder().set("STORE__FEED", "outbox").set("STORE__URL", "sqlite://none.db");
    let told = builder.config("").execute(&["check"]);
    assert!(told.status.code() == Some(2), "{}", text(&told));
    assert!(text(&told).contains("store.feed: \"outbox\" is for Postgres, and store.url is SQLite"), "{}", text(&told));
}
