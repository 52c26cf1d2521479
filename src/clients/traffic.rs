//! What a client's own thread notes of its buffers and of what it has sent and received, for CLIENT LIST. Only that
//! thread writes it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The buffers of a client's connection, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Read and not taken yet.
    pub query: usize,
    /// Room for more of it.
    pub query_free: usize,
    /// Requests that are being answered.
    pub arguments: usize,
    /// Commands of a transaction that are kept here until EXEC.
    pub queued: usize,
    /// The buffer in which small replies are gathered; it is lent where there are some.
    pub reply_room: usize,
    /// Replies that may be written now.
    pub replies: usize,
    /// Entries that wait behind them.
    pub entries: usize,
}

/// What has been noted.
#[derive(Debug, Default)]
pub struct Traffic {
    query: AtomicUsize,
    query_free: AtomicUsize,
    arguments: AtomicUsize,
    queued: AtomicUsize,
    reply_room: AtomicUsize,
    reply_peak: AtomicUsize,
    replies: AtomicUsize,
    entries: AtomicUsize,
    read: AtomicU64,
    written: AtomicU64,
    requests: AtomicU64,
    /// Requests at the ends of the last quarters of a minute, the oldest first.
    marks: [AtomicU64; 4],
}

/// Nobody else writes it: this needs no locked instruction.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed) + by, Relaxed);
}

impl Traffic {
    /// Notes the buffers.
    pub fn hold(&self, held: &Held) {
        self.query.store(held.query, Relaxed);
        self.query_free.store(held.query_free, Relaxed);
        self.arguments.store(held.arguments, Relaxed);
        self.queued.store(held.queued, Relaxed);
        self.reply_room.store(held.reply_room, Relaxed);
        self.replies.store(held.replies, Relaxed);
        self.entries.store(held.entries, Relaxed);
        if held.replies > self.reply_peak.load(Relaxed) {
            self.reply_peak.store(held.replies, Relaxed);
        }
    }

    /// Notes the request that is being answered: its bytes, those of its arguments, and how many came before it.
    pub fn asks(&self, bytes: usize, arguments: usize, before: u64) {
        self.query.store(bytes, Relaxed);
        self.arguments.store(arguments, Relaxed);
        self.requests.store(before, Relaxed);
    }

    /// Bytes have been read from it.
    pub fn has_read(&self, bytes: usize) {
        add(&self.read, bytes as u64);
    }

    /// False for a client that has sent nothing yet.
    pub fn has_sent_any(&self) -> bool {
        self.read.load(Relaxed) > 0
    }

    /// Bytes have been written to it.
    pub fn has_written(&self, bytes: usize) {
        add(&self.written, bytes as u64);
    }

    /// Notes how many requests it has sent.
    pub fn has_sent(&self, requests: u64) {
        self.requests.store(requests, Relaxed);
    }

    /// The buffers, as noted last.
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            query: self.query.load(Relaxed),
            query_free: self.query_free.load(Relaxed),
            arguments: self.arguments.load(Relaxed),
            queued: self.queued.load(Relaxed),
            reply_room: self.reply_room.load(Relaxed),
            replies: self.replies.load(Relaxed),
            entries: self.entries.load(Relaxed),
        }
    }

    /// Most bytes of replies that were ready at once.
    #[must_use]
    pub fn reply_peak(&self) -> usize {
        self.reply_peak.load(Relaxed)
    }

    /// A quarter of a minute has ended. For one thread alone.
    pub(super) fn mark(&self) {
        for at in 1..self.marks.len() {
            self.marks[at - 1].store(self.marks[at].load(Relaxed), Relaxed);
        }
        self.marks[self.marks.len() - 1].store(self.requests.load(Relaxed), Relaxed);
    }

    /// Requests of the last minute: of the quarter that has begun, and the three before it.
    #[must_use]
    pub fn requests_of_minute(&self) -> u64 {
        self.requests.load(Relaxed).saturating_sub(self.marks[0].load(Relaxed))
    }

    /// Bytes read, bytes written, and requests.
    #[must_use]
    pub fn totals(&self) -> [u64; 3] {
        [&self.read, &self.written, &self.requests].map(|total| total.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::Traffic;

    #[test]
    fn requests_count_for_a_minute() {
        let traffic = Traffic::default();
        for quarter in 1..=6 {
            traffic.has_sent(quarter * 10);
            assert_eq!(traffic.requests_of_minute(), quarter.min(4) * 10);
            traffic.mark();
        }
        (0..3).for_each(|_| traffic.mark());
        assert_eq!(traffic.requests_of_minute(), 0);
    }
}
