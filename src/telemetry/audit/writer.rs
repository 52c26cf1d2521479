//! The thread that writes lines. What cannot be written is lost, counted and logged, and the next line that can be
//! comes behind one that says how many are missing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};

use super::file::LogFile;
use super::line::{AuditLine, Keys};
use crate::telemetry::LogThrottle;
use crate::telemetry::metrics::AuditMetrics;

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Write a line, before which so many found no place.
    Line { missed: u64, text: String },
    /// Look whether there is another file.
    Look,
    /// Say that everything before is written.
    Flush(Sender<()>),
}

#[derive(Debug)]
pub(super) struct Writer {
    file: LogFile,
    /// The file to go on with, if there is another.
    next: Arc<Mutex<Option<LogFile>>>,
    /// Lines that found no place in the queue.
    missed: Arc<AtomicU64>,
    /// Lines that could not be written, of which the file does not tell yet.
    unwritten: u64,
    metrics: Arc<AuditMetrics>,
    logged: LogThrottle,
}

impl Writer {
    pub(super) fn new(
        file: LogFile,
        next: Arc<Mutex<Option<LogFile>>>,
        missed: Arc<AtomicU64>,
        metrics: Arc<AuditMetrics>,
    ) -> Self {
        Self { file, next, missed, unwritten: 0, metrics, logged: LogThrottle::default() }
    }

    /// Writes until nobody gives orders any more.
    pub(super) fn run(&mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            if let Some(file) = self.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
                self.file = file;
            }
            match order {
                Order::Line { missed, text } => {
                    self.unwritten += missed;
                    self.write(&text);
                }
                Order::Look => {}
                Order::Flush(done) => {
                    self.unwritten += self.missed.swap(0, Relaxed);
                    self.tell_missing();
                    // Whoever asked may have gone.
                    let _gone = done.send(());
                }
            }
        }
    }

    /// A line about those that are missing, if some are.
    fn tell_missing(&mut self) {
        if self.unwritten > 0 && self.file.append(&AuditLine::lost(self.unwritten).text(&Keys::default())).is_ok() {
            self.unwritten = 0;
        }
    }

    fn write(&mut self, line: &str) {
        self.tell_missing();
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
