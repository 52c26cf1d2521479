//! The audit log: who wrote which owned key, and who administered, as lines of JSON in a file. Off unless a file is
//! configured. Whoever has something to say gives a line to a bounded queue and never waits; one thread writes.

mod file;
mod line;
mod note;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use file::LogFile;
use line::Keys;
pub use line::{AuditLine, Origin, shown_all};
pub use note::AuditNote;
use writer::{Order, Writer};

use super::metrics::AuditMetrics;
use crate::config::AuditConfig;

/// So many lines may wait for the file.
const WAITING: usize = 8192;
/// How long the end of the process waits until what waits is written.
const FAREWELL: Duration = Duration::from_secs(2);

/// The process's audit log.
#[derive(Debug)]
pub struct Audit {
    is_on: AtomicBool,
    keys: Mutex<Arc<Keys>>,
    orders: OnceLock<SyncSender<Order>>,
    /// Lines that found no place since the last one that did.
    missed: Arc<AtomicU64>,
    metrics: Arc<AuditMetrics>,
}

impl Audit {
    /// One that is off.
    #[must_use]
    pub fn new(metrics: AuditMetrics) -> Self {
        Self {
            is_on: AtomicBool::new(false),
            keys: Mutex::default(),
            orders: OnceLock::new(),
            missed: Arc::default(),
            metrics: Arc::new(metrics),
        }
    }

    /// Goes by these settings from now on. A file that is there already is opened again, so that it may have been
    /// renamed.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread for it. The log is what it was.
    pub fn configure(&self, settings: &AuditConfig) -> Result<(), String> {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keys::of(settings));
        if settings.file.as_os_str().is_empty() {
            self.is_on.store(false, Relaxed);
            return Ok(());
        }
        let file = open(&settings.file)?;
        if let Some(orders) = self.orders.get() {
            // The writer takes orders for as long as the process lives.
            let _sent = orders.send(Order::Use(file));
        } else {
            let (orders, taken) = sync_channel(WAITING);
            self.write_on_a_thread(taken, file)?;
            let _first = self.orders.set(orders);
        }
        self.is_on.store(true, Relaxed);
        Ok(())
    }

    fn write_on_a_thread(&self, orders: Receiver<Order>, file: LogFile) -> Result<(), String> {
        let mut writer = Writer::new(file, self.missed.clone(), self.metrics.clone());
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&orders));
        thread.map(drop).map_err(|error| error.to_string())
    }

    /// Opens the file of these settings, if they name one, and closes it again.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn try_open(settings: &AuditConfig) -> Result<(), String> {
        if settings.file.as_os_str().is_empty() { Ok(()) } else { open(&settings.file).map(drop) }
    }

    /// True while there is a file.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Adds a line; where too many wait it is counted instead.
    pub fn add(&self, line: &AuditLine<'_>) {
        if !self.is_on() {
            return;
        }
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(orders) = self.orders.get() else { return };
        match orders.try_send(Order::Line(line.text(&keys))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.missed.fetch_add(1, Relaxed);
                self.metrics.lost("queue").inc();
            }
        }
    }

    /// Returns when what waits has been written, or after a while.
    pub fn flush(&self) {
        if let Some(orders) = self.orders.get() {
            let (done, is_done) = channel();
            if orders.try_send(Order::Flush(done)).is_ok() {
                let _late = is_done.recv_timeout(FAREWELL);
            }
        }
    }
}

fn open(path: &Path) -> Result<LogFile, String> {
    LogFile::open(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
