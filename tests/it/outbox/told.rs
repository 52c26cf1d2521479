//! What its triggers tell is what those of notices tell, whoever writes.

use super::{LOCK, ROWS, TABLE, over};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::triggers::notices;

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, hp int, place point, more json, seen timestamptz);
    INSERT INTO t SELECT i, i, point(i, i), '{}' FROM generate_series(1, 3) AS i;
    CREATE TABLE u (id text UNIQUE, v text); INSERT INTO u VALUES ('1', 'a'), ('2', 'b'), (NULL, 'c');
    CREATE TABLE d (day date, v text); INSERT INTO d VALUES ('2026-11-26', 'a'), ('2026-11-27', 'b');
    CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100); INSERT INTO p VALUES (1, 'a'), (2, 'b')";

fn mapping(key: &str, table: &str, more: &str) -> String {
    format!("[[caches]]\nkey = \"{key}\"\ntype = \"hash\"\ntable = '{table}'\nttl = \"1h\"\n{more}\n")
}

/// What both sets of triggers tell of one statement: by notices, and by rows.
fn both(postgres: &Postgres, sql: &str) -> (Vec<String>, Vec<String>) {
    let mut by_notices = notices(postgres, sql);
    let tables = "TABLE hearthside.outbox_0 UNION ALL TABLE hearthside.outbox_1 UNION ALL TABLE hearthside.outbox_2";
    let told = postgres.sql(&format!("SELECT told FROM ({tables}) AS o"));
    postgres.sql("TRUNCATE hearthside.outbox_0, hearthside.outbox_1, hearthside.outbox_2");
    let mut by_rows: Vec<String> = told.lines().map(str::to_owned).collect();
    by_notices.sort();
    by_rows.sort();
    (by_notices, by_rows)
}

#[test]
fn rows_tell_what_notices_tell() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let list = "[[caches]]\nkey = \"n:{id:int}\"\ntype = \"string\"\nvalue = \"n\"\nttl = \"1h\"\n\
        query = \"SELECT count(*) AS n FROM t WHERE hp = $1\"\nwatch = [{ table = \"t\", whole = true }]\n";
    let config = mapping("t:{id:int}", "t", "fields = [\"hp\", \"place\", \"more\"]")
        + list
        + &mapping("u:{id}", "u", "")
        + &mapping("d:{day}", "d", "")
        + &mapping("p:{id:int}", "p", "");
    drop(over(&redis, &postgres, &config));
    drop(Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).migrated());
    let mut reads = postgres.session();
    reads.run(&format!("SELECT pg_advisory_lock({LOCK});"));
    for sql in [
        "UPDATE t SET seen = now()",
        "UPDATE t SET seen = now() WHERE id = 1",
        "UPDATE t SET hp = 9 WHERE id > 100",
        "UPDATE t SET hp = 7 WHERE id = 2",
        "UPDATE t SET hp = hp + 1, place = point(0, 0)",
        "UPDATE t SET id = 20 WHERE id = 2",
        "INSERT INTO t VALUES (40)",
        "INSERT INTO t SELECT i FROM generate_series(100, 200) i",
        "INSERT INTO t SELECT i FROM generate_series(1000, 3000) i",
        "DELETE FROM t WHERE id = 40",
        "DELETE FROM t WHERE id > 99",
        "TRUNCATE t",
        "UPDATE u SET v = 'x' WHERE id = '1'",
        "UPDATE u SET v = v || '\"' WHERE id = '2'",
        "INSERT INTO u VALUES ('\"\\')",
        "UPDATE u SET id = repeat('\"', 570) WHERE id = '1'",
        "SET hearthside.origin = 'me\"'; DELETE FROM u WHERE id = '2'",
        "INSERT INTO u VALUES (repeat('\"', 7000))",
        "UPDATE u SET v = 'z' WHERE id IS NULL",
        "SET datestyle = 'German'; UPDATE d SET v = 'c' WHERE v = 'a'",
        "SET search_path = public, pg_catalog; SET timezone = 'Asia/Kolkata'; UPDATE d SET v = 'd'",
        "UPDATE p SET v = 'x' WHERE id = 1",
        "UPDATE p_1 SET v = 'y'",
        "DELETE FROM p_1 WHERE id = 2",
        "BEGIN; UPDATE p SET v = 'q' WHERE id = 1; SAVEPOINT s; UPDATE p SET v = 'r'; ROLLBACK TO s; COMMIT",
    ] {
        let (by_notices, by_rows) = both(&postgres, sql);
        assert_eq!(by_notices, by_rows, "{sql}");
    }
}

#[test]
fn who_writes_needs_no_right_and_is_never_failed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    postgres.sql("CREATE ROLE writer LOGIN; GRANT SELECT, INSERT, UPDATE ON t TO writer");
    drop(over(&redis, &postgres, super::MAPPING));
    let mut reads = postgres.session();
    reads.run(&format!("SELECT pg_advisory_lock({LOCK});"));
    let url = postgres.url().replace("postgres@", "writer@");
    let write = |sql: &str| Postgres::try_sql_at(&url, sql);
    write("UPDATE t SET v = 'b' WHERE id = 1").expect("it may");
    write("UPDATE t SET v = 'b' WHERE id > 1").expect("it may");
    assert_eq!(postgres.sql(ROWS), "2");
    assert!(write("SELECT * FROM hearthside.outbox_0").is_err());
    assert!(write("SELECT hearthside.clean_outbox(pg_current_snapshot())").is_err());
    // Whatever goes wrong with the outbox, the writer goes on, and it is told as the whole mapping.
    postgres.sql("REVOKE INSERT ON hearthside.outbox_0, hearthside.outbox_1, hearthside.outbox_2 FROM PUBLIC");
    write("UPDATE t SET v = 'c' WHERE id = 1").expect("it goes on");
    postgres.sql("DROP TABLE hearthside.outbox_0, hearthside.outbox_1, hearthside.outbox_2");
    let told = postgres.sql_and_notices("LISTEN hearthside_outbox; UPDATE t SET v = 'd' WHERE id = 1; SELECT 1");
    assert!(told.contains(r#"{"mapping" : "t:{id:int}", "trouble" : "42P01"}"#), "{told}");
}

/// Whoever has taken a snapshot before would not see what has come since, and drop it.
#[test]
fn the_outbox_is_not_cleaned_by_who_would_not_see_all_of_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    drop(over(&redis, &postgres, super::MAPPING));
    let add = "INSERT INTO hearthside.outbox_0 VALUES (pg_current_xact_id(), '{}')";
    let clean = "SELECT hearthside.clean_outbox(pg_current_snapshot(), 0)";
    postgres.sql(add);
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let begun = format!("BEGIN ISOLATION LEVEL {level}; SELECT 1");
        let told = Postgres::try_sql_at(&postgres.url(), &format!("{begun}; {clean}; COMMIT")).expect_err("refused");
        let refusal =
            format!("hearthside.clean_outbox cannot be called in a transaction with the isolation level {level}");
        assert!(told.contains(&refusal) && told.contains("BEGIN ISOLATION LEVEL READ COMMITTED"), "{told}");
        assert_eq!(postgres.sql(ROWS), "1");
    }
    for level in ["READ COMMITTED", "READ UNCOMMITTED"] {
        postgres.sql(add);
        assert!(postgres.sql(&format!("BEGIN ISOLATION LEVEL {level}; {clean}; COMMIT")).contains('t'), "{level}");
    }
    // A function that an older version made is replaced.
    postgres.sql("ALTER FUNCTION hearthside.clean_outbox RENAME TO older");
    postgres.sql(
        "CREATE FUNCTION hearthside.clean_outbox(pg_snapshot, int DEFAULT NULL) RETURNS boolean \
         LANGUAGE sql AS 'SELECT true'; DROP FUNCTION hearthside.older",
    );
    drop(over(&redis, &postgres, super::MAPPING));
    assert!(postgres.sql("SELECT prosrc FROM pg_proc WHERE proname = 'clean_outbox'").contains("ISOLATION LEVEL"));
}

#[test]
fn transactions_are_prepared_while_somebody_reads() {
    let (redis, postgres) = (Redis::start(), Postgres::start_with("-c max_prepared_transactions=4"));
    postgres.sql(TABLE);
    let sidecar = over(&redis, &postgres, super::MAPPING).start();
    let mut wire = sidecar.wire();
    let mut reads = super::Reads::begin(&postgres);
    assert_eq!(wire.ask("HGET t:1 v"), super::bulk("a"));
    postgres.sql("BEGIN; UPDATE t SET v = 'b' WHERE id = 1; PREPARE TRANSACTION 'two'");
    assert_eq!(wire.ask("HGET t:1 v"), super::bulk("a"));
    reads.end();
    postgres.sql("COMMIT PREPARED 'two'");
    super::shows(&mut wire, "HGET t:1 v", &super::bulk("b"));
}
