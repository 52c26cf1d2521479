//! Logging by `tracing`, to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::events::{Noting, is_noted};
use crate::config::{Log, LogFormat};

/// The driver's own messages about connections that the server closed are left out: whoever held one logs its loss.
const QUIET: &str = "sqlx::postgres::notice=error,sqlx_core::pool=error";

/// Installs the process's subscriber. A filter that cannot be read is replaced by `info` and said so.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_new(format!("{},{QUIET}", log.level));
    let bad = filter.is_err();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer::<Registry>().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let written = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let noted = Noting.with_filter(filter_fn(is_noted));
    // A second call (tests build several sidecars in one process) keeps the first subscriber.
    let _already_set = tracing_subscriber::registry().with(written.with_filter(filter)).with(noted).try_init();
    if bad {
        tracing::warn!(level = ?log.level, "log.level is no filter; using info");
    }
}
