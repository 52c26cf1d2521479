//! Zones that are set while a sidecar runs: from then on the moments of columns without one are not what they were
//! found to be at its start.

use super::place::TROUBLE;
use super::zones::{builder, holds, is_doubted, place};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::until;

const DOUBT: &str = "say the zone in store.timezone";
/// A row that is alive in the zone of this name, and long ended in UTC.
fn write_in(postgres: &Postgres, zone: &str) {
    let end = format!("now() AT TIME ZONE '{zone}' + interval '1 hour'");
    postgres.sql(&format!("INSERT INTO ses VALUES ('moved', 'alive', {end})"));
}

/// A sidecar is started over sessions in UTC; then some get another zone, and write a row.
fn keeps_what_lives(redis: &Redis, postgres: &Postgres, changes: &[&str], zone: &str) {
    let sidecar = builder(redis, postgres).expect(TROUBLE).start();
    let mut wire = sidecar.wire();
    postgres.sql("INSERT INTO ses VALUES ('ended', 'e', now() - interval '5 minutes')");
    assert_eq!(wire.ask("SET ses:ended w"), "+OK\r\n", "as long as nothing has changed it is made again");
    for sql in changes {
        postgres.sql(sql);
    }
    write_in(postgres, zone);
    until("the sweeper says so", || sidecar.log().contains("cannot be removed now") && sidecar.log().contains(DOUBT));
    let is_kept = || holds(postgres, "sid = 'moved' AND data = 'alive'");
    for request in ["SET ses:moved w", "SET ses:moved w NX"] {
        let told = wire.ask(request);
        assert!(told.starts_with('-') && told.contains(zone) && told.contains(DOUBT), "{changes:?}: {told}");
        assert!(is_kept(), "{changes:?}: a row was removed that its writer says is alive");
    }
    // The sidecar's own sessions are no other for being new ones.
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hearthside'");
    until("they are back", || wire.ask("SET ses:moved w").contains(DOUBT));
    assert!(is_kept(), "{changes:?}: a row was removed that its writer says is alive");
    // What has ended in every zone has ended.
    postgres.sql("INSERT INTO ses VALUES ('long', 'l', now() - interval '3 days')");
    until("it is made again", || wire.ask("SET ses:long w") == "+OK\r\n");
}

#[test]
fn a_zone_that_is_set_for_the_database_or_a_role_costs_no_living_row() {
    for changes in [
        "ALTER DATABASE postgres SET timezone = 'America/New_York'",
        "ALTER ROLE postgres SET timezone = 'America/New_York'",
        "ALTER ROLE postgres IN DATABASE postgres SET timezone = 'America/New_York'",
    ] {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        place(&redis, &postgres, "Etc/UTC");
        keeps_what_lives(&redis, &postgres, &[changes], "America/New_York");
        // The next start takes it as the database does by then.
        assert_eq!(builder(&redis, &postgres).start().wire().ask("GET ses:moved"), "$5\r\nalive\r\n", "{changes}");
    }
}

#[test]
fn a_zone_that_another_role_gets_costs_no_living_row() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    place(&redis, &postgres, "Etc/UTC");
    postgres.sql("CREATE ROLE app LOGIN; GRANT SELECT, INSERT, UPDATE ON ses TO app");
    let changes = ["ALTER ROLE app SET timezone = 'America/New_York'"];
    keeps_what_lives(&redis, &postgres, &changes, "America/New_York");
}

#[test]
fn a_zone_that_the_server_gets_costs_no_living_row_and_other_settings_of_it_no_write() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let settings = place(&redis, &postgres, "Etc/UTC");
    postgres.sql("ALTER DATABASE postgres RESET timezone");
    postgres.sql("ALTER SYSTEM SET timezone = 'Etc/UTC'");
    postgres.sql("SELECT pg_reload_conf()");
    until("it is in force", || !is_doubted(&settings));
    let sidecar = builder(&redis, &postgres).start();
    // The server has not read its files since, and nothing of them says another zone.
    postgres.sql("INSERT INTO ses VALUES ('before', 'b', now() - interval '5 minutes')");
    until("the file is newer than what is in force", || {
        postgres.sql("ALTER SYSTEM SET work_mem = '8MB'");
        is_doubted(&settings)
    });
    assert_eq!(sidecar.wire().ask("SET ses:before w"), "+OK\r\n");
    drop(sidecar);
    postgres.sql("SELECT pg_reload_conf()");
    until("it is read", || !is_doubted(&settings));
    let changes = ["ALTER SYSTEM SET timezone = 'America/New_York'", "SELECT pg_reload_conf()"];
    keeps_what_lives(&redis, &postgres, &changes, "America/New_York");
}
