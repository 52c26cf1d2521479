//! Constraints of every kind: what a write is refused for is named.

use super::{check, hash, over};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::warnings;

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
    // Rows that share a key are not one hash.
    postgres.sql("CREATE TABLE many (id int, v text); INSERT INTO many VALUES (1, 'a'), (1, 'b'), (2, 'c')");
    let config = hash("m:{id:int}", "many", "").replace("write = \"through\"\n", "");
    let sidecar = over(&redis, &postgres, "", &config).expect(&[crate::support::warnings::LOAD_FAILED]).start();
    assert!(sidecar.wire().ask("HGETALL m:1").contains("several rows have this key"));
    assert_eq!(sidecar.wire().ask("HGET m:2 v"), "$1\r\nc\r\n");
}
