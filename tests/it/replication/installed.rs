//! What must be there, what says that it is not, and the command that makes it.

use super::{logical, over, replicated, shows, wait_for};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;

fn builder(redis: &Redis, postgres: &Postgres, config: &str) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(config).set("STORE__FEED", "replication");
    assert!(builder.execute(&["migrate"]).status.success());
    builder
}

/// What a command says, and its exit code.
fn said(builder: &Builder, arguments: &[&str]) -> (String, Option<i32>) {
    let output = builder.execute(arguments);
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).expect("text"), output.status.code())
}

fn check(builder: &Builder) -> String {
    said(builder, &["check", "--connect"]).0
}

#[test]
fn a_server_that_takes_the_feed_for_a_synchronous_standby_is_told() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let builder = replicated(&redis, &postgres, &over("t", "t", ""));
    let told = "synchronous_standby_names takes the change feed of a sidecar for a synchronous standby";
    for (names, is_told) in [
        ("", false),
        ("*", true),
        ("FIRST 1 (walreceiver)", false),
        ("hearthsides, walreceiver", false),
        ("ANY 1 (walreceiver,\"Hearthside\")", true),
    ] {
        wait_for(&postgres, names);
        assert_eq!(check(&builder).contains(told), is_told, "{names}");
    }
    // It is so: the server has no standby.
    let _sidecar = builder.start();
    let state = "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'hearthside'";
    until("it counts as one", || ["quorum", "sync"].contains(&postgres.sql(state).as_str()));
    postgres.sql("INSERT INTO t VALUES (1, 'a')");
}

#[test]
fn the_publication_is_made_once_and_each_table_added() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres
        .sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE \"Odd 'name\" (id int PRIMARY KEY, v text)");
    let config = over("t", "t", "") + &over("o", "\"Odd ''name\"", "").replace("''name", "'name");
    let config = config.replace("table = '\"Odd 'name\"'", "table = \"\\\"Odd 'name\\\"\"");
    let builder = builder(&redis, &postgres, &config).set("STORE__PUBLICATION", "side's 50%");
    let told = check(&builder);
    assert!(told.contains("there is no publication side's 50%: `hearthside triggers --install` makes it"), "{told}");
    let (made, code) = said(&builder, &["triggers", "--install"]);
    assert_eq!(code, Some(0), "{made}");
    assert!(made.contains("t is in the publication side's 50%"), "{made}");
    assert_eq!(said(&builder, &["triggers", "--install"]), ("nothing to do\n".into(), Some(0)));
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_publication_tables"), "2");
    let told = check(&builder);
    assert!(told.contains("ok"), "{told}");
    // What is printed does the same.
    let script = said(&builder, &["triggers"]).0;
    postgres.sql("DROP PUBLICATION \"side's 50%\"");
    postgres.sql(&script);
    postgres.sql(&script);
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_publication_tables"), "2");
}

#[test]
fn a_table_that_nobody_could_write_any_more_is_not_published() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a')");
    let builder = builder(&redis, &postgres, &over("t", "t", ""));
    postgres.sql("CREATE UNIQUE INDEX ON t (id)");
    let (said, code) = said(&builder, &["triggers", "--install"]);
    assert!(code == Some(1) && said.contains("t has no primary key"), "{said}");
    assert!(said.contains("ALTER TABLE t REPLICA IDENTITY FULL"), "{said}");
    postgres.sql("UPDATE t SET v = 'b'");
    postgres.sql("ALTER TABLE t REPLICA IDENTITY FULL");
    assert_eq!(builder.execute(&["triggers", "--install"]).status.code(), Some(0));
    postgres.sql("UPDATE t SET v = 'c'");
}

#[test]
fn what_a_publication_made_by_hand_does_not_tell_is_found() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100)",
    );
    let builder = builder(&redis, &postgres, &(over("t", "t", "") + &over("p", "p", "")));
    for (made, told) in [
        ("FOR TABLE p", "t: it is not in the publication hearthside; `hearthside triggers --install` adds it"),
        ("FOR ALL TABLES WITH (publish = 'insert, update')", "t: the publication hearthside does not tell everything"),
        ("FOR TABLE t WHERE (id > 5), p", "t: the publication hearthside has a row filter for it"),
        (
            "FOR ALL TABLES WITH (publish_via_partition_root)",
            "p_1: the publication hearthside tells no TRUNCATE of a partition: ALTER PUBLICATION hearthside SET \
             (publish_via_partition_root = false)",
        ),
        ("FOR ALL TABLES", "ok"),
    ] {
        postgres.sql(&format!("DROP PUBLICATION IF EXISTS hearthside; CREATE PUBLICATION hearthside {made}"));
        let check = check(&builder);
        assert!(check.contains(told), "{made}: {check}");
    }
    postgres.sql("ALTER TABLE t REPLICA IDENTITY NOTHING");
    assert!(check(&builder).contains("ALTER TABLE t REPLICA IDENTITY FULL"));
}

#[test]
fn a_key_that_does_not_come_with_an_old_row_is_found() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql("CREATE TABLE items (id int PRIMARY KEY, owner int NOT NULL, name text)");
    let list = "[[caches]]\nkey = \"l:{owner:int}\"\ntype = \"list\"\nvalue = \"name\"\nttl = \"1h\"\n\
        query = \"SELECT name FROM items WHERE owner = $1 ORDER BY id\"\n\
        watch = [{ table = \"items\", key = { owner = \"owner\" } }]\n";
    let builder = builder(&redis, &postgres, list);
    let (said, code) = said(&builder, &["triggers", "--install"]);
    let why = "items: an old row does not come with what its key is made of (owner): ALTER TABLE items REPLICA \
               IDENTITY FULL";
    assert!(code == Some(1) && said.contains(why), "{said}");
    assert!(check(&builder).contains(why));
    postgres.sql(
        "CREATE UNIQUE INDEX by_owner ON items (owner, id); ALTER TABLE items REPLICA IDENTITY USING INDEX by_owner",
    );
    assert!(check(&builder).contains("ok"));
}

#[test]
fn what_the_server_and_the_role_lack_is_found_and_auto_does_without() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE ROLE app LOGIN; GRANT SELECT ON t TO app");
    let builder = builder(&redis, &postgres, &over("t", "t", ""));
    let url = postgres.url().replace("postgres@", "app@");
    let told = builder.execute_with("STORE__URL", &url, &["check", "--connect"]);
    let told = String::from_utf8([told.stdout, told.stderr].concat()).expect("text");
    let level = "wal_level is replica: ALTER SYSTEM SET wal_level = logical, and restart Postgres";
    assert!(told.contains(&format!("store.feed: {level}")), "{told}");
    assert!(told.contains("store.feed: the role app may not replicate: ALTER ROLE app REPLICATION"), "{told}");
    let auto = builder.set("STORE__FEED", "auto").migrated();
    assert!(check(&auto).contains(&format!("store.feed = \"auto\" takes the notices of triggers: {level}")));
    let sidecar = auto.start();
    assert!(sidecar.log().contains("changes are told by triggers, not by replication"), "{}", sidecar.log());
    assert!(sidecar.log().contains(level));
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("EXISTS t:1"), ":0\r\n");
    postgres.sql("INSERT INTO t VALUES (1, 'n')");
    shows(&mut wire, "HGET t:1 v", "$1\r\nn\r\n");
}

#[test]
fn auto_takes_the_log_once_its_publication_is_there() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let builder = builder(&redis, &postgres, &over("t", "t", "")).set("STORE__FEED", "auto");
    let why = "store.feed = \"auto\" takes the notices of triggers: there is no publication hearthside: \
               `hearthside triggers --install` makes it";
    let told = check(&builder);
    assert!(told.contains("change trigger missing on t") || told.contains(why), "{told}");
    let sidecar = builder.migrated().start();
    assert!(sidecar.log().contains("changes are told by logical replication"));
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass"), "0");
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("EXISTS t:1"), ":0\r\n");
    postgres.sql("INSERT INTO t VALUES (1, 'n')");
    shows(&mut wire, "HGET t:1 v", "$1\r\nn\r\n");
}
