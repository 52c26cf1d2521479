//! How much may be asked for on behalf of one client, by the length of the replies that it had (decision 0018). Knows
//! the number of replies and their lengths, never where their bytes lie.

use std::cell::Cell;

/// Bytes of replies that may be expected at once for one client: what a fast network carries in a round trip of a
/// millisecond.
const MOST_EXPECTED: usize = 1 << 20;
/// Requests of one client that may be under way before the length of its replies is known, then, and after many short
/// replies: each of those makes room for one more while there is too little, so that what is under way doubles in a
/// round trip.
const FIRST_ASKED: usize = 32;
const KNOWN_ASKED: usize = 512;
const MOST_ASKED: usize = 8 * 1024;
/// What a reply is expected to be before any has come. One of that length halves the room that short ones have made.
const UNKNOWN: usize = 4096;
/// Replies are expected to be of this length at least, and at most: a very long one is its client's own affair
/// ([`super::ticket::Ticket::is_bulky`]).
const SHORT: usize = 16;
const LONG: usize = 256 * 1024;
/// What a reply is expected to be falls by this part of the difference to one that is shorter.
const FALL: usize = 16;
/// A batch ends when its replies are expected to be so many bytes, or at so many requests: between batches others have
/// their turn.
const BATCH: usize = 64 * 1024;
const BATCH_REQUESTS: usize = 256;
/// A reply from so many bytes on is long, and so many bytes in long replies without a short one between are more than
/// others should wait behind.
const LONG_REPLY: usize = 64 * 1024;
const ROW: usize = 1 << 20;

/// The replies of one client.
#[derive(Debug)]
pub(super) struct ClientWindow {
    /// Replies that are under way on lanes.
    asked: Cell<usize>,
    /// Bytes of a reply, by the latest of them: quick to rise and slow to fall.
    typical: Cell<usize>,
    /// There has been a reply.
    is_known: Cell<bool>,
    /// Replies that may be under way.
    most_asked: Cell<usize>,
    /// The client had more requests than that.
    asks_more: Cell<bool>,
    /// Bytes in long replies since the last short one, or since the client had nothing else under way: a client that
    /// asks for one value after the other lets everybody have their turn.
    row: Cell<usize>,
}

impl Default for ClientWindow {
    fn default() -> Self {
        Self {
            asked: Cell::default(),
            typical: Cell::new(UNKNOWN),
            is_known: Cell::default(),
            most_asked: Cell::new(FIRST_ASKED),
            asks_more: Cell::default(),
            row: Cell::default(),
        }
    }
}

impl ClientWindow {
    /// Nothing is under way.
    pub(super) const fn is_empty(&self) -> bool {
        self.asked.get() == 0
    }

    /// Bytes that the replies under way are expected to be.
    pub(super) const fn expected(&self) -> usize {
        self.asked.get().saturating_mul(self.typical.get())
    }

    /// True when more may be under way. The client is asked because it would ask for more.
    pub(super) fn has_room(&self) -> bool {
        let is_full = self.asked.get() >= self.most_asked.get();
        self.asks_more.set(is_full);
        !is_full && self.expected() < MOST_EXPECTED
    }

    /// So many replies are under way from now on; the bytes that those are expected to be.
    pub(super) fn open(&self, replies: usize) -> usize {
        self.asked.set(self.asked.get() + replies);
        replies * self.typical.get()
    }

    /// So many replies are not under way any more.
    pub(super) fn close(&self, replies: usize) {
        self.asked.set(self.asked.get() - replies);
    }

    /// A batch of so many requests is long enough.
    pub(super) const fn is_batch(&self, requests: usize) -> bool {
        requests >= BATCH_REQUESTS || requests * self.typical.get() >= BATCH
    }

    /// A reply of `length` bytes has come; true when others should not have to wait behind the next.
    pub(super) fn saw(&self, length: usize) -> bool {
        let before = if self.asked.get() > 1 { self.row.get() } else { 0 };
        let row = if length < LONG_REPLY { 0 } else { before + length };
        self.row.set(row);
        if length >= UNKNOWN || !self.is_known.replace(true) {
            self.most_asked.set((self.most_asked.get() / 2).max(KNOWN_ASKED));
        } else if self.asks_more.get() {
            self.most_asked.set((self.most_asked.get() + 1).min(MOST_ASKED));
        }
        let (length, typical) = (length.clamp(SHORT, LONG), self.typical.get());
        self.typical.set(if length > typical {
            usize::midpoint(length, typical)
        } else {
            typical - (typical - length) / FALL
        });
        row >= ROW
    }

    /// A reply is longer than `length` bytes, and there is more to come.
    pub(super) fn sees(&self, length: usize) {
        self.is_known.set(true);
        self.most_asked.set((self.most_asked.get() / 2).max(KNOWN_ASKED));
        self.typical.set(self.typical.get().max(length.min(LONG)));
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientWindow, FIRST_ASKED, KNOWN_ASKED, MOST_ASKED, UNKNOWN};

    /// Requests that may be asked for one by one.
    fn requests(window: &ClientWindow) -> usize {
        let asked = std::iter::from_fn(|| window.has_room().then(|| window.open(1))).count();
        window.close(asked);
        asked
    }

    #[test]
    fn who_is_unknown_asks_for_little_and_short_replies_open_the_window() {
        let window = ClientWindow::default();
        assert_eq!((requests(&window), window.is_batch(15), window.is_batch(16)), (FIRST_ASKED, false, true));
        assert!(window.has_room());
        (0..1000).for_each(|_| assert!(!window.saw(5)));
        assert_eq!((requests(&window), window.is_batch(255), window.is_batch(256)), (KNOWN_ASKED, false, true));
        (0..10).for_each(|_| assert!(window.saw(1 << 20)));
        assert_eq!((requests(&window), window.is_batch(1)), (5, true));
    }

    #[test]
    fn who_would_ask_for_more_may_after_short_replies_and_a_long_one_halves_it() {
        let window = ClientWindow::default();
        (0..1000).for_each(|_| assert!(!window.saw(5)));
        for expected in [512, 1024, 2048, 4096, MOST_ASKED, MOST_ASKED] {
            let asked = requests(&window);
            assert_eq!(asked, expected);
            (0..asked).for_each(|_| assert!(!window.saw(5)));
        }
        window.saw(UNKNOWN);
        (0..1000).for_each(|_| assert!(!window.saw(5)));
        assert_eq!(window.most_asked.get(), MOST_ASKED / 2 + 1000, "it still asks for more");
        (0..10).for_each(|_| assert!(!window.saw(UNKNOWN)));
        assert_eq!(window.most_asked.get(), KNOWN_ASKED);
    }

    #[test]
    fn many_long_replies_in_a_row_are_as_one_that_is_very_long() {
        let window = ClientWindow::default();
        window.open(20);
        let seen: Vec<bool> = [100_000; 11].map(|length| window.saw(length)).into();
        assert_eq!(seen.iter().position(|is_bulky| *is_bulky), Some(10));
        window.saw(10);
        assert!(!window.saw(100_000));
        window.close(20);
        window.open(1);
        assert!((0..20).all(|_| !window.saw(100_000)), "one after the other holds nobody up");
    }
}
