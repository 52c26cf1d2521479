//! Logging by `tracing`, to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// The driver's own messages about connections that the server closed are left out: whoever held one logs its loss.
const QUIET: &str = "sqlx::postgres::notice=error,sqlx_core::pool=error";

/// Installs the process's subscriber. A filter that cannot be read is replaced by `info` and said so.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_new(format!("{},{QUIET}", log.level));
    let bad = filter.is_err();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call (tests build several sidecars in one process) keeps the first subscriber.
    let _already_set = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if bad {
        tracing::warn!(level = ?log.level, "log.level is no filter; using info");
    }
}
