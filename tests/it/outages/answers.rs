//! An error that is answered over a connection that goes on is the answer of that statement, and says nothing of the
//! store, whatever its code: a trigger of the owner's raised it, or the server behind a foreign table.

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;

const CONFIG: &str = r#"
[[caches]]
key = "p:{id:int}"
type = "hash"
table = "players"
write = "through"
"#;

/// What the owner's trigger raises where a name says so.
const TABLES: &str = "CREATE TABLE players (id BIGINT PRIMARY KEY, name TEXT); \
    INSERT INTO players SELECT i, 'p' || i FROM generate_series(1, 1000) i; \
    CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF NEW.name ~ '^raise:' THEN RAISE EXCEPTION 'the owner says no' USING ERRCODE = substr(NEW.name, 7); END IF; \
    RETURN NEW; END $$; \
    CREATE TRIGGER judge BEFORE UPDATE ON players FOR EACH ROW EXECUTE FUNCTION judge();";

/// Codes of dead connections and servers, of the lack of something, and of conflicts.
const CODES: [&str; 16] = [
    "08000", "08001", "08003", "08006", "57000", "57014", "57P01", "57P02", "57P03", "57P05", "53100", "53300",
    "40001", "40P01", "58030", "XX000",
];

fn over(redis: &Redis, postgres: &Postgres, config: &str) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(config);
    builder.set("STORE__BREAKER_FAILURES", "2").set("STORE__BREAKER_PAUSE", "60s").migrated()
}

#[test]
fn what_a_trigger_raises_is_no_sign_of_a_dead_store() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let sidecar = over(&redis, &postgres, CONFIG).expect(&[warnings::WRITE_FAILED]).start();
    let mut wire = sidecar.wire();
    for (at, code) in CODES.iter().enumerate() {
        for _ in 0..3 {
            let told = wire.ask(&format!("HSET p:1 name raise:{code}"));
            assert!(told.starts_with("-ERR ") && !told.contains("may have been"), "{code}: {told}");
            let is_named = told.contains(&format!("the owner says no ({code})"));
            assert!(is_named || code.starts_with("40"), "{code}: {told}");
        }
        // A key that is not in memory.
        let cold = format!("HGET p:{} name", at + 10);
        assert_eq!(wire.ask(&cold), format!("$3\r\np{}\r\n", at + 10), "after {code}");
        assert_eq!(wire.ask("HSET p:2 name fine"), ":0\r\n", "after {code}");
    }
    assert_eq!(metric(&sidecar, "hearthside_store_up"), 1.0);
}

#[test]
fn a_write_in_a_transaction_that_a_trigger_answers_so_leaves_the_others() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let sidecar = over(&redis, &postgres, CONFIG).expect(&[warnings::WRITE_FAILED]).start();
    let mut wire = sidecar.wire();
    for command in ["MULTI", "HSET p:1 name raise:08006", "HSET p:2 name fine"] {
        wire.ask(command);
    }
    let told = wire.ask("EXEC");
    assert!(told.starts_with("*2\r\n-ERR ") && told.contains("(08006)") && told.ends_with(":0\r\n"), "{told}");
    assert_eq!(postgres.sql("SELECT name FROM players WHERE id IN (1, 2) ORDER BY id"), "p1\nfine");
}

#[test]
fn a_query_that_raises_for_one_key_is_answered_for_that_key() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    postgres.sql(
        "CREATE FUNCTION shown(id BIGINT) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
         IF id <= 500 THEN RAISE EXCEPTION 'not yet' USING ERRCODE = '57P01'; END IF; RETURN 'shown'; END $$",
    );
    let config = "[[caches]]\nkey = \"q:{id:int}\"\ntype = \"hash\"\nwatch = [{ table = \"players\" }]\n\
                  query = \"SELECT id, shown(id) AS name FROM players WHERE id = $1\"\n";
    let sidecar = over(&redis, &postgres, config).expect(&[warnings::LOAD_FAILED]).start();
    let mut wire = sidecar.wire();
    for id in 1..=6 {
        let told = wire.ask(&format!("HGET q:{id} name"));
        assert!(told.contains("the store could not do it now: not yet (57P01)"), "{told}");
    }
    assert_eq!(wire.ask("HGET q:501 name"), "$5\r\nshown\r\n");
}

#[test]
fn a_foreign_table_whose_server_is_away_says_so_itself_and_is_read_once_it_is_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE EXTENSION postgres_fdw; CREATE TABLE near (id BIGINT PRIMARY KEY, name TEXT); \
         INSERT INTO near VALUES (1, 'one'); \
         CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'postgres'); \
         CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'postgres', password 'x'); \
         CREATE FOREIGN TABLE far (id BIGINT, name TEXT) SERVER far OPTIONS (table_name 'near')",
    );
    let config = "[[caches]]\nkey = \"f:{id:int}\"\ntype = \"hash\"\nwatch = [{ table = \"near\" }]\n\
                  query = \"SELECT id, name FROM far WHERE id = $1\"\n";
    let sidecar = over(&redis, &postgres, config).expect(&[warnings::LOAD_FAILED]).start();
    let mut wire = sidecar.wire();
    for id in 1..=6 {
        let told = wire.ask(&format!("HGET f:{id} name"));
        assert!(told.contains("the store could not do it now: ") && told.contains("(08001)"), "{told}");
    }
    assert_eq!(metric(&sidecar, "hearthside_store_up"), 1.0);
    postgres.sql(&format!("ALTER SERVER far OPTIONS (SET port '{}')", postgres.port));
    assert_eq!(wire.ask("HGET f:1 name"), "$3\r\none\r\n");
}
