//! How often the server is asked what can be seen: for what is kept, and not for what nobody reads. And that nothing
//! old is kept because it was not asked.

use std::thread;

use super::{Held, is_held, logical, over, replicated, shows};
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;

const TABLE: &str = "CREATE EXTENSION pg_stat_statements; CREATE TABLE t (id int PRIMARY KEY, v text); \
    INSERT INTO t SELECT i, 'a' FROM generate_series(1, 500) AS i";

/// Commits that are so far apart have a look each where they are looked for.
const APART: &str = "SELECT pg_sleep(0.012);";

fn started(redis: &Redis, postgres: &Postgres) -> Sidecar {
    postgres.sql(TABLE);
    let builder = replicated(redis, postgres, &over("t", "t", "write = \"through\"\ndelete = \"row\""))
        .set("CACHE__REFRESH", "0s");
    builder.start()
}

fn looks(postgres: &Postgres) -> u32 {
    let sql = "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE 'SELECT pg_current_snapshot()%'";
    postgres.sql(sql).parse().expect("a number")
}

/// Returns when everything has come that was committed before, by a change of a key that is kept.
fn has_come(postgres: &Postgres, wire: &mut Wire, value: &str) {
    wire.ask("HGET t:1 v");
    postgres.sql(&format!("SET synchronous_commit = local; UPDATE t SET v = '{value}' WHERE id = 1"));
    shows(wire, "HGET t:1 v", &format!("${}\r\n{value}\r\n", value.len()));
}

#[test]
fn what_nobody_keeps_is_not_looked_for() {
    let (redis, postgres) = (Redis::start(), logical());
    let sidecar = started(&redis, &postgres);
    let (mut wire, mut session) = (sidecar.wire(), postgres.session());
    has_come(&postgres, &mut wire, "begin");
    let before = looks(&postgres);
    for id in 2..=61 {
        session.run(&format!("UPDATE t SET v = 'b' WHERE id = {id}; {APART}"));
    }
    has_come(&postgres, &mut wire, "foreign");
    let foreign = looks(&postgres);
    assert!(foreign - before < 20, "{} looks at 60 commits of keys that nobody reads", foreign - before);
    for id in 301..=360 {
        assert_eq!(wire.ask(&format!("HSET t:{id} v own")), ":0\r\n");
        session.run(APART);
    }
    has_come(&postgres, &mut wire, "own");
    let own = looks(&postgres);
    assert!(own - foreign < 30, "{} looks at 60 writes of its own", own - foreign);
    let loads = || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    let before = loads();
    for id in 301..=360 {
        assert_eq!(wire.ask(&format!("HGET t:{id} v")), "$3\r\nown\r\n");
    }
    assert_eq!(loads(), before, "its own writes are no news");
}

#[test]
fn what_is_loaded_or_written_before_a_change_can_be_seen_is_looked_for() {
    let (redis, postgres) = (Redis::start(), logical());
    let sidecar = started(&redis, &postgres);
    let mut wire = sidecar.wire();
    thread::scope(|scope| {
        let held = Held::begin(&postgres);
        let writers = ["UPDATE t SET v = 'x' WHERE id = 2", "INSERT INTO t VALUES (1000, 'n')"].map(|sql| {
            let writer = scope.spawn(|| postgres.sql(sql));
            is_held(&postgres, &sql[..6]);
            writer
        });
        has_come(&postgres, &mut wire, "y");
        // Nobody kept anything of these keys when their changes came.
        assert_eq!(wire.ask("HGET t:2 v"), "$1\r\na\r\n");
        assert_eq!(wire.ask("DEL t:1000"), ":0\r\n");
        drop(held);
        writers.into_iter().for_each(|writer| _ = writer.join().expect("it was committed"));
    });
    shows(&mut wire, "HGET t:2 v", "$1\r\nx\r\n");
    shows(&mut wire, "HGET t:1000 v", "$1\r\nn\r\n");
}
