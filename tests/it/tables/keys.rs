//! Keys of every type that has an equality.

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

/// A type, how a column of it writes a value, how it writes another one, how the first may be written too, and what is
/// no value of it. Empty where there is no such text.
const TYPES: [[&str; 5]; 38] = [
    ["smallint", "7", "8", "07", "40000"],
    ["integer", "7", "-8", "+7", "seven"],
    ["bigint", "7", "8", "7.0", "9223372036854775808"],
    ["whole", "7", "8", "07", "x"],
    ["numeric", "1.50", "1.5e", "1.500", "one"],
    ["numeric(10,2)", "1.50", "2.00", "1.5", "99999999999"],
    ["numeric(20,0)", "184467440737095516", "8", "8.1", "x"],
    ["real", "1.5", "2", "1.50", "1e50"],
    ["double precision", "1.5", "2", "15e-1", "1e400"],
    ["boolean", "true", "false", "t", "maybe"],
    ["slot", "head", "Left Hand", "", "foot"],
    ["slot_of", "head", "Left Hand", "", "foot"],
    ["date", "2026-11-26", "infinity", "20261126", "2026-02-30"],
    ["day", "2026-11-26", "0044-03-15 BC", "Nov 26, 2026", "tomorrow's"],
    ["interval", "1 day", "2 years 3 mons", "24 hours 0", "1 dax"],
    ["text", "a b", "ä", "", ""],
    ["varchar(3)", "abc", "xyz", "", "abcd"],
    ["char(4)", "ab", "cd", "ab  ", ""],
    ["citext", "Ann", "bob", "ANN", ""],
    ["name", "ann", "bob", "", ""],
    ["\"char\"", "a", "b", "ab", ""],
    [
        "uuid",
        "0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11",
        "00000000-0000-0000-0000-0000000000ff",
        "0B6EF1C6-7AC9-4E5C-A9B7-0D5B9D0A7A11",
        "x",
    ],
    ["bytea", "\\x01ff", "\\x", "\\x01FF", "\\xz"],
    ["bit(3)", "101", "111", "1010", "201"],
    ["varbit", "101", "1", "b101", "201"],
    ["inet", "10.0.0.1/32", "10.1.0.0/16", "10.0.0.1", "10.0.0"],
    ["cidr", "10.0.0.0/8", "10.1.0.0/16", "10/8", "10.0.0.1/8"],
    ["oid", "26", "27", "026", "-x"],
    ["xid8", "26", "27", "026", "x"],
    ["pg_lsn", "16/B374D848", "0/1", "16/b374d848", "16"],
    ["money", "$1.50", "$2.00", "1.5", "x"],
    ["int4range", "[1,5)", "empty", "[1,4]", "[5,1)"],
    ["daterange", "[2026-01-01,2026-02-01)", "(,)", "[2026-01-01,2026-01-31]", "x"],
    ["int4multirange", "{[1,5)}", "{}", "{[1,4]}", "x"],
    ["integer[]", "{1,2}", "{}", "{1, 2}", "{x}"],
    ["jsonb", "[1, 2]", "{}", "[1,2]", "{"],
    ["tsvector", "'a' 'b'", "'c'", "b a", ""],
    ["pair", "(1,a)", "(2,b)", "(01,a)", "1"],
];

const MADE: &str = "CREATE EXTENSION citext; CREATE DOMAIN whole AS bigint CHECK (VALUE > 0); \
    CREATE TYPE slot AS ENUM ('head', 'Left Hand'); CREATE DOMAIN slot_of AS slot; CREATE DOMAIN some_day AS date; \
    CREATE DOMAIN day AS some_day CHECK (VALUE < 'infinity'); CREATE TYPE pair AS (a integer, b text);";

/// A table for each type, which holds its first value, and a mapping over it.
fn builder(redis: &Redis, postgres: &Postgres) -> Builder {
    let (mut sql, mut config) = (MADE.to_owned(), String::new());
    for (i, [kind, own, ..]) in TYPES.iter().enumerate() {
        sql.push_str(&format!("CREATE TABLE t{i} (k {kind} PRIMARY KEY, v text); "));
        sql.push_str(&format!("INSERT INTO t{i} VALUES ('{}', 'there'); ", own.replace('\'', "''")));
        config.push_str(&format!(
            "[[caches]]\nkey = \"{i}:{{k}}\"\ntype = \"hash\"\ntable = \"t{i}\"\nwrite = \"through\"\ndelete = \
             \"row\"\n\n"
        ));
    }
    postgres.sql(&sql);
    Sidecar::builder().redis(redis).postgres(postgres).config(&config).migrated()
}

#[test]
fn a_key_of_every_type_with_equality_is_read_written_listed_and_followed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = builder(&redis, &postgres).expect(&[warnings::WRITE_FAILED]).start();
    let mut wire = sidecar.wire();
    let mut ask = |words: &[&str]| String::from_utf8_lossy(&wire.call(words)).into_owned();
    for (i, [kind, own, new, other, none]) in TYPES.iter().enumerate() {
        let key = |text: &str| format!("{i}:{text}");
        assert_eq!(ask(&["HGET", &key(own), "v"]), "$5\r\nthere\r\n", "{kind}");
        for absent in [other, none].into_iter().filter(|text| !text.is_empty()) {
            assert_eq!(ask(&["HGETALL", &key(absent)]), "*0\r\n", "{kind} {absent}");
            let told = ask(&["HSET", &key(absent), "v", "x"]);
            assert!(told.starts_with("-ERR") && told.contains("was not written"), "{kind} {absent}: {told}");
        }
        assert_eq!(ask(&["HSET", &key(own), "v", "again"]), ":0\r\n", "{kind}");
        if *kind != "numeric" {
            assert_eq!(ask(&["HSET", &key(new), "v", "new"]), ":1\r\n", "{kind} {new}");
            assert_eq!(ask(&["HGET", &key(new), "v"]), "$3\r\nnew\r\n", "{kind} {new}");
            assert_eq!(ask(&["DEL", &key(new)]), ":1\r\n", "{kind} {new}");
        }
        assert_eq!(postgres.sql(&format!("SELECT v FROM t{i}")), "again", "{kind}");
        let listed = ask(&["KEYS", &format!("{i}:*")]);
        assert_eq!(listed, format!("*1\r\n${}\r\n{}\r\n", key(own).len(), key(own)), "{kind}");
        postgres.sql(&format!("UPDATE t{i} SET v = 'changed'"));
        until("the change is seen", || ask(&["HGET", &key(own), "v"]) == "$7\r\nchanged\r\n");
    }
}

#[test]
fn a_key_of_columns_of_several_types_is_found_by_their_index() {
    let (redis, postgres) = (Redis::start(), Postgres::start_with("-c shared_preload_libraries=auto_explain"));
    // How the value of row `i` is made.
    let values = [
        ("numeric(10,2)", "i"),
        ("date", "date '2000-01-01' + i"),
        ("inet", "inet '10.0.0.0' + i"),
        ("oid", "i::oid"),
        ("bytea", "int4send(i)"),
        ("double precision", "i + 0.5"),
        ("char(8)", "'c' || i"),
        ("citext", "'N' || i"),
        ("days", "date '2000-01-01' + i"),
        ("int4range", "int4range(i, i + 1)"),
    ];
    let mut sql = "CREATE EXTENSION citext; CREATE DOMAIN days AS date; CREATE TYPE slot AS ENUM ('head', 'hand'); \
        CREATE TABLE many (player int, slot slot, day date, v text, PRIMARY KEY (player, slot, day)); \
        INSERT INTO many SELECT i, 'hand', date '2000-01-01' + i, 'v' FROM generate_series(1, 5000) AS i; ANALYZE many; "
        .to_owned();
    let block = |key: &str, table: &str| {
        format!("[[caches]]\nkey = \"{key}\"\ntype = \"hash\"\ntable = \"{table}\"\nwrite = \"through\"\n\n")
    };
    let mut config = block("many:{player:int}:{slot}:{day}", "many");
    for (n, (kind, value)) in values.iter().enumerate() {
        sql.push_str(&format!(
            "CREATE TABLE t{n} (k {kind} PRIMARY KEY, i int, v text); \
             INSERT INTO t{n} SELECT {value}, i, 'v' FROM generate_series(1, 5000) AS i; ANALYZE t{n}; "
        ));
        config.push_str(&block(&format!("t{n}:{{k}}"), &format!("t{n}")));
    }
    postgres.sql(&sql);
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).migrated();
    postgres.sql("ALTER DATABASE postgres SET auto_explain.log_min_duration = 0");
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    let mut plans = |key: &str, table: &str| {
        let before = postgres.log().len();
        assert_eq!(wire.ask(&format!("HGET {key} v")), "$1\r\nv\r\n", "{key}");
        assert_eq!(wire.ask(&format!("HSET {key} v w")), ":0\r\n", "{key}");
        let scans = || {
            let plans = postgres.log()[before..].to_owned();
            [format!("using {table}_pkey on {table}"), format!("Seq Scan on {table}")]
                .map(|scan| plans.matches(&scan).count())
        };
        until("the plans are logged", || scans()[0] >= 3);
        assert_eq!(scans()[1], 0, "{key}: {}", &postgres.log()[before..]);
    };
    plans("many:77:hand:2000-03-18", "many");
    for n in 0..values.len() {
        let key = postgres.sql(&format!("SELECT k::text FROM t{n} WHERE i = 77"));
        plans(&format!("t{n}:{key}"), &format!("t{n}"));
    }
    let told = wire.ask("HSET many:77:foot:2000-03-18 v x");
    assert!(told.contains("no value of its column"), "{told}");
    assert_eq!(wire.ask("HGETALL many:77:foot:2000-03-18"), "*0\r\n");
    assert_eq!(wire.ask("HSET many:77:head:2000-03-18 v x"), ":1\r\n");
    // A transaction goes on behind a key that is no value.
    for request in ["MULTI", "HGET many:77:foot:2000-03-18 v", "HSET many:77:head:2000-03-18 v y"] {
        wire.ask(request);
    }
    assert_eq!(wire.ask("EXEC"), "*2\r\n$-1\r\n:0\r\n");
}

#[test]
fn what_no_key_could_name_or_no_parameter_takes_is_refused_at_check() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TYPE slot AS ENUM ('head'); CREATE TABLE t (at timestamptz PRIMARY KEY, day date, mac macaddr, \
         slot slot, price numeric, doc json, v text); INSERT INTO t VALUES (now(), '2026-11-26', NULL, 'head', 1.5)",
    );
    let table = |key: &str| format!("[[caches]]\nkey = \"{key}\"\ntype = \"hash\"\ntable = \"t\"\n");
    let query = |key: &str, kind: &str, sql: &str| {
        format!(
            "[[caches]]\nkey = \"{key}\"\ntype = \"{kind}\"\nquery = \"SELECT day, slot, price, v FROM t WHERE \
             {sql}\"\nwatch = [{{ table = \"t\", whole = true }}]\n"
        )
    };
    for (config, expected) in [
        (table("a:{at}"), "caches[0].key: the column 'at' (timestamptz) writes its values with ':'"),
        (table("a:{mac}"), "caches[0].key: the column 'mac' (macaddr)"),
        (table("a:{day:int}"), "caches[0].key: {day:int} takes whole numbers only"),
        (table("a:{doc}"), "caches[0].key: operator does not exist: json = json"),
        (query("a:{day}", "hash", "day = $1"), "caches[0].query: parameter $1 is of type date, and is given a text"),
        (query("a:{slot}", "hash", "slot = $1"), "write $1::text::slot"),
        (query("a:{price}", "hash", "price = $1"), "write $1::text::numeric"),
    ] {
        let output =
            Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).execute(&["check", "--connect"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && told.contains(expected), "{expected}: {told}");
    }
    let config = query("s:{slot}", "hash", "slot = $1::text::slot LIMIT 1")
        + &query("d:{day}:{price}", "hash", "day = $1::text::date AND price = $2::text::numeric LIMIT 1")
        + &query("f:{price}", "hash", "price::float8 = $1::text::double precision LIMIT 1")
        + &query("n:{price}", "hash", "price = $1::text::numeric(4, 1) LIMIT 1")
        + &query("l:{slot}", "list", "slot = $1::text::slot");
    let sidecar = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).migrated();
    let sidecar = sidecar.expect(&[warnings::NO_ORDER]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET s:head price"), "$3\r\n1.5\r\n");
    assert_eq!(wire.ask("HGET d:2026-11-26:1.5 slot"), "$4\r\nhead\r\n");
    assert_eq!(wire.ask("HGET f:1.5 slot"), "$4\r\nhead\r\n");
    assert_eq!(wire.ask("HGET n:1.5 slot"), "$4\r\nhead\r\n");
    for absent in [
        "f:x",
        "f:1.50",
        "n:x",
        "n:1.50",
        "s:foot",
        "d:yesterday:1.5",
        "d:2026-02-30:1.5",
        "d:2026-11-26:x",
        "d:2026-11-26:1.50",
    ] {
        assert_eq!(wire.ask(&format!("HGETALL {absent}")), "*0\r\n", "{absent}");
    }
    assert_eq!((wire.ask("LLEN l:foot"), wire.ask("LLEN l:head")), (":0\r\n".into(), ":1\r\n".into()));
    assert!(sidecar.log().contains("has no ORDER BY"));
}

/// What is quoted in a cell of a table.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_table_of_types_says_what_was_tried() {
    let document = include_str!("../../../docs/TABLES.md");
    let section = document.split("\n## ").find(|section| section.starts_with("Keys")).expect("a section about keys");
    let rows: Vec<Vec<&str>> =
        section.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').collect()).collect();
    let is_tried = |text: &&str, at: &[usize]| TYPES.iter().any(|tried| at.iter().any(|at| tried[*at] == *text));
    let (mut named, mut refused) = (Vec::new(), Vec::new());
    for row in rows {
        let kinds = if row[2].contains("refused") { &mut refused } else { &mut named };
        kinds.extend(quoted(row[1]).iter().map(|kind| kind.split('(').next().unwrap_or(kind).to_owned()));
        for text in quoted(row[2]) {
            assert!(is_tried(&text, &[1, 2]), "'{text}' is no key that was tried");
        }
        for text in quoted(row[3]) {
            assert!(is_tried(&text, &[3]), "'{text}' is no other spelling that was tried");
        }
    }
    let tried: Vec<&str> = TYPES.iter().map(|[kind, ..]| kind.split('(').next().unwrap_or(kind)).collect();
    for kind in &named {
        assert!(tried.contains(&kind.as_str()), "'{kind}' was not tried");
    }
    let ours = ["whole", "slot", "slot_of", "day", "pair", "\"char\""];
    for kind in tried.iter().filter(|kind| !ours.contains(kind)) {
        assert!(named.iter().any(|named| named == kind), "'{kind}' was tried and is not in the table");
    }
    let (redis, postgres) = (Redis::start(), Postgres::start());
    assert!(refused.len() == 6, "{refused:?}");
    for kind in refused {
        postgres.sql(&format!("DROP TABLE IF EXISTS t; CREATE TABLE t (k {kind} PRIMARY KEY, v text)"));
        let config = "[[caches]]\nkey = \"a:{k}\"\ntype = \"hash\"\ntable = \"t\"\n";
        let output =
            Sidecar::builder().redis(&redis).postgres(&postgres).config(config).execute(&["check", "--connect"]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("which ends a placeholder"), "{kind}");
    }
}
