//! Why the change feed has ended, and why the store cannot be asked: in the words of the server, in the log and in
//! `/readyz?verbose`.

use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{until, warnings};

const CONFIG: &str = "[[caches]]\nkey = \"t:{id:int}\"\ntype = \"string\"\ntable = \"t\"\nvalue = \"v\"\n";

/// The sessions of the change feed, and those of its heartbeat.
const LISTENING: &str = "query LIKE 'LISTEN%'";
const BEATING: &str = "query LIKE '%pg_notify($1%'";

/// A store whose role `side` may be kept from opening connections.
fn store() -> Postgres {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')");
    postgres.sql("CREATE ROLE side LOGIN; GRANT SELECT ON t TO side");
    postgres
}

fn over(redis: &Redis, postgres: &Postgres) -> Builder {
    let builder = Sidecar::builder().redis(redis).config(CONFIG).postgres(postgres).migrated();
    let builder = builder.set("STORE__URL", postgres.url().replace("postgres@", "side@"));
    builder.set("STORE__HEARTBEAT_INTERVAL", "100ms").expect(warnings::STORE_AWAY)
}

fn end(postgres: &Postgres, sessions: &str) {
    let ended =
        format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'side' AND {sessions}");
    assert_ne!(postgres.sql(&ended), "0");
}

fn allow(postgres: &Postgres, connections: &str) {
    postgres.sql(&format!("ALTER ROLE side CONNECTION LIMIT {connections}"));
}

/// The first line of the log that begins a gap.
fn gap(sidecar: &Sidecar) -> String {
    let line = |log: &str| log.lines().find(|line| line.contains(warnings::FEED_LOST)).map(str::to_owned);
    until("a gap is logged", || line(&sidecar.log()).is_some());
    line(&sidecar.log()).expect("a line")
}

fn ready(sidecar: &Sidecar) -> String {
    request(sidecar, "GET", "/readyz?verbose").1
}

/// A change is still told.
fn is_followed(sidecar: &Sidecar, postgres: &Postgres) {
    until("the feed is back", || metric(sidecar, "hearthside_change_feed_up") == 1.0);
    until("the store is back", || sidecar.wire().ask("GET t:1").starts_with('$'));
    postgres.sql("UPDATE t SET v = 'changed'");
    until("a change is seen", || sidecar.wire().ask("GET t:1") == "$7\r\nchanged\r\n");
    assert!(!ready(sidecar).contains("feed"), "{}", ready(sidecar));
}

#[test]
fn the_log_says_in_the_servers_words_why_the_feed_ended() {
    let (redis, postgres) = (Redis::start(), store());
    let sidecar = over(&redis, &postgres).start();
    // Notices that came shortly before do not hide it.
    postgres.sql("UPDATE t SET v = 'b'; UPDATE t SET v = 'c'");
    end(&postgres, LISTENING);
    let said = gap(&sidecar);
    let words = "the change feed's connection ended: terminating connection due to administrator command (57P01)";
    assert!(said.contains(words), "{said}");
    is_followed(&sidecar, &postgres);
}

#[test]
fn a_feed_that_ends_without_a_word_says_that() {
    let (redis, postgres) = (Redis::start(), store());
    let proxy = Proxy::to(postgres.port);
    let url = format!("postgres://side@127.0.0.1:{}/postgres", proxy.port);
    let sidecar = over(&redis, &postgres).set("STORE__URL", url).start();
    proxy.cut();
    assert!(gap(&sidecar).contains("the change feed's connection ended"), "{}", sidecar.log());
    is_followed(&sidecar, &postgres);
}

#[test]
fn a_feed_that_gets_no_connection_says_why_while_the_store_is_ready() {
    let (redis, postgres) = (Redis::start(), store());
    let sidecar = over(&redis, &postgres).start();
    allow(&postgres, "0");
    end(&postgres, LISTENING);
    let why = "the change feed is down, and keys are held to cache.max_staleness: the listener could not connect to";
    let connections = "too many connections for role \"side\"";
    until("it says why", || ready(&sidecar).contains(why) && ready(&sidecar).contains(connections));
    assert_eq!(request(&sidecar, "GET", "/readyz"), (200, "ready\n".into()), "everybody is served");
    allow(&postgres, "-1");
    is_followed(&sidecar, &postgres);
}

#[test]
fn a_feed_whose_heartbeat_gets_no_connection_says_why() {
    let (redis, postgres) = (Redis::start(), store());
    let sidecar = over(&redis, &postgres).set("STORE__HEARTBEAT_TIMEOUT", "1s").start();
    allow(&postgres, "0");
    end(&postgres, BEATING);
    let said = gap(&sidecar);
    let words =
        "silent past its deadline, and its heartbeat is not sent: the store is overloaded: too many connections";
    assert!(said.contains(words), "{said}");
    allow(&postgres, "-1");
    is_followed(&sidecar, &postgres);
}

#[test]
fn a_store_that_takes_no_more_connections_is_away_for_that_reason() {
    let (redis, postgres) = (Redis::start(), store());
    let sidecar = over(&redis, &postgres).start();
    allow(&postgres, "0");
    end(&postgres, "true");
    let words = "the store is overloaded: too many connections for role \"side\" (53300)";
    until("it is not ready", || request(&sidecar, "GET", "/readyz").0 == 503);
    let (_, body) = request(&sidecar, "GET", "/readyz");
    assert_eq!(body, format!("not ready: {words}\n"));
    let health = |line: &&str| line.contains(warnings::STORE_HEALTH) && line.contains("up=false");
    let said = sidecar.log().lines().find(health).map(str::to_owned).expect("a line");
    assert!(said.contains("too many connections for role") && said.contains("53300"), "{said}");
    allow(&postgres, "-1");
    until("it is ready", || request(&sidecar, "GET", "/readyz").0 == 200);
    is_followed(&sidecar, &postgres);
}

#[test]
fn a_feed_goes_on_where_the_role_may_not_call_pg_notify() {
    let (redis, postgres) = (Redis::start(), store());
    let sidecar = over(&redis, &postgres).set("STORE__HEARTBEAT_TIMEOUT", "1s").start();
    postgres.sql("REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC");
    let beats =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'side' AND query LIKE 'NOTIFY hearthside_heart%'";
    until("it beats otherwise", || postgres.sql(beats) == "1");
    is_followed(&sidecar, &postgres);
    // A feed that begins without the right is alive, too.
    end(&postgres, LISTENING);
    gap(&sidecar);
    is_followed(&sidecar, &postgres);
    until("it beats again", || postgres.sql(beats) == "1");
    assert_eq!(metric(&sidecar, "hearthside_gaps_total"), 1.0, "the one that was made: {}", sidecar.log());
}
