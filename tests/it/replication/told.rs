//! Which changes are told, whoever makes them and however.

use super::{logical, over, replicated, shows, whole_mappings};
use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::until;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')";

#[test]
fn what_comes_changes_moves_and_goes_is_seen_without_a_trigger() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let sidecar = replicated(&redis, &postgres, &over("t", "t", "")).start();
    assert_eq!(postgres.sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass"), "0");
    let mut wire = sidecar.wire();
    shows(&mut wire, "HGET t:1 v", "$1\r\na\r\n");
    postgres.sql("UPDATE t SET v = 'x' WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", "$1\r\nx\r\n");
    assert_eq!(wire.ask("EXISTS t:9"), ":0\r\n");
    postgres.sql("INSERT INTO t VALUES (9, 'n')");
    shows(&mut wire, "HGET t:9 v", "$1\r\nn\r\n");
    assert_eq!(wire.ask("EXISTS t:8"), ":0\r\n");
    postgres.sql("UPDATE t SET id = 8 WHERE id = 9");
    shows(&mut wire, "EXISTS t:9", ":0\r\n");
    shows(&mut wire, "HGET t:8 v", "$1\r\nn\r\n");
    postgres.sql("DELETE FROM t WHERE id = 8");
    shows(&mut wire, "EXISTS t:8", ":0\r\n");
    assert_eq!(whole_mappings(&sidecar), 0.0, "each was told by its key");
    postgres.sql("TRUNCATE t");
    shows(&mut wire, "EXISTS t:1", ":0\r\n");
    assert_eq!(whole_mappings(&sidecar), 1.0);
}

#[test]
fn a_transaction_is_told_when_it_commits_and_what_is_rolled_back_never() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let sidecar = replicated(&redis, &postgres, &over("t", "t", "")).start();
    let mut wire = sidecar.wire();
    for id in 1..=3 {
        assert_eq!(wire.ask(&format!("EXISTS t:{id}")), ":1\r\n");
    }
    let told = || metric(&sidecar, "hearthside_invalidations_total{reason=\"change\"}");
    postgres.sql("BEGIN; UPDATE t SET v = 'no' WHERE id = 1; ROLLBACK");
    postgres.sql(
        "BEGIN; SAVEPOINT s; UPDATE t SET v = 'no' WHERE id = 2; ROLLBACK TO s; UPDATE t SET v = 'y' WHERE id = 3;
        COMMIT",
    );
    shows(&mut wire, "HGET t:3 v", "$1\r\ny\r\n");
    assert_eq!(told(), 1.0);
    // A notice would not let it be prepared.
    postgres.sql("BEGIN; UPDATE t SET v = 'p' WHERE id = 1; PREPARE TRANSACTION 'two'");
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql("UPDATE t SET v = 'z' WHERE id = 2");
    shows(&mut wire, "HGET t:2 v", "$1\r\nz\r\n");
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql("COMMIT PREPARED 'two'");
    shows(&mut wire, "HGET t:1 v", "$1\r\np\r\n");
    // More keys than are told one by one; and much more than the server keeps in memory.
    postgres.sql("INSERT INTO t SELECT i, repeat('v', 100) FROM generate_series(10, 60000) AS i");
    until("the whole mapping is told", || whole_mappings(&sidecar) == 1.0);
    shows(&mut wire, "HSTRLEN t:60000 v", ":100\r\n");
}

#[test]
fn partitions_and_children_and_their_truncation_are_told() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(
        "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (100);
        CREATE TABLE h (id int PRIMARY KEY, v text); CREATE TABLE h_1 (PRIMARY KEY (id)) INHERITS (h);
        INSERT INTO p VALUES (1, 'a'); INSERT INTO h_1 VALUES (1, 'a')",
    );
    let children = "[[caches]]\nkey = \"h:{id:int}\"\ntype = \"hash\"\nttl = \"1h\"\n\
        query = \"SELECT v FROM h WHERE id = $1 LIMIT 1\"\nwatch = [{ table = \"h\", key = { id = \"id\" } }]\n";
    let sidecar = replicated(&redis, &postgres, &(over("p", "p", "") + children)).start();
    let mut wire = sidecar.wire();
    for letter in ["p", "h"] {
        assert_eq!(wire.ask(&format!("HGET {letter}:1 v")), "$1\r\na\r\n");
        postgres.sql(&format!("UPDATE {letter}_1 SET v = 'b' WHERE id = 1"));
        shows(&mut wire, &format!("HGET {letter}:1 v"), "$1\r\nb\r\n");
        postgres.sql(&format!("UPDATE {letter} SET v = 'c' WHERE id = 1"));
        shows(&mut wire, &format!("HGET {letter}:1 v"), "$1\r\nc\r\n");
    }
    // A partition that is made later belongs to the publication.
    assert_eq!(wire.ask("EXISTS p:101"), ":0\r\n");
    postgres.sql("CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (100) TO (200); INSERT INTO p_2 VALUES (101, 'n')");
    shows(&mut wire, "HGET p:101 v", "$1\r\nn\r\n");
    postgres.sql("UPDATE p SET id = 102 WHERE id = 1");
    shows(&mut wire, "EXISTS p:1", ":0\r\n");
    shows(&mut wire, "HGET p:102 v", "$1\r\nc\r\n");
    for (partition, key) in [("p_2", "p:102"), ("h_1", "h:1")] {
        postgres.sql(&format!("TRUNCATE {partition}"));
        shows(&mut wire, &format!("EXISTS {key}"), ":0\r\n");
    }
}

#[test]
fn what_fires_no_trigger_is_told() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let sidecar = replicated(&redis, &postgres, &over("t", "t", "")).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql("SET session_replication_role = replica; UPDATE t SET v = 'r' WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", "$1\r\nr\r\n");
    // As rows that a subscription applies, which have an origin.
    postgres.sql(
        "SELECT pg_replication_origin_create('far'); SELECT pg_replication_origin_session_setup('far');
        UPDATE t SET v = 'far' WHERE id = 1",
    );
    shows(&mut wire, "HGET t:1 v", "$3\r\nfar\r\n");
}

#[test]
fn a_key_outside_of_the_primary_key_is_told_where_old_rows_come_whole() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(
        "CREATE TABLE items (id int PRIMARY KEY, owner int, name text, big text);
        ALTER TABLE items ALTER big SET STORAGE EXTERNAL; ALTER TABLE items REPLICA IDENTITY FULL;
        INSERT INTO items SELECT i, i / 2, 'n' || i, repeat('x', 9000) FROM generate_series(2, 5) AS i",
    );
    let list = "[[caches]]\nkey = \"l:{owner:int}\"\ntype = \"list\"\nvalue = \"name\"\nttl = \"1h\"\n\
        query = \"SELECT name FROM items WHERE owner = $1 ORDER BY id\"\n\
        watch = [{ table = \"items\", key = { owner = \"owner\" } }]\n";
    let sidecar = replicated(&redis, &postgres, list).start();
    let mut wire = sidecar.wire();
    let two = "*2\r\n$2\r\nn2\r\n$2\r\nn3\r\n";
    assert_eq!((wire.ask("LRANGE l:1 0 -1").as_str(), wire.ask("LLEN l:2")), (two, ":2\r\n".into()));
    // The large value is not sent again.
    postgres.sql("UPDATE items SET owner = 2 WHERE id = 2");
    shows(&mut wire, "LLEN l:1", ":1\r\n");
    shows(&mut wire, "LLEN l:2", ":3\r\n");
    postgres.sql("DELETE FROM items WHERE id = 3");
    shows(&mut wire, "LLEN l:1", ":0\r\n");
    assert_eq!(whole_mappings(&sidecar), 0.0);
}

#[test]
fn a_key_has_the_text_that_a_cast_gives_it() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(
        "CREATE DOMAIN code AS char(4); CREATE TYPE mood AS ENUM ('good', 'bad');
        CREATE TABLE k (a code, b bool, c inet, d date, e mood, f bytea, v text, PRIMARY KEY (a, b, c, d, e, f));
        INSERT INTO k VALUES ('x', true, '10.0.0.1', '2026-01-31', 'bad', '\\x01ff', 'old');
        ALTER DATABASE postgres SET DateStyle = 'German'",
    );
    let names = ["a", "b", "c", "d", "e", "f"];
    let holes = names.map(|name| format!("{{{name}}}")).join(":");
    let watched = names.map(|name| format!("{name} = \"{name}\"")).join(", ");
    let conditions: Vec<String> =
        names.iter().zip(1..).map(|(name, place)| format!("{name}::text = ${place}::text")).collect();
    let columns = names.map(|name| format!("{name}::text")).join(", ");
    let config = format!(
        "[[caches]]\nkey = \"k:{holes}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1h\"\n\
        query = \"SELECT v, {columns} FROM k WHERE {}\"\nwatch = [{{ table = \"k\", key = {{ {watched} }} }}]\n",
        conditions.join(" AND ")
    );
    let sidecar = replicated(&redis, &postgres, &config).start();
    let mut wire = sidecar.wire();
    let key = "k:x:true:10.0.0.1/32:2026-01-31:bad:\\x01ff";
    assert_eq!(wire.ask(&format!("GET {key}")), "$3\r\nold\r\n");
    postgres.sql("UPDATE k SET v = 'new'");
    shows(&mut wire, &format!("GET {key}"), "$3\r\nnew\r\n");
    assert_eq!(whole_mappings(&sidecar), 0.0);
}

#[test]
fn a_table_that_changes_or_is_swapped_is_followed() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let builder = replicated(&redis, &postgres, &over("t", "t", "")).set("STORE__SCHEMA_INTERVAL", "50ms");
    let sidecar = builder.expect(&[crate::support::warnings::UNTOLD]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql("ALTER TABLE t ADD COLUMN w text; UPDATE t SET w = 'w' WHERE id = 1");
    shows(&mut wire, "HGET t:1 w", "$1\r\nw\r\n");
    postgres.sql("ALTER TABLE t DROP COLUMN v; ALTER TABLE t ADD COLUMN v int; UPDATE t SET v = 7 WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", "$1\r\n7\r\n");
    postgres.sql("UPDATE t SET v = 8 WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", "$1\r\n8\r\n");
    // The new one is in no publication, until it is added.
    postgres.sql("CREATE TABLE n (id int PRIMARY KEY, v int); INSERT INTO n VALUES (1, 100)");
    postgres.sql("BEGIN; ALTER TABLE t RENAME TO was; ALTER TABLE n RENAME TO t; COMMIT");
    shows(&mut wire, "HGET t:1 v", "$3\r\n100\r\n");
    until("it is said", || sidecar.log().contains("t: it is not in the publication hearthside"));
    postgres.sql("ALTER PUBLICATION hearthside ADD TABLE t");
    until("it is told again", || sidecar.log().contains("every change of the mapping is told"));
    shows(&mut wire, "HGET t:1 v", "$3\r\n100\r\n");
    postgres.sql("UPDATE t SET v = 101 WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", "$3\r\n101\r\n");
}

#[test]
fn the_schema_is_looked_at_as_soon_as_a_row_of_a_changed_table_comes() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let sidecar = replicated(&redis, &postgres, &over("t", "t", "")).set("STORE__SCHEMA_INTERVAL", "1h").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    // The feed knows the table as it was.
    postgres.sql("UPDATE t SET v = 'b' WHERE id = 1");
    shows(&mut wire, "HGET t:1 v", "$1\r\nb\r\n");
    postgres.sql("ALTER TABLE t ADD COLUMN w text; UPDATE t SET w = 'w' WHERE id = 1");
    shows(&mut wire, "HGET t:1 w", "$1\r\nw\r\n");
}

#[test]
fn a_sidecars_own_write_is_no_news_to_it_and_what_a_trigger_adds_is() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    postgres.sql("CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'a')");
    postgres.sql(
        "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE u SET v = NEW.v || '!' WHERE id = NEW.id AND v = NEW.v; RETURN NULL; END $$;
        CREATE TRIGGER more AFTER UPDATE ON u FOR EACH ROW WHEN (pg_trigger_depth() < 1) EXECUTE FUNCTION more()",
    );
    let config = over("t", "t", "write = \"through\"") + &over("u", "u", "write = \"through\"");
    let sidecar = replicated(&redis, &postgres, &config).start();
    let other = replicated(&redis, &postgres, &config).start();
    let (mut wire, mut elsewhere) = (sidecar.wire(), other.wire());
    assert_eq!(elsewhere.ask("HGET t:1 v"), "$1\r\na\r\n");
    let loads = || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    assert_eq!(wire.ask("HSET t:1 v mine"), ":0\r\n");
    let before = loads();
    shows(&mut elsewhere, "HGET t:1 v", "$4\r\nmine\r\n");
    // What comes later has come, so the write's own notice has, too.
    assert_eq!(wire.ask("HGET t:2 v"), "$1\r\nb\r\n");
    postgres.sql("UPDATE t SET v = 'x' WHERE id = 2");
    shows(&mut wire, "HGET t:2 v", "$1\r\nx\r\n");
    // The row of the other key is loaded once or twice: its notice brings its values, if that is early enough.
    let others = loads();
    assert!(others <= before + 2.0, "nothing else was loaded");
    assert_eq!(wire.ask("HGET t:1 v"), "$4\r\nmine\r\n");
    assert_eq!(loads(), others, "the key that was written here was not loaded again");
    assert_eq!(wire.ask("HSET u:1 v mine"), ":0\r\n");
    shows(&mut wire, "HGET u:1 v", "$5\r\nmine!\r\n");
}
