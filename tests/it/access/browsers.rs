//! The admin port against browsers that were made to ask it.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;

/// Status and body of a request with these header lines, and none of ours.
fn asked(sidecar: &Sidecar, request: &str, headers: &str) -> (u16, String) {
    let port = sidecar.logged_port("admin port").expect("an admin port");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    write!(stream, "{request} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: 0\r\n\r\n").expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a response");
    (head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status"), body.to_owned())
}

const REQUESTS: [&str; 3] = ["POST /invalidate?key=*", "POST /reload", "GET /metrics"];

#[test]
fn a_page_from_elsewhere_is_refused() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).expect(&[warnings::ADMIN_REFUSED]).start();
    let mut wire = sidecar.wire();
    wire.ask("HGETALL player:1:session");
    until("the cache is measured", || metric(&sidecar, "hearthside_cache_entries") == 1.0);
    let loaded = || metric(&sidecar, "hearthside_reloads_total{outcome=\"ok\"}");
    let before = loaded();
    let foreign = [
        "Host: 127.0.0.1:9180\r\nOrigin: http://other.example\r\nContent-Type: text/plain\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: localhost\r\nSec-Fetch-Site: same-site\r\n",
        "Host: other.example\r\nOrigin: http://other.example\r\nSec-Fetch-Site: same-origin\r\n",
    ];
    for headers in foreign {
        for request in REQUESTS {
            let (status, text) = asked(&sidecar, request, headers);
            let why = if headers.contains("Host: other.example") { "admin.hosts" } else { "Origin" };
            assert!(status == 403 && text.contains(why), "{request} {headers}: {status} {text}");
        }
    }
    assert_eq!(asked(&sidecar, "OPTIONS /reload", foreign[0]).0, 403, "nor may a page ask whether it may ask");
    assert_eq!(asked(&sidecar, "GET /readyz", foreign[0]).0, 403);
    assert_eq!(asked(&sidecar, "GET /readyz", foreign[2]).0, 403);
    assert_eq!(metric(&sidecar, "hearthside_cache_entries"), 1.0, "nothing was forgotten");
    assert_eq!(loaded(), before, "nor loaded");
    assert_eq!(metric(&sidecar, "hearthside_admin_refused_total{reason=\"origin\"}"), 15.0);
    assert_eq!(metric(&sidecar, "hearthside_admin_refused_total{reason=\"host\"}"), 3.0);
    let log = sidecar.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("the admin port refused a request")).collect();
    assert_eq!(said.len(), 2, "each reason is told once a minute: {said:#?}");
    for (line, reason, what) in [(said[0], "origin", "http://other.example"), (said[1], "host", "other.example")] {
        assert!(line.contains(&format!("reason=\"{reason}\"")) && line.contains("peer=\"127.0.0.1:"), "{line}");
        assert!(line.contains(&format!("said=\"{what}\"")), "{line}");
    }
}

#[test]
fn tools_and_probes_come_in_by_address_and_by_names_that_are_configured() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .set("ADMIN__HOSTS", "sidecar.internal,metrics")
        .expect(&[warnings::ADMIN_REFUSED])
        .start();
    for host in ["10.2.3.4:9180", "[::1]:9180", "localhost:9180", "Sidecar.Internal:9180", "metrics"] {
        for request in REQUESTS {
            assert_eq!(asked(&sidecar, request, &format!("Host: {host}\r\n")).0, 200, "{request} {host}");
        }
    }
    let own = "Host: 127.0.0.1:9180\r\nOrigin: http://127.0.0.1:9180\r\nSec-Fetch-Site: same-origin\r\n";
    assert_eq!(asked(&sidecar, "POST /reload", own).0, 200, "a page of its own may ask");
    assert_eq!(
        asked(&sidecar, "GET /metrics", "Host: localhost\r\nSec-Fetch-Site: none\r\n").0,
        200,
        "typed by somebody"
    );
    // Whoever probes may call it as they like.
    for probe in ["GET /livez", "GET /readyz"] {
        assert_eq!(asked(&sidecar, probe, "Host: some-service.some-namespace.svc\r\n").0, 200, "{probe}");
    }
    let (status, text) = asked(&sidecar, "GET /metrics", "Host: some-service\r\n");
    assert!(status == 403 && text.contains("admin.hosts"), "{text}");
    let faulty = Sidecar::builder().set("ADMIN__HOSTS", "http://metrics:9180").execute(&["check"]);
    let told = String::from_utf8_lossy(&faulty.stderr).into_owned();
    assert!(faulty.status.code() == Some(2) && told.contains("admin.hosts: are names"), "{told}");
}
