//! Alerts that fire because changes of the store come late, or are not told as they should be.

use super::{MAPPINGS, over};
use crate::support::admin::request;
use crate::support::postgres::Postgres;
use crate::support::prometheus::{Prometheus, RULES};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{setting, until, warnings};

/// A sidecar that verifies every hit, and does not look at the schema: whoever sees that the triggers are disabled
/// forgets what is in memory.
fn verifying(redis: &Redis, postgres: &Postgres) -> Builder {
    let builder = over(redis, postgres, MAPPINGS).set("VERIFY__SAMPLE", "1").set("VERIFY__PER_SECOND", "1000");
    builder.set("STORE__SCHEMA_INTERVAL", "1h").expect(&[warnings::STALE])
}

#[test]
fn one_fires_when_a_change_is_not_told() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = verifying(&redis, &postgres).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 hp"), "$1\r\n1\r\n");
    postgres.sql("ALTER TABLE p DISABLE TRIGGER USER; UPDATE p SET hp = 7 WHERE id = 1");
    until("it is found", || wire.ask("HGET p:1 hp") == "$1\r\n7\r\n");
    prometheus.until_fires(&["HearthsideStaleReads"]);
}

/// How old the record of a key in memory is, in milliseconds.
fn age(sidecar: &Sidecar, key: &str) -> f64 {
    let told: serde_json::Value =
        serde_json::from_str(&request(sidecar, "GET", &format!("/api/key?key={key}")).1).expect("JSON");
    told["age_ms"].as_f64().unwrap_or_else(|| panic!("{told}"))
}

/// The age is that of a record, and no clock can be set forward for it: so the expression of the rule is asked for
/// records of any age, and with HEARTHSIDE_STALE_MINUTES=5 the rule itself for those that are five minutes old.
#[test]
fn one_fires_when_hits_were_answered_from_old_records() {
    let minutes = setting("HEARTHSIDE_STALE_MINUTES", 0);
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = verifying(&redis, &postgres).start();
    let prometheus = Prometheus::over(&sidecar);
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 hp"), "$1\r\n1\r\n");
    postgres.sql("ALTER TABLE p DISABLE TRIGGER USER");
    while age(&sidecar, "p:1") < (minutes * 60_000) as f64 {
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let rule = RULES.split_once("alert: HearthsideStaleHits\n").expect("the rule").1;
    let expression = rule.split('\'').nth(1).expect("its expression");
    assert!(expression.contains("older_than_minutes=\"5\""), "{expression}");
    let of_age = expression.replace("\"5\"", &format!("\"{minutes}\""));
    assert!(prometheus.ask(&of_age).is_empty());
    prometheus.until_calm();
    postgres.sql("UPDATE p SET hp = 7 WHERE id = 1");
    until("it is found", || wire.ask("HGET p:1 hp") == "$1\r\n7\r\n");
    until("the expression holds", || !prometheus.ask(&of_age).is_empty());
    match minutes {
        5.. => prometheus.until_fires(&["HearthsideStaleHits"]),
        _ => assert!(!prometheus.firing().contains(&"HearthsideStaleHits".to_owned()), "it was younger"),
    }
}

#[test]
fn one_fires_when_a_trigger_fails() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = over(&redis, &postgres, MAPPINGS).set("STORE__SCHEMA_INTERVAL", "1h");
    let sidecar = builder.expect(&[warnings::TRIGGER_FAILED]).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 hp"), "$1\r\n1\r\n");
    postgres.sql("UPDATE p SET hp = 5 WHERE id = 1");
    until("its change is told", || wire.ask("HGET p:1 hp") == "$1\r\n5\r\n");
    prometheus.until_calm();
    postgres.sql("ALTER TABLE p RENAME COLUMN id TO sid");
    postgres.sql("UPDATE p SET hp = 6 WHERE sid = 1");
    prometheus.until_fires(&["HearthsideTriggerTrouble"]);
}

#[test]
fn one_fires_while_changes_come_late() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let proxy = Proxy::to(postgres.port);
    let builder = over(&redis, &postgres, MAPPINGS).set("STORE__FEED", "notify");
    let builder = builder.set("STORE__FEED_URL", postgres.url_at(proxy.port));
    let builder = builder.set("STORE__HEARTBEAT_INTERVAL", "100ms").set("STORE__HEARTBEAT_TIMEOUT", "20s");
    let sidecar = builder.start();
    let prometheus = Prometheus::over(&sidecar);
    let returned = "histogram_quantile(0.9, rate(hearthside_change_feed_seconds_bucket[5m])) < 0.5";
    until("heartbeats return at once", || !prometheus.ask(returned).is_empty());
    prometheus.until_calm();
    // Up to four seconds: of what is sent every tenth of a second more than a tenth takes longer than one.
    proxy.delay(4000);
    prometheus.until_fires(&["HearthsideChangeFeedSlow"]);
    proxy.delay(0);
}
