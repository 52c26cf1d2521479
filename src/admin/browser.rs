//! Protects the admin port from browsers: a foreign page can make a browser send requests here, and with a name that
//! leads to this machine (DNS rebinding) even read the answers. Operators' tools send none of the headers that are
//! looked at here.
//!
//! Sources: <https://www.w3.org/TR/fetch-metadata/>, <https://fetch.spec.whatwg.org/#origin-header>

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{Admin, audit};
use crate::telemetry::LogThrottle;
use crate::telemetry::refusals::shown;

/// Milliseconds between two log lines about refusals of one reason.
const QUIET: u64 = 60_000;

/// The names by which this port is known, and when a refusal was last logged, by reason.
#[derive(Debug)]
pub struct Names {
    hosts: Vec<String>,
    logged: [LogThrottle; 4],
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// A page from elsewhere sent it.
    Page,
    /// It asks for a host that this is not.
    Host,
    /// It does not show the token.
    Token,
    /// It comes from another machine, and there is no token to show.
    Elsewhere,
}

impl Names {
    /// `admin.hosts`, beside addresses, `localhost` and the name in `admin.listen`.
    #[must_use]
    pub fn new(hosts: &[String], listen: &str) -> Self {
        let hosts = hosts.iter().map(String::as_str).chain([host_of(listen)]).filter(|host| !host.is_empty());
        Self { hosts: hosts.map(str::to_ascii_lowercase).collect(), logged: [const { LogThrottle::every(QUIET) }; 4] }
    }

    fn know(&self, authority: &str) -> bool {
        let host = host_of(authority).trim_end_matches('.').to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        let is_address = bare.parse::<IpAddr>().is_ok();
        is_address || host == "localhost" || self.hosts.contains(&host)
    }

    /// A browser says of every request where it comes from, one way or the other.
    fn page(request: &Request) -> Option<Foreign> {
        let site = HeaderName::from_static("sec-fetch-site");
        let hosts = values(request, header::HOST);
        let ours = |origin: &str| {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some_and(|authority| hosts.iter().any(|host| host.eq_ignore_ascii_case(authority)))
        };
        let is_foreign = values(request, site).iter().any(|site| *site != "none" && *site != "same-origin")
            || values(request, header::ORIGIN).iter().any(|origin| !ours(origin));
        is_foreign.then_some(Foreign::Page)
    }

    /// A request without a host is not a browser's.
    fn host(&self, request: &Request) -> Option<Foreign> {
        let mut asked = values(request, header::HOST).into_iter().chain(request.uri().authority().map(|a| a.as_str()));
        (!asked.all(|host| self.know(host))).then_some(Foreign::Host)
    }

    pub(super) fn refuse(&self, admin: &Admin, why: Foreign, request: &Request) -> Response {
        let (reason, text, header) = match why {
            Foreign::Page => {
                ("origin", "a page of another origin may not ask this port (Origin, Sec-Fetch-Site)", header::ORIGIN)
            }
            Foreign::Host => (
                "host",
                "this port is not known by that Host; ask it by its address, or add the name to admin.hosts",
                header::HOST,
            ),
            Foreign::Token => ("token", "send 'Authorization: Bearer <text of admin.token_file>'", header::HOST),
            Foreign::Elsewhere => (
                "elsewhere",
                "from another machine only the probes and /metrics are answered until admin.token_file is set",
                header::HOST,
            ),
        };
        admin.metrics.admin.refused(reason);
        if let Some(unlogged) = self.logged[why as usize].due() {
            let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.to_string());
            let said = shown(values(request, header.clone()).join(", ").as_bytes());
            tracing::warn!(
                reason,
                peer,
                header = %header,
                said,
                unlogged,
                "the admin port refused a request: {text}; more of them are only counted for a minute"
            );
        }
        let status = if why == Foreign::Token { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        audit::refused(admin, request, status.as_u16());
        (status, format!("{text}\n")).into_response()
    }
}

/// Whether it comes from a loopback address: of this machine, or of this container or pod.
pub(super) fn is_from_here(request: &Request) -> bool {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.is_some_and(|peer| peer.0.ip().to_canonical().is_loopback())
}

/// The values of a header; one that is no text is foreign to everything.
fn values(request: &Request, name: HeaderName) -> Vec<&str> {
    request.headers().get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect()
}

/// `host:port` without the port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Lets a request through that no page of another origin sent.
pub(super) async fn same_origin(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    match Names::page(&request) {
        Some(why) => admin.names.refuse(&admin, why, &request),
        None => next.run(request).await,
    }
}

/// Lets a request through that asks for a host that this port is known by.
pub(super) async fn known_host(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    match admin.names.host(&request) {
        Some(why) => admin.names.refuse(&admin, why, &request),
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;

    use super::{Foreign, Names};

    fn verdict(headers: &[(&str, &str)]) -> Option<Foreign> {
        let names = Names::new(&["Sidecar.internal".to_owned()], "metrics:9180");
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        Names::page(&request).or_else(|| names.host(&request))
    }

    #[test]
    fn a_request_is_ours_or_foreign() {
        for host in [
            "127.0.0.1:9180",
            "10.1.2.3:9180",
            "10.1.2.3",
            "[::1]:9180",
            "[fe80::1]",
            "localhost:9180",
            "LOCALHOST",
            "localhost.:80",
            "sidecar.internal:9180",
            "metrics",
        ] {
            assert_eq!(verdict(&[("Host", host)]), None, "{host}");
        }
        for host in
            ["other.example", "other.example:9180", "localhost.other.example", "127.0.0.1.other.example", "", "[::1"]
        {
            assert_eq!(verdict(&[("Host", host)]), Some(Foreign::Host), "{host}");
        }
        assert_eq!(verdict(&[]), None, "no browser leaves it out");
        for (name, value, expected) in [
            ("Origin", "http://other.example", Some(Foreign::Page)),
            ("Origin", "null", Some(Foreign::Page)),
            ("Origin", "http://localhost:8080", Some(Foreign::Page)),
            ("Origin", "http://localhost:9180", None),
            ("Sec-Fetch-Site", "cross-site", Some(Foreign::Page)),
            ("Sec-Fetch-Site", "same-site", Some(Foreign::Page)),
            ("Sec-Fetch-Site", "same-origin", None),
            ("Sec-Fetch-Site", "none", None),
        ] {
            assert_eq!(verdict(&[("Host", "localhost:9180"), (name, value)]), expected, "{name}: {value}");
        }
        let two = [("Host", "localhost"), ("Host", "other.example")];
        assert_eq!(verdict(&two), Some(Foreign::Host));
    }
}
