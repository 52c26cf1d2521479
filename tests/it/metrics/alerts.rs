//! The alert rules of `deploy/prometheus`: right by themselves, and about metrics that there are.

use super::{MAPPINGS, NEAR, names, over};
use crate::structure::texts::read;
use crate::support::postgres::Postgres;
use crate::support::prometheus::{Prometheus, RULES, promtool};
use crate::support::redis::Redis;
use crate::support::until;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus");

/// What stands behind `field` in each rule.
fn fields(field: &str) -> Vec<&'static str> {
    RULES.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(field)).map(str::trim).collect()
}

#[test]
fn the_rules_are_well_formed_and_each_fires_in_its_test() {
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]] {
        let told = promtool(FOLDER, &arguments, "");
        let said = String::from_utf8_lossy(&told.stdout) + String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "{said}");
    }
    let (tests, alerts) = (read("deploy/prometheus/alerts_test.yaml"), fields("alert:"));
    assert!(alerts.len() > 20);
    for alert in &alerts {
        let (_, its) = tests.split_once(&format!("- name: {alert}\n")).unwrap_or_else(|| panic!("{alert} has no test"));
        let its = its.split("- name: ").next().unwrap_or_default();
        assert!(its.contains("exp_alerts:") && its.contains(&format!("alertname: {alert}\n")), "{alert}");
    }
}

#[test]
fn each_alert_fires_in_a_test_that_makes_its_fault() {
    let files = ["changes", "faults", "journal", "protection"];
    let tests: String = files.map(|file| read(&format!("tests/it/metrics/{file}.rs"))).concat();
    for alert in fields("alert:") {
        assert!(tests.contains(&format!("\"{alert}\"")), "no test makes {alert} fire against a real fault");
    }
}

#[test]
fn each_alert_leads_to_its_section() {
    let (book, alerts, runbooks) = (read("docs/OPERATIONS.md"), fields("alert:"), fields("runbook:"));
    let leads: Vec<String> =
        alerts.iter().map(|alert| format!("docs/OPERATIONS.md#{}", alert.to_ascii_lowercase())).collect();
    assert_eq!(runbooks, leads);
    let sections: Vec<&str> = book.lines().filter_map(|line| line.strip_prefix("#### Hearthside")).collect();
    let named: Vec<&str> = alerts.iter().filter_map(|alert| alert.strip_prefix("Hearthside")).collect();
    assert_eq!(sections, named, "docs/OPERATIONS.md has the alerts in the order of alerts.yaml");
}

#[test]
fn a_prometheus_finds_every_metric_that_an_alert_names() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, &[MAPPINGS, NEAR].concat()).start();
    let prometheus = Prometheus::over(&sidecar);
    prometheus.until_calm();
    let expressions = fields("expr:");
    for name in expressions.iter().flat_map(|expression| names(expression)) {
        until(name, || !prometheus.ask(name).is_empty());
    }
    assert_eq!(prometheus.firing(), [""; 0]);
}
