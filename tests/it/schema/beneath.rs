//! What a table's own columns do not show: the labels of an enum, the columns of a composite type, policies, triggers
//! that were disabled for a while, views below views, functions.

use super::{over, soon};
use crate::support::admin::request;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Builder;

/// A hash over the table `t`.
const TABLE: &str = "[[caches]]\nkey = \"t:{id:int}\"\ntype = \"hash\"\ntable = \"t\"\n";

/// A hash over this query, for changes of the table `t`.
fn query(sql: &str) -> String {
    format!(
        "[[caches]]\nkey = \"t:{{id:int}}\"\ntype = \"hash\"\nquery = '''{sql}'''\n\
         watch = [{{ table = \"t\" }}]\n"
    )
}

/// What the key `t:1` shows after these changes.
fn shows(made: &str, mapping: &str, before: &str, change: &str, after: &str) {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(made);
    let sidecar = over(&redis, &postgres, mapping).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), before, "{change}");
    postgres.sql(change);
    soon(change, || wire.ask("HGET t:1 v") == after);
}

#[test]
fn a_type_that_is_altered_shows_in_what_is_cached() {
    shows(
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id INT PRIMARY KEY, v mood); INSERT INTO t VALUES (1, 'sad')",
        TABLE,
        "$3\r\nsad\r\n",
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "$4\r\nblue\r\n",
    );
    shows(
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id INT PRIMARY KEY, v mood[]); \
         INSERT INTO t VALUES (1, '{sad}')",
        TABLE,
        "$7\r\n[\"sad\"]\r\n",
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "$8\r\n[\"blue\"]\r\n",
    );
    shows(
        "CREATE TYPE place AS (x INT); CREATE TABLE t (id INT PRIMARY KEY, v place); INSERT INTO t VALUES (1, '(5)')",
        TABLE,
        "$7\r\n{\"x\":5}\r\n",
        "ALTER TYPE place RENAME ATTRIBUTE x TO east",
        "$10\r\n{\"east\":5}\r\n",
    );
}

#[test]
fn rows_that_change_while_their_triggers_are_disabled_in_one_transaction_are_seen() {
    shows(
        "CREATE TABLE t (id INT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'old')",
        TABLE,
        "$3\r\nold\r\n",
        "BEGIN; ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET v = 'new'; ALTER TABLE t ENABLE TRIGGER ALL; COMMIT",
        "$3\r\nnew\r\n",
    );
}

#[test]
fn what_a_view_is_made_of_is_looked_at_down_to_the_tables() {
    let made = "CREATE TABLE t (id INT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'old'); \
        CREATE VIEW below AS SELECT id, v FROM t; CREATE VIEW above AS SELECT * FROM below";
    let change = "CREATE OR REPLACE VIEW below AS SELECT id, upper(v) AS v FROM t";
    shows(made, &query("SELECT id, v FROM above WHERE id = $1"), "$3\r\nold\r\n", change, "$3\r\nOLD\r\n");
    let commented = "SELECT id, v -- the player's row\nFROM above WHERE id = $1";
    shows(made, &query(commented), "$3\r\nold\r\n", change, "$3\r\nOLD\r\n");
}

#[test]
fn a_row_that_a_changed_policy_hides_is_not_served_any_more() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'old'); CREATE ROLE app LOGIN; \
         GRANT SELECT ON t TO app; ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY seen ON t FOR SELECT TO app USING (true)",
    );
    let as_app = |builder: Builder| builder.set("STORE__URL", postgres.url().replace("postgres@", "app@"));
    let sidecar = as_app(over(&redis, &postgres, TABLE)).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$3\r\nold\r\n");
    postgres.sql("ALTER POLICY seen ON t USING (id > 1)");
    soon("the policy is looked at", || wire.ask("HGET t:1 v") == "$-1\r\n");
    postgres.sql("DROP POLICY seen ON t; CREATE POLICY seen ON t FOR SELECT TO app USING (true)");
    soon("another of its name is, too", || wire.ask("HGET t:1 v") == "$3\r\nold\r\n");
}

#[test]
fn a_reload_that_is_asked_for_forgets_what_a_function_made() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let function = |word: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION word(INT) RETURNS TEXT LANGUAGE sql AS $$ SELECT '{word}' || id FROM t \
             WHERE id = $1 $$"
        )
    };
    postgres.sql(&format!("CREATE TABLE t (id INT PRIMARY KEY); INSERT INTO t VALUES (1); {}", function("a")));
    let sidecar = over(&redis, &postgres, &query("SELECT id, word(id) AS v FROM t WHERE id = $1")).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$2\r\na1\r\n");
    postgres.sql(&function("b"));
    assert_eq!(wire.ask("HEARTHSIDE RELOAD"), "+OK\r\n");
    soon("RELOAD forgets", || wire.ask("HGET t:1 v") == "$2\r\nb1\r\n");
    postgres.sql(&function("c"));
    assert_eq!(request(&sidecar, "POST", "/reload"), (200, "reloaded\n".into()));
    assert_eq!(wire.ask("HGET t:1 v"), "$2\r\nc1\r\n");
}
