//! The path of an SQLite file: a mistyped one is an error that says the path and what to do, and makes nothing.

use std::fs;
use std::process::{Command, Output};

use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{sidecar::program, until};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const CONFIG: &str = "[[caches]]\nkey = \"t:{id:int}\"\ntype = \"hash\"\ntable = \"t\"\n";

fn over(redis: &Redis, url: String) -> Builder {
    Sidecar::builder().redis(redis).config(CONFIG).set("STORE__URL", url)
}

#[test]
fn a_path_that_leads_to_no_database_is_an_error_with_the_path_and_makes_nothing() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("text.db"), "no database, and longer than the header of one").expect("written");
    fs::write(at("short.db"), "no").expect("written");
    assert!(Command::new("mkfifo").arg(at("pipe.db")).status().expect("mkfifo").success());
    std::os::unix::fs::symlink(at("nowhere.db"), at("link.db")).expect("linked");
    let before = fs::read_dir(folder.path()).expect("a folder").count();
    for (name, expected) in [
        ("typo.db", "typo.db does not exist; correct the path, or make the file with `hearthside migrate`"),
        ("link.db", "link.db does not exist; correct the path"),
        ("no/folder/store.db", "no/folder: there is no such folder"),
        ("text.db/store.db", "text.db/store.db cannot be read: Not a directory"),
        ("", "is a folder; name a file in it"),
        ("text.db", "text.db is no SQLite database"),
        ("short.db", "short.db is no SQLite database"),
        ("pipe.db", "pipe.db is no file"),
    ] {
        let builder = over(&redis, format!("sqlite://{}", at(name)));
        for arguments in [&["check", "--connect"][..], &["run"]] {
            let output = builder.execute(arguments);
            let told = stderr(&output);
            assert!(output.status.code() == Some(2) && told.contains(expected), "{arguments:?} {name}: {told}");
            assert!(told.contains("HEARTHSIDE__STORE__URL: store.url: ") && told.contains(&at("")), "{told}");
        }
        assert!(builder.execute(&["check"]).status.success(), "a check asks nobody: {name}");
    }
    // A path that is relative is told from the root on.
    let told = stderr(&over(&redis, "sqlite://typo.db".into()).execute(&["check", "--connect"]));
    assert!(told.contains("store.url: /") && told.contains("/typo.db does not exist"), "{told}");
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), before);
}

#[test]
fn migrate_makes_a_file_and_so_does_a_url_that_says_so() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let at = |name: &str| folder.path().join(name).display().to_string();
    let sql = |name: &str, sql: &str| {
        let output = Command::new("sqlite3").args([&at(name), sql]).output().expect("sqlite3 is installed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    for (name, arguments, tables) in [("a.db", &["migrate"][..], "0"), ("b.db", &["migrate", "--demo"], "1")] {
        for _ in 0..2 {
            let output = over(&redis, format!("sqlite://{}", at(name))).execute(arguments);
            assert!(output.status.success(), "{}", stderr(&output));
        }
        assert_eq!(sql(name, "SELECT count(*) FROM sqlite_schema WHERE name = 'locations'"), tables);
    }
    let refused = over(&redis, format!("sqlite://{}", at("none/c.db"))).execute(&["migrate"]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("there is no such folder"));
    // An empty file is a database without tables, and so is one that is made because the URL says so.
    fs::write(at("empty.db"), "").expect("written");
    for url in [format!("sqlite://{}", at("empty.db")), format!("sqlite://{}?mode=rwc", at("made.db"))] {
        let told = stderr(&over(&redis, url).execute(&["check", "--connect"]));
        assert!(told.contains("caches[0].table: there is no table 't'"), "{told}");
    }
    assert!(!folder.path().join("made.db").exists(), "a check makes nothing");
    let sidecar = over(&redis, format!("sqlite://{}?mode=rwc", at("made.db")));
    let sidecar = sidecar.expect(&[crate::support::warnings::UNFIT]).start();
    sql("made.db", "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'x')");
    until("its table is seen", || sidecar.wire().ask("HGET t:1 v") == "$1\r\nx\r\n");
}

#[test]
fn a_file_that_may_not_be_read_or_changed_is_named() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("store.db");
    let made = Command::new("sqlite3").arg(&file).arg("CREATE TABLE t (id INTEGER PRIMARY KEY)").status();
    assert!(made.expect("sqlite3 is installed").success());
    let as_somebody = |mode: &str| {
        for (mode, path) in [("755", folder.path()), (mode, &*file)] {
            assert!(Command::new("chmod").arg(mode).arg(path).status().expect("chmod").success());
        }
        let mut command = crate::support::postgres::as_postgres(program().get_program());
        command.args(["check", "--connect"]).current_dir("/").env("HEARTHSIDE__UPSTREAM__URL", redis.url());
        command.env("HEARTHSIDE__STORE__URL", format!("sqlite://{}", file.display()));
        stderr(&command.output().expect("runs"))
    };
    let told = as_somebody("000");
    assert!(told.contains(&format!("{} cannot be read: Permission denied", file.display())), "{told}");
    let told = as_somebody("444");
    assert!(told.contains(&format!("{}: attempt to write a readonly database", file.display())), "{told}");
}
