//! The HTTP port for probes, metrics and operators. Plain HTTP on a loopback address by default.

mod health;
mod ready;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::net::TcpListener;

pub use health::ask_ready;
pub use ready::Readiness;

use crate::telemetry::Metrics;

/// What the handlers need.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What is still missing.
    pub readiness: Arc<Readiness>,
}

/// Serves for ever. Dropping the future stops it.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/invalidate", post(invalidate))
        .route("/reload", post(reload))
        .with_state(admin);
    axum::serve(listener, routes).await
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.readiness.missing() {
        missing if missing.is_empty() => "ready\n".into_response(),
        missing => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", missing.join("; "))).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics.render()).into_response()
}

#[derive(Deserialize)]
struct Which {
    key: String,
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "not ready: the sidecar is starting\n").into_response()
}

/// `POST /invalidate?key=<key or glob>`
async fn invalidate(State(admin): State<Admin>, Query(which): Query<Which>) -> Response {
    match admin.readiness.owned() {
        Some(owned) => format!("{}\n", owned.invalidate(which.key.as_bytes(), "admin")).into_response(),
        None => starting(),
    }
}

/// `POST /reload` loads all definitions anew and says how it went.
async fn reload(State(admin): State<Admin>) -> Response {
    let Some(owned) = admin.readiness.owned() else { return starting() };
    match owned.reloader.reload_all().await {
        Ok(()) => "reloaded\n".into_response(),
        Err(failed) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", failed.join("\n"))).into_response(),
    }
}
