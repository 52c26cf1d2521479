//! The memory that each client holds, and that all of them hold together, as every thread may see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use super::clock::Tick;

/// What all clients hold together (`hearthside_client_buffer_bytes`).
#[derive(Debug)]
pub struct Buffers {
    held: Gauge,
    /// `limits.buffers`; none before it is set.
    most: AtomicI64,
    full: Notify,
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new(Gauge::default())
    }
}

impl Buffers {
    pub(super) fn new(held: Gauge) -> Self {
        Self { held, most: AtomicI64::new(i64::MAX), full: Notify::new() }
    }

    /// The bytes of all clients.
    #[must_use]
    pub fn held(&self) -> usize {
        usize::try_from(self.held.get()).unwrap_or(0)
    }

    /// From now on more than `bytes` are too many.
    pub fn limit(&self, bytes: usize) {
        self.most.store(i64::try_from(bytes).unwrap_or(i64::MAX), Relaxed);
    }

    /// Waits until there are too many bytes and still more come.
    pub async fn overflows(&self) {
        self.full.notified().await;
    }

    fn change(&self, by: i64) {
        let before = self.held.inc_by(by);
        if by > 0 && before.saturating_add(by) > self.most.load(Relaxed) {
            self.full.notify_one();
        }
    }
}

/// So many bytes of a client are not worth telling.
const FEW: usize = 4096;
/// Who holds no more than this is refused nothing that is gathered for it because others hold too much.
const LITTLE: usize = 1 << 20;

/// What one client holds.
#[derive(Debug, Default)]
pub struct Holding {
    all: Arc<Buffers>,
    /// Bytes, as its own thread noted them last, and those of them that wait for it to read.
    holds: AtomicUsize,
    owes: AtomicUsize,
    /// The same to the byte, which only itself is shown by.
    holds_now: AtomicUsize,
    owes_now: AtomicUsize,
    /// Bytes of messages that another thread has for it.
    outbox: AtomicUsize,
    /// Bytes of what it has said about itself (its name), if they are many.
    words: AtomicUsize,
    /// Bytes that a task of another thread gathers for it.
    gathered: AtomicUsize,
    /// Since when more waits for it than may for long; 0 while it does not.
    past_since: AtomicU64,
    /// It is to go, and nothing more is kept for it.
    is_cut: AtomicBool,
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.note(0, 0);
        self.note_words(0);
    }
}

impl Holding {
    /// A client that holds nothing yet, one of those that count into `all`.
    #[must_use]
    pub fn among(all: Arc<Buffers>) -> Self {
        let mut holding = Self::default();
        holding.all = all;
        holding
    }

    /// Notes the bytes that it holds, and those of them that wait for it to read.
    pub fn note(&self, holds: usize, owes: usize) {
        let before = self.holds.swap(holds, Relaxed);
        self.owes.store(owes, Relaxed);
        self.all.change(holds as i64 - before as i64);
        self.forget_past();
    }

    /// Notes the same to the byte, for whoever looks at this client.
    pub fn note_now(&self, holds: usize, owes: usize) {
        self.holds_now.store(holds, Relaxed);
        self.owes_now.store(owes, Relaxed);
    }

    /// The bytes that it holds, to the byte.
    #[must_use]
    pub fn holds_now(&self) -> usize {
        self.holds_now.load(Relaxed) + self.elsewhere()
    }

    /// The bytes that wait for it to read, to the byte.
    #[must_use]
    pub fn owes_now(&self) -> usize {
        self.owes_now.load(Relaxed) + self.outbox.load(Relaxed)
    }

    fn elsewhere(&self) -> usize {
        self.outbox.load(Relaxed) + self.words.load(Relaxed) + self.gathered.load(Relaxed)
    }

    /// What has waited is gone.
    fn forget_past(&self) {
        if self.owes() == 0 {
            self.past_since.store(0, Relaxed);
        }
    }

    /// Notes how many bytes of messages wait for it outside its own thread, where so many waited before.
    pub fn note_outbox(&self, before: usize, now: usize) {
        if now < before {
            self.outbox.fetch_sub(before - now, Relaxed);
        } else {
            self.outbox.fetch_add(now - before, Relaxed);
        }
        self.all.change(now as i64 - before as i64);
        self.forget_past();
    }

    /// Notes how many bytes are kept of what it has said about itself; few are not counted.
    pub fn note_words(&self, bytes: usize) {
        let now = if bytes < FEW { 0 } else { bytes };
        let before = self.words.swap(now, Relaxed);
        self.all.change(now as i64 - before as i64);
    }

    /// The bytes that it holds.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.holds.load(Relaxed) + self.elsewhere()
    }

    /// The bytes that wait for it to read.
    #[must_use]
    pub fn owes(&self) -> usize {
        self.owes.load(Relaxed) + self.outbox.load(Relaxed)
    }

    /// Since which of the looks, of which this at `now` is one, more than `most` bytes have waited for it.
    pub fn past(&self, most: usize, now: Tick) -> Option<Tick> {
        if self.owes() <= most {
            self.past_since.store(0, Relaxed);
            return None;
        }
        let first = self.past_since.compare_exchange(0, now.as_ms().max(1), Relaxed, Relaxed);
        Some(first.map_or_else(Tick::from_ms, |_| now))
    }

    /// True when a client that holds `own` bytes must be closed at once, before the reaper can look at all of them: it
    /// alone holds more than all may, or it is past its own `limit`, and all together hold an eighth too much.
    #[must_use]
    pub fn is_too_much(&self, own: usize, limit: usize) -> bool {
        let most = usize::try_from(self.all.most.load(Relaxed)).unwrap_or(usize::MAX);
        own > most || own > limit && self.all.held() > most.saturating_add(most / 8)
    }

    /// From now on nothing is kept for it.
    pub fn cut(&self) {
        self.is_cut.store(true, Relaxed);
    }

    /// True when nothing is kept for it any more.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Relaxed)
    }
}

/// Bytes that a task, on whatever thread, gathers for a client, until this is dropped.
#[derive(Debug, Default)]
pub struct Gathered {
    holding: Arc<Holding>,
    bytes: usize,
}

impl Gathered {
    /// None yet, of those that count for `holding`.
    #[must_use]
    pub const fn new(holding: Arc<Holding>) -> Self {
        Self { holding, bytes: 0 }
    }

    /// Counts so many more bytes. False, and they are not counted, when nothing more is kept for the client or there
    /// would be too much.
    pub fn takes(&mut self, bytes: usize) -> bool {
        let own = self.holding.holds().saturating_add(bytes);
        if self.holding.is_cut() || self.holding.is_too_much(own, LITTLE) {
            return false;
        }
        self.bytes += bytes;
        self.holding.gathered.fetch_add(bytes, Relaxed);
        self.holding.all.change(bytes as i64);
        true
    }

    /// So many bytes of them are gone.
    pub fn lets_go(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.holding.gathered.fetch_sub(bytes, Relaxed);
        self.holding.all.change(-(bytes as i64));
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.lets_go(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Buffers, Gathered, Holding, LITTLE};
    use crate::telemetry::clock::Tick;

    #[test]
    fn what_waits_for_a_moment_twice_has_not_waited_for_long() {
        let one = Holding::default();
        one.note(9000, 9000);
        let at = Tick::from_ms;
        assert_eq!((one.past(8000, at(10)), one.past(8000, at(20))), (Some(at(10)), Some(at(10))));
        one.note(0, 0);
        one.note(9000, 9000);
        assert_eq!(one.past(8000, at(500)), Some(at(500)));
        assert_eq!(one.past(9000, at(600)), None);
    }

    #[tokio::test]
    async fn the_sum_is_that_of_all_clients_and_of_every_place() {
        let all = Arc::new(Buffers::default());
        let (one, two) = (Holding::among(all.clone()), Holding::among(all.clone()));
        one.note(100, 10);
        one.note_outbox(0, 5);
        two.note(30, 0);
        assert_eq!((one.holds(), one.owes(), all.held()), (105, 15, 135));
        all.limit(140);
        two.note(36, 0);
        all.overflows().await;
        one.note_outbox(5, 0);
        drop(one);
        assert_eq!(all.held(), 36);
    }

    #[test]
    fn what_is_gathered_elsewhere_counts_and_ends_where_there_is_no_room() {
        let all = Arc::new(Buffers::default());
        all.limit(4 * LITTLE);
        let one = Arc::new(Holding::among(all.clone()));
        let mut gathered = Gathered::new(one.clone());
        assert!(gathered.takes(3 * LITTLE) && !gathered.takes(2 * LITTLE));
        assert_eq!((one.holds(), one.owes(), all.held()), (3 * LITTLE, 0, 3 * LITTLE));
        gathered.lets_go(2 * LITTLE);
        let other = Holding::among(all.clone());
        other.note(4 * LITTLE, 0);
        assert!(!gathered.takes(1), "others hold too much, and it more than a little");
        assert!(Gathered::new(Arc::new(Holding::among(all.clone()))).takes(LITTLE));
        drop(other);
        one.cut();
        assert!(!gathered.takes(1));
        drop(gathered);
        assert_eq!((one.holds(), all.held()), (0, 0));
    }
}
