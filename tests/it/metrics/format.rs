//! What a scraper is sent, in the format that it asks for.

use super::{MAPPINGS, over};
use crate::support::admin::{metric, request, request_with};
use crate::support::postgres::Postgres;
use crate::support::prometheus::promtool;
use crate::support::redis::Redis;

#[test]
fn promtool_has_nothing_to_complain_of() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = over(&redis, &postgres, MAPPINGS).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("CLIENT SETNAME a\"b\\c"), "+OK\r\n");
    for command in ["HGET p:1 hp", "HGET p:1 hp", "HSET p:1 hp 5", "HSET p:1 seen 5", "GET n:1", "SET a 1", "GET n:7"] {
        wire.ask(command);
    }
    let (status, shown) = request(&sidecar, "GET", "/metrics");
    assert_eq!(status, 200);
    let told = promtool("/", &["check", "metrics"], &shown);
    let complaints = String::from_utf8_lossy(&told.stdout) + String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success() && complaints.is_empty(), "{complaints}\n{shown}");
}

#[test]
fn the_format_is_the_one_that_is_asked_for() {
    let redis = Redis::start();
    let sidecar = crate::support::sidecar::Sidecar::builder().redis(&redis).start();
    let asked = |accept: &str| request_with(&sidecar, "GET", "/metrics", accept).1;
    for plain in ["", "Accept: */*\r\n", "Accept: text/plain\r\n"] {
        let shown = asked(plain);
        assert!(shown.contains("# TYPE hearthside_clients_accepted_total counter\n"), "{plain}{shown}");
        assert!(!shown.contains("# EOF"), "{plain}");
    }
    let shown = asked("Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n");
    assert!(shown.contains("# TYPE hearthside_clients_accepted counter\n") && shown.ends_with("\n# EOF\n"), "{shown}");
    assert!(metric(&sidecar, "hearthside_build_info") == 1.0 && metric(&sidecar, "process_open_fds") > 5.0);
    assert!(
        metric(&sidecar, "process_resident_memory_bytes") > 1e6 && metric(&sidecar, "process_start_time_seconds") > 1e9
    );
}
