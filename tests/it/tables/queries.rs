//! What a mapping's query may be: it reads, and does nothing else. A comment may end it.

use super::{check, over};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;
use crate::writes::embedded::{Place, sqlite};

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'a')";

/// What changes rows and gives them back.
const WRITES: [&str; 3] = [
    "DELETE FROM t WHERE id = $1 RETURNING id, v",
    "UPDATE t SET v = 'b' WHERE id = $1 RETURNING id, v",
    "INSERT INTO t VALUES ($1 + 0, 'b') ON CONFLICT DO NOTHING RETURNING id, v",
];

const IN_PARTS: &str = "WITH x AS (UPDATE t SET v = 'b' WHERE id = $1 RETURNING id, v) SELECT id, v FROM x";

fn block(query: &str) -> String {
    format!("[[caches]]\nkey = \"t:{{id:int}}\"\ntype = \"hash\"\nquery = \"{query}\"\nwatch = [{{ table = \"t\" }}]\n")
}

#[test]
fn a_query_that_changes_rows_is_refused_by_both_stores() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("store.db");
    postgres.sql(TABLE);
    sqlite(&file, TABLE);
    let stores = [postgres.url(), format!("sqlite://{}", file.display())];
    let over =
        |query: &str, store: &str| Sidecar::builder().redis(&redis).config(&block(query)).set("STORE__URL", store);
    for store in &stores {
        for query in WRITES.iter().chain([&IN_PARTS].into_iter().filter(|_| store.starts_with("postgres"))) {
            let (is_content, told) = check(&over(query, store));
            let expected = "caches[0].query: must be one SELECT that changes nothing: ";
            assert!(!is_content && told.contains(expected), "{store}: {query}: {told}");
        }
    }
    assert_eq!([postgres.sql("SELECT v FROM t"), sqlite(&file, "SELECT v FROM t")], ["a", "a"]);
    for (store, query) in [
        (&stores[1], "SELECT id, v FROM t WHERE id = $1"),
        (&stores[1], "WITH x AS (SELECT * FROM t) SELECT id, v FROM x WHERE id = $1 -- by its number"),
        (&stores[1], "VALUES ($1, 2)"),
    ] {
        let (_, told) = check(&over(query, store));
        assert!(!told.contains("must be one SELECT"), "{query}: {told}");
    }
}

const COMMENTED: &str = r#"
[[caches]]
key = "s:{id:int}"
type = "string"
value = "v"
query = "SELECT v FROM t WHERE id = $1 -- one row"
watch = [{ table = "t", key = { id = "id" } }]

[[caches]]
key = "l:{id:int}"
type = "list"
value = "v"
query = """
SELECT v FROM t -- the table
WHERE id = $1 ORDER BY v -- $1 is the key's"""
watch = [{ table = "t", key = { id = "id" } }]

[[definitions]]
key = "d:{id}"
type = "string"
value = "v"
query = "SELECT id, v FROM t -- all"
watch = [{ table = "t", key = { id = "id" } }]
"#;

/// Keys are read alone and several at a time.
fn are_read(wire: &mut Wire) {
    assert_eq!(wire.ask("GET s:1"), "$2\r\nv1\r\n");
    assert_eq!(wire.ask("LRANGE l:1 0 -1"), "*1\r\n$2\r\nv1\r\n");
    assert_eq!(wire.ask("MGET s:2 s:3 s:4"), "*3\r\n$2\r\nv2\r\n$2\r\nv3\r\n$2\r\nv4\r\n");
    assert_eq!(wire.ask("GET d:5"), "$2\r\nv5\r\n");
}

#[test]
fn a_query_that_ends_in_a_comment_is_a_query() {
    let tables = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'v1'), (2, 'v2'), \
        (3, 'v3'), (4, 'v4'), (5, 'v5')";
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = over(&redis, &postgres, tables, COMMENTED);
    assert!(check(&builder).0, "{}", check(&builder).1);
    are_read(&mut builder.start().wire());
    let place = Place::of(tables, COMMENTED);
    are_read(&mut place.builder().start().wire());
}
