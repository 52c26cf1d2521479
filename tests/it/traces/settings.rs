//! Traces are off unless a collector is named, and a reload changes that.

use super::{CONFIG, without_collector};
use crate::operations::reload::reload;
use crate::support::admin::metric;
use crate::support::collector::Collector;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

#[test]
fn a_reload_turns_them_on_and_off_and_before_there_is_no_connection() {
    let (redis, postgres, collector, other) =
        (Redis::start(), Postgres::start(), Collector::start(), Collector::start());
    let sidecar = without_collector(&redis, &postgres).expect(&[warnings::FAULTY_RELOAD]).start();
    let mut wire = sidecar.wire();
    wire.ask("GET a");
    let on = |collector: &Collector, service: &str| {
        let url = collector.url();
        format!("[traces]\nendpoint = \"{url}\"\nsample = 1.0\nservice = \"{service}\"\n{CONFIG}")
    };
    reload(&sidecar, &format!("[traces]\nendpoint = \"ftp://c\"\n{CONFIG}"));
    assert_eq!((collector.connections(), metric(&sidecar, "hearthside_spans_exported_total")), (0, 0.0));
    reload(&sidecar, &on(&collector, "shop-cache"));
    wire.ask("GET a");
    collector.wait_for(1, "GET");
    assert_eq!(collector.resource("service.name"), "shop-cache");
    assert_eq!(collector.resource("service.version"), env!("CARGO_PKG_VERSION"));
    reload(&sidecar, &on(&other, "shop-cache"));
    wire.ask("STRLEN a");
    other.wait_for(1, "STRLEN");
    reload(&sidecar, CONFIG);
    assert_eq!(collector.resource("service.instance.id"), other.resource("service.instance.id"), "it is one process");
    let (requests, exported) = (other.requests(), metric(&sidecar, "hearthside_spans_exported_total"));
    (0..100).for_each(|_| _ = wire.ask("GET a"));
    reload(&sidecar, &on(&collector, "again"));
    wire.ask("APPEND a b");
    collector.wait_for(1, "APPEND");
    until("it is counted", || metric(&sidecar, "hearthside_spans_exported_total") > exported);
    assert_eq!((other.requests(), collector.roots("GET").len()), (requests, 1));
}

#[test]
fn what_is_no_collector_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").expect("written");
    for (name, value, told) in [
        ("TRACES__ENDPOINT", "collector:4317", "traces.endpoint: must begin with http:// or https://"),
        ("TRACES__ENDPOINT", "http://user:secret@c", "traces.endpoint: must not hold a password"),
        ("TRACES__SAMPLE", "1.5", "traces.sample: must be between 0"),
        ("TRACES__SAMPLE", "often", "traces.sample"),
        ("TRACES__SLOWER_THAN", "soon", "traces.slower_than"),
        ("TRACES__SERVICE", " ", "traces.service: must not be empty"),
        ("TRACES__CA_FILE", empty.to_str().expect("text"), "has no certificate in PEM form"),
    ] {
        let builder = Sidecar::builder();
        let builder =
            if name == "TRACES__ENDPOINT" { builder } else { builder.set("TRACES__ENDPOINT", "https://c:4318") };
        let refused = builder.set(name, value).execute(&["check"]);
        let text = format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
        assert!(!refused.status.success() && text.contains(told) && !text.contains("secret"), "{name}={value}: {text}");
    }
}

#[test]
fn headers_that_go_over_a_network_in_clear_are_a_doubt_and_are_not_told() {
    let in_clear = "go to it over http://, and whoever stands between can read them";
    for (endpoint, variable, is_told) in [
        ("http://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS", true),
        ("http://collector:4318", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", true),
        ("http://collector:4318", "OTHER", false),
        ("https://collector:4318", "OTEL_EXPORTER_OTLP_HEADERS", false),
        ("http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS", false),
    ] {
        let builder = Sidecar::builder().set("TRACES__ENDPOINT", endpoint);
        let checked = builder.environment(variable, "authorization=Bearer%20topsecret").execute(&["check"]);
        let text = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
        assert!(checked.status.success(), "{text}");
        assert!(text.contains(in_clear) == is_told && !text.contains("topsecret"), "{endpoint} {variable}: {text}");
    }
}
