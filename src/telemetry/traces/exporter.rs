//! The task that gives spans to the collector, many at a time. What it does not take is lost and counted, and one line
//! in the log says so, and one when it takes spans again. It is left alone for a while then: what waits meanwhile is
//! bounded.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_sdk::trace::SpanData;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::answer::{Answer, Refusal};
use super::collector::Collector;
use crate::telemetry::metrics::TraceMetrics;

/// Most spans of one request, and how long the first of them waits for others.
const MOST: usize = 512;
const PAUSE: Duration = Duration::from_secs(1);
/// How long a collector that takes nothing is left alone, unless it asks for more.
const REST: Duration = Duration::from_secs(1);

/// What the task is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Go on with this collector, or none.
    Use(Option<Box<Collector>>),
    /// Say that everything before has been given to the collector.
    Flush(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    orders: mpsc::UnboundedReceiver<Order>,
    collector: Option<Box<Collector>>,
    /// What goes next, and when.
    batch: Vec<SpanData>,
    due: Option<Instant>,
    /// The collector is left alone until then.
    rests: Option<Instant>,
    /// It refused some of the last spans that it was given.
    refuses_some: bool,
    /// Spans that were lost since the collector last took some.
    lost: u64,
    metrics: Arc<TraceMetrics>,
}

impl Exporter {
    pub(super) const fn new(
        spans: mpsc::Receiver<SpanData>,
        orders: mpsc::UnboundedReceiver<Order>,
        metrics: Arc<TraceMetrics>,
    ) -> Self {
        Self {
            spans,
            orders,
            collector: None,
            batch: Vec::new(),
            due: None,
            rests: None,
            refuses_some: false,
            lost: 0,
            metrics,
        }
    }

    /// Works until nobody gives orders any more.
    pub(super) async fn run(&mut self) {
        loop {
            let room = MOST - self.batch.len();
            let next = self.next(room);
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(order) => self.follow(order).await,
                    None => return,
                },
                count = self.spans.recv_many(&mut self.batch, room), if room > 0 => {
                    if count == 0 {
                        return;
                    }
                    self.due.get_or_insert_with(|| Instant::now() + PAUSE);
                }
                () = until(next), if !self.batch.is_empty() => drop(self.send().await),
            }
        }
    }

    /// When the next ones go: at once where there is no room for more, but not while the collector is left alone.
    fn next(&self, room: usize) -> Option<Instant> {
        self.due.filter(|_| room > 0).max(self.rests)
    }

    async fn follow(&mut self, order: Order) {
        match order {
            Order::Use(collector) => {
                // Those before it are the other one's, if there was one.
                if self.collector.is_some() {
                    self.drain().await;
                }
                (self.collector, self.lost, self.rests) = (collector, 0, None);
                if let Some(collector) = &self.collector {
                    tracing::info!(collector = collector.url, "spans of commands are given to a collector of traces");
                }
            }
            Order::Flush(done) => {
                self.drain().await;
                // Whoever asked may have gone.
                let _gone = done.send(());
            }
        }
    }

    /// Gives the collector everything that waits now, as long as it takes it.
    async fn drain(&mut self) {
        let mut waiting = self.spans.len();
        while !self.batch.is_empty() || waiting > 0 {
            while self.batch.len() < MOST
                && waiting > 0
                && let Ok(span) = self.spans.try_recv()
            {
                waiting -= 1;
                self.batch.push(span);
            }
            if !self.send().await {
                return;
            }
        }
    }

    /// Gives the collector the next ones; false where it does not take them.
    async fn send(&mut self) -> bool {
        self.due = None;
        let spans = std::mem::take(&mut self.batch);
        let count = spans.len() as u64;
        let Some(collector) = &self.collector else {
            // Traces were turned off, and the collector from before did not take all that waited.
            self.metrics.dropped("collector").inc_by(count);
            return true;
        };
        match collector.take(spans).await {
            Ok(answer) => {
                self.rests = None;
                self.are_taken(count, &answer);
                true
            }
            Err(refusal) => {
                self.rests = Some(Instant::now() + refusal.rest.unwrap_or_default().max(REST));
                self.are_refused(count, &refusal);
                false
            }
        }
    }

    fn are_taken(&mut self, count: u64, answer: &Answer) {
        let Some(Collector { url, .. }) = self.collector.as_deref() else { return };
        let rejected = answer.rejected.min(count);
        self.metrics.exported.inc_by(count - rejected);
        self.metrics.dropped("collector").inc_by(rejected);
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            tracing::info!(collector = url, lost, "the collector of traces takes spans again");
        }
        let refused_some = std::mem::replace(&mut self.refuses_some, rejected > 0);
        if self.refuses_some && !refused_some {
            let why = &answer.said;
            tracing::warn!(collector = url, rejected, why, "the collector of traces refuses some spans; they are lost");
        }
    }

    fn are_refused(&mut self, count: u64, refusal: &Refusal) {
        let Some(Collector { url, .. }) = self.collector.as_deref() else { return };
        self.metrics.dropped("collector").inc_by(count);
        if self.lost == 0 {
            tracing::warn!(
                collector = url,
                error = refusal.why,
                "the collector of traces takes no spans; they are lost until it does (traces.endpoint)"
            );
        }
        self.lost += count;
    }
}

/// At once where no moment is given.
async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due).await;
    }
}
