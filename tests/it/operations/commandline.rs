//! The command line: exit codes, faults all at once, migrations, triggers.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, program};
use crate::support::warnings;

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
            "config.toml:3: server.listne: unknown key; did you mean 'listen'?",
            "config.toml:6: cache.negative_ttl: ",
            "config.toml:17: definitions[1].file: no/such/file.json: No such file",
            "config.toml:20: caches[0].key: 'location:{x}:{y}' can match the same key as \
             'location:{location_id}:cache'",
            "HEARTHSIDE__UPSTREAM__URL: upstream.url: must begin with redis://, rediss://",
            "HEARTHSIDE__SERVER__WORKERS: server.workers: is text; write a whole number, 0 or more",
        ] {
            assert!(told.contains(expected), "missing {expected:?} in\n{told}");
        }
        for of_store in [
            "config.toml:12: definitions[0].fields: table 'locations' has no column 'colour'",
            "config.toml:22: caches[0].table: there is no table 'no_such_table'",
            "config.toml:27: caches[1].query: no such column",
        ] {
            assert_eq!(told.contains(of_store), arguments != ["check"], "a check asks nobody: {of_store:?} in\n{told}");
        }
        assert!(!told.contains("listen="), "nothing listened:\n{told}");
    }
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
fn a_variable_that_is_no_text_is_a_fault_if_it_is_ours_and_else_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let with = |name: &[u8], value: &[u8]| {
        let (name, value) = (OsStr::from_bytes(name), OsStr::from_bytes(value));
        program().arg("check").current_dir(folder.path()).env(name, value).output().expect("runs")
    };
    for (name, value) in [(&b"FOO"[..], &b"a\xff"[..]), (b"FO\xff", b"a"), (b"HEARTHSIDE_PORT", b"\xff")] {
        let output = with(name, value);
        assert!(output.status.success() && stdout(&output) == "ok: 4 mappings\n", "{}", stderr(&output));
    }
    for (name, value, expected) in [
        (&b"HEARTHSIDE__STORE__URL"[..], &b"\xff"[..], "HEARTHSIDE__STORE__URL: its value is no UTF-8 text"),
        (b"HEARTHSIDE__STORE__URL_FILE", b"/a\xff", "HEARTHSIDE__STORE__URL_FILE: its value is no UTF-8 text"),
        (b"HEARTHSIDE__STORE__UR\xff", b"x", "HEARTHSIDE__STORE__UR\u{fffd}: its name is no UTF-8 text"),
    ] {
        let output = with(name, value);
        let told = stderr(&output);
        assert!(output.status.code() == Some(2) && told.contains(&format!("environment: {expected}")), "{told}");
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
    assert!(!told.contains("change trigger missing"), "of a table that is not there the first cause is told: {told}");
    assert!(builder.execute(&["migrate", "--demo"]).status.success());
    let output = builder.execute(&["check", "--connect"]);
    assert!(output.status.success(), "{}", stderr(&output));
    postgres.sql("DROP TRIGGER IF EXISTS nosuch ON sessions");
    postgres.sql("ALTER TABLE inventory_items DISABLE TRIGGER USER");
    let told = stderr(&builder.execute(&["check", "--connect"]));
    let missing = "change trigger missing on inventory_items (DELETE, INSERT, TRUNCATE, UPDATE)";
    assert_eq!(told.matches(missing).count(), 1, "{told}");
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
    let triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgfoid <> 'hearthside.changed'::regproc";
    assert_eq!(postgres.sql(triggers), "16", "one set for each of the demo's tables");
    postgres.sql(&stdout(&builder.execute(&["triggers"])));
    assert_eq!(postgres.sql(triggers), "16", "what is printed makes what is there");
}

#[test]
fn a_port_that_is_taken_is_exit_code_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("bound").to_string();
    let output = Sidecar::builder().set("SERVER__LISTEN", &address).set("ADMIN__LISTEN", "").execute(&[]);
    assert_eq!(output.status.code(), Some(1));
    // The private redis-server would keep standard error open if it were left behind.
    assert!(stderr(&output).contains(&format!("server.listen: cannot listen on {address}")), "{}", stderr(&output));
    assert!(stderr(&output).contains("started a private upstream"), "{}", stderr(&output));
}

#[test]
fn a_check_that_is_to_ask_nobody_asks_nobody() {
    let postgres = crate::support::proxy::Proxy::to(1);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = silent.local_addr().expect("bound").port();
    silent.set_nonblocking(true).expect("a socket");
    let builder = Sidecar::builder().set("STORE__URL", format!("postgres://x@127.0.0.1:{port}/x"));
    let output = builder.set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", postgres.port)).execute(&["check"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(silent.accept().is_err(), "nobody has come to the store");
    assert_eq!(postgres.accepted(), 0, "nor to the upstream");
    for (url, like) in
        [("postgres://a:b:c/", "postgres://user"), ("sqlite://a?mode=nonsense", "sqlite://folder/file.db")]
    {
        let output = Sidecar::builder().set("STORE__URL", url).execute(&["check"]);
        let told = stderr(&output);
        assert!(output.status.code() == Some(2) && told.contains(like), "{told}");
        assert!(told.contains("HEARTHSIDE__STORE__URL: store.url: cannot be read"), "{told}");
        assert!(!told.contains("error with configuration"), "{told}");
    }
}

#[test]
fn what_works_and_is_perhaps_not_meant_is_a_warning_at_check_start_and_reload() {
    let redis = Redis::start();
    let blind = "[[caches]]\nkey = \"q:{id:int}\"\ntype = \"string\"\nvalue = \"v\"\nquery = \"SELECT 'x' AS v WHERE \
        $1 > 0\"\n";
    let config = format!("[security]\ndeny = [\"FLUSHAL\", \"CONFIG SETT\", \"FT.SEARCH\"]\n\n{blind}ttl = \"1h\"\n");
    let warned = [
        "config.toml:2: security.deny[0]: 'FLUSHAL' is no command that is known",
        "did you mean FLUSHALL?",
        "did you mean CONFIG SET?",
        "config.toml:8: caches[0].query: has a ttl and no watch: what changes in the store is seen only after its ttl",
    ];
    let builder = || Sidecar::builder().redis(&redis).config(&config).expect(&[warnings::NO_SUCH_COMMAND]);
    let output = builder().execute(&["check"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let sidecar = builder().start();
    for told in [stderr(&output), sidecar.log()] {
        for expected in warned {
            assert!(told.contains(expected), "missing {expected:?} in\n{told}");
        }
        assert!(!told.contains("FT.SEARCH"), "{told}");
    }
    sidecar.signal("HUP");
    crate::support::until("it is said again", || sidecar.log().matches("did you mean FLUSHALL?").count() == 2);
    let output = Sidecar::builder().config(blind).execute(&["check"]);
    assert!(stderr(&output).contains("would never change in memory"), "{}", stderr(&output));
}

#[test]
fn settings_of_replicas_that_have_no_effect_are_warned_about() {
    let told =
        |settings: &str| stderr(&Sidecar::builder().config(&format!("[upstream]\n{settings}\n")).execute(&["check"]));
    for (settings, warning) in [
        ("read_from = \"replica\"", "upstream.read_from: has no effect, because upstream.read_keys names no keys"),
        ("read_keys = [\"*\"]", "upstream.read_keys: has no effect, because upstream.read_from is \"primary\""),
        ("zone = \"a\"", "upstream.zone: has no effect, because upstream.read_from is \"primary\""),
    ] {
        assert!(told(settings).contains(warning), "{settings}: {}", told(settings));
    }
    let told = told("read_from = \"replica\"\nread_keys = [\"*\"]\nzone = \"a\"");
    assert!(!told.contains("no effect"), "{told}");
}

#[test]
fn what_writes_do_otherwise_than_in_redis_is_a_warning_of_check_alone() {
    let redis = Redis::start();
    let config = "[[caches]]\nkey = \"s:{id}\"\ntype = \"string\"\ntable = \"t\"\nvalue = \"v\"\n";
    let told = |more: &str| stderr(&Sidecar::builder().config(&format!("{config}{more}\n")).execute(&["check"]));
    let [deletes, ends] =
        ["caches[0].delete: commands write the rows", "caches[0].expires_column: commands write the rows"];
    let both = told("write = \"through\"");
    assert!(both.contains(deletes) && both.contains(ends), "{both}");
    let meant = told("write = \"deferred\"\ndelete = \"invalidate\"");
    assert!(!meant.contains(deletes) && meant.contains(ends), "{meant}");
    for ends in ["ends", ""] {
        assert_eq!(told(&format!("write = \"through\"\ndelete = \"row\"\nexpires_column = \"{ends}\"")), "");
    }
    let heartbeat = "is shorter than store.heartbeat_interval";
    assert!(!told("max_staleness = \"1s\"").contains(heartbeat), "SQLite has none");
    let postgres = Sidecar::builder().config(&format!("{config}max_staleness = \"1s\"\n"));
    let told_of_feed = stderr(&postgres.set("STORE__URL", "postgres://nowhere/db").execute(&["check"]));
    assert!(told_of_feed.contains(&format!("caches[0].max_staleness: {heartbeat}")), "{told_of_feed}");
    assert_eq!(told(""), "", "nothing is written");
    let sidecar = Sidecar::builder().redis(&redis).start();
    assert!(!sidecar.log().contains("write the rows"));
}

#[test]
fn a_mistyped_type_is_one_fault() {
    let config = "[[definitions]]\nkey = \"a:{id}\"\ntype = \"hsah\"\ntable = \"items\"\n";
    let told = stderr(&Sidecar::builder().config(config).execute(&["check"]));
    assert!(
        told.contains("config.toml:3: definitions[0].type: 'hsah' is none of its values; write one of \"hash\""),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    let told = stderr(
        &Sidecar::builder().config("[[definitions]]\nkey = \"a:{id}\"\ntable = \"items\"\n").execute(&["check"]),
    );
    assert!(told.contains("definitions[0]: the key 'type' is missing"), "{told}");
}

#[test]
fn a_watch_that_cannot_be_read_is_one_fault() {
    let config = "[[caches]]\nkey = \"a:{id:int}\"\ntype = \"hash\"\nquery = \"SELECT 1 AS v WHERE $1 > 0\"\n\
        watch = [\"orders\"]\n";
    for more in ["", "ttl = \"1m\"\n"] {
        let told = stderr(&Sidecar::builder().config(&format!("{config}{more}")).execute(&["check"]));
        assert!(told.contains("config.toml:5: caches[0].watch[0]: is text; write a section"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn what_the_store_says_of_a_mapping_is_told_by_check_with_its_place() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE inventory (character_id BIGINT, item_id BIGINT)");
    let list = "[[caches]]\nkey = \"l:{id:int}\"\ntype = \"list\"\nttl = \"1m\"\n\
        query = \"SELECT item_id FROM inventory WHERE character_id = $1\"\n";
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(list);
    let told = stderr(&builder.execute(&["check", "--connect"]));
    assert!(told.contains(&format!("config.toml:5: caches[0].query: {}", warnings::NO_ORDER)), "{told}");
    assert!(told.starts_with("hearthside: warning: "), "{told}");
}

#[test]
fn fields_and_columns_that_could_never_be_written_are_faults() {
    let redis = Redis::start();
    let postgres = Postgres::start();
    let block = "[[caches]]\nkey = \"player:{character_id:int}:session\"\ntype = \"hash\"\ntable = \"sessions\"\n\
        write = \"through\"\n";
    let told = |more: &str, on_postgres: bool, path: &str| {
        let builder = Sidecar::builder().redis(&redis).config(&format!("{block}{more}\n")).set("JOURNAL__PATH", path);
        let builder = if on_postgres { builder.postgres(&postgres) } else { builder };
        let told = stderr(&builder.execute(&["check", "--connect"]));
        // The demo's other triggers serve nobody here, and what is said of writes is meant.
        told.lines()
            .filter(|line| !line.contains("--prune") && !line.contains("write the rows"))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let demo = Sidecar::builder().redis(&redis).postgres(&postgres).execute(&["migrate", "--demo"]);
    assert!(demo.status.success(), "{}", stderr(&demo));
    postgres.sql("ALTER TABLE sessions ADD COLUMN more text DEFAULT '{}', ADD COLUMN plain text");
    for on_postgres in [true, false] {
        let wrong = told("deferred = [\"hp\", \"sen\"]", on_postgres, "j.db");
        assert!(wrong.contains("config.toml:6: caches[0].deferred: 'sen' is no column of"), "{wrong}");
        assert!(!wrong.contains("'hp'"), "{wrong}");
        let wrong = told("overflow = \"location_id\"", on_postgres, "j.db");
        assert!(wrong.contains("config.toml:6: caches[0].overflow: the column 'location_id'"), "{wrong}");
        assert!(wrong.contains("holds no JSON; name a json or jsonb column"), "{wrong}");
        for right in ["overflow = \"attributes\"\ndeferred = [\"sen\"]", "deferred = [\"hp\"]"] {
            assert_eq!(told(right, on_postgres, "j.db"), "", "{right}");
        }
    }
    assert_eq!(told("overflow = \"more\"", true, "j.db"), "", "text that begins as JSON");
    assert!(told("overflow = \"plain\"", true, "j.db").contains("'plain' (text) holds no JSON"));
    let deferred = "deferred = [\"hp\"]";
    assert!(told(deferred, false, "config.toml/journal.db").contains("journal.path: config.toml is no folder"));
    assert!(told(deferred, false, "/").contains("journal.path: / is a folder; name a file"));
    assert_eq!(told(deferred, false, "new/folders/journal.db"), "", "folders are made at start");
}

#[test]
fn a_time_that_postgres_cannot_wait_is_refused() {
    for (time, expected) in
        [("999999h", "must be between 1ms and 24h"), ("0s", "must be between 1ms and 24h"), ("x", "")]
    {
        let output = program().args(["triggers", "--install", "--lock-timeout", time]).output().expect("runs");
        assert!(output.status.code() == Some(2) && stderr(&output).contains(expected), "{time}: {}", stderr(&output));
    }
}
