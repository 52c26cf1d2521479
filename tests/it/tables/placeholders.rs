//! Kinds of placeholders, and keys without one: which keys are owned, how the store is asked, and how changes are seen,
//! over both stores and by every feed.

use super::check;
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::Wire;

const ANN: &str = "0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11";
const BOB: &str = "00000000-0000-0000-0000-0000000000ff";

const TABLES: &str = "CREATE TABLE people (id uuid PRIMARY KEY, name text); CREATE TABLE guests (id varchar(36) PRIMARY \
    KEY, name text); CREATE TABLE days (day date PRIMARY KEY, name text); CREATE TABLE flags (flag text PRIMARY KEY, \
    v text); CREATE TABLE queue (v text PRIMARY KEY); CREATE TABLE notes (flag text, place integer, v text, PRIMARY KEY \
    (flag, place));";

const ROWS: &str = "INSERT INTO people VALUES ('0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11', 'Ann'); INSERT INTO guests VALUES \
    ('0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11', 'Gus'), ('0B6EF1C6-7AC9-4E5C-A9B7-0D5B9D0A7A12', 'Eve'); INSERT INTO days \
    VALUES ('2024-02-29', 'leap'); INSERT INTO flags VALUES ('beta:search', 'on'), ('plain', 'off'), ('x:note:1', 'no');";

/// `{object}` is the function that makes one JSON object of names and values, `{element}` the parameter of an element.
const MAPPINGS: &str = r#"
[[definitions]]
key = "def:{flag:path}"
type = "string"
table = "flags"
value = "v"

[[definitions]]
key = "def-of-all"
type = "list"
query = "SELECT flag FROM flags ORDER BY flag"
value = "flag"
watch = [{ table = "flags" }]

[[definitions]]
key = "def-set"
type = "set"
table = "flags"
value = "flag"

[[caches]]
key = "person:{id:uuid}"
type = "hash"
table = "people"
write = "through"
delete = "row"

[[caches]]
key = "guest:{id:uuid}"
type = "hash"
table = "guests"

[[caches]]
key = "day:{day:date}"
type = "hash"
table = "days"
write = "through"

[[caches]]
key = "name-of-day:{day:date}"
type = "string"
query = "SELECT day, name FROM days WHERE day = $1"
value = "name"
watch = [{ table = "days" }]

[[caches]]
key = "flag:{flag:path}"
type = "string"
table = "flags"
value = "v"
write = "through"
delete = "row"

[[caches]]
key = "flag:{flag}:note:{place:int}"
type = "string"
table = "notes"
value = "v"

[[caches]]
key = "flag:all"
type = "list"
query = "SELECT flag FROM flags ORDER BY flag"
value = "flag"
watch = [{ table = "flags" }]

[[caches]]
key = "flags"
type = "hash"
query = "SELECT {object}(flag, v) AS flags FROM flags"
overflow = "flags"
watch = [{ table = "flags" }]

[[caches]]
key = "flag-names"
type = "set"
table = "flags"
value = "flag"

[[caches]]
key = "queue"
type = "list"
query = "SELECT v FROM queue ORDER BY v"
value = "v"
watch = [{ table = "queue" }]
write = "through"
push = "INSERT INTO queue VALUES ({element})"
remove = "DELETE FROM queue WHERE v = {element}"

[[caches]]
key = "count-of-flags"
type = "string"
query = "SELECT count(*) AS n FROM flags"
value = "n"
watch = [{ table = "flags", whole = true }]
"#;

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn ask(wire: &mut Wire, words: &[&str]) -> String {
    String::from_utf8_lossy(&wire.call(words)).into_owned()
}

/// The keys that are listed, in their order.
fn listed(wire: &mut Wire, pattern: &str) -> Vec<String> {
    let reply = ask(wire, &["KEYS", pattern]);
    let mut keys: Vec<String> = reply.split("\r\n").skip(2).step_by(2).map(str::to_owned).collect();
    keys.sort();
    keys
}

/// A row as a client sees it, before and after a change that the sidecar is told of.
fn follows(wire: &mut Wire, sql: &dyn Fn(&str), words: &[&str], before: &str, change: &str, after: &str) {
    assert_eq!(ask(wire, words), before, "{words:?}");
    assert_eq!(ask(wire, words), before, "{words:?}");
    sql(change);
    until(&format!("{words:?} is seen after: {change}"), || ask(wire, words) == after);
}

/// Everything that is told of these keys, whatever the store and its feed.
fn told(redis: &Redis, sidecar: &Sidecar, sql: &dyn Fn(&str)) {
    let mut wire = sidecar.wire();
    let wire = &mut wire;
    let (person, guest) = (format!("person:{ANN}"), format!("guest:{ANN}"));
    let update = |table: &str, set: &str, row: &str| format!("UPDATE {table} SET {set} WHERE {row}");
    let ann = format!("id = '{ANN}'");
    follows(
        wire,
        sql,
        &["HGET", &person, "name"],
        &bulk("Ann"),
        &update("people", "name = 'Anna'", &ann),
        &bulk("Anna"),
    );
    follows(wire, sql, &["HGET", &guest, "name"], &bulk("Gus"), &update("guests", "name = 'Gil'", &ann), &bulk("Gil"));
    let leap = "day = '2024-02-29'";
    follows(
        wire,
        sql,
        &["HGET", "day:2024-02-29", "name"],
        &bulk("leap"),
        &update("days", "name = 'x'", leap),
        &bulk("x"),
    );
    follows(wire, sql, &["GET", "name-of-day:2024-02-29"], &bulk("x"), &update("days", "name = 'y'", leap), &bulk("y"));
    let beta = "flag = 'beta:search'";
    follows(wire, sql, &["GET", "flag:beta:search"], &bulk("on"), &update("flags", "v = 'off'", beta), &bulk("off"));
    follows(
        wire,
        sql,
        &["HGET", "flags", "beta:search"],
        &bulk("off"),
        &update("flags", "v = 'on'", beta),
        &bulk("on"),
    );
    assert_eq!(ask(wire, &["GET", "def:plain"]), bulk("off"));
    assert_eq!(ask(wire, &["EXISTS", "def-of-all", "def-set", "def:x:note:1", "def:", "def:x"]), ":3\r\n");
    assert_eq!(listed(wire, "def*"), ["def-of-all", "def-set", "def:beta:search", "def:plain", "def:x:note:1"]);
    let all =
        |flags: &[&str]| format!("*{}\r\n{}", flags.len(), flags.iter().map(|flag| bulk(flag)).collect::<String>());
    let (three, four) = (["beta:search", "plain", "x:note:1"], ["beta:search", "new:flag", "plain", "x:note:1"]);
    let insert = "INSERT INTO flags VALUES ('new:flag', 'on')";
    follows(wire, sql, &["LRANGE", "flag:all", "0", "-1"], &all(&three), insert, &all(&four));
    until("the definitions are those of the table", || {
        let (list, count) = (ask(wire, &["LRANGE", "def-of-all", "0", "-1"]), ask(wire, &["SCARD", "def-set"]));
        list == all(&four) && count == ":4\r\n" && ask(wire, &["GET", "def:new:flag"]) == bulk("on")
    });
    follows(wire, sql, &["GET", "count-of-flags"], &bulk("4"), "DELETE FROM flags WHERE flag = 'new:flag'", &bulk("3"));
    follows(wire, sql, &["SCARD", "flag-names"], ":3\r\n", insert, ":4\r\n");
    // The row 'x:note:1' has no key of its own: the key that it would have is one of another mapping.
    let note = "INSERT INTO notes VALUES ('x', 1, 'note')";
    follows(wire, sql, &["GET", "flag:x:note:1"], "$-1\r\n", note, &bulk("note"));
    sql("DELETE FROM flags WHERE flag = 'x:note:1'");
    assert_eq!(ask(wire, &["GET", "flag:x:note:1"]), bulk("note"));

    for other in [ANN.to_uppercase(), format!("{{{ANN}}}"), ANN.replace('-', "")] {
        let key = format!("person:{other}");
        assert_eq!(ask(wire, &["HSET", &key, "name", "elsewhere"]), ":1\r\n", "{key} is the upstream's");
        assert_eq!(redis.wire().call(&["HGET", &key, "name"]), bulk("elsewhere").into_bytes());
    }
    for key in ["day:2023-02-29", "day:20240229", "day:infinity"] {
        assert_eq!(ask(wire, &["SET", key, "x"]), "+OK\r\n", "{key} is the upstream's");
    }
    assert_eq!(ask(wire, &["HSET", &format!("person:{BOB}"), "name", "Bob"]), ":1\r\n");
    assert_eq!(ask(wire, &["HSET", "day:2026-11-28", "name", "today"]), ":1\r\n");
    assert_eq!(ask(wire, &["SET", "flag:a::b:", "1"]), "+OK\r\n");
    assert_eq!(ask(wire, &["GET", "flag:a::b:"]), bulk("1"));
    until("the write is in the list", || ask(wire, &["LINDEX", "flag:all", "0"]) == bulk("a::b:"));
    let flags = ["flag:a::b:", "flag:all", "flag:beta:search", "flag:new:flag", "flag:plain", "flag:x:note:1"];
    assert_eq!(listed(wire, "flag:*"), flags);
    assert_eq!(
        listed(wire, "day:*"),
        ["day:2023-02-29", "day:2024-02-29", "day:20240229", "day:2026-11-28", "day:infinity"]
    );
    let with_flag = ["count-of-flags", "def:new:flag", "flag-names", "flags"];
    assert_eq!(listed(wire, "*flag*").len(), flags.len() + with_flag.len());
    assert!(with_flag.iter().all(|key| listed(wire, key) == [*key]));
    assert_eq!(listed(wire, "guest:*"), [guest], "a UUID in capitals has no key");
    for key in ["flag:beta:search", "flags", &person] {
        let forgotten = ask(wire, &["HEARTHSIDE", "INVALIDATE", key]);
        assert!(forgotten == ":0\r\n" || forgotten == ":1\r\n", "{key}: {forgotten}");
    }
    assert_eq!(ask(wire, &["DEL", "flag:a::b:"]), ":1\r\n");
    assert_eq!(ask(wire, &["EXISTS", "flag:a::b:", "flags", "flag:all"]), ":2\r\n");
    assert_eq!(ask(wire, &["RPUSH", "queue", "a", "b"]), ":2\r\n");
    assert_eq!(ask(wire, &["LREM", "queue", "0", "a"]), ":1\r\n");
    assert_eq!(ask(wire, &["LRANGE", "queue", "0", "-1"]), all(&["b"]));
    for refused in [&["SADD", "flag-names", "x"][..], &["HSET", "flags", "x", "1"], &["RPUSH", "flag:all", "x"]] {
        assert!(ask(wire, refused).starts_with("-ERR"), "{refused:?}");
    }
    sql("DELETE FROM flags");
    until("no flag is left", || ask(wire, &["EXISTS", "flag:all", "flags", "flag-names"]) == ":0\r\n");
    until("no definition is left", || ask(wire, &["EXISTS", "def:plain", "def-of-all", "def-set"]) == ":0\r\n");
    until("none is listed", || listed(wire, "*flag*") == ["count-of-flags", "flag:x:note:1"]);
    assert_eq!(ask(wire, &["GET", "count-of-flags"]), bulk("0"));
}

fn over_postgres(redis: &Redis, postgres: &Postgres, feed: &str) -> Builder {
    postgres.sql(&format!("{TABLES} {ROWS}"));
    let config = MAPPINGS.replace("{object}", "jsonb_object_agg").replace("{element}", "$1::text");
    Sidecar::builder().redis(redis).postgres(postgres).config(&config).set("STORE__FEED", feed).migrated()
}

#[test]
fn placeholders_of_every_kind_and_none_are_followed_by_notices() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    told(&redis, &over_postgres(&redis, &postgres, "notify").start(), &|text| drop(postgres.sql(text)));
}

#[test]
fn placeholders_of_every_kind_and_none_are_followed_by_the_outbox() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    told(&redis, &over_postgres(&redis, &postgres, "outbox").start(), &|text| drop(postgres.sql(text)));
}

#[test]
fn placeholders_of_every_kind_and_none_are_followed_by_replication() {
    let (redis, postgres) = (Redis::start(), Postgres::start_with("-c wal_level=logical"));
    told(&redis, &over_postgres(&redis, &postgres, "replication").start(), &|text| drop(postgres.sql(text)));
}

#[test]
fn placeholders_of_every_kind_and_none_are_followed_in_sqlite() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("kinds.db").display().to_string();
    let sql = |text: &str| {
        let told = std::process::Command::new("sqlite3").args([&file, text]).output().expect("sqlite3 is installed");
        assert!(told.status.success(), "{told:?}");
    };
    sql(&format!("PRAGMA journal_mode = WAL; {TABLES} {ROWS}"));
    let config = MAPPINGS.replace("{object}", "json_group_object").replace("{element}", "$1");
    let sidecar =
        Sidecar::builder().redis(&redis).config(&config).set("STORE__URL", format!("sqlite://{file}")).start();
    told(&redis, &sidecar, &sql);
}

#[test]
fn the_index_finds_a_uuid_and_a_date() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE many (id uuid, day date, v text, PRIMARY KEY (id, day)); INSERT INTO many SELECT \
         gen_random_uuid(), date '2000-01-01' + i, 'v' FROM generate_series(1, 5000) AS i; ANALYZE many",
    );
    let config = "[[caches]]\nkey = \"of:{id:uuid}:{day:date}\"\ntype = \"hash\"\ntable = \"many\"\n\
        [[caches]]\nkey = \"q:{id:uuid}:{day:date}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1m\"\n\
        query = \"SELECT v FROM many WHERE id = $1 AND day = $2\"\nwatch = [{ table = \"many\" }]\n";
    let sidecar = Sidecar::builder().redis(&redis).postgres(&postgres).config(config).migrated().start();
    let mut wire = sidecar.wire();
    let row = postgres.sql("SELECT id || ':' || day FROM many LIMIT 1");
    for (key, words) in [(format!("of:{row}"), vec!["HGET", "v"]), (format!("q:{row}"), vec!["GET"])] {
        let words: Vec<&str> = [&words[..1], &[&*key], &words[1..]].concat();
        assert_eq!(ask(&mut wire, &words), bulk("v"), "{key}");
        let told = ask(&mut wire, &["HEARTHSIDE", "EXPLAIN", &key, "PLAN"]);
        assert!(told.contains("Index") && !told.contains("Seq Scan"), "{key}: {told}");
    }
}

#[test]
fn what_no_key_could_name_is_told_at_check() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE t (id uuid PRIMARY KEY, day date UNIQUE, n integer UNIQUE, at timestamptz UNIQUE, v text); \
         CREATE TABLE w (id integer PRIMARY KEY)",
    );
    let table = |key: &str, column: &str| {
        format!("[[caches]]\nkey = \"{key}\"\ntype = \"hash\"\ntable = \"t\"\nkey_columns = {{ x = \"{column}\" }}\n")
    };
    let query = |key: &str, sql: &str, more: &str| {
        format!(
            "[[caches]]\nkey = \"{key}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1m\"\nquery = \"{sql}\"\n{more}\n"
        )
    };
    for (config, expected) in [
        (table("a:{x:int}", "id"), "{x:int} takes whole numbers only, and the column 'id' (uuid) holds none"),
        (table("a:{x:uuid}", "n"), "{x:uuid} takes UUIDs only, and the column 'n' (int4) holds none: write {x:int}"),
        (table("a:{x:uuid}", "day"), "{x:uuid} takes UUIDs only, and the column 'day' (date)"),
        (table("a:{x:date}", "id"), "{x:date} takes dates only, and the column 'id' (uuid)"),
        (table("a:{x:date}", "n"), "{x:date} takes dates only, and the column 'n' (int4)"),
        (table("a:{x}", "at"), "or, at the end of the key, {x:path}"),
        (query("a:{x:date}", "SELECT v FROM t WHERE n = $1", ""), "{x:date} takes dates only, and parameter $1 (int4)"),
        (
            query("a:{x:uuid}", "SELECT v FROM t WHERE id = $1", "watch = [{ table = \"w\", key = { x = \"id\" } }]"),
            "{x:uuid} takes UUIDs only, and the column 'id' of 'w' (int4)",
        ),
        (
            query("a:{d:date}:{x:uuid}", "SELECT v FROM t WHERE id = $1 AND day = $2", ""),
            "$1 is {d} and $2 is {x}, but the query compares them with a uuid and a date: write them the other way",
        ),
        (query("a", "SELECT v FROM t WHERE id = $1", ""), "takes 1 parameters, the key has 0 placeholders"),
        (table("a:{x:uid}", "id"), "write {name}, {name:int}, {name:uuid}, {name:date}"),
        (table("a:{x:path}:b", "v"), "nothing may stand behind it"),
    ] {
        let (is_content, told) = check(&Sidecar::builder().redis(&redis).postgres(&postgres).config(&config));
        assert!(!is_content && told.contains(expected), "{config}\n{expected}\n{told}");
    }
    let at = table("at:{x:path}", "at") + &query("b:{x:date}", "SELECT v FROM t WHERE day = $1", "");
    let told = check(&Sidecar::builder().redis(&redis).postgres(&postgres).config(&at).migrated());
    assert!(told.0, "{}", told.1);
}

/// What else goes through a key: its end by a column, the sweeper, the verifier, and what is warm after a restart.
#[test]
fn keys_of_uuids_and_dates_end_are_swept_verified_and_warm() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE ends (id uuid, day date, v text, until timestamptz, PRIMARY KEY (id, day)); \
         CREATE TABLE paths (p text PRIMARY KEY, v text, until timestamptz)",
    );
    let block = |key: &str, table: &str| {
        format!(
            "[[caches]]\nkey = \"{key}\"\ntype = \"string\"\ntable = \"{table}\"\nvalue = \"v\"\nwrite = \"deferred\"\n\
             expires_column = \"until\"\ndelete = \"row\"\n"
        )
    };
    let config = block("end:{id:uuid}:{day:date}", "ends") + &block("p:{p:path}", "paths");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config);
    let builder = builder.set("STORE__SWEEP_INTERVAL", "50ms").set("STORE__SWEEP_GRACE", "1s");
    let builder =
        builder.set("VERIFY__SAMPLE", "1").set("VERIFY__PER_SECOND", "1000").set("JOURNAL__FLUSH_INTERVAL", "20ms");
    let folder = tempfile::tempdir().expect("a folder");
    let warm = folder.path().join("warm").display().to_string();
    let mut sidecar = builder.set("CACHE__WARM", warm).migrated().start();
    let (gone, stays) = (format!("end:{ANN}:2026-11-28"), format!("end:{BOB}:2026-11-28"));
    let mut wire = sidecar.wire();
    let mut ask = |words: &[&str]| String::from_utf8_lossy(&wire.call(words)).into_owned();
    for (key, milliseconds) in [(&*gone, "300"), ("p:a:b", "300"), (&*stays, "3600000"), ("p:c:d", "3600000")] {
        assert_eq!(ask(&["SET", key, "v", "PX", milliseconds]), "+OK\r\n", "{key}");
    }
    until("they have ended", || ask(&["EXISTS", &gone, "p:a:b"]) == ":0\r\n");
    let rows = "SELECT (SELECT count(*) FROM ends) || ' ' || (SELECT count(*) FROM paths)";
    until("their rows are removed", || postgres.sql(rows) == "1 1");
    until("some were verified", || {
        assert_eq!(ask(&["MGET", &stays, "p:c:d"]), "*2\r\n$1\r\nv\r\n$1\r\nv\r\n");
        metric(&sidecar, "hearthside_verified_total") > 10.0
    });
    for pattern in ["end:{id:uuid}:{day:date}", "p:{p:path}"] {
        assert_eq!(metric(&sidecar, &format!("hearthside_stale_reads_total{{mapping=\"{pattern}\"}}")), 0.0);
    }
    let renewed = "SELECT bool_and(until > now() + interval '2 hours') FROM (SELECT until FROM ends UNION ALL SELECT until \
        FROM paths) AS all_of_them";
    for key in [&*stays, "p:c:d"] {
        assert_eq!(ask(&["EXPIRE", key, "10800"]), ":1\r\n");
    }
    until("their new ends are saved", || postgres.sql(renewed) == "t");
    assert_eq!(sidecar.stop(), Some(0));
    let noted = std::fs::read(folder.path().join("warm")).expect("what was read is noted");
    let noted = String::from_utf8_lossy(&noted).into_owned();
    assert!(noted.contains(&stays) && noted.contains("p:c:d") && !noted.contains("p:a:b"), "{noted}");
}

/// A key that is made of several columns, before a path: two rows may have one key, as it is written.
#[test]
fn a_path_takes_nothing_from_the_placeholder_before_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start_with("-c wal_level=logical"));
    postgres.sql(
        "CREATE TABLE f (tenant text, flag text, v text, PRIMARY KEY (tenant, flag)); \
         INSERT INTO f VALUES ('a:b', 'c', 'never'), ('a', 'b:c', 'this')",
    );
    let config = "[[caches]]\nkey = \"f:{tenant}:{flag:path}\"\ntype = \"string\"\nvalue = \"v\"\ntable = \"f\"\n";
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(config).set("STORE__FEED", "replication");
    let sidecar = builder.set("CACHE__NEGATIVE_TTL", "1h").migrated().start();
    let mut wire = sidecar.wire();
    assert_eq!(ask(&mut wire, &["GET", "f:a:b:c"]), bulk("this"));
    assert_eq!(listed(&mut wire, "f:*"), ["f:a:b:c"]);
    postgres.sql("DELETE FROM f WHERE tenant = 'a:b'");
    postgres.sql("INSERT INTO f VALUES ('b', 'seen', 'x')");
    until("the changes are seen", || ask(&mut wire, &["GET", "f:b:seen"]) == bulk("x"));
    assert_eq!(ask(&mut wire, &["GET", "f:a:b:c"]), bulk("this"));
}
