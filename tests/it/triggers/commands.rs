//! `hearthside triggers` and what it is told to do.

use super::{installed, notices, over, text};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY, v text);
    CREATE VIEW both_tables AS SELECT id, t.v, u.v AS w FROM t JOIN u USING (id)";

/// Functions and triggers of ours, beside what the migrations made.
const OURS: &str = "SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal), \
    (SELECT count(*) FROM pg_proc WHERE proname LIKE 'changed\\_%')";

#[test]
fn one_table_that_cannot_be_watched_does_not_keep_the_others_from_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let config = over("both_tables", "").replace("r:", "v:") + &over("t", "");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config);
    assert!(builder.execute(&["migrate"]).status.success());
    let done = builder.execute(&["triggers", "--install"]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    for expected in ["made public.t (INSERT)", "both_tables (a view has no change triggers", "behind it: t, u)"] {
        assert!(text(&done).contains(expected), "missing {expected:?} in {}", text(&done));
    }
    assert_eq!(notices(&postgres, "INSERT INTO t VALUES (1)"), [r#"{"keys":["r:1"]}"#]);
    assert!(text(&builder.execute(&["check", "--connect"])).contains("'both_tables' is a view"));
}

#[test]
fn a_faulty_mapping_is_told_and_what_serves_the_others_is_done_or_nothing_is() {
    let postgres = Postgres::start();
    postgres.sql(TABLES);
    let sound = over("t", "");
    let (no_column, no_table) =
        (over("u", "fields = [\"nope\"]").replace("r:", "u:"), over("uu", "").replace("r:", "u:"));
    let no_key = over("u", "key_columns = { id = \"nope\" }").replace("r:", "u:");
    installed(&postgres, &sound);
    let with = |more: &str| Sidecar::builder().postgres(&postgres).config(&format!("{sound}{more}"));
    let does = |more: &str, arguments: &[&str], code: i32, expected: &str| {
        let done = with(more).execute(arguments);
        assert!(done.status.code() == Some(code) && text(&done).contains(expected), "{more}: {}", text(&done));
    };
    // What the store does not have is told, and what can be done is done.
    for (faulty, expected) in [
        (&no_column, "table 'u' has no column 'nope': no triggers were made for it"),
        (&no_key, "table 'u' has no column 'nope': no triggers were made for it"),
        (&no_table, "there is no table 'uu'"),
    ] {
        assert!(with("").execute(&["triggers", "--remove"]).status.success());
        does(faulty, &["triggers", "--install"], 1, expected);
        assert_eq!(postgres.sql(OURS), "4|1", "those of t are there: {faulty}");
    }
    // Under a mistyped name, triggers that are needed look like nobody's: nothing is dropped.
    installed(&postgres, &(sound.clone() + &over("u", "").replace("r:", "u:")));
    assert_eq!(postgres.sql(OURS), "8|2");
    does(&no_table, &["triggers", "--prune"], 1, "there is no table 'uu': nothing was dropped");
    does(&no_column, &["triggers", "--prune"], 1, "its own triggers are not complete");
    // What the file itself says is wrong is refused before anything is done.
    let file = tempfile::tempdir().expect("a folder").path().join("triggers.sql");
    for arguments in [
        &["triggers", "--install"][..],
        &["triggers", "--prune"],
        &["triggers", "--remove"],
        &["triggers", "--sql", file.to_str().expect("a path")],
        &["triggers"],
    ] {
        does("[[caches]]\nkey = \"{\"\ntype = \"hash\"\ntable = \"u\"\n", arguments, 2, "caches[1].key: ");
    }
    assert_eq!(postgres.sql(OURS), "8|2");
    assert!(!file.exists());
}

#[test]
fn four_that_install_and_migrate_at_once_do_it_once() {
    let postgres = Postgres::start();
    postgres.sql(TABLES);
    let config = over("t", "") + &over("u", "").replace("r:", "u:");
    let builder = Sidecar::builder().postgres(&postgres).config(&config);
    for arguments in [&["migrate"][..], &["triggers", "--install"]] {
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| builder.execute(arguments))).collect();
            for run in runs {
                let done = run.join().expect("runs");
                assert!(done.status.success(), "{arguments:?}: {}", text(&done));
            }
        });
    }
    assert_eq!(postgres.sql(OURS), "8|2");
}

#[test]
fn what_is_switched_off_or_changed_is_missing_and_made_again() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let builder = installed(&postgres, &over("t", "")).redis(&redis);
    let missing = |what: &str| {
        let told = text(&builder.execute(&["check", "--connect"]));
        assert!(told.contains(&format!("change trigger missing on t ({what})")), "{told}");
        let done = builder.execute(&["triggers", "--install"]);
        assert!(done.status.success(), "{}", text(&done));
        let checked = builder.execute(&["check", "--connect"]);
        assert!(checked.status.success(), "{}", text(&checked));
    };
    postgres.sql(
        "DO $$ DECLARE n text; BEGIN SELECT tgname INTO n FROM pg_trigger WHERE tgname LIKE '%upd'; \
        EXECUTE format('ALTER TABLE t DISABLE TRIGGER %I', n); END $$",
    );
    missing("UPDATE");
    postgres.sql(
        "DO $$ DECLARE n text; BEGIN SELECT tgname INTO n FROM pg_trigger WHERE tgname LIKE '%del'; \
        EXECUTE format('ALTER TABLE t ENABLE REPLICA TRIGGER %I', n); END $$",
    );
    missing("DELETE");
    postgres.sql(
        "DO $$ DECLARE n text; BEGIN SELECT proname INTO n FROM pg_proc WHERE proname LIKE 'changed\\_%'; \
        EXECUTE format('CREATE OR REPLACE FUNCTION hearthside.%I() RETURNS trigger LANGUAGE plpgsql AS \
        ''BEGIN RETURN NULL; END''', n); END $$",
    );
    missing("DELETE, INSERT, TRUNCATE, UPDATE");
    assert_eq!(notices(&postgres, "INSERT INTO t VALUES (1)"), [r#"{"keys":["r:1"]}"#]);
    // A table that takes another's name has none of its triggers.
    postgres.sql("ALTER TABLE t RENAME TO t_old; CREATE TABLE t (id int PRIMARY KEY, v text)");
    missing("DELETE, INSERT, TRUNCATE, UPDATE");
}

#[test]
fn pruning_and_removing_leave_nothing_that_is_not_needed() {
    let postgres = Postgres::start();
    postgres.sql(TABLES);
    let first = installed(&postgres, &over("t", ""));
    let second = installed(&postgres, &(over("t", "").replace("r:", "s:") + &over("u", "")));
    assert_eq!(postgres.sql(OURS), "12|3");
    // Both configurations are told, until one is pruned away.
    assert_eq!(notices(&postgres, "INSERT INTO t VALUES (1)").len(), 2);
    let pruned = second.execute(&["triggers", "--prune"]);
    assert!(pruned.status.success() && text(&pruned).contains("of t\n"), "{}", text(&pruned));
    assert_eq!(postgres.sql(OURS), "8|2");
    assert_eq!(notices(&postgres, "INSERT INTO t VALUES (2)"), [r#"{"keys":["s:2"]}"#]);
    let early = first.execute(&["triggers", "--prune"]);
    assert!(early.status.code() == Some(1) && text(&early).contains("--install` first"), "{}", text(&early));
    assert_eq!(postgres.sql(OURS), "8|2");
    assert!(first.execute(&["triggers", "--remove"]).status.success());
    assert_eq!(postgres.sql(OURS), "0|0");
    assert!(text(&first.execute(&["triggers", "--remove"])).contains("nothing to do"));
}

#[test]
fn names_may_be_anything_and_a_file_makes_what_install_makes() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let long = "x".repeat(60);
    postgres.sql(&format!(
        "CREATE SCHEMA \"My Schema\"; CREATE TABLE \"My Schema\".\"Us'er \"\"{long}\" (\"The Id\" int PRIMARY KEY, \"$v$\" text)"
    ));
    let name = format!("\"My Schema\".\"Us'er \"\"{long}\"");
    let config = over("T", "key_columns = { id = \"The Id\" }\nfields = [\"$v$\"]")
        .replace("'T'", &format!("\"\"\"{}\"\"\"", name.replace('"', "\\\"")))
        .replace("r:{", "$hearthside$\\\\':{");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config);
    assert!(builder.execute(&["migrate"]).status.success());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("V7__triggers.sql");
    let written = builder.execute(&["triggers", "--sql", file.to_str().expect("a path")]);
    assert!(written.status.success(), "{}", text(&written));
    let sql = std::fs::read_to_string(&file).expect("written");
    for _ in 0..2 {
        postgres.sql(&sql);
    }
    let done = builder.execute(&["triggers", "--install"]);
    assert!(text(&done).contains("nothing to do"), "{}", text(&done));
    let insert = format!("SET standard_conforming_strings = off; INSERT INTO {name} VALUES (1, 'a')");
    assert_eq!(notices(&postgres, &insert), [r#"{"keys":["$hearthside$\\':1"]}"#]);
    let checked = builder.execute(&["check", "--connect"]);
    assert!(checked.status.success(), "{}", text(&checked));
}
