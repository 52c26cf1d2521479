//! A mapping that the schema does not fit fails alone, at start too, and comes back by itself.

use super::{over, soon};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;

const TABLES: &str = "CREATE TABLE a (id INT PRIMARY KEY, v TEXT); INSERT INTO a VALUES (1, 'a'); \
    CREATE TABLE b (id INT PRIMARY KEY, v TEXT); INSERT INTO b VALUES (1, 'b'); \
    CREATE TABLE d (id INT PRIMARY KEY, v TEXT); INSERT INTO d VALUES (1, 'd');";

const CONFIG: &str = "[[definitions]]\nkey = \"d:{id:int}\"\ntype = \"hash\"\ntable = \"d\"\nfields = [\"v\"]\n\
    [[caches]]\nkey = \"a:{id:int}\"\ntype = \"hash\"\ntable = \"a\"\nfields = [\"v\"]\nwrite = \"through\"\n\
    [[caches]]\nkey = \"b:{id:int}\"\ntype = \"string\"\nvalue = \"v\"\ntable = \"b\"\nwrite = \"through\"\n";

fn is_up(sidecar: &Sidecar, mapping: &str) -> f64 {
    metric(sidecar, &format!("hearthside_mapping_up{{mapping=\"{mapping}\"}}"))
}

#[test]
fn a_mapping_whose_table_goes_fails_alone_and_comes_back() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let sidecar = over(&redis, &postgres, CONFIG).expect(&[warnings::UNFIT, warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 v"), "$1\r\na\r\n");
    assert_eq!((is_up(&sidecar, "a:{id:int}"), is_up(&sidecar, "d:{id:int}")), (1.0, 1.0));
    postgres.sql("DROP TABLE a; DROP TABLE d");
    soon("the mapping says what is wrong", || wire.ask("HGET a:1 v").contains("there is no table 'a'"));
    assert!(wire.ask("HSET a:1 v x").starts_with("-ERR hearthside: the mapping 'a:{id:int}' does not fit the store's"));
    soon("so does the definition", || is_up(&sidecar, "d:{id:int}") == 0.0);
    assert_eq!(wire.ask("HGET d:1 v"), "$1\r\nd\r\n", "the last good definitions are served");
    assert_eq!(wire.ask("GET b:1"), "$1\r\nb\r\n");
    assert_eq!(wire.ask("SET b:2 new"), "+OK\r\n");
    assert_eq!((is_up(&sidecar, "a:{id:int}"), is_up(&sidecar, "b:{id:int}")), (0.0, 1.0));
    let (status, body) = request(&sidecar, "GET", "/readyz");
    let fault = "the mapping 'a:{id:int}' does not fit the store's schema: table: there is no table 'a'";
    assert!(status == 200 && body.starts_with("ready\n") && body.contains(fault), "{body}");
    let (_, body) = request(&sidecar, "GET", "/readyz?verbose");
    assert!(body.contains("mapping 'b:{id:int}': up") && body.contains("mapping 'a:{id:int}': does not fit"), "{body}");
    let (status, body) = request(&sidecar, "POST", "/reload");
    assert!(status == 500 && body.contains(fault), "{body}");
    sidecar.signal("HUP");
    soon("a reload of the same blocks is no fault", || sidecar.log().contains("the configuration is reloaded"));
    postgres.sql("CREATE TABLE a (id INT PRIMARY KEY, v TEXT); INSERT INTO a VALUES (1, 'again')");
    postgres.sql("CREATE TABLE d (id INT PRIMARY KEY, v TEXT); INSERT INTO d VALUES (1, 'again')");
    soon("it is served again", || wire.ask("HGET a:1 v") == "$5\r\nagain\r\n");
    soon("the definition, too", || wire.ask("HGET d:1 v") == "$5\r\nagain\r\n");
    assert_eq!((is_up(&sidecar, "a:{id:int}"), is_up(&sidecar, "d:{id:int}")), (1.0, 1.0));
}

#[test]
fn a_start_with_a_faulty_mapping_serves_the_others() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let builder = over(&redis, &postgres, CONFIG).expect(&[warnings::UNFIT, warnings::DEFINITIONS_NOT_LOADED]);
    postgres.sql("ALTER TABLE a RENAME COLUMN v TO w; ALTER TABLE d RENAME TO e");
    let told = builder.execute(&["check", "--connect"]);
    let told = (told.status.code(), String::from_utf8_lossy(&told.stderr).into_owned());
    assert!(told.0 == Some(2) && told.1.contains("table 'a' has no column 'v'"), "{told:?}");
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("GET b:1"), "$1\r\nb\r\n");
    assert_eq!(wire.ask("SET through 1"), "+OK\r\n");
    assert!(wire.ask("HGET a:1 v").contains("fields: table 'a' has no column 'v'"));
    let never = "-ERR hearthside: the definitions of 'd:{id:int}' have not been loaded yet: table: there is no table";
    for command in ["HGET d:1 v", "EXISTS d:1", "KEYS d:*"] {
        let told = wire.ask(command);
        assert!(told.starts_with(never), "{command}: {told}");
    }
    assert_eq!(wire.ask("KEYS b:*"), "*1\r\n$3\r\nb:1\r\n");
    assert_eq!((is_up(&sidecar, "a:{id:int}"), is_up(&sidecar, "b:{id:int}")), (0.0, 1.0));
    postgres.sql("ALTER TABLE a RENAME COLUMN w TO v; ALTER TABLE e RENAME TO d");
    soon("the cached keys are served", || wire.ask("HGET a:1 v") == "$1\r\na\r\n");
    soon("the definitions are loaded", || wire.ask("HGET d:1 v") == "$1\r\nd\r\n");
    let (status, body) = request(&sidecar, "GET", "/readyz");
    assert_eq!((status, body.as_str()), (200, "ready\n"));
}

#[test]
fn check_names_what_is_locked_and_checks_the_other_mappings() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let builder = over(&redis, &postgres, CONFIG);
    postgres.sql("ALTER TABLE b DROP COLUMN v");
    let mut session = postgres.session();
    session.run("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE;");
    let output = builder.execute(&["check", "--connect"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("the mapping 'a:{id:int}' could not be checked: the table a,"), "{told}");
    assert!(told.contains("table 'b' has no column 'v'"), "{told}");
    assert!(!told.contains("store.url"), "{told}");
    drop(session);
}
