//! Columns that hold a moment without a zone: it is the database's own, whatever zone that is.

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

const CONFIG: &str = r#"
[[caches]]
key = "ses:{sid}"
type = "string"
table = "ses"
value = "data"
expires_column = "expire"
write = "through"
delete = "row"
ttl = "1h"

[[caches]]
key = "e:{id:int}"
type = "hash"
table = "events"
timestamps = "epoch"
write = "through"

[[caches]]
key = "z:{id:int}"
type = "string"
table = "zoned"
value = "data"
expires_column = "expire"
"#;

const TABLES: &str = "CREATE TABLE ses (sid TEXT PRIMARY KEY, data TEXT, expire TIMESTAMP(6)); \
    CREATE TABLE events (id BIGINT PRIMARY KEY, at TIMESTAMP, n INT); \
    CREATE TABLE zoned (id BIGINT PRIMARY KEY, data TEXT, expire TIMESTAMPTZ);";

/// A database in that zone, and a sidecar's settings over it.
pub(super) fn place(redis: &Redis, postgres: &Postgres, zone: &str) -> Builder {
    postgres.sql(&format!("ALTER DATABASE postgres SET timezone = '{zone}'"));
    postgres.sql(TABLES);
    builder(redis, postgres).migrated()
}

/// The settings alone.
pub(super) fn builder(redis: &Redis, postgres: &Postgres) -> Builder {
    let builder = Sidecar::builder().redis(redis).postgres(postgres).config(CONFIG);
    builder.set("JOURNAL__FLUSH_INTERVAL", "50ms").set("STORE__SWEEP_INTERVAL", "50ms")
}

fn ttl(wire: &mut Wire, key: &str) -> i64 {
    wire.ask(&format!("TTL {key}")).trim_start_matches(':').trim_end().parse().expect("a number")
}

/// What a session of the database says.
pub(super) fn holds(postgres: &Postgres, condition: &str) -> bool {
    postgres.sql(&format!("SELECT count(*) FROM ses WHERE {condition}")) == "1"
}

pub(super) const ROWS: &str = "INSERT INTO ses VALUES ('alive', 'a', now() + interval '1 hour'), \
    ('near', 'n', now() + interval '2 seconds'), ('ended', 'e', now() - interval '5 minutes'), \
    ('gone', 'g', now() - interval '2 days'), ('ever', 'v', NULL)";

#[test]
fn a_key_lives_as_long_as_the_database_says_and_is_swept_no_sooner() {
    // West of UTC live keys would look ended and be swept; east of it ended ones would live on.
    for zone in ["America/New_York", "Asia/Tokyo", "Etc/UTC", "5"] {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let builder = place(&redis, &postgres, zone);
        postgres.sql(ROWS);
        let sidecar = builder.start();
        let mut wire = sidecar.wire();
        assert_eq!(wire.ask("GET ses:alive"), "$1\r\na\r\n", "{zone}");
        assert!((3500..=3600).contains(&ttl(&mut wire, "ses:alive")), "{zone}");
        assert_eq!((wire.ask("GET ses:ended"), ttl(&mut wire, "ses:ended")), ("$-1\r\n".into(), -2), "{zone}");
        assert_eq!(ttl(&mut wire, "ses:ever"), -1, "{zone}");
        until("what ended long ago is swept", || {
            holds(&postgres, "sid = 'ended'") && !holds(&postgres, "sid = 'gone'")
        });
        until("it is counted", || metric(&sidecar, "hearthside_swept_total") == 1.0);
        until("the next key ends", || wire.ask("GET ses:near") == "$-1\r\n");
        let keys = wire.ask("KEYS ses:*");
        assert!(
            keys.starts_with("*2\r\n") && keys.contains("ses:alive") && keys.contains("ses:ever"),
            "{zone}: {keys}"
        );
        assert_eq!(wire.ask("SET ses:new v EX 600"), "+OK\r\n");
        until("its end is saved", || {
            holds(&postgres, "sid = 'new' AND expire - now() BETWEEN interval '9 minutes' AND interval '10 minutes'")
        });
        assert_eq!(wire.ask("EXPIRE ses:alive 7200"), ":1\r\n");
        until("its end is saved", || {
            holds(&postgres, "sid = 'alive' AND expire - now() BETWEEN interval '119 minutes' AND interval '2 hours'")
        });
        assert_eq!(wire.ask("PERSIST ses:alive"), ":1\r\n");
        until("it is saved", || holds(&postgres, "sid = 'alive' AND expire IS NULL"));
        // What has ended is made again by a write, and what has not is not.
        assert_eq!(wire.ask("SET ses:ended w NX"), "+OK\r\n", "{zone}");
        assert_eq!(wire.ask("SET ses:ever w NX"), "$-1\r\n", "{zone}");
        assert_eq!(postgres.sql("SELECT count(*) FROM ses"), "5", "{zone}");
    }
}

#[test]
fn seconds_since_1970_are_the_databases_own_over_the_change_of_clocks() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = place(&redis, &postgres, "America/New_York");
    // Summer, winter, the hour that comes twice, the hour that does not come.
    let moments = ["2026-07-01 12:00", "2026-01-01 12:00", "2026-11-01 01:30", "2026-03-08 02:30"];
    let expected = ["1782921600", "1767286800", "1793514600", "1772955000"];
    for (id, at) in moments.iter().enumerate() {
        postgres.sql(&format!("INSERT INTO events VALUES ({id}, '{at}', 0)"));
    }
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    let database = |id: usize| {
        postgres.sql(&format!("SELECT extract(epoch FROM at::timestamptz)::bigint FROM events WHERE id = {id}"))
    };
    for (id, moment) in moments.iter().enumerate() {
        let own = database(id);
        assert_eq!(own, expected[id], "{moment}");
        assert_eq!(wire.ask(&format!("HGET e:{id} at")), format!("${}\r\n{own}\r\n", own.len()), "{moment}");
        // Half an hour before and after each change of the clocks, and far from it.
        for at in [1_793_510_000_u64, 1_793_514_000, 1_772_953_000, 1_772_955_000, 1_780_000_000] {
            assert_eq!(wire.ask(&format!("HSET e:{id} at {at}")), ":0\r\n");
            let written = wire.ask(&format!("HGET e:{id} at"));
            assert_eq!(written, format!("$10\r\n{}\r\n", database(id)));
            // The column cannot tell the hour that comes twice from itself.
            let comes_twice = (1_793_509_200..1_793_512_800).contains(&at);
            assert_eq!(database(id), (at + if comes_twice { 3600 } else { 0 }).to_string());
        }
    }
    // No moment is lost but the second of the hour that comes twice, which the column cannot tell from the first.
    assert_eq!(wire.ask("HSET e:0 at 1780000000"), ":0\r\n");
    assert_eq!(database(0), "1780000000");
    assert_eq!(wire.ask("EXPIREAT ses:x 1"), ":0\r\n");
    assert_eq!(wire.ask("SET ses:x v EXAT 1814400000"), "+OK\r\n");
    until("an end in the next summer is saved", || {
        holds(&postgres, "sid = 'x' AND abs(extract(epoch FROM expire::timestamptz) - 1814400000) < 5")
    });
}

const DOUBT: &str = "is a timestamp without time zone";

/// What `hearthside check --connect` exits with and says.
fn check(builder: &Builder) -> (Option<i32>, String) {
    let output = builder.execute(&["check", "--connect"]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

pub(super) fn is_doubted(builder: &Builder) -> bool {
    let (code, told) = check(builder);
    assert_eq!(code, Some(0), "{told}");
    told.contains(DOUBT) && told.contains("store.timezone")
}

#[test]
fn where_it_is_not_clear_which_zone_is_meant_only_what_has_ended_in_all_goes_and_it_is_said() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder =
        place(&redis, &postgres, "America/New_York").expect(&[warnings::ZONE_UNCLEAR, warnings::WRITE_FAILED]);
    postgres.sql(ROWS);
    // Somebody who only reads has a clock of their own, and so has an administrator.
    postgres.sql(
        "CREATE ROLE reader LOGIN; ALTER ROLE reader SET timezone = 'Asia/Tokyo'; GRANT SELECT ON ses TO reader; \
         CREATE ROLE root LOGIN SUPERUSER; ALTER ROLE root SET timezone = 'Asia/Tokyo'",
    );
    assert!(!is_doubted(&builder));
    postgres.sql("GRANT INSERT, UPDATE ON ses TO reader");
    let (code, told) = check(&builder);
    assert!(code == Some(0) && told.contains("caches[0].expires_column") && told.contains(DOUBT), "{told}");
    assert!(told.contains("America/New_York") && told.contains("Asia/Tokyo") && told.contains("reader"), "{told}");
    assert!(!told.contains("root"), "{told}");
    let sidecar = builder.start();
    until("what ended in every zone is swept", || !holds(&postgres, "sid = 'gone'"));
    let mut wire = sidecar.wire();
    assert!(holds(&postgres, "sid = 'ended'") && sidecar.log().contains(DOUBT));
    assert_eq!((wire.ask("GET ses:alive"), wire.ask("GET ses:ended")), ("$1\r\na\r\n".into(), "$-1\r\n".into()));
    // A row that may be alive for somebody is not made again either.
    let told = wire.ask("SET ses:ended w");
    assert!(told.starts_with('-') && told.contains("store.timezone"), "{told}");
    assert!(holds(&postgres, "sid = 'ended' AND data = 'e'"));
}

#[test]
fn a_session_to_which_its_driver_gave_another_zone_loses_no_living_row() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = place(&redis, &postgres, "Asia/Tokyo");
    postgres.sql(ROWS);
    postgres.sql("SET timezone = 'UTC'; INSERT INTO ses VALUES ('driver', 'd', now() + interval '1 hour')");
    let sidecar = builder.start();
    until("what ended in every zone is swept", || !holds(&postgres, "sid = 'gone'"));
    postgres.sql("INSERT INTO ses VALUES ('gone', 'g', now() - interval '2 days')");
    until("another round has been", || metric(&sidecar, "hearthside_swept_total") == 2.0);
    assert!(holds(&postgres, "sid = 'driver'"), "a row was swept that its writer says is alive");
}

#[test]
fn a_role_that_cannot_see_the_servers_zone_says_so_until_it_is_told() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = place(&redis, &postgres, "America/New_York");
    for sql in [
        "ALTER DATABASE postgres RESET timezone",
        "ALTER SYSTEM SET timezone = 'America/New_York'",
        "SELECT pg_reload_conf()",
    ] {
        postgres.sql(sql);
    }
    until("the server's zone is another", || postgres.sql("SHOW timezone") == "America/New_York");
    postgres.sql(ROWS);
    postgres.sql("INSERT INTO ses VALUES ('hour', 'h', now() - interval '1 hour')");
    postgres.sql(
        "CREATE ROLE side LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public, hearthside TO side; \
         GRANT USAGE ON SCHEMA hearthside TO side",
    );
    // Who may read the server's files knows it.
    assert!(!is_doubted(&builder));
    let builder = builder.set("STORE__URL", postgres.url().replace("postgres@", "side@"));
    assert!(is_doubted(&builder));
    let output = builder.execute_with("STORE__TIMEZONE", "Mars/Olympus", &["check", "--connect"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && told.contains("store.timezone"), "{told}");
    let builder = builder.set("STORE__TIMEZONE", "America/New_York");
    assert!(!is_doubted(&builder));
    let sidecar = builder.start();
    assert_eq!(sidecar.wire().ask("GET ses:alive"), "$1\r\na\r\n");
    until("what ended longer ago than the grace is swept", || !holds(&postgres, "sid = 'hour'"));
    assert!(holds(&postgres, "sid = 'alive'") && holds(&postgres, "sid = 'ended'"));
}

#[test]
fn a_zone_given_on_the_servers_command_line_is_not_certain() {
    let (redis, postgres) = (Redis::start(), Postgres::start_with("-c timezone=America/New_York"));
    let builder = place(&redis, &postgres, "Etc/UTC");
    // The files would say otherwise.
    postgres.sql("ALTER DATABASE postgres RESET timezone");
    assert_eq!(postgres.sql("SHOW timezone"), "America/New_York");
    assert!(is_doubted(&builder));
}

#[test]
fn what_the_servers_files_say_counts_only_if_the_server_has_read_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = place(&redis, &postgres, "Etc/UTC");
    postgres.sql("ALTER DATABASE postgres RESET timezone");
    // A file's time is in whole seconds.
    until("the file is newer than what is in force", || {
        postgres.sql("ALTER SYSTEM SET timezone = 'America/New_York'");
        is_doubted(&builder)
    });
    postgres.sql("SELECT pg_reload_conf()");
    until("it is in force", || !is_doubted(&builder));
    // With a fault in it a file is not taken as a whole.
    let file = format!("{}/postgresql.auto.conf", postgres.sql("SHOW data_directory"));
    let before = std::fs::read_to_string(&file).expect("read");
    std::fs::write(&file, format!("{before}timezone = 'Mars/Olympus'\n")).expect("written");
    postgres.sql("SELECT pg_reload_conf()");
    until("the server has looked", || is_doubted(&builder));
    assert_eq!(postgres.sql("SHOW timezone"), "America/New_York");
}

#[test]
fn of_a_partitioned_table_only_rows_that_have_ended_are_swept() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = place(&redis, &postgres, "Etc/UTC");
    // The first row of each partition has the same place (ctid) in it.
    postgres.sql(
        "DROP TABLE ses; CREATE TABLE ses (sid TEXT PRIMARY KEY, data TEXT, expire TIMESTAMP) PARTITION BY LIST (sid); \
         CREATE TABLE ses_1 PARTITION OF ses FOR VALUES IN ('gone'); CREATE TABLE ses_2 PARTITION OF ses DEFAULT; \
         INSERT INTO ses VALUES ('gone', 'g', now() - interval '2 days'), ('alive', 'a', now() + interval '1 hour')",
    );
    let sidecar = builder.migrated().start();
    until("what has ended is swept", || !holds(&postgres, "sid = 'gone'"));
    assert!(holds(&postgres, "sid = 'alive'"), "a living row went with one that had ended");
    assert_eq!(sidecar.wire().ask("GET ses:alive"), "$1\r\na\r\n");
}

#[test]
fn a_row_that_is_renewed_while_it_is_swept_stays() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = place(&redis, &postgres, "Asia/Tokyo");
    postgres.sql(ROWS);
    postgres.sql("INSERT INTO ses VALUES ('last', 'l', now() - interval '2 days')");
    let mut session = postgres.session();
    session.run("BEGIN; UPDATE ses SET expire = now() + interval '1 hour' WHERE sid = 'gone';");
    let sidecar = builder.start();
    until("the other is swept", || !holds(&postgres, "sid = 'last'"));
    session.run("COMMIT;");
    postgres.sql("INSERT INTO ses VALUES ('last', 'l', now() - interval '2 days')");
    until("another round has been", || metric(&sidecar, "hearthside_swept_total") == 2.0);
    assert!(holds(&postgres, "sid = 'gone'"));
    until("it is alive again", || sidecar.wire().ask("GET ses:gone") == "$1\r\ng\r\n");
}
