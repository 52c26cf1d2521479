//! What is asked of the admin port that may change something goes into the audit log, refused or not.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::{Admin, Which};
use crate::telemetry::audit::{AuditNote, Origin};

pub(super) async fn audited(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let audit = &admin.metrics.audit;
    if !audit.is_on() || [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
        return next.run(request).await;
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.to_string());
    let client = Origin { address: address.unwrap_or_default(), ..Origin::default() };
    let note = AuditNote::of_admin(audit, client, format!("{} {}", request.method(), request.uri().path()));
    let note = match Query::<Which>::try_from_uri(request.uri()) {
        Ok(which) => note.about_key(which.key.as_bytes()),
        Err(_) => note,
    };
    let response = next.run(request).await;
    match response.status() {
        status if status.is_success() => note.answered(b""),
        status if status.is_client_error() => note.refused().failed(status.as_str()),
        status => note.failed(status.as_str()),
    }
    response
}
