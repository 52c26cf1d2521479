//! Statements that outlive their sender, other than flushes of values (`late`): a packet that is delivered after a
//! kill, or after its statement was given up, and after something newer was saved.

use super::late::{FLUSH, through};
use super::place::{Place, TROUBLE};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;

const CONFIG: &str = r#"
[[caches]]
key = "t:{id:int}"
type = "string"
table = "texts"
value = "v"
expires_column = "ends"
write = "through"
delete = "row"
"#;

const TABLES: &str = "CREATE TABLE texts (id BIGINT PRIMARY KEY, v TEXT, ends TIMESTAMPTZ)";

/// A grace of 101.4 seconds, which holds these three bytes as it is sent.
const GRACE: (&str, &str) = ("101400ms", "@YY");

fn builder(redis: &Redis, postgres: &Postgres, proxy: &Proxy) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(CONFIG);
    let builder = builder.set("STORE__URL", postgres.url_at(proxy.port)).set("JOURNAL__FLUSH_INTERVAL", "20ms");
    builder.set("STORE__CONNECT_TIMEOUT", "200ms").set("STORE__QUERY_TIMEOUT", "300ms").expect(TROUBLE)
}

#[test]
fn a_sweep_that_comes_late_removes_no_row_that_was_renewed_meanwhile() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    postgres.sql("INSERT INTO texts VALUES (1, 'a', now() - interval '1 hour'), (2, 'b', now() - interval '1 hour')");
    let proxy = Proxy::to(postgres.port);
    Sidecar::builder().redis(&redis).postgres(&postgres).config(CONFIG).migrated();
    let late = proxy.trap(GRACE.1);
    let builder = builder(&redis, &postgres, &proxy).set("STORE__SWEEP_INTERVAL", "50ms");
    let mut sidecar = builder.set("STORE__SWEEP_GRACE", GRACE.0).start();
    until("a sweep is on its way", || late.has_caught());
    sidecar.kill();
    assert_eq!(postgres.sql("SELECT count(*) FROM texts"), "2");
    postgres.sql("UPDATE texts SET ends = now() + interval '1 hour' WHERE id = 1");
    late.release();
    until("the sweep has come", || late.is_answered());
    assert_eq!(postgres.sql("SELECT string_agg(v, ',') FROM texts"), "a", "a row that is alive was removed");
}

#[test]
fn an_expiry_that_comes_late_shortens_no_life_that_was_prolonged_meanwhile() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    postgres.sql("INSERT INTO texts VALUES (1, 'a', now() + interval '1 day')");
    let proxy = Proxy::to(postgres.port);
    Sidecar::builder().redis(&redis).postgres(&postgres).config(CONFIG).migrated();
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal.db").display().to_string();
    let start = || builder(&redis, &postgres, &proxy).set("JOURNAL__PATH", journal.clone()).start();
    let hours = || postgres.sql("SELECT round(extract(epoch FROM ends - now()) / 3600) FROM texts");
    let mut sidecar = start();
    let late = proxy.trap(FLUSH);
    assert_eq!(sidecar.wire().ask("EXPIRE t:1 7200"), ":1\r\n");
    until("the expiry is on its way", || late.has_caught());
    sidecar.kill();
    let sidecar = start();
    until("what was acknowledged is saved", || hours() == "2");
    assert_eq!(sidecar.wire().ask("EXPIRE t:1 36000"), ":1\r\n");
    until("the newer one is saved", || hours() == "10");
    late.release();
    until("the older one has come", || late.is_answered());
    assert_eq!(hours(), "10");
}

#[test]
fn a_write_through_that_was_given_up_and_comes_late_is_shown_as_it_is() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let sidecar = through(&place, &proxy).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET p:1 name early"), ":0\r\n");
    let late = proxy.trap("given-up");
    let told = wire.ask("HSET p:1 name given-up");
    assert!(told.contains("may have been applied"), "{told}");
    until("another one is taken", || wire.ask("HSET p:1 name newer") == ":0\r\n");
    assert_eq!(wire.ask("HGET p:1 name"), "$5\r\nnewer\r\n");
    late.release();
    until("it has come", || late.is_answered());
    // The client was told that this may come: it is nobody's acknowledged write, and memory follows the store.
    let stored = place.postgres.sql("SELECT name FROM players WHERE id = 1");
    until("memory agrees", || wire.ask("HGET p:1 name") == format!("${}\r\n{stored}\r\n", stored.len()));
}

#[test]
fn a_statement_of_a_transaction_that_comes_late_is_rolled_back() {
    let place = Place::new();
    let proxy = Proxy::to(place.postgres.port);
    let sidecar = through(&place, &proxy).start();
    let mut wire = sidecar.wire();
    let late = proxy.trap("given-up");
    for command in ["MULTI", "HSET p:2 name second", "HSET p:1 name given-up"] {
        wire.ask(command);
    }
    let told = wire.ask("EXEC");
    assert!(told.starts_with('-') && late.has_caught(), "{told}");
    until("another one is taken", || wire.ask("HSET p:1 name newer") == ":0\r\n");
    late.release();
    until("it has come", || late.is_answered());
    // It is under way no longer than the end of its connection takes to arrive.
    until("another one is taken", || wire.ask("HSET p:1 name newest") == ":0\r\n");
    assert_eq!(place.postgres.sql("SELECT string_agg(name, ' ' ORDER BY id) FROM players WHERE id < 3"), "newest p2");
}
