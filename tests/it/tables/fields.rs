//! Columns of every type as fields: what is read, what may be written, and the table of them in the documents.

use super::hash;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::until;

/// A type, a value as it is read, another spelling that a write may have, and how that is read.
const TYPES: [[&str; 4]; 36] = [
    ["smallint", "7", "007", "7"],
    ["integer", "-7", " 8 ", "8"],
    ["bigint", "9223372036854775807", "+5", "5"],
    ["numeric", "1.50", "1.5e3", "1500"],
    ["numeric(10,2)", "1.50", "2", "2.00"],
    ["real", "1.5", "15e-1", "1.5"],
    ["double precision", "0.1", "1e2", "100"],
    ["boolean", "true", "f", "false"],
    ["text", "a b", "", ""],
    ["varchar(8)", "a b", "ä", "ä"],
    ["char(4)", "ab  ", "c", "c   "],
    ["citext", "Ann", "BOB", "BOB"],
    ["name", "ann", "bob", "bob"],
    [
        "uuid",
        "0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11",
        "{0B6EF1C67AC94E5CA9B70D5B9D0A7A12}",
        "0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a12",
    ],
    ["slot", "head", "Left Hand", "Left Hand"],
    ["day", "2026-11-26", "20261127", "2026-11-27"],
    ["date", "2026-11-26", "Nov 27, 2026", "2026-11-27"],
    ["time", "18:00:00", "06:00 PM", "18:00:00"],
    ["timetz", "18:00:00+00", "18:00+02", "18:00:00+02"],
    ["interval", "1 day", "P2Y3M", "2 years 3 mons"],
    ["timestamp", "2026-11-26T18:00:00", "2026-11-27 18:00", "2026-11-27T18:00:00"],
    ["timestamptz", "2026-11-26T18:00:00+00:00", "2026-11-27 18:00+02", "2026-11-27T16:00:00+00:00"],
    ["bytea", "\\x01ff", "abc", "\\x616263"],
    ["bit(3)", "101", "b111", "111"],
    ["varbit", "101", "x1f", "00011111"],
    ["inet", "10.0.0.1", "10.0.0.2/32", "10.0.0.2"],
    ["cidr", "10.0.0.0/8", "10.1/16", "10.1.0.0/16"],
    ["macaddr", "08:00:2b:01:02:03", "08002b010204", "08:00:2b:01:02:04"],
    ["money", "$1.50", "2", "$2.00"],
    ["oid", "26", "027", "27"],
    ["int4range", "[1,5)", "[1,3]", "[1,4)"],
    ["tsvector", "'a' 'b'", "c d", "'c' 'd'"],
    ["json", "{\"a\":[1,2]}", "[1, 2]", "[1,2]"],
    ["jsonb", "{\"a\":[1,2]}", "[1,2]", "[1,2]"],
    ["text[]", "[\"a\",\"b\"]", "{a,NULL}", "[\"a\",null]"],
    ["pair", "{\"a\":1,\"b\":\"x\"}", "(2,y)", "{\"a\":2,\"b\":\"y\"}"],
];

const MADE: &str = "CREATE EXTENSION citext; CREATE TYPE slot AS ENUM ('head', 'Left Hand'); \
    CREATE DOMAIN day AS date CHECK (VALUE < 'infinity'); CREATE TYPE pair AS (a integer, b text);";

#[test]
fn a_field_of_every_type_is_read_written_and_read_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let (mut sql, mut config) = (MADE.to_owned(), String::new());
    for (i, [kind, ..]) in TYPES.iter().enumerate() {
        sql.push_str(&format!("CREATE TABLE t{i} (id int PRIMARY KEY, v {kind}, w {kind}); "));
        sql.push_str(&format!("INSERT INTO t{i} (id) VALUES (1); "));
        config.push_str(&hash(&format!("{i}:{{id:int}}"), &format!("t{i}"), ""));
    }
    let sidecar = super::over(&redis, &postgres, &sql, &config).start();
    let mut wire = sidecar.wire();
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    let mut wrong = Vec::new();
    for (i, [kind, own, other, read]) in TYPES.iter().enumerate() {
        let key = format!("{i}:1");
        let mut ask = |words: &[&str]| String::from_utf8_lossy(&wire.call(words)).into_owned();
        // A new row, a row that is there, and what was read as it was read.
        for (key, text, read) in [("2", own, own), ("1", own, own), ("1", other, read), ("1", read, read)] {
            let key = format!("{i}:{key}");
            let set = ask(&["HSET", &key, "v", text]);
            let got = ask(&["HGET", &key, "v"]);
            if !set.starts_with(':') || got != bulk(read) {
                wrong.push(format!("{kind}: {text:?} was answered {set:?} and is read as {got:?}, not {read:?}"));
            }
        }
        // What the row holds is what another session would have made of the same value.
        let same = format!("SELECT to_jsonb(v) IS NOT DISTINCT FROM to_jsonb(w) FROM t{i} WHERE id = 1");
        postgres.sql(&format!("UPDATE t{i} SET v = w, w = v WHERE id = 1"));
        until("the change is seen", || ask(&["HGET", &key, "w"]) == bulk(read));
        assert_eq!(ask(&["HSET", &key, "v", read]), ":1\r\n", "{kind}");
        assert_eq!(postgres.sql(&same), "t", "{kind}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is quoted in a cell of a table.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_table_of_fields_says_what_was_tried() {
    let document = include_str!("../../../docs/TABLES.md");
    let section = document.split("\n## ").find(|section| section.starts_with("Columns")).expect("a section");
    let table = section.split("\n\n").find(|part| part.starts_with("| type of the column")).expect("a table of types");
    let mut named = Vec::new();
    for row in table.lines().skip(2).map(|row| row.split('|').collect::<Vec<_>>()) {
        let kinds = quoted(row[1]);
        let of_row = |tried: &&[&str; 4]| kinds.contains(&tried[0]);
        for kind in &kinds {
            assert!(TYPES.iter().any(|tried| tried[0] == *kind), "'{kind}' was not tried");
        }
        for (cell, at) in [(row[2], [1, 3]), (row[3], [2, 1])] {
            for text in quoted(cell) {
                let is_tried = TYPES.iter().filter(of_row).any(|tried| at.iter().any(|at| tried[*at] == text));
                assert!(is_tried, "'{text}' was not tried for {kinds:?}");
            }
        }
        named.extend(kinds);
    }
    for [kind, ..] in TYPES {
        let ours = ["slot", "day", "pair"].contains(&kind);
        assert!(ours || named.contains(&kind), "'{kind}' was tried and is not in the table");
    }
}
