//! Types of extensions: what was read can be written again, and a key is found under the text that lists it.

use super::{check, hash, over};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::wire::Wire;

const TABLES: &str = "CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION citext; CREATE EXTENSION cube;
    CREATE EXTENSION seg; CREATE EXTENSION isn; CREATE EXTENSION intarray; CREATE DOMAIN labels AS hstore;
    CREATE TABLE e (id int PRIMARY KEY, h hstore, hs hstore[], d labels, l ltree, ls ltree[], c citext, q cube, s seg,
        i isbn13, n query_int);
    INSERT INTO e VALUES (1, 'a=>1, \"b c\"=>NULL, d=>\"\\\"\"', ARRAY['a=>1'::hstore, NULL], 'x=>y', 'a.b',
        ARRAY['a.b'::ltree], 'Ab', '(1,2)', '1.0 .. 2.0', '978-0-393-04002-9', '1&2');
    CREATE TABLE h (k hstore PRIMARY KEY, v text); INSERT INTO h VALUES ('a=>1', 'x');
    CREATE TABLE l (k ltree PRIMARY KEY, v text); INSERT INTO l VALUES ('a.b', 'x')";

const FIELDS: [&str; 10] = ["h", "hs", "d", "l", "ls", "c", "q", "s", "i", "n"];

/// A request whose parts may hold anything.
fn ask(wire: &mut Wire, parts: &[&str]) -> String {
    let bulk = |part: &&str| format!("${}\r\n{part}\r\n", part.len());
    wire.send(format!("*{}\r\n{}", parts.len(), parts.iter().map(bulk).collect::<String>()).as_bytes());
    String::from_utf8(wire.frame()).expect("a text")
}

#[test]
fn what_is_read_of_an_extensions_type_can_be_written() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let config = hash("e:{id:int}", "e", "") + &hash("w:{id:int}", "e", "deferred = [\"h\", \"hs\", \"d\", \"l\"]");
    let builder = over(&redis, &postgres, TABLES, &config);
    let (is_sound, told) = check(&builder);
    assert!(is_sound && told.lines().all(|line| line.contains("commands write the rows")), "{told}");
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    let before = postgres.sql("SELECT * FROM e");
    for mapping in ["e", "w"] {
        let read = wire.ask(&format!("HGETALL {mapping}:1"));
        for field in FIELDS {
            let value = wire.ask(&format!("HGET {mapping}:1 {field}"));
            let value = value.split_once("\r\n").expect("a value").1.trim_end_matches("\r\n").to_owned();
            let told = ask(&mut wire, &["HSET", &format!("{mapping}:1"), field, &value]);
            assert_eq!(told, ":0\r\n", "{field}: {value}");
        }
        until("everything is saved", || metric(&sidecar, "hearthside_deferred_keys") == 0.0);
        assert_eq!(postgres.sql("SELECT * FROM e"), before);
        assert_eq!(wire.ask(&format!("HGETALL {mapping}:1")), read);
    }
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
    assert_eq!(ask(&mut wire, &["HSET", "e:7", "h", "z=>1"]), ":1\r\n");
    assert_eq!(wire.ask("HGET e:7 h"), "$8\r\n\"z\"=>\"1\"\r\n");
}

#[test]
fn a_key_of_an_extensions_type_is_found_under_its_text() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let config = hash("h:{k}", "h", "") + &hash("l:{k}", "l", "");
    let sidecar = over(&redis, &postgres, TABLES, &config).start();
    let mut wire = sidecar.wire();
    for (key, others, table) in [("h:\"a\"=>\"1\"", ["h:a=>1", "h:a"], "h"), ("l:a.b", ["l:a..b", "l:b"], "l")] {
        assert_eq!(ask(&mut wire, &["HGET", key, "v"]), "$1\r\nx\r\n", "{key}");
        for other in others {
            assert_eq!(ask(&mut wire, &["HGET", other, "v"]), "$-1\r\n", "{other}");
        }
        assert_eq!(ask(&mut wire, &["HSET", key, "v", "y"]), ":0\r\n", "{key}");
        assert_eq!(wire.ask(&format!("KEYS {table}:*")), format!("*1\r\n${}\r\n{key}\r\n", key.len()));
        postgres.sql(&format!("UPDATE {table} SET v = 'z'"));
        until("the change is told", || ask(&mut wire, &["HGET", key, "v"]) == "$1\r\nz\r\n");
    }
}
