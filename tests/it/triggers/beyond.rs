//! Changes that reach a table on other ways than a plain statement in an open transaction: by a subscription, through a
//! foreign table, in a transaction that is prepared.

use super::{installed, notices, over, text};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, hidden text)";

/// A server whose table `t` is a copy of that of the other one, which it follows.
fn subscribed() -> (Postgres, Postgres) {
    let (publisher, subscriber) = (Postgres::start_with("-c wal_level=logical"), Postgres::start());
    publisher.sql(&format!("{TABLE}; INSERT INTO t VALUES (1, 'a'); CREATE PUBLICATION all_of_it FOR TABLE t"));
    subscriber.sql(TABLE);
    let from = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", publisher.port);
    subscriber.sql(&format!("CREATE SUBSCRIPTION copy CONNECTION '{from}' PUBLICATION all_of_it"));
    until("the rows are there", || subscriber.sql("SELECT count(*) FROM t") == "1");
    until("it follows", || subscriber.sql("SELECT srsubstate FROM pg_subscription_rel") == "r");
    (publisher, subscriber)
}

#[test]
fn a_table_that_a_subscription_feeds_is_held_to_its_bound_and_nobody_advises_what_does_not_help() {
    let redis = Redis::start();
    let (publisher, subscriber) = subscribed();
    let builder = installed(&subscriber, &over("t", "")).redis(&redis).set("CACHE__MAX_STALENESS", "500ms");
    let told = text(&builder.execute(&["check", "--connect"]));
    let expected = "caches[0].watch: not every change is told of t (rows that a subscription replicates to it";
    assert!(told.contains(expected) && !told.contains("--install"), "{told}");
    let sidecar = builder.expect(&[warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET r:1 v"), "$1\r\na\r\n");
    assert!(sidecar.log().contains("rows that a subscription replicates"), "{}", sidecar.log());
    publisher.sql("UPDATE t SET v = 'b'");
    until("it is replicated", || subscriber.sql("SELECT v FROM t") == "b");
    until("it is seen within the bound", || wire.ask("HGET r:1 v") == "$1\r\nb\r\n");
    // What is written at the subscriber itself is told.
    subscriber.sql("UPDATE t SET v = 'c'");
    assert_eq!(notices(&subscriber, "UPDATE t SET v = 'd'"), [r#"{"keys":["r:1"]}"#]);
}

#[test]
fn a_query_over_a_subscribed_table_with_a_ttl_and_no_watch_is_what_check_takes() {
    let redis = Redis::start();
    let (publisher, subscriber) = subscribed();
    let query =
        "[[caches]]\nkey = \"r:{id:int}\"\ntype = \"hash\"\nquery = \"SELECT v FROM t WHERE id = $1\"\nttl = \"1s\"\n";
    let builder = installed(&subscriber, query).redis(&redis);
    let checked = builder.execute(&["check", "--connect"]);
    assert!(checked.status.success(), "{}", text(&checked));
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET r:1 v"), "$1\r\na\r\n");
    publisher.sql("UPDATE t SET v = 'b'");
    until("it is seen after the ttl", || wire.ask("HGET r:1 v") == "$1\r\nb\r\n");
}

#[test]
fn what_is_written_through_a_foreign_table_is_told_by_the_table_behind_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    postgres.sql(&format!(
        "INSERT INTO t VALUES (1, 'a'); CREATE EXTENSION postgres_fdw; \
         CREATE SERVER itself FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}', \
         dbname 'postgres'); CREATE USER MAPPING FOR postgres SERVER itself OPTIONS (user 'postgres'); \
         CREATE FOREIGN TABLE far (id int, v text) SERVER itself OPTIONS (table_name 't')",
        postgres.port
    ));
    let watching = "[[caches]]\nkey = \"f:{id:int}\"\ntype = \"hash\"\nquery = \"SELECT v FROM far WHERE id = $1\"\n\
        watch = [{ table = \"far\", key = { id = \"id\" } }]\n";
    let both = Sidecar::builder().redis(&redis).postgres(&postgres).config(&(over("t", "") + watching));
    assert!(both.execute(&["migrate"]).status.success());
    let done = both.execute(&["triggers", "--install"]);
    let hindrance = "far (a foreign table: what changes at its server fires no trigger here)";
    assert!(done.status.code() == Some(1) && text(&done).contains(hindrance), "{}", text(&done));
    let told = text(&both.execute(&["check", "--connect"]));
    let expected = "caches[1].watch: 'far' is a foreign table, and nothing says what changes in it: write a query over \
                    it, and a ttl";
    assert!(told.contains(expected) && !told.contains("--install"), "{told}");

    let sidecar = installed(&postgres, &over("t", "")).redis(&redis).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET r:1 v"), "$1\r\na\r\n");
    postgres.sql("UPDATE far SET v = 'b' WHERE id = 1");
    until("the change is seen", || wire.ask("HGET r:1 v") == "$1\r\nb\r\n");
}

#[test]
fn a_transaction_that_told_nothing_can_be_prepared_and_another_one_is_refused_whole() {
    let (redis, postgres) = (Redis::start(), Postgres::start_with("-c max_prepared_transactions=5"));
    postgres.sql(&format!("{TABLE}; INSERT INTO t VALUES (1, 'a', 'x')"));
    let builder = installed(&postgres, &over("t", "fields = [\"v\"]")).redis(&redis);
    let told = text(&builder.execute(&["check", "--connect"]));
    assert!(told.contains("the server takes PREPARE TRANSACTION"), "{told}");
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET r:1 v"), "$1\r\na\r\n");
    let prepare = |sql: &str| postgres.try_sql(&format!("BEGIN; {sql}; PREPARE TRANSACTION 'one'"));
    let refused = prepare("UPDATE t SET v = 'b'").expect_err("a notice was sent");
    assert!(refused.contains("NOTIFY"), "{refused}");
    assert_eq!(postgres.sql("SELECT v FROM t"), "a", "nothing of it");
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_prepared_xacts"), "0");
    prepare("UPDATE t SET hidden = 'y'").expect("nothing was told");
    // A row that a prepared transaction holds is read as it was.
    assert_eq!(postgres.sql("SELECT hidden FROM t"), "x");
    assert_eq!(wire.ask("HGET r:1 v"), "$1\r\na\r\n");
    postgres.sql("COMMIT PREPARED 'one'");
    assert_eq!(postgres.sql("SELECT hidden FROM t"), "y");
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
    postgres.sql("UPDATE t SET v = 'c'");
    until("a change is seen", || wire.ask("HGET r:1 v") == "$1\r\nc\r\n");
}
