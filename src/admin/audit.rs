//! What is asked of the admin port that may change something goes into the audit log: each act of those who may act,
//! and now and then a line about those who may not, who can be anybody and ask as often as they like.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::{Admin, Which};
use crate::telemetry::audit::{AuditNote, Origin};
use crate::telemetry::{LogThrottle, cut};

/// A longer method is none; its beginning stands in the line.
const LONGEST_METHOD: usize = 64;

/// Milliseconds between two lines about requests that were refused.
const QUIET: u64 = 60_000;

/// When a line last told of refused requests.
static REFUSALS: LogThrottle = LogThrottle::every(QUIET);

fn only_looks(request: &Request) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method())
}

fn note(admin: &Admin, request: &Request) -> AuditNote {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.to_string());
    let client = Origin { address: address.unwrap_or_default(), ..Origin::default() };
    let method = request.method().as_str();
    let asked = format!("{} {}", cut(method, LONGEST_METHOD), request.uri().path());
    let note = AuditNote::of_admin(&admin.metrics.audit, client, asked);
    match Which::of(request.uri()) {
        Some(which) => note.about_key(&which.key),
        None => note,
    }
}

/// Notes what is done for somebody who may have it done.
pub(super) async fn audited(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if !admin.metrics.audit.is_on() || only_looks(&request) {
        return next.run(request).await;
    }
    let note = note(&admin, &request);
    let response = next.run(request).await;
    match response.status() {
        status if status.is_success() => note.answered(b""),
        status if status.is_client_error() => note.refused().failed(status.as_str()),
        status => note.failed(status.as_str()),
    }
    response
}

/// Notes a request of somebody who may not have it done, with the number of those of whom nothing was noted.
pub(super) fn refused(admin: &Admin, request: &Request, status: u16) {
    if !admin.metrics.audit.is_on() || only_looks(request) {
        return;
    }
    match REFUSALS.due() {
        None => {}
        Some(0) => note(admin, request).failed(&status.to_string()),
        Some(more) => note(admin, request).failed(&format!("{status}; {more} more since the last line of refusals")),
    }
}
