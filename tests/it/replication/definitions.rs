//! Definitions that change by the rows that the log brings, without being loaded again.

use super::in_place::{settle, start};
use super::{logical, shows};
use crate::support::admin::metric;
use crate::support::redis::Redis;

const TABLE: &str = "CREATE TABLE items (id text PRIMARY KEY, name text, price numeric); \
    INSERT INTO items VALUES ('a', 'A', 1.50), ('b', 'B', 2); \
    CREATE TABLE settled (id int PRIMARY KEY, v int); INSERT INTO settled VALUES (1, 0)";

const MAPPING: &str = "[[definitions]]\nkey = \"item:{id}:def\"\ntype = \"hash\"\ntable = \"items\"\n";

#[test]
fn a_definition_changes_by_its_row_and_the_table_is_not_read_again() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let sidecar = start(&redis, &postgres, MAPPING);
    let mut wire = sidecar.wire();
    let reloads = || metric(&sidecar, "hearthside_reloads_total{outcome=\"ok\"}");
    settle(&postgres, &mut wire);
    // What changes until it is read once more after the feed's beginning is read with it.
    postgres.sql("UPDATE items SET price = 3 WHERE id = 'b'");
    shows(&mut wire, "HGET item:b:def price", "$1\r\n3\r\n");
    settle(&postgres, &mut wire);
    let (before, changed) = (reloads(), metric(&sidecar, "hearthside_definitions_changed_in_place_total"));
    postgres.sql("UPDATE items SET price = 1.75 WHERE id = 'a'");
    shows(&mut wire, "HGET item:a:def price", "$4\r\n1.75\r\n");
    postgres.sql("BEGIN; INSERT INTO items VALUES ('c', 'C', 4); DELETE FROM items WHERE id = 'b'; COMMIT");
    shows(&mut wire, "HGETALL item:c:def", "*4\r\n$4\r\nname\r\n$1\r\nC\r\n$5\r\nprice\r\n$1\r\n4\r\n");
    assert_eq!(wire.ask("EXISTS item:b:def"), ":0\r\n");
    assert_eq!(wire.ask("KEYS item:*").matches("item:").count(), 2);
    postgres.sql("UPDATE items SET id = 'd' WHERE id = 'c'");
    shows(&mut wire, "HGET item:d:def name", "$1\r\nC\r\n");
    assert_eq!(wire.ask("EXISTS item:c:def"), ":0\r\n");
    assert_eq!(reloads(), before);
    assert_eq!(metric(&sidecar, "hearthside_definitions_changed_in_place_total"), changed + 5.0);
    assert_eq!(metric(&sidecar, "hearthside_definitions"), 2.0);
    // What is not certain is read as a whole: a row that changes twice, and with it the other one of the commit.
    postgres.sql(
        "BEGIN; UPDATE items SET name = 'x'; UPDATE items SET name = 'y' WHERE id = 'a';
        UPDATE items SET name = 'z' WHERE id = 'a'; COMMIT",
    );
    shows(&mut wire, "HGET item:a:def name", "$1\r\nz\r\n");
    assert_eq!(wire.ask("HGET item:d:def name"), "$1\r\nx\r\n");
    assert!(reloads() > before);
    let read = reloads();
    postgres.sql("TRUNCATE items");
    shows(&mut wire, "EXISTS item:a:def item:d:def", ":0\r\n");
    assert!(reloads() > read);
}

#[test]
fn more_changes_than_are_kept_beside_the_table_are_read_with_it() {
    let (redis, postgres) = (Redis::start(), logical());
    postgres.sql(TABLE);
    let sidecar = start(&redis, &postgres, MAPPING);
    let mut wire = sidecar.wire();
    settle(&postgres, &mut wire);
    for round in 0..4 {
        postgres.sql(&format!("INSERT INTO items SELECT 'r{round}x' || i, 'n', 1 FROM generate_series(1, 100) AS i"));
        shows(&mut wire, &format!("EXISTS item:r{round}x100:def item:r{round}x1:def"), ":2\r\n");
    }
    settle(&postgres, &mut wire);
    assert_eq!(metric(&sidecar, "hearthside_definitions"), 402.0);
}
