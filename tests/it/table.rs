//! The command table is what servers say of themselves, and docs/COMPATIBILITY.md is what the table says.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::redis::Redis;

fn script() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/commands"))
}

#[test]
fn the_table_knows_what_the_installed_server_says() {
    let redis = Redis::start();
    let output = script().arg(format!("127.0.0.1:{}", redis.port)).output().expect("python3 runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    for line in told.lines() {
        // The table has the widest arity of all servers, and WAIT as the later ones see it.
        assert!(line.starts_with("arity ") || line.contains(" wait: "), "{line}");
    }
}

#[test]
fn the_documentation_has_every_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/COMPATIBILITY.md")).expect("reads");
    let table = hearthside::app::commands();
    assert!(document.ends_with(&table), "the end of docs/COMPATIBILITY.md must be what `hearthside commands` prints");
}

#[test]
fn a_difference_is_told_and_fails() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(folder.path().join("scripts")).expect("a folder");
    fs::create_dir_all(folder.path().join("src/command")).expect("a folder");
    fs::copy(root.join("scripts/commands"), folder.path().join("scripts/commands")).expect("copies");
    let table = fs::read_to_string(root.join("src/command/commands.tsv")).expect("reads");
    let older: Vec<_> = table.lines().filter(|line| !line.starts_with("getdel\t")).collect();
    let older = older.join("\n").replace("append\t3\tdenyoom,fast,write", "append\t3\tfast,readonly");
    fs::write(folder.path().join("src/command/commands.tsv"), older).expect("writes");
    let script = folder.path().join("scripts/commands");
    let output = Command::new(script).arg(format!("127.0.0.1:{}", redis.port)).output().expect("python3 runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert!(told.contains("new      getdel\t2\t") && told.contains("flags    append: "), "{told}");
}
