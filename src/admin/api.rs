//! What an operator may look at, as JSON: the same facts under the same names as HEARTHSIDE answers over the Redis
//! port.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::{Admin, Which, starting};
use crate::inspect::{Sight, Subject, Top, event_facts};

/// What is only looked at.
pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/api/status", get(status))
        .route("/api/mappings", get(mappings))
        .route("/api/modes", get(modes))
        .route("/api/key", get(key))
        .route("/api/top", get(top))
        .route("/api/slowlog", get(slowlog))
        .route("/api/clients", get(clients))
        .route("/api/events", get(events))
        .route("/api/history", get(history))
}

/// What the one who asks may do.
#[derive(Serialize)]
struct Rights {
    /// Whether there is a token, without which nothing else answers.
    asked: bool,
    /// Whether it has been shown, so that keys are named and something can be changed.
    token: bool,
}

/// `GET /api/rights`: who shows no token learns whether there is one.
pub(super) async fn rights(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let asked = admin.token.is_some();
    json(&Rights { asked, token: asked && headers.contains_key(header::AUTHORIZATION) })
}

/// The facts that `look` finds, once clients are served.
fn facts<T: Serialize>(admin: &Admin, look: impl FnOnce(&Subject) -> T) -> Response {
    admin.readiness.subject().map_or_else(starting, |subject| json(&look(&subject)))
}

pub(super) fn json(facts: &impl Serialize) -> Response {
    match serde_json::to_string(facts) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// `GET /api/status`
async fn status(State(admin): State<Admin>) -> Response {
    facts(&admin, Subject::status)
}

/// `GET /api/modes`
async fn modes(State(admin): State<Admin>) -> Response {
    facts(&admin, Subject::modes)
}

/// `GET /api/mappings`
async fn mappings(State(admin): State<Admin>) -> Response {
    facts(&admin, Subject::mapping_facts)
}

#[derive(Deserialize)]
struct Planned {
    /// Given, with any text or none: the store is asked for its plan.
    plan: Option<String>,
}

/// `GET /api/key?key=<key>[&plan]`
async fn key(State(admin): State<Admin>, which: Which, Query(planned): Query<Planned>) -> Response {
    let (key, subject) = (&which.key[..], admin.readiness.subject());
    match (subject, planned.plan) {
        (None, _) => starting(),
        (Some(subject), None) => json(&subject.explain_sides(key).await),
        (Some(subject), Some(_)) => match subject.explain_with_plan(key).await {
            Ok(explanation) => json(&explanation),
            Err(why) => {
                (StatusCode::CONFLICT, format!("there is no plan of the store to show: {why}\n")).into_response()
            }
        },
    }
}

#[derive(Deserialize)]
struct Ordered {
    by: Option<String>,
}

/// What was asked for by others is for those who have shown the token; without one nobody has.
fn sight(admin: &Admin) -> Sight {
    if admin.token.is_some() { Sight::Keys } else { Sight::Mappings }
}

/// `GET /api/top[?by=reads|misses|invalidations|bytes|clients]`
async fn top(State(admin): State<Admin>, Query(ordered): Query<Ordered>) -> Response {
    let sight = sight(&admin);
    match Top::named(ordered.by.as_deref().unwrap_or("reads").as_bytes()) {
        Some(top) => facts(&admin, |subject| subject.top(top, sight)),
        None => {
            let text = "by: write reads, misses, invalidations, bytes or clients\n";
            (StatusCode::BAD_REQUEST, text).into_response()
        }
    }
}

/// `GET /api/candidates`
pub(super) async fn candidates(State(admin): State<Admin>) -> Response {
    facts(&admin, Subject::candidates)
}

/// `GET /api/slowlog`
async fn slowlog(State(admin): State<Admin>) -> Response {
    facts(&admin, |subject| subject.slow(usize::MAX, sight(&admin)))
}

/// `GET /api/clients`
async fn clients(State(admin): State<Admin>) -> Response {
    facts(&admin, Subject::connected)
}

#[derive(Deserialize)]
struct Since {
    after: Option<i64>,
}

/// `GET /api/history[?after=<at_ms>]`
async fn history(State(admin): State<Admin>, Query(since): Query<Since>) -> Response {
    json(&admin.history.after(since.after.unwrap_or(i64::MIN)))
}

/// `GET /api/events`, from the first moment on.
async fn events() -> Response {
    json(&event_facts())
}
