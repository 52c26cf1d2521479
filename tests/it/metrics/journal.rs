//! Alerts that fire because the journal is not what this sidecar has written.

use std::fs::File;

use super::{MAPPINGS, over};
use crate::support::admin::metric;
use crate::support::free_port;
use crate::support::postgres::Postgres;
use crate::support::prometheus::Prometheus;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

#[test]
fn one_fires_when_a_journal_has_lost_what_was_acknowledged() {
    let (redis, postgres, folder) = (Redis::start(), Postgres::start(), tempfile::tempdir().expect("a folder"));
    let (journal, admin) = (folder.path().join("journal.db"), format!("127.0.0.1:{}", free_port()));
    let again = || {
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(MAPPINGS);
        let builder = builder.set("JOURNAL__PATH", journal.display().to_string());
        builder.set("JOURNAL__FLUSH_INTERVAL", "1h").set("ADMIN__LISTEN", &*admin)
    };
    drop(over(&redis, &postgres, MAPPINGS));
    let mut sidecar = again().start();
    let prometheus = Prometheus::over(&sidecar);
    let mut wire = sidecar.wire();
    for id in 1..=20 {
        assert_eq!(wire.ask(&format!("HSET p:{id} seen 7")), ":0\r\n");
    }
    prometheus.until_calm();
    sidecar.kill();
    let log = File::options().write(true).open(folder.path().join("journal.db-wal")).expect("it is there");
    log.set_len(log.metadata().expect("its length").len() / 2).expect("cut");
    let sidecar = again().expect(&[warnings::JOURNAL_LACKS]).start();
    prometheus.until_fires(&["HearthsideJournalDamaged"]);
    assert!(metric(&sidecar, "hearthside_journal_missing") >= 1.0);
}

#[test]
fn one_fires_when_somebody_else_writes_under_the_journals_name() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = over(&redis, &postgres, MAPPINGS).set("JOURNAL__FLUSH_INTERVAL", "20ms");
    let sidecar = builder.expect(&[warnings::NOTED_BY_ANOTHER]).start();
    let prometheus = Prometheus::over(&sidecar);
    let mut wire = sidecar.wire();
    let mut is_saved = |seen: &str| {
        assert_eq!(wire.ask(&format!("HSET p:1 seen {seen}")), ":0\r\n");
        until("it is saved", || postgres.sql("SELECT seen FROM p WHERE id = 1") == seen);
    };
    is_saved("1");
    is_saved("2");
    prometheus.until_calm();
    postgres.sql("UPDATE hearthside.journals SET applied = 1000000000000, fence = 1000000000000");
    is_saved("3");
    prometheus.until_fires(&["HearthsideJournalCollision"]);
}
