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
use std::time::{Duration, Instant};

use file::LogFile;
use line::Keys;
pub use line::{AuditLine, MOST, Origin, shown_all};
pub use note::AuditNote;
use writer::{Order, Writer};

use super::clock::Tick;
use super::metrics::AuditMetrics;
use super::{LogThrottle, Pace};
use crate::config::AuditConfig;

/// So many lines may wait for the file.
const WAITING: usize = 8192;
/// How long the end of the process waits until what waits is written.
const FAREWELL: Duration = Duration::from_secs(2);

/// So many requests a second that are refused because of who asks have lines: strangers can send them as fast as they
/// like, and must not push out the lines of others.
const REFUSALS: u32 = 20;

/// The process's audit log.
#[derive(Debug)]
pub struct Audit {
    is_on: AtomicBool,
    keys: Mutex<Arc<Keys>>,
    orders: OnceLock<SyncSender<Order>>,
    /// The file that the writer is to go on with: it lies beside the queue, which may be full.
    next: Arc<Mutex<Option<LogFile>>>,
    /// Lines that found no place since the last one that did.
    missed: Arc<AtomicU64>,
    refusals: Mutex<Pace>,
    logged: LogThrottle,
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
            next: Arc::default(),
            missed: Arc::default(),
            refusals: Mutex::default(),
            logged: LogThrottle::default(),
            metrics: Arc::new(metrics),
        }
    }

    /// Goes by these settings from now on. A file that is there already is opened again, so that it may have been
    /// renamed.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread for it. The log is what it was.
    pub fn configure(&self, settings: &AuditConfig) -> Result<(), String> {
        if settings.file.as_os_str().is_empty() {
            self.is_on.store(false, Relaxed);
            return Ok(());
        }
        let file = open(&settings.file)?;
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Keys::of(settings));
        if let Some(orders) = self.orders.get() {
            *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
            // Where the queue is full, the writer looks before its next line.
            let _full = orders.try_send(Order::Look);
        } else {
            let (orders, taken) = sync_channel(WAITING);
            self.write_on_a_thread(taken, file)?;
            let _first = self.orders.set(orders);
        }
        self.is_on.store(true, Relaxed);
        Ok(())
    }

    fn write_on_a_thread(&self, orders: Receiver<Order>, file: LogFile) -> Result<(), String> {
        let mut writer = Writer::new(file, self.next.clone(), self.missed.clone(), self.metrics.clone());
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

    /// A line as it stands in the file.
    fn text(&self, line: &AuditLine<'_>) -> String {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        line.text(&keys)
    }

    /// Adds a line; where too many wait it is counted instead.
    pub fn add(&self, line: &AuditLine<'_>) {
        if !self.is_on() {
            return;
        }
        let Some(orders) = self.orders.get() else { return };
        let (text, missed) = (self.text(line), self.missed.swap(0, Relaxed));
        if orders.try_send(Order::Line { missed, text }).is_err() {
            self.missed.fetch_add(missed + 1, Relaxed);
            self.metrics.lost("queue").inc();
            if let Some(unlogged) = self.logged.due() {
                tracing::error!(unlogged, "the audit log's file is too slow, and lines are lost");
            }
        }
    }

    /// True when a request that is refused because of who asks may have a line; where not, it is counted among those
    /// that are missing.
    fn has_room_for_refusal(&self) -> bool {
        let fits = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(Tick::now(), REFUSALS);
        if !fits && self.is_on() {
            self.missed.fetch_add(1, Relaxed);
            self.metrics.lost("refusals").inc();
        }
        fits
    }

    /// Adds the last line, and returns when what waits has been written, or after a while.
    pub fn end(&self, last: &AuditLine<'_>) {
        let until = Instant::now() + FAREWELL;
        if self.is_on() {
            self.insist(Order::Line { missed: 0, text: self.text(last) }, until);
        }
        self.flush(until);
    }

    fn flush(&self, until: Instant) {
        let (done, is_done) = channel();
        if self.insist(Order::Flush(done), until) {
            let _late = is_done.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Waits for a place in the queue; false if there is none in time.
    fn insist(&self, mut order: Order, until: Instant) -> bool {
        let Some(orders) = self.orders.get() else { return false };
        while let Err(TrySendError::Full(again) | TrySendError::Disconnected(again)) = orders.try_send(order) {
            if Instant::now() >= until {
                return false;
            }
            order = again;
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

fn open(path: &Path) -> Result<LogFile, String> {
    LogFile::open(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
