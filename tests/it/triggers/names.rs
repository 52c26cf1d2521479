//! What is printed to be run by others, by Flyway for example, means the same tables in their sessions, whatever their
//! search path is.

use super::{installed, over, text};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};

/// Two tables of each name: the role `owner` means those of the schema `App`, everybody else those of `public`.
const TABLES: &str = "CREATE SCHEMA \"App\";
    CREATE TABLE \"App\".t (at serial, id int PRIMARY KEY, v text);
    CREATE TABLE \"App\".\"T t\" (LIKE \"App\".t INCLUDING ALL);
    CREATE TABLE t (LIKE \"App\".t INCLUDING ALL); CREATE TABLE \"T t\" (LIKE \"App\".t INCLUDING ALL);
    CREATE ROLE owner LOGIN SUPERUSER; ALTER ROLE owner SET search_path = \"App\"; CREATE ROLE side LOGIN;
    ALTER ROLE side SET search_path = \"App\"";

/// The tables that have triggers.
const WATCHED: &str = "SELECT DISTINCT tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1";

fn over_both(postgres: &Postgres, redis: &Redis) -> (Builder, String, String) {
    let config = over("t", "write = \"through\"") + &over("\"T t\"", "").replace("r:", "T:");
    let url = |role: &str| postgres.url().replace("postgres@", &format!("{role}@"));
    (Sidecar::builder().redis(redis).config(&config), url("owner"), url("side"))
}

#[test]
fn triggers_that_are_printed_are_those_of_the_tables_that_the_configuration_means() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let (builder, owner, _) = over_both(&postgres, &redis);
    assert!(builder.execute_with("STORE__URL", &owner, &["migrate"]).status.success());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("V7__triggers.sql");
    let written = builder.execute_with("STORE__URL", &owner, &["triggers", "--sql", file.to_str().expect("a path")]);
    assert!(written.status.success(), "{}", text(&written));
    let printed = std::fs::read_to_string(&file).expect("written");
    assert_eq!(printed, text(&builder.execute_with("STORE__URL", &owner, &["triggers"])), "printed is what is written");
    postgres.sql(&printed);
    assert_eq!(postgres.sql(WATCHED), "\"App\".t\n\"App\".\"T t\"");
    let done = builder.execute_with("STORE__URL", &owner, &["triggers", "--install"]);
    assert!(text(&done).contains("nothing to do"), "{}", text(&done));
}

#[test]
fn grants_that_are_printed_are_those_of_the_tables_that_the_configuration_means() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let (builder, owner, side) = over_both(&postgres, &redis);
    for arguments in [&["migrate"][..], &["triggers", "--install"]] {
        assert!(builder.execute_with("STORE__URL", &owner, arguments).status.success());
    }
    // What the check and the installation say.
    postgres.sql("GRANT USAGE ON SCHEMA \"App\" TO side");
    let told = text(&builder.execute_with("STORE__URL", &side, &["check", "--connect"]));
    let expected =
        "the role side lacks SELECT, INSERT, UPDATE on \"App\".t: GRANT SELECT, INSERT, UPDATE ON \"App\".t TO side";
    assert!(told.contains(expected) && told.contains("GRANT SELECT ON \"App\".\"T t\" TO side"), "{told}");
    postgres.sql("ALTER TABLE \"App\".t DISABLE TRIGGER USER; GRANT USAGE, CREATE ON SCHEMA hearthside TO side");
    let told = text(&builder.execute_with("STORE__URL", &side, &["triggers", "--install"]));
    assert!(told.contains("GRANT TRIGGER ON \"App\".t TO side"), "{told}");
    postgres.sql("ALTER TABLE \"App\".t ENABLE TRIGGER USER");
    // The list of all.
    let printed = text(&builder.execute_with("STORE__URL", &owner, &["triggers", "--grants", "side"]));
    postgres.sql(&printed);
    let may = |table: &str| postgres.sql(&format!("SELECT has_table_privilege('side', '{table}', 'SELECT')"));
    assert_eq!([may("\"App\".t"), may("\"App\".\"T t\""), may("t"), may("\"T t\"")], ["t", "t", "f", "f"], "{printed}");
    let sequence = "SELECT has_sequence_privilege('side', '\"App\".t_at_seq', 'USAGE')";
    assert_eq!(postgres.sql(sequence), "t", "{printed}");
    let checked = builder.execute_with("STORE__URL", &side, &["check", "--connect"]);
    assert!(checked.status.success(), "{}", text(&checked));
}

#[test]
fn names_that_cannot_be_looked_up_stand_as_they_are_configured_and_that_is_said() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let (builder, ..) = over_both(&postgres, &redis);
    let printed = || text(&builder.execute_with("STORE__URL", &postgres.url(), &["triggers"]));
    let one = printed();
    assert!(one.contains("hearthside.attach('public.t'::text::regclass"), "{one}");
    let missing = "-- There is no table '\"T t\"' yet: its name stands here as in the configuration.\n";
    assert!(one.contains(missing) && one.contains("hearthside.attach('\"T t\"'::text::regclass"), "{one}");
    let url = postgres.url();
    postgres.stop();
    let printed = text(&builder.execute_with("STORE__URL", &url, &["triggers"]));
    assert!(
        printed.contains("-- The database could not be asked what the names mean (") && printed.contains("('t'::text"),
        "{printed}"
    );
}

#[test]
fn a_role_without_a_name_is_refused() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let (builder, owner, _) = over_both(&postgres, &redis);
    let done = builder.execute_with("STORE__URL", &owner, &["triggers", "--grants", ""]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
}

#[test]
fn a_name_that_has_to_be_quoted_is_told_and_the_others_get_their_triggers() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE \"Weird Name\" (id BIGINT PRIMARY KEY); CREATE TABLE t (id BIGINT PRIMARY KEY)");
    let config = over("Weird Name", "") + &over("t", "").replace("r:", "t:");
    installed(&postgres, &over("t", "").replace("r:", "t:"));
    let output = Sidecar::builder().postgres(&postgres).config(&config).execute(&["triggers", "--install"]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("'Weird Name' is no name as SQL writes it; quote it: '\"Weird Name\"'"), "{told}");
    assert_eq!(postgres.sql("SELECT count(DISTINCT tgrelid) FROM pg_trigger WHERE NOT tgisinternal"), "1");
}
