//! Traces by OpenTelemetry, off unless a collector is configured: of a sample of all commands, and of each that is
//! slow. What a command's parts took is kept with it while it is under way, and made into spans when it has ended.
//! Spans wait in a bounded queue for one task, which gives them to the collector: nobody waits for that (decision
//! 0039).

mod answer;
mod attributes;
mod collector;
mod command_trace;
mod current;
mod exporter;
mod load_trace;
mod names;
mod part;
mod sampler;
mod store_part;
mod telling_client;
mod upstream_part;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use opentelemetry_sdk::trace::SpanData;
use tokio::sync::{mpsc, oneshot};

pub use command_trace::{CommandTrace, Root, TraceEnd, TracedClient};
pub use current::{CurrentTrace, Opening};
pub use load_trace::{LoadTrace, Loaded};
pub use sampler::Sampler;
pub use store_part::{StorePart, StoreSpan, TraceReference};
pub use upstream_part::UpstreamPart;

use collector::Collector;
use exporter::{Exporter, Order};

use super::clock::Moment;
use super::metrics::{PanicMetrics, TraceMetrics};
use super::random_id::fresh;
use super::{LastingPart, lasting};
use crate::config::TracesConfig;

/// So many spans may wait for the collector.
const WAITING: usize = 4096;
/// How long the end of the process waits until the collector has what waits.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where the exporter finds headers for the collector.
/// Source: <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>
const HEADERS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];

/// The process's traces.
#[derive(Debug)]
pub struct Traces {
    is_on: AtomicBool,
    /// In microseconds; [`u64::MAX`]: nothing is slow.
    slower_than: AtomicU64,
    /// What spans call this process.
    instance: String,
    spans: mpsc::Sender<SpanData>,
    orders: mpsc::UnboundedSender<Order>,
    /// Until it runs.
    exporter: Mutex<Option<Exporter>>,
    metrics: Arc<TraceMetrics>,
}

impl Traces {
    /// They are off.
    #[must_use]
    pub fn new(metrics: TraceMetrics) -> Self {
        let metrics = Arc::new(metrics);
        let ((spans, given), (orders, taken)) = (mpsc::channel(WAITING), mpsc::unbounded_channel());
        let exporter = Mutex::new(Some(Exporter::new(given, taken, metrics.clone())));
        let (is_on, slower_than) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        let instance = format!("{:016x}", fresh());
        Self { is_on, slower_than, instance, spans, orders, exporter, metrics }
    }

    /// Goes by these settings from now on.
    ///
    /// # Errors
    /// The setting that is faulty, and what is wrong with it. Everything is what it was.
    pub fn configure(&self, settings: &TracesConfig) -> Result<(), (&'static str, String)> {
        let collector = Collector::of(settings, &self.instance)?;
        let slow = if settings.slower_than.is_zero() { u64::MAX } else { settings.slower_than.as_micros() as u64 };
        self.slower_than.store(slow, Relaxed);
        let is_on = collector.is_some();
        // No span is given to the exporter before its collector, or after the order to go without one.
        self.is_on.fetch_and(is_on, SeqCst);
        // The exporter takes orders for as long as the process lives.
        let _sent = self.orders.send(Order::Use(collector.map(Box::new)));
        self.is_on.store(is_on, SeqCst);
        Ok(())
    }

    /// Whether these settings could be gone by; what is wrong with an address is said elsewhere.
    ///
    /// # Errors
    /// As [`Traces::configure`].
    pub fn try_out(settings: &TracesConfig) -> Result<(), (&'static str, String)> {
        if settings.have_address() { Collector::of(settings, "").map(drop) } else { Ok(()) }
    }

    /// True where a token for the collector, which stands in the environment, passes a network in clear.
    #[must_use]
    pub fn tell_headers_in_clear(settings: &TracesConfig) -> bool {
        let are_given = |name: &&str| std::env::var_os(name).is_some_and(|headers| !headers.is_empty());
        settings.are_in_clear() && HEADERS.iter().any(are_given)
    }

    /// Gives what waits to the collector, for as long as the process lives.
    pub fn run(&self, panics: Arc<PanicMetrics>) -> BoxFuture<'static, ()> {
        let exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).take();
        match exporter {
            Some(mut exporter) => lasting(LastingPart::Traces, panics, async move || exporter.run().await).boxed(),
            None => std::future::ready(()).boxed(),
        }
    }

    /// True while there is a collector.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// True of what took so long that it is traced in any case.
    fn is_slow(&self, micros: u64) -> bool {
        micros >= self.slower_than.load(Relaxed)
    }

    /// True of what began then, and ends now.
    #[must_use]
    pub fn is_slow_since(&self, begun: Moment) -> bool {
        self.are_on() && self.is_slow(begun.age())
    }

    /// Leaves the spans of one trace to the exporter; where too many wait they are counted instead, all of them: none
    /// is without the one above it.
    fn export(&self, spans: Vec<SpanData>) {
        if !self.are_on() {
            return;
        }
        match self.spans.try_reserve_many(spans.len()) {
            Ok(places) => places.zip(spans).for_each(|(place, span)| place.send(span)),
            Err(_) => _ = self.metrics.dropped("queue").inc_by(spans.len() as u64),
        }
    }

    /// Returns when the collector has what waits, or after a while.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        if self.are_on() && self.orders.send(Order::Flush(done)).is_ok() {
            let flushed = tokio::time::timeout(FAREWELL, is_done).await;
            if flushed.is_err() {
                tracing::info!("the collector of traces did not take the last spans in time; they are lost");
            }
        }
    }
}
