//! Spans of commands for a cluster: which node was asked, and which one answered.

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::support::clusters::Cluster;
use crate::support::collector::{Collector, attribute};
use crate::support::nodes::slot_of;
use crate::support::redis::SERVERS;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::line;

#[test]
fn a_command_that_a_node_sends_elsewhere_shows_the_node_that_answered_too() {
    let (cluster, collector) = (Cluster::with(SERVERS[0], 0, &[]), Collector::start());
    let sidecar = Sidecar::builder()
        .set("UPSTREAM__URL", cluster.url())
        .set("TRACES__ENDPOINT", collector.url())
        .set("TRACES__SAMPLE", "1")
        .set("TRACES__SLOWER_THAN", "0s")
        .expect(warnings::UPSTREAM_AWAY)
        .start();
    let mut wire = sidecar.wire();
    let masters = cluster.masters();
    let key = cluster.key_of(masters[0]);
    let (stays, goes) = (format!("{{{key}}}stays"), format!("{{{key}}}goes"));
    assert_eq!(wire.ask(&format!("MSET {stays} 1 {goes} 2")), "+OK\r\n");
    let on = cluster.begin_move(slot_of(&key), masters[1]);
    assert!(cluster.carry(on, &[&goes]));
    assert_eq!(wire.ask(&format!("GET {goes}")), "$1\r\n2\r\n");
    let ports = |name: &str, below: &str| -> Vec<String> {
        let root = collector.wait_for(1, name).pop().expect("one");
        let spans = collector.spans();
        let is_its = |span: &&Span| span_is_below(span, &root, below);
        spans.iter().filter(is_its).map(|span| attribute(span, "server.port")).collect()
    };
    let mut asked = ports("GET", "upstream GET");
    asked.sort();
    let mut both = [masters[0].to_string(), masters[1].to_string()];
    both.sort();
    assert_eq!(asked, both);
    wire.send(
        &[line(&format!("STRLEN {stays}")), line(&format!("STRLEN {goes}")), line(&format!("TTL {stays}"))].concat(),
    );
    (0..3).for_each(|_| drop(wire.frame()));
    // The owner may be asked once more before: what it said may be old.
    assert!(ports("TTL", "upstream redirected").contains(&masters[1].to_string()));
    cluster.finish_move(on);
}

fn span_is_below(span: &Span, root: &Span, name: &str) -> bool {
    span.name == name && span.trace_id == root.trace_id && span.parent_span_id == root.span_id
}
