//! Who writes is never failed by a trigger, and never waits long for one that is made.

use super::{installed, notices, over, text};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::{until, warnings};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')";

#[test]
fn a_writer_goes_on_when_the_key_is_renamed_or_dropped_and_the_mapping_is_told_whole() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let sidecar = installed(&postgres, &over("t", "fields = [\"v\"]"))
        .redis(&redis)
        .expect(&[warnings::TRIGGER_FAILED, warnings::LOAD_FAILED])
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET r:1 v"), "$1\r\na\r\n");
    postgres.sql("ALTER TABLE t RENAME COLUMN id TO sid");
    let whole = r#"{"mapping" : "r:{id:int}", "trouble" : "42703"}"#;
    for sql in ["UPDATE t SET v = 'b'", "INSERT INTO t VALUES (2, 'x')", "DELETE FROM t WHERE sid = 2"] {
        assert_eq!(notices(&postgres, sql), [whole], "{sql}");
    }
    let counted = "hearthside_trigger_trouble_total{mapping=\"r:{id:int}\"}";
    until("the trouble is counted", || metric(&sidecar, counted) >= 3.0);
    postgres.sql("ALTER TABLE t RENAME COLUMN sid TO id");
    assert_eq!(notices(&postgres, "UPDATE t SET v = 'c'"), [r#"{"keys":["r:1"]}"#]);
    until("the new value shows", || wire.ask("HGET r:1 v") == "$1\r\nc\r\n");
    postgres.sql("ALTER TABLE t DROP COLUMN v");
    assert_eq!(notices(&postgres, "UPDATE t SET id = 5"), [whole]);
    postgres.sql("ALTER TABLE t DROP COLUMN id CASCADE; ALTER TABLE t ADD COLUMN other int");
    assert_eq!(notices(&postgres, "UPDATE t SET other = 5"), [whole]);
}

#[test]
fn a_writer_needs_no_rights_and_no_schema_of_ours() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let builder = installed(&postgres, &over("t", ""));
    postgres.sql("CREATE ROLE app LOGIN; GRANT ALL ON t TO app; REVOKE ALL ON SCHEMA hearthside FROM PUBLIC");
    postgres.sql("ALTER SCHEMA hearthside RENAME TO elsewhere");
    assert_eq!(notices(&postgres, "SET ROLE app; UPDATE t SET v = 'b'"), [r#"{"keys":["r:1"]}"#]);
    // Without the right to call pg_notify the whole mapping is told, by the command NOTIFY, which asks for none.
    let revoke = "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC";
    let whole = r#"{"mapping" : "r:{id:int}", "trouble" : "42501"}"#;
    postgres.sql(revoke);
    assert_eq!(notices(&postgres, "SET ROLE app; UPDATE t SET v = 'c'"), [whole]);
    assert_eq!(postgres.sql("SELECT v FROM t"), "c");
    postgres.sql("ALTER SCHEMA elsewhere RENAME TO hearthside");
    let checked = text(&builder.execute(&["check", "--connect"]));
    assert!(checked.contains("not every role may call pg_notify"), "{checked}");
}

#[test]
fn notices_of_somebody_else_do_not_fill_the_log() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let sidecar = installed(&postgres, &over("t", "")).redis(&redis).expect(&[warnings::NOTICE_UNREADABLE]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET r:1 v"), "$1\r\na\r\n");
    postgres.sql("DO $$ BEGIN FOR i IN 1..1000 LOOP PERFORM pg_notify('hearthside', 'x' || i); END LOOP; END $$");
    postgres.sql("UPDATE t SET v = 'b'");
    until("what came behind them is seen", || wire.ask("HGET r:1 v") == "$1\r\nb\r\n");
    assert!(sidecar.log().matches("cannot be read").count() <= 2);
}

#[test]
fn triggers_of_version_0_2_do_not_fail_a_writer_once_the_store_is_migrated() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    installed(&postgres, &over("t", ""));
    postgres.sql(
        "CREATE TABLE old (id int, v text); CREATE TRIGGER hearthside_old AFTER INSERT ON old \
         REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT \
         EXECUTE FUNCTION hearthside.changed('o:{id}', 'o:', 'id', '')",
    );
    assert_eq!(notices(&postgres, "INSERT INTO old VALUES (1)"), [r#"{"keys":["o:1"]}"#]);
    postgres.sql("ALTER TABLE old RENAME COLUMN id TO sid");
    assert_eq!(notices(&postgres, "INSERT INTO old VALUES (2)"), [r#"{"mapping" : "o:{id}", "trouble" : "42703"}"#]);
}

#[test]
fn installing_again_waits_for_nobody_and_nobody_waits_for_it() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let builder = installed(&postgres, &over("t", ""));
    let mut reader = postgres.session();
    reader.run("BEGIN; SELECT * FROM t;");
    let again = builder.execute(&["triggers", "--install"]);
    assert!(again.status.success() && text(&again).contains("nothing to do"), "{}", text(&again));
    // Another set beside it, too: who reads is not in the way.
    let other = installed(&postgres, &over("t", "fields = [\"v\"]"));
    assert!(text(&other.execute(&["triggers", "--install"])).contains("nothing to do"));
    // To drop the first, the table must be free; who reads meanwhile waits no longer than the timeout.
    let pruned = other.execute(&["triggers", "--prune", "--lock-timeout", "50ms"]);
    assert!(pruned.status.code() == Some(1) && text(&pruned).contains("lock timeout"), "{}", text(&pruned));
    assert_eq!(postgres.sql("SELECT count(*) FROM t"), "1");
    reader.run("COMMIT;");
    let pruned = other.execute(&["triggers", "--prune"]);
    assert!(pruned.status.success(), "{}", text(&pruned));
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass"), "4");
}

#[test]
fn what_a_writer_has_set_stays_and_misleads_no_trigger() {
    let postgres = Postgres::start();
    postgres.sql(
        "CREATE TABLE t (id int PRIMARY KEY, day date, v text); CREATE SCHEMA strange;
        INSERT INTO t VALUES (1, '2026-11-26', 'a'), (2, '2026-11-27', 'b');
        CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'a'), (2, 'b');
        CREATE FUNCTION strange.to_json(text) RETURNS json LANGUAGE sql AS $$ SELECT '\"strange\"'::json $$;
        CREATE FUNCTION strange.pg_notify(text, text) RETURNS void LANGUAGE sql AS '';
        CREATE FUNCTION strange.join(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'strange'::text $$;
        CREATE OPERATOR strange.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = strange.join);
        CREATE FUNCTION strange.same(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
        CREATE OPERATOR strange.= (LEFTARG = text, RIGHTARG = text, FUNCTION = strange.same)",
    );
    let by_day = over("t", "").replace("r:{id:int}", "d:{day}");
    installed(&postgres, &(over("t", "") + &by_day + &over("u", "").replace("r:", "u:")));
    let set = "SET search_path = strange, pg_catalog, public; SET datestyle = 'German'; SET timezone = 'Asia/Tokyo'";
    let shown = "SELECT CASE WHEN current_setting('search_path') OPERATOR(pg_catalog.=) 'strange, pg_catalog, public' \
        AND current_setting('timezone') OPERATOR(pg_catalog.=) 'Asia/Tokyo' \
        AND (date '2026-11-26')::text OPERATOR(pg_catalog.=) '26.11.2026' \
        THEN pg_catalog.pg_notify('hearthside', 'x') END";
    for (sql, keys) in [
        ("UPDATE t SET v = 'c' WHERE id OPERATOR(pg_catalog.=) 1", r#""d:2026-11-26","r:1""#),
        ("DELETE FROM t WHERE id OPERATOR(pg_catalog.=) 1", r#""d:2026-11-26","r:1""#),
        ("INSERT INTO t VALUES (3, '28.11.2026')", r#""d:2026-11-28","r:3""#),
        ("UPDATE u SET v = 'c' WHERE id OPERATOR(pg_catalog.=) 1", r#""u:1""#),
        ("UPDATE u SET v = 'd'", r#""u:1","u:2""#),
        ("DELETE FROM u WHERE id OPERATOR(pg_catalog.=) 1", r#""u:1""#),
        ("INSERT INTO u VALUES (3)", r#""u:3""#),
    ] {
        let told = notices(&postgres, &format!("{set}; {sql}; {shown}"));
        let turned = keys.split(',').rev().collect::<Vec<_>>().join(",");
        assert!(told[0].contains(keys) || told[0].contains(&turned), "{sql}: {told:?}");
        assert_eq!(told[1..], ["x"], "the settings are as they were: {sql}");
    }
}

#[test]
fn a_row_that_is_one_of_many_or_has_no_key_is_told_like_one_alone() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE t (id text UNIQUE, v text); INSERT INTO t VALUES ('1', 'a'), ('2', 'b'), (NULL, 'c')");
    installed(&postgres, &over("t", "").replace(":int", ""));
    let none: [&str; 0] = [];
    for (sql, told) in [
        ("UPDATE t SET v = 'x' WHERE id = '1'", r#"{"keys":["r:1"]}"#),
        ("UPDATE t SET v = v || '\"' WHERE id = '2'", r#"{"keys":["r:2"]}"#),
        ("INSERT INTO t VALUES ('\"\\')", r#"{"keys":["r:\"\\"]}"#),
        ("UPDATE t SET id = repeat('\"', 570) WHERE id = '1'", ""),
        ("SET hearthside.origin = 'me\"'; DELETE FROM t WHERE id = '2'", r#"{"keys":["r:2"],"from":"me\""}"#),
        ("DELETE FROM t WHERE id = '\"\\'", r#"{"keys":["r:\"\\"]}"#),
    ] {
        let found = notices(&postgres, sql);
        assert!(found == [told] || told.is_empty() && found.len() == 1 && found[0].contains("r:1"), "{sql}: {found:?}");
    }
    for sql in
        ["UPDATE t SET v = 'z' WHERE id IS NULL", "DELETE FROM t WHERE id IS NULL", "INSERT INTO t VALUES (NULL)"]
    {
        assert_eq!(notices(&postgres, sql), none, "{sql}");
    }
    // Longer than a notice may be.
    let long = notices(&postgres, "INSERT INTO t VALUES (repeat('\"', 7000))");
    assert_eq!(long, [r#"{"mapping" : "r:{id}"}"#]);
}
