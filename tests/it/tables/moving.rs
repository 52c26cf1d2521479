//! A trigger that gives a row another key while it is written: memory has under both keys what the table has.

use super::{hash, over};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::warnings;

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, d text);
    INSERT INTO t SELECT i, 'a', 'a' FROM generate_series(1, 4) AS i;
    CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.v = 'move' OR NEW.d = 'move' THEN NEW.id := NEW.id + 100; NEW.v := 'm'; NEW.d := 'm'; END IF;
        RETURN NEW; END $$;
    CREATE TRIGGER move BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION move()";

#[test]
fn a_row_that_a_trigger_moves_is_found_where_it_is() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = over(&redis, &postgres, TABLES, &hash("t:{id:int}", "t", "deferred = [\"d\"]"));
    let sidecar = builder.expect(&[warnings::NO_ROW]).start();
    let mut wire = sidecar.wire();
    for id in 1..=5 {
        wire.ask(&format!("HGET t:{id} v"));
        wire.ask(&format!("HGET t:{} v", id + 100));
    }
    // A row that is there, one that is inserted, one in a transaction, and one that is deferred.
    assert_eq!([wire.ask("HSET t:1 v move"), wire.ask("HSET t:5 v move")], [":0\r\n", ":1\r\n"]);
    wire.ask("MULTI");
    wire.ask("HSET t:2 v move");
    wire.ask("HGET t:2 v");
    assert_eq!(wire.ask("EXEC"), "*2\r\n:0\r\n$-1\r\n");
    for id in [1, 2, 5] {
        assert_eq!(wire.ask(&format!("HGET t:{id} v")), "$-1\r\n", "{id}: by whom it was written, at once");
    }
    assert_eq!(wire.ask("HSET t:3 d move"), ":0\r\n");
    until("it is saved", || metric(&sidecar, "hearthside_deferred_keys") == 0.0);
    for id in [1, 2, 3, 5] {
        until("the old key is absent", || wire.ask(&format!("HGET t:{id} v")) == "$-1\r\n");
        until("the new one is there", || wire.ask(&format!("HGET t:{} v", id + 100)) == "$1\r\nm\r\n");
    }
    assert_eq!(postgres.sql("SELECT string_agg(id || v, ' ' ORDER BY id) FROM t"), "4a 101m 102m 103m 105m");
}
