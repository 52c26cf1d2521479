//! Changes of the schema that are taken back before the next look at it: what was loaded or changed meanwhile must not
//! stay as it was.

use super::{over, soon};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::warnings;

const MAPPINGS: &str = "[[caches]]\nkey = \"h:{id:int}\"\ntype = \"hash\"\ntable = \"hero\"\n\
    [[caches]]\nkey = \"all:{side}\"\ntype = \"list\"\nvalue = \"id\"\n\
    query = \"SELECT id FROM q WHERE side = $1 ORDER BY id\"\nwatch = [{ table = \"q\", key = { side = \"side\" } }]\n";

const TABLES: &str = "CREATE TABLE hero (id INT PRIMARY KEY, v TEXT, w TEXT); \
    INSERT INTO hero VALUES (1, 'v', 'w'), (2, 'v', 'w'); \
    CREATE TABLE q (id INT PRIMARY KEY, side TEXT) PARTITION BY RANGE (id); \
    CREATE TABLE q_1 PARTITION OF q FOR VALUES FROM (0) TO (5); \
    CREATE TABLE q_2 PARTITION OF q FOR VALUES FROM (5) TO (9); INSERT INTO q VALUES (1, 'a'), (7, 'a');";

#[test]
fn what_is_changed_while_the_triggers_are_off_for_a_moment_is_seen() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let sidecar = over(&redis, &postgres, MAPPINGS).expect(&[warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET h:1 v"), "$1\r\nv\r\n");
    postgres.sql(
        "BEGIN; ALTER TABLE hero DISABLE TRIGGER USER; UPDATE hero SET v = 'x'; ALTER TABLE hero ENABLE TRIGGER USER; \
         COMMIT",
    );
    soon("it is seen", || wire.ask("HGET h:1 v") == "$1\r\nx\r\n");
}

#[test]
fn what_is_loaded_while_columns_have_other_names_for_a_moment_does_not_stay() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let sidecar = over(&redis, &postgres, MAPPINGS).start();
    let mut wire = sidecar.wire();
    let exchange = "BEGIN; ALTER TABLE hero RENAME v TO t; ALTER TABLE hero RENAME w TO v; ALTER TABLE hero RENAME t TO \
                    w; COMMIT";
    postgres.sql(exchange);
    assert_eq!(wire.ask("HGET h:2 v"), "$1\r\nw\r\n");
    postgres.sql(exchange);
    soon("it is what it was", || wire.ask("HGET h:2 v") == "$1\r\nv\r\n");
}

#[test]
fn what_is_loaded_while_a_partition_is_away_for_a_moment_does_not_stay() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let (away, back) =
        ("ALTER TABLE q DETACH PARTITION q_2", "ALTER TABLE q ATTACH PARTITION q_2 FOR VALUES FROM (5) TO (9)");
    for sql in [away, back] {
        postgres.sql(sql);
    }
    let sidecar = over(&redis, &postgres, MAPPINGS).start();
    let mut wire = sidecar.wire();
    postgres.sql(away);
    assert_eq!(wire.ask("LRANGE all:a 0 -1"), "*1\r\n$1\r\n1\r\n");
    postgres.sql(back);
    soon("it is there again", || wire.ask("LRANGE all:a 0 -1") == "*2\r\n$1\r\n1\r\n$1\r\n7\r\n");
}
