//! Tables whose name another table takes, partitions that come and go, schemas and search paths.

use super::{over, soon};
use crate::support::admin::request;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::warnings;

const HERO: &str = "[[caches]]\nkey = \"h:{id:int}\"\ntype = \"hash\"\ntable = \"hero\"\nwrite = \"through\"\n\
                    max_staleness = \"1s\"\n";

const ROWS: &str = "CREATE TABLE hero (id INT PRIMARY KEY, v TEXT); INSERT INTO hero VALUES (1, 'old'), (2, 'old');";

#[test]
fn a_table_that_takes_the_name_of_another_is_served_and_bounded_until_its_triggers_are_there() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    let builder = over(&redis, &postgres, HERO).expect(&[warnings::NO_TRIGGERS]);
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET h:1 v"), "$3\r\nold\r\n");
    postgres.sql(
        "CREATE TABLE hero_new (LIKE hero INCLUDING ALL); INSERT INTO hero_new VALUES (1, 'new'), (2, 'new'); \
         BEGIN; ALTER TABLE hero RENAME TO hero_old; ALTER TABLE hero_new RENAME TO hero; COMMIT",
    );
    soon("the new table is served", || wire.ask("HGET h:1 v") == "$3\r\nnew\r\n");
    soon("the missing triggers are said", || sidecar.log().contains("change triggers are missing"));
    let (_, body) = request(&sidecar, "GET", "/readyz?verbose");
    assert!(body.contains("mapping 'h:{id:int}': up, and its changes are not reported"), "{body}");
    for i in 0..3 {
        postgres.sql(&format!("UPDATE hero SET v = 'v{i}'"));
        soon("a change that no trigger reports shows", || wire.ask("HGET h:1 v") == format!("$2\r\nv{i}\r\n"));
    }
    assert_eq!(wire.ask("HSET h:2 v mine"), ":0\r\n");
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["triggers", "--install"];
    let mut install = crate::support::sidecar::program();
    std::fs::write(folder.path().join("config.toml"), HERO).expect("written");
    install.current_dir(folder.path()).env("HEARTHSIDE__STORE__URL", postgres.url()).args(arguments);
    assert!(install.output().expect("runs").status.success());
    soon("the triggers are seen", || sidecar.log().contains("the change triggers of the mapping are all there"));
    wire.ask("HGET h:1 v");
    postgres.sql("UPDATE hero SET v = 'told'");
    soon("a change is reported", || wire.ask("HGET h:1 v") == "$4\r\ntold\r\n");
}

#[test]
fn a_table_that_is_dropped_and_made_again_is_read_and_written() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    let sidecar = over(&redis, &postgres, HERO).expect(&[warnings::NO_TRIGGERS, warnings::UNFIT]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET h:1 v"), "$3\r\nold\r\n");
    postgres
        .sql("DROP TABLE hero; CREATE TABLE hero (id BIGINT PRIMARY KEY, w TEXT); INSERT INTO hero VALUES (1, 'x')");
    soon("the new column is shown", || wire.ask("HGETALL h:1") == "*2\r\n$1\r\nw\r\n$1\r\nx\r\n");
    assert_eq!(wire.ask("HSET h:5000000000 w y"), ":1\r\n");
}

#[test]
fn partitions_that_come_and_go_are_noticed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE hero (id INT PRIMARY KEY, v TEXT) PARTITION BY RANGE (id); \
         CREATE TABLE hero_1 PARTITION OF hero FOR VALUES FROM (0) TO (100); \
         CREATE TABLE hero_2 PARTITION OF hero FOR VALUES FROM (100) TO (200); \
         INSERT INTO hero VALUES (1, 'one'), (150, 'two')",
    );
    let sidecar = over(&redis, &postgres, HERO).expect(&[warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET h:150 v"), "$3\r\ntwo\r\n");
    postgres.sql("ALTER TABLE hero DETACH PARTITION hero_2");
    soon("what was detached is absent", || wire.ask("HGET h:150 v") == "$-1\r\n");
    postgres.sql(
        "UPDATE hero_2 SET v = 'meanwhile'; ALTER TABLE hero ATTACH PARTITION hero_2 FOR VALUES FROM (100) TO (200)",
    );
    soon("what was attached is there", || wire.ask("HGET h:150 v") == "$9\r\nmeanwhile\r\n");
    postgres.sql("TRUNCATE hero_2");
    soon("an emptied partition is empty", || wire.ask("HGET h:150 v") == "$-1\r\n");
    assert_eq!(wire.ask("HGET h:1 v"), "$3\r\none\r\n");
}

#[test]
fn a_table_earlier_in_the_search_path_is_the_one_that_is_meant() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    postgres.sql("CREATE SCHEMA game; ALTER ROLE postgres SET search_path = game, public");
    let sidecar = over(&redis, &postgres, HERO).expect(&[warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET h:1 v"), "$3\r\nold\r\n");
    postgres.sql("CREATE TABLE game.hero (id INT PRIMARY KEY, v TEXT); INSERT INTO game.hero VALUES (1, 'game')");
    soon("the other table is read", || wire.ask("HGET h:1 v") == "$4\r\ngame\r\n");
    postgres.sql("ALTER SCHEMA game RENAME TO elsewhere");
    soon("and the first one again", || wire.ask("HGET h:1 v") == "$3\r\nold\r\n");
}

#[test]
fn a_locked_table_keeps_no_other_schema_from_being_followed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(ROWS);
    postgres.sql("CREATE TABLE other (id INT PRIMARY KEY, v TEXT); INSERT INTO other VALUES (1, 'o')");
    let config = format!("{HERO}{}", HERO.replace("h:{", "o:{").replace("\"hero\"", "\"other\""));
    let sidecar = over(&redis, &postgres, &config).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET o:1 v"), "$1\r\no\r\n");
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE hero IN ACCESS EXCLUSIVE MODE;");
    postgres.sql("ALTER TABLE other ADD COLUMN w INT DEFAULT 4");
    soon("the other table's column is shown", || wire.ask("HGET o:1 w") == "$1\r\n4\r\n");
    session.run("COMMIT;");
}
