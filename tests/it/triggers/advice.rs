//! What an operator is told is enough to put it right.

use super::{over, text};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

fn url_of(postgres: &Postgres, role: &str) -> String {
    postgres.url().replace("postgres@", &format!("{role}@"))
}

#[test]
fn who_may_not_install_is_told_the_statements_that_let_him() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE ROLE one LOGIN; CREATE ROLE two LOGIN");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&over("t", ""));
    let run = |role: &str, what: &str| {
        let done = builder.execute_with("STORE__URL", &url_of(&postgres, role), &["triggers", what]);
        (done.status.success(), text(&done))
    };
    let (_, told) = run("one", "--install");
    assert!(told.contains("schema \"hearthside\" does not exist (3F000); run `hearthside migrate` first"), "{told}");
    assert!(builder.execute(&["migrate"]).status.success());
    let let_him = |role: &str, what: &str, expected: &[&str]| {
        let (is_done, told) = run(role, what);
        assert!(!is_done && told.contains("(42501); as the owner run: "), "{told}");
        let statements = told.split("run: ").nth(1).expect("statements").trim();
        assert_eq!(statements.split("; ").collect::<Vec<_>>(), expected, "{told}");
        statements.split("; ").for_each(|statement| drop(postgres.sql(statement)));
    };
    let schema = "GRANT USAGE, CREATE ON SCHEMA hearthside TO one";
    let_him("one", "--install", &[schema, "GRANT TRIGGER ON public.t TO one"]);
    assert!(run("one", "--install").0);
    // Another role finds a function that is not its own.
    let named = "SELECT proname FROM pg_proc WHERE proname LIKE 'changed\\_%'";
    let owner = format!("ALTER FUNCTION hearthside.{}() OWNER TO two", postgres.sql(named));
    let trigger = postgres.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass LIMIT 1");
    postgres.sql(&format!("DROP TRIGGER {trigger} ON t"));
    let_him(
        "two",
        "--install",
        &["GRANT USAGE, CREATE ON SCHEMA hearthside TO two", "GRANT TRIGGER ON public.t TO two", &owner],
    );
    assert!(run("two", "--install").0);
}

#[test]
fn who_may_not_drop_or_enable_is_told_whose_the_table_is() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE ROLE one LOGIN; CREATE ROLE \"The Owner\" LOGIN");
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t OWNER TO \"The Owner\"");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&over("t", ""));
    assert!(builder.execute(&["migrate"]).status.success());
    postgres.sql("GRANT USAGE, CREATE ON SCHEMA hearthside TO one; GRANT TRIGGER ON t TO one");
    let run = |what: &str| text(&builder.execute_with("STORE__URL", &url_of(&postgres, "one"), &["triggers", what]));
    assert!(run("--install").contains("made public.t"));
    let expected = "(42501); run this as the owner, The Owner";
    assert!(run("--remove").contains(expected), "{}", run("--remove"));
    postgres.sql("ALTER TABLE t DISABLE TRIGGER ALL");
    assert!(run("--install").contains(expected), "{}", run("--install"));
}

#[test]
fn check_lists_missing_triggers_beside_missing_migrations() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let config = over("t", "write = \"through\"\ndeferred = [\"v\"]");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config);
    let told = text(&builder.execute(&["check", "--connect"]));
    for expected in ["needs `hearthside migrate`", "caches[0].watch: change trigger missing on t (DELETE, INSERT"] {
        assert!(told.contains(expected), "missing {expected:?} in {told}");
    }
}

#[test]
fn a_column_in_another_spelling_is_suggested() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE \"Quoted\" (\"Id\" int PRIMARY KEY, \"a\"\"b\" text)");
    let told = |more: &str| {
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&over("\"Quoted\"", more));
        text(&builder.execute(&["check", "--connect"]))
    };
    for (more, expected) in [
        ("", "has no column 'id'; did you mean 'Id'?"),
        ("key_columns = { id = 'ID' }", "has no column 'ID'; did you mean 'Id'?"),
        (
            "key_columns = { id = '\"Id\"' }",
            "has no column '\"Id\"'; names of columns are written without the quotes of SQL: Id",
        ),
        (
            "key_columns = { id = 'Id' }\nfields = ['\"a\"\"b\"']",
            "has no column '\"a\"\"b\"'; names of columns are written without the quotes of SQL: a\"b",
        ),
    ] {
        let told = told(more);
        assert!(told.contains(expected), "{more}: {told}");
    }
    let other = told("key_columns = { id = 'other' }");
    assert!(other.contains("has no column 'other'\n"), "{other}");
}

#[test]
fn every_mapping_that_writes_its_table_is_told_that_it_needs_a_unique_index() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE t (id int, v text)");
    for write in ["through", "deferred"] {
        let config = over("t", &format!("write = \"{write}\""));
        let told = text(
            &Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).execute(&["check", "--connect"]),
        );
        let expected = "caches[0].write: a mapping that writes to its table needs a unique index (or primary key) on \
                        exactly: id";
        assert!(told.contains(expected) && !told.contains("\"through\""), "{told}");
    }
}

#[test]
fn the_documents_name_the_rights_that_are_printed() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let config = over("t", "write = \"through\"\ndeferred = [\"v\"]");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config).migrated();
    let printed = text(&builder.execute(&["triggers", "--grants", "side"]));
    let document = include_str!("../../../docs/OPERATIONS.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let notes: Vec<&str> = printed.lines().filter(|line| line.contains("ON hearthside.")).collect();
    assert_eq!(notes.len(), 2, "{printed}");
    for grant in notes {
        let (rights, table) = grant.trim_start_matches("GRANT ").split_once(" ON ").expect("a GRANT");
        let expected = format!("`{rights}` on `{}`", table.trim_end_matches(" TO side;"));
        assert!(document.contains(&expected), "docs/OPERATIONS.md has no {expected}");
    }
}
