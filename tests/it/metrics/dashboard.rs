//! The dashboard of `deploy/grafana`: each of its expressions is asked of a real Prometheus.

use serde_json::Value;

use super::{MAPPINGS, over};
use crate::structure::texts::read;
use crate::support::postgres::Postgres;
use crate::support::prometheus::Prometheus;
use crate::support::redis::Redis;
use crate::support::until;

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn a_prometheus_answers_every_expression_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/hearthside.json")).expect("JSON");
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, &format!("{MAPPINGS}[[near]]\nkeys = \"cfg:*\"\n")).start();
    let mut wire = sidecar.wire();
    for command in ["HGET p:1 hp", "HGET p:1 hp", "HSET p:1 hp 5", "HSET p:1 seen 5", "SET a 1", "GET a"] {
        assert!(!wire.ask(command).starts_with('-'), "{command}");
    }
    let prometheus = Prometheus::over(&sidecar);
    let (mut expressions, mut descriptions) = (0, Vec::new());
    for panel in list(&dashboard, "panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in list(panel, "targets") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("an expression");
            let asked =
                expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$mapping", ".*");
            assert!(!asked.contains('$'), "{title}: {asked}");
            until(&asked, || !prometheus.ask(&asked).is_empty());
            expressions += 1;
        }
        descriptions.push(title);
    }
    assert!(expressions > 50 && descriptions.len() > 40);
    for variable in list(&dashboard["templating"], "list").iter().filter(|variable| variable["type"] == "query") {
        let query = variable["query"]["query"].as_str().expect("a query");
        let (series, label) =
            query.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(", ")).expect("both");
        let (series, label) = (series.replace("$instance", ".*"), label.trim_end_matches(')'));
        let found = prometheus.ask(&series);
        assert!(found.iter().any(|one| one["metric"][label].is_string()), "{query}");
    }
}
