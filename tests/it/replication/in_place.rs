//! Rows that the log brings take the place of what is in memory, where it is certain that they are newer; else the key
//! is loaded.

use super::{logical, over, replicated, shows};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::Wire;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); \
    INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 5) AS i; \
    CREATE TABLE settled (id int PRIMARY KEY, v int); INSERT INTO settled VALUES (1, 0)";

/// Nothing is loaded but what somebody asks for.
fn only_asked(builder: Builder) -> Builder {
    builder.set("CACHE__REFRESH", "0s")
}

pub(super) fn start(redis: &Redis, postgres: &Postgres, mappings: &str) -> Sidecar {
    only_asked(replicated(redis, postgres, &(mappings.to_owned() + &over("settled", "settled", "")))).start()
}

fn loads(sidecar: &Sidecar) -> f64 {
    ["ok", "absent"]
        .map(|outcome| metric(sidecar, &format!("hearthside_loads_total{{outcome=\"{outcome}\"}}")))
        .iter()
        .sum()
}

pub(super) fn in_place(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_refreshed_in_place_total")
}

/// Waits until a change that is made now has come: what changed before has come, too, and it has been looked at what is
/// visible since the last load.
pub(super) fn settle(postgres: &Postgres, wire: &mut Wire) {
    wire.ask("HGET settled:1 v");
    let next = postgres.sql("UPDATE settled SET v = v + 1 RETURNING v");
    let next = next.lines().next().expect("a number").to_owned();
    shows(wire, "HGET settled:1 v", &format!("${}\r\n{next}\r\n", next.len()));
}

/// What a key shows, and what a load of it shows.
fn held_and_loaded(wire: &mut Wire, read: &str, key: &str) -> (String, String) {
    let held = wire.ask(read);
    wire.ask(&format!("HEARTHSIDE INVALIDATE {key}"));
    (held, wire.ask(read))
}

#[test]
fn what_comes_changes_moves_and_goes_is_in_memory_without_a_load() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let sidecar = start(&redis, &postgres, &over("t", "t", ""));
    let mut wire = sidecar.wire();
    for key in ["t:1", "t:2", "t:9"] {
        wire.ask(&format!("HGET {key} v"));
    }
    settle(&postgres, &mut wire);
    let (before, held) = (loads(&sidecar), in_place(&sidecar));
    for round in 1..=3 {
        postgres.sql(&format!("UPDATE t SET v = 'x{round}' WHERE id = 1"));
        shows(&mut wire, "HGET t:1 v", &format!("$2\r\nx{round}\r\n"));
    }
    postgres.sql("INSERT INTO t VALUES (9, 'n')");
    shows(&mut wire, "HGET t:9 v", "$1\r\nn\r\n");
    postgres.sql("DELETE FROM t WHERE id = 9");
    shows(&mut wire, "EXISTS t:9", ":0\r\n");
    postgres.sql("UPDATE t SET id = 9 WHERE id = 2");
    shows(&mut wire, "HGET t:9 v", "$2\r\nv2\r\n");
    shows(&mut wire, "EXISTS t:2", ":0\r\n");
    assert_eq!((loads(&sidecar), in_place(&sidecar)), (before, held + 7.0));
    // What nobody has asked for is not kept.
    until("memory is counted", || metric(&sidecar, "hearthside_cache_entries") == 4.0);
    postgres.sql("UPDATE t SET v = 'y' WHERE id = 4");
    settle(&postgres, &mut wire);
    assert_eq!((metric(&sidecar, "hearthside_cache_entries"), loads(&sidecar)), (4.0, before));
}

#[test]
fn a_row_that_is_older_than_a_write_through_the_sidecar_is_not_taken() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let proxy = Proxy::to(postgres.port);
    let config = over("t", "t", "write = \"through\"") + &over("settled", "settled", "");
    let builder =
        only_asked(replicated(&redis, &postgres, &config)).set("STORE__FEED_URL", postgres.url_at(proxy.port));
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    for id in [1, 2] {
        assert_eq!(wire.ask(&format!("HGET t:{id} v")), format!("$2\r\nv{id}\r\n"));
    }
    settle(&postgres, &mut wire);
    proxy.hold(true);
    postgres.sql("UPDATE t SET v = 'foreign' WHERE id = 1");
    // Its own notice is no news, so that nothing would mend it.
    assert_eq!(wire.ask("HSET t:1 v mine"), ":0\r\n");
    postgres.sql("UPDATE t SET v = 'first' WHERE id = 2");
    wire.ask("HEARTHSIDE INVALIDATE t:2");
    assert_eq!(wire.ask("HGET t:2 v"), "$5\r\nfirst\r\n");
    let held = in_place(&sidecar);
    proxy.hold(false);
    settle(&postgres, &mut wire);
    assert_eq!(wire.ask("HGET t:1 v"), "$4\r\nmine\r\n");
    assert_eq!(wire.ask("HGET t:2 v"), "$5\r\nfirst\r\n");
    assert_eq!(in_place(&sidecar), held + 1.0, "only the one that is waited for");
}

#[test]
fn a_row_has_the_texts_that_a_load_gives_it() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql(
        "CREATE TYPE mood AS ENUM ('good', 'so so'); CREATE DOMAIN whole AS int; CREATE DOMAIN often AS timestamptz;
        CREATE TYPE pair AS (a int, b text)",
    );
    // A type, its values, and whether a row of it takes the place of a record.
    let types: &[(&str, &[&str], bool)] = &[
        ("smallint", &["-32768", "0"], true),
        ("int", &["7", "-2147483648"], true),
        ("bigint", &["9223372036854775807"], true),
        ("whole", &["12"], true),
        ("numeric", &["1.10", "-0.00", "1e40", "'NaN'", "'Infinity'"], true),
        ("numeric(8,3)", &["1.5"], true),
        ("real", &["0.1", "1e20", "'-0'", "'NaN'", "1.1754944e-38"], true),
        ("double precision", &["0.1", "1e300", "0.30000000000000004", "'Infinity'", "'-Infinity'", "5e-324"], true),
        ("boolean", &["true", "false"], true),
        ("text", &["''", "'a \"b\" \\ / c'", "E'tab\\tline\\n\\u0001 \\u20ac'", "'null'", "'[1]'"], true),
        ("varchar(9)", &["' x '"], true),
        ("char(6)", &["'ab'"], true),
        ("name", &["'n'"], true),
        ("uuid", &["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"], true),
        ("mood", &["'so so'"], true),
        ("bytea", &["'\\x00ff22'", "''"], true),
        ("date", &["'2026-01-31'", "'infinity'", "'0044-03-15 BC'", "'12026-01-31'"], true),
        ("time", &["'10:00:00.5'"], true),
        ("timetz", &["'10:00:00+01'", "'10:00:00+05:30'"], true),
        ("interval", &["'1 year 2 days -3.5 hours'"], true),
        (
            "timestamp",
            &["'2026-01-31 10:00:00'", "'2026-01-31 10:00:00.000001'", "'-infinity'", "'0044-03-15 BC'"],
            true,
        ),
        ("timestamp(0)", &["'2026-01-31 10:00:00.7'"], true),
        ("timestamptz", &["'2026-01-31 10:00:00.25+05:30'", "'infinity'", "'0044-03-15 10:00 BC'"], true),
        ("often", &["'1890-01-01 00:00:00+00:09:21'"], true),
        (
            "json",
            &["'{\"b\" : 1.0, \"a\": [ 1 , \" x \" ]}'", "' \"a\\u20acb\" '", "'null'", "' 12 '", "'\"\\ud800\"'"],
            true,
        ),
        ("jsonb", &["'{\"b\" : 1.0, \"a\": [ 1 , \" x \" ]}'", "'\"t\"'", "'null'", "'true'"], true),
        ("inet", &["'10.0.0.1'", "'10.0.0.0/8'", "'::1'"], true),
        ("cidr", &["'10.0.0.0/8'"], true),
        ("macaddr", &["'08-00-2b-01-02-03'"], true),
        ("bit(4)", &["B'0101'"], true),
        ("bit varying", &["B'01'"], true),
        ("int[]", &["'{1,NULL,3}'", "'{{1,2},{3,4}}'"], false),
        ("text[]", &["'{\"a b\",NULL,c}'"], false),
        ("pair", &["ROW(1, 'x')"], false),
        ("money", &["'12.50'"], false),
        ("int4range", &["'[1,5)'"], false),
        ("point", &["'(1,2)'"], false),
        ("xml", &["'<a/>'"], false),
        ("regclass", &["'pg_class'"], false),
    ];
    let (mut mappings, mut tables) = (String::new(), String::new());
    for (at, (kind, ..)) in types.iter().enumerate() {
        tables += &format!("CREATE TABLE k{at} (id int PRIMARY KEY, v {kind}, w text); INSERT INTO k{at} VALUES (1); ");
        mappings += &over(&format!("k{at}"), &format!("k{at}"), "");
        let value = format!("[[caches]]\nkey = \"s{at}:{{id:int}}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1h\"\n");
        mappings += &format!("{value}table = \"k{at}\"\n");
    }
    postgres.sql(&tables);
    let sidecar = start(&redis, &postgres, &mappings);
    let mut wire = sidecar.wire();
    for (at, (kind, values, is_taken)) in types.iter().enumerate() {
        let (hash, string) = (format!("HGETALL k{at}:1"), format!("GET s{at}:1"));
        for (round, value) in values.iter().chain(&["NULL"]).enumerate() {
            wire.ask(&hash);
            wire.ask(&string);
            settle(&postgres, &mut wire);
            let taken = in_place(&sidecar);
            postgres.sql(&format!("UPDATE k{at} SET v = {value}, w = 'w{round}'"));
            shows(&mut wire, &format!("HGET k{at}:1 w"), &format!("$2\r\nw{round}\r\n"));
            // The other mapping is told of it after this one.
            let grown = || in_place(&sidecar) - taken;
            until(&format!("{kind} {value} is taken, or is not"), || grown() == if *is_taken { 2.0 } else { 0.0 });
            for (read, key) in [(&hash, format!("k{at}:1")), (&string, format!("s{at}:1"))] {
                let (held, loaded) = held_and_loaded(&mut wire, read, &key);
                assert_eq!(held, loaded, "{kind} {value}");
            }
            assert!(*is_taken || grown() == 0.0, "{kind} {value}");
        }
    }
}

#[test]
fn what_is_not_certain_is_loaded() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql(
        "CREATE TABLE big (id int PRIMARY KEY, v text, large text); ALTER TABLE big ALTER large SET STORAGE EXTERNAL;
        CREATE TABLE whole (id int PRIMARY KEY, v text, large text); ALTER TABLE whole ALTER large SET STORAGE EXTERNAL;
        ALTER TABLE whole REPLICA IDENTITY FULL;
        CREATE TABLE made (id int PRIMARY KEY, v text, twice text GENERATED ALWAYS AS (v || v) STORED);
        CREATE TABLE ends (id int PRIMARY KEY, v text, at timestamptz);
        CREATE TABLE epochs (id int PRIMARY KEY, v text, at timestamptz DEFAULT '2026-01-31');
        CREATE TABLE more (id int PRIMARY KEY, v text, rest jsonb NOT NULL DEFAULT '{\"x\": 1}');
        CREATE TABLE twice (id int PRIMARY KEY, v text);
        CREATE TABLE part (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE part_1 (v text, id int NOT NULL);
        ALTER TABLE part ATTACH PARTITION part_1 FOR VALUES FROM (0) TO (9);
        INSERT INTO big VALUES (1, 'a', repeat('x', 9000)); INSERT INTO whole SELECT * FROM big;
        INSERT INTO made VALUES (1, 'a'); INSERT INTO ends VALUES (1, 'a', 'infinity');
        INSERT INTO more VALUES (1, 'a');
        INSERT INTO epochs VALUES (1, 'a'); INSERT INTO twice VALUES (1, 'a'); INSERT INTO part VALUES (1, 'a');",
    );
    let tables = [
        // Its large value does not come again.
        ("big", "", "UPDATE big SET v = 'b'", false),
        ("whole", "", "UPDATE whole SET v = 'b'", true),
        ("made", "", "UPDATE made SET v = 'b'", false),
        ("ends", "expires_column = \"at\"", "UPDATE ends SET v = 'b'", false),
        ("epochs", "timestamps = \"epoch\"", "UPDATE epochs SET v = 'b'", false),
        ("more", "overflow = \"rest\"", "UPDATE more SET v = 'b', rest = '{\"y\": \"2\", \"z\": [1, 2]}'", true),
        ("twice", "", "BEGIN; UPDATE twice SET v = 'c'; UPDATE twice SET v = 'b'; COMMIT", false),
        ("part", "", "UPDATE part SET v = 'b'", true),
    ];
    let mappings: String = tables
        .iter()
        .map(|(table, more, ..)| match table {
            &"ends" => over(table, table, more).replace("ttl = \"1h\"\n", ""),
            _ => over(table, table, more),
        })
        .collect();
    let sidecar = start(&redis, &postgres, &mappings);
    let mut wire = sidecar.wire();
    for (table, _, sql, is_taken) in tables {
        let (read, key) = (format!("HGETALL {table}:1"), format!("{table}:1"));
        assert_ne!(wire.ask(&read), "*0\r\n", "{table}");
        settle(&postgres, &mut wire);
        let taken = in_place(&sidecar);
        postgres.sql(sql);
        shows(&mut wire, &format!("HGET {table}:1 v"), "$1\r\nb\r\n");
        assert_eq!(in_place(&sidecar) - taken, f64::from(u8::from(is_taken)), "{table}");
        let (held, loaded) = held_and_loaded(&mut wire, &read, &key);
        assert_eq!(held, loaded, "{table}");
    }
}

#[test]
fn a_row_that_a_policy_hides_does_not_appear() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql(
        "CREATE ROLE app LOGIN REPLICATION; GRANT SELECT ON t, settled TO app; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        CREATE POLICY few ON t USING (v NOT LIKE 'secret%')",
    );
    replicated(&redis, &postgres, &(over("t", "t", "") + &over("settled", "settled", "")));
    let url = format!("postgres://app@127.0.0.1:{}/postgres", postgres.port);
    let config = over("t", "t", "") + &over("settled", "settled", "");
    let builder = only_asked(Sidecar::builder().redis(&redis).config(&config).set("STORE__FEED", "replication"));
    let sidecar = builder.set("STORE__URL", url).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$2\r\nv1\r\n");
    assert_eq!(wire.ask("EXISTS t:9"), ":0\r\n");
    settle(&postgres, &mut wire);
    let taken = in_place(&sidecar);
    postgres.sql("INSERT INTO t VALUES (9, 'secret'); UPDATE t SET v = 'secret' WHERE id = 1");
    settle(&postgres, &mut wire);
    assert_eq!(wire.ask("EXISTS t:9 t:1"), ":0\r\n");
    assert_eq!(in_place(&sidecar), taken + 1.0);
}

/// Before a path a placeholder may hold what makes the key of another row: `a:b` and `c`, `a` and `b:c`.
#[test]
fn a_row_that_spells_the_key_of_another_one_does_not_take_its_place() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql(
        "CREATE TABLE f (tenant text, flag text, v text, PRIMARY KEY (tenant, flag)); \
         INSERT INTO f VALUES ('a:b', 'c', 'never'), ('a', 'b:c', 'this')",
    );
    let config =
        "[[caches]]\nkey = \"f:{tenant}:{flag:path}\"\ntype = \"string\"\nvalue = \"v\"\ntable = \"f\"\nttl = \"1h\"\n";
    let sidecar = start(&redis, &postgres, config);
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("GET f:a:b:c"), "$4\r\nthis\r\n");
    settle(&postgres, &mut wire);
    postgres.sql("DELETE FROM f WHERE tenant = 'a:b'");
    settle(&postgres, &mut wire);
    assert_eq!(wire.ask("GET f:a:b:c"), "$4\r\nthis\r\n");
}
