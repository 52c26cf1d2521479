//! A row that a trigger refuses for a reason that may pass rests and is tried again, while all others are saved.

use std::fmt::Write as _;

use super::place::{Place, until_saved};
use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// Codes of connections, ends, lacks, locks and conflicts, of the system, and of a schema or a right that is missing.
const CODES: [&str; 15] = [
    "08001", "08006", "57P01", "57014", "53100", "55P03", "40001", "40P01", "58030", "XX000", "42703", "42501",
    "38000", "HV00N", "25006",
];

const TRIGGER: &str = "CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    RAISE EXCEPTION 'not now' USING ERRCODE = TG_ARGV[0]; END $$;";

/// Gives a hundred keys this value, all in one flush.
fn write_all(wire: &mut Wire, seen: usize) {
    let mut all = Vec::new();
    (1..=100).for_each(|id| all.extend(line(&format!("HSET p:{id} seen {seen}"))));
    wire.send(&all);
    (0..100).for_each(|_| assert_eq!(wire.frame(), b":0\r\n"));
}

#[test]
fn a_row_that_is_refused_for_now_is_saved_later_and_all_others_at_once() {
    let place = Place::new();
    place.postgres.sql(TRIGGER);
    let sidecar = place.builder("50ms").expect(&[warnings::DEFERRED_WAIT]).start();
    let mut wire = sidecar.wire();
    (1..=100).for_each(|id| drop(wire.ask(&format!("HGET p:{id} seen"))));
    for (seen, code) in (1..).zip(CODES) {
        place.postgres.sql(&format!(
            "CREATE TRIGGER judge BEFORE UPDATE ON players FOR EACH ROW WHEN (OLD.id = 50) \
             EXECUTE FUNCTION judge('{code}')"
        ));
        write_all(&mut wire, seen);
        let saved = format!("SELECT count(*) FROM players WHERE seen = {seen}");
        until(&format!("all others are saved ({code})"), || place.postgres.sql(&saved) == "99");
        // A key that is not in memory, and the one that rests.
        assert_eq!(wire.ask(&format!("HGET p:{} name", 200 + seen)), format!("$4\r\np{}\r\n", 200 + seen), "{code}");
        assert_eq!(wire.ask("HGET p:50 seen"), format!("${}\r\n{seen}\r\n", seen.to_string().len()), "{code}");
        place.postgres.sql("DROP TRIGGER judge ON players");
        until(&format!("it is saved ({code})"), || place.postgres.sql(&saved) == "100");
        until_saved(&sidecar);
    }
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
    assert_eq!(metric(&sidecar, "hearthside_journal_collisions_total"), 0.0);
}

#[test]
fn a_newer_value_of_a_row_that_rests_is_tried_at_once() {
    let place = Place::new();
    place.postgres.sql(TRIGGER);
    place.postgres.sql(
        "CREATE TRIGGER judge BEFORE UPDATE ON players FOR EACH ROW WHEN (NEW.seen = 13) \
         EXECUTE FUNCTION judge('08006')",
    );
    let sidecar = place.builder("50ms").expect(&[warnings::DEFERRED_WAIT]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET p:1 seen 13"), ":0\r\n");
    until("it is refused again and again", || sidecar.log().matches(warnings::DEFERRED_WAIT).count() > 3);
    assert_eq!(wire.ask("HSET p:1 seen 14"), ":0\r\n");
    until("the newer one is saved", || place.seen(1) == "14");
    until_saved(&sidecar);
}

#[test]
fn in_sqlite_a_row_that_a_trigger_refuses_keeps_none_of_the_others() {
    let redis = Redis::start();
    for way in ["ABORT", "FAIL", "ROLLBACK"] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rested.db").display().to_string();
        let sql = |text: &str| {
            let told =
                std::process::Command::new("sqlite3").args([&file, text]).output().expect("sqlite3 is installed");
            String::from_utf8_lossy(&told.stdout).trim().to_owned()
        };
        let mut rows = String::new();
        (1..=100).for_each(|id| write!(rows, "INSERT INTO players VALUES ({id}, 0);").expect("it fits"));
        sql(&format!(
            "PRAGMA journal_mode = WAL; CREATE TABLE players (id INTEGER PRIMARY KEY, seen INTEGER); {rows} \
             CREATE TRIGGER judge BEFORE UPDATE ON players WHEN OLD.id = 50 BEGIN SELECT RAISE({way}, 'no'); END"
        ));
        let config = "[[caches]]\nkey = \"p:{id:int}\"\ntype = \"hash\"\ntable = \"players\"\nwrite = \"deferred\"\n";
        let builder = Sidecar::builder().redis(&redis).config(config).set("STORE__URL", format!("sqlite://{file}"));
        let journal = folder.path().join("journal.db").display().to_string();
        let builder = builder.set("JOURNAL__PATH", journal).set("JOURNAL__FLUSH_INTERVAL", "50ms");
        let sidecar = builder.expect(&[warnings::PUT_ASIDE]).start();
        let mut wire = sidecar.wire();
        (1..=100).for_each(|id| drop(wire.ask(&format!("HGET p:{id} seen"))));
        write_all(&mut wire, 7);
        until("all others are saved", || sql("SELECT count(*) FROM players WHERE seen = 7") == "99");
        until("it is put aside", || metric(&sidecar, "hearthside_put_aside_total") == 1.0);
    }
}

#[test]
fn a_stop_tries_rows_that_rest_and_says_how_many_stay() {
    let place = Place::new();
    place.postgres.sql(TRIGGER);
    let judges = |ids: &str| {
        format!(
            "DROP TRIGGER IF EXISTS judge ON players; CREATE TRIGGER judge BEFORE UPDATE ON players FOR EACH ROW \
             WHEN (OLD.id IN ({ids})) EXECUTE FUNCTION judge('08006')"
        )
    };
    place.postgres.sql(&judges("50, 60"));
    let mut sidecar = place.builder("50ms").expect(&[warnings::DEFERRED_WAIT, warnings::DEFERRED_STAY]).start();
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("HSET p:50 seen 1"), wire.ask("HSET p:60 seen 1")], [":0\r\n"; 2]);
    until("they rest for long", || sidecar.log().matches(warnings::DEFERRED_WAIT).count() > 4);
    place.postgres.sql(&judges("60"));
    drop(wire);
    assert_eq!(sidecar.stop(), Some(0));
    assert_eq!([place.seen(50), place.seen(60)], ["1", "0"]);
    let log = sidecar.log();
    let stays = log.lines().find(|line| line.contains(warnings::DEFERRED_STAY)).expect("it is said");
    assert!(stays.contains(" keys=1"), "{stays}");
}
