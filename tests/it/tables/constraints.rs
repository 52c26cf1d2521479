//! Constraints of every kind: what a write is refused for is named.

use super::{check, hash, over};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

#[test]
fn a_refusal_names_its_constraint_or_index_and_the_field() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tables = "CREATE EXTENSION btree_gist; CREATE DOMAIN low AS integer CONSTRAINT is_low CHECK (VALUE < 100); \
        CREATE TABLE realm (id int PRIMARY KEY); INSERT INTO realm VALUES (1); \
        CREATE TABLE acc (id int PRIMARY KEY, email text UNIQUE, nick text, realm int REFERENCES realm \
        DEFERRABLE INITIALLY DEFERRED, level low, room int, during int4range, a int, b int, tag text, \
        CONSTRAINT ordered CHECK (a < b), EXCLUDE USING gist (room WITH =, during WITH &&), \
        CONSTRAINT tags UNIQUE (tag) DEFERRABLE INITIALLY DEFERRED); \
        CREATE UNIQUE INDEX acc_nick ON acc (lower(nick)); CREATE UNIQUE INDEX acc_level ON acc (level) WHERE a > 5; \
        CREATE TABLE child (id int PRIMARY KEY, acc int CONSTRAINT child_acc REFERENCES acc); \
        CREATE TABLE part (id int PRIMARY KEY, v text, CONSTRAINT short CHECK (length(v) < 4)) PARTITION BY RANGE (id); \
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100); \
        INSERT INTO acc (id, email, nick, room, during, a, b, tag) VALUES (1, 'ann@x', 'Ann', 1, '[1,5)', 1, 9, 't'), \
        (2, 'bob@x', 'Bob', 1, '[5,9)', 6, 9, 'u'); UPDATE acc SET level = 7 WHERE id = 2; INSERT INTO child VALUES (1, 1)";
    let config = hash("acc:{id:int}", "acc", "delete = \"row\"") + &hash("part:{id:int}", "part", "");
    let sidecar = over(&redis, &postgres, tables, &config).expect(&[warnings::COMMIT_FAILED]).start();
    let mut wire = sidecar.wire();
    for (command, named, field) in [
        ("HSET acc:3 email bob@x", "acc_email_key", "'email'"),
        ("HSET acc:1 email bob@x", "acc_email_key", "'email'"),
        ("HSET acc:1 nick BOB", "acc_nick", "'nick'"),
        ("HSET acc:3 nick BOB", "acc_nick", "'nick'"),
        ("HSET acc:1 level 100", "is_low", "'level'"),
        ("HSET acc:1 a 7 level 7", "acc_level", "'a', 'level'"),
        ("HSET acc:1 a 10", "ordered", "'a'"),
        ("HSET acc:1 during [2,7)", "acc_room_during_excl", "'during'"),
        ("HSET acc:1 realm 9", "acc_realm_fkey", "'realm'"),
        ("HSET acc:3 realm 9", "acc_realm_fkey", "'realm'"),
        ("HSET acc:1 tag u", "tags", "'tag'"),
        ("DEL acc:1", "child_acc", ""),
        ("HSET part:1 v long", "short", "'v'"),
        ("HSET part:500 v a", "no partition of relation", ""),
    ] {
        let told = wire.ask(command);
        assert!(told.starts_with("-ERR hearthside: ") && told.contains("was not written"), "{command}: {told}");
        assert!(told.contains(named) && told.contains(field) && !told.contains("''"), "{command}: {told}");
    }
    // What fails at the end of a transaction fails whole.
    for request in ["MULTI", "HSET acc:2 a 7", "HSET acc:1 realm 9"] {
        wire.ask(request);
    }
    let told = wire.ask("EXEC");
    assert!(told.contains("acc_realm_fkey"), "{told}");
    assert_eq!(
        postgres.sql("SELECT string_agg(concat(id, email, nick, a, tag, realm), ' ' ORDER BY id) FROM acc"),
        "1ann@xAnn1t 2bob@xBob6u"
    );
    assert_eq!(wire.ask("HGET acc:1 email"), "$5\r\nann@x\r\n");
}

#[test]
fn a_key_that_is_not_quite_unique_is_refused_with_the_reason() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    for (index, reason) in [
        ("CREATE UNIQUE INDEX idx ON t (id) WHERE alive", "idx is partial"),
        ("ALTER TABLE t ADD CONSTRAINT con UNIQUE (id) DEFERRABLE", "con is deferrable"),
        ("CREATE UNIQUE INDEX idx ON t (lower(id))", "idx is on expressions"),
        ("CREATE INDEX idx ON t (id)", "on exactly: id\n"),
        ("CREATE UNIQUE INDEX idx ON t (id, alive)", "on exactly: id\n"),
    ] {
        postgres.sql("DROP TABLE IF EXISTS t; CREATE TABLE t (id text, alive boolean, v text)");
        let builder = over(&redis, &postgres, index, &hash("t:{id}", "t", ""));
        let (is_content, told) = check(&builder);
        assert!(!is_content && told.contains("needs a unique index") && told.contains(reason), "{index}: {told}");
    }
    postgres.sql("DROP TABLE t; CREATE TABLE t (id text, alive boolean, v text)");
    let builder = over(&redis, &postgres, "CREATE UNIQUE INDEX idx ON t (id) INCLUDE (v)", &hash("t:{id}", "t", ""));
    assert!(check(&builder).0, "{}", check(&builder).1);
    let sidecar = builder.start();
    assert_eq!(sidecar.wire().ask("HSET t:a v x"), ":1\r\n");
}

#[test]
fn a_hash_or_string_whose_key_may_have_several_rows_is_refused_though_it_is_only_read() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let made = "CREATE TABLE t (id text, day int, alive boolean, v text)";
    let string = "[[caches]]\nkey = \"t:{id}\"\ntype = \"string\"\ntable = 't'\nvalue = \"v\"\n";
    let hash = "[[caches]]\nkey = \"t:{id}:{day:int}\"\ntype = \"hash\"\ntable = 't'\n";
    let defined = &hash.replace("caches", "definitions");
    let set = &string.replace("string", "set");
    let refused = "a hash or string is one row, and several rows may have the same";
    for (index, config, is_fine, expected) in [
        ("", hash, false, "caches[0].key: a hash or string is one row, and several rows may have the same id, day"),
        ("", defined, false, "definitions[0].key: a hash or string is one row"),
        ("", set, true, ""),
        ("CREATE INDEX idx ON t (id)", string, false, refused),
        ("CREATE UNIQUE INDEX idx ON t (id, day)", string, false, refused),
        ("CREATE UNIQUE INDEX idx ON t (id) WHERE alive", string, false, "with LIMIT 1; idx is partial\n"),
        ("CREATE UNIQUE INDEX idx ON t (coalesce(id, v))", string, false, "with LIMIT 1\n"),
        ("CREATE UNIQUE INDEX idx ON t (day, id) INCLUDE (v)", hash, true, ""),
        ("CREATE UNIQUE INDEX idx ON t (day)", hash, true, ""),
        ("ALTER TABLE t ADD PRIMARY KEY (id)", defined, true, ""),
        ("ALTER TABLE t ADD CONSTRAINT con UNIQUE (id) DEFERRABLE", string, true, ""),
        ("CREATE UNIQUE INDEX idx ON t (lower(id))", string, true, "idx is on expressions"),
        ("ALTER TABLE t ADD PRIMARY KEY (id); CREATE TABLE c () INHERITS (t)", hash, true, "inheritance children"),
    ] {
        postgres.sql("DROP TABLE IF EXISTS t CASCADE");
        let (is_content, told) = check(&over(&redis, &postgres, &format!("{made}; {index}"), config));
        assert!(is_content == is_fine && told.contains(expected), "{index}: {told}");
        assert!(!expected.is_empty() || !told.contains("several rows"), "{index}: {told}");
    }
    // What is refused fails alone, and as long as it is so.
    postgres.sql(&format!("DROP TABLE t CASCADE; {made}; INSERT INTO t VALUES ('a', 1, true, 'x')"));
    let config = format!("{string}\n{}", super::hash("u:{id:int}", "u", ""));
    let tables = "CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'x')";
    let sidecar = over(&redis, &postgres, tables, &config).expect(&[warnings::UNFIT]).start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("GET t:a").contains("several rows may have the same id"));
    assert_eq!(wire.ask("HGET u:1 v"), "$1\r\nx\r\n");
    postgres.sql("CREATE UNIQUE INDEX idx ON t (id)");
    until("the index is seen", || wire.ask("GET t:a") == "$1\r\nx\r\n");
}

#[test]
fn what_may_have_several_rows_is_refused_in_sqlite_too() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let string = "[[caches]]\nkey = \"t:{id}\"\ntype = \"string\"\ntable = 't'\nvalue = \"v\"\n";
    for (i, (tables, is_fine, expected)) in [
        ("CREATE TABLE t (id TEXT, v TEXT)", false, "caches[0].key: a hash or string is one row"),
        ("CREATE TABLE t (id TEXT, v TEXT, PRIMARY KEY (id, v)) WITHOUT ROWID", false, "have the same id"),
        ("CREATE TABLE t (id TEXT, v TEXT); CREATE UNIQUE INDEX i ON t (id) WHERE v > 'a'", false, "; i is partial"),
        ("CREATE TABLE t (id TEXT, v TEXT); CREATE UNIQUE INDEX i ON t (lower(id))", false, "LIMIT 1\n"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, v TEXT)", true, ""),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)", true, ""),
        ("CREATE TABLE t (id TEXT UNIQUE, v TEXT)", true, ""),
        (
            "CREATE TABLE u (id TEXT, v TEXT); CREATE VIEW t AS SELECT * FROM u",
            true,
            "'t' is a view or a virtual table",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let file = folder.path().join(format!("{i}.db")).display().to_string();
        let made = std::process::Command::new("sqlite3").args([&file, tables]).status().expect("sqlite3 is installed");
        assert!(made.success(), "{tables}");
        let builder = Sidecar::builder().redis(&redis).config(string).set("STORE__URL", format!("sqlite://{file}"));
        let (is_content, told) = check(&builder);
        assert!(is_content == is_fine && told.contains(expected), "{tables}: {told}");
        assert!(!expected.is_empty() || !told.contains("several rows"), "{tables}: {told}");
    }
}

#[test]
fn a_table_whose_rules_forbid_the_statement_of_a_write_is_refused_at_check() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let tables = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE log (id int); \
        CREATE RULE logged AS ON UPDATE TO t DO ALSO INSERT INTO log VALUES (NEW.id)";
    let (is_content, told) = check(&over(&redis, &postgres, tables, &hash("t:{id:int}", "t", "")));
    assert!(!is_content && told.contains("caches[0].write: the store refused:") && told.contains("rule"), "{told}");
}
