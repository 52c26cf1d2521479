//! Tables of SQLite that undo more than the statement that they refuse.

use super::embedded::Place;
use crate::support::admin::metric;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

const CONFIG: &str = r#"
[[caches]]
key = "a:{id:int}"
type = "hash"
table = "a"
write = "through"
deferred = ["d"]
"#;

const TABLES: &str = "CREATE TABLE a (id INTEGER PRIMARY KEY, email TEXT UNIQUE ON CONFLICT ROLLBACK, \
    d TEXT UNIQUE ON CONFLICT ROLLBACK, f TEXT UNIQUE ON CONFLICT FAIL, n INT DEFAULT 0); \
    INSERT INTO a (id, email, d, f) VALUES (1, 'x', 'p1', 'f1'), (2, 'y', 'p2', 'f2'), (3, 'z', 'p3', 'f3'), \
    (4, 'w', 'p4', 'f4'); \
    CREATE TRIGGER back BEFORE UPDATE OF n ON a WHEN new.n = 13 BEGIN SELECT raise(ROLLBACK, 'unlucky'); END; \
    CREATE TRIGGER stop BEFORE UPDATE OF n ON a WHEN new.n = 14 BEGIN SELECT raise(FAIL, 'unlucky'); END;";

const NOTHING: &str = "0,0,0,0";

fn exec(wire: &mut Wire, requests: [&str; 3]) -> String {
    assert_eq!(wire.ask("MULTI"), "+OK\r\n");
    requests.iter().for_each(|request| assert_eq!(wire.ask(request), "+QUEUED\r\n"));
    wire.ask("EXEC")
}

#[test]
fn a_statement_that_undoes_the_whole_transaction_fails_exec() {
    let place = Place::of(TABLES, CONFIG);
    let sidecar = place.builder().start();
    let mut wire = sidecar.wire();
    let numbers = || place.sql("SELECT group_concat(n) FROM a");
    for (refused, why) in [("HSET a:1 email z", "a unique index forbids"), ("HSET a:1 n 13", "unlucky")] {
        assert_eq!(wire.ask("HGET a:2 n") + &wire.ask("HGET a:3 n"), "$1\r\n0\r\n$1\r\n0\r\n");
        let told = exec(&mut wire, ["HSET a:2 n 1", refused, "HSET a:3 n 1"]);
        assert!(told.contains(why) && !told.contains(":1\r\n"), "{told}");
        assert_eq!(numbers(), NOTHING);
        let told = exec(&mut wire, ["HSET a:2 n 1", "HGET a:3 n", refused]);
        assert!(told.contains(why) && !told.contains(":1\r\n"), "also where it is the last one: {told}");
        assert_eq!(wire.ask("HGET a:2 n") + &wire.ask("HGET a:3 n"), "$1\r\n0\r\n$1\r\n0\r\n");
        assert_eq!(numbers(), NOTHING);
        let told = wire.ask(refused);
        assert!(told.contains("was not written") && told.contains(why), "a single write: {told}");
    }
    assert_eq!(wire.ask("HSET a:1 email v"), ":0\r\n", "what follows is written");
    // Where the statement alone is undone, the others go on.
    for refused in ["HSET a:1 f f2", "HSET a:1 n 14"] {
        let told = exec(&mut wire, ["HSET a:2 n 0", refused, "HSET a:3 n 0"]);
        assert!(told.starts_with("*3\r\n:0\r\n-ERR") && told.ends_with(":0\r\n"), "{told}");
    }
    let told = exec(&mut wire, ["SET upstream 1", "HSET a:2 n 1", "HSET a:1 n 13"]);
    assert!(told.contains("unlucky"), "{told}");
    assert_eq!(wire.ask("GET upstream"), "$-1\r\n", "the upstream's part has not run");
}

#[test]
fn a_deferred_row_that_undoes_its_whole_batch_is_put_aside_alone() {
    let place = Place::of(TABLES, CONFIG);
    let sidecar = place.builder().expect(&[warnings::PUT_ASIDE]).start();
    let mut wire = sidecar.wire();
    wire.send(b"HSET a:1 d q1\r\nHSET a:2 d p4\r\nHSET a:3 d q3\r\n");
    (0..3).for_each(|_| assert_eq!(wire.frame(), b":0\r\n"));
    until("it is put aside", || metric(&sidecar, "hearthside_put_aside_total") == 1.0);
    until("the others are saved", || place.sql("SELECT d FROM a ORDER BY id") == "q1\np2\nq3\np4");
    assert_eq!(wire.ask("HGET a:2 d"), "$2\r\np2\r\n");
}
