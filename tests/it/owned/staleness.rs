//! Records past their TTL: served while they are loaded again, or while the store cannot be asked; never past a change.

use std::time::{Duration, Instant};

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

fn block(name: &str, more: &str) -> String {
    format!("[[caches]]\nkey = \"{name}:{{id:int}}\"\ntype = \"string\"\ntable = \"{name}\"\nvalue = \"v\"\n{more}\n")
}

fn builder(redis: &Redis, postgres: &Postgres, blocks: &[(&str, &str)]) -> Builder {
    let config: String = blocks.iter().map(|(name, more)| block(name, more)).collect();
    for (name, _) in blocks {
        postgres
            .sql(&format!("CREATE TABLE {name} (id BIGINT PRIMARY KEY, v TEXT); INSERT INTO {name} VALUES (1, 'old')"));
    }
    Sidecar::builder().redis(redis).postgres(postgres).config(&config).migrated()
}

fn pass(time: Duration) {
    let begun = Instant::now();
    until("the time has passed", || begun.elapsed() > time);
}

const TRIGGERS_OFF: &str = "ALTER TABLE a DISABLE TRIGGER USER";
const OLD: &str = "$3\r\nold\r\n";
const NEW: &str = "$3\r\nnew\r\n";

#[test]
fn a_stale_record_is_served_at_once_and_loaded_again_once() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE SEQUENCE loads");
    let config = "[[caches]]\nkey = \"a:{id:int}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"300ms\"\n\
        stale_while_revalidate = \"1h\"\n\
                  query = \"SELECT nextval('loads') AS v FROM (SELECT pg_sleep(1.5)) AS s WHERE $1::bigint > 0\"\n";
    let sidecar = Sidecar::builder().redis(&redis).postgres(&postgres).config(config).start();
    let mut wires: Vec<Wire> = (0..10).map(|_| sidecar.wire()).collect();
    assert_eq!(wires[0].ask("GET a:1"), "$1\r\n1\r\n");
    pass(Duration::from_millis(310));
    for wire in &mut wires {
        assert_eq!(wire.ask("GET a:1"), "$1\r\n1\r\n", "it waited for the load");
    }
    until("it is loaded again", || wires[0].ask("GET a:1") == "$1\r\n2\r\n");
    assert_eq!(postgres.sql("SELECT last_value FROM loads"), "2", "ten readers, one load");
    assert!(metric(&sidecar, "hearthside_stale_served_total") >= 10.0);
}

#[test]
fn a_change_is_never_hidden_by_a_stale_record() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let blocks = [("a", "ttl = \"50ms\"\nstale_while_revalidate = \"1h\"\nwrite = \"through\"")];
    let sidecar = builder(&redis, &postgres, &blocks).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("GET a:1"), OLD);
    pass(Duration::from_millis(60));
    assert_eq!(wire.ask("SET a:1 new"), "+OK\r\n");
    for _ in 0..200 {
        assert_eq!(wire.ask("GET a:1"), NEW);
    }
    pass(Duration::from_millis(60));
    postgres.sql("UPDATE a SET v = 'sql'");
    until("the change shows", || wire.ask("GET a:1") == "$3\r\nsql\r\n");
    for _ in 0..200 {
        assert_eq!(wire.ask("GET a:1"), "$3\r\nsql\r\n");
    }
}

#[test]
fn while_the_store_is_away_stale_records_are_served_as_long_as_the_mapping_says() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let blocks = [
        ("a", "ttl = \"100ms\"\nstale_if_error = \"1h\"\nmax_staleness = \"10s\""),
        ("b", "ttl = \"100ms\""),
        ("c", "ttl = \"100ms\"\nstale_if_error = \"1h\""),
    ];
    let sidecar = builder(&redis, &postgres, &blocks).expect(warnings::STORE_AWAY).start();
    let mut wire = sidecar.wire();
    for key in ["GET a:1", "GET b:1", "GET c:1"] {
        assert_eq!(wire.ask(key), OLD);
    }
    postgres.stop();
    pass(Duration::from_millis(110));
    assert_eq!((wire.ask("GET a:1"), wire.ask("GET c:1")), (OLD.into(), OLD.into()));
    assert!(wire.ask("GET b:1").starts_with("-ERR hearthside: the mapping 'b:{id:int}' could not be read"));
    until("it has become too old", || wire.ask("GET a:1").starts_with("-ERR hearthside"));
    assert_eq!(wire.ask("GET c:1"), OLD, "this mapping tolerates more");
    postgres.launch();
    postgres.sql("UPDATE c SET v = 'new'");
    until("the store answers again", || wire.ask("GET c:1") == NEW && wire.ask("GET a:1") == OLD);
}

#[test]
fn absent_keys_are_remembered_for_as_long_as_their_mapping_says() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let blocks = [("a", "negative_ttl = \"100ms\""), ("b", "negative_ttl = \"1h\"")];
    let sidecar = builder(&redis, &postgres, &blocks).start();
    postgres.sql(TRIGGERS_OFF);
    postgres.sql("ALTER TABLE b DISABLE TRIGGER USER");
    let mut wire = sidecar.wire();
    assert_eq!((wire.ask("GET a:2"), wire.ask("GET b:2")), ("$-1\r\n".into(), "$-1\r\n".into()));
    postgres.sql("INSERT INTO a VALUES (2, 'new'); INSERT INTO b VALUES (2, 'new')");
    until("the one is asked for again", || wire.ask("GET a:2") == NEW);
    assert_eq!(wire.ask("GET b:2"), "$-1\r\n");
}
