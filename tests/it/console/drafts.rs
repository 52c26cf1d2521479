//! What is drafted reads from the store, and takes one turn of it at most.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::page::{Place, TOKEN};
use crate::support::admin::{post_with, request_with};
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

/// Whose keys no index finds.
const HEAP: &str = "CREATE TABLE heap (name text, item text); \
    INSERT INTO heap SELECT md5(n::text), n FROM generate_series(1, 200000) AS n";

const AT_ONCE: &str = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%heap%' \
    AND backend_type = 'client backend' AND pid <> pg_backend_pid()";

fn wish(number: usize) -> String {
    json!({ "key": format!("b{number}:{{name}}"), "type": "set", "value": "item", "table": "heap" }).to_string()
}

/// Asks, and is gone before the answer.
fn ask_and_leave(sidecar: &Sidecar, number: usize) {
    let port = sidecar.logged_port("admin port").expect("an admin port");
    let (mut stream, body) = (TcpStream::connect(("127.0.0.1", port)).expect("connects"), wish(number));
    let head = format!("Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n", body.len());
    write!(stream, "POST /api/draft HTTP/1.1\r\n{head}\r\n{body}").expect("sends");
}

#[test]
fn drafts_are_made_one_after_the_other() {
    let place = Place::new();
    let sidecar = place.guarded().start_guarded();
    place.postgres.sql(HEAP);
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let is_over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let most = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(SeqCst) {
                most = most.max(place.postgres.sql(AT_ONCE).parse::<usize>().expect("a number"));
            }
            most
        });
        (0..4).for_each(|number| ask_and_leave(&sidecar, number));
        let drafted = |number| {
            let (sidecar, right) = (&sidecar, &right);
            scope.spawn(move || post_with(sidecar, "/api/draft", right, &wish(number)))
        };
        let drafts: Vec<_> = (4..8).map(drafted).collect();
        let answers: Vec<_> = drafts.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, SeqCst);
        for answer in answers {
            let (status, body) = answer.expect("an answer");
            assert!(status == 200 && body.contains("\"key\":\"b"), "{status} {body}");
        }
        most.join().expect("a number")
    });
    assert!(most <= 1, "{most} statements of drafts at once");
}

#[test]
fn what_the_store_would_refuse_is_a_fault_of_the_draft() {
    let place = Place::new();
    let sidecar = place.guarded().start_guarded();
    place.postgres.sql("CREATE TABLE tags (id int, tag text, PRIMARY KEY (id, tag))");
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    for (wish, fault) in [
        (
            json!({ "key": "t:{id:int}:{tag}", "type": "hash", "table": "tags", "write": "through" }),
            "write: table 'tags' has no column that a write could set",
        ),
        (
            json!({ "key": "t:{id:int}:{tag}", "type": "hash", "table": "tags", "write": "deferred" }),
            "write: table 'tags' has no column that a write could set",
        ),
        (
            json!({ "key": "t:{id}:{again}", "type": "hash", "table": "tags", "key_columns": { "again": "id" } }),
            "key_columns: two placeholders of 't:{id}:{again}' are the column 'id'",
        ),
    ] {
        let (status, body) = post_with(&sidecar, "/api/draft", &right, &wish.to_string());
        assert!(status == 200 && body.contains(fault), "{wish}: {status} {body}");
    }
    let wish = json!({ "key": "t:{id:int}", "type": "set", "value": "tag", "table": "tags", "write": "through" });
    let (status, body) = post_with(&sidecar, "/api/draft", &right, &wish.to_string());
    assert!(status == 200 && body.contains("\"faults\":[]"), "{status} {body}");
}

#[test]
fn a_catalog_that_does_not_answer_is_told_of_in_time() {
    let place = Place::new();
    let builder = place.guarded().set("STORE__SCHEMA_INTERVAL", "1h");
    let sidecar = builder.expect(warnings::STORE_AWAY).expect(warnings::STORE_LATE).start_guarded();
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let tables = || request_with(&sidecar, "GET", "/api/tables", &right);
    assert_eq!(tables().0, 200);
    let mut session = place.postgres.session();
    session
        .run("BEGIN; SET LOCAL allow_system_table_mods = on; LOCK TABLE pg_catalog.pg_index IN ACCESS EXCLUSIVE MODE;");
    let begun = Instant::now();
    let (status, body) = tables();
    assert!(status == 409 && body.contains("did not list the tables within 5 s"), "{status} {body}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    session.run("ROLLBACK;");
    let cancelled = || place.postgres.log().contains("canceling statement due to statement timeout");
    until("its own limit has ended the statement", cancelled);
    assert_eq!(tables().0, 200);
}
