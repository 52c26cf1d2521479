//! The thread that writes lines. What cannot be written is lost, counted and logged, and the next line that can be
//! comes behind one that says how many are missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};

use super::file::LogFile;
use super::line::AuditLine;
use crate::telemetry::LogThrottle;
use crate::telemetry::metrics::AuditMetrics;

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Write a line.
    Line(String),
    /// Go on with another file.
    Use(LogFile),
    /// Say that everything before is written.
    Flush(Sender<()>),
}

#[derive(Debug)]
pub(super) struct Writer {
    file: LogFile,
    /// Lines that found no place in the queue.
    missed: Arc<AtomicU64>,
    /// Lines that could not be written, of which the file does not tell yet.
    unwritten: u64,
    metrics: Arc<AuditMetrics>,
    logged: LogThrottle,
}

impl Writer {
    pub(super) fn new(file: LogFile, missed: Arc<AtomicU64>, metrics: Arc<AuditMetrics>) -> Self {
        Self { file, missed, unwritten: 0, metrics, logged: LogThrottle::default() }
    }

    /// Writes until nobody gives orders any more.
    pub(super) fn run(&mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Line(line) => self.write(&line),
                Order::Use(file) => self.file = file,
                // Whoever asked may have gone.
                Order::Flush(done) => _ = done.send(()),
            }
        }
    }

    fn write(&mut self, line: &str) {
        self.unwritten += self.missed.swap(0, Relaxed);
        if self.unwritten > 0 {
            let told = self.file.append(&AuditLine::lost(self.unwritten).text(&super::Keys::default()));
            if told.is_ok() {
                self.unwritten = 0;
            }
        }
        match self.file.append(line) {
            Ok(()) => _ = self.metrics.written.inc(),
            Err(error) => {
                self.unwritten += 1;
                self.metrics.lost("file").inc();
                if let Some(unlogged) = self.logged.due() {
                    let path = self.file.path.display();
                    tracing::error!(%path, %error, unlogged, "the audit log cannot be written; its lines are lost");
                }
            }
        }
    }
}
