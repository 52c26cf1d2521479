//! What a mapping's query may be: it reads, and does nothing else.

use super::check;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::writes::embedded::sqlite;

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
