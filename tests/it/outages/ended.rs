//! The server ends a connection while a statement is under way (FATAL): what it was asked to write may have been
//! written, unless it belonged to a transaction.

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

const CONFIG: &str = r#"
[[caches]]
key = "i:{id:int}"
type = "hash"
table = "items"
write = "through"
"#;

/// The last reply to these requests, whose statement waits for a lock until its connection is ended.
fn ended(postgres: &Postgres, wire: &mut Wire, requests: &[&str]) -> String {
    wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    until("it is ended", || postgres.sql(end) != "0");
    let replies: Vec<_> = requests.iter().map(|_| wire.frame()).collect();
    String::from_utf8_lossy(replies.last().expect("a reply")).into_owned()
}

#[test]
fn a_write_whose_connection_is_ended_may_have_been_applied_and_a_transaction_was_not() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE items (id INT PRIMARY KEY, v TEXT); INSERT INTO items VALUES (1, 'a'), (2, 'b')");
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(CONFIG).migrated();
    let sidecar = builder.expect(&[warnings::WRITE_FAILED]).start();
    let mut wire = sidecar.wire();
    let mut session = postgres.session();
    session.run("BEGIN; SELECT FROM items WHERE id = 1 FOR UPDATE;");
    let told = ended(&postgres, &mut wire, &["HSET i:1 v x"]);
    assert!(told.contains("may have been applied"), "{told}");
    let told = ended(&postgres, &mut wire, &["MULTI", "HSET i:2 v y", "HSET i:1 v y", "EXEC"]);
    assert!(told.starts_with('-') && !told.contains("may have been applied"), "{told}");
    session.run("ROLLBACK;");
    assert_eq!([wire.ask("HGET i:1 v"), wire.ask("HGET i:2 v")], ["$1\r\na\r\n", "$1\r\nb\r\n"]);
    assert_eq!(wire.ask("HSET i:1 v z"), ":0\r\n");
}
