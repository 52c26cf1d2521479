//! What an operator may look at, as JSON: the same facts under the same names as HEARTHSIDE answers over the Redis
//! port.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Admin, starting};
use crate::inspect::Subject;

/// The facts that `look` finds, once clients are served.
fn facts<T: Serialize>(admin: &Admin, look: impl FnOnce(&Subject) -> T) -> Response {
    admin.readiness.subject().map_or_else(starting, |subject| json(&look(&subject)))
}

fn json(facts: &impl Serialize) -> Response {
    match serde_json::to_string(facts) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// `GET /api/status`
pub(super) async fn status(State(admin): State<Admin>) -> Response {
    facts(&admin, Subject::status)
}

/// `GET /api/mappings`
pub(super) async fn mappings(State(admin): State<Admin>) -> Response {
    facts(&admin, Subject::mapping_facts)
}
