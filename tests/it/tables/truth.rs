//! A write is acknowledged when the row is written, and only then.

use super::{hash, over};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;

const TABLES: &str = "CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF TG_OP = 'DELETE' THEN IF OLD.v = 'kept' THEN RETURN NULL; END IF; RETURN OLD; END IF; \
    IF NEW.v IN ('bad', '13') THEN RETURN NULL; END IF; RETURN NEW; END $$; \
    CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE s (id int, v text, PRIMARY KEY (id, v)); \
    CREATE TABLE w (id int PRIMARY KEY, v text); \
    INSERT INTO t VALUES (1, 'good'), (2, 'kept'), (3, '12'); INSERT INTO w VALUES (1, 'good'); \
    INSERT INTO s VALUES (1, 'kept'), (1, 'a'); ";

fn trigger(table: &str) -> String {
    format!(
        "CREATE TRIGGER suppress BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION suppress(); "
    )
}

fn config() -> String {
    let block = |key: &str, shape: &str| {
        format!(
            "[[caches]]\nkey = \"{key}:{{id:int}}\"\ntype = \"{shape}\"\ntable = \"{key}\"\nvalue = \"v\"\nwrite = \
             \"through\"\ndelete = \"row\"\n\n"
        )
    };
    hash("t:{id:int}", "t", "delete = \"row\"") + &block("s", "set") + &block("w", "string")
}

/// What would change nothing, and what is not about a row that is there.
fn suppressed(sidecar: &Sidecar) {
    let mut wire = sidecar.wire();
    for command in [
        "HSET t:1 v bad",
        "HSETNX t:9 v bad",
        "HSET t:9 v bad",
        "HINCRBY t:3 v 1",
        "SET w:1 bad",
        "SET w:9 bad",
        "SET w:1 bad XX",
        "DEL t:2",
        "DEL s:1",
        "SADD s:1 bad",
        "SADD s:2 x bad",
        "SREM s:1 a kept",
    ] {
        let told = wire.ask(command);
        assert!(told.starts_with("-ERR") && told.contains("a trigger of the table"), "{command}: {told}");
    }
    for (command, answer) in [
        ("HGET t:1 v", "$4\r\ngood\r\n"),
        ("HGET t:3 v", "$2\r\n12\r\n"),
        ("GET w:1", "$4\r\ngood\r\n"),
        ("DEL t:99", ":0\r\n"),
        ("HSET t:1 v fine", ":0\r\n"),
        ("HSETNX t:1 v bad", ":0\r\n"),
        ("HINCRBY t:1 v 1", "-ERR hash value is not an integer\r\n"),
        ("SADD s:3 a", ":1\r\n"),
        ("SADD s:3 a", ":0\r\n"),
        ("SREM s:3 b", ":0\r\n"),
        ("SET w:1 fine NX", "$-1\r\n"),
    ] {
        assert_eq!(wire.ask(command), answer, "{command}");
    }
    for request in ["MULTI", "HSET t:1 v bad", "HSET t:1 v last"] {
        wire.ask(request);
    }
    let told = wire.ask("EXEC");
    assert!(told.starts_with("*2\r\n-ERR") && told.ends_with(":0\r\n"), "{told}");
    assert_eq!(wire.ask("HGET t:1 v"), "$4\r\nlast\r\n");
}

#[test]
fn a_write_that_a_trigger_suppressed_is_an_error() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let triggers: String = ["t", "s", "w"].map(trigger).concat();
    let builder = over(&redis, &postgres, &(TABLES.to_owned() + &triggers), &config());
    suppressed(&builder.expect(&[warnings::WRITE_FAILED]).start());
    // What was suppressed among others has gone through for those.
    assert_eq!(postgres.sql("SELECT string_agg(concat(id, v), ' ' ORDER BY id, v) FROM s"), "1kept 2x 3a");
}

#[test]
fn a_write_of_which_a_trigger_suppressed_a_part_says_which_part_is_done() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, &(TABLES.to_owned() + &trigger("s")), &config()).start();
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("SCARD s:1"), wire.ask("SCARD s:2")], [":2\r\n", ":0\r\n"]);
    for (command, done) in [
        ("SADD s:2 x bad y 13", "of 4 members 2 were added"),
        ("SREM s:1 a kept none", "of 3 members 1 were removed"),
        ("SADD s:2 x bad z", "of 3 members 1 were added"),
    ] {
        let told = wire.ask(command);
        let expected = format!("it was written in part: {done}; a trigger of the table, or a policy for rows, kept");
        assert!(told.contains(&expected), "{command}: {told}");
    }
    assert_eq!([wire.ask("SCARD s:1"), wire.ask("SCARD s:2")], [":1\r\n", ":3\r\n"]);
    postgres.sql("INSERT INTO s VALUES (1, 'b')");
    let told = wire.ask("DEL s:1");
    assert!(told.contains("it was written in part: 1 rows of the key were deleted; a trigger"), "{told}");
    // Inside a transaction nothing of it is done, and the other commands are.
    for request in ["MULTI", "SADD s:4 x bad", "SADD s:5 x"] {
        wire.ask(request);
    }
    let told = wire.ask("EXEC");
    assert!(
        told.contains("nothing was written") && told.starts_with("*2\r\n-ERR") && told.ends_with(":1\r\n"),
        "{told}"
    );
    assert_eq!([wire.ask("SCARD s:4"), wire.ask("SCARD s:5")], [":0\r\n", ":1\r\n"]);
}

/// Writes of which one will be suppressed when it is saved.
fn deferred(sidecar: &Sidecar) {
    let mut wire = sidecar.wire();
    for command in ["HSET t:1 v bad", "HSET t:3 v 14"] {
        assert_eq!(wire.ask(command), ":0\r\n");
    }
    until("it is put aside", || metric(sidecar, "hearthside_put_aside_total") == 1.0);
    until("the other one is saved", || metric(sidecar, "hearthside_flushed_total") == 1.0);
    assert!(!sidecar.log().contains("rows that are not there"));
    let read = (wire.ask("HGET t:1 v"), wire.ask("HGET t:3 v"));
    assert_eq!(read, ("$4\r\ngood\r\n".into(), "$2\r\n14\r\n".into()));
}

#[test]
fn a_deferred_write_that_a_trigger_suppressed_is_put_aside() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tables = TABLES.to_owned() + &trigger("t");
    let config = hash("t:{id:int}", "t", "deferred = [\"v\"]");
    deferred(&over(&redis, &postgres, &tables, &config).expect(&[warnings::PUT_ASIDE]).start());
    assert_eq!(postgres.sql("SELECT string_agg(v, ' ' ORDER BY id) FROM t"), "good kept 14");
}

#[test]
fn the_embedded_store_says_so_too() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("store.db");
    let tables = TABLES.split_once("CREATE TABLE").map(|(_, tables)| format!("CREATE TABLE{tables}"));
    let mut sql = tables.expect("tables");
    for table in ["t", "s", "w"] {
        for (when, row) in [("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")] {
            let condition = if row == "NEW" { "NEW.v IN ('bad', '13')" } else { "OLD.v = 'kept'" };
            sql.push_str(&format!(
                "CREATE TRIGGER {table}_{when} BEFORE {when} ON {table} WHEN {condition} BEGIN SELECT RAISE(IGNORE); \
                 END; "
            ));
        }
    }
    let output = std::process::Command::new("sqlite3").arg(&file).arg(&sql).output().expect("sqlite3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sidecar = Sidecar::builder().redis(&redis).config(&config());
    suppressed(&sidecar.set("STORE__URL", format!("sqlite://{}", file.display())).start());
    let change = "UPDATE t SET v = 'good' WHERE id = 1; UPDATE t SET v = '12' WHERE id = 3";
    let output = std::process::Command::new("sqlite3").arg(&file).arg(change).output().expect("sqlite3 is installed");
    assert!(output.status.success());
    let sidecar = Sidecar::builder().redis(&redis).config(&hash("t:{id:int}", "t", "deferred = [\"v\"]"));
    let sidecar = sidecar.set("JOURNAL__FLUSH_INTERVAL", "20ms").expect(&[warnings::PUT_ASIDE]);
    deferred(&sidecar.set("STORE__URL", format!("sqlite://{}", file.display())).start());
}

#[test]
fn writes_that_meet_are_tried_again() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    // Each write takes the rows of both keys, in the order of the keys or against it.
    let tables = "CREATE TABLE c (id int PRIMARY KEY, n int); INSERT INTO c SELECT i, 0 FROM generate_series(1, 2) i; \
        CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO other VALUES (1, 0), (2, 0); \
        CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        UPDATE other SET n = n + 1 WHERE id = 1 + NEW.id % 2; PERFORM pg_sleep(0.002); \
        UPDATE other SET n = n + 1 WHERE id = 2 - NEW.id % 2; RETURN NEW; END $$; \
        CREATE TRIGGER meet BEFORE UPDATE ON c FOR EACH ROW EXECUTE FUNCTION meet()";
    let config = hash("c:{id:int}", "c", "");
    for isolation in ["read committed", "serializable"] {
        postgres.sql("DROP TABLE IF EXISTS c, other; DROP FUNCTION IF EXISTS meet");
        for setting in ["deadlock_timeout = '5ms'", &format!("default_transaction_isolation = '{isolation}'")] {
            postgres.sql(&format!("ALTER DATABASE postgres SET {setting}"));
        }
        let sidecar = over(&redis, &postgres, tables, &config).start();
        let before = postgres.log().matches("deadlock detected").count();
        std::thread::scope(|scope| {
            for id in 1..=2 {
                let mut wire = sidecar.wire();
                scope.spawn(move || {
                    for n in 1..=25 {
                        assert_eq!(wire.ask(&format!("HINCRBY c:{id} n 1")), format!(":{n}\r\n"));
                    }
                });
            }
        });
        assert!(postgres.log().matches("deadlock detected").count() > before, "no writes met");
        assert_eq!(postgres.sql("SELECT string_agg(n::text, ' ') FROM other"), "50 50");
    }
}
