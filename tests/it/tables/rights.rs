//! Rows that a role may not see or change, and what is no table.

use super::{check, hash, over};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

#[test]
fn policies_for_rows_are_errors_where_they_refuse_a_write() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tables = "CREATE ROLE side LOGIN; CREATE TABLE t (id int PRIMARY KEY, owner text, v text); \
        INSERT INTO t VALUES (1, 'side', 'a'), (2, 'other', 'b'), (3, 'shown', 'c'); \
        ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
        CREATE POLICY seen ON t FOR SELECT USING (owner IN ('side', 'shown')); \
        CREATE POLICY made ON t FOR INSERT WITH CHECK (owner = 'side'); \
        CREATE POLICY changed ON t FOR UPDATE USING (owner = 'side'); \
        CREATE POLICY gone ON t FOR DELETE USING (owner = 'side')";
    let builder = over(&redis, &postgres, tables, &hash("t:{id:int}", "t", "delete = \"row\""));
    postgres
        .sql("GRANT USAGE ON SCHEMA hearthside TO side; GRANT ALL ON ALL TABLES IN SCHEMA public, hearthside TO side");
    let sidecar = builder.set("STORE__URL", postgres.url().replace("postgres@", "side@")).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    assert_eq!((wire.ask("HGETALL t:2"), wire.ask("HGET t:3 v")), ("*0\r\n".into(), "$1\r\nc\r\n".into()));
    assert_eq!(wire.ask("HSET t:1 v x"), ":0\r\n");
    for command in [
        "HSET t:1 owner other",
        "HSET t:2 v x",
        "HSET t:3 v x",
        "HSET t:3 owner side v x",
        "HDEL t:3 v",
        "DEL t:3",
        "HSET t:9 owner other",
        "HINCRBY t:3 v 1",
    ] {
        let told = wire.ask(command);
        assert!(told.starts_with("-ERR hearthside: ") && told.contains("was not written"), "{command}: {told}");
        let why = ["row-level security", "policy for rows", "may not see or change"];
        assert!(why.iter().any(|why| told.contains(why)), "{command}: {told}");
    }
    assert_eq!(wire.ask("HSET t:9 owner side v new"), ":2\r\n");
    let rows = postgres.sql("SELECT string_agg(concat(id, owner, v), ' ' ORDER BY id) FROM t");
    assert_eq!(rows, "1sidex 2otherb 3shownc 9sidenew");
}

/// What takes rights away from the role `side`, which ones, and what gives them back.
const TAKEN: [(&str, &str, &str); 4] = [
    ("REVOKE INSERT ON t FROM writers", "INSERT", "GRANT INSERT ON t TO writers"),
    ("REVOKE UPDATE ON t FROM writers", "UPDATE", "GRANT UPDATE ON t TO writers"),
    ("REVOKE DELETE ON t FROM writers", "DELETE", "GRANT DELETE ON t TO writers"),
    ("REVOKE writers FROM side", "INSERT, UPDATE, DELETE", "GRANT writers TO side"),
];

#[test]
fn a_right_to_write_that_is_taken_away_is_told_until_it_is_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tables = "CREATE ROLE side LOGIN; CREATE ROLE writers; CREATE TABLE t (id int PRIMARY KEY, v text); \
        INSERT INTO t VALUES (1, 'a'); GRANT SELECT ON t TO side; GRANT INSERT, UPDATE, DELETE ON t TO writers; \
        GRANT writers TO side";
    let builder = over(&redis, &postgres, tables, &hash("t:{id:int}", "t", "delete = \"row\""));
    postgres.sql("GRANT USAGE ON SCHEMA hearthside TO side; GRANT ALL ON ALL TABLES IN SCHEMA hearthside TO side");
    let builder = builder.set("STORE__URL", postgres.url().replace("postgres@", "side@"));
    let sidecar = builder.set("STORE__SCHEMA_INTERVAL", "100ms").expect(&[warnings::NOT_WRITABLE]).start();
    let (mut wire, ready) = (sidecar.wire(), |path: &str| request(&sidecar, "GET", path));
    let is_writable = || metric(&sidecar, "hearthside_mapping_writable{mapping=\"t:{id:int}\"}") == 1.0;
    for (taken, rights, given) in TAKEN {
        until("all is well", || is_writable() && ready("/readyz") == (200, "ready\n".to_owned()));
        assert_eq!(wire.ask("HSET t:1 v x"), ":0\r\n");
        postgres.sql(taken);
        until("it is seen", || !is_writable());
        let (status, body) = ready("/readyz?verbose");
        let why =
            format!("may not be written: the role side lacks {rights} on public.t: GRANT {rights} ON public.t TO");
        assert!(status == 200 && body.contains(&format!("the mapping 't:{{id:int}}' {why}")), "{body}");
        assert!(body.contains(&format!("mapping 't:{{id:int}}': up; it {why}")), "{body}");
        assert_eq!(wire.ask("HGET t:1 v"), "$1\r\nx\r\n", "it is read");
        assert!(wire.ask(if rights == "DELETE" { "DEL t:1" } else { "HSET t:1 v y" }).contains("permission denied"));
        postgres.sql(given);
    }
    until("all is well", || is_writable() && ready("/readyz").1 == "ready\n");
    assert_eq!(sidecar.log().matches("a mapping may not be written").count(), TAKEN.len(), "{}", sidecar.log());
}

#[test]
fn what_is_no_table_is_refused_with_advice_that_works() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE base (id int PRIMARY KEY, v text); INSERT INTO base VALUES (1, 'a'); \
         CREATE VIEW shown AS SELECT id, v FROM base; CREATE MATERIALIZED VIEW kept AS SELECT id, v FROM base; \
         CREATE FOREIGN DATA WRAPPER none; CREATE SERVER far FOREIGN DATA WRAPPER none; \
         CREATE FOREIGN TABLE away (id int, v text) SERVER far",
    );
    let builder = |config: &str| Sidecar::builder().redis(&redis).postgres(&postgres).config(config);
    for (name, what) in [("shown", "a view"), ("kept", "a materialized view"), ("away", "a foreign table")] {
        for write in ["through", "reject"] {
            let config = hash("t:{id:int}", name, "").replace("through", write);
            let (is_content, told) = check(&builder(&config));
            let expected =
                format!("caches[0].table: '{name}' is {what}, and nothing says what changes in it: write a query");
            assert!(!is_content && told.contains(&expected), "{told}");
            assert!(!told.contains("watch:") && !told.contains("trigger"), "{told}");
        }
    }
    let query = |watched: &str| {
        format!(
            "[[caches]]\nkey = \"t:{{id:int}}\"\ntype = \"hash\"\nquery = \"SELECT id, v FROM shown WHERE id = $1\"\n\
             watch = [{{ table = \"{watched}\" }}]\n"
        )
    };
    let (is_content, told) = check(&builder(&query("shown")));
    assert!(!is_content && told.contains("caches[0].watch: 'shown' is a view"), "{told}");
    let sidecar = builder(&query("base")).migrated().start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql("UPDATE base SET v = 'b'");
    crate::support::until("the change is seen", || wire.ask("HGET t:1 v") == "$1\r\nb\r\n");
}
