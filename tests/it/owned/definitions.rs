//! Definitions: from a table, a query or a file; swapped whole; a bad reload keeps the last good ones.

use std::fs;

use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, demo};
use crate::support::until;
use crate::support::warnings;

#[test]
fn reload_by_signal_by_admin_and_by_command_and_a_bad_file_changes_nothing() {
    let redis = Redis::start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().display().to_string();
    fs::write(
        &path,
        r#"{"sword": {"name": "Sword", "tier": 2, "stats": { "strength" : 1.50 }, "none": null, "sharp": true}}"#,
    )
    .expect("written");
    let config = format!("[[definitions]]\nkey = \"def:{{id}}\"\ntype = \"hash\"\nfile = \"{path}\"\n");
    let sidecar = Sidecar::builder().redis(&redis).config(&config).expect(&[warnings::DEFINITIONS_NOT_LOADED]).start();
    let mut wire = sidecar.wire();
    let whole = "*8\r\n$4\r\nname\r\n$5\r\nSword\r\n$4\r\ntier\r\n$1\r\n2\r\n$5\r\nstats\r\n$17\r\n\
        {\"strength\":1.50}\r\n$5\r\nsharp\r\n$4\r\ntrue\r\n";
    assert_eq!(wire.ask("HGETALL def:sword"), whole);
    assert_eq!(wire.ask("HGETALL def:axe"), "*0\r\n");

    fs::write(&path, r#"{"axe": {"name": "Axe"}}"#).expect("written");
    sidecar.signal("HUP");
    until("SIGHUP loads it", || wire.ask("HGET def:axe name") == "$3\r\nAxe\r\n");
    assert_eq!(wire.ask("EXISTS def:sword"), ":0\r\n", "swapped whole");

    fs::write(&path, "{\"axe\": {\"name\": \"Axe\"},\n \"bow\": oops}").expect("written");
    let (status, body) = request(&sidecar, "POST", "/reload");
    assert!(status == 500 && body.contains("line 2"), "{body}");
    assert_eq!(wire.ask("HGET def:axe name"), "$3\r\nAxe\r\n", "the last good version stays");

    fs::write(&path, r#"[{"id": "bow", "name": "Bow"}]"#).expect("written");
    assert_eq!(request(&sidecar, "POST", "/reload"), (200, "reloaded\n".into()));
    assert_eq!(wire.ask("HGET def:bow name"), "$3\r\nBow\r\n");

    fs::write(&path, r#"{"bow": {"name": "Longbow"}}"#).expect("written");
    assert_eq!(wire.ask("HEARTHSIDE RELOAD"), "+OK\r\n");
    until("the command loads it", || wire.ask("HGET def:bow name") == "$7\r\nLongbow\r\n");
}

#[test]
fn a_definition_that_does_not_exist_is_answered_without_the_store() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = demo(&redis, &postgres)
        .expect(&[warnings::STORE_HEALTH, warnings::FEED_LOST, warnings::FEED_CLOSED, warnings::DEFINITIONS_NOT_LOADED])
        .start();
    postgres.stop();
    let mut wire = sidecar.wire();
    for i in 0..1000 {
        assert_eq!(wire.ask(&format!("HGETALL location:nowhere{i}:cache")), "*0\r\n");
    }
    assert_eq!(wire.ask("HGET item:iron_sword:def name"), "$10\r\nIron Sword\r\n");
}

#[test]
fn lists_sets_and_strings_from_files_and_queries() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres);
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name).display().to_string();
        fs::write(&path, text).expect("written");
        path
    };
    let (list, set, string) = (
        write("l.json", r#"{"a": ["x", 2, {"k": [1, 2]}], "b": []}"#),
        write("t.json", r#"{"a": ["x", "y", "x"]}"#),
        write("s.json", r#"{"a": "text", "n": 5}"#),
    );
    let config = format!(
        "[[definitions]]\nkey = \"l:{{id}}\"\ntype = \"list\"\nfile = \"{list}\"\n\
         [[definitions]]\nkey = \"t:{{id}}\"\ntype = \"set\"\nfile = \"{set}\"\n\
         [[definitions]]\nkey = \"s:{{id}}\"\ntype = \"string\"\nfile = \"{string}\"\n\
         [[definitions]]\nkey = \"tier:{{tier:int}}:items\"\ntype = \"set\"\nvalue = \"item_id\"\nquery = \"SELECT \
         tier, item_id FROM items ORDER BY item_id\"\n"
    );
    let sidecar = builder.config(&config).expect(&[warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("LRANGE l:b 0 -1"), "*0\r\n");
    assert_eq!(wire.ask("SMEMBERS t:a"), "*2\r\n$1\r\nx\r\n$1\r\ny\r\n");
    assert_eq!(wire.ask("MGET s:a s:n s:x"), "*3\r\n$4\r\ntext\r\n$1\r\n5\r\n$-1\r\n");
    assert_eq!(wire.ask("SISMEMBER tier:2:items iron_sword"), ":1\r\n");
    assert_eq!(wire.ask("SMEMBERS tier:5:items"), "*1\r\n$13\r\nplasma_cutter\r\n");
    assert_eq!(wire.ask("LRANGE l:a 0 -1"), "*3\r\n$1\r\nx\r\n$1\r\n2\r\n$11\r\n{\"k\":[1,2]}\r\n");
}

#[test]
fn a_row_without_a_usable_key_fails_the_load_of_its_mapping_alone_and_is_named() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE places (id text PRIMARY KEY, name text); INSERT INTO places VALUES ('ok', 'a'), ('not:ok', 'b')",
    );
    let config = "[[definitions]]\nkey = \"p:{id}\"\ntype = \"hash\"\ntable = \"places\"\n";
    let mut sidecar = Sidecar::builder()
        .redis(&redis)
        .postgres(&postgres)
        .config(config)
        .expect(&[warnings::NO_TRIGGERS, warnings::DEFINITIONS_NOT_LOADED])
        .spawn();
    until("it says which mapping", || sidecar.log().contains("has no usable key for 'p:{id}'"));
    sidecar.wait_ready();
    let mut wire = sidecar.wire();
    let told = wire.ask("HGET p:ok name");
    let never = "-ERR hearthside: the definitions of 'p:{id}' have not been loaded yet: ";
    assert!(told.starts_with(never) && told.contains("has no usable key for 'p:{id}'"), "{told}");
    assert_eq!(wire.ask("SET other 1"), "+OK\r\n", "pass-through needs no definitions");
    let (status, body) = request(&sidecar, "GET", "/readyz");
    let never = "the definitions of 'p:{id}' have not been loaded yet";
    assert!(status == 200 && body.contains(never), "{body}");
    postgres.sql("DELETE FROM places WHERE id = 'not:ok'");
    until("they are loaded", || wire.ask("HGET p:ok name") == "$1\r\na\r\n");
    until("ready", || request(&sidecar, "GET", "/readyz") == (200, "ready\n".into()));
}

#[test]
fn a_file_with_two_entries_of_one_key_or_an_entry_that_is_no_object_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("defs.json");
    let config = format!("[[definitions]]\nkey = \"def:{{id}}\"\ntype = \"hash\"\nfile = \"{}\"\n", path.display());
    for (text, fault) in [
        (r#"[{"id": "a", "n": 1}, {"id": "b", "n": 1}, {"id": "a", "n": 2}]"#, "two rows have the key 'def:a'"),
        (r#"{"a": {"n": null}, "a": {"n": 2}}"#, "two rows have the key 'def:a'"),
        (r#"[{"id": "a", "n": 1}, 7]"#, "expected a JSON object"),
    ] {
        fs::write(&path, text).expect("written");
        let done = Sidecar::builder().config(&config).execute(&["run"]);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && told.contains(fault), "{text}: {told}");
    }
}

const DEFINED: &str =
    "\n[[definitions]]\nkey = \"tool:{id}\"\ntype = \"string\"\ntable = \"tools\"\nvalue = \"name\"\n";
/// What is loaded only when nothing stands in the gate.
const GATED: &str = "\n[[definitions]]\nkey = \"slow:{id}\"\ntype = \"string\"\nvalue = \"name\"\n\
    query = \"SELECT 'a' AS id, 'b' AS name WHERE is_open()\"\n";
const GATE: &str = "CREATE TABLE gate (closed bool); CREATE TABLE tools (id text PRIMARY KEY, name text);
    INSERT INTO tools VALUES ('axe', 'old');
    CREATE FUNCTION is_open() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
        WHILE EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN true; END $$";

#[test]
fn definitions_do_not_go_back_at_a_reload() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(GATE);
    let file = tempfile::NamedTempFile::new().expect("a file");
    let tiers = |text: &str| fs::write(file.path(), text).expect("written");
    tiers(r#"{"1": "old"}"#);
    let config = format!(
        "[[definitions]]\nkey = \"tier:{{id}}\"\ntype = \"string\"\nfile = \"{}\"\n{DEFINED}",
        file.path().display()
    );
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config);
    let sidecar = builder
        .set("STORE__QUERY_TIMEOUT", "30s")
        .expect(&[warnings::NO_TRIGGERS, warnings::DEFINITIONS_NOT_LOADED])
        .start();
    let loaded = || metric(&sidecar, "hearthside_reloads_total{outcome=\"ok\"}");
    let (mut wire, before) = (sidecar.wire(), loaded());
    let mut both = || [wire.ask("GET tier:1"), wire.ask("GET tool:axe")];
    assert_eq!(both(), ["$3\r\nold\r\n"; 2]);

    // What comes has read both, and waits for something else.
    postgres.sql("INSERT INTO gate VALUES (true)");
    sidecar.configure(&format!("{config}{GATED}"));
    sidecar.signal("HUP");
    until("both are read", || loaded() == before + 2.0);
    tiers(r#"{"1": "new"}"#);
    postgres.sql("UPDATE tools SET name = 'new'");
    assert_eq!(sidecar.wire().ask("HEARTHSIDE RELOAD"), "+OK\r\n");
    until("what is served reads them once more", || both() == ["$3\r\nnew\r\n"; 2]);

    // From now on neither can be read.
    tiers("{");
    let mut lock = postgres.session();
    lock.run("BEGIN; LOCK TABLE tools IN ACCESS EXCLUSIVE MODE;");
    postgres.sql("DELETE FROM gate");
    until("the configuration is in force", || {
        assert_eq!(both(), ["$3\r\nnew\r\n"; 2], "what was shown has gone back");
        metric(&sidecar, "hearthside_config_reloads_total{outcome=\"ok\"}") == 1.0
    });
    assert_eq!(both(), ["$3\r\nnew\r\n"; 2], "what was shown has gone back");
    tiers(r#"{"1": "newest"}"#);
    lock.run("UPDATE tools SET name = 'newest'; COMMIT;");
    until("they are tried again", || both() == ["$6\r\nnewest\r\n"; 2]);
}
