//! The console at `/`: a page for operators, made of files that stand in the binary. It shows what `/api` answers, asks
//! nobody else, and has no secret in it: whoever may reach the port may load it.
//!
//! The plots are drawn by uPlot (`assets/uplot`): `uPlot.iife.min.js`, `uPlot.min.css` and `LICENSE` of the npm package
//! `uplot` 1.6.32, as they are there.

use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Nothing but this port is asked, nothing in the text of the page runs, and nobody shows the page within another.
/// Source: <https://www.w3.org/TR/CSP3/>
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file by its path below `/console/`, with its kind.
type File = (&'static str, &'static str, &'static str);

macro_rules! files {
    ($($kind:ident $name:literal),* $(,)?) => { [$(($name, $kind, include_str!(concat!("assets/", $name)))),*] };
}

const PAGE: File = ("index.html", HTML, include_str!("assets/index.html"));

const FILES: &[File] = &files![
    CSS "look.css",
    CSS "parts.css",
    SCRIPT "main.js",
    SCRIPT "actions.js",
    SCRIPT "api.js",
    SCRIPT "dom.js",
    SCRIPT "head.js",
    SCRIPT "key.js",
    SCRIPT "mappings.js",
    SCRIPT "modes.js",
    SCRIPT "people.js",
    SCRIPT "plots.js",
    SCRIPT "session.js",
    SCRIPT "status.js",
    SCRIPT "table.js",
    SCRIPT "theme.js",
    SCRIPT "traffic.js",
    SCRIPT "views.js",
    SCRIPT "wizard.js",
    SCRIPT "words.js",
    SVG "icon.svg",
    SCRIPT "uplot/uPlot.iife.min.js",
    CSS "uplot/uPlot.min.css",
    TEXT "uplot/LICENSE",
];

fn sent((_, kind, text): &File) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version may answer at the same address.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let mut response = (*text).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("")));
    }
    response
}

/// `GET /`
pub(super) async fn page() -> Response {
    sent(&PAGE)
}

/// `GET /console/<file>`
pub(super) async fn file(Path(path): Path<String>) -> Response {
    let found = FILES.iter().find(|(name, ..)| *name == path);
    found.map_or_else(|| (StatusCode::NOT_FOUND, "there is no such file\n").into_response(), sent)
}
