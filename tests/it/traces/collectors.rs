//! A collector that is away, slow or hangs holds nobody up, and memory does not grow for it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;

use super::builder;
use crate::support::admin::metric;
use crate::support::certificates::Authority;
use crate::support::collector::Collector;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Wire, line};
use crate::support::{free_port, until, warnings};

fn exported(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_spans_exported_total")
}

fn dropped(sidecar: &Sidecar, reason: &str) -> f64 {
    metric(sidecar, &format!("hearthside_spans_dropped_total{{reason=\"{reason}\"}}"))
}

fn ask(wire: &mut Wire, count: usize) {
    wire.send(&line("GET a").repeat(count));
    (0..count).for_each(|_| assert_eq!(wire.frame(), b"$-1\r\n"));
}

/// How often its log has such a line.
fn logged(sidecar: &Sidecar, text: &str) -> usize {
    sidecar.log().lines().filter(|line| line.contains(text)).count()
}

const AWAY: &str = "the collector of traces takes no spans";
const BACK: &str = "the collector of traces takes spans again";

#[test]
fn a_collector_that_is_away_is_told_once_and_so_is_its_return() {
    let (redis, postgres, port) = (Redis::start(), Postgres::start(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let nobody = Collector::start();
    let builder = builder(&redis, &postgres, &nobody).set("TRACES__ENDPOINT", url);
    let sidecar = builder.expect(&[warnings::COLLECTOR_AWAY]).start();
    let mut wire = sidecar.wire();
    ask(&mut wire, 1);
    until("its spans are lost", || dropped(&sidecar, "collector") > 0.0);
    let before = dropped(&sidecar, "collector");
    ask(&mut wire, 1);
    until("the next ones, too", || dropped(&sidecar, "collector") > before);
    let collector = Collector::at(port);
    until("it is back", || {
        ask(&mut wire, 1);
        exported(&sidecar) > 0.0
    });
    assert_eq!((logged(&sidecar, AWAY), logged(&sidecar, BACK)), (1, 1));
    assert!(!collector.roots("GET").is_empty());
    collector.refuse(true);
    let before = dropped(&sidecar, "collector");
    ask(&mut wire, 1);
    until("it takes none", || dropped(&sidecar, "collector") > before);
    assert_eq!(logged(&sidecar, AWAY), 2);
    assert!(sidecar.log().contains("503"), "{}", sidecar.log());
    assert_eq!(nobody.connections(), 0);
}

#[test]
fn a_collector_that_hangs_delays_nobody_and_what_is_too_much_is_lost() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = builder(&redis, &postgres, &collector).start();
    let mut wire = sidecar.wire();
    collector.hang(true);
    ask(&mut wire, 1);
    until("it has a request", || collector.requests() > 0);
    // It has one span, the others two, of which so many may wait: for the last of them there is half of the room.
    assert_eq!(wire.ask("PING"), "+PONG\r\n");
    (0..40).for_each(|_| ask(&mut wire, 100));
    assert!(dropped(&sidecar, "queue") >= 3000.0, "{}", dropped(&sidecar, "queue"));
    collector.hang(false);
    until("what waited is there", || exported(&sidecar) >= 4095.0);
    assert_eq!(dropped(&sidecar, "collector"), 0.0);
    let spans = collector.spans();
    let there: HashSet<&[u8]> = spans.iter().map(|span| &span.span_id[..]).collect();
    let is_below_one = |span: &&Span| !span.parent_span_id.is_empty() && !there.contains(&span.parent_span_id[..]);
    assert_eq!(spans.iter().filter(is_below_one).count(), 0, "no span is without the one above it");
    assert_eq!(collector.roots("GET").len() * 2 + 1, spans.len(), "and none without those below it");
}

#[test]
fn a_collector_that_takes_nothing_is_left_alone_for_as_long_as_it_asks() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = builder(&redis, &postgres, &collector).expect(&[warnings::COLLECTOR_AWAY]).start();
    let mut wire = sidecar.wire();
    collector.refuse_with(Some("429 Too Many Requests\r\nretry-after: 3\r\n"));
    ask(&mut wire, 1);
    until("it has refused", || collector.requests() == 1);
    let refused = Instant::now();
    // So many would be more than ten requests.
    (0..60).for_each(|_| ask(&mut wire, 100));
    assert!(dropped(&sidecar, "queue") > 0.0);
    until("it is asked again", || collector.requests() > 1);
    assert!(refused.elapsed() > Duration::from_millis(2500), "{:?}", refused.elapsed());
    collector.refuse(false);
    until("what waited is there", || exported(&sidecar) >= 3500.0);
}

#[test]
fn spans_that_a_collector_refuses_among_others_are_no_exported_ones() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let sidecar = builder(&redis, &postgres, &collector).expect(&[warnings::COLLECTOR_REFUSES_SOME]).start();
    let mut wire = sidecar.wire();
    collector.refuse_some(1, "too large");
    for round in 1..=2 {
        ask(&mut wire, 1);
        until("one is refused", || dropped(&sidecar, "collector") == f64::from(round));
        assert_eq!(exported(&sidecar), f64::from(round), "and the other one taken");
    }
    assert_eq!(logged(&sidecar, "rejected=1 why=\"too large\""), 1, "{}", sidecar.log());
}

#[test]
fn a_collector_may_speak_tls_and_its_certificate_is_verified() {
    let (redis, postgres, folder) = (Redis::start(), Postgres::start(), tempfile::tempdir().expect("a folder"));
    let (known, unknown) = (Authority::new(folder.path(), "known"), Authority::new(folder.path(), "unknown"));
    let collector = Collector::start_with_tls(&known.sign(folder.path(), "collector"));
    let url = format!("https://localhost:{}", collector.port);
    let mut sidecar = builder(&redis, &postgres, &collector)
        .set("TRACES__ENDPOINT", url.clone())
        .set("TRACES__CA_FILE", known.file.clone())
        .start();
    ask(&mut sidecar.wire(), 1);
    collector.wait_for(1, "GET");
    assert_eq!(sidecar.stop(), Some(0));
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .set("TRACES__ENDPOINT", url)
        .set("TRACES__SAMPLE", "1")
        .set("TRACES__CA_FILE", unknown.file)
        .expect(&[warnings::COLLECTOR_AWAY])
        .start();
    ask(&mut sidecar.wire(), 1);
    until("its certificate is refused", || dropped(&sidecar, "collector") > 0.0);
    assert!(sidecar.log().contains("UnknownIssuer"), "{}", sidecar.log());
}

#[test]
fn the_end_of_the_process_waits_for_a_collector_and_not_for_long() {
    let (redis, postgres, collector) = (Redis::start(), Postgres::start(), Collector::start());
    let mut sidecar = builder(&redis, &postgres, &collector).start();
    ask(&mut sidecar.wire(), 300);
    assert_eq!(sidecar.stop(), Some(0));
    assert_eq!(collector.roots("GET").len(), 300);
    let mut sidecar =
        Sidecar::builder().redis(&redis).set("TRACES__ENDPOINT", collector.url()).set("TRACES__SAMPLE", "1").start();
    collector.hang(true);
    ask(&mut sidecar.wire(), 1);
    assert_eq!(sidecar.stop(), Some(0));
    assert!(sidecar.log().contains("did not take the last spans in time"), "{}", sidecar.log());
    collector.hang(false);
}
