//! A reload of mappings while deferred writes cannot be saved keeps no key waiting, and loses none of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;
use crate::writes::embedded::sqlite;

pub(super) const OTHER: &str =
    "[[caches]]\nkey = \"b:{id:int}\"\ntype = \"hash\"\ntable = \"b\"\nwrite = \"through\"\n";
pub(super) const THIRD: &str = "[[caches]]\nkey = \"c:{id:int}\"\ntype = \"hash\"\ntable = \"b\"\n";

/// A mapping of this key pattern over this table that defers writes to this column.
pub(super) fn over(key: &str, table: &str, column: &str) -> String {
    format!(
        "[[caches]]\nkey = \"{key}\"\ntype = \"hash\"\ntable = \"{table}\"\nfields = [\"{column}\", \"w\"]\n\
         write = \"through\"\ndeferred = [\"{column}\"]\n"
    )
}

pub(super) fn block(column: &str) -> String {
    over("a:{id:int}", "a", column)
}

pub(super) fn shorter(block: &str) -> String {
    format!("{block}ttl = \"50s\"\n")
}

/// Parts that outlive a sidecar.
pub(super) struct Place {
    redis: Redis,
    pub(super) postgres: Postgres,
    folder: TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let postgres = Postgres::start();
        for (table, column) in [("a", "d"), ("a2", "d"), ("b", "v")] {
            postgres.sql(&format!(
                "CREATE TABLE {table} (id INT PRIMARY KEY, {column} TEXT, w TEXT); \
                 INSERT INTO {table} SELECT i, '{column}', 'w' FROM generate_series(1, 900) AS i"
            ));
        }
        // Every change of a column that is deferred.
        postgres.sql(
            "CREATE TABLE applied (v TEXT); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN INSERT INTO applied VALUES (NEW.d); RETURN NULL; END $$; \
             CREATE TRIGGER note AFTER UPDATE OF d ON a FOR EACH ROW EXECUTE FUNCTION note();",
        );
        Self { redis: Redis::start(), postgres, folder: tempfile::tempdir().expect("a folder") }
    }

    pub(super) fn builder(&self, config: &str) -> Builder {
        let expected = [
            warnings::DEFERRED_WAIT,
            warnings::DEFERRED_REFUSED,
            warnings::UNFIT,
            warnings::PUT_ASIDE,
            warnings::NO_MAPPING,
            warnings::LOAD_FAILED,
            warnings::NO_TRIGGERS,
            warnings::TRIGGER_FAILED,
        ];
        let journal = self.folder.path().join("journal.db");
        let builder = Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(config).migrated();
        let builder =
            builder.set("JOURNAL__FLUSH_INTERVAL", "200ms").set("JOURNAL__PATH", journal.display().to_string());
        builder.expect(&expected)
    }

    /// A sidecar over the tables `a` and `b`, which has a deferred write for `a:1` that cannot be saved because of
    /// `trouble`.
    fn troubled(&self, trouble: &str) -> (Sidecar, Wire) {
        let sidecar = self.builder(&(block("d") + OTHER)).start();
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nd\r\n");
        self.postgres.sql(trouble);
        assert_eq!(wire.ask("HSET a:1 d x"), ":0\r\n");
        until("it cannot be saved", || sidecar.log().contains(warnings::DEFERRED_WAIT));
        (sidecar, wire)
    }

    pub(super) fn d(&self, id: u32) -> String {
        self.postgres.sql(&format!("SELECT d FROM a WHERE id = {id}"))
    }

    pub(super) fn applied(&self) -> String {
        self.postgres.sql("SELECT string_agg(v, ' ') FROM applied")
    }

    pub(super) fn until_saved(&self, sidecar: &Sidecar) {
        until("nothing waits", || metric(sidecar, "hearthside_journal_bytes") == 0.0);
    }
}

/// Writes another configuration, and waits until it is in force. It is read again where the store was lost meanwhile.
pub(super) fn reload(sidecar: &Sidecar, text: &str) {
    let reloads = |outcome| metric(sidecar, &format!("hearthside_config_reloads_total{{outcome=\"{outcome}\"}}"));
    sidecar.configure(text);
    let before = reloads("ok");
    for _ in 0..9 {
        let failed = reloads("error");
        sidecar.signal("HUP");
        until("it is read", || reloads("ok") > before || reloads("error") > failed);
        if reloads("ok") > before {
            return;
        }
    }
    panic!("it is not taken:\n{}", sidecar.log());
}

/// Cold keys of another mapping are answered soon.
pub(super) fn others_are_served(wire: &mut Wire) {
    for id in 2..40 {
        let begun = Instant::now();
        assert_eq!(wire.ask(&format!("HGET b:{id} v")), "$1\r\nv\r\n");
        assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
    }
}

/// A trigger that refuses every change of a row with this error.
fn refusal(errcode: &str) -> String {
    format!(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'no' USING errcode = '{errcode}'; END $$; \
         CREATE TRIGGER f BEFORE UPDATE ON a FOR EACH ROW EXECUTE FUNCTION f()"
    )
}

/// The row is in conflict with others.
const CONFLICT: &str = "40001";

/// A right is missing.
const NO_RIGHT: &str = "42501";

#[test]
fn every_way_of_reloading_while_a_column_is_renamed_serves_others_and_saves_when_it_is_named_back() {
    let place = Place::new();
    let (sidecar, mut wire) = place.troubled("ALTER TABLE a RENAME d TO e");
    assert_eq!(wire.ask("HEARTHSIDE RELOAD"), "+OK\r\n");
    others_are_served(&mut wire);
    let (status, told) = request(&sidecar, "POST", "/reload");
    assert!(status == 500 && told.contains("has no column 'd'"), "{status}: {told}");
    others_are_served(&mut wire);
    reload(&sidecar, &(block("d") + &shorter(OTHER) + THIRD));
    others_are_served(&mut wire);
    assert_eq!(wire.ask("HGET c:1 v"), "$1\r\nv\r\n");
    place.postgres.sql("ALTER TABLE a RENAME e TO d");
    until("it is saved", || place.d(1) == "x");
    until("it is served", || wire.ask("HGET a:1 d") == "$1\r\nx\r\n");
    place.until_saved(&sidecar);
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
}

#[test]
fn a_block_that_follows_a_renamed_column_is_served_and_what_no_column_takes_is_put_aside() {
    let place = Place::new();
    let (sidecar, mut wire) = place.troubled("ALTER TABLE a RENAME d TO e");
    reload(&sidecar, &(block("e") + OTHER));
    others_are_served(&mut wire);
    until("what no column takes is put aside", || metric(&sidecar, "hearthside_put_aside_total") == 1.0);
    until("the new name is served", || wire.ask("HGET a:1 e") == "$1\r\nd\r\n");
    place.postgres.sql("DROP TRIGGER note ON a");
    assert_eq!(wire.ask("HSET a:1 e y"), ":0\r\n");
    until("it is saved", || place.postgres.sql("SELECT e FROM a WHERE id = 1") == "y");
}

#[test]
fn hundreds_of_keys_whose_rows_are_in_conflict_wait_over_two_reloads_that_change_their_mapping() {
    let place = Place::new();
    let (sidecar, mut wire) = place.troubled(&refusal(CONFLICT));
    for id in 2..600 {
        assert_eq!(wire.ask(&format!("HSET a:{id} d x{id}")), ":0\r\n");
    }
    reload(&sidecar, &(shorter(&block("d")) + OTHER + THIRD));
    others_are_served(&mut wire);
    assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nx\r\n", "it lies over the record");
    assert_eq!(wire.ask("HSET a:1 d z"), ":0\r\n");
    reload(&sidecar, &(block("d") + OTHER));
    others_are_served(&mut wire);
    assert_eq!([wire.ask("HGET a:1 d"), wire.ask("HGET a:599 d")], ["$1\r\nz\r\n", "$4\r\nx599\r\n"]);
    place.postgres.sql("DROP TRIGGER f ON a");
    place.until_saved(&sidecar);
    assert_eq!([place.d(1), place.d(2), place.d(599)], ["z", "x2", "x599"]);
    let applied = place.postgres.sql("SELECT count(*) FROM applied");
    assert_eq!(applied, "599", "each is applied once");
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
}

#[test]
fn writes_that_a_trigger_has_no_right_for_wait_over_a_reload_until_it_has() {
    let place = Place::new();
    let (sidecar, mut wire) = place.troubled(&refusal(NO_RIGHT));
    reload(&sidecar, &(shorter(&block("d")) + OTHER + THIRD));
    others_are_served(&mut wire);
    assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nx\r\n", "it lies over the record");
    place.postgres.sql("DROP TRIGGER f ON a");
    until("it is saved", || place.d(1) == "x");
}

#[test]
fn what_waits_for_a_mapping_that_a_reload_takes_away_is_put_aside_if_it_cannot_be_saved() {
    let place = Place::new();
    let (mut sidecar, mut wire) = place.troubled(&refusal(CONFLICT));
    reload(&sidecar, OTHER);
    others_are_served(&mut wire);
    until("it is put aside", || metric(&sidecar, "hearthside_put_aside_total") == 1.0);
    assert!(sidecar.log().contains("a mapping that is not configured any more"), "{}", sidecar.log());
    place.until_saved(&sidecar);
    assert_eq!(sidecar.stop(), Some(0));
    let told = place.builder(OTHER).execute(&["journal"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("a:1") && told.contains("its mapping is not configured any more"), "{told}");
}

#[test]
fn what_waits_for_a_mapping_that_goes_or_writes_no_more_is_saved_by_it_if_the_store_takes_it() {
    for config in [OTHER.to_owned(), block("d").replace("write = \"through\"\ndeferred = [\"d\"]\n", "") + OTHER] {
        let place = Place::new();
        let sidecar = place.builder(&(block("d") + OTHER)).set("JOURNAL__FLUSH_INTERVAL", "1h").start();
        let mut wire = sidecar.wire();
        // The first look, at the start, finds nothing.
        assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nd\r\n");
        assert_eq!(wire.ask("HSET a:1 d x"), ":0\r\n");
        reload(&sidecar, &config);
        others_are_served(&mut wire);
        assert_eq!(place.d(1), "x");
        place.until_saved(&sidecar);
        assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
    }
}

#[test]
fn what_waits_for_a_mapping_that_moves_to_another_table_goes_there() {
    let place = Place::new();
    let (sidecar, mut wire) = place.troubled(&refusal(CONFLICT));
    reload(&sidecar, &(over("a:{id:int}", "a2", "d") + OTHER));
    others_are_served(&mut wire);
    until("it is saved", || place.postgres.sql("SELECT d FROM a2 WHERE id = 1") == "x");
    place.until_saved(&sidecar);
    assert_eq!([wire.ask("HGET a:1 d"), place.d(1)], ["$1\r\nx\r\n", "d"]);
}

#[test]
fn a_sidecar_that_is_killed_right_after_a_reload_loses_nothing_and_applies_it_once() {
    let place = Place::new();
    let (mut sidecar, mut wire) = place.troubled(&refusal(CONFLICT));
    let config = shorter(&block("d")) + OTHER;
    reload(&sidecar, &config);
    assert_eq!(wire.ask("HSET a:2 d y"), ":0\r\n");
    sidecar.kill();
    let sidecar = place.builder(&config).start();
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("HGET a:1 d"), wire.ask("HGET a:2 d")], ["$1\r\nx\r\n", "$1\r\ny\r\n"]);
    place.postgres.sql("DROP TRIGGER f ON a");
    place.until_saved(&sidecar);
    assert_eq!([place.d(1), place.d(2)], ["x", "y"]);
    assert_eq!(place.postgres.sql("SELECT count(*) FROM applied"), "2");
}

#[test]
fn many_reloads_at_once_by_every_way_end_and_keep_nobody_waiting() {
    let place = Place::new();
    let (sidecar, mut wire) = place.troubled(&refusal(CONFLICT));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..20 {
                let changed = if round % 2 == 0 { shorter(&block("d")) } else { block("d") };
                sidecar.configure(&(changed + OTHER));
                sidecar.signal("HUP");
                let (status, told) = request(&sidecar, "POST", "/reload");
                assert!(status < 300, "{status}: {told}");
            }
        });
        for round in 0..20 {
            assert_eq!(wire.ask("HEARTHSIDE RELOAD"), "+OK\r\n");
            let begun = Instant::now();
            assert_eq!(wire.ask(&format!("HGET b:{} v", 100 + round)), "$1\r\nv\r\n");
            assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
            assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nx\r\n", "it lies over the record");
        }
    });
    reload(&sidecar, &(block("d") + OTHER + THIRD));
    others_are_served(&mut wire);
    place.postgres.sql("DROP TRIGGER f ON a");
    place.until_saved(&sidecar);
    assert_eq!((place.applied().as_str(), place.d(1).as_str()), ("x", "x"));
}

#[test]
fn with_sqlite_what_waits_for_a_locked_file_is_read_over_two_reloads_and_saved() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("store.db");
    sqlite(
        &file,
        "PRAGMA journal_mode = wal; CREATE TABLE a (id INTEGER PRIMARY KEY, d TEXT, w TEXT); \
         CREATE TABLE b (id INTEGER PRIMARY KEY, v TEXT); CREATE TABLE applied (v TEXT); \
         INSERT INTO a SELECT value, 'd', 'w' FROM generate_series(1, 90); \
         INSERT INTO b SELECT value, 'v' FROM generate_series(1, 90); \
         CREATE TRIGGER note AFTER UPDATE OF d ON a BEGIN INSERT INTO applied VALUES (NEW.d); END",
    );
    let builder = Sidecar::builder().redis(&redis).config(&(block("d") + OTHER)).expect(&[warnings::DEFERRED_WAIT]);
    let builder = builder.set("STORE__URL", format!("sqlite://{}", file.display()));
    let sidecar = builder.set("JOURNAL__FLUSH_INTERVAL", "100ms").set("STORE__QUERY_TIMEOUT", "500ms").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nd\r\n");
    let mut lock = Command::new("sqlite3")
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sqlite3 is installed");
    let mut input = lock.stdin.take().expect("a pipe");
    input.write_all(b"BEGIN IMMEDIATE;\nSELECT 'locked';\n").expect("it reads");
    let mut told = String::new();
    BufReader::new(lock.stdout.take().expect("a pipe")).read_line(&mut told).expect("it answers");
    assert_eq!(told, "locked\n");
    assert_eq!(wire.ask("HSET a:1 d x"), ":0\r\n");
    until("it cannot be saved", || sidecar.log().contains(warnings::DEFERRED_WAIT));
    for config in [shorter(&block("d")) + OTHER, block("d") + OTHER + THIRD] {
        reload(&sidecar, &config);
        others_are_served(&mut wire);
        assert_eq!(wire.ask("HGET a:1 d"), "$1\r\nx\r\n", "it lies over the record");
    }
    drop(input);
    assert!(lock.wait().expect("a child").success());
    until("nothing waits", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    assert_eq!(sqlite(&file, "SELECT group_concat(v) FROM applied"), "x");
}

#[test]
fn what_waited_at_the_start_for_a_mapping_that_a_later_reload_brings_back_is_saved() {
    let place = Place::new();
    let (mut sidecar, _) = place.troubled(&refusal(CONFLICT));
    sidecar.kill();
    let sidecar = place.builder(OTHER).expect(&[warnings::WAITS_FOR_A_MAPPING]).start();
    assert_eq!(metric(&sidecar, "hearthside_deferred_keys"), 1.0);
    reload(&sidecar, &(OTHER.to_owned() + THIRD));
    assert_eq!(metric(&sidecar, "hearthside_deferred_keys"), 1.0);
    reload(&sidecar, &(block("d") + OTHER));
    assert_eq!(sidecar.wire().ask("HGET a:1 d"), "$1\r\nx\r\n", "it lies over the record");
    place.postgres.sql("DROP TRIGGER f ON a");
    place.until_saved(&sidecar);
    assert_eq!(place.d(1), "x");
    until("none is counted", || metric(&sidecar, "hearthside_deferred_keys") == 0.0);
}
