//! The command line: exit codes, faults all at once, migrations, triggers.

use std::fs;
use std::process::Output;

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, program};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const FAULTY: &str = r#"
[server]
listne = ["127.0.0.1:1"]

[cache]
negative_ttl = "soon"

[[definitions]]
key = "location:{location_id}:cache"
type = "hash"
table = "locations"
fields = ["name", "colour"]

[[definitions]]
key = "skill:{id}"
type = "hash"
file = "no/such/file.json"

[[caches]]
key = "location:{x}:{y}"
type = "hash"
table = "no_such_table"

[[caches]]
key = "q:{id:int}"
type = "list"
query = "SELECT nonsense FROM sessions WHERE character_id = $1"
ttl = "1m"
"#;

#[test]
fn every_fault_is_told_at_once_with_its_place_and_no_port_is_bound() {
    let builder = || Sidecar::builder().config(FAULTY).set("UPSTREAM__URL", "http://x").set("SERVER__WORKERS", "many");
    for arguments in [&["check"][..], &["run"], &[]] {
        let output = builder().execute(arguments);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        for expected in [
            "config.toml:3: server.listne: unknown key",
            "config.toml:6: cache.negative_ttl: ",
            "config.toml:12: definitions[0].fields: table 'locations' has no column 'colour'",
            "config.toml:17: definitions[1].file: ",
            "config.toml:20: caches[0].key: 'location:{x}:{y}' can match the same key as 'location:{location_id}:cache'",
            "config.toml:22: caches[0].table: there is no table 'no_such_table'",
            "config.toml:27: caches[1].query: ",
            "HEARTHSIDE__UPSTREAM__URL: upstream.url: ",
            "HEARTHSIDE__SERVER__WORKERS: server.workers: ",
        ] {
            assert!(told.contains(expected), "missing {expected:?} in\n{told}");
        }
        assert!(!told.contains("listen="), "nothing listened:\n{told}");
    }
}

#[test]
fn a_fault_that_only_the_store_knows_stops_run_before_any_port() {
    let config =
        "[[caches]]\nkey = \"a:{id:int}\"\ntype = \"hash\"\ntable = \"sessions\"\nkey_columns = { id = \"nope\" }\n";
    let output = Sidecar::builder().config(config).execute(&[]);
    let told = stderr(&output);
    assert!(
        output.status.code() == Some(2) && told.contains("caches[0].key: table 'sessions' has no column 'nope'"),
        "{told}"
    );
    assert!(!told.contains("ready for clients"), "{told}");
}

#[test]
fn by_faulty_settings_nobody_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    for url in ["postgres://127.0.0.1:1/none", "sqlite://nowhere.db"] {
        for arguments in [&["check"][..], &["check", "--connect"], &["run"]] {
            let mut command = program();
            command.args(arguments).current_dir(folder.path()).env("HEARTHSIDE__STORE__URL", url);
            let output = command.env("HEARTHSIDE__STORE__MAX_CONNECTIONS", "0").output().expect("runs");
            let told = stderr(&output);
            assert!(
                output.status.code() == Some(2) && told.contains("store.max_connections: must be at least 1"),
                "{told}"
            );
            assert!(!told.contains("panicked"), "{told}");
        }
    }
}

#[test]
fn check_accepts_what_is_sound_and_touches_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = program().arg("check").current_dir(folder.path()).output().expect("runs");
    assert!(output.status.success() && stdout(&output) == "ok: 4 mappings\n", "{}", stderr(&output));
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    let output = program().args(["--config", "nowhere.toml"]).current_dir(folder.path()).output().expect("runs");
    assert!(output.status.code() == Some(2) && stderr(&output).contains("nowhere.toml"), "{}", stderr(&output));
}

#[test]
fn check_connect_asks_upstream_store_and_triggers() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres);
    let told = stderr(&builder.execute(&["check", "--connect"]));
    assert!(told.contains("there is no table 'locations'") && told.contains("there is no table 'sessions'"), "{told}");
    assert!(builder.execute(&["migrate", "--demo"]).status.success());
    let output = builder.execute(&["check", "--connect"]);
    assert!(output.status.success(), "{}", stderr(&output));
    postgres.sql("DROP TRIGGER IF EXISTS nosuch ON sessions");
    postgres.sql("ALTER TABLE inventory_items DISABLE TRIGGER USER");
    let told = stderr(&builder.execute(&["check", "--connect"]));
    assert!(told.matches("change trigger missing on inventory_items").count() == 4, "{told}");
    redis.kill();
    postgres.stop();
    let told = stderr(&builder.execute(&["check", "--connect"]));
    assert!(
        told.contains("upstream.url: redis://127.0.0.1") && told.contains("store.url: the store does not answer"),
        "{told}"
    );
}

#[test]
fn migrations_and_triggers_may_be_run_again() {
    let postgres = Postgres::start();
    let builder = Sidecar::builder().postgres(&postgres);
    for _ in 0..2 {
        for arguments in [&["migrate"][..], &["migrate", "--demo"], &["triggers", "--install"]] {
            let output = builder.execute(arguments);
            assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        }
    }
    assert_eq!(postgres.sql("SELECT count(*) FROM characters"), "100");
    assert_eq!(postgres.sql("SELECT count(*) FROM locations"), "16");
    let printed = stdout(&builder.execute(&["triggers"]));
    let shipped = include_str!("../../migrations/postgres/demo/9002_demo_triggers.sql");
    let body = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(body(&printed), body(shipped), "the demo's migration is what the program prints");
}

#[test]
fn a_port_that_is_taken_is_exit_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("bound").to_string();
    let output = Sidecar::builder().set("SERVER__LISTEN", &address).set("ADMIN__LISTEN", "").execute(&[]);
    assert_eq!(output.status.code(), Some(1));
    // The private redis-server would keep standard error open if it were left behind.
    assert!(stderr(&output).contains(&format!("cannot listen on {address}")), "{}", stderr(&output));
    assert!(stderr(&output).contains("started a private upstream"), "{}", stderr(&output));
}
