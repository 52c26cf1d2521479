//! Writes that cannot be done say what, why and which field, and change nothing.

use super::model::on_postgres;
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;

const TYPED: &str = r#"
[[caches]]
key = "p:{id:int}"
type = "hash"
table = "players"
timestamps = "epoch"
write = "through"
"#;

const PLAYERS: &str = "CREATE TABLE places (name TEXT PRIMARY KEY); INSERT INTO places VALUES ('ruins'); \
    CREATE TABLE players (id BIGINT PRIMARY KEY, name TEXT NOT NULL, hp INTEGER CHECK (hp >= 0), tag VARCHAR(3), \
    alive BOOLEAN, seen TIMESTAMPTZ, bag JSONB, rate REAL, money NUMERIC(10, 2), place TEXT REFERENCES places); \
    INSERT INTO players (id, name, hp) VALUES (1, 'ann', 10);";

fn typed(redis: &Redis, postgres: &Postgres) -> Sidecar {
    postgres.sql(PLAYERS);
    Sidecar::builder().redis(redis).postgres(postgres).config(TYPED).migrated().start()
}

#[test]
fn a_write_that_fails_is_counted_as_one() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = typed(&redis, &postgres);
    let mut wire = sidecar.wire();
    let counted = |outcome: &str| {
        metric(&sidecar, &format!("hearthside_commands_total{{route=\"write\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!(wire.ask("HSET p:1 hp 11"), ":0\r\n");
    assert_eq!((counted("ok"), counted("error")), (1.0, 0.0));
    for failing in ["HSET p:1 hp -1", "HINCRBY p:1 name 1", "HSET p:2 hp 1"] {
        assert!(wire.ask(failing).starts_with('-'), "{failing}");
    }
    assert_eq!((counted("ok"), counted("error")), (1.0, 3.0));
}

#[test]
fn a_value_the_column_refuses_is_an_error_that_names_the_field() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = typed(&redis, &postgres);
    let mut wire = sidecar.wire();
    let before = wire.ask("HGETALL p:1");
    for (command, field, why) in [
        ("HSET p:1 hp abc", "hp", "(int4) refuses the value"),
        ("HSET p:1 name bob hp abc alive true", "hp", "(int4) refuses the value"),
        ("HSET p:1 name bob hp -1", "hp", "players_hp_check"),
        ("HSET p:1 tag long", "tag", "(varchar) refuses the value"),
        ("HSET p:1 alive perhaps", "alive", "(bool) refuses the value"),
        ("HSET p:1 seen yesterday", "seen", "(timestamptz) refuses the value"),
        ("HSET p:1 bag {", "bag", "(jsonb) refuses the value"),
        ("HSET p:1 place nowhere", "place", "players_place_fkey"),
        ("HSET p:1 nosuch x", "nosuch", "no overflow column"),
        ("HSET p:1 id 2", "id", "not written through this mapping"),
        ("HDEL p:1 name", "name", "NOT NULL"),
        ("HSET p:2 hp 1", "name", "NOT NULL"),
        ("HINCRBY p:1 hp 9000000000", "hp", "(int4) refuses the value"),
        ("HINCRBY p:1 alive 1", "alive", "(bool) refuses the value"),
        ("HINCRBYFLOAT p:1 hp 0.5", "hp", "(int4) refuses the value"),
        ("HSET p:1 name a\0b", "name", "is not text"),
    ] {
        let told = wire.ask(command);
        let wanted = format!(
            "-ERR hearthside: the mapping 'p:{{id:int}}' was not written: the field '{field}' cannot be written: "
        );
        assert!(told.starts_with(&wanted) && told.contains(why), "{command}: {told}");
        assert!(!told.contains("abc") && !told.contains("perhaps"), "a value is told: {told}");
    }
    assert_eq!(wire.ask("HGETALL p:1"), before);
    assert_eq!(wire.ask("HINCRBY p:1 name 1"), "-ERR hash value is not an integer\r\n");
    assert_eq!(wire.ask("EXISTS p:2"), ":0\r\n");
}

#[test]
fn every_type_takes_its_text_and_shows_what_it_kept() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = typed(&redis, &postgres);
    let mut wire = sidecar.wire();
    for (field, given, shown) in [
        ("hp", "+007", "7"),
        ("alive", "yes", "true"),
        ("seen", "1700000000.25", "1700000000.25"),
        ("bag", "{ \"a\" : [1, 2] }", "{\"a\":[1,2]}"),
        ("rate", "1.50", "1.5"),
        ("money", "12.345", "12.35"),
        ("place", "ruins", "ruins"),
    ] {
        wire.call(&["HSET", "p:1", field, given]);
        let told = String::from_utf8_lossy(&wire.call(&["HGET", "p:1", field])).into_owned();
        assert_eq!(told, format!("${}\r\n{shown}\r\n", shown.len()), "{field}");
    }
    assert_eq!(wire.ask("HINCRBY p:1 hp 3"), ":10\r\n");
    assert_eq!(wire.ask("HINCRBYFLOAT p:1 money 0.15"), "$5\r\n12.50\r\n");
    assert_eq!(wire.ask("HSET p:3 name new"), ":1\r\n");
    assert_eq!(wire.ask("HGETALL p:3"), "*2\r\n$4\r\nname\r\n$3\r\nnew\r\n");
}

#[test]
fn a_mapping_that_takes_no_writes_says_so() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE a (id BIGINT PRIMARY KEY, v TEXT); CREATE TABLE b (id BIGINT, v TEXT);");
    let config = "[[caches]]\nkey = \"a:{id:int}\"\ntype = \"string\"\ntable = \"a\"\nvalue = \"v\"\n";
    let through = format!("{config}write = \"through\"\n");
    let builder = |config: &str| {
        Sidecar::builder().redis(&redis).postgres(&postgres).config(config).expect(&[warnings::NO_TRIGGERS])
    };
    let sidecar = builder(config).start();
    assert!(sidecar.wire().ask("SET a:1 x").contains("takes no writes (write = \"reject\")"));
    // No row of a table is its own: nothing could be set that lets it be written.
    let one = "[[caches]]\nkey = \"all\"\ntype = \"set\"\ntable = \"b\"\nvalue = \"v\"\n[[caches]]\nkey = \
        \"q:{id:int}\"\ntype = \"string\"\nquery = \"SELECT v FROM a WHERE id = $1\"\nvalue = \"v\"\nttl = \"1m\"\n";
    let sidecar = builder(one).start();
    for request in ["SADD all x", "SET q:1 x"] {
        let told = sidecar.wire().ask(request);
        assert!(told.contains("takes no writes, because its key is no row of a table"), "{told}");
        assert!(!told.contains("set write"), "{told}");
    }
    let sidecar = builder(&through).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET a:1 x"), "+OK\r\n");
    assert!(wire.ask("GETDEL a:1").contains("set delete = \"row\""));
    assert!(wire.ask("SETRANGE a:1 0 x").contains("SETRANGE is not answered on the owned key 'a:1'"));
    assert_eq!(wire.ask("DEL a:1"), ":1\r\n");
    assert_eq!(wire.ask("GET a:1"), "$1\r\nx\r\n");
    // Rows that share a key cannot be written one by one.
    let told = builder(&through.replace("\"a\"", "\"b\"")).execute(&["check", "--connect"]);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.contains(
            "caches[0].write: a mapping that writes to its table needs a unique index (or primary key) on exactly: id"
        ),
        "{told}"
    );
}

#[test]
fn another_spelling_of_a_key_is_not_written() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE EXTENSION citext; CREATE TABLE c (name CITEXT PRIMARY KEY, v TEXT); INSERT INTO c VALUES ('Ann', 'x')",
    );
    let config = "[[caches]]\nkey = \"c:{name}\"\ntype = \"string\"\ntable = \"c\"\nvalue = \"v\"\nwrite = \
        \"through\"\ndelete = \"row\"\n";
    let sidecar =
        Sidecar::builder().redis(&redis).postgres(&postgres).config(config).expect(&[warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET c:Ann y"), "+OK\r\n");
    assert!(wire.ask("SET c:ANN z").contains("another spelling of this one"));
    assert_eq!(wire.ask("DEL c:ANN"), ":0\r\n");
    assert_eq!(wire.ask("GET c:Ann"), "$1\r\ny\r\n");
}

#[test]
fn a_list_without_statements_takes_no_elements() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("LPUSH l:1 x").contains("LPUSH is not answered on the owned key 'l:1'"));
    assert_eq!(wire.ask("RPUSH l:1 x"), ":1\r\n");
    assert!(wire.ask("LPOP l:1").contains("LPOP is not answered on the owned key 'l:1'"));
}

#[test]
fn a_value_without_a_name_is_called_the_value() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE s (id BIGINT PRIMARY KEY, v TEXT); CREATE UNIQUE INDEX s_v ON s (lower(v)); INSERT \
        INTO s VALUES (1, 'x'), (2, 'y');",
    );
    let config =
        "[[caches]]\nkey = \"s:{id:int}\"\ntype = \"string\"\ntable = \"s\"\nvalue = \"v\"\nwrite = \"through\"\n";
    let sidecar =
        Sidecar::builder().redis(&redis).postgres(&postgres).config(config).expect(&[warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    for (value, why) in [(&b"a\0b"[..], "is not text"), (b"Y", "the constraint 's_v' forbids the value")] {
        let told = String::from_utf8_lossy(&wire.call(&[b"SET", &b"s:1"[..], value])).into_owned();
        assert!(told.contains("was not written: the value cannot be written: ") && told.contains(why), "{told}");
        assert!(!told.contains("''"), "{told}");
    }
    assert_eq!(wire.ask("GET s:1"), "$1\r\nx\r\n");
}
