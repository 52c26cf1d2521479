//! Tables of SQLite that have no `rowid`, and those with ordinary columns of that name: nothing relies on it.

use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::writes::embedded::Place;

const CONFIG: &str = r#"
[[definitions]]
key = "d:{id}"
type = "hash"
table = "kinds"
fields = ["v"]

[[definitions]]
key = "all:{rowid}"
type = "set"
table = "kinds"
value = "id"

[[caches]]
key = "t:{id}"
type = "hash"
table = "rows"
fields = ["v"]
write = "through"
delete = "row"
expires_column = "ends"

[[caches]]
key = "s:{a}:{b}"
type = "set"
table = "members"
value = "v"
write = "through"

[[caches]]
key = "u:{a}:{b}"
type = "hash"
table = "pairs"
write = "through"
expires_column = "ends"
"#;

fn sorted(reply: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = reply.lines().filter(|line| !line.starts_with(['$', '*', '~'])).collect();
    lines.sort_unstable();
    lines
}

/// Rows that have ended, beside living ones with the same values in their other columns.
fn started(place: &Place) -> Sidecar {
    let ended = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)";
    place.sql(&format!(
        "INSERT INTO kinds (id, v, rowid, oid, _rowid_) VALUES ('b', 'x', 1, 1, 1), ('a', 'y', 1, 1, 1);
         INSERT INTO rows (id, v, rowid, oid, _rowid_, ends)
         {ended} SELECT 'e' || i, 'x', 1, 1, 1, '2020-01-01 00:00:00' FROM n;
         INSERT INTO rows (id, v, rowid, oid, _rowid_, ends) VALUES
         ('one', 'x', 1, 1, 1, NULL), ('two', 'y', 1, 1, 1, '2999-01-01 00:00:00');
         INSERT INTO members VALUES ('1', 'x', 'new');
         INSERT INTO pairs VALUES ('1', 'x', 'old', '2020-01-01 00:00:00'), ('1', 'y', 'new', NULL),
         ('2', 'x', 'new', NULL), ('2', 'y', 'old', '2020-01-01 00:00:00');"
    ));
    place.builder().set("STORE__SWEEP_INTERVAL", "20ms").set("STORE__SWEEP_GRACE", "1s").start()
}

/// Every operation over these tables.
fn works(place: &Place) {
    let sidecar = started(place);
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET d:a v"), "$1\r\ny\r\n");
    assert_eq!(sorted(&wire.ask("SMEMBERS all:1")), ["a", "b"]);
    until("what has ended is removed", || place.sql("SELECT count(*) FROM rows") == "2");
    until("by both columns of a key", || place.sql("SELECT count(*) FROM pairs") == "2");
    assert_eq!(place.sql("SELECT a || b || v FROM pairs ORDER BY 1"), "1ynew\n2xnew");
    assert_eq!(wire.ask("HSET u:2:x v newer"), ":0\r\n");
    assert_eq!(wire.ask("HGET t:one v"), "$1\r\nx\r\n");
    assert_eq!(sorted(&wire.ask("KEYS t:*")), ["t:one", "t:two"]);
    assert_eq!(wire.ask("HSET t:one v z"), ":0\r\n");
    assert_eq!(wire.ask("HSET t:three v w"), ":1\r\n");
    assert_eq!(wire.ask("EXPIRE t:three 100"), ":1\r\n");
    assert_eq!(wire.ask("DEL t:two"), ":1\r\n");
    assert_eq!(place.sql("SELECT id, v FROM rows ORDER BY id"), "one|z\nthree|w");
    assert_eq!(wire.ask("SADD s:1:x more"), ":1\r\n");
    assert_eq!(sorted(&wire.ask("SMEMBERS s:1:x")), ["more", "new"]);
    assert_eq!(wire.ask("SREM s:1:x new"), ":1\r\n");
    assert_eq!(place.sql("SELECT v FROM members WHERE a = '1'"), "more");
}

/// The three tables, whose ends are these.
fn tables(end: &str) -> String {
    let names = "v TEXT, rowid INTEGER, oid INTEGER, _rowid_ INTEGER";
    format!(
        "CREATE TABLE kinds (id TEXT PRIMARY KEY, {names}){end};
         CREATE TABLE rows (id TEXT PRIMARY KEY, {names}, ends TIMESTAMP){end};
         CREATE TABLE members (a TEXT, b TEXT, v TEXT, PRIMARY KEY (a, b, v)){end};
         CREATE TABLE pairs (a TEXT, b TEXT, v TEXT, ends TIMESTAMP, PRIMARY KEY (a, b)){end};"
    )
}

#[test]
fn a_table_with_columns_named_as_the_rowid_works_and_loses_no_living_row() {
    works(&Place::of(&tables(""), CONFIG));
}

#[test]
fn a_table_without_rowid_works() {
    works(&Place::of(&tables(" WITHOUT ROWID"), CONFIG));
    let plain = tables(" WITHOUT ROWID").replace("rowid INTEGER, oid INTEGER, _rowid_ INTEGER", "n INTEGER");
    let place = Place::of(
        &plain,
        "[[definitions]]\nkey = \"d:{id}\"\ntype = \"hash\"\ntable = \"kinds\"\n\n[[caches]]\nkey = \"t:{id}\"\n\
         type = \"hash\"\ntable = \"rows\"\nfields = [\"v\"]\nwrite = \"through\"\nexpires_column = \"ends\"\n",
    );
    place.sql("INSERT INTO kinds VALUES ('b', 'x', 1); INSERT INTO rows VALUES ('e', 'x', 1, '2020-01-01 00:00:00')");
    let sidecar = place.builder().set("STORE__SWEEP_INTERVAL", "20ms").set("STORE__SWEEP_GRACE", "1s").start();
    assert_eq!(sidecar.wire().ask("HGET d:b v"), "$1\r\nx\r\n");
    until("what has ended is removed", || place.sql("SELECT count(*) FROM rows") == "0");
}
