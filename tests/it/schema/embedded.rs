//! The same of the embedded SQLite: its schema changes, and its file is replaced by another one.

use std::path::Path;
use std::process::Command;

use super::soon;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::warnings;

const A: &str = "[[caches]]\nkey = \"a:{id:int}\"\ntype = \"hash\"\ntable = \"a\"\nwrite = \"through\"\n\
    [[caches]]\nkey = \"b:{id:int}\"\ntype = \"hash\"\ntable = \"b\"\nwrite = \"through\"\noverflow = \"more\"\n";

pub(super) const ROWS: &str =
    "CREATE TABLE a (id INTEGER PRIMARY KEY, hp INT, note TEXT); INSERT INTO a VALUES (1, 5, 'n');
    CREATE TABLE b (id INTEGER PRIMARY KEY, more TEXT DEFAULT '{}'); INSERT INTO b VALUES (1, '{\"x\": \"1\"}');";

pub(super) fn sql(file: &Path, sql: &str) -> String {
    let told = Command::new("sqlite3").args(["-cmd", ".timeout 5000"]).arg(file).arg(sql).output();
    let told = told.expect("sqlite3 is installed");
    assert!(told.status.success(), "{sql}: {}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8_lossy(&told.stdout).trim().to_owned()
}

pub(super) fn over(redis: &Redis, file: &Path) -> Builder {
    sql(file, ROWS);
    over_tables(redis, file)
}

/// The same over a file that has the tables.
pub(super) fn over_tables(redis: &Redis, file: &Path) -> Builder {
    Sidecar::builder().redis(redis).config(A).set("STORE__URL", format!("sqlite://{}", file.display()))
}

#[test]
fn columns_of_sqlite_come_and_go() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("store.db");
    let sidecar = over(&redis, &file).expect(&[warnings::UNFIT]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 note"), "$1\r\nn\r\n");
    sql(&file, "ALTER TABLE a DROP COLUMN note; ALTER TABLE a ADD COLUMN mp INT DEFAULT 4");
    soon("the column of now is shown", || {
        wire.ask("HGETALL a:1") == "*4\r\n$2\r\nhp\r\n$1\r\n5\r\n$2\r\nmp\r\n$1\r\n4\r\n"
    });
    assert_eq!(wire.ask("HSET a:2 mp 7"), ":1\r\n");
    sql(&file, "ALTER TABLE b ADD COLUMN x INT");
    soon("a name that became a column is one", || wire.ask("HGET b:1 x") == "$-1\r\n");
    assert_eq!(wire.ask("HSET b:1 x 5"), ":1\r\n");
    assert_eq!(wire.ask("HGET b:1 x"), "$1\r\n5\r\n");
    assert!(wire.ask("HSET b:1 id 5").contains("a column that is not written through this mapping"));
    sql(&file, "ALTER TABLE a RENAME TO elsewhere");
    soon("the mapping says what is wrong", || wire.ask("HGET a:1 hp").contains("there is no table 'a'"));
    assert_eq!(wire.ask("HGET b:1 x"), "$1\r\n5\r\n", "and fails alone");
    sql(&file, "ALTER TABLE elsewhere RENAME TO a");
    soon("it is served again", || wire.ask("HGET a:1 hp") == "$1\r\n5\r\n");
}

#[test]
fn another_file_that_takes_the_name_is_opened() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let (file, other) = (folder.path().join("store.db"), folder.path().join("other.db"));
    let sidecar = over(&redis, &file).expect(&[warnings::FILE_REPLACED, warnings::LOG_REMOVED]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 hp"), "$1\r\n5\r\n");
    sql(&other, ROWS);
    sql(&other, "UPDATE a SET hp = 50; ALTER TABLE a ADD COLUMN mp INT DEFAULT 4");
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("store.db{ending}")));
    }
    std::fs::rename(&other, &file).expect("renamed");
    assert_eq!(wire.ask("HSET a:2 hp 6"), ":1\r\n", "a write goes to the file of now at once");
    soon("the rows of the other file are read", || wire.ask("HGET a:1 hp") == "$2\r\n50\r\n");
    soon("and its schema is seen", || wire.ask("HGET a:1 mp") == "$1\r\n4\r\n");
    assert_eq!(sql(&file, "SELECT hp FROM a WHERE id = 2"), "6");
}
