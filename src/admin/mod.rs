//! The HTTP port for probes, metrics and operators, with a console for their browsers. Plain HTTP on a loopback address
//! by default.

mod actions;
mod api;
mod ask;
mod audit;
mod browser;
mod compare;
mod console;
mod draft;
mod ready;
mod serving;
mod which;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::net::TcpListener;

pub use ask::{ask, ask_ready};
use browser::Foreign;
pub use browser::Names;
pub use ready::Readiness;
use which::Which;

use crate::access::Token;
use crate::inspect::History;
use crate::telemetry::metrics::Format;
use crate::telemetry::{LastingPart, Metrics, caught};

/// What is told to the network without a token, beside the probes: names of mappings and counts, no key and no value.
const METRICS: &str = "/metrics";

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The metrics of all parts: `/metrics` shows them.
    pub metrics: Arc<Metrics>,
    /// What is still missing.
    pub readiness: Arc<Readiness>,
    /// What everything but the probes asks for.
    pub token: Option<Token>,
    /// What it is called, for requests that a browser sends.
    pub names: Arc<Names>,
    /// What happened in the last minutes.
    pub history: Arc<History>,
}

/// Serves for ever. Dropping the future stops it.
pub async fn serve(listener: TcpListener, admin: Admin) {
    let known_host = middleware::from_fn_with_state(admin.clone(), browser::known_host);
    let acts = Router::new().route("/invalidate", post(invalidate)).route("/reload", post(reload));
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .merge(acts.route_layer(middleware::from_fn_with_state(admin.clone(), audit::audited)))
        .merge(api::routes())
        .merge(actions::routes(&admin))
        .route_layer(middleware::from_fn_with_state(admin.clone(), authorized))
        // A browser that loads the console has no token yet.
        .route("/api/rights", get(api::rights).layer(middleware::from_fn_with_state(admin.clone(), if_shown)))
        .route("/console/{*path}", get(console::file))
        .route_layer(known_host.clone())
        // The probes show nothing secret. What asks them has no token, and may use any name of this host.
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .layer(middleware::from_fn_with_state(admin.clone(), browser::same_origin))
        // A link of another page may lead to the console.
        .route("/", get(console::page).layer(known_host))
        .layer(middleware::from_fn_with_state(admin.clone(), answered))
        .with_state(admin.clone());
    serving::serve(listener, routes, &admin.metrics.admin).await;
}

/// What stands before a token; its case does not matter.
const BEARER: &[u8] = b"Bearer ";

/// Lets a request through that shows the token. Where there is none, requests from this machine come through, and from
/// elsewhere those for metrics.
/// Source: <https://www.rfc-editor.org/rfc/rfc6750#section-2.1>
async fn authorized(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, shown) = value.as_bytes().split_at_checked(BEARER.len())?;
        scheme.eq_ignore_ascii_case(BEARER).then_some(shown)
    });
    match &admin.token {
        Some(token) if !shown.is_some_and(|shown| token.is(shown)) => {
            let asks = [(header::WWW_AUTHENTICATE, "Bearer")];
            (asks, admin.names.refuse(&admin, Foreign::Token, &request)).into_response()
        }
        None if request.uri().path() != METRICS && !browser::is_from_here(&request) => {
            admin.names.refuse(&admin, Foreign::Elsewhere, &request)
        }
        _ => next.run(request).await,
    }
}

/// Lets a request through that shows no token, or the right one.
async fn if_shown(state: State<Admin>, request: Request, next: Next) -> Response {
    match request.headers().contains_key(header::AUTHORIZATION) {
        true => authorized(state, request, next).await,
        false => next.run(request).await,
    }
}

/// Answers a request whose handler ends in a panic, too.
async fn answered(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let answer = caught(LastingPart::Admin, &admin.metrics.panics, next.run(request)).await;
    let bug = "a bug of the sidecar: please report it, with what the log says\n";
    answer.unwrap_or_else(|| (StatusCode::INTERNAL_SERVER_ERROR, bug).into_response())
}

#[derive(Deserialize)]
struct Probe {
    /// Given, with any text or none: the change feed and every mapping are listed.
    verbose: Option<String>,
}

/// `GET /readyz`: a mapping that does not fit the schema is listed, and keeps nobody from being served.
async fn ready(State(admin): State<Admin>, Query(probe): Query<Probe>) -> Response {
    let (readiness, missing) = (&admin.readiness, admin.readiness.missing());
    let (status, first) = match missing.is_empty() {
        true => (StatusCode::OK, "ready".to_owned()),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}", missing.join("; "))),
    };
    let remarks = if missing.is_empty() { readiness.remarks() } else { Vec::new() };
    let details = probe.verbose.map(|_| readiness.details()).unwrap_or_default();
    let lines = [first].into_iter().chain(remarks).chain(details);
    (status, lines.map(|line| line + "\n").collect::<String>()).into_response()
}

/// `GET /metrics`, in the format that the scraper asks for.
async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(&accept.join(","));
    if let Some(subject) = admin.readiness.subject() {
        subject.show_in_metrics();
    }
    ([(header::CONTENT_TYPE, format.content_type())], admin.metrics.render(format)).into_response()
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "not ready: the sidecar is starting\n").into_response()
}

/// `POST /invalidate?key=<key or glob>`
async fn invalidate(State(admin): State<Admin>, which: Which) -> Response {
    match admin.readiness.owned() {
        Some(owned) => format!("{}\n", owned.invalidate_everywhere(&which.key, "admin")).into_response(),
        None => starting(),
    }
}

/// `POST /reload` looks at the schema again, forgets what is cached, loads all definitions again, and says how it went.
async fn reload(State(admin): State<Admin>) -> Response {
    let Some(owned) = admin.readiness.owned() else { return starting() };
    owned.read_again().await;
    let failed: Vec<String> =
        owned.reloader.reload_all().await.err().into_iter().flatten().chain(owned.faults()).collect();
    match failed {
        failed if failed.is_empty() => "reloaded\n".into_response(),
        failed => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", failed.join("\n"))).into_response(),
    }
}
