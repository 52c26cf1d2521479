//! Logging by `tracing`, to standard error, as text or JSON.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use super::events::{is_noted, note_event};
use crate::config::{Log, LogFormat};

/// The driver's own messages about connections that the server closed are left out: whoever held one logs its loss.
const QUIET: &str = "sqlx::postgres::notice=error,sqlx_core::pool=error";

/// Installs the process's subscriber. A filter that cannot be read is replaced by `info` and said so.
pub fn init(log: &Log) {
    let filter = EnvFilter::try_new(format!("{},{QUIET}", log.level));
    let bad = filter.is_err();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer::<Registry>().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // A second call (tests build several sidecars in one process) keeps the first subscriber.
    let _already_set = tracing_subscriber::registry().with(Lines { filter, lines }).try_init();
    if bad {
        tracing::warn!(level = ?log.level, "log.level is no filter; using info");
    }
}

/// Writes what `log.level` lets through, and notes what is an event whatever it lets through. Two layers with a filter
/// each would lose lines: who asks whether a line would be written, as the driver does, leaves the answer behind for
/// the next line of its thread.
struct Lines {
    filter: EnvFilter,
    lines: Box<dyn Layer<Registry> + Send + Sync>,
}

impl Lines {
    fn writes(&self, metadata: &Metadata<'_>, ctx: &Context<'_, Registry>) -> bool {
        Layer::<Registry>::enabled(&self.filter, metadata, ctx.clone())
    }
}

impl Layer<Registry> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let written = Layer::<Registry>::register_callsite(&self.filter, metadata);
        if is_noted(metadata) { Interest::always() } else { written }
    }

    fn enabled(&self, metadata: &Metadata<'_>, ctx: Context<'_, Registry>) -> bool {
        is_noted(metadata) || self.writes(metadata, &ctx)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<Registry>::max_level_hint(&self.filter).map(|level| level.max(LevelFilter::INFO))
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, Registry>) {
        if is_noted(event.metadata()) {
            note_event(event);
        }
        if self.writes(event.metadata(), &ctx) {
            self.lines.on_event(event, ctx);
        }
    }
}
