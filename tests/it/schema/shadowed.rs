//! A field that is kept in the overflow column becomes a column, and is written before the schema was looked at again.

use super::{embedded, over};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::Wire;

const B: &str = "[[caches]]\nkey = \"b:{id:int}\"\ntype = \"hash\"\ntable = \"b\"\nwrite = \"through\"\n\
    overflow = \"more\"\ndeferred = [\"late\"]\n";

/// The fields `p`, `q`, `r` and, deferred, `late` of two rows are written, each just when it has become a column; the
/// row 3 is made so.
fn each_is_written_to_its_column(wire: &mut Wire, sql: &dyn Fn(&str) -> String) {
    assert_eq!(wire.ask("HGETALL b:1"), "*2\r\n$1\r\np\r\n$1\r\n1\r\n");
    sql("ALTER TABLE b ADD COLUMN p TEXT DEFAULT '123'");
    assert_eq!(wire.ask("HSET b:1 p 5"), ":0\r\n");
    assert_eq!(wire.ask("HGET b:1 p"), "$1\r\n5\r\n");
    assert_eq!(sql("SELECT p FROM b WHERE id = 1"), "5");
    sql("ALTER TABLE b ADD COLUMN q TEXT");
    assert_eq!(wire.ask("HSET b:3 q 6 other 1"), ":2\r\n", "of a row that is made");
    assert_eq!(sql("SELECT q FROM b WHERE id = 3"), "6");
    sql("ALTER TABLE b ADD COLUMN r INT DEFAULT 4");
    assert_eq!(wire.ask("MULTI"), "+OK\r\n");
    wire.ask("HINCRBY b:1 r 1");
    wire.ask("HSETNX b:2 new 1");
    assert_eq!(wire.ask("EXEC"), "*2\r\n:5\r\n:1\r\n", "in a transaction");
    assert_eq!(sql("SELECT r FROM b WHERE id = 1"), "5");
    sql("ALTER TABLE b ADD COLUMN s TEXT DEFAULT 's'");
    assert_eq!(wire.ask("HDEL b:1 s"), ":1\r\n");
    assert_eq!(sql("SELECT s IS NULL FROM b WHERE id = 1").replace('t', "1"), "1");
    sql("ALTER TABLE b ADD COLUMN late TEXT DEFAULT 'never'");
    wire.ask("HSET b:2 late 7");
    until("the deferred value is in the column", || sql("SELECT late FROM b WHERE id = 2") == "7");
    assert_eq!(sql("SELECT more FROM b WHERE id = 1").replace(' ', ""), r#"{"p":"1"}"#);
    assert_eq!(sql("SELECT more FROM b WHERE id = 2").replace(' ', ""), r#"{"new":"1"}"#);
}

#[test]
fn a_member_that_became_a_column_of_postgres_is_written_there() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE b (id INT PRIMARY KEY, more JSONB NOT NULL DEFAULT '{}'); \
         INSERT INTO b VALUES (1, '{\"p\": \"1\"}'), (2, '{}')",
    );
    let builder = over(&redis, &postgres, B).set("STORE__SCHEMA_INTERVAL", "1h");
    let sidecar = builder.set("JOURNAL__FLUSH_INTERVAL", "20ms").start();
    each_is_written_to_its_column(&mut sidecar.wire(), &|sql| postgres.sql(sql));
}

#[test]
fn a_member_that_became_a_column_of_sqlite_is_written_there() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("store.db");
    embedded::sql(
        &file,
        "PRAGMA journal_mode = wal; CREATE TABLE b (id INTEGER PRIMARY KEY, more TEXT DEFAULT '{}'); \
         INSERT INTO b VALUES (1, '{\"p\":\"1\"}'), (2, '{}')",
    );
    let builder = Sidecar::builder().redis(&redis).config(B).set("STORE__URL", format!("sqlite://{}", file.display()));
    let builder = builder.set("STORE__SCHEMA_INTERVAL", "1h").set("JOURNAL__FLUSH_INTERVAL", "20ms");
    let sidecar = builder.start();
    each_is_written_to_its_column(&mut sidecar.wire(), &|sql| embedded::sql(&file, sql));
}
