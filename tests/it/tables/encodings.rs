//! Databases whose encoding is not UTF-8: what has no form there is absent, or refused, and what has none in UTF-8 ends
//! no session.

use super::{check, hash};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{until, warnings};

const TABLES: &str = "CREATE TABLE t (name text PRIMARY KEY, v text, w text, d text, more jsonb); \
    INSERT INTO t VALUES ('a', '1'); CREATE TABLE m (id int, member text, PRIMARY KEY (id, member)); \
    CREATE TABLE l (at serial, id int, v text)";

fn config() -> String {
    hash("t:{name}", "t", "overflow = \"more\"\ndeferred = [\"d\"]")
        + "[[caches]]\nkey = \"m:{id:int}\"\ntype = \"set\"\ntable = \"m\"\nvalue = \"member\"\nwrite = \"through\"\n\
           [[caches]]\nkey = \"l:{id:int}\"\ntype = \"list\"\nvalue = \"v\"\nwrite = \"through\"\n\
           query = \"SELECT v FROM l WHERE id = $1 ORDER BY at\"\nwatch = [{ table = \"l\", key = { id = \"id\" } }]\n\
           push = \"INSERT INTO l (id, v) VALUES ($1, $2)\"\nremove = \"DELETE FROM l WHERE id = $1 AND v = $2\"\n\
           [[caches]]\nkey = \"q:{name}\"\ntype = \"hash\"\nquery = \"SELECT v FROM t WHERE name = $1\"\n\
           watch = [{ table = \"t\", key = { name = \"name\" } }]\n"
}

/// A sidecar's settings over the database that this URL names.
fn over(redis: &Redis, url: &str) -> Builder {
    sql(url, TABLES);
    let builder = Sidecar::builder().redis(redis).config(&config()).set("STORE__URL", url);
    builder.set("JOURNAL__FLUSH_INTERVAL", "20ms").migrated()
}

fn sql(url: &str, text: &str) -> String {
    Postgres::try_sql_at(url, text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_key_that_the_encoding_lacks_is_absent() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for encoding in ["LATIN1", "EUC_JP"] {
        let url = postgres.database(encoding);
        let builder = over(&redis, &url).expect(&[warnings::WRITE_FAILED]);
        let (is_well, told) = check(&builder);
        assert!(is_well && told.contains(&format!("the encoding of the database is {encoding}")), "{told}");
        let sidecar = builder.start();
        let mut wire = sidecar.wire();
        for (request, reply) in [
            ("HGETALL t:€", "*0\r\n"),
            ("EXISTS t:€", ":0\r\n"),
            ("HGET q:€ v", "$-1\r\n"),
            ("MULTI", "+OK\r\n"),
            ("HGET t:€ v", "+QUEUED\r\n"),
            ("HSET t:a v 2", "+QUEUED\r\n"),
            ("EXEC", "*2\r\n$-1\r\n:0\r\n"),
            ("HGET t:a v", "$1\r\n2\r\n"),
        ] {
            assert_eq!(wire.ask(request), reply, "{request}");
        }
        let refused = wire.ask("HSET t:€ v x");
        assert!(refused.starts_with("-ERR") && refused.contains("the key is no value of its column"), "{refused}");
    }
}

#[test]
fn a_value_that_the_encoding_lacks_is_refused_with_the_name_of_its_field() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let url = postgres.database("LATIN1");
    let sidecar = over(&redis, &url).expect(&[warnings::WRITE_FAILED, warnings::PUT_ASIDE]).start();
    let mut wire = sidecar.wire();
    let lacks = "cannot be written: the encoding of the database does not have one of the characters";
    for (request, expected) in [
        ("HSET t:a v €", format!("the field 'v' {lacks}")),
        ("HSET t:a v 1 w €", format!("the field 'w' {lacks}")),
        ("HSET t:a v 1 other €", format!("the field 'other' {lacks}")),
        ("HSETNX t:a other €", format!("the field 'other' {lacks}")),
        ("HSET t:a € y", format!("the field '€' {lacks}")),
        ("SADD m:1 ok €", "the encoding of the database does not have one of the characters".into()),
        ("RPUSH l:1 ok €", "the encoding of the database does not have one of the characters".into()),
    ] {
        let refused = wire.ask(request);
        assert!(refused.starts_with("-ERR") && refused.contains(&expected), "{request}: {refused}");
        assert!(!refused.contains("0xe2"), "no bytes of a value: {refused}");
    }
    assert_eq!((wire.ask("SCARD m:1"), wire.ask("LLEN l:1")), (":0\r\n".into(), ":0\r\n".into()), "nothing of it");
    assert_eq!(wire.ask("HSET t:é v é"), ":1\r\n");
    assert_eq!(sql(&url, "SELECT count(*) FROM t WHERE name = E'\\xe9' AND v = E'\\xe9'"), "1");
    // What is deferred is put aside, and what comes with it or behind it is saved.
    assert!(wire.ask("HSET t:a d €").starts_with(':'));
    until("it is put aside", || metric(&sidecar, "hearthside_put_aside_total") == 1.0);
    assert!(wire.ask("HSET t:a d é").starts_with(':'));
    until("it is saved", || sql(&url, "SELECT d = E'\\xe9' FROM t WHERE name = 'a'") == "t");
}

#[test]
fn a_key_without_a_form_in_utf8_ends_no_session_and_its_mapping_is_told_as_a_whole() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for (encoding, formless) in [("SQL_ASCII", "E'\\xff'"), ("WIN1252", "E'\\x81'")] {
        let url = postgres.database(encoding);
        let builder = over(&redis, &url).expect(&[warnings::LOAD_FAILED]);
        let (is_well, told) = check(&builder);
        assert!(is_well && told.contains(&format!("the encoding of the database is {encoding}")), "{told}");
        let sidecar = builder.start();
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask("HGET t:a v"), "$1\r\n1\r\n");
        sql(&url, &format!("INSERT INTO t VALUES ({formless}, 'x')"));
        for value in 2..5 {
            sql(&url, &format!("UPDATE t SET v = '{value}'"));
            until("the change is seen", || wire.ask("HGET t:a v") == format!("$1\r\n{value}\r\n"));
        }
        assert_eq!(wire.call(&[&b"HGET"[..], b"t:\xff", b"v"]), b"$-1\r\n");
        assert_eq!(wire.ask("HGET t:b v"), "$-1\r\n");
        sql(&url, &format!("UPDATE t SET name = 'b' WHERE name = {formless}"));
        until("it has a key now", || wire.ask("HGET t:b v") == "$1\r\n4\r\n");
        assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 0.0);
        assert_eq!(metric(&sidecar, "hearthside_trigger_trouble_total{mapping=\"t:{name}\"}"), 0.0);
    }
}

#[test]
fn a_key_with_a_nul_is_absent() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres.url()).expect(&[warnings::WRITE_FAILED]).start();
    let mut wire = sidecar.wire();
    for key in ["t:a\0b", "q:a\0b", "t:\0"] {
        assert_eq!(wire.call(&["HGETALL", key]), b"*0\r\n", "{key:?}");
    }
    for command in [&["HSET", "t:a\0b", "v", "1"][..], &["HSET", "t:a", "v", "a\0b"], &["SADD", "m:1", "a\0b"]] {
        let refused = String::from_utf8_lossy(&wire.call(command)).into_owned();
        assert!(refused.starts_with("-ERR") && refused.contains("not written"), "{command:?}: {refused}");
    }
    assert_eq!(sql(&postgres.url(), "SELECT count(*) FROM t"), "1");
}
