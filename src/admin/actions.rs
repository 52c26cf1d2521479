//! What the console does: forgets keys, reads again, pauses and resumes, makes triggers. It is for a token alone.

use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::{Admin, api, audit, compare, draft, invalidate, reload, starting};
use crate::dispatch::{Which, mode_named};
use crate::errors;
use crate::upstream::LONGEST_PAUSE;

/// How long commands are held back where nobody says it.
const PAUSE: u64 = 30_000;

/// How long one attempt to make a trigger waits for a table's lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the console does, and what it shows of values: for nobody where there is no token that could be shown.
pub(super) fn routes(admin: &Admin) -> Router<Admin> {
    Router::new()
        .route("/api/forget", post(invalidate))
        .route("/api/reload", post(reload))
        .route("/api/pause", post(pause))
        .route("/api/resume", post(resume))
        .route("/api/mode", post(mode))
        .route("/api/triggers", post(triggers))
        .route("/api/compare", post(compare::compare))
        .route("/api/candidates", get(api::candidates))
        .route("/api/tables", get(draft::tables))
        .route("/api/draft", post(draft::draft))
        .route_layer(middleware::from_fn_with_state(admin.clone(), audit::audited))
        .route_layer(middleware::from_fn_with_state(admin.clone(), has_token))
}

/// Lets a request through where `admin.token_file` is set: whoever asks has shown the token then.
async fn has_token(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    if admin.token.is_some() {
        return next.run(request).await;
    }
    audit::refused(&admin, &request, StatusCode::FORBIDDEN.as_u16());
    let text = "set admin.token_file: what changes something, or shows what keys hold, is for a token alone\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

#[derive(Deserialize)]
struct Length {
    ms: Option<u64>,
}

/// `POST /api/pause[?ms=<milliseconds>]` answers when nothing is under way on a lane any more, as HEARTHSIDE PAUSE.
async fn pause(State(admin): State<Admin>, Query(length): Query<Length>) -> Response {
    let Some(subject) = admin.readiness.subject() else { return starting() };
    let most = Duration::from_millis(length.ms.unwrap_or(PAUSE));
    if most.is_zero() || most > LONGEST_PAUSE {
        let text = format!("ms: from 1 to {}, an hour\n", LONGEST_PAUSE.as_millis());
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let endpoint = subject.upstream.clone();
    let patience = endpoint.settings.queue_timeout;
    let quiet = endpoint.pause(most);
    match tokio::time::timeout(patience, quiet).await {
        Ok(()) => "paused\n".into_response(),
        Err(_) => plain(StatusCode::CONFLICT, errors::hearthside::NOT_QUIET),
    }
}

/// `POST /api/resume`
async fn resume(State(admin): State<Admin>) -> Response {
    let Some(subject) = admin.readiness.subject() else { return starting() };
    subject.upstream.resume();
    "resumed\n".into_response()
}

#[derive(Deserialize)]
struct Wanted {
    mapping: String,
    mode: String,
    percent: Option<String>,
}

/// `POST /api/mode?mapping=<key pattern, or ALL>&mode=<mode>[&percent=<percent>]` answers when that mode is in force,
/// as HEARTHSIDE MODE.
async fn mode(State(admin): State<Admin>, Query(wanted): Query<Wanted>) -> Response {
    let Some(orders) = admin.readiness.orders() else { return starting() };
    let percent = wanted.percent.as_deref().map(str::as_bytes);
    let Some((mode, percent)) = mode_named(wanted.mode.as_bytes(), percent) else {
        return plain(StatusCode::BAD_REQUEST, errors::hearthside::NO_MODE);
    };
    let which = if wanted.mapping == "ALL" { Which::All } else { Which::One(wanted.mapping) };
    match orders.give(which, mode, percent).await {
        Ok(facts) => api::json(&facts),
        Err(Some(why)) => plain(StatusCode::CONFLICT, &why),
        Err(None) => plain(StatusCode::SERVICE_UNAVAILABLE, errors::hearthside::ENDING),
    }
}

/// An error of the Redis port's, without its code.
fn plain(status: StatusCode, text: &str) -> Response {
    (status, format!("{}\n", text.trim_start_matches("ERR "))).into_response()
}

/// `POST /api/triggers` makes those that the mappings in force lack, as `hearthside triggers --install`.
async fn triggers(State(admin): State<Admin>) -> Response {
    let Some(subject) = admin.readiness.subject() else { return starting() };
    match subject.store.install_triggers(&subject.mappings.list, PATIENCE).await {
        Ok(report) if report.failed.is_empty() && report.done.is_empty() => "nothing to do\n".into_response(),
        Ok(report) if report.failed.is_empty() => format!("{}\n", report.done.join("\n")).into_response(),
        Ok(report) => (StatusCode::CONFLICT, format!("{}\n", report.failed.join("\n"))).into_response(),
        Err(error) => (StatusCode::CONFLICT, format!("{error}\n")).into_response(),
    }
}
