//! Which changes are told, and as what.

use super::{installed, notices, over, text};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::until;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, hp int, place point, more json, seen timestamptz);
    INSERT INTO t SELECT i, i, point(i, i), '{}' FROM generate_series(1, 3) AS i";

#[test]
fn a_column_that_nobody_shows_is_told_to_nobody() {
    let postgres = Postgres::start();
    postgres.sql(TABLE);
    let shown = over("t", "fields = [\"hp\", \"place\", \"more\"]");
    installed(&postgres, &shown);
    let none: [&str; 0] = [];
    assert_eq!(notices(&postgres, "UPDATE t SET seen = now()"), none);
    assert_eq!(notices(&postgres, "UPDATE t SET hp = hp, place = place"), none);
    assert_eq!(notices(&postgres, "UPDATE t SET hp = 9 WHERE id > 100"), none);
    for shown in ["hp = 7", "place = point(0, 0)", "more = '{\"a\":1}'", "hp = NULL"] {
        assert_eq!(
            notices(&postgres, &format!("UPDATE t SET {shown} WHERE id = 2")),
            [r#"{"keys":["r:2"]}"#],
            "{shown}"
        );
    }
    let moved = notices(&postgres, "UPDATE t SET id = 20 WHERE id = 2");
    assert!(moved[0].contains("\"r:2\"") && moved[0].contains("\"r:20\""), "{moved:?}");
}

#[test]
fn rows_that_are_alike_are_counted() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE e (id int, v text); INSERT INTO e VALUES (1, 'a'), (1, 'a'), (1, 'b'), (2, 'x')");
    let list = "[[caches]]\nkey = \"l:{id:int}\"\ntype = \"list\"\nvalue = \"v\"\nttl = \"1h\"\n\
        query = \"SELECT v FROM e WHERE id = $1 ORDER BY v\"\nwatch = [{ table = \"e\" }]\n\
        [[caches]]\nkey = \"n:{id:int}\"\ntype = \"string\"\nvalue = \"n\"\nttl = \"1h\"\n\
        query = \"SELECT count(*) AS n FROM e WHERE id <> $1\"\nwatch = [{ table = \"e\", whole = true }]\n";
    installed(&postgres, list);
    // The same values, each once more or less often.
    let told = notices(&postgres, "UPDATE e SET v = 'b' WHERE ctid = '(0,1)'");
    assert_eq!(told, [r#"{"mapping" : "n:{id:int}"}"#, r#"{"keys":["l:1"]}"#]);
    let none: [&str; 0] = [];
    assert_eq!(notices(&postgres, "UPDATE e SET v = v"), none);
    assert_eq!(notices(&postgres, "DELETE FROM e WHERE id > 5"), none);
    let tables = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'e'::regclass";
    assert_eq!(postgres.sql(tables), "4", "one set for both mappings");
}

#[test]
fn letters_that_a_collation_takes_for_equal_are_two_keys() {
    let postgres = Postgres::start();
    postgres.sql(
        "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE c (name text COLLATE loose PRIMARY KEY, v text COLLATE loose); INSERT INTO c VALUES ('x', 'a')",
    );
    let mapping = "[[caches]]\nkey = \"c:{name}\"\ntype = \"hash\"\ntable = \"c\"\nttl = \"1h\"\n";
    installed(&postgres, mapping);
    assert_eq!(notices(&postgres, "UPDATE c SET v = 'A'"), [r#"{"keys":["c:x"]}"#]);
    let both = notices(&postgres, "UPDATE c SET name = 'X'");
    assert!(both[0].contains("c:x") && both[0].contains("c:X"), "{both:?}");
}

#[test]
fn partitions_and_children_are_told_of_however_they_are_written() {
    let postgres = Postgres::start();
    postgres.sql(
        "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100);
        CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
        CREATE TABLE p_21 PARTITION OF p_2 FOR VALUES FROM (100) TO (150);
        CREATE TABLE h (id int, v text); CREATE TABLE h_1 (extra int) INHERITS (h);
        INSERT INTO p VALUES (1, 'a'), (101, 'b'); INSERT INTO h_1 VALUES (1, 'a', 1)",
    );
    let config = over("p", "") + &over("h", "").replace("r:", "h:");
    let builder = installed(&postgres, &config);
    for (sql, key) in [
        ("UPDATE p SET v = 'x' WHERE id = 1", "r:1"),
        ("UPDATE p_1 SET v = 'y'", "r:1"),
        ("UPDATE p_2 SET v = 'z'", "r:101"),
        ("DELETE FROM p_21", "r:101"),
        ("UPDATE h SET v = 'x'", "h:1"),
        ("UPDATE h_1 SET v = 'y'", "h:1"),
    ] {
        assert_eq!(notices(&postgres, sql), [format!("{{\"keys\":[\"{key}\"]}}")], "{sql}");
    }
    postgres.sql("CREATE TABLE p_3 PARTITION OF p FOR VALUES FROM (200) TO (300)");
    let told = text(&builder.execute(&["check", "--connect"]));
    assert!(told.contains("change trigger missing on p_3 (DELETE, INSERT, TRUNCATE, UPDATE)"), "{told}");
    assert!(builder.execute(&["triggers", "--install"]).status.success());
    assert_eq!(notices(&postgres, "INSERT INTO p_3 VALUES (250)"), [r#"{"keys":["r:250"]}"#]);
}

#[test]
fn the_text_of_a_key_does_not_depend_on_who_writes() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE daily (day date, part interval, raw bytea, top text);
        INSERT INTO daily VALUES ('2026-11-26', '1 day', 'ab', 'bob')",
    );
    let mapping = |name: &str, kind: &str| {
        format!(
            "[[caches]]\nkey = \"{name}={{{name}}}\"\ntype = \"string\"\nvalue = \"top\"\nttl = \"1h\"\n\
             query = \"SELECT top FROM daily WHERE {name} = $1::text::{kind}\"\nwatch = [{{ table = \"daily\" }}]\n"
        )
    };
    let config = mapping("day", "date") + &mapping("part", "interval") + &mapping("raw", "bytea");
    let sidecar = installed(&postgres, &config).redis(&redis).start();
    let mut wire = sidecar.wire();
    let keys = ["day=2026-11-26", "part=1 day", "raw=\\x6162"];
    for key in keys {
        assert_eq!(wire.call(&["GET", key]), b"$3\r\nbob\r\n", "{key}");
    }
    postgres.sql(
        "SET datestyle = 'German'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'; \
        UPDATE daily SET top = 'cy'",
    );
    for key in keys {
        until("the change shows", || wire.call(&["GET", key]) == b"$2\r\ncy\r\n");
    }
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
}

#[test]
fn triggers_of_version_0_2_serve_until_they_are_replaced() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLE);
    let config = over("t", "");
    let builder = super::Sidecar::builder().redis(&redis).postgres(&postgres).config(&config);
    assert!(builder.execute(&["migrate"]).status.success());
    // As version 0.2 names them: the digest of the pattern, and the key's pieces.
    let digest = "r:{id:int}\0r:\0id\0"
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    for (event, end, rows) in [
        ("INSERT", "ins", "REFERENCING NEW TABLE AS new_rows"),
        ("UPDATE", "upd", "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        ("DELETE", "del", "REFERENCING OLD TABLE AS old_rows"),
        ("TRUNCATE", "trn", ""),
    ] {
        postgres.sql(&format!(
            "CREATE TRIGGER hearthside_{digest:08x}_{end} AFTER {event} ON t {rows} FOR EACH STATEMENT \
             EXECUTE FUNCTION hearthside.changed('r:{{id:int}}', 'r:', 'id', '')"
        ));
    }
    let told = builder.execute(&["check", "--connect"]);
    assert!(told.status.success(), "{}", text(&told));
    assert!(
        text(&told).contains("serve no mapping"),
        "they are superfluous once there are newer ones: {}",
        text(&told)
    );
    assert_eq!(notices(&postgres, "UPDATE t SET hp = 5 WHERE id = 1"), [r#"{"keys":["r:1"]}"#]);
    for command in ["--prune", "--install", "--prune"] {
        let done = builder.execute(&["triggers", command]);
        println!("{command}: {}", text(&done));
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_trigger WHERE tgfoid = 'hearthside.changed'::regproc"), "0");
    assert_eq!(notices(&postgres, "UPDATE t SET hp = 6 WHERE id = 1"), [r#"{"keys":["r:1"]}"#]);
}
