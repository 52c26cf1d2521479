//! Deferred writes: acknowledged from the journal, seen at once, saved once and in order, whatever breaks.

use super::place::{Place, TROUBLE, until_saved};
use crate::support::admin::metric;
use crate::support::proxy::Proxy;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

#[test]
fn it_is_seen_at_once_and_saved_later_in_one_statement() {
    let place = Place::new();
    place.postgres.sql("CREATE EXTENSION pg_stat_statements");
    let sidecar = place.builder("1s").start();
    let mut wire = sidecar.wire();
    // Loaded first, so that what is counted below is the writes alone.
    let all = |text: &dyn Fn(u32) -> String| (1..=1000).flat_map(|i| line(&text(i))).collect::<Vec<u8>>();
    wire.send(&all(&|i| format!("HGET p:{i} seen")));
    (0..1000).for_each(|_| assert_eq!(wire.frame(), b"$1\r\n0\r\n"));
    let flushes = || metric(&sidecar, "hearthside_flushes_total{outcome=\"ok\"}");
    for round in 1..=3 {
        wire.send(&all(&|i| format!("HSET p:{i} seen {round}{i:04}")));
        (0..1000).for_each(|_| assert_eq!(wire.frame(), b":0\r\n"));
    }
    assert_eq!(wire.ask("HGET p:7 seen"), "$5\r\n30007\r\n");
    assert_eq!(wire.ask("HINCRBY p:7 seen 1"), ":30008\r\n");
    until("all are saved", || {
        place.postgres.sql("SELECT count(*) FROM players WHERE seen >= 30000") == "1000" && place.seen(7) == "30008"
    });
    until_saved(&sidecar);
    let calls =
        place.postgres.sql("SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE '%UPDATE public.players%'");
    let calls: f64 = calls.parse().expect("a number");
    assert!(calls <= 10.0 && calls >= flushes(), "3001 writes of 1000 keys took {calls} statements");
    assert_eq!(wire.ask("HSET p:9 seen 40009"), ":0\r\n");
    until("it is saved", || place.seen(9) == "40009" && metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    let loads = metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    assert_eq!(wire.ask("HGET p:9 seen"), "$5\r\n40009\r\n");
    assert_eq!(metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}"), loads, "what was saved is still in memory");
}

#[test]
fn a_flush_of_more_keys_than_a_notice_names_forgets_nothing() {
    let place = Place::new();
    place
        .postgres
        .sql("INSERT INTO players SELECT i, 'p' || i, 10, 0, 0, 'calm' FROM generate_series(1001, 2500) AS i");
    let sidecar = place.builder("50ms").set("JOURNAL__FLUSH_ROWS", "5000").start();
    let mut wire = sidecar.wire();
    let mut all = |command: &str, reply: &[u8]| {
        for ids in (1..=2500).collect::<Vec<_>>().chunks(500) {
            wire.send(&ids.iter().flat_map(|id| line(&command.replace('N', &id.to_string()))).collect::<Vec<u8>>());
            ids.iter().for_each(|_| assert_eq!(wire.frame(), reply));
        }
    };
    all("HGET p:N seen", b"$1\r\n0\r\n");
    // The first flush waits for the row, and everything else for that.
    let mut lock = place.lock_first();
    all("HSET p:N seen 5", b":0\r\n");
    place.until_locked_out(1);
    lock.run("ROLLBACK;");
    until_saved(&sidecar);
    let loads = || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    let loaded = loads();
    all("HGET p:N seen", b"$1\r\n5\r\n");
    assert_eq!(loads(), loaded, "everything is still in memory");
    assert_eq!(metric(&sidecar, "hearthside_invalidations_total{reason=\"mapping\"}"), 0.0);
}

#[test]
fn a_locked_table_holds_up_no_deferred_writes_of_other_mappings() {
    let place = Place::new();
    let builder = place.builder("50ms").set("STORE__QUERY_TIMEOUT", "300ms");
    let sidecar = builder.expect(&[warnings::DEFERRED_WAIT]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n0\r\n");
    assert_eq!(wire.ask("GET n:1"), "$1\r\na\r\n");
    let mut lock = place.postgres.session();
    lock.run("BEGIN; LOCK TABLE players;");
    assert_eq!(wire.ask("HSET p:1 seen 5"), ":0\r\n");
    place.until_locked_out(1);
    assert_eq!(wire.ask("APPEND n:1 b"), ":2\r\n");
    until("the other mapping's is saved", || place.postgres.sql("SELECT v FROM notes") == "ab");
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n5\r\n");
    lock.run("ROLLBACK;");
    until_saved(&sidecar);
    assert_eq!((place.seen(1).as_str(), metric(&sidecar, "hearthside_put_aside_total")), ("5", 0.0));
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let place = Place::new();
    let mut sidecar = place.builder("1h").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET p:1 seen 5 mood glad note new"), ":1\r\n");
    assert_eq!(wire.ask("HSET p:1 seen 6"), ":0\r\n");
    assert_eq!(wire.ask("HDEL p:1 mood"), ":1\r\n");
    assert_eq!(wire.ask("APPEND n:1 bc"), ":3\r\n");
    assert_eq!(place.seen(1), "0", "it has not been saved");
    sidecar.kill();
    let mut sidecar = place.builder("1h").start();
    let mut wire = sidecar.wire();
    // Over every load, until it is saved.
    assert_eq!(wire.ask("HMGET p:1 seen mood note hp"), "*4\r\n$1\r\n6\r\n$-1\r\n$3\r\nnew\r\n$2\r\n10\r\n");
    assert_eq!(wire.ask("GET n:1"), "$3\r\nabc\r\n");
    place.postgres.sql("UPDATE players SET hp = 11 WHERE id = 1");
    until("the change shows", || wire.ask("HGET p:1 hp") == "$2\r\n11\r\n");
    assert_eq!(wire.ask("HMGET p:1 seen note"), "*2\r\n$1\r\n6\r\n$3\r\nnew\r\n");
    // SIGTERM saves what waits.
    assert_eq!(sidecar.stop(), Some(0));
    let row = place.postgres.sql("SELECT seen, mood IS NULL, more, hp FROM players WHERE id = 1");
    assert_eq!(row, "6|t|{\"note\": \"new\"}|11");
    assert_eq!(place.postgres.sql("SELECT v FROM notes"), "abc");
}

#[test]
fn a_transaction_of_deferred_writes_alone_is_journaled_and_asks_no_store() {
    let place = Place::new();
    let mut sidecar = place.builder("1h").expect(TROUBLE).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HMGET p:1 seen hp"), "*2\r\n$1\r\n0\r\n$2\r\n10\r\n");
    assert_eq!(wire.ask("HGET p:2 seen"), "$1\r\n0\r\n");
    place.postgres.stop();
    let mut all = |requests: &[&str]| -> String {
        wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
        requests.iter().map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).last().expect("a reply")
    };
    // As redis-py's pipeline() sends it, with a pass-through command among them.
    let beat = [
        "MULTI",
        "HSET p:1 seen 5 mood glad",
        "EXPIRE p:1 1800",
        "SET a 1",
        "HINCRBY p:1 steps 3",
        "HGET p:1 hp",
        "EXEC",
    ];
    assert_eq!(all(&beat), "*5\r\n:0\r\n:1\r\n+OK\r\n:3\r\n$2\r\n10\r\n");
    let told = all(&["MULTI", "HSET p:2 seen 7", "HINCRBY p:2 mood 1", "HSET p:2 steps x", "HGET p:2 seen", "EXEC"]);
    assert!(told.starts_with("*4\r\n:0\r\n-ERR hash value is not an integer\r\n-ERR hearthside: "), "{told}");
    assert!(told.ends_with("$1\r\n7\r\n") && told.contains("'steps'"), "{told}");
    // What is written through, or has to be made, needs the store: then nothing is done.
    let told = all(&["MULTI", "HSET p:2 seen 8 hp 1", "SET a 2", "EXEC"]);
    assert!(told.starts_with("-ERR hearthside: nothing of the transaction was done"), "{told}");
    assert_eq!(all(&["GET a", "HMGET p:1 seen steps"]), "*2\r\n$1\r\n5\r\n$1\r\n3\r\n");
    // What the upstream does not do is not journaled either.
    place.redis.wire().ask("CONFIG SET maxmemory 1");
    let told = all(&["MULTI", "HSET p:1 seen 9", "SET a 3", "EXEC"]);
    assert!(told.starts_with("-EXECABORT"), "{told}");
    assert_eq!(all(&["HGET p:1 seen"]), "$1\r\n5\r\n");
    sidecar.kill();
    place.postgres.launch();
    let _again = place.builder("50ms").start();
    until("what was acknowledged is saved", || {
        place.postgres.sql("SELECT seen, steps, mood FROM players WHERE id = 1") == "5|3|glad" && place.seen(2) == "7"
    });
}

#[test]
fn a_batch_whose_answer_was_lost_is_not_applied_twice() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let sidecar = place.behind(&proxy).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n0\r\n");
    let mut lock = place.lock_first();
    assert_eq!(wire.ask("HSET p:1 seen 1"), ":0\r\n");
    place.until_locked_out(1);
    // Nobody will hear that it was applied; and before it is sent again, somebody writes something newer.
    proxy.refuse_new(true);
    proxy.cut();
    lock.run("COMMIT;");
    until("it is applied", || place.seen(1) == "1");
    place.postgres.sql("UPDATE players SET seen = 2 WHERE id = 1");
    proxy.refuse_new(false);
    until_saved(&sidecar);
    assert_eq!(place.seen(1), "2");
    until("memory agrees", || wire.ask("HGET p:1 seen") == "$1\r\n2\r\n");
}

#[test]
fn a_crash_between_saving_and_noting_it_does_not_apply_it_twice() {
    let place = Place::new();
    let mut sidecar = place.builder("20ms").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET p:1 seen 1"), ":0\r\n");
    until("it is saved", || metric(&sidecar, "hearthside_journal_bytes") == 0.0);
    sidecar.kill();
    // As it would be had the journal not been told: the entry is there, taken by the batch the store knows.
    let batch = place.postgres.sql("SELECT max(applied) FROM hearthside.journals");
    let journal = place.journal();
    let sql = format!(
        "INSERT INTO waiting SELECT CAST(column1 AS BLOB), CAST('seen' AS BLOB), column2, 'p:{{id:int}}', column3, 64, \
         column4 FROM (VALUES ('p:1', 1, '1', {batch}), ('p:2', 2, '9', {batch} + 1))"
    );
    let put = std::process::Command::new("sqlite3").arg(journal).arg(sql).status().expect("sqlite3 is installed");
    assert!(put.success());
    place.postgres.sql("UPDATE players SET seen = 2 WHERE id = 1");
    let sidecar = place.builder("20ms").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n2\r\n");
    assert_eq!(wire.ask("HGET p:2 seen"), "$1\r\n9\r\n");
    until("what had not been applied is saved", || place.seen(2) == "9");
    assert_eq!(place.seen(1), "2");
}

#[test]
fn what_the_store_refuses_is_put_aside_and_blocks_nobody() {
    let place = Place::new();
    let sidecar = place.builder("100ms").expect(&[warnings::PUT_ASIDE]).start();
    let mut wire = sidecar.wire();
    for i in 1..=20 {
        let steps = if i == 13 { -5 } else { 5 };
        assert_eq!(wire.ask(&format!("HSET p:{i} steps {steps}")), ":0\r\n");
    }
    until("the others are saved", || place.postgres.sql("SELECT count(*) FROM players WHERE steps = 5") == "19");
    until("it is counted", || metric(&sidecar, "hearthside_put_aside_total") == 1.0);
    until("what is true shows", || wire.ask("HGET p:13 steps") == "$1\r\n0\r\n");
    let told = place.builder("1s").execute(&["journal"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("p:{id:int} \"p:13\" \"steps\" \"-5\": ") && told.lines().count() == 1, "{told}");
    // What no integer column takes is refused at once.
    assert!(wire.ask("HSET p:1 steps many").contains("the field 'steps' cannot be written"));
    assert!(wire.ask("HINCRBY p:1 mood 1").starts_with("-ERR hash value is not an integer"));
}

#[test]
fn a_table_that_cannot_be_written_to_costs_no_write_and_holds_up_no_other() {
    let place = Place::new();
    let sidecar = place.builder("50ms").expect(TROUBLE).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n0\r\n");
    assert_eq!(wire.ask("GET n:1"), "$1\r\na\r\n");
    place.postgres.sql("ALTER TABLE players RENAME TO elsewhere");
    assert_eq!(wire.ask("HSET p:1 seen 7"), ":0\r\n");
    until("a flush has failed", || metric(&sidecar, "hearthside_flushes_total{outcome=\"error\"}") >= 1.0);
    assert_eq!(wire.ask("SET n:1 b"), "+OK\r\n");
    until("the other mapping's is saved", || place.postgres.sql("SELECT v FROM notes") == "b");
    assert_eq!(metric(&sidecar, "hearthside_put_aside_total"), 0.0);
    place.postgres.sql("ALTER TABLE elsewhere RENAME TO players");
    until("what waited is saved", || place.seen(1) == "7");
}

#[test]
fn while_the_store_is_away_they_are_taken_until_the_journal_is_full() {
    let place = Place::new();
    let mut sidecar = place
        .builder("50ms")
        .set("JOURNAL__MAX_BYTES", "20kb")
        .expect(TROUBLE)
        .expect(&[warnings::JOURNAL_FULL])
        .start();
    let mut wire = sidecar.wire();
    assert_eq!([wire.ask("HGET p:1 seen"), wire.ask("HGET p:2 seen")], ["$1\r\n0\r\n"; 2]);
    place.postgres.stop();
    assert_eq!(wire.ask("HSET p:1 seen 1"), ":0\r\n");
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n1\r\n");
    assert!(wire.ask("HSET p:1 hp 1").starts_with("-ERR hearthside: "), "a write through needs the store");
    // Keys that are not in memory are taken too.
    let mut taken = 1;
    loop {
        let told = wire.ask(&format!("HSET p:{} seen {}", taken + 1, taken + 1));
        if told.starts_with('-') {
            assert!(told.contains("the journal is full") && told.contains("bytes of it wait"), "{told}");
            break;
        }
        taken += 1;
    }
    assert!(taken > 50, "{taken}");
    assert!(metric(&sidecar, "hearthside_journal_refused_total") >= 1.0);
    // In a transaction that is known before the upstream does its part.
    wire.ask("MULTI");
    assert_eq!([wire.ask("SET a 1"), wire.ask("HSET p:2 seen 9")], ["+QUEUED\r\n"; 2]);
    let told = wire.ask("EXEC");
    let nothing = "-ERR hearthside: nothing of the transaction was done: ";
    assert!(told.starts_with(nothing) && told.contains("the journal is full"), "{told}");
    assert_eq!([wire.ask("GET a"), wire.ask("HGET p:2 seen")], ["$-1\r\n", "$1\r\n2\r\n"]);
    sidecar.kill();
    place.postgres.launch();
    let _again = place.builder("50ms").start();
    until("everything acknowledged is saved", || {
        place.postgres.sql("SELECT count(*) FROM players WHERE seen = id") == taken.to_string()
    });
}

#[test]
fn a_full_disk_refuses_writes_and_loses_none() {
    let place = Place::new();
    let mut sidecar = place.builder("1h").on_a_small_disk(400_000).expect(&[warnings::JOURNAL_NOT_WRITTEN]).start();
    let mut wire = sidecar.wire();
    let mut taken = 0;
    let told = loop {
        let told = wire.ask(&format!("HSET p:{} seen {}", taken + 1, taken + 1));
        if told != ":0\r\n" {
            break told;
        }
        taken += 1;
        assert!(taken < 1000, "the disk never became full");
    };
    assert!(told.starts_with("-ERR hearthside: ") && told.contains("the journal's file"), "{told}");
    assert!(taken > 10, "{taken}");
    // Nothing of it is seen, and what does not need the disk goes on.
    assert_eq!(wire.ask(&format!("HGET p:{} seen", taken + 1)), "$1\r\n0\r\n");
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n1\r\n");
    assert_eq!(wire.ask("HSET p:1 hp 5"), ":0\r\n");
    sidecar.free_disk();
    assert_eq!(wire.ask("HSET p:1000 seen 1000"), ":0\r\n");
    sidecar.kill();
    let _again = place.builder("50ms").start();
    until("everything acknowledged is saved, and nothing else", || {
        place
            .postgres
            .sql("SELECT count(*), max(id) FILTER (WHERE seen = id AND id < 1000) FROM players WHERE seen = id")
            == format!("{}|{taken}", taken + 1)
    });
    assert_eq!(place.seen(taken + 1), "0");
}

#[test]
fn synced_every_second_it_survives_the_end_of_the_process() {
    let place = Place::new();
    let mut sidecar = place.builder("1h").set("JOURNAL__SYNC", "everysec").start();
    let mut wire = sidecar.wire();
    for i in 1..=200 {
        assert_eq!(wire.ask(&format!("HSET p:{i} seen {i}")), ":0\r\n");
    }
    sidecar.kill();
    let _again = place.builder("50ms").set("JOURNAL__SYNC", "everysec").start();
    until("all of it is saved", || place.postgres.sql("SELECT count(*) FROM players WHERE seen = id") == "200");
}

#[test]
fn other_writes_of_the_key_come_in_their_order() {
    let place = Place::new();
    let sidecar = place.builder("1h").expect(&[warnings::NO_ROW]).start();
    let mut wire = sidecar.wire();
    // Both kinds in one command; then in a transaction, which writes everything through.
    assert_eq!(wire.ask("HSET p:1 hp 20 seen 1 name x"), ":0\r\n");
    assert_eq!(place.postgres.sql("SELECT hp, seen, name FROM players WHERE id = 1"), "20|0|x");
    assert_eq!(wire.ask("HMGET p:1 hp seen"), "*2\r\n$2\r\n20\r\n$1\r\n1\r\n");
    wire.ask("MULTI");
    wire.ask("HSET p:1 seen 2");
    wire.ask("HSET p:1 hp 21");
    assert_eq!(wire.ask("EXEC"), "*2\r\n:0\r\n:0\r\n");
    assert_eq!(place.seen(1), "2");
    assert_eq!(wire.ask("HSET p:1 seen 3"), ":0\r\n");
    // A row that has to be made is made with everything; what waited for the one before does not come back.
    assert_eq!(wire.ask("DEL p:1"), ":1\r\n");
    assert_eq!(wire.ask("HSET p:1 mood new"), ":1\r\n");
    assert_eq!(place.postgres.sql("SELECT mood, seen IS NULL, hp IS NULL FROM players WHERE id = 1"), "new|t|t");
    assert_eq!(wire.ask("HGETALL p:1"), "*2\r\n$4\r\nmood\r\n$3\r\nnew\r\n");
    // A row that somebody deleted is not made again by what waited for it.
    assert_eq!(wire.ask("HSET p:2 seen 9"), ":0\r\n");
    place.postgres.sql("DELETE FROM players WHERE id = 2");
    until("it is gone", || wire.ask("EXISTS p:2") == ":0\r\n");
    drop(sidecar);
    assert_eq!(place.postgres.sql("SELECT count(*) FROM players WHERE id = 2"), "0");
}

#[test]
fn of_two_sidecars_the_last_acknowledged_write_stays() {
    let place = Place::new();
    let first = place.builder("100ms").start();
    let second =
        place.builder("100ms").set("JOURNAL__PATH", place.folder.path().join("other.db").display().to_string());
    let second = second.start();
    let (mut one, mut two) = (first.wire(), second.wire());
    for i in 1..=20 {
        one.ask(&format!("HSET p:1 seen {i}"));
        until("it is saved", || place.seen(1) == i.to_string());
        assert_eq!(two.ask(&format!("HSET p:1 seen {}", i * 100)), ":0\r\n");
        until("the later one is saved", || place.seen(1) == (i * 100).to_string());
        until("both agree", || {
            let shown = format!("${}\r\n{}\r\n", (i * 100).to_string().len(), i * 100);
            one.ask("HGET p:1 seen") == shown && two.ask("HGET p:1 seen") == shown
        });
    }
    // A journal has one sidecar.
    let told = place.builder("1s").execute(&["run"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("in use by another process"));
    // Also by another name.
    let link = place.folder.path().join("link.db");
    std::fs::hard_link(place.journal(), &link).expect("linked");
    let by_link = || place.builder("1s").set("JOURNAL__PATH", link.display().to_string());
    for arguments in [&["run"][..], &["check", "--connect"]] {
        let told = by_link().execute(arguments);
        let told = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
        assert!(told.contains("has 2 names (hard links)"), "{told}");
    }
}
